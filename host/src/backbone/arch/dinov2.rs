//! DINOv2's vision transformer, with or without registers: config → blocks → forward.
//!
//! Shapes: S slices, h × w patches, T = 1 + registers + h·w tokens, d the embedding's width.

use super::position::interpolate;
use crate::backbone::adapter::{Site, SiteAdapter};
use crate::backbone::config::Config;
use crate::backbone::error::BackboneError;
use crate::backbone::layers::{LayerNorm, Linear, attention};
use crate::backbone::weights::Weights;
use candle_core::{DType, Device, Result, Tensor};
use std::collections::HashMap;
use std::sync::Mutex;

pub(crate) struct Vit {
    pub config: Config,
    /// Over unfolded patches, [d, 3·p·p].
    pub patch: Linear,
    pub class_token: Tensor,             // [1, 1, d]
    pub register_tokens: Option<Tensor>, // [1, registers, d]
    pub positions: Positions,
    pub blocks: Vec<Block>,
    pub norm: LayerNorm,
}

pub(crate) struct Block {
    pub norm1: LayerNorm,
    /// Query, key and value in one, [3d, d].
    pub qkv: Linear,
    pub output: Linear,
    pub scale1: Tensor, // [d]
    pub norm2: LayerNorm,
    pub mlp: Mlp,
    pub scale2: Tensor, // [d]
}

pub(crate) struct Mlp {
    /// [hidden, d]; twice as many rows where gated (SwiGLU: gate first, then value).
    pub up: Linear,
    /// [d, hidden]
    pub down: Linear,
    pub gated: bool,
}

impl Vit {
    pub fn load(config: Config, mut weights: Weights) -> std::result::Result<Self, BackboneError> {
        let d = config.embed_dim;
        let p = config.patch_size;
        let root = root_of(&weights);
        let name = |n: &str| format!("{root}{n}");
        let conv = weights.take(&name("embeddings.patch_embeddings.projection.weight"), &[d, 3, p, p])?;
        let patch = Linear {
            weight: conv.reshape((d, 3 * p * p))?,
            bias: weights.take(&name("embeddings.patch_embeddings.projection.bias"), &[d])?,
        };
        let class_token = weights.take(&name("embeddings.cls_token"), &[1, 1, d])?;
        let register_tokens = match config.registers {
            0 => None,
            n => Some(weights.take(&name("embeddings.register_tokens"), &[1, n, d])?),
        };
        let positions = Positions::load(&mut weights, &name("embeddings.position_embeddings"), &config)?;
        let layer = |i: usize| name(&format!("encoder.layer.{i}"));
        let blocks: std::result::Result<Vec<_>, _> =
            (0..config.blocks).map(|i| Block::load(&mut weights, &layer(i), &config)).collect();
        let blocks = blocks?;
        let norm = layer_norm(&mut weights, &name("layernorm"), &config)?;
        weights.finish()?;
        Ok(Self { config, patch, class_token, register_tokens, positions, blocks, norm })
    }

    /// Bytes of its tensors.
    pub fn bytes(&self) -> usize {
        let t = |t: &Tensor| t.elem_count() * t.dtype().size_in_bytes();
        let linear = |l: &Linear| t(&l.weight) + t(&l.bias);
        let norm = |n: &LayerNorm| t(&n.weight) + t(&n.bias);
        let block = |b: &Block| {
            let layers = [&b.qkv, &b.output, &b.mlp.up, &b.mlp.down].map(linear).iter().sum::<usize>();
            layers + norm(&b.norm1) + norm(&b.norm2) + t(&b.scale1) + t(&b.scale2)
        };
        linear(&self.patch) + norm(&self.norm) + self.blocks.iter().map(block).sum::<usize>()
    }

    /// The MLP's hidden width, and bytes of a number of the weights.
    pub fn widths(&self) -> (usize, usize) {
        let hidden = self.blocks.first().map_or(0, |b| b.mlp.up.weight.dims()[0]);
        (hidden, self.patch.weight.dtype().size_in_bytes())
    }

