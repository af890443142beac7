//! Six numbers of what lies inside a mask: how much, how bright, how uneven, how long.

use crate::memory::{OutOfMemory, copied};
use crate::scan::canonical::Volume;
use crate::scan::intensity::percentile;
use crate::scan::region_of_interest::{INSIDE, empty};
use crate::scan::{Affine, VolumeError};

/// In the order of [`anymc3d_plugin_api::MASK_SCALARS`]: natural logarithm of the volume in mm³; mean, standard deviation
/// (of the population), 5th and 95th percentile (linear between order statistics) of the scan's values inside the mask;
/// longest distance between the centres of two of its voxels in mm.
///
/// # Errors
/// When the mask is on another grid than the scan, or nothing in it is above 0.5.
pub fn mask_scalars(volume: &Volume, mask: &Volume) -> Result<[f64; 6], VolumeError> {
    mask.expect_grid(&volume.path, volume.shape, &volume.affine)?;
    let mut inside: Vec<f32> =
        volume.voxels.iter().zip(&mask.voxels).filter(|(_, m)| **m > INSIDE).map(|(v, _)| *v).collect();
    if inside.is_empty() {
        return Err(empty(mask));
    }
    let [volume_mm3, mean, deviation, low, high] = amount_and_values(&mut inside, &volume.affine);
    Ok([volume_mm3, mean, deviation, low, high, longest_diameter(mask, &volume.affine)])
}

/// Of all voxels of a scan: natural logarithm of its volume in mm³; mean, standard deviation, 5th and 95th percentile of
/// its values, as [`mask_scalars`] has them.
///
/// # Errors
/// When there is no memory for a copy of the voxels.
pub fn scan_scalars(volume: &Volume) -> Result<[f64; 5], OutOfMemory> {
    Ok(amount_and_values(&mut copied(&volume.voxels)?, &volume.affine))
}

/// Reorders `values`, of which there is at least one.
fn amount_and_values(values: &mut [f32], affine: &Affine) -> [f64; 5] {
    let n = values.len() as f64;
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let variance = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
    let [low, high] = [5.0, 95.0].map(|p| percentile(values, p));
    [(n * affine.determinant().abs()).ln(), mean, variance.sqrt(), low, high]
}

/// Longest distance between the centres of two voxels of a mask, mm.
///
/// The two ends are corners of the convex hull, so the ends of the mask's rows, and of these the hull's corners in their
/// own slice, are enough. Of those, pairs that cannot be longer than the longest so far are left out.
fn longest_diameter(mask: &Volume, affine: &Affine) -> f64 {
    let mut corners = Vec::new();
    let [nx, ny, _] = mask.shape;
    for (z, slice) in mask.voxels.chunks_exact((nx * ny).max(1)).enumerate() {
        let mut ends: Vec<[i64; 2]> = Vec::new();
        for (y, row) in slice.chunks_exact(nx).enumerate() {
            let Some(first) = row.iter().position(|v| *v > INSIDE) else { continue };
            let last = row.iter().rposition(|v| *v > INSIDE).unwrap_or(first);
            ends.extend([[first as i64, y as i64], [last as i64, y as i64]]);
        }
        corners.extend(hull(ends).into_iter().map(|[x, y]| affine.apply([x as f64, y as f64, z as f64])));
    }
    let distance = |a: &[f64; 3], b: &[f64; 3]| (0..3).map(|i| (a[i] - b[i]).powi(2)).sum::<f64>().sqrt();
    let middle = [0, 1, 2].map(|i| corners.iter().map(|c| c[i]).sum::<f64>() / corners.len().max(1) as f64);
    let mut by_radius: Vec<(f64, [f64; 3])> = corners.iter().map(|c| (distance(c, &middle), *c)).collect();
    by_radius.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut longest = 0.0f64;
    for (i, (radius, a)) in by_radius.iter().enumerate() {
        for (other, b) in &by_radius[..i] {
            longest = longest.max(if radius + other > longest { distance(a, b) } else { 0.0 });
        }
        // Every pair that is left has this radius or less on both ends.
        if 2.0 * radius <= longest && by_radius[0].0 + radius <= longest {
            break;
        }
    }
    longest
}

