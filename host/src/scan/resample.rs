//! One operator for every axis: linear, antialiased where it shrinks, pixel edges aligned.
//!
//! PyTorch's `interpolate(mode="bilinear", antialias=True, align_corners=False)` along each axis
//! (ATen `UpSampleKernel`: a triangle of half-width max(1, scale) around `scale · (i + 0.5)`,
//! cut at the border and normalised), with the weights in f64.

use rayon::prelude::*;

use crate::memory::{OutOfMemory, zeroed};

/// Weights of one output sample: `sum(weights[k] * input[start + k]) + outside * pad`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tap {
    pub start: usize,
    pub weights: Vec<f32>,
    /// Weight that falls on padding.
    pub outside: f32,
}

/// Weights that turn `n_in` samples into `n_out`: for each output the first input and its weights, which sum to 1.
pub(crate) fn antialiased(n_in: usize, n_out: usize) -> Vec<(usize, Vec<f64>)> {
    let scale = n_in as f64 / n_out as f64;
    let support = scale.max(1.0);
    (0..n_out)
        .map(|i| {
            let centre = scale * (i as f64 + 0.5);
            let first = (centre - support + 0.5).max(0.0) as usize;
            let last = ((centre + support + 0.5) as usize).min(n_in);
            let mut weights: Vec<f64> =
                (first..last).map(|j| (1.0 - ((j as f64 + 0.5 - centre) / support).abs()).max(0.0)).collect();
            let total: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|w| *w /= total);
            (first, weights)
        })
        .collect()
}

/// A block of values, axis 0 fastest.
pub(crate) struct Resampled {
    pub values: Vec<f32>,
}

/// How `[S, H, W]` lies in a block: its shape, and the step in memory along each.
pub(crate) struct Layout {
    pub shape: [usize; 3],
    pub step: [usize; 3],
}

/// Applies taps along all three axes of a block whose axis 0 is fastest; `pad` is what lies outside.
///
/// The axes commute; the one that leaves least is taken first.
///
/// # Errors
/// Where there is no memory for what is in between; [`separable_bytes`] tells it beforehand.
pub(crate) fn separable(
    voxels: &[f32],
    shape: [usize; 3],
    taps: [&[Tap]; 3],
    pad: f32,
) -> Result<Resampled, OutOfMemory> {
    let mut values: Option<Vec<f32>> = None;
    let order = order_of(shape, taps.map(<[Tap]>::len));
    let mut shape = shape;
    for axis in order {
        let next = along(values.as_deref().unwrap_or(voxels), shape, axis, taps[axis], pad)?;
        shape[axis] = taps[axis].len();
        values = Some(next);
    }
    Ok(Resampled { values: values.unwrap_or_default() })
}

/// Most bytes that [`separable`] holds at a time beside its input, for so many samples along each axis.
pub(crate) fn separable_bytes(shape: [usize; 3], samples: [usize; 3]) -> usize {
    let mut now = shape;
    let (mut before, mut most) = (0usize, 0);
    for axis in order_of(shape, samples) {
        now[axis] = samples[axis];
        let next = now.iter().fold(size_of::<f32>(), |n, &d| n.saturating_mul(d));
        most = most.max(before.saturating_add(next));
        before = next;
    }
    most
}

/// The axis that leaves least first.
fn order_of(shape: [usize; 3], samples: [usize; 3]) -> [usize; 3] {
    let mut order = [0, 1, 2];
    order.sort_by(|&a, &b| {
        let ratio = |axis: usize| samples[axis] as f64 / shape[axis] as f64;
        // Among equals the slowest axis first: its pass streams through memory.
        ratio(a).total_cmp(&ratio(b)).then(b.cmp(&a))
    });
    order
}

/// Applies taps along one axis of a block whose axis 0 is fastest.
pub(super) fn along(
    values: &[f32],
    shape: [usize; 3],
    axis: usize,
    taps: &[Tap],
    pad: f32,
) -> Result<Vec<f32>, OutOfMemory> {
    let n_in = shape[axis];
    let inner: usize = shape[..axis].iter().product();
    let outer: usize = shape[axis + 1..].iter().product();
    let mut out = zeroed::<f32>(outer.saturating_mul(taps.len()).saturating_mul(inner))?;
    if axis == 0 {
        out.par_chunks_mut(taps.len()).zip(values.par_chunks(n_in)).with_min_len(16).for_each(
            |(out, row)| {
                for (v, tap) in out.iter_mut().zip(taps) {
                    let inputs = &row[tap.start..tap.start + tap.weights.len()];
                    let sum: f32 = inputs.iter().zip(&tap.weights).map(|(x, w)| x * w).sum();
                    *v = sum + tap.outside * pad;
                }
            },
        );
    } else {
        out.par_chunks_mut(inner).enumerate().for_each(|(i, out)| {
            let (block, tap) = (&values[i / taps.len() * n_in * inner..], &taps[i % taps.len()]);
            out.fill(tap.outside * pad);
            for (k, &w) in tap.weights.iter().enumerate() {
                let row = &block[(tap.start + k) * inner..(tap.start + k + 1) * inner];
                for (v, x) in out.iter_mut().zip(row) {
                    *v += w * x;
                }
            }
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one_and_mirror() {
        for (n_in, n_out) in [(30, 16), (7, 7), (5, 12), (100, 1), (1, 4), (513, 224)] {
            let taps = antialiased(n_in, n_out);
            for (i, (first, weights)) in taps.iter().enumerate() {
                assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12 && first + weights.len() <= n_in);
                let (mirror_first, mirror) = &taps[n_out - 1 - i];
                // Compared as dense rows: a weight of zero may be kept at one end and not at the other.
                let dense = |first: usize, w: &[f64], j: usize| {
                    j.checked_sub(first).and_then(|k| w.get(k)).copied().unwrap_or(0.0)
                };
                for j in 0..n_in {
                    let difference = dense(*first, weights, j) - dense(*mirror_first, mirror, n_in - 1 - j);
                    assert!(difference.abs() < 1e-12, "{n_in} to {n_out}: {i}, {j}");
                }
            }
        }
    }

    #[test]
    fn the_same_size_is_the_identity() {
        for (i, (first, weights)) in antialiased(9, 9).iter().enumerate() {
            let total: f64 = weights.iter().enumerate().filter(|(k, _)| first + k == i).map(|(_, w)| w).sum();
            assert!((total - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn halving_has_pytorchs_weights() {
        // interpolate(arange(8), size=4, antialias=True): triangle of half-width 2, cut at the border.
        let (first, weights) = &antialiased(8, 4)[1];
        assert_eq!(*first, 1);
        for (found, expected) in weights.iter().zip([0.125, 0.375, 0.375, 0.125]) {
            assert!((found - expected).abs() < 1e-12, "{weights:?}");
        }
    }
}
