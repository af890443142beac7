//! 3D convolution with a gradient: candle has none.
//!
//! Forward pass, input gradient and weight gradient are correlations over a zero-padded copy of their input, in which a
//! kernel tap is a constant offset. No patches are copied out, so the memory is that of input and output. A stride is
//! computed with stride 1 and then subsampled; it costs as much as stride 1.

#[allow(unsafe_code)]
mod kernel;
#[allow(unsafe_code)]
mod lanes;
mod padded;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, WithDType, bail};
use kernel::{Kernel, Number, PAIR, Pairs, Run};
use padded::Padded;
use rayon::prelude::*;

/// Correlation of `[N, C, D, H, W]`, or `[C, D, H, W]`, with kernels `[O, C, kD, kH, kW]`: what PyTorch's `conv3d` is,
/// without bias, dilation and groups. Zeros are padded on both ends of an axis.
pub fn conv3d(x: &Tensor, weight: &Tensor, stride: [usize; 3], padding: [usize; 3]) -> Result<Tensor> {
    if x.rank() == 4 {
        return conv3d(&x.unsqueeze(0)?, weight, stride, padding)?.squeeze(0);
    }
    let sizes = Sizes::new(x.dims(), weight.dims(), stride, padding)?;
    let out = sizes.output();
    super::ops::affordable(&[sizes.batch, sizes.outputs, out[0], out[1], out[2]])?;
    let within = sizes.padded().iter().try_fold(sizes.channels, |n, &d| n.checked_mul(d));
    super::ops::affordable(&[within.unwrap_or(usize::MAX)])?;
    if !x.device().is_cpu() {
        return shifted(x, weight, &sizes);
    }
    let part = Part::Output;
    x.contiguous()?.apply_op2(&weight.contiguous()?, Correlation { sizes, part })
}

/// [`conv3d`] without the kernels of this room.
#[cfg(test)]
pub fn shifted_conv3d(
    x: &Tensor,
    weight: &Tensor,
    stride: [usize; 3],
    padding: [usize; 3],
) -> Result<Tensor> {
    shifted(x, weight, &Sizes::new(x.dims(), weight.dims(), stride, padding)?)
}

/// What a convolution is of; depth, height, width.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    batch: usize,
    channels: usize,
    outputs: usize,
    input: [usize; 3],
    kernel: [usize; 3],
    stride: [usize; 3],
    padding: [usize; 3],
}

impl Sizes {
    fn new(x: &[usize], weight: &[usize], stride: [usize; 3], padding: [usize; 3]) -> Result<Self> {
        let (&[batch, channels, d, h, w], &[outputs, inputs, kd, kh, kw]) = (x, weight) else {
            bail!(
                "conv3d: input {x:?} and weight {weight:?}, expected [N, C, D, H, W] and [O, C, kD, kH, kW]"
            )
        };
        let (input, kernel) = ([d, h, w], [kd, kh, kw]);
        if channels != inputs || channels * batch * outputs == 0 {
            bail!("conv3d: input {x:?} with weight {weight:?}")
        }
        let fits = (0..3).all(|i| {
            let padded = padding[i].checked_mul(2).and_then(|p| p.checked_add(input[i]));
            kernel[i] > 0 && stride[i] > 0 && input[i] > 0 && padded.is_some_and(|n| n >= kernel[i])
        });
        if !fits {
            bail!(
                "conv3d: a kernel of {kernel:?} with stride {stride:?} and padding {padding:?} does not fit {input:?}"
            )
        }
        Ok(Self { batch, channels, outputs, input, kernel, stride, padding })
    }

    fn padded(&self) -> [usize; 3] {
        std::array::from_fn(|i| self.input[i].saturating_add(2 * self.padding[i]))
    }

    /// With a stride of 1.
    fn dense(&self) -> [usize; 3] {
        let padded = self.padded();
        std::array::from_fn(|i| padded[i] - self.kernel[i] + 1)
    }

