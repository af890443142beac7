//! Frozen layers, norms and low-rank terms, packed once for the processor's products.
//!
//! A layer scale is folded into the layer before it. Low-rank terms stay f32 and unmerged, so that tasks share the frozen
//! layers.

use super::kernels::gemm::{Packed, Store, gemm, gemm_transposed};
use super::kernels::{Isa, attention, math};
use crate::backbone::activation::Activation;
use crate::backbone::adapter::LowRank;
use crate::backbone::layers::{LayerNorm, Linear};
use crate::backbone::precision::Precision;
use crate::backbone::quantised::{QUANTISED_FILE, QuantisedLayer};
use candle_core::{DType, Result, Storage, Tensor, WithDType, bail};
use half::{bf16, f16};
use std::sync::OnceLock;

/// The arithmetic that a model's layers share.
#[derive(Clone, Copy)]
pub(crate) struct Arithmetic {
    pub isa: Isa,
    pub precision: Precision,
    /// Whether 16-bit weights stay 16 bits wide where products are f32.
    pub narrow: bool,
}

impl Arithmetic {
    /// Of the products of frozen layers with gradients. 8 bits would tell a token's small gradients from nothing: they are bf16 where
    /// the processor multiplies it, which is faster than 16-bit integers, else such integers, of which each row has steps of its own.
    pub fn of_gradients(self) -> Self {
        let precision = match self.precision {
            Precision::Int8 if self.isa.has_bf16() => Precision::Bf16,
            Precision::Int16 | Precision::Int8 => Precision::Int16,
            floats => floats,
        };
        Self { precision, ..self }
    }

    /// Of the scores and the mix of values: of integers they would need units for every row of probabilities.
    pub fn of_attention(self) -> Precision {
        match self.precision {
            Precision::Int16 | Precision::Int8 if self.isa.has_bf16() => Precision::Bf16,
            Precision::Int16 | Precision::Int8 => Precision::F32,
            floats => floats,
        }
    }

    /// Whether 16-bit weights are packed as they are stored.
    pub fn keeps_halves(self) -> bool {
        self.narrow && self.precision == Precision::F32
    }

    fn pack(self, source: &[f32], k: usize, n: usize, strides: (usize, usize)) -> Packed {
        Packed::new(self.isa, self.precision, source, k, n, strides)
    }
    fn product(self, a: &[f32], lda: usize, b: &Packed, out: &mut [f32], store: Store<'_>) {
        gemm(self.isa, a, lda, a.len() / lda, b, out, b.columns(), store);
    }
}

pub(crate) fn numbers(x: &Tensor) -> Result<Vec<f32>> {
    x.flatten_all()?.to_vec1()
}

/// `f` of the numbers of a tensor on the processor, where they lie.
fn with_numbers<N: WithDType, T>(x: &Tensor, f: impl FnOnce(&[N]) -> T) -> Result<T> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    let (Storage::Cpu(storage), Some((from, to))) = (&*storage, layout.contiguous_offsets()) else {
        bail!("frozen weights are packed from the processor's memory")
    };
    Ok(f(&storage.as_slice::<N>()?[from..to]))
}

/// A frozen layer, packed for both directions; for the backward pass only once a gradient is asked for.
pub(crate) struct Layer {
    /// A layer scale after this layer, folded into it.
    pub scale: Option<Vec<f32>>,
    bias: Vec<f32>,
    forward: Packed,
    backward: OnceLock<Packed>,
    arithmetic: Arithmetic,
}

impl Layer {
    /// `steps` are the layer's weights in 8 bits, the scale included, where they are given and computed with.
    pub fn new(
        arithmetic: Arithmetic,
        linear: &Linear,
        scale: Option<&Tensor>,
        steps: Option<&QuantisedLayer>,
    ) -> Result<Self> {
        let ((d_out, d_in), isa) = (linear.weight.dims2()?, arithmetic.isa);
        let scale = scale.map(numbers).transpose()?;
        let scaled = scale.as_deref();
        let mut bias = numbers(&linear.bias)?;
        if let Some(scale) = &scale {
            bias.iter_mut().zip(scale).for_each(|(b, s)| *b *= s);
        }
        let packed = |weight: &[f32]| arithmetic.pack(weight, d_in, d_out, (1, d_in));
        let forward = match (steps, linear.weight.dtype()) {
            (Some(layer), _) => {
                let (found, shape) = ((layer.units.len(), layer.steps.len()), (d_out, d_out * d_in));
                if found != shape {
                    bail!(
                        "a layer {d_in} -> {d_out} with {} units and {} steps in {QUANTISED_FILE}",
                        found.0,
                        found.1
                    )
                }
                Ok(Packed::of_steps(isa, &layer.steps, &layer.units, d_in))
            }
            (None, DType::F16) => {
                with_numbers::<f16, _>(&linear.weight, |w| Packed::narrow(isa, w, d_in, d_out, scaled))
            }
            (None, DType::BF16) => {
                with_numbers::<bf16, _>(&linear.weight, |w| Packed::narrow(isa, w, d_in, d_out, scaled))
            }
            _ => with_numbers(&linear.weight, |weight: &[f32]| match scaled {
                None => packed(weight),
                // Numbers that are not rounded are scaled where they are packed.
                Some(scale) if arithmetic.precision == Precision::F32 => packed(weight).scaled(scale),
                Some(_) => packed(&scaled_rows(weight.to_vec(), scaled)),
            }),
        }?;
        Ok(Self { scale, bias, forward, backward: OnceLock::new(), arithmetic })
    }

