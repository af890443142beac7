//! A pooling head in the place of a class token: attention of a learned probe over the normed patches (SigLIP's MAP head,
//! Zhai et al., "Scaling Vision Transformers", 2022; `nn.MultiheadAttention` in PyTorch).
//!
//! The probe is constant, so keys and values need not be formed: a score q·k is x·(Wkᵀ q) plus a constant that softmax
//! removes, and the mix of values is Wv of the mix of tokens, because probabilities add up to 1.

use super::block::{BlockNames, BlockShape, Mlp};
use crate::backbone::error::BackboneError;
use crate::backbone::kept::KeptPatches;
use crate::backbone::layers::{LayerNorm, Linear, softmax};
use crate::backbone::weights::Weights;
use candle_core::{D, DType, Device, Result, Tensor};

pub(super) struct PoolingHead {
    /// The probe's query through each head's keys, times 1/√head: [heads, d].
    scores: Linear,
    /// Of each head, [heads, d, head].
    values: Tensor,
    /// [d]
    value_bias: Tensor,
    output: Linear,
    norm: LayerNorm,
    mlp: Mlp,
}

impl PoolingHead {
    /// Takes the head whose names begin with `name`; its MLP is like that of a block.
    pub fn load(
        w: &mut Weights,
        name: &str,
        heads: usize,
        names: &BlockNames,
        shape: &BlockShape,
    ) -> std::result::Result<Self, BackboneError> {
        let d = shape.embed_dim;
        let head = d / heads;
        let probe = w.take(&format!("{name}.probe"), &[1, 1, d])?.reshape((1, d))?;
        let packed = w.take(&format!("{name}.attention.in_proj_weight"), &[3 * d, d])?;
        let bias = w.take(&format!("{name}.attention.in_proj_bias"), &[3 * d])?;
        let part = |i: usize| packed.narrow(0, i * d, d);
        // [1, d] of all heads end to end, then each head's row through its keys.
        let query =
            (probe.matmul(&part(0)?.t()?)?.broadcast_add(&bias.narrow(0, 0, d)?)? / (head as f64).sqrt())?;
        let keys = part(1)?.reshape((heads, head, d))?;
        let scores = query.reshape((heads, 1, head))?.matmul(&keys)?.reshape((heads, d))?;
        Ok(Self {
            scores: Linear { weight: scores, bias: Tensor::zeros(heads, DType::F32, &Device::Cpu)? },
            values: part(2)?.reshape((heads, head, d))?.transpose(1, 2)?.contiguous()?,
            value_bias: bias.narrow(0, 2 * d, d)?,
            output: Linear::load(w, &format!("{name}.attention.out_proj"), d, d)?,
            norm: LayerNorm::load(w, &format!("{name}.layernorm"), d, shape.norm_eps)?,
            mlp: Mlp::load(w, name, names, shape)?,
        })
    }

    pub fn bytes(&self) -> usize {
        let of_values = 4 * (self.values.elem_count() + self.value_bias.elem_count());
        self.scores.bytes() + of_values + self.output.bytes() + self.norm.bytes() + self.mlp.bytes()
    }

    /// On a device it stays f32: it is small beside a block.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        Ok(Self {
            scores: self.scores.to_device(device, DType::F32, DType::F32)?,
            values: self.values.to_device(device)?,
            value_bias: self.value_bias.to_device(device)?,
            output: self.output.to_device(device, DType::F32, DType::F32)?,
            norm: self.norm.to_device(device)?,
            mlp: self.mlp.to_device(device, DType::F32)?,
        })
    }

    /// Normed tokens [S, n, d] → pooled [S, d], and the probe's attention [S, n], mean over heads, where asked for. The probe
    /// attends to kept patches alone.
    pub fn forward(
        &self,
        x: &Tensor,
        kept: Option<&KeptPatches>,
        want_attention: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let (s, n, d) = x.dims3()?;
        let scores = self.scores.forward(x)?.transpose(1, 2)?.contiguous()?; // [S, heads, n]
        let scores = match kept {
            Some(kept) => scores.broadcast_add(&kept.score_mask(0, x.device())?.reshape((s, 1, n))?)?,
            None => scores,
        };
        let p = softmax(&scores)?;
        let mixed = p.matmul(x)?.transpose(0, 1)?.contiguous()?; // [heads, S, d]
        let values = mixed.matmul(&self.values)?; // [heads, S, head]
        let values = values.transpose(0, 1)?.reshape((s, d))?.broadcast_add(&self.value_bias)?;
        let pooled = self.output.forward(&values)?; // [S, d]
        let pooled = (&pooled + self.mlp.forward(&self.norm.forward(&pooled)?)?)?;
        let attention = want_attention.then(|| p.detach().mean(D::Minus2)).transpose()?;
        Ok((pooled, attention))
    }
}
