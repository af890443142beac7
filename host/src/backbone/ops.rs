//! The transformer's operations in plain candle, all of them differentiable: the reference for the kernels.
//!
//! Candle's own fused softmax and layer norms have no gradient and say nothing, and its matmul
//! backward also forms the gradient of a frozen weight; hence these.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, D, DType, Layout, Result, Shape, Storage, Tensor, bail,
};

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

impl FrozenMatmul {
    /// On whatever device both lie.
    fn product<S: BackendStorage>(
        &self,
        x: &S,
        layout: &Layout,
        weight: &S,
        weight_layout: &Layout,
    ) -> Result<(S, Shape)> {
        let (d_out, d_in) = self.0.dims2()?;
        let dims = layout.dims();
        if dims.last() != Some(&d_in) {
            bail!("a linear layer of {d_in} inputs was given {dims:?}");
        }
        let rows = layout.shape().elem_count() / d_in;
        let flat = Layout::contiguous_with_offset((rows, d_in), layout.start_offset());
        let y = x.matmul(weight, (1, rows, d_out, d_in), &flat, weight_layout)?;
        let mut shape = dims.to_vec();
        shape.pop();
        shape.push(d_out);
        Ok((y, shape.into()))
    }
}

impl CustomOp1 for FrozenMatmul {
    fn name(&self) -> &'static str {
        "frozen-matmul"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let transposed = self.0.t()?;
        let (weight, weight_layout) = transposed.storage_and_layout();
        let Storage::Cpu(weight) = &*weight else { bail!("the frozen weights are not on the processor") };
        self.product(x, layout, weight, weight_layout)
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let transposed = self.0.t()?;
        let (weight, weight_layout) = transposed.storage_and_layout();
        let Storage::Cuda(weight) = &*weight else { bail!("the frozen weights are not on the GPU") };
        self.product(x, layout, weight, weight_layout)
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
    /// Moments are formed in f32 whatever x is.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if !is_reference(x) {
            if !x.track_op() {
                return candle_nn::ops::layer_norm(
                    &x.contiguous()?,
                    &self.weight,
                    &self.bias,
                    self.eps as f32,
                );
            }
            let wide = |t: &Tensor| t.to_dtype(DType::F32);
            let norm = Self { weight: wide(&self.weight)?, bias: wide(&self.bias)?, eps: self.eps };
            return norm.composed(&wide(x)?)?.to_dtype(x.dtype());
        }
        self.composed(x)
    }

    fn composed(&self, x: &Tensor) -> Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?;
        centred.broadcast_div(&deviation)?.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }
}

/// Whether x is computed by plain operations alone: full floats on the processor. Elsewhere candle's own fused operations
/// serve where no gradient is wanted, which they do not have.
fn is_reference(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() != DType::BF16
}

/// Softmax over the last dimension, with a gradient, in f32 whatever x is.
pub(crate) fn softmax(x: &Tensor) -> Result<Tensor> {
    if !is_reference(x) {
        if !x.track_op() {
            return candle_nn::ops::softmax_last_dim(x);
        }
        return composed_softmax(&x.to_dtype(DType::F32)?)?.to_dtype(x.dtype());
    }
    composed_softmax(x)
}

/// The maximum is a constant to the gradient, as it may be.
fn composed_softmax(x: &Tensor) -> Result<Tensor> {
    let shifted = x.broadcast_sub(&x.detach().max_keepdim(D::Minus1)?)?.exp()?;
    shifted.broadcast_div(&shifted.sum_keepdim(D::Minus1)?)
}

/// Rows of probabilities that are formed at a time.
pub(crate) const ROWS: usize = 1024;

/// Multi-head attention over fused projections: [S, T, 3d] → ([S, T, d], class-token probabilities [S, T]).
///
/// The probabilities are the class token's, mean over heads, detached, f32; formed only where asked for. Of long inputs no
/// more than [`ROWS`] rows of the T × T probabilities are there at a time.
pub(crate) fn attention(qkv: &Tensor, heads: usize, want_class: bool) -> Result<(Tensor, Option<Tensor>)> {
    let (s, t, d3) = qkv.dims3()?;
    let (d, head) = (d3 / 3, d3 / 3 / heads);
    // [S, T, 3, heads, head] → three of [S, heads, T, head]
    let split = qkv.reshape((s, t, 3, heads, head))?.permute((2, 0, 3, 1, 4))?;
    let part = |i: usize| split.get(i)?.contiguous();
    let (q, k, v) = (part(0)?, part(1)?, part(2)?);
    let (mut parts, mut class) = (Vec::new(), None);
    for first in (0..t).step_by(ROWS) {
        let rows = ROWS.min(t - first);
        let q = if rows == t { q.clone() } else { q.narrow(2, first, rows)?.contiguous()? };
        let scores = (q.matmul(&k.t()?)? * (1.0 / (head as f64).sqrt()))?;
        let p = softmax(&scores)?; // [S, heads, rows, T]
        if want_class && first == 0 {
            let of_class = p.detach().narrow(2, 0, 1)?.to_dtype(DType::F32)?;
            class = Some(of_class.mean(1)?.reshape((s, t))?);
        }
        parts.push(p.matmul(&v)?);
    }
    let y = if parts.len() == 1 { parts.swap_remove(0) } else { Tensor::cat(&parts, 2)? };
    Ok((y.transpose(1, 2)?.reshape((s, t, d))?, class))
}