    pub fn d_in(&self) -> usize {
        self.forward.rows()
    }

    /// [d_in, d_out] as they are computed with, a layer scale behind the layer included.
    pub fn weights(&self) -> Vec<f32> {
        self.forward.unpacked()
    }

    /// Of memory.
    pub fn bytes(&self) -> usize {
        self.forward.bytes() + self.backward.get().map_or(0, Packed::bytes) + 4 * self.bias.len()
    }

    pub fn d_out(&self) -> usize {
        self.bias.len()
    }

    /// x [T, d_in] → out [T, d_out]
    pub fn forward(&self, x: &[f32], d_in: usize, out: &mut [f32]) {
        self.arithmetic.product(x, d_in, &self.forward, out, Store::Set(Some(&self.bias)));
    }

    /// out = activation of the layer of x
    pub fn activated(&self, activation: Activation, x: &[f32], d_in: usize, out: &mut [f32]) {
        self.arithmetic.product(x, d_in, &self.forward, out, Store::Activated(activation, Some(&self.bias)));
    }

    /// out += the layer of x
    pub fn add(&self, x: &[f32], d_in: usize, out: &mut [f32]) {
        self.arithmetic.product(x, d_in, &self.forward, out, Store::Add(Some(&self.bias)));
    }

    /// Forms the packing that [`Self::backward`] needs, outside any parallel loop: of the numbers that are packed already, which
    /// are those of the layer as it is computed with.
    pub fn prepare_backward(&self) {
        self.backward.get_or_init(|| {
            let (d_in, d_out) = (self.forward.rows(), self.d_out());
            self.arithmetic.of_gradients().pack(&self.forward.unpacked(), d_out, d_in, (1, d_out))
        });
    }

    /// grad [T, d_out] → out [T, d_in]
    pub fn backward(&self, grad: &[f32], out: &mut [f32]) {
        if let Some(packed) = self.backward.get() {
            self.arithmetic.product(grad, self.d_out(), packed, out, Store::Set(None));
        }
    }
}

fn scaled_rows(mut weight: Vec<f32>, scale: Option<&[f32]>) -> Vec<f32> {
    if let Some(scale) = scale {
        let d_in = weight.len() / scale.len();
        for (row, scale) in weight.chunks_exact_mut(d_in).zip(scale) {
            row.iter_mut().for_each(|w| *w *= scale);
        }
    }
    weight
}

/// A low-rank term at a site, packed in f32 for both directions.
pub(crate) struct Term {
    rank: usize,
    d_in: usize,
    d_out: usize,
    /// What each row of B was multiplied with: the term's scale, and the layer scale behind it.
    rows: Vec<f32>,
    a: Packed,      // x → low
    b: Packed,      // low → y
    a_back: Packed, // low's gradient → x's
    b_back: Packed, // y's gradient → low's
    isa: Isa,
}

impl Term {
    pub fn new(isa: Isa, term: &LowRank, layer_scale: Option<&[f32]>) -> Result<Self> {
        let ((rank, d_in), (d_out, _)) = (term.a.dims2()?, term.b.dims2()?);
        let rows =
            (0..d_out).map(|i| term.scale as f32 * layer_scale.map_or(1.0, |s| s[i])).collect::<Vec<_>>();
        let a = numbers(&term.a)?;
        let b = scaled_rows(numbers(&term.b)?, Some(&rows));
        let pack = |source: &[f32], k, n, strides| Packed::new(isa, Precision::F32, source, k, n, strides);
        Ok(Self {
            rank,
            d_in,
            d_out,
            rows,
            a: pack(&a, d_in, rank, (1, d_in)),
            b: pack(&b, rank, d_out, (1, rank)),
            a_back: pack(&a, rank, d_in, (d_in, 1)),
            b_back: pack(&b, d_out, rank, (rank, 1)),
            isa,
        })
    }