    /// The same on a device, its products in another type of number. Tokens between the blocks, norms and scales stay f32: what
    /// the blocks add to them is small beside them, and would be rounded to what they are.
    pub fn seat(self, device: &Device, dtype: DType) -> Result<Self> {
        let t = |t: &Tensor| t.to_device(device);
        let narrow = |l: &Linear, bias: DType| {
            let (weight, bias) = (t(&l.weight)?.to_dtype(dtype)?, t(&l.bias)?.to_dtype(bias)?);
            Ok::<_, candle_core::Error>(Linear { weight, bias })
        };
        let (linear, wide) = (|l: &Linear| narrow(l, dtype), |l: &Linear| narrow(l, DType::F32));
        let norm = |n: &LayerNorm| {
            Ok::<_, candle_core::Error>(LayerNorm { weight: t(&n.weight)?, bias: t(&n.bias)?, eps: n.eps })
        };
        let block = |b: &Block| {
            Ok::<_, candle_core::Error>(Block {
                norm1: norm(&b.norm1)?,
                qkv: linear(&b.qkv)?,
                output: wide(&b.output)?,
                scale1: t(&b.scale1)?,
                norm2: norm(&b.norm2)?,
                mlp: Mlp { up: linear(&b.mlp.up)?, down: wide(&b.mlp.down)?, gated: b.mlp.gated },
                scale2: t(&b.scale2)?,
            })
        };
        Ok(Self {
            patch: wide(&self.patch)?,
            class_token: t(&self.class_token)?,
            register_tokens: self.register_tokens.as_ref().map(t).transpose()?,
            positions: Positions { device: device.clone(), cache: Mutex::default(), ..self.positions },
            blocks: self.blocks.iter().map(block).collect::<Result<_>>()?,
            norm: norm(&self.norm)?,
            config: self.config,
        })
    }

    /// Pixels [S, 3, H, W] → patches [S, h·w, 3·p·p], each laid out channel, row, column as the weights are.
    pub fn unfold(&self, pixels: &Tensor) -> Result<Tensor> {
        let (s, c, height, width) = pixels.dims4()?;
        let p = self.config.patch_size;
        let (h, w) = (height / p, width / p);
        pixels.reshape((s, c, h, p, w, p))?.permute((0, 2, 4, 1, 3, 5))?.reshape((s, h * w, c * p * p))
    }

    /// Pixels [S, 3, H, W] → tokens [S, T, d] before the first block.
    pub fn embed(&self, pixels: &Tensor, adapter: &dyn SiteAdapter) -> Result<Tensor> {
        let (s, _, height, width) = pixels.dims4()?;
        let (p, d) = (self.config.patch_size, self.config.embed_dim);
        let patches = adapted(&self.patch, &self.unfold(pixels)?, Site::PatchEmbed, adapter)?; // [S, h·w, d]
        let positions = self.positions.at((height / p, width / p))?; // [1, 1 + h·w, d]
        let n = patches.dim(1)?;
        let class = (&self.class_token + positions.narrow(1, 0, 1)?)?.broadcast_as((s, 1, d))?;
        let patches = patches.broadcast_add(&positions.narrow(1, 1, n)?)?;
        match &self.register_tokens {
            None => Tensor::cat(&[&class, &patches], 1),
            Some(r) => Tensor::cat(&[&class, &r.broadcast_as((s, self.config.registers, d))?, &patches], 1),
        }
    }

    /// Tokens [S, T, d] → tokens, and the class token's attention [S, T] where asked for.
    pub fn block(
        &self,
        i: usize,
        x: &Tensor,
        adapter: &dyn SiteAdapter,
        want_class: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let block = &self.blocks[i];
        let qkv = adapted(&block.qkv, &block.norm1.forward(x)?, Site::Qkv(i), adapter)?; // [S, T, 3d]
        let (mixed, class) = attention(&qkv, self.config.heads, want_class)?; // [S, T, d]
        let mixed = adapted(&block.output, &mixed, Site::AttentionOutput(i), adapter)?;
        let x = (x + mixed.broadcast_mul(&block.scale1)?)?;
        let changed = block.mlp.forward(&block.norm2.forward(&x)?)?;
        Ok(((x + changed.broadcast_mul(&block.scale2)?)?, class))
    }
}

