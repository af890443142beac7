//! One operator for every axis: linear, antialiased where it shrinks, pixel edges aligned.
//!
//! PyTorch's `interpolate(mode="bilinear", antialias=True, align_corners=False)` along each axis
//! (ATen `UpSampleKernel`: a triangle of half-width max(1, scale) around `scale · (i + 0.5)`,
//! cut at the border and normalised), with the weights in f64.

use std::ops::Range;

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

/// Weights that turn `n_in` samples into `n_out`: for each output the first input and its weights, which sum to 1. Without
/// antialiasing they are those of the two samples next to it, PyTorch's `antialias=False`.
pub(crate) fn resampling(n_in: usize, n_out: usize, antialias: bool) -> Vec<(usize, Vec<f64>)> {
    let scale = n_in as f64 / n_out as f64;
    let support = if antialias { scale.max(1.0) } else { 1.0 };
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
    let order = order_of(shape, taps.map(<[Tap]>::len));
    // Of the axes that come later only what their taps read is kept from the first.
    let read: [Range<usize>; 3] =
        std::array::from_fn(|axis| if axis == order[0] { 0..shape[axis] } else { range_of(taps[axis]) });
    let (first, mut shape) = along_part(voxels, shape, &read, order[0], taps[order[0]], pad)?;
    let mut values = first;
    for axis in order.into_iter().skip(1) {
        let from = read[axis].start;
        let moved: Vec<Tap> = taps[axis]
            .iter()
            .map(|tap| Tap { start: tap.start.saturating_sub(from), ..tap.clone() })
            .collect();
        values = along(&values, shape, axis, &moved, pad)?;
        shape[axis] = moved.len();
    }
    Ok(Resampled { values })
}

/// What taps read of their axis; at least one sample.
fn range_of(taps: &[Tap]) -> Range<usize> {
    let read = || taps.iter().filter(|tap| !tap.weights.is_empty());
    let start = read().map(|tap| tap.start).min().unwrap_or(0);
    start..read().map(|tap| tap.start + tap.weights.len()).max().unwrap_or(1)
}

/// [`along`] of the part `read` of a block, and the shape of the result.
fn along_part(
    values: &[f32],
    shape: [usize; 3],
    read: &[Range<usize>; 3],
    axis: usize,
    taps: &[Tap],
    pad: f32,
) -> Result<(Vec<f32>, [usize; 3]), OutOfMemory> {
    let mut after: [usize; 3] = std::array::from_fn(|axis| read[axis].len());
    after[axis] = taps.len();
    if axis == 2 {
        return Ok((along_slowest(values, shape, [&read[0], &read[1]], taps, pad)?, after));
    }
    let whole = [0, 1, 2].map(|other| read[other] == (0..shape[other])) == [true; 3];
    if whole {
        return Ok((along(values, shape, axis, taps, pad)?, after));
    }
    // The slices and, across the axis, the columns or rows that are read: a slice at a time.
    let [nx, ny, _] = shape;
    let plane = after[0] * after[1];
    let mut out = zeroed::<f32>(plane.saturating_mul(after[2]))?;
    out.par_chunks_mut(plane).zip(read[2].clone()).for_each(|(out, z)| {
        let from = &values[z * nx * ny..][..nx * ny];
        if axis == 0 {
            for (out, y) in out.chunks_exact_mut(after[0]).zip(read[1].clone()) {
                along_row(&from[y * nx..][..nx], taps, pad, out);
            }
        } else {
            for (out, tap) in out.chunks_exact_mut(after[0]).zip(taps) {
                weigh(out, tap, pad, |y| &from[y * nx..][read[0].clone()]);
            }
        }
    });
    Ok((out, after))
}

/// Values of a slice that are computed together for all taps: with what a tap reads of the slices around it they stay in a
/// processor's cache, and memory is read once.
const TOGETHER: usize = 1 << 12;

/// Applies taps along the slowest axis to the columns and rows `read` of a block.
fn along_slowest(
    values: &[f32],
    [nx, ny, _]: [usize; 3],
    [columns, rows]: [&Range<usize>; 2],
    taps: &[Tap],
    pad: f32,
) -> Result<Vec<f32>, OutOfMemory> {
    let width = columns.len();
    let plane = width * rows.len();
    let mut out = zeroed::<f32>(plane.saturating_mul(taps.len()))?;
    let rows_together = (TOGETHER / width).max(1);
    let mut parts: Vec<Vec<&mut [f32]>> = Vec::new();
    parts.resize_with(rows.len().div_ceil(rows_together), || Vec::with_capacity(taps.len()));
    for plane in out.chunks_mut(plane) {
        parts.iter_mut().zip(plane.chunks_mut(rows_together * width)).for_each(|(part, out)| part.push(out));
    }
    parts.into_par_iter().enumerate().for_each(|(i, part)| {
        let first = rows.start + i * rows_together;
        for (out, tap) in part.into_iter().zip(taps) {
            for (j, out) in out.chunks_exact_mut(width).enumerate() {
                weigh(out, tap, pad, |z| &values[(z * ny + first + j) * nx..][columns.clone()]);
            }
        }
    });
    Ok(out)
}

