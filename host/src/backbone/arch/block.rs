//! A block of a pre-norm vision transformer: names in files → weights → forward pass.
//!
//! x += scale1 · output(attention(qkv(norm1(x)))), then x += scale2 · mlp(norm2(x)). The families differ in names, biases,
//! layer scales, rotary positions and the MLP's activation; each family's file says which.

use crate::backbone::activation::Activation;
use crate::backbone::adapter::{Site, SiteAdapter};
use crate::backbone::cpu::fused::{Arithmetic, FusedBlock, Layer, Norm};
use crate::backbone::error::BackboneError;
use crate::backbone::features::HiddenStates;
use crate::backbone::layers::{LayerNorm, Linear, adapted, attend, split_heads};
use crate::backbone::quantised::{DIVIDED, LAYERS, QuantisedLayer};
use crate::backbone::rotation::Rotation;
use crate::backbone::weights::Weights;
use candle_core::{DType, Device, Result, Tensor};

/// Names of a block's layers behind its prefix. Of several the first that the file has counts.
pub(super) struct BlockNames {
    pub norm1: &'static str,
    /// Query, key and value apart.
    pub qkv: [&'static [&'static str]; 3],
    /// All three as one layer, where the file has it so.
    pub fused_qkv: &'static str,
    pub output: &'static [&'static str],
    pub scale1: &'static str,
    pub norm2: &'static str,
    pub up: &'static [&'static str],
    /// Gate and value apart, for a gated MLP.
    pub gate: &'static str,
    /// Gate and value stacked, for a gated MLP.
    pub gate_and_up: &'static [&'static str],
    pub down: &'static [&'static str],
    pub scale2: &'static str,
}

/// What a block's layers are, by the family's configuration.
#[derive(Clone, Copy)]
pub(super) struct BlockShape {
    /// d, the width of a token.
    pub embed_dim: usize,
    /// Of the MLP; `None` takes it from the file.
    pub hidden: Option<usize>,
    pub norm_eps: f64,
    /// Of query, key and value.
    pub qkv_bias: [bool; 3],
    pub output_bias: bool,
    pub mlp_bias: bool,
    pub layer_scale: bool,
    /// `down(activation(gate(x)) · up(x))` instead of `down(activation(up(x)))`.
    pub gated: bool,
    pub activation: Activation,
}

pub(super) struct Block {
    norm1: LayerNorm,
    /// Query, key and value stacked, [3d, d].
    qkv: Linear,
    output: Linear,
    /// [d]
    scale1: Option<Tensor>,
    norm2: LayerNorm,
    mlp: Mlp,
    /// [d]
    scale2: Option<Tensor>,
}

pub(super) struct Mlp {
    /// [hidden, d]; gated [2·hidden, d], gate first.
    up: Linear,
    /// [d, hidden]
    down: Linear,
    gated: bool,
    activation: Activation,
}

type Loaded<T> = std::result::Result<T, BackboneError>;

// ---- Weights ----

impl Block {
    /// Takes the block whose names begin with `layer`.
    pub fn load(w: &mut Weights, layer: &str, names: &BlockNames, shape: &BlockShape) -> Loaded<Self> {
        let (d, eps) = (shape.embed_dim, shape.norm_eps);
        let name = |n: &str| format!("{layer}.{n}");
        let scale = |w: &mut Weights, n: &str| match shape.layer_scale {
            true => w.take(&name(n), &[d]).map(Some),
            false => Ok(None),
        };
        let output = w.layer_of(layer, names.output);
        Ok(Self {
            norm1: LayerNorm::load(w, &name(names.norm1), d, eps)?,
            qkv: load_qkv(w, layer, names, shape)?,
            output: Linear::load_with(w, &output, d, d, shape.output_bias)?,
            scale1: scale(w, names.scale1)?,
            norm2: LayerNorm::load(w, &name(names.norm2), d, eps)?,
            mlp: Mlp::load(w, layer, names, shape)?,
            scale2: scale(w, names.scale2)?,
        })
    }
}

