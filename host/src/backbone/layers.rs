//! The transformer's layers in plain candle, all of them differentiable. They are the reference for the processor's kernels,
//! and what runs on a GPU, where cuBLAS gives the bf16 products that must not be rounded.
//!
//! Candle's fused softmax and layer norm silently drop the gradient, and the backward pass of its matmul also forms the
//! gradient of a frozen weight. These layers do neither.

use super::adapter::{Site, SiteAdapter};
use super::error::BackboneError;
use super::weights::Weights;
use crate::device::wide_product;
use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, D, DType, Device, Layout, Result, Shape, Storage, Tensor,
    bail,
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
    /// Takes `name.weight` [d_out, d_in] and `name.bias` [d_out].
    pub fn load(
        weights: &mut Weights,
        name: &str,
        d_in: usize,
        d_out: usize,
    ) -> std::result::Result<Self, BackboneError> {
        Self::load_with(weights, name, d_in, d_out, true)
    }

    /// The same. Without a bias it is zero.
    pub fn load_with(
        weights: &mut Weights,
        name: &str,
        d_in: usize,
        d_out: usize,
        bias: bool,
    ) -> std::result::Result<Self, BackboneError> {
        let weight = weights.take_matrix(&format!("{name}.weight"), &[d_out, d_in])?;
        let bias = match bias {
            true => weights.take(&format!("{name}.bias"), &[d_out])?,
            false => Tensor::zeros(d_out, DType::F32, &Device::Cpu)?,
        };
        Ok(Self { weight, bias })
    }

    /// Layers of `d_out` outputs each that read the same input, as a single layer: their outputs follow each other. Of each its
    /// name, and whether it has a bias.
    pub fn load_stacked(
        weights: &mut Weights,
        layers: &[(String, bool)],
        d_in: usize,
        d_out: usize,
    ) -> std::result::Result<Self, BackboneError> {
        let names: Vec<String> = layers.iter().map(|(name, _)| format!("{name}.weight")).collect();
        let weight = weights.take_rows(&names, &[d_out, d_in])?;
        let mut biases = Vec::new();
        for (name, bias) in layers {
            biases.push(match bias {
                true => weights.take(&format!("{name}.bias"), &[d_out])?,
                false => Tensor::zeros(d_out, DType::F32, &Device::Cpu)?,
            });
        }
        Ok(Self { weight, bias: Tensor::cat(&biases, 0)? })
    }

    pub fn bytes(&self) -> usize {
        bytes_of(&self.weight) + bytes_of(&self.bias)
    }

    /// The same on a device, weight and bias each in a type of number.
    pub fn to_device(&self, device: &Device, weight: DType, bias: DType) -> Result<Self> {
        Ok(Self {
            weight: self.weight.to_device(device)?.to_dtype(weight)?,
            bias: self.bias.to_device(device)?.to_dtype(bias)?,
        })
    }

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

fn bytes_of(t: &Tensor) -> usize {
    t.elem_count() * t.dtype().size_in_bytes()
}