    fn output(&self) -> [usize; 3] {
        let dense = self.dense();
        std::array::from_fn(|i| (dense[i] - 1) / self.stride[i] + 1)
    }

    fn taps(&self) -> usize {
        self.kernel.iter().product()
    }
}

fn volume(dims: [usize; 3]) -> usize {
    dims.iter().product()
}

/// The same from operations with gradients of their own, for devices without kernels here: one product per tap.
fn shifted(x: &Tensor, weight: &Tensor, sizes: &Sizes) -> Result<Tensor> {
    let Sizes { batch, channels, outputs, stride, padding, kernel, .. } = *sizes;
    let mut padded = x.clone();
    for (axis, &padding) in padding.iter().enumerate() {
        padded = padded.pad_with_zeros(axis + 2, padding, padding)?;
    }
    let dense = sizes.dense();
    let mut sum: Option<Tensor> = None;
    for tap in 0..sizes.taps() {
        let at = [tap / (kernel[1] * kernel[2]), tap / kernel[2] % kernel[1], tap % kernel[2]];
        let mut part = padded.clone();
        for axis in 0..3 {
            part = part.narrow(axis + 2, at[axis], dense[axis])?;
        }
        let part = part.reshape((batch, channels, volume(dense)))?;
        let one = weight.narrow(2, at[0], 1)?.narrow(3, at[1], 1)?.narrow(4, at[2], 1)?;
        let product = one.reshape((outputs, channels))?.broadcast_matmul(&part)?;
        sum = Some(match sum {
            Some(sum) => (sum + product)?,
            None => product,
        });
    }
    let Some(sum) = sum else { bail!("conv3d: a kernel without taps") };
    let mut out = sum.reshape((batch, outputs, dense[0], dense[1], dense[2]))?;
    for axis in 0..3 {
        if stride[axis] > 1 {
            let kept: Vec<u32> = (0..dense[axis] as u32).step_by(stride[axis]).collect();
            out = out.contiguous()?.index_select(&Tensor::new(kept, x.device())?, axis + 2)?;
        }
    }
    Ok(out)
}

/// Every correlation there is: `[C, …]` padded, with `weights[o][c][k]`, to `[O, …]` without the kernel's extent.
fn correlate<T: Number>(
    x: &Padded<T>,
    weights: impl Fn(usize, usize, usize) -> T,
    outputs: usize,
    kernel: [usize; 3],
) -> Vec<T> {
    let loops: Kernel<T> = T::kernel();
    let (block, offsets) = (loops.outputs(), x.offsets(kernel));
    let [d, h, w]: [usize; 3] = std::array::from_fn(|i| x.dims[i] - kernel[i] + 1);
    let blocks = outputs.div_ceil(block);
    // [block of outputs][C][K][output], zeros beyond the last output
    let mut packed = vec![T::default(); blocks * x.channels * offsets.len() * block];
    for (i, value) in packed.iter_mut().enumerate() {
        let (rest, o) = (i / block, i % block);
        let (rest, k) = (rest / offsets.len(), rest % offsets.len());
        let (b, c) = (rest / x.channels, rest % x.channels);
        if b * block + o < outputs {
            *value = weights(b * block + o, c, k);
        }
    }
    let pitch = x.dims[2];
    let positions = x.positions([1, h, w]);
    // Planes are computed apart from each other, [D][O][H][W], and put in order at the end.
    let mut planes = vec![T::default(); d * outputs * h * w];
    planes.par_chunks_mut(outputs * h * w).enumerate().for_each(|(z, plane)| {
        let mut sums = vec![T::default(); block * positions];
        for (b, weights) in packed.chunks_exact(x.channels * offsets.len() * block).enumerate() {
            let run = Run {
                x: &x.values[z * x.dims[1] * pitch..],
                pitch: x.pitch,
                channels: x.channels,
                offsets: &offsets,
                weights,
                positions,
            };
            loops.run(&run, &mut sums);
            for (o, sums) in sums.chunks_exact(positions).enumerate().take(outputs - b * block) {
                let to = &mut plane[(b * block + o) * h * w..][..h * w];
                for (to, from) in to.chunks_exact_mut(w).zip(sums.chunks(pitch)) {
                    to.copy_from_slice(&from[..w]);
                }
            }
        }
    });
    let mut out = Vec::with_capacity(planes.len());
    for o in 0..outputs {
        for z in 0..d {
            out.extend_from_slice(&planes[(z * outputs + o) * h * w..][..h * w]);
        }
    }
    out
}

