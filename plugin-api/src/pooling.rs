//! How the slices of a view, and the views of a case, become one embedding.

use crate::build::Build;
use crate::error::{Error, Result};
use crate::params::{Init, Params};
use crate::tensor::Tensor;
use std::str::FromStr;

/// A way of pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pooling {
    /// Task-query attention: `a = softmax(H q / sqrt(d))`, `v = aᵀ H` (paper).
    Attention,
    /// Mean over slices.
    Mean,
    /// Median over slices, element by element.
    Median,
    /// Maximum over slices, element by element.
    Max,
    /// A bidirectional LSTM along the slices, `d / 2` wide each way; the mean of its outputs.
    Lstm,
    /// One transformer layer over the slices and a class token of its own, with sinusoidal positions.
    Transformer,
}

impl Pooling {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Attention, Self::Mean, Self::Median, Self::Max, Self::Lstm, Self::Transformer];

    /// As it is written in settings and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Attention => "attention",
            Self::Mean => "mean",
            Self::Median => "median",
            Self::Max => "max",
            Self::Lstm => "lstm",
            Self::Transformer => "transformer",
        }
    }
}

impl FromStr for Pooling {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|p| p.name() == name);
        found.ok_or_else(|| Error::msg(format!("`{name}` is no way of pooling; there are {}", known())))
    }
}

/// Pools rows `[N, d]` to an embedding `[d]` and the weight `[N]` of each row, for poolings without parameters other
/// than a query.
///
/// The weights of mean, median and maximum are the share of the elements that each row gave.
///
/// ```
/// # fn main() -> anymc3d_plugin_api::Result<()> {
/// # #[cfg(feature = "testkit")] {
/// use anymc3d_plugin_api::{Pooling, pool, testkit::Context};
///
/// let context = Context::new(0);
/// let rows = context.tensor(&[1.0, 5.0, 3.0, 4.0], &[2, 2])?;
/// let (embedding, weights) = pool(Pooling::Max, &rows, None)?;
/// assert_eq!(embedding.to_vec()?, [3.0, 5.0]);
/// assert_eq!(weights.to_vec()?, [0.5, 0.5]);
/// # }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// When attention has no query, the pooling has other parameters (see [`Pool`]), or shapes differ.
pub fn pool(pooling: Pooling, rows: &Tensor, query: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
    let [n, d] = dims_of(rows)?;
    match pooling {
        Pooling::Attention => {
            let query = query.ok_or_else(|| Error::msg("attention pooling without a query"))?;
            let a = rows.matmul(query)?.scale(1.0 / (d as f64).sqrt())?.softmax(0)?; // [N]
            Ok((a.matmul(rows)?, a))
        }
        Pooling::Mean => Ok((rows.mean(0)?, uniform(rows, n)?)),
        Pooling::Median => chosen(rows, rows.median_keep(0)?),
        Pooling::Max => chosen(rows, rows.max_keep(0)?),
        Pooling::Lstm | Pooling::Transformer => {
            Err(Error::msg(format!("pooling by {} has parameters; build a Pool", pooling.name())))
        }
    }
}

fn dims_of(rows: &Tensor) -> Result<[usize; 2]> {
    let dims = rows.dims()?;
    dims[..].try_into().map_err(|_| Error::msg(format!("pooling takes rows [N, d], not {dims:?}")))
}

fn uniform(rows: &Tensor, n: usize) -> Result<Tensor> {
    rows.host().full(1.0 / n as f64, &[n])
}

fn chosen(rows: &Tensor, winners: Tensor) -> Result<(Tensor, Tensor)> {
    let hits = rows.equal(&winners)?.detach()?; // [N, d]
    let share = hits.div(&hits.sum_keep(0)?)?.mean(1)?; // ties share
    Ok((winners.squeeze(0)?, share))
}

/// A way of pooling with its parameters.
pub struct Pool(Kind);

enum Kind {
    Query(Tensor),
    Plain(Pooling),
    Lstm([Direction; 2]),
    Transformer(Box<Layer>),
}

