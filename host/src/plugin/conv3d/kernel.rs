//! The innermost loops of a 3D convolution on the processor: correlations along rows whose elements are neighbours.
//!
//! Inputs are padded, so a kernel tap is a constant offset into a channel's flat memory, and no patch is copied out.
//! The loops are compiled once per instruction set and chosen at run time.

use super::lanes::{Lanes, Portable};

/// The two element types of the host's tensors.
pub(super) trait Number: Copy + Default + Send + Sync + std::ops::AddAssign + 'static {
    /// The fastest loops of this machine.
    fn kernel() -> Kernel<Self>;
}

impl Number for f32 {
    fn kernel() -> Kernel<f32> {
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512f") {
                return Kernel { outputs: 8, run: x86::run_avx512, pairs: x86::pairs_avx512 };
            }
            if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                return Kernel { outputs: 4, run: x86::run_avx2, pairs: x86::pairs_avx2 };
            }
        }
        Kernel::portable()
    }
}

impl Number for f64 {
    fn kernel() -> Kernel<f64> {
        // Doubles are for gradient tests.
        Kernel::portable()
    }
}

/// Positions are computed in multiples of this, and as many may be read beyond the last one.
pub(super) const SLACK: usize = 32;
/// Channels of either side that a weight gradient computes together.
pub(super) const PAIR: usize = 4;
/// Positions of a weight gradient that stay in the first cache while every tap passes over them.
const CHUNK: usize = 1024;

/// The loops for one instruction set, which the processor must have: only [`Number::kernel`] makes one.
#[derive(Clone, Copy)]
pub(super) struct Kernel<T> {
    /// Output channels of a [`Run`].
    outputs: usize,
    run: unsafe fn(&Run<'_, T>, &mut [T]),
    pairs: unsafe fn(&Pairs<'_, T>, &mut [T]),
}

/// A run of output positions for one block of output channels: `out[o][p] = Σ w[c][k][o] · x[c · pitch + offset[k] + p]`.
pub(super) struct Run<'a, T> {
    /// From the first position on, each channel `pitch` long.
    pub x: &'a [T],
    pub pitch: usize,
    pub channels: usize,
    /// Of each tap, ascending.
    pub offsets: &'a [usize],
    /// `[C][K][outputs]`
    pub weights: &'a [T],
    /// A multiple of [`SLACK`].
    pub positions: usize,
}

/// The weight gradient of [`PAIR`] output and as many input channels: `out[k][o][c] += Σ g[o][p] · x[c][offset[k] + p]`.
pub(super) struct Pairs<'a, T> {
    /// Rows of the gradient, each `g_pitch` long.
    pub g: &'a [T],
    pub g_pitch: usize,
    /// Rows of the input, each `x_pitch` long.
    pub x: &'a [T],
    pub x_pitch: usize,
    /// Of each tap, ascending.
    pub offsets: &'a [usize],
    /// A multiple of [`SLACK`].
    pub positions: usize,
}

impl<T: Copy + Default> Kernel<T> {
    /// Output channels that are computed together.
    pub fn outputs(self) -> usize {
        self.outputs
    }

    /// Fills `out` `[outputs][positions]`.
    pub fn run(self, task: &Run<'_, T>, out: &mut [T]) {
        let Run { x, pitch, channels, offsets, weights, positions } = *task;
        let last = (channels.max(1) - 1) * pitch + offsets.last().copied().unwrap_or(0) + positions;
        assert!(x.len() >= last && offsets.is_sorted() && positions.is_multiple_of(SLACK));
        assert!(weights.len() == channels * offsets.len() * self.outputs);
        assert!(out.len() == self.outputs * positions);
        // SAFETY: `Number::kernel` found the instruction set, and the extents were just checked.
        unsafe { (self.run)(task, out) };
    }

    /// Adds to `out` `[K][PAIR][PAIR]`.
    pub fn pairs(self, task: &Pairs<'_, T>, out: &mut [T]) {
        let Pairs { g, g_pitch, x, x_pitch, offsets, positions } = *task;
        let last = (PAIR - 1) * x_pitch + offsets.last().copied().unwrap_or(0) + positions;
        assert!(x.len() >= last && g.len() >= (PAIR - 1) * g_pitch + positions);
        assert!(offsets.is_sorted() && positions.is_multiple_of(SLACK));
        assert!(out.len() == offsets.len() * PAIR * PAIR);
        // SAFETY: `Number::kernel` found the instruction set, and the extents were just checked.
        unsafe { (self.pairs)(task, out) };
    }
}

impl<T> Kernel<T>
where
    T: Number + std::ops::Mul<Output = T> + std::ops::Add<Output = T>,
{
    fn portable() -> Self {
        Self { outputs: 4, run: run::<Portable<T>, 4, 1>, pairs: pairs::<Portable<T>, 1> }
    }
}

