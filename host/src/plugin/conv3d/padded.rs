//! Channels laid out with zeros around them, each as one flat row.

use super::kernel::{Number, PAIR, SLACK};
use rayon::prelude::*;

/// `[channels][pitch]`, rows of depth, height and width with zeros at the edges.
pub(super) struct Padded<T> {
    pub values: Vec<T>,
    pub channels: usize,
    /// From one channel to the next; whole blocks of channels are readable.
    pub pitch: usize,
    pub dims: [usize; 3],
}

impl<T: Number> Padded<T> {
    /// Element `i` of an axis of `x` `[channels, from]` lands on `shift + i · step`, and is left out beyond `dims`.
    pub fn new(
        x: &[T],
        channels: usize,
        from: [usize; 3],
        dims: [usize; 3],
        shift: [isize; 3],
        step: [usize; 3],
    ) -> Self {
        let pitch = dims.iter().product::<usize>() + SLACK;
        let mut values = vec![T::default(); channels.next_multiple_of(PAIR) * pitch];
        let place = |axis: usize, i: usize| {
            let at = shift[axis] + (i * step[axis]) as isize;
            usize::try_from(at).ok().filter(|&at| at < dims[axis])
        };
        let columns: Vec<(usize, usize)> = (0..from[2]).filter_map(|i| Some((i, place(2, i)?))).collect();
        values.par_chunks_mut(pitch).zip(x.par_chunks_exact(from.iter().product())).for_each(|(to, x)| {
            for (i, x) in x.chunks_exact(from[1] * from[2]).enumerate() {
                let Some(d) = place(0, i) else { continue };
                for (i, x) in x.chunks_exact(from[2]).enumerate() {
                    let Some(h) = place(1, i) else { continue };
                    let to = &mut to[(d * dims[1] + h) * dims[2]..][..dims[2]];
                    match (columns.first(), step[2]) {
                        (Some(&(first, start)), 1) => {
                            to[start..start + columns.len()]
                                .copy_from_slice(&x[first..first + columns.len()]);
                        }
                        _ => columns.iter().for_each(|&(i, at)| to[at] = x[i]),
                    }
                }
            }
        });
        Self { values, channels, pitch, dims }
    }

    /// Where the taps of a kernel lie, depth first.
    pub fn offsets(&self, kernel: [usize; 3]) -> Vec<usize> {
        let [kd, kh, kw] = kernel;
        let tap = |k: usize| (k / (kh * kw) * self.dims[1] + k / kw % kh) * self.dims[2] + k % kw;
        (0..kd * kh * kw).map(tap).collect()
    }

    /// Positions from the first to the last that a result of `dims` fills in a layout of this one's height and width,
    /// whole registers.
    pub fn positions(&self, [d, h, w]: [usize; 3]) -> usize {
        let last = ((d - 1) * self.dims[1] + h - 1) * self.dims[2] + w;
        last.next_multiple_of(SLACK)
    }
}