/// A frozen layer and what the adapter adds to it: f32 where it goes into the tokens, else in the layer's type of number.
///
/// `input` [S, n, d_in] → [S, n, d_out].
pub(crate) fn adapted(
    linear: &Linear,
    input: &Tensor,
    site: Site,
    adapter: &dyn SiteAdapter,
) -> Result<Tensor> {
    let x = &input.to_dtype(linear.weight.dtype())?;
    let mut y = match site {
        Site::PatchEmbed | Site::AttentionOutput(_) => linear.forward_wide(x)?,
        Site::Qkv(_) => linear.forward(x)?,
    };
    if let Some(term) = adapter.low_rank(site) {
        let (s, t, d_in) = x.dims3()?;
        // The task's own tensors are f32, wherever they were read.
        let factor = |f: &Tensor| f.to_device(x.device())?.to_dtype(x.dtype())?.t();
        let low = (x.reshape((s * t, d_in))?.matmul(&factor(&term.a)?)? * term.scale)?; // [S·n, r]
        y = (&y + low.matmul(&factor(&term.b)?)?.reshape(y.shape())?.to_dtype(y.dtype())?)?;
    }
    if adapter.only_low_rank() {
        return Ok(y);
    }
    // A task's code sees f32, whatever the blocks compute in.
    let changed = adapter.apply(site, &input.to_dtype(DType::F32)?, y.to_dtype(DType::F32)?)?;
    changed.to_dtype(y.dtype())
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
    /// Takes `name.weight` [d] and `name.bias` [d].
    pub fn load(
        weights: &mut Weights,
        name: &str,
        d: usize,
        eps: f64,
    ) -> std::result::Result<Self, BackboneError> {
        let weight = weights.take(&format!("{name}.weight"), &[d])?;
        Ok(Self { weight, bias: weights.take(&format!("{name}.bias"), &[d])?, eps })
    }

    pub fn bytes(&self) -> usize {
        bytes_of(&self.weight) + bytes_of(&self.bias)
    }

    pub fn to_device(&self, device: &Device) -> Result<Self> {
        let (weight, bias) = (self.weight.to_device(device)?, self.bias.to_device(device)?);
        Ok(Self { weight, bias, eps: self.eps })
    }

    /// Of f32. On a GPU candle's fused operation, which has no gradient, serves where none is wanted.
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
/// The probabilities are token 0's, mean over heads, detached, f32; formed only where asked for.
#[cfg(test)]
pub(crate) fn attention(qkv: &Tensor, heads: usize, want_class: bool) -> Result<(Tensor, Option<Tensor>)> {
    let [q, k, v] = split_heads(qkv, heads)?;
    attend(&q, &k, &v, None, want_class)
}

/// Fused projections [S, T, 3d] → q, k and v, each [S, heads, T, d / heads].
///
/// A family with rotary positions calls this, rotates q and k (low-rank terms are inside already), then [`attend`].
pub(crate) fn split_heads(qkv: &Tensor, heads: usize) -> Result<[Tensor; 3]> {
    let (s, t, d3) = qkv.dims3()?;
    let split = qkv.reshape((s, t, 3, heads, d3 / 3 / heads))?.permute((2, 0, 3, 1, 4))?;
    let part = |i: usize| split.get(i)?.contiguous();
    Ok([part(0)?, part(1)?, part(2)?])
}

/// softmax(q kᵀ / √head) v of [S, heads, T, head] → ([S, T, d], class-token probabilities [S, T]).
///
/// `mask` [S, 1, 1, T] is added to the scores: -∞ for keys that nobody attends to.
///
/// Of long inputs no more than [`ROWS`] rows of the T × T probabilities exist at a time.
pub(crate) fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: Option<&Tensor>,
    want_class: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let (s, heads, t, head) = q.dims4()?;
    let (mut parts, mut class) = (Vec::new(), None);
    for first in (0..t).step_by(ROWS) {
        let rows = ROWS.min(t - first);
        let q = if rows == t { q.clone() } else { q.narrow(2, first, rows)?.contiguous()? };
        let scores = scores(&q, k)?;
        let scores = mask.map_or(Ok(scores.clone()), |mask| scores.broadcast_add(mask))?;
        let p = softmax(&scores)?; // [S, heads, rows, T]
        if want_class && first == 0 {
            let of_class = p.detach().narrow(2, 0, 1)?.to_dtype(DType::F32)?;
            class = Some(of_class.mean(1)?.reshape((s, t))?);
        }
        parts.push(p.to_dtype(v.dtype())?.matmul(v)?);
    }
    let y = if parts.len() == 1 { parts.swap_remove(0) } else { Tensor::cat(&parts, 2)? };
    Ok((y.transpose(1, 2)?.reshape((s, t, heads * head))?, class))
}
