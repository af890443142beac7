//! The transformer's operations in plain candle, all of them differentiable: the reference for the kernels.
//!
//! Candle's own fused softmax and layer norms have no gradient and say nothing, and its matmul
//! backward also forms the gradient of a frozen weight; hence these.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Storage, Tensor, bail};

/// A frozen linear layer: y = x Wᵀ + b.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    /// [d_out, d_in]
    pub weight: Tensor,
    /// [d_out]
    pub bias: Tensor,
}

impl Linear {
    /// [.., d_in] → [.., d_out]
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.contiguous()?.apply_op1(FrozenMatmul(self.weight.clone()))?.broadcast_add(&self.bias)
    }
}

/// x Wᵀ whose backward is for x alone.
struct FrozenMatmul(Tensor);

impl CustomOp1 for FrozenMatmul {
    fn name(&self) -> &'static str {
        "frozen-matmul"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (d_out, d_in) = self.0.dims2()?;
        let dims = layout.dims();
        if dims.last() != Some(&d_in) {
            bail!("a linear layer of {d_in} inputs was given {dims:?}");
        }
        let rows = layout.shape().elem_count() / d_in;
        let flat = Layout::contiguous_with_offset((rows, d_in), layout.start_offset());
        let transposed = self.0.t()?;
        let (weight, weight_layout) = transposed.storage_and_layout();
        let Storage::Cpu(weight) = &*weight else { bail!("frozen weights must be on the CPU") };
        let y = x.matmul(weight, (1, rows, d_out, d_in), &flat, weight_layout)?;
        let mut shape = dims.to_vec();
        shape.pop();
        shape.push(d_out);
        Ok((y, shape.into()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (d_out, _) = self.0.dims2()?;
        let rows = grad.elem_count() / d_out;
        Ok(Some(grad.reshape((rows, d_out))?.matmul(&self.0)?.reshape(x.shape())?))
    }
}

/// y = (x - mean) / sqrt(var + eps) · weight + bias over the last dimension.
#[derive(Clone, Debug)]
pub(crate) struct LayerNorm {
    pub weight: Tensor,
    pub bias: Tensor,
    pub eps: f64,
}

impl LayerNorm {
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?;
        centred.broadcast_div(&deviation)?.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }
}

/// Softmax over the last dimension, with a gradient. The maximum is a constant to the gradient, as it may be.
pub(crate) fn softmax(x: &Tensor) -> Result<Tensor> {
    let shifted = x.broadcast_sub(&x.detach().max_keepdim(D::Minus1)?)?.exp()?;
    shifted.broadcast_div(&shifted.sum_keepdim(D::Minus1)?)
}

/// Multi-head attention over fused projections: [S, T, 3d] → ([S, T, d], class-token probabilities [S, T]).
///
/// The probabilities are the class token's, mean over heads, detached; formed only where asked for.
pub(crate) fn attention(qkv: &Tensor, heads: usize, want_class: bool) -> Result<(Tensor, Option<Tensor>)> {
    let (s, t, d3) = qkv.dims3()?;
    let (d, head) = (d3 / 3, d3 / 3 / heads);
    // [S, T, 3, heads, head] → three of [S, heads, T, head]
    let split = qkv.reshape((s, t, 3, heads, head))?.permute((2, 0, 3, 1, 4))?;
    let part = |i: usize| split.get(i)?.contiguous();
    let (q, k, v) = (part(0)?, part(1)?, part(2)?);
    let scores = (q.matmul(&k.t()?)? * (1.0 / (head as f64).sqrt()))?;
    let p = softmax(&scores)?; // [S, heads, T, T]
    let class = match want_class {
        true => Some(p.detach().narrow(2, 0, 1)?.mean(1)?.reshape((s, t))?),
        false => None,
    };
    let y = p.matmul(&v)?.transpose(1, 2)?.reshape((s, t, d))?;
    Ok((y, class))
}