/// A frozen layer and what the adapter adds to it: in f32 where it goes into the tokens, else in the numbers of the layer.
fn adapted(linear: &Linear, input: &Tensor, site: Site, adapter: &dyn SiteAdapter) -> Result<Tensor> {
    let x = &input.to_dtype(linear.weight.dtype())?;
    let mut y = match site {
        Site::PatchEmbed | Site::AttentionOutput(_) => linear.forward_wide(x)?,
        Site::Qkv(_) => linear.forward(x)?,
    };
    if let Some(term) = adapter.low_rank(site) {
        let (s, t, d_in) = x.dims3()?;
        // The task's own tensors are f32, wherever they were read.
        let seat = |factor: &Tensor| factor.to_device(x.device())?.to_dtype(x.dtype())?.t();
        let low = (x.reshape((s * t, d_in))?.matmul(&seat(&term.a)?)? * term.scale)?; // [S·T, r]
        y = (&y + low.matmul(&seat(&term.b)?)?.reshape(y.shape())?.to_dtype(y.dtype())?)?;
    }
    if adapter.only_low_rank() {
        return Ok(y);
    }
    // A task's code sees f32, whatever the blocks compute in.
    let changed = adapter.apply(site, &input.to_dtype(DType::F32)?, y.to_dtype(DType::F32)?)?;
    changed.to_dtype(y.dtype())
}

impl Block {
    fn load(weights: &mut Weights, layer: &str, config: &Config) -> std::result::Result<Self, BackboneError> {
        let d = config.embed_dim;
        // transformers 5 renamed the projections in memory; files of both namings are about.
        let old = weights.contains(&format!("{layer}.attention.attention.query.weight"));
        let [q, k, v, o] = match old {
            true => ["attention.query", "attention.key", "attention.value", "output.dense"],
            false => ["q_proj", "k_proj", "v_proj", "o_proj"],
        };
        let mut part = |name: &str| -> std::result::Result<Linear, BackboneError> {
            let name = format!("{layer}.attention.{name}");
            if config.qkv_bias {
                return linear(weights, &name, d, d);
            }
            let bias = Tensor::zeros(d, DType::F32, &Device::Cpu)?;
            Ok(Linear { weight: weights.take(&format!("{name}.weight"), &[d, d])?, bias })
        };
        let (q, k, v) = (part(q)?, part(k)?, part(v)?);
        Ok(Self {
            norm1: layer_norm(weights, &format!("{layer}.norm1"), config)?,
            qkv: Linear {
                weight: Tensor::cat(&[&q.weight, &k.weight, &v.weight], 0)?,
                bias: Tensor::cat(&[&q.bias, &k.bias, &v.bias], 0)?,
            },
            output: linear(weights, &format!("{layer}.attention.{o}"), d, d)?,
            scale1: weights.take(&format!("{layer}.layer_scale1.lambda1"), &[d])?,
            norm2: layer_norm(weights, &format!("{layer}.norm2"), config)?,
            mlp: Mlp::load(weights, &format!("{layer}.mlp"), config)?,
            scale2: weights.take(&format!("{layer}.layer_scale2.lambda1"), &[d])?,
        })
    }
}

impl Mlp {
    fn load(weights: &mut Weights, mlp: &str, config: &Config) -> std::result::Result<Self, BackboneError> {
        let (d, gated) = (config.embed_dim, config.swiglu);
        let [up, down] = if gated { ["weights_in", "weights_out"] } else { ["fc1", "fc2"] };
        let (up, down) = (format!("{mlp}.{up}"), format!("{mlp}.{down}"));
        // The hidden width follows from mlp_ratio by a rounding rule of the family; the file knows it.
        let width = |name: &str, axis: usize| Some(*weights.shape(&format!("{name}.weight"))?.get(axis)?);
        let per_unit = if gated { 2 } else { 1 };
        let hidden = width(&down, 1).or(width(&up, 0).map(|rows| rows / per_unit)).unwrap_or(4 * d);
        let rows = per_unit * hidden;
        Ok(Self { up: linear(weights, &up, d, rows)?, down: linear(weights, &down, hidden, d)?, gated })
    }