/// `O` output channels by `V` registers of positions are summed in registers.
///
/// # Safety
/// The processor must have the instruction set of `L`, and the extents be as [`Kernel::run`] checks them.
#[inline(always)]
unsafe fn run<L: Lanes, const O: usize, const V: usize>(task: &Run<'_, L::Element>, out: &mut [L::Element]) {
    for start in (0..task.positions).step_by(V * L::COUNT) {
        // SAFETY: the caller promises the instruction set and the extents; every offset is of a channel, a tap and a
        // position within them.
        unsafe {
            let mut sums = [[L::splat(L::Element::default()); V]; O];
            let mut weights = task.weights.as_ptr();
            for c in 0..task.channels {
                let row = task.x.as_ptr().add(c * task.pitch + start);
                for &offset in task.offsets {
                    let mut x = [L::splat(L::Element::default()); V];
                    for (v, x) in x.iter_mut().enumerate() {
                        *x = L::load(row.add(offset + v * L::COUNT));
                    }
                    for (o, sums) in sums.iter_mut().enumerate() {
                        let w = L::splat(*weights.add(o));
                        for v in 0..V {
                            sums[v] = w.multiply_add(x[v], sums[v]);
                        }
                    }
                    weights = weights.add(O);
                }
            }
            for (o, sums) in sums.iter().enumerate() {
                for (v, sum) in sums.iter().enumerate() {
                    sum.store(out.as_mut_ptr().add(o * task.positions + start + v * L::COUNT));
                }
            }
        }
    }
}

/// `PAIR` output by `X` input channels are summed in registers.
///
/// # Safety
/// The processor must have the instruction set of `L`, and the extents be as [`Kernel::pairs`] checks them.
#[inline(always)]
unsafe fn pairs<L: Lanes, const X: usize>(task: &Pairs<'_, L::Element>, out: &mut [L::Element])
where
    L::Element: std::ops::AddAssign,
{
    let mut spread = vec![L::Element::default(); L::COUNT];
    for start in (0..task.positions).step_by(CHUNK) {
        let end = (start + CHUNK).min(task.positions);
        for (k, &offset) in task.offsets.iter().enumerate() {
            for first in (0..PAIR).step_by(X) {
                // SAFETY: the caller promises the instruction set.
                let mut sums = [[unsafe { L::splat(L::Element::default()) }; X]; PAIR];
                for at in (start..end).step_by(L::COUNT) {
                    // SAFETY: the caller promises the instruction set and the extents; rows are below PAIR and
                    // positions below `positions`.
                    unsafe {
                        let mut x = [L::splat(L::Element::default()); X];
                        for (c, x) in x.iter_mut().enumerate() {
                            *x = L::load(task.x.as_ptr().add((first + c) * task.x_pitch + offset + at));
                        }
                        for (o, sums) in sums.iter_mut().enumerate() {
                            let g = L::load(task.g.as_ptr().add(o * task.g_pitch + at));
                            for c in 0..X {
                                sums[c] = g.multiply_add(x[c], sums[c]);
                            }
                        }
                    }
                }
                for (o, sums) in sums.iter().enumerate() {
                    for (c, sum) in sums.iter().enumerate() {
                        // SAFETY: `spread` holds as many elements as a register.
                        unsafe { sum.store(spread.as_mut_ptr()) };
                        for &part in &spread {
                            out[(k * PAIR + o) * PAIR + first + c] += part;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Pairs, Run};
    use std::arch::x86_64::{__m256, __m512};

    #[target_feature(enable = "avx512f")]
    pub fn run_avx512(task: &Run<'_, f32>, out: &mut [f32]) {
        // SAFETY: the instruction set is this function's, and `Kernel::run` checked the extents.
        unsafe { super::run::<__m512, 8, 2>(task, out) };
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn run_avx2(task: &Run<'_, f32>, out: &mut [f32]) {
        // SAFETY: the instruction set is this function's, and `Kernel::run` checked the extents.
        unsafe { super::run::<__m256, 4, 2>(task, out) };
    }

    #[target_feature(enable = "avx512f")]
    pub fn pairs_avx512(task: &Pairs<'_, f32>, out: &mut [f32]) {
        // SAFETY: the instruction set is this function's, and `Kernel::pairs` checked the extents.
        unsafe { super::pairs::<__m512, 4>(task, out) };
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn pairs_avx2(task: &Pairs<'_, f32>, out: &mut [f32]) {
        // SAFETY: the instruction set is this function's, and `Kernel::pairs` checked the extents.
        unsafe { super::pairs::<__m256, 2>(task, out) };
    }
}
