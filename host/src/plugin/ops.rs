//! The operations of the table, on candle tensors. Each has a numerically tested gradient, or refuses a backward
//! pass with an error; none drops the gradient silently.
//!
//! Candle 0.11's softmax, layer norm and comparisons drop the gradient silently; no operation here uses them where
//! a gradient must pass.

use super::smooth::Smooth;
use anymc3d_plugin_api::abi::types::{BinaryOp, ReduceOp, UnaryOp};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};

/// The operations that refuse a backward pass.
pub const WITHOUT_GRADIENT: &[&str] =
    &["sign", "floor", "round", "greater", "greater_equal", "equal", "argmax"];

/// An absurd shape is an error; tried, it would be an allocation that ends the process. The bound is 64 GiB of f64.
pub fn affordable(dims: &[usize]) -> Result<()> {
    match dims.iter().try_fold(8usize, |n, &d| n.checked_mul(d)) {
        Some(bytes) if bytes <= 1 << 36 => Ok(()),
        _ => bail!("a tensor of shape {dims:?} is too large"),
    }
}

/// `value`, with the gradient of `Σ parts · derivative` where each part is a tensor and its derivative.
///
/// The added terms are exactly zero, so the value does not change; the derivative must be finite.
fn with_gradient(value: Tensor, x: &Tensor, derivative: &Tensor) -> Result<Tensor> {
    value.detach().add(&(x - x.detach())?.mul(&derivative.detach())?)
}

