//! The transformer's operations in plain candle, all of them differentiable: the reference for the kernels, and on a GPU the
//! way itself, where bf16 products that must not be rounded are cuBLAS's own.
//!
//! Candle's own fused softmax and layer norms have no gradient and say nothing, and its matmul
//! backward also forms the gradient of a frozen weight; hence these.

use crate::device::wide_product;
use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, D, DType, Layout, Result, Shape, Storage, Tensor, bail,
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
    /// [.., d_in] → [.., d_out], in the numbers of x.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let product = FrozenMatmul { weight: self.weight.clone(), wide: false };
        x.contiguous()?.apply_op1(product)?.broadcast_add(&self.bias.to_dtype(x.dtype())?)
    }

    /// The same in f32, not rounded in between where the device can do without.
    pub fn forward_wide(&self, x: &Tensor) -> Result<Tensor> {
        if !is_narrow_on_gpu(x) {
            return self.forward(x)?.to_dtype(DType::F32);
        }
        let product = FrozenMatmul { weight: self.weight.clone(), wide: true };
        x.contiguous()?.apply_op1(product)?.broadcast_add(&self.bias.to_dtype(DType::F32)?)
    }
}

/// Whether [`wide_product`] takes it.
fn is_narrow_on_gpu(x: &Tensor) -> bool {
    x.device().is_cuda() && x.dtype() == DType::BF16
}

/// x Wᵀ whose backward is for x alone.
struct FrozenMatmul {
    weight: Tensor,
    /// Of bf16, on a GPU: the product is f32.
    wide: bool,
}

impl FrozenMatmul {
    /// Rows of x, and the product's shape.
    fn sizes(&self, x: &Layout) -> Result<(usize, Shape)> {
        let (d_out, d_in) = self.weight.dims2()?;
        let mut dims = x.dims().to_vec();
        if dims.pop() != Some(d_in) {
            bail!("a linear layer of {d_in} inputs was given {:?}", x.dims());
        }
        dims.push(d_out);
        Ok((x.shape().elem_count() / d_in, dims.into()))
    }

    /// On whatever device both lie.
    fn product<S: BackendStorage>(
        &self,
        x: &S,
        layout: &Layout,
        weight: &S,
        weight_layout: &Layout,
    ) -> Result<(S, Shape)> {
        let ((d_out, d_in), (rows, shape)) = (self.weight.dims2()?, self.sizes(layout)?);
        let flat = Layout::contiguous_with_offset((rows, d_in), layout.start_offset());
        Ok((x.matmul(weight, (1, rows, d_out, d_in), &flat, weight_layout)?, shape))
    }
}

impl CustomOp1 for FrozenMatmul {
    fn name(&self) -> &'static str {
        "frozen-matmul"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let transposed = self.weight.t()?;
        let (weight, weight_layout) = transposed.storage_and_layout();
        let Storage::Cpu(weight) = &*weight else { bail!("the frozen weights are not on the processor") };
        self.product(x, layout, weight, weight_layout)
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let seen = if self.wide { self.weight.clone() } else { self.weight.t()? };
        let (weight, weight_layout) = seen.storage_and_layout();
        let Storage::Cuda(weight) = &*weight else { bail!("the frozen weights are not on the GPU") };
        if !self.wide {
            return self.product(x, layout, weight, weight_layout);
        }
        let ((d_out, d_in), (rows, shape)) = (self.weight.dims2()?, self.sizes(layout)?);
        Ok((wide_product((x, layout), (weight, weight_layout), [1, rows, d_out, d_in], 1.0)?, shape))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (d_out, _) = self.weight.dims2()?;
        let rows = grad.elem_count() / d_out;
        let grad = grad.to_dtype(x.dtype())?.reshape((rows, d_out))?;
        Ok(Some(grad.matmul(&self.weight)?.reshape(x.shape())?))
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
    /// Of f32. On a GPU candle's own fused operation serves where no gradient is wanted, which it does not have.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if !x.device().is_cpu() && !x.track_op() {
            return candle_nn::ops::layer_norm(&x.contiguous()?, &self.weight, &self.bias, self.eps as f32);
        }
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?;
        centred.broadcast_div(&deviation)?.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }
}

/// q kᵀ / √head of [S, heads, rows, head] and [S, heads, T, head], in f32: an exponential makes of what bf16 rounds away from a
/// score of 20 a tenth of its probability.
fn scores(q: &Tensor, k: &Tensor) -> Result<Tensor> {
    let scale = 1.0 / (q.dim(D::Minus1)? as f64).sqrt();
    if is_narrow_on_gpu(q) {
        return q.apply_op2(k, Scores { scale });
    }
    let full = |t: &Tensor| t.to_dtype(DType::F32);
    full(q)?.matmul(&full(k)?.t()?)? * scale
}

/// [`scores`] of bf16 on a GPU.
struct Scores {
    scale: f64,
}

impl CustomOp2 for Scores {
    fn name(&self) -> &'static str {
        "attention-scores"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("scores are computed so on a GPU alone")
    }

    fn cuda_fwd(
        &self,
        q: &CudaStorage,
        of_q: &Layout,
        k: &CudaStorage,
        of_k: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (s, heads, rows, head) = of_q.shape().dims4()?;
        let t = of_k.dims()[2];
        let y = wide_product((q, of_q), (k, of_k), [s * heads, rows, t, head], self.scale as f32)?;
        Ok((y, (s, heads, rows, t).into()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = (grad * self.scale)?.to_dtype(q.dtype())?;
        Ok((Some(grad.matmul(k)?), Some(grad.t()?.contiguous()?.matmul(q)?)))
    }
}

/// Softmax over the last dimension of f32, with a gradient. On a GPU candle's own fused operation serves where none is wanted.
pub(crate) fn softmax(x: &Tensor) -> Result<Tensor> {
    if !x.device().is_cpu() && !x.track_op() {
        return candle_nn::ops::softmax_last_dim(x);
    }
    // The maximum is a constant to the gradient, as it may be.
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
        let p = softmax(&scores(&q, &k)?)?; // [S, heads, rows, T]
        if want_class && first == 0 {
            let of_class = p.detach().narrow(2, 0, 1)?.to_dtype(DType::F32)?;
            class = Some(of_class.mean(1)?.reshape((s, t))?);
        }
        parts.push(p.to_dtype(v.dtype())?.matmul(&v)?);
    }
    let y = if parts.len() == 1 { parts.swap_remove(0) } else { Tensor::cat(&parts, 2)? };
    Ok((y.transpose(1, 2)?.reshape((s, t, d))?, class))
}