impl Pool {
    /// Creates its parameters: attention's query is `query` `[d]`, an LSTM's are below `lstm`, a transformer layer's
    /// below `transformer`, each with `.VIEW` behind where `view` is given.
    ///
    /// # Errors
    /// When a parameter contradicts the weights, or the backbone's width is odd.
    pub fn new(build: &Build, pooling: Pooling, view: Option<&str>) -> Result<Self> {
        let d = build.backbone().embed_dim;
        let name = |part: &str| view.map_or_else(|| part.to_owned(), |view| format!("{part}.{view}"));
        let params = build.params();
        Ok(Self(match pooling {
            Pooling::Attention => Kind::Query(params.get(&name("query"), &[d], Init::trunc_normal(0.02))?),
            Pooling::Lstm => {
                let params = params.within(&name("lstm"));
                Kind::Lstm([
                    Direction::new(&params.within("up"), d)?,
                    Direction::new(&params.within("down"), d)?,
                ])
            }
            Pooling::Transformer => {
                let params = params.within(&name("transformer"));
                Kind::Transformer(Box::new(Layer::new(&params, d, build.backbone().heads)?))
            }
            plain => Kind::Plain(plain),
        }))
    }

    /// Attention over the embeddings of several views, by the query `query_fusion` `[d]` (paper).
    ///
    /// # Errors
    /// When the parameter contradicts the weights.
    pub fn fusion(build: &Build) -> Result<Self> {
        let d = build.backbone().embed_dim;
        Ok(Self(Kind::Query(build.params().get("query_fusion", &[d], Init::trunc_normal(0.02))?)))
    }

    /// Pools rows `[N, d]`, in the order of the slices, to an embedding `[d]` and the weight `[N]` of each row.
    ///
    /// The weights of a transformer layer are its class token's attention. An LSTM gives no weights of single slices, so its
    /// weights are equal.
    ///
    /// # Errors
    /// When shapes differ.
    pub fn forward(&self, rows: &Tensor) -> Result<(Tensor, Tensor)> {
        match &self.0 {
            Kind::Query(query) => pool(Pooling::Attention, rows, Some(query)),
            Kind::Plain(pooling) => pool(*pooling, rows, None),
            Kind::Lstm(directions) => lstm(directions, rows),
            Kind::Transformer(layer) => layer.forward(rows),
        }
    }
}

/// One direction of an LSTM with PyTorch's parameters: gates i, f, g, o stacked, uniform within `1 / sqrt(h)`.
struct Direction {
    input: Tensor,
    hidden: Tensor,
    bias: Tensor,
    width: usize,
}

impl Direction {
    fn new(params: &Params, d: usize) -> Result<Self> {
        if !d.is_multiple_of(2) {
            return Err(Error::msg(format!("an LSTM pools rows of an even width, not {d}")));
        }
        let h = d / 2;
        let init = || Init::linear(h);
        Ok(Self {
            input: params.get("input", &[4 * h, d], init())?,
            hidden: params.get("hidden", &[4 * h, h], init())?,
            bias: params.get("bias", &[4 * h], init())?,
            width: h,
        })
    }

    /// Hidden state `[h]` after each row, in the order given.
    fn run(&self, rows: &Tensor, order: &[usize]) -> Result<Vec<Tensor>> {
        let h = self.width;
        let inputs = rows.matmul(&self.input.t()?)?.add(&self.bias)?; // [N, 4h]
        let mut state: Option<(Tensor, Tensor)> = None;
        let mut outputs = Vec::with_capacity(order.len());
        for &i in order {
            let mut gates = inputs.narrow(0, i, 1)?.flatten()?;
            if let Some((hidden, _)) = &state {
                gates = gates.add(&self.hidden.matmul(hidden)?)?;
            }
            let gate = |n: usize| gates.narrow(0, n * h, h);
            let new = gate(0)?.sigmoid()?.mul(&gate(2)?.tanh()?)?;
            let cell = match &state {
                Some((_, cell)) => gate(1)?.sigmoid()?.mul(cell)?.add(&new)?,
                None => new,
            };
            let hidden = gate(3)?.sigmoid()?.mul(&cell.tanh()?)?;
            outputs.push(hidden.try_clone()?);
            state = Some((hidden, cell));
        }
        Ok(outputs)
    }
}