/// Stands in the graph after an operation without a gradient and refuses to be passed backwards.
struct NoGradient(&'static str);

impl CustomOp2 for NoGradient {
    fn name(&self) -> &'static str {
        self.0
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        value: &CpuStorage,
        layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        if layout.start_offset() != 0 || !layout.is_contiguous() {
            bail!("{}: expected a contiguous value", self.0)
        }
        Ok((value.clone(), layout.shape().clone()))
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        value: &CudaStorage,
        layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        if layout.start_offset() != 0 || !layout.is_contiguous() {
            bail!("{}: expected a contiguous value", self.0)
        }
        Ok((value.try_clone(layout)?, layout.shape().clone()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        bail!("op `{}` has no gradient; detach its result if none is meant", self.0)
    }
}

fn refuse_gradient(name: &'static str, x: &Tensor, value: Tensor) -> Result<Tensor> {
    x.apply_op2(&value.detach().force_contiguous()?, NoGradient(name))
}

/// Whether the processor computes it: other devices have candle's own kernels.
fn host(x: &Tensor) -> bool {
    x.device().is_cpu()
}

/// One tensor, element by element.
pub fn unary(op: UnaryOp, x: &Tensor) -> Result<Tensor> {
    match op {
        UnaryOp::NEG => x.neg(),
        UnaryOp::EXP => x.exp(),
        UnaryOp::LOG => x.log(),
        UnaryOp::SQRT => x.sqrt(),
        UnaryOp::SQUARE => x.sqr(),
        UnaryOp::ABS => with_gradient(x.abs()?, x, &x.sign()?),
        UnaryOp::RECIP => x.recip(),
        UnaryOp::RELU => x.relu(),
        UnaryOp::GELU if host(x) => Smooth::Gelu.of(x),
        UnaryOp::GELU => x.gelu_erf(),
        UnaryOp::SILU => x.mul(&sigmoid(x)?),
        UnaryOp::SIGMOID => sigmoid(x),
        UnaryOp::TANH => x.tanh(),
        UnaryOp::SOFTPLUS if host(x) => Smooth::Softplus.of(x),
        UnaryOp::SOFTPLUS => {
            // max(x, 0) + ln(1 + e^-|x|); its derivative is the sigmoid, also at 0 where the pieces have none
            let value = (x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?)?;
            with_gradient(value, x, &sigmoid(&x.detach())?)
        }
        UnaryOp::SIGN => refuse_gradient(op.name(), x, x.sign()?),
        UnaryOp::FLOOR => refuse_gradient(op.name(), x, x.floor()?),
        UnaryOp::ROUND => refuse_gradient(op.name(), x, x.round()?),
        _ => bail!("unary operation {} is unknown", op.0),
    }
}

/// `1 / (1 + e^-x)` as `(1 + tanh(x / 2)) / 2`, which cannot overflow.
fn sigmoid(x: &Tensor) -> Result<Tensor> {
    if host(x) {
        return Smooth::Sigmoid.of(x);
    }
    (x * 0.5)?.tanh()?.affine(0.5, 0.5)
}

/// Two tensors, broadcast, element by element.
pub fn binary(op: BinaryOp, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    affordable(a.shape().broadcast_shape_binary_op(b.shape(), op.name())?.dims())?;
    let compare = |value: Tensor| -> Result<Tensor> {
        // Both inputs stand before the refusal, whichever of them is on the way of a gradient.
        refuse_gradient(op.name(), &a.broadcast_add(b)?, value.to_dtype(a.dtype())?)
    };
    match op {
        BinaryOp::ADD => a.broadcast_add(b),
        BinaryOp::SUB => a.broadcast_sub(b),
        BinaryOp::MUL => a.broadcast_mul(b),
        BinaryOp::DIV => a.broadcast_div(b),
        BinaryOp::MAXIMUM | BinaryOp::MINIMUM => {
            let shape = a.shape().broadcast_shape_binary_op(b.shape(), op.name())?;
            let (a, b) = (a.broadcast_as(&shape)?, b.broadcast_as(&shape)?);
            let larger = a.ge(&b)?.to_dtype(a.dtype())?;
            let smaller = a.le(&b)?.to_dtype(a.dtype())?;
            // 1 where one is chosen, 1/2 each where both are
            let (of_a, of_b) = if op == BinaryOp::MAXIMUM { (larger, smaller) } else { (smaller, larger) };
            let total = (&of_a + &of_b)?;
            (a.mul(&of_a.div(&total)?)? + b.mul(&of_b.div(&total)?)?)?.contiguous()
        }
        BinaryOp::GREATER => compare(a.broadcast_gt(b)?),
        BinaryOp::GREATER_EQUAL => compare(a.broadcast_ge(b)?),
        BinaryOp::EQUAL => compare(a.broadcast_eq(b)?),
        _ => bail!("binary operation {} is unknown", op.0),
    }
}

/// One axis to length 1.
pub fn reduce(op: ReduceOp, x: &Tensor, axis: usize) -> Result<Tensor> {
    if axis >= x.rank() {
        bail!("{}: no axis {axis} in {:?}", op.name(), x.dims())
    }
    if x.dim(axis)? == 0 {
        bail!("{}: axis {axis} of {:?} is empty", op.name(), x.dims())
    }
    match op {
        ReduceOp::SUM => x.sum_keepdim(axis),
        ReduceOp::MEAN => x.mean_keepdim(axis),
        ReduceOp::MAX => extreme(x, axis, x.detach().max_keepdim(axis)?),
        ReduceOp::MIN => extreme(x, axis, x.detach().min_keepdim(axis)?),
        ReduceOp::MEDIAN => median(x, axis),
        ReduceOp::ARGMAX => {
            let value = x.detach().argmax_keepdim(axis)?.to_dtype(x.dtype())?;
            refuse_gradient(op.name(), &x.sum_keepdim(axis)?, value)
        }
        _ => bail!("reduction {} is unknown", op.0),
    }
}

/// Ties share the gradient evenly.
fn extreme(x: &Tensor, axis: usize, value: Tensor) -> Result<Tensor> {
    let hits = x.detach().broadcast_eq(&value)?.to_dtype(x.dtype())?;
    let share = hits.broadcast_div(&hits.sum_keepdim(axis)?)?;
    let zero = ((x - x.detach())? * share)?.sum_keepdim(axis)?;
    value + zero
}

/// The lower median, as PyTorch's; the gradient goes to the element chosen.
fn median(x: &Tensor, axis: usize) -> Result<Tensor> {
    let last = x.rank() - 1;
    let moved = x.transpose(axis, last)?.contiguous()?;
    let order = moved.detach().arg_sort_last_dim(true)?;
    let middle = order.narrow(last, (x.dim(axis)? - 1) / 2, 1)?.contiguous()?;
    moved.gather(&middle, last)?.transpose(axis, last)?.contiguous()
}

/// Softmax over one axis, from parts that have gradients.
pub fn softmax(x: &Tensor, axis: usize) -> Result<Tensor> {
    if axis >= x.rank() {
        bail!("softmax: no axis {axis} in {:?}", x.dims())
    }
    let e = x.broadcast_sub(&x.detach().max_keepdim(axis)?)?.exp()?;
    e.broadcast_div(&e.sum_keepdim(axis)?)
}

/// Logarithm of the softmax over one axis.
pub fn log_softmax(x: &Tensor, axis: usize) -> Result<Tensor> {
    if axis >= x.rank() {
        bail!("log_softmax: no axis {axis} in {:?}", x.dims())
    }
    let shifted = x.broadcast_sub(&x.detach().max_keepdim(axis)?)?;
    shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(axis)?.log()?)
}

/// Layer norm over the last axis, from parts that have gradients.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    let Some(last) = x.rank().checked_sub(1) else { bail!("layer_norm: a tensor without axes") };
    let n = x.dim(last)?;
    if weight.dims() != [n] || bias.dims() != [n] {
        bail!("layer_norm: expected weight and bias [{n}], found {:?} and {:?}", weight.dims(), bias.dims())
    }
    let centred = x.broadcast_sub(&x.mean_keepdim(last)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(last)? + epsilon)?.sqrt()?;
    centred.broadcast_div(&deviation)?.broadcast_mul(weight)?.broadcast_add(bias)
}