/// `[O, C, K]`: how much each weight changes `Σ g · out`.
fn weight_gradient<T: Number>(x: &Padded<T>, g: &Padded<T>, sizes: &Sizes) -> Vec<T> {
    let loops: Kernel<T> = T::kernel();
    let (offsets, taps) = (x.offsets(sizes.kernel), sizes.taps());
    let positions = x.positions(sizes.dense());
    let (across, down) = (sizes.channels.div_ceil(PAIR), sizes.outputs.div_ceil(PAIR));
    let blocks: Vec<Vec<T>> = (0..down * across)
        .into_par_iter()
        .map(|i| {
            let mut sums = vec![T::default(); taps * PAIR * PAIR];
            let task = Pairs {
                g: &g.values[i / across * PAIR * g.pitch..],
                g_pitch: g.pitch,
                x: &x.values[i % across * PAIR * x.pitch..],
                x_pitch: x.pitch,
                offsets: &offsets,
                positions,
            };
            loops.pairs(&task, &mut sums);
            sums
        })
        .collect();
    let mut out = Vec::with_capacity(sizes.outputs * sizes.channels * taps);
    for o in 0..sizes.outputs {
        for c in 0..sizes.channels {
            let block = &blocks[o / PAIR * across + c / PAIR];
            out.extend((0..taps).map(|k| block[(k * PAIR + o % PAIR) * PAIR + c % PAIR]));
        }
    }
    out
}

/// One case of the batch, padded for the forward pass and for the weight gradient.
fn padded_input<T: Number>(x: &[T], sizes: &Sizes) -> Padded<T> {
    let shift = sizes.padding.map(|p| p as isize);
    Padded::new(x, sizes.channels, sizes.input, sizes.padded(), shift, [1; 3])
}

fn forward<T: Number>(x: &[T], weight: &[T], sizes: &Sizes) -> Vec<T> {
    let (taps, dense, output) = (sizes.taps(), sizes.dense(), sizes.output());
    let mut out = Vec::with_capacity(sizes.batch * sizes.outputs * volume(output));
    for x in x.chunks_exact(sizes.channels * volume(sizes.input)) {
        let weights = |o, c, k| weight[(o * sizes.channels + c) * taps + k];
        let all = correlate(&padded_input(x, sizes), weights, sizes.outputs, sizes.kernel);
        if sizes.stride == [1; 3] {
            out.extend(all);
            continue;
        }
        for all in all.chunks_exact(volume(dense)) {
            for d in 0..output[0] {
                for h in 0..output[1] {
                    let row = (d * sizes.stride[0] * dense[1] + h * sizes.stride[1]) * dense[2];
                    out.extend((0..output[2]).map(|w| all[row + w * sizes.stride[2]]));
                }
            }
        }
    }
    out
}

/// The gradient of the input: the gradient of the output, correlated with the kernels turned round.
fn input_gradient<T: Number>(g: &[T], weight: &[T], sizes: &Sizes) -> Vec<T> {
    let taps = sizes.taps();
    let dims = std::array::from_fn(|i| sizes.input[i] + sizes.kernel[i] - 1);
    let shift = std::array::from_fn(|i| sizes.kernel[i] as isize - 1 - sizes.padding[i] as isize);
    let mut out = Vec::with_capacity(sizes.batch * sizes.channels * volume(sizes.input));
    for g in g.chunks_exact(sizes.outputs * volume(sizes.output())) {
        let g = Padded::new(g, sizes.outputs, sizes.output(), dims, shift, sizes.stride);
        let weights = |c, o, k| weight[(o * sizes.channels + c) * taps + taps - 1 - k];
        out.extend(correlate(&g, weights, sizes.channels, sizes.kernel));
    }
    out
}