/// Query, key and value as one layer, [3d, d].
fn load_qkv(w: &mut Weights, layer: &str, names: &BlockNames, shape: &BlockShape) -> Loaded<Linear> {
    let d = shape.embed_dim;
    let fused = format!("{layer}.{}", names.fused_qkv);
    if !names.fused_qkv.is_empty() && w.contains(&format!("{fused}.weight")) {
        return Linear::load_with(w, &fused, d, 3 * d, shape.qkv_bias[0]);
    }
    let parts = names.qkv.map(|part| w.layer_of(layer, part));
    let parts: Vec<_> = parts.into_iter().zip(shape.qkv_bias).collect();
    Linear::load_stacked(w, &parts, d, d)
}

/// The block `layer` for the processor's kernels: each layer is packed before the next is read, so that no more than one of them
/// is in memory twice.
pub(super) fn load_fused(
    w: &mut Weights,
    layer: &str,
    (names, shape): (&BlockNames, &BlockShape),
    heads: usize,
    arithmetic: Arithmetic,
    quantised: Option<&[QuantisedLayer; LAYERS.len()]>,
) -> Loaded<FusedBlock> {
    let (d, eps, isa) = (shape.embed_dim, shape.norm_eps, arithmetic.isa);
    let name = |n: &str| format!("{layer}.{n}");
    let scale = |w: &mut Weights, n: &str| match shape.layer_scale {
        true => w.take(&name(n), &[d]).map(Some),
        false => Ok(None),
    };
    let steps = |layer: usize| quantised.map(|layers| &layers[layer]);
    let norm1 = Norm::new(isa, &LayerNorm::load(w, &name(names.norm1), d, eps)?)?;
    let qkv = Layer::new(arithmetic, &load_qkv(w, layer, names, shape)?, None, steps(0))?;
    let output = w.layer_of(layer, names.output);
    let scale1 = scale(w, names.scale1)?;
    let output = Linear::load_with(w, &output, d, d, shape.output_bias)?;
    let output = Layer::new(arithmetic, &output, scale1.as_ref(), steps(1))?;
    let mut norm2 = Norm::new(isa, &LayerNorm::load(w, &name(names.norm2), d, eps)?)?;
    if let Some(layer) = steps(DIVIDED) {
        norm2.divide(&layer.inputs)?;
    }
    let scale2 = scale(w, names.scale2)?;
    let up = Layer::new(arithmetic, &Mlp::load_up(w, layer, names, shape)?, None, steps(2))?;
    let down = Layer::new(arithmetic, &Mlp::load_down(w, layer, names, shape)?, scale2.as_ref(), steps(3))?;
    let (gated, activation) = (shape.gated, shape.activation);
    Ok(FusedBlock { norm1, qkv, output, norm2, up, down, gated, activation, heads, arithmetic })
}

impl Mlp {
    pub fn load(w: &mut Weights, layer: &str, names: &BlockNames, shape: &BlockShape) -> Loaded<Self> {
        let (gated, activation) = (shape.gated, shape.activation);
        let up = Self::load_up(w, layer, names, shape)?;
        Ok(Self { up, down: Self::load_down(w, layer, names, shape)?, gated, activation })
    }

    /// Where the hidden width follows from a ratio by a rounding rule of the family, the file knows it.
    fn hidden(w: &Weights, layer: &str, names: &BlockNames, shape: &BlockShape) -> usize {
        let width = |name: &str, axis: usize| w.shape(&format!("{name}.weight"))?.get(axis).copied();
        let of = |names: &[&str]| w.layer_of(layer, names);
        let in_file = || {
            let stacked = || width(&of(names.gate_and_up), 0).filter(|_| shape.gated).map(|rows| rows / 2);
            width(&of(names.down), 1).or_else(stacked).or(width(&of(names.up), 0))
        };
        shape.hidden.or_else(in_file).unwrap_or(4 * shape.embed_dim)
    }

    fn load_up(w: &mut Weights, layer: &str, names: &BlockNames, shape: &BlockShape) -> Loaded<Linear> {
        let BlockShape { embed_dim: d, gated, mlp_bias: bias, .. } = *shape;
        let hidden = Self::hidden(w, layer, names, shape);
        let (up, stacked) = (w.layer_of(layer, names.up), w.layer_of(layer, names.gate_and_up));
        if !gated {
            return Linear::load_with(w, &up, d, hidden, bias);
        }
        if w.contains(&format!("{stacked}.weight")) || names.gate.is_empty() {
            return Linear::load_with(w, &stacked, d, 2 * hidden, bias);
        }
        let gate = format!("{layer}.{}", names.gate);
        Linear::load_stacked(w, &[(gate, bias), (up, bias)], d, hidden)
    }