fn lstm([up, down]: &[Direction; 2], rows: &Tensor) -> Result<(Tensor, Tensor)> {
    let [n, _] = dims_of(rows)?;
    let forwards: Vec<usize> = (0..n).collect();
    let backwards: Vec<usize> = (0..n).rev().collect();
    let mean = |outputs: Vec<Tensor>| Tensor::stack(&outputs.iter().collect::<Vec<_>>(), 0)?.mean(0);
    let halves = [mean(up.run(rows, &forwards)?)?, mean(down.run(rows, &backwards)?)?];
    Ok((Tensor::concat(&[&halves[0], &halves[1]], 0)?, uniform(rows, n)?))
}

/// A pre-norm transformer layer (PyTorch's `TransformerEncoderLayer(norm_first=True, activation="gelu")`), twice as
/// wide between its linear layers, and a final norm.
struct Layer {
    class: Tensor,
    norms: [(Tensor, Tensor); 3],
    qkv: (Tensor, Tensor),
    output: (Tensor, Tensor),
    up: (Tensor, Tensor),
    down: (Tensor, Tensor),
    heads: usize,
}

impl Layer {
    fn new(params: &Params, d: usize, heads: usize) -> Result<Self> {
        let linear = |name: &str, outputs: usize, inputs: usize| -> Result<(Tensor, Tensor)> {
            let weight =
                params.get(&format!("{name}.weight"), &[outputs, inputs], Init::trunc_normal(0.02))?;
            Ok((weight, params.get(&format!("{name}.bias"), &[outputs], Init::zeros())?))
        };
        let norm = |name: &str| -> Result<(Tensor, Tensor)> {
            let weight = params.get(&format!("{name}.weight"), &[d], Init::ones())?;
            Ok((weight, params.get(&format!("{name}.bias"), &[d], Init::zeros())?))
        };
        Ok(Self {
            class: params.get("class", &[1, d], Init::trunc_normal(0.02))?,
            norms: [norm("norm1")?, norm("norm2")?, norm("norm")?],
            qkv: linear("qkv", 3 * d, d)?,
            output: linear("output", d, d)?,
            up: linear("up", 2 * d, d)?,
            down: linear("down", d, 2 * d)?,
            heads: heads.max(1),
        })
    }

    fn forward(&self, rows: &Tensor) -> Result<(Tensor, Tensor)> {
        let [n, d] = dims_of(rows)?;
        let apply = |x: &Tensor, (w, b): &(Tensor, Tensor)| x.matmul(&w.t()?)?.add(b);
        let norm = |x: &Tensor, (w, b): &(Tensor, Tensor)| x.layer_norm(w, b, 1e-5);
        let placed = rows.add(&rows.host().tensor(&positions(n, d), &[n, d])?)?;
        let x = Tensor::concat(&[&self.class, &placed], 0)?; // [1 + N, d]
        let (t, wide) = (n + 1, d / self.heads);
        let qkv = apply(&norm(&x, &self.norms[0])?, &self.qkv)?; // [T, 3d]
        let part = |i: usize| qkv.narrow(1, i * d, d)?.reshape(&[t, self.heads, wide])?.permute(&[1, 0, 2]);
        let a = part(0)?.matmul(&part(1)?.t()?)?.scale(1.0 / (wide as f64).sqrt())?.softmax(2)?; // [heads, T, T]
        let mixed = a.matmul(&part(2)?)?.permute(&[1, 0, 2])?.reshape(&[t, d])?;
        let x = x.add(&apply(&mixed, &self.output)?)?;
        let inner = apply(&norm(&x, &self.norms[1])?, &self.up)?.gelu()?;
        let x = x.add(&apply(&inner, &self.down)?)?;
        let class = norm(&x.narrow(0, 0, 1)?, &self.norms[2])?.flatten()?;
        let seen = a.narrow(1, 0, 1)?.narrow(2, 1, n)?.mean(0)?.flatten()?.detach()?; // [N]
        let weights = seen.div(&seen.sum_all()?)?;
        Ok((class, weights))
    }
}

/// Sines and cosines `[n, d]` of wavelengths from 2π to 20000π (Vaswani 2017).
fn positions(n: usize, d: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(n * d);
    for i in 0..n {
        for j in 0..d {
            let angle = i as f64 / 10000f64.powf((j - j % 2) as f64 / d as f64);
            values.push(if j % 2 == 0 { angle.sin() } else { angle.cos() } as f32);
        }
    }
    values
}