/// The gradient of the kernels, summed over the batch.
fn kernel_gradient<T: Number>(x: &[T], g: &[T], sizes: &Sizes) -> Vec<T> {
    let (padded, dense) = (sizes.padded(), sizes.dense());
    let mut out = vec![T::default(); sizes.outputs * sizes.channels * sizes.taps()];
    let cases = x.chunks_exact(sizes.channels * volume(sizes.input));
    for (x, g) in cases.zip(g.chunks_exact(sizes.outputs * volume(sizes.output()))) {
        // The gradient lies in planes as large as the input's, so that one offset serves both.
        let g = Padded::new(
            g,
            sizes.outputs,
            sizes.output(),
            [dense[0], padded[1], padded[2]],
            [0; 3],
            sizes.stride,
        );
        let one = weight_gradient(&padded_input(x, sizes), &g, sizes);
        out.iter_mut().zip(one).for_each(|(sum, part)| *sum += part);
    }
    out
}

/// The elements of a contiguous tensor.
fn elements<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("conv3d: expected a contiguous tensor")
    };
    Ok(&storage.as_slice::<T>()?[start..end])
}

/// One of the three correlations as candle sees it.
#[derive(Debug, Clone, Copy)]
struct Correlation {
    sizes: Sizes,
    part: Part,
}

#[derive(Debug, Clone, Copy)]
enum Part {
    /// From input and kernels.
    Output,
    /// From the output's gradient and kernels.
    InputGradient,
    /// From input and the output's gradient.
    KernelGradient,
}

impl Correlation {
    fn compute<T: Number>(&self, a: &[T], b: &[T]) -> Vec<T> {
        match self.part {
            Part::Output => forward(a, b, &self.sizes),
            Part::InputGradient => input_gradient(a, b, &self.sizes),
            Part::KernelGradient => kernel_gradient(a, b, &self.sizes),
        }
    }

    fn shape(&self) -> Shape {
        let Sizes { batch, channels, outputs, input: [d, h, w], kernel: [kd, kh, kw], .. } = self.sizes;
        let [od, oh, ow] = self.sizes.output();
        match self.part {
            Part::Output => (batch, outputs, od, oh, ow).into(),
            Part::InputGradient => (batch, channels, d, h, w).into(),
            Part::KernelGradient => (outputs, channels, kd, kh, kw).into(),
        }
    }
}

impl CustomOp2 for Correlation {
    fn name(&self) -> &'static str {
        "conv3d"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        at_a: &Layout,
        b: &CpuStorage,
        at_b: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let values = match (a, b) {
            (CpuStorage::F32(_), CpuStorage::F32(_)) => {
                CpuStorage::F32(self.compute::<f32>(elements(a, at_a)?, elements(b, at_b)?))
            }
            (CpuStorage::F64(_), CpuStorage::F64(_)) => {
                CpuStorage::F64(self.compute::<f64>(elements(a, at_a)?, elements(b, at_b)?))
            }
            _ => bail!("conv3d: input and weight must both be f32 or both f64"),
        };
        Ok((values, self.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Part::Output = self.part else { bail!("conv3d: no gradient of a gradient") };
        let (g, part) = (g.contiguous()?, |part| Self { part, ..*self });
        let of = |tracked: bool, a: &Tensor, b: &Tensor, part: Self| {
            tracked.then(|| a.apply_op2_no_bwd(b, &part)).transpose()
        };
        let input = of(x.track_op(), &g, weight, part(Part::InputGradient))?;
        let kernels = of(weight.track_op(), x, &g, part(Part::KernelGradient))?;
        Ok((input, kernels))
    }
}