    fn load_down(w: &mut Weights, layer: &str, names: &BlockNames, shape: &BlockShape) -> Loaded<Linear> {
        let hidden = Self::hidden(w, layer, names, shape);
        let down = w.layer_of(layer, names.down);
        Linear::load_with(w, &down, hidden, shape.embed_dim, shape.mlp_bias)
    }

    /// Rows of the first layer: twice the hidden width where gated.
    pub fn rows(&self) -> usize {
        self.up.weight.dims()[0]
    }

    pub fn bytes(&self) -> usize {
        self.up.bytes() + self.down.bytes()
    }

    /// The output projection keeps an f32 bias: what is added to the tokens is not rounded.
    pub fn to_device(&self, device: &Device, dtype: DType) -> Result<Self> {
        Ok(Self {
            up: self.up.to_device(device, dtype, dtype)?,
            down: self.down.to_device(device, dtype, DType::F32)?,
            gated: self.gated,
            activation: self.activation,
        })
    }

    /// [.., d] → [.., d]
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.up.forward(&x.to_dtype(self.up.weight.dtype())?)?; // [.., hidden or 2·hidden]
        let x = if self.gated {
            let (last, hidden) = (x.rank() - 1, x.dim(candle_core::D::Minus1)? / 2);
            (self.activation.forward(&x.narrow(last, 0, hidden)?)? * x.narrow(last, hidden, hidden)?)?
        } else {
            self.activation.forward(&x)?
        };
        self.down.forward_wide(&x)
    }
}

// ---- Forward pass ----

impl Block {
    /// Tokens [S, T, d] → [S, T, d], and the class token's attention [S, T] where asked for.
    pub fn forward(
        &self,
        x: &HiddenStates,
        heads: usize,
        rotation: Option<&Rotation>,
        adapter: &dyn SiteAdapter,
        want_attention: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let (i, leading, kept, x) = (x.block, x.layout.leading(), x.kept.as_deref(), &x.tokens);
        let qkv = adapted(&self.qkv, &self.norm1.forward(x)?, Site::Qkv(i), adapter)?; // [S, T, 3d]
        let [q, k, v] = split_heads(&qkv, heads)?; // [S, heads, T, head] each
        let (q, k) = match rotation {
            Some(rotation) => (rotation.apply(&q, leading)?, rotation.apply(&k, leading)?),
            None => (q, k),
        };
        let mask = kept.map(|kept| kept.score_mask(leading, x.device())).transpose()?;
        let (mixed, class) = attend(&q, &k, &v, mask.as_ref(), want_attention)?; // [S, T, d], [S, T]
        let mixed = adapted(&self.output, &mixed, Site::AttentionOutput(i), adapter)?;
        let x = (x + scaled(mixed, self.scale1.as_ref())?)?;
        let changed = self.mlp.forward(&self.norm2.forward(&x)?)?;
        Ok(((x + scaled(changed, self.scale2.as_ref())?)?, class))
    }

    pub fn mlp_rows(&self) -> usize {
        self.mlp.rows()
    }

    pub fn bytes(&self) -> usize {
        let scales = [&self.scale1, &self.scale2].into_iter().flatten();
        let of_scales: usize = scales.map(|s| s.elem_count() * s.dtype().size_in_bytes()).sum();
        let of_norms = self.norm1.bytes() + self.norm2.bytes();
        self.qkv.bytes() + self.output.bytes() + self.mlp.bytes() + of_norms + of_scales
    }

    /// Output projections keep an f32 bias: what is added to the tokens is not rounded.
    pub fn to_device(&self, device: &Device, dtype: DType) -> Result<Self> {
        let moved = |t: &Option<Tensor>| t.as_ref().map(|t| t.to_device(device)).transpose();
        Ok(Self {
            norm1: self.norm1.to_device(device)?,
            qkv: self.qkv.to_device(device, dtype, dtype)?,
            output: self.output.to_device(device, dtype, DType::F32)?,
            scale1: moved(&self.scale1)?,
            norm2: self.norm2.to_device(device)?,
            mlp: self.mlp.to_device(device, dtype)?,
            scale2: moved(&self.scale2)?,
        })
    }
}

fn scaled(x: Tensor, scale: Option<&Tensor>) -> Result<Tensor> {
    scale.map_or(Ok(x.clone()), |scale| x.broadcast_mul(scale))
}
