//! Linear interpolation along the last three axes, edges aligned, with a gradient: candle's has none.
//!
//! Along an axis, interpolation is a product with a constant matrix that has two numbers per row. The gradient is the
//! product with its transpose. The code computes both from these two numbers.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, WithDType, bail};
use rayon::prelude::*;

/// `[…, D, H, W]` to `[…, d, h, w]`: PyTorch's `interpolate(mode="trilinear", align_corners=False)`, without
/// antialiasing where it shrinks.
pub fn resize_linear(x: &Tensor, size: [usize; 3]) -> Result<Tensor> {
    let Some(lead) = x.rank().checked_sub(3) else {
        bail!("resize_linear: {:?} has fewer than three axes", x.dims())
    };
    if x.elem_count() == 0 || size.contains(&0) {
        bail!("resize_linear: {:?} to {size:?}", x.dims())
    }
    let mut dims = x.dims().to_vec();
    dims[lead..].copy_from_slice(&size);
    super::ops::affordable(&dims)?;
    let mut out = x.contiguous()?;
    // Axes that grow go last, so that what is between stays small.
    let mut order = [0, 1, 2].map(|i| (size[i] as f64 / x.dims()[lead + i] as f64, lead + i, size[i]));
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (_, axis, to) in order {
        let from = out.dims()[axis];
        if from != to {
            out = match x.device().is_cpu() {
                true => out.apply_op1(Axis { axis, from, to, transposed: false })?,
                false => by_product(&out, axis, to)?,
            };
        }
    }
    Ok(out)
}

/// [`resize_linear`] of one axis without the kernels of this room.
#[cfg(test)]
pub fn resized_by_product(x: &Tensor, axis: usize, to: usize) -> Result<Tensor> {
    by_product(x, axis, to)
}

/// One axis from operations with gradients of their own, for devices without kernels here: a product with the matrix.
fn by_product(x: &Tensor, axis: usize, to: usize) -> Result<Tensor> {
    let (from, last) = (x.dim(axis)?, x.rank() - 1);
    let mut matrix = vec![0f64; from * to];
    for (i, (a, b, v)) in taps(from, to).into_iter().enumerate() {
        matrix[a * to + i] += 1.0 - v;
        matrix[b * to + i] += v;
    }
    let matrix = Tensor::from_vec(matrix, (from, to), x.device())?.to_dtype(x.dtype())?;
    let moved = x.transpose(axis, last)?.contiguous()?;
    let mut dims = moved.dims().to_vec();
    dims[last] = to;
    let rows = moved.elem_count() / from;
    moved.reshape((rows, from))?.matmul(&matrix)?.reshape(dims)?.transpose(axis, last)?.contiguous()
}

/// One axis.
#[derive(Debug, Clone, Copy)]
struct Axis {
    axis: usize,
    from: usize,
    to: usize,
    /// From the gradient of the output to that of the input.
    transposed: bool,
}

/// For each of `to` samples the two of `from` around it, and how far it is to the second.
fn taps(from: usize, to: usize) -> Vec<(usize, usize, f64)> {
    (0..to)
        .map(|i| {
            let at = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).clamp(0.0, (from - 1) as f64);
            let below = at as usize;
            (below, (below + 1).min(from - 1), at - below as f64)
        })
        .collect()
}

impl Axis {
    /// `[outer, from, inner]` to `[outer, to, inner]`, or back.
    fn compute<T>(&self, x: &[T], inner: usize) -> Vec<T>
    where
        T: WithDType + std::ops::Mul<Output = T> + std::ops::Add<Output = T>,
    {
        let taps: Vec<(usize, usize, T, T)> = taps(self.from, self.to)
            .into_iter()
            .map(|(a, b, v)| (a * inner, b * inner, T::from_f64(1.0 - v), T::from_f64(v)))
            .collect();
        let (read, written) = if self.transposed { (self.to, self.from) } else { (self.from, self.to) };
        let mut out = vec![T::zero(); x.len() / read * written];
        out.par_chunks_mut(written * inner).zip(x.par_chunks_exact(read * inner)).for_each(|(out, x)| {
            for (i, &(a, b, u, v)) in taps.iter().enumerate() {
                if self.transposed {
                    for j in 0..inner {
                        let g = x[i * inner + j];
                        out[a + j] += g * u;
                        out[b + j] += g * v;
                    }
                } else {
                    let (x, y) = (&x[a..a + inner], &x[b..b + inner]);
                    for ((out, &x), &y) in out[i * inner..][..inner].iter_mut().zip(x).zip(y) {
                        *out = x * u + y * v;
                    }
                }
            }
        });
        out
    }
}

impl CustomOp1 for Axis {
    fn name(&self) -> &'static str {
        "resize_linear"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("resize_linear: expected a contiguous tensor")
        };
        let mut dims = layout.dims().to_vec();
        let inner = dims[self.axis + 1..].iter().product();
        dims[self.axis] = if self.transposed { self.from } else { self.to };
        let values = match storage {
            CpuStorage::F32(x) => CpuStorage::F32(self.compute(&x[start..end], inner)),
            CpuStorage::F64(x) => CpuStorage::F64(self.compute(&x[start..end], inner)),
            _ => bail!("resize_linear: the tensor must be f32 or f64"),
        };
        Ok((values, dims.into()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        if self.transposed {
            bail!("resize_linear: no gradient of a gradient")
        }
        let back = Self { transposed: true, ..*self };
        Ok(Some(g.contiguous()?.apply_op1_no_bwd(&back)?))
    }
}