    /// [S, T, d] → [S, T, d]
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.up.forward(&x.to_dtype(self.up.weight.dtype())?)?;
        let x = if self.gated {
            let hidden = x.dim(2)? / 2;
            (x.narrow(2, 0, hidden)?.silu()? * x.narrow(2, hidden, hidden)?)?
        } else {
            x.gelu_erf()?
        };
        self.down.forward_wide(&x)
    }
}

/// Checkpoints of a model with a task head put the backbone under a name of its own.
fn root_of(weights: &Weights) -> String {
    let class_token = "embeddings.cls_token";
    let found = weights.names().filter_map(|n| n.strip_suffix(class_token)).min_by_key(|root| root.len());
    found.unwrap_or_default().to_string()
}

fn linear(
    weights: &mut Weights,
    name: &str,
    d_in: usize,
    d_out: usize,
) -> std::result::Result<Linear, BackboneError> {
    let weight = weights.take(&format!("{name}.weight"), &[d_out, d_in])?;
    Ok(Linear { weight, bias: weights.take(&format!("{name}.bias"), &[d_out])? })
}

fn layer_norm(
    weights: &mut Weights,
    name: &str,
    config: &Config,
) -> std::result::Result<LayerNorm, BackboneError> {
    let shape = [config.embed_dim];
    let weight = weights.take(&format!("{name}.weight"), &shape)?;
    Ok(LayerNorm { weight, bias: weights.take(&format!("{name}.bias"), &shape)?, eps: config.norm_eps })
}

/// Learned position embeddings of a square grid, and of every other grid that was asked for.
pub(crate) struct Positions {
    class: Vec<f32>,
    table: Vec<f32>, // [side · side, d]
    side: usize,
    antialias: bool,
    device: Device,
    cache: Mutex<HashMap<(usize, usize), Tensor>>,
}

/// A process that meets ever new grids must not grow without bound.
const CACHED_GRIDS: usize = 16;

impl Positions {
    fn load(weights: &mut Weights, name: &str, config: &Config) -> std::result::Result<Self, BackboneError> {
        let d = config.embed_dim;
        let found = weights.shape(name).map(<[usize]>::to_vec);
        let rows = found.as_ref().and_then(|s| s.get(1)).copied().unwrap_or(2);
        let table: Vec<f32> = weights.take(name, &[1, rows, d])?.flatten_all()?.to_vec1()?;
        let side = rows.saturating_sub(1).isqrt();
        if side == 0 || side * side + 1 != rows {
            let message = format!("{name} has {rows} rows, expected one more than a square");
            return Err(BackboneError::Input(message));
        }
        let (class, table) = table.split_at(d);
        let (class, table) = (class.to_vec(), table.to_vec());
        let (antialias, device) = (config.antialias, Device::Cpu);
        Ok(Self { class, table, side, antialias, device, cache: Mutex::default() })
    }

    /// [1, 1 + h·w, d]: the class token's, then the patches'.
    pub fn at(&self, grid: (usize, usize)) -> Result<Tensor> {
        // A panic elsewhere cannot leave the map half written: its values are complete tensors.
        let mut cache = self.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(found) = cache.get(&grid) {
            return Ok(found.clone());
        }
        let d = self.class.len();
        let mut rows = self.class.clone();
        rows.extend(interpolate(&self.table, self.side, d, grid, self.antialias));
        let tensor = Tensor::from_vec(rows, (1, 1 + grid.0 * grid.1, d), &self.device)?;
        if cache.len() >= CACHED_GRIDS {
            cache.clear();
        }
        cache.insert(grid, tensor.clone());
        Ok(tensor)
    }
}