/// Matrix product over the last two axes, leading axes broadcast.
pub fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.rank() < 2 || b.rank() < 2 || a.dim(a.rank() - 1)? != b.dim(b.rank() - 2)? {
        bail!("matmul: {:?} times {:?}", a.dims(), b.dims())
    }
    let lead = |t: &Tensor| candle_core::Shape::from(&t.dims()[..t.rank() - 2]);
    let mut product = lead(a).broadcast_shape_binary_op(&lead(b), "matmul")?.into_dims();
    product.extend([a.dim(a.rank() - 2)?, b.dim(b.rank() - 1)?]);
    affordable(&product)?;
    a.contiguous()?.broadcast_matmul(&b.contiguous()?)
}

/// `min(max(x, low), high)` with gradient 1 inside and on the bounds, 0 outside.
pub fn clamp(x: &Tensor, low: f64, high: f64) -> Result<Tensor> {
    if low.is_nan() || high.is_nan() || low > high {
        bail!("clamp: low {low} is above high {high}")
    }
    let inside = (x.ge(low)?.to_dtype(x.dtype())? * x.le(high)?.to_dtype(x.dtype())?)?;
    with_gradient(x.detach().clamp(low, high)?, x, &inside)
}

/// `x ^ exponent`.
pub fn power(x: &Tensor, exponent: f64) -> Result<Tensor> {
    if exponent == 0.0 {
        return x.ones_like();
    }
    x.powf(exponent)
}

/// Axes in another order.
pub fn permute(x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    if sorted != (0..x.rank()).collect::<Vec<_>>() {
        bail!("permute: {axes:?} is not an order of the axes of {:?}", x.dims())
    }
    x.permute(axes)?.contiguous()
}

/// Elements of an axis by index.
pub fn index_select(x: &Tensor, axis: usize, indices: &[u64]) -> Result<Tensor> {
    if axis >= x.rank() {
        bail!("index_select: no axis {axis} in {:?}", x.dims())
    }
    let n = x.dim(axis)? as u64;
    if let Some(bad) = indices.iter().find(|&&i| i >= n) {
        bail!("index_select: index {bad} beyond axis {axis} of {:?}", x.dims())
    }
    let mut dims = x.dims().to_vec();
    dims[axis] = indices.len();
    affordable(&dims)?;
    let indices: Vec<u32> = indices.iter().map(|&i| i as u32).collect();
    let indices = Tensor::new(indices, x.device())?;
    x.contiguous()?.index_select(&indices, axis)
}

/// A range of one axis.
pub fn narrow(x: &Tensor, axis: usize, start: usize, length: usize) -> Result<Tensor> {
    if axis >= x.rank() || start.checked_add(length).is_none_or(|end| end > x.dims()[axis]) {
        bail!("narrow: {start}..+{length} leaves axis {axis} of {:?}", x.dims())
    }
    x.narrow(axis, start, length)?.contiguous()
}

/// Tensors one after the other.
pub fn concat(tensors: &[Tensor], axis: usize) -> Result<Tensor> {
    match tensors.first() {
        None => bail!("concat: no tensors"),
        Some(first) if axis >= first.rank() => bail!("concat: no axis {axis} in {:?}", first.dims()),
        Some(_) => Tensor::cat(tensors, axis),
    }
}

/// Repeated along axes of length 1 and new leading axes.
pub fn broadcast_to(x: &Tensor, dims: &[usize]) -> Result<Tensor> {
    affordable(dims)?;
    x.broadcast_as(dims)?.contiguous()
}

/// The same elements in another shape.
pub fn reshape(x: &Tensor, dims: &[usize]) -> Result<Tensor> {
    let wanted: Option<usize> = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if wanted != Some(x.elem_count()) {
        bail!("reshape: {:?} has {} elements, {dims:?} has not", x.dims(), x.elem_count())
    }
    x.reshape(dims)
}

/// All elements in row-major order, as f32.
pub fn read(x: &Tensor) -> Result<Vec<f32>> {
    x.detach().flatten_all()?.to_dtype(DType::F32)?.to_vec1()
}