    /// Numbers in A and B.
    pub fn size(&self) -> usize {
        self.rank * (self.d_in + self.d_out)
    }

    fn tokens(&self, x: &[f32]) -> usize {
        x.len() / self.d_in
    }

    /// y [T, d_out] += x Aᵀ Bᵀ
    pub fn add(&self, x: &[f32], y: &mut [f32], low: &mut Vec<f32>) {
        let t = self.tokens(x);
        low.resize(t * self.rank, 0.0);
        gemm(self.isa, x, self.d_in, t, &self.a, low, self.rank, Store::Set(None));
        gemm(self.isa, low, self.rank, t, &self.b, y, self.d_out, Store::Add(None));
    }

    /// From the output's gradient: writes A's and B's to `into` (A first), and adds x's to `to_x` where wanted.
    pub fn backward(
        &self,
        x: &[f32],
        grad: &[f32],
        to_x: Option<&mut [f32]>,
        into: &mut [f32],
        s: &mut TermScratch,
    ) {
        let (t, r, isa) = (self.tokens(x), self.rank, self.isa);
        s.low.resize(t * r, 0.0);
        let (to_a, to_b) = into.split_at_mut(r * self.d_in);
        // B's gradient: gradᵀ · low
        gemm(isa, x, self.d_in, t, &self.a, &mut s.low, r, Store::Set(None));
        s.packed.repack(isa, Precision::F32, &s.low, t, r, (r, 1));
        gemm_transposed(isa, grad, self.d_out, self.d_out, &s.packed, to_b, r, Store::Set(None));
        for (row, scale) in to_b.chunks_exact_mut(r).zip(&self.rows) {
            row.iter_mut().for_each(|g| *g *= scale);
        }
        // A's gradient: xᵀ · (grad · B), transposed
        gemm(isa, grad, self.d_out, t, &self.b_back, &mut s.low, r, Store::Set(None));
        s.packed.repack(isa, Precision::F32, &s.low, t, r, (r, 1));
        s.tall.resize(self.d_in * r, 0.0);
        gemm_transposed(isa, x, self.d_in, self.d_in, &s.packed, &mut s.tall, r, Store::Set(None));
        attention::transpose(&s.tall, self.d_in, r, to_a);
        if let Some(to_x) = to_x {
            gemm(isa, &s.low, r, t, &self.a_back, to_x, self.d_in, Store::Add(None));
        }
    }
}

#[derive(Default)]
pub(crate) struct TermScratch {
    low: Vec<f32>,
    tall: Vec<f32>,
    packed: Packed,
}

/// The low-rank terms of one block.
#[derive(Default)]
pub(crate) struct Terms {
    pub qkv: Option<Term>,
    pub output: Option<Term>,
}

impl Terms {
    pub fn size(&self) -> usize {
        self.qkv.as_ref().map_or(0, Term::size) + self.output.as_ref().map_or(0, Term::size)
    }
}

pub(crate) struct Norm {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    pub eps: f32,
    isa: Isa,
}

impl Norm {
    pub fn new(isa: Isa, norm: &LayerNorm) -> Result<Self> {
        Ok(Self { weight: numbers(&norm.weight)?, bias: numbers(&norm.bias)?, eps: norm.eps as f32, isa })
    }
    /// Each of its outputs is divided by a number of its own, which the layer behind it is multiplied with.
    pub fn divide(&mut self, by: &[f32]) -> Result<()> {
        if by.len() != self.weight.len() {
            bail!("a norm of {} outputs and {} inputs in {QUANTISED_FILE}", self.weight.len(), by.len())
        }
        let both = [&mut self.weight, &mut self.bias];
        both.into_iter().for_each(|numbers| numbers.iter_mut().zip(by).for_each(|(x, by)| *x /= by));
        Ok(())
    }
    pub fn forward(&self, x: &[f32], out: &mut [f32]) {
        math::layer_norm(self.isa, x, &self.weight, &self.bias, self.eps, out);
    }
    /// Adds the gradient of the norm's input to `into`.
    pub fn backward(&self, x: &[f32], grad: &[f32], into: &mut [f32]) {
        math::layer_norm_backward(self.isa, x, &self.weight, self.eps, grad, into);
    }
}