/// One row of results from the rows that `row` gives for the samples of a tap.
fn weigh<'a>(out: &mut [f32], tap: &Tap, pad: f32, row: impl Fn(usize) -> &'a [f32]) {
    out.fill(tap.outside * pad);
    for (k, &w) in tap.weights.iter().enumerate() {
        for (v, x) in out.iter_mut().zip(row(tap.start + k)) {
            *v += w * x;
        }
    }
}

fn along_row(row: &[f32], taps: &[Tap], pad: f32, out: &mut [f32]) {
    for (v, tap) in out.iter_mut().zip(taps) {
        let inputs = &row[tap.start..tap.start + tap.weights.len()];
        let sum: f32 = inputs.iter().zip(&tap.weights).map(|(x, w)| x * w).sum();
        *v = sum + tap.outside * pad;
    }
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
        out.par_chunks_mut(taps.len())
            .zip(values.par_chunks(n_in))
            .with_min_len(16)
            .for_each(|(out, row)| along_row(row, taps, pad, out));
    } else {
        out.par_chunks_mut(inner).enumerate().for_each(|(i, out)| {
            let (block, tap) = (&values[i / taps.len() * n_in * inner..], &taps[i % taps.len()]);
            weigh(out, tap, pad, |sample| &block[sample * inner..(sample + 1) * inner]);
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
            let taps = resampling(n_in, n_out, true);
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
        for (i, (first, weights)) in resampling(9, 9, true).iter().enumerate() {
            let total: f64 = weights.iter().enumerate().filter(|(k, _)| first + k == i).map(|(_, w)| w).sum();
            assert!((total - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn halving_has_pytorchs_weights() {
        // interpolate(arange(8), size=4, antialias=True): triangle of half-width 2, cut at the border.
        let (first, weights) = &resampling(8, 4, true)[1];
        assert_eq!(*first, 1);
        for (found, expected) in weights.iter().zip([0.125, 0.375, 0.375, 0.125]) {
            assert!((found - expected).abs() < 1e-12, "{weights:?}");
        }
    }

    #[test]
    fn eight_squares_in_three_are_pytorchs_with_antialiasing_and_without() {
        // interpolate(arange(8) ** 2, size=3) of PyTorch 2.15: mode="linear", and mode="bilinear" with antialias=True.
        for (antialias, expected) in [(false, [0.8333, 12.5, 38.1667]), (true, [2.0526, 13.4524, 35.5789])] {
            for ((first, weights), expected) in resampling(8, 3, antialias).iter().zip(expected) {
                let value: f64 =
                    weights.iter().enumerate().map(|(k, w)| w * ((first + k) as f64).powi(2)).sum();
                assert!((value - expected).abs() < 1e-4, "{value} is not {expected}");
            }
        }
        // Nothing is left to average where an axis grows.
        assert_eq!(resampling(5, 12, false), resampling(5, 12, true));
    }

    /// Taps that read no more than `from..to` of an axis, the outer ones with padding.
    fn taps(count: usize, from: usize, to: usize) -> Vec<Tap> {
        let mut taps: Vec<Tap> = resampling(to - from, count, true)
            .into_iter()
            .map(|(start, weights)| {
                let weights = weights.into_iter().map(|w| w as f32).collect();
                Tap { start: from + start, weights, outside: 0.0 }
            })
            .collect();
        taps[0] = Tap { start: 0, weights: Vec::new(), outside: 1.0 };
        let last = taps.len() - 1;
        taps[last].outside = 0.25;
        taps
    }

    #[test]
    fn what_no_tap_reads_takes_no_part_and_the_rest_is_the_same_to_the_bit() {
        let shape = [37, 29, 23];
        let voxels: Vec<f32> = (0..37 * 29 * 23).map(|i| ((i * 7919) % 1013) as f32 * 0.37 - 100.0).collect();
        let read = [[5, 31], [2, 27], [4, 19]];
        // Whichever axis leaves least is the first.
        for counts in [[9, 12, 3], [3, 12, 9], [12, 3, 11], [36, 28, 22], [40, 40, 40]] {
            let taps: [Vec<Tap>; 3] = std::array::from_fn(|a| taps(counts[a], read[a][0], read[a][1]));
            let found = separable(&voxels, shape, taps.each_ref().map(Vec::as_slice), -7.5).unwrap();
            let (mut expected, mut shape) = (voxels.clone(), shape);
            for axis in order_of(shape, counts) {
                expected = along(&expected, shape, axis, &taps[axis], -7.5).unwrap();
                shape[axis] = counts[axis];
            }
            assert!(found.values == expected, "{counts:?}");
            // A voxel that is not read may be anything.
            let mut other = voxels.clone();
            other[0] = f32::NAN;
            other[(22 * 29 + 28) * 37 + 36] = f32::NAN;
            let found = separable(&other, [37, 29, 23], taps.each_ref().map(Vec::as_slice), -7.5).unwrap();
            assert!(found.values == expected, "{counts:?}");
        }
    }
}