/// Corners of the convex hull of points in the plane (Andrew's monotone chain).
pub(super) fn hull(mut points: Vec<[i64; 2]>) -> Vec<[i64; 2]> {
    points.sort_unstable();
    points.dedup();
    if points.len() < 3 {
        return points;
    }
    let turns_left = |a: [i64; 2], b: [i64; 2], c: [i64; 2]| {
        (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) > 0
    };
    let chain = |points: &mut dyn Iterator<Item = [i64; 2]>| {
        let mut chain: Vec<[i64; 2]> = Vec::new();
        for p in points {
            while chain.len() > 1 && !turns_left(chain[chain.len() - 2], chain[chain.len() - 1], p) {
                chain.pop();
            }
            chain.push(p);
        }
        chain.pop();
        chain
    };
    let mut corners = chain(&mut points.iter().copied());
    corners.extend(chain(&mut points.iter().rev().copied()));
    corners
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Scan;

    fn scan(voxels: Vec<f32>, shape: [usize; 3], spacing: [f64; 3]) -> Volume {
        Scan::from_voxels("x", voxels, shape, Affine::aligned(spacing, [3.0, -2.0, 7.0])).unwrap().canonical()
    }

    #[test]
    fn a_boxs_numbers_are_those_that_numpy_gives() {
        // np.arange(24) over a mask of 2 x 2 x 2 in the corner: values 0 1 3 4 6 7 9 10 of a 3 x 2 x 4 block.
        let volume = scan((0..24).map(|i| i as f32).collect(), [3, 2, 4], [1.0, 2.0, 3.0]);
        let inside = |i: usize| i % 3 < 2 && i / 6 < 2;
        let mask =
            scan((0..24).map(|i| f32::from(u8::from(inside(i)))).collect(), [3, 2, 4], [1.0, 2.0, 3.0]);
        let found = mask_scalars(&volume, &mask).unwrap();
        // numpy: log(48), mean 5, std 3.391165, percentile 5 0.35, percentile 95 9.65; sqrt(1 + 4 + 9).
        for (found, expected) in found.iter().zip([48f64.ln(), 5.0, 3.391_165, 0.35, 9.65, 14f64.sqrt()]) {
            assert!((found - expected).abs() < 1e-5, "{found}, expected {expected}");
        }
    }

    #[test]
    fn a_scans_numbers_are_those_of_a_mask_of_all_of_it() {
        let volume = scan((0..24).map(|i| i as f32).collect(), [3, 2, 4], [1.0, 2.0, 3.0]);
        let all = mask_scalars(&volume, &scan(vec![1.0; 24], [3, 2, 4], [1.0, 2.0, 3.0])).unwrap();
        assert_eq!(scan_scalars(&volume).unwrap()[..], all[..5]);
        // numpy: log(24 * 6), mean 11.5, std 6.922187, percentiles 1.15 and 21.85
        for (found, expected) in all.iter().zip([144f64.ln(), 11.5, 6.922_187, 1.15, 21.85]) {
            assert!((found - expected).abs() < 1e-5, "{found}, expected {expected}");
        }
    }

    #[test]
    fn the_longest_diameter_is_that_of_all_pairs() {
        let mut state = 7u32;
        for round in 0..40 {
            let shape = [9, 8, 7];
            let mut draw = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state >> 16
            };
            let share = 1 + draw() % 40;
            let mut voxels: Vec<f32> = (0..504).map(|_| f32::from(u8::from(draw() % 40 < share))).collect();
            voxels[round] = 1.0;
            let mask = scan(voxels, shape, [0.7, 1.3, 2.5]);
            let all: Vec<[f64; 3]> = (0..504)
                .filter(|i| mask.voxels[*i] > 0.5)
                .map(|i| mask.affine.apply([i % 9, i / 9 % 8, i / 72].map(|n| n as f64)))
                .collect();
            let far = |a: &[f64; 3], b: &[f64; 3]| (0..3).map(|i| (a[i] - b[i]).powi(2)).sum::<f64>().sqrt();
            let expected = all.iter().flat_map(|a| all.iter().map(move |b| far(a, b))).fold(0.0, f64::max);
            assert!((longest_diameter(&mask, &mask.affine) - expected).abs() < 1e-9);
        }
    }

    #[test]
    fn an_empty_mask_is_refused_by_its_name() {
        let volume = scan((0..8).map(|i| i as f32).collect(), [2; 3], [1.0; 3]);
        let error = mask_scalars(&volume, &scan(vec![0.2; 8], [2; 3], [1.0; 3])).unwrap_err().to_string();
        assert!(error.contains("a mask with nothing above 0.5"), "{error}");
    }
}
