//! More of what lies inside a mask and around it: the distribution of values, core and edge, the rings outside, and the shape.

use crate::memory::zeroed;
use crate::scan::VolumeError;
use crate::scan::canonical::Volume;
use crate::scan::distance::distances_mm;
use crate::scan::intensity::percentile;
use crate::scan::mask_scalars::hull;
use crate::scan::region_of_interest::{INSIDE, empty};
use std::f64::consts::PI;

/// Distances in mm from the mask that bound its rings.
const RINGS_MM: [[f64; 2]; 3] = [[0.0, 2.0], [2.0, 5.0], [5.0, 10.0]];

/// In the order of [`anymc3d_plugin_api::MASK_DETAILS`], which says what each is. Lengths are of an axis-aligned grid: an oblique
/// scan keeps its grid, and its axes count as if they were at right angles.
///
/// # Errors
/// When the mask is on another grid than the scan, nothing in it is above 0.5, or there is no memory for its surroundings.
pub fn mask_details(volume: &Volume, mask: &Volume) -> Result<[f64; 28], VolumeError> {
    mask.expect_grid(&volume.path, volume.shape, &volume.affine)?;
    let around = Surroundings::of(volume, mask)?;
    let mut details = [0.0; 28];
    let (values, rest) = details.split_at_mut(9);
    values.copy_from_slice(&around.inside());
    let edge = values[7];
    let (rings, shape) = rest.split_at_mut(12);
    rings.copy_from_slice(&around.rings(edge));
    shape.copy_from_slice(&around.shape());
    Ok(details)
}

/// The mask's box and what lies within the farthest ring of it.
struct Surroundings {
    values: Vec<f32>,
    inside: Vec<bool>,
    shape: [usize; 3],
    spacing: [f64; 3],
    /// mm from a voxel inside to the nearest one outside, 0 outside.
    depth: Vec<f64>,
    /// mm from a voxel outside to the nearest one inside, 0 inside.
    away: Vec<f64>,
}

impl Surroundings {
    fn of(volume: &Volume, mask: &Volume) -> Result<Self, VolumeError> {
        let [nx, ny, nz] = volume.shape;
        let spacing = volume.affine.spacing();
        let (mut low, mut high) = ([usize::MAX; 3], [0; 3]);
        for (i, _) in mask.voxels.iter().enumerate().filter(|(_, m)| **m > INSIDE) {
            for (axis, at) in [i % nx, i / nx % ny, i / (nx * ny)].into_iter().enumerate() {
                (low[axis], high[axis]) = (low[axis].min(at), high[axis].max(at));
            }
        }
        if low[0] == usize::MAX {
            return Err(empty(mask));
        }
        let farthest = RINGS_MM[2][1];
        let all = [nx, ny, nz];
        for axis in 0..3 {
            let margin = (farthest / spacing[axis]).ceil() as usize;
            (low[axis], high[axis]) =
                (low[axis].saturating_sub(margin), (high[axis] + margin).min(all[axis] - 1));
        }
        let shape = [0, 1, 2].map(|axis| high[axis] - low[axis] + 1);
        let n = shape.iter().product();
        let mut values: Vec<f32> =
            zeroed(n).map_err(VolumeError::no_memory(&volume.path, "the mask's surroundings"))?;
        let mut inside: Vec<bool> = Vec::with_capacity(n);
        for (i, value) in values.iter_mut().enumerate() {
            let at = [i % shape[0], i / shape[0] % shape[1], i / (shape[0] * shape[1])];
            let from = low[0] + at[0] + nx * (low[1] + at[1] + ny * (low[2] + at[2]));
            *value = volume.voxels[from];
            inside.push(mask.voxels[from] > INSIDE);
        }
        let outside: Vec<bool> = inside.iter().map(|i| !i).collect();
        // What lies beyond the scan is outside.
        let depth = distances_mm(&outside, shape, spacing, true);
        let away = distances_mm(&inside, shape, spacing, false);
        Ok(Self { values, inside, shape, spacing, depth, away })
    }

    fn of_voxels(&self, wanted: impl Fn(usize) -> bool) -> Vec<f32> {
        (0..self.values.len()).filter(|i| wanted(*i)).map(|i| self.values[i]).collect()
    }

    /// p25, p50, p75, p99, largest, skewness, mean of the core, mean of the edge, largest depth.
    fn inside(&self) -> [f64; 9] {
        let mut all = self.of_voxels(|i| self.inside[i]);
        let [p25, p50, p75, p99, largest] = [25.0, 50.0, 75.0, 99.0, 100.0].map(|p| percentile(&mut all, p));
        let (mean, deviation) = moments(&all);
        let cubes = all.iter().map(|v| (f64::from(*v) - mean).powi(3)).sum::<f64>() / all.len() as f64;
        let skewness = cubes / deviation.max(1e-6).powi(3);
        let mut depths: Vec<f32> =
            (0..self.inside.len()).filter(|i| self.inside[*i]).map(|i| self.depth[i] as f32).collect();
        let bound = percentile(&mut depths, CORE);
        // A depth is compared as it was sorted: rounded to f32.
        let deep = |i: usize| f64::from(self.depth[i] as f32) >= bound;
        let (core, _) = moments(&self.of_voxels(|i| self.inside[i] && deep(i)));
        let edge = self.of_voxels(|i| self.inside[i] && !deep(i));
        let edge = if edge.is_empty() { mean } else { moments(&edge).0 };
        let deepest = depths.iter().copied().fold(0.0, f32::max);
        [p25, p50, p75, p99, largest, skewness, core, edge, f64::from(deepest)]
    }

    /// Mean, standard deviation, 10th and 90th percentile of each ring. One without a voxel repeats the ring before it, the first
    /// the value of the edge.
    fn rings(&self, edge: f64) -> [f64; 12] {
        let mut all = [0.0; 12];
        let mut before = [edge, 0.0, edge, edge];
        for (ring, [from, to]) in all.chunks_exact_mut(4).zip(RINGS_MM) {
            let mut values = self.of_voxels(|i| !self.inside[i] && self.away[i] > from && self.away[i] <= to);
            if !values.is_empty() {
                let (mean, deviation) = moments(&values);
                let [low, high] = [10.0, 90.0].map(|p| percentile(&mut values, p));
                before = [mean, deviation, low, high];
            }
            ring.copy_from_slice(&before);
        }
        all
    }

    /// Sphericity, elongation, flatness, share of the ellipsoid; compactness, convexity and log area of the largest slice.
    fn shape(&self) -> [f64; 7] {
        let [nx, ny, nz] = self.shape;
        let [sx, sy, sz] = self.spacing;
        let at = |x: usize, y: usize, z: usize| self.inside[x + nx * (y + ny * z)];
        let (mut n, mut sum, mut products) = (0.0, [0.0; 3], [[0.0; 3]; 3]);
        let mut areas = vec![0usize; nz];
        for (z, area) in areas.iter_mut().enumerate() {
            for y in 0..ny {
                for x in (0..nx).filter(|x| at(*x, y, z)) {
                    let p = [x as f64 * sx, y as f64 * sy, z as f64 * sz];
                    n += 1.0;
                    *area += 1;
                    for i in 0..3 {
                        sum[i] += p[i];
                        (0..3).for_each(|j| products[i][j] += p[i] * p[j]);
                    }
                }
            }
        }
        let mut covariance = [[0.0; 3]; 3];
        for i in 0..3 {
            for j in 0..3 {
                covariance[i][j] = products[i][j] / n - sum[i] / n * sum[j] / n;
            }
            // Voxels are boxes, not points.
            covariance[i][i] += self.spacing[i].powi(2) / 12.0;
        }
        let volume = n * sx * sy * sz;
        let axes = eigenvalues(covariance).map(|v| v.max(1e-12));
        // A solid ellipsoid has the variance r² / 5 along an axis of half-length r.
        let ellipsoid = 4.0 / 3.0 * PI * axes.iter().map(|v| (5.0 * v).sqrt()).product::<f64>();
        let sphericity = PI.cbrt() * (6.0 * volume).powf(2.0 / 3.0) / self.surface();
        let largest = (0..nz).rev().max_by_key(|z| areas[*z]).unwrap_or(0);
        let [compactness, convexity, area] = self.slice(largest);
        let [elongation, flatness] = [axes[1], axes[2]].map(|v| (v / axes[0]).sqrt());
        [sphericity, elongation, flatness, volume / ellipsoid, compactness, convexity, area.ln()]
    }

    /// mm² of the voxels' faces between inside and outside; the scan's border is one.
    fn surface(&self) -> f64 {
        let steps = [1, self.shape[0], self.shape[0] * self.shape[1]];
        let mut total = 0.0;
        for (axis, step) in steps.into_iter().enumerate() {
            let face: f64 = (0..3).filter(|other| *other != axis).map(|other| self.spacing[other]).product();
            let faces: usize = (0..self.inside.len())
                .filter(|i| self.inside[*i])
                .map(|i| {
                    let along = i / step % self.shape[axis];
                    let below = along == 0 || !self.inside[i - step];
                    let above = along + 1 == self.shape[axis] || !self.inside[i + step];
                    usize::from(below) + usize::from(above)
                })
                .sum();
            total += faces as f64 * face;
        }
        total
    }

    /// Of an axial slice: 4 π area / perimeter², area / area of the convex hull, and area in mm².
    fn slice(&self, z: usize) -> [f64; 3] {
        let [nx, ny, _] = self.shape;
        let [sx, sy, _] = self.spacing;
        let at = |x: i64, y: i64| {
            let within = x >= 0 && y >= 0 && (x as usize) < nx && (y as usize) < ny;
            within && self.inside[x as usize + nx * (y as usize + ny * z)]
        };
        let (mut voxels, mut perimeter, mut corners) = (0.0, 0.0, Vec::new());
        for y in 0..ny as i64 {
            for x in (0..nx as i64).filter(|x| at(*x, y)) {
                voxels += 1.0;
                let sides = [(at(x - 1, y), sy), (at(x + 1, y), sy), (at(x, y - 1), sx), (at(x, y + 1), sx)];
                let open: Vec<f64> = sides.iter().filter(|(inside, _)| !inside).map(|(_, mm)| *mm).collect();
                if !open.is_empty() {
                    perimeter += open.iter().sum::<f64>();
                    corners.extend([[x, y], [x + 1, y], [x, y + 1], [x + 1, y + 1]]);
                }
            }
        }
        let hull = hull(corners);
        let twice: i64 = (0..hull.len())
            .map(|i| (hull[i], hull[(i + 1) % hull.len()]))
            .map(|([ax, ay], [bx, by])| ax * by - ay * bx)
            .sum();
        let area = voxels * sx * sy;
        [4.0 * PI * area / perimeter.powi(2), voxels / (twice.abs() as f64 / 2.0), area]
    }
}

/// Percentile of the depths from which on a voxel is of the core.
const CORE: f64 = 60.0;

/// Mean and the population's standard deviation.
fn moments(values: &[f32]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    (mean, (values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n).sqrt())
}

/// Of a symmetric 3 × 3 matrix, the largest first (Smith 1961, doi:10.1145/355578.366316).
fn eigenvalues(a: [[f64; 3]; 3]) -> [f64; 3] {
    let beside = a[0][1].powi(2) + a[0][2].powi(2) + a[1][2].powi(2);
    let mean = (a[0][0] + a[1][1] + a[2][2]) / 3.0;
    let spread = (0..3).map(|i| (a[i][i] - mean).powi(2)).sum::<f64>() + 2.0 * beside;
    let p = (spread / 6.0).sqrt();
    if p < 1e-12 {
        return [mean; 3];
    }
    let b = |i: usize, j: usize| (a[i][j] - if i == j { mean } else { 0.0 }) / p;
    let half = (b(0, 0) * (b(1, 1) * b(2, 2) - b(1, 2).powi(2))
        - b(0, 1) * (b(0, 1) * b(2, 2) - b(1, 2) * b(0, 2))
        + b(0, 2) * (b(0, 1) * b(1, 2) - b(1, 1) * b(0, 2)))
        / 2.0;
    let angle = half.clamp(-1.0, 1.0).acos() / 3.0;
    let [first, third] = [angle, angle + 2.0 * PI / 3.0].map(|t| mean + 2.0 * p * t.cos());
    [first, 3.0 * mean - first - third, third]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::{Affine, Scan};

    fn volume(voxels: Vec<f32>, shape: [usize; 3], spacing: [f64; 3]) -> Volume {
        Scan::from_voxels("x", voxels, shape, Affine::aligned(spacing, [1.0, 2.0, 3.0])).unwrap().canonical()
    }

    /// 200 inside a ball of `radius` mm, falling by 50 a mm from its border on, on a grid of `n` voxels of `mm`.
    fn ball(radius: f64, n: usize, mm: f64) -> (Volume, Volume) {
        let middle = (n as f64 - 1.0) / 2.0;
        let far = |i: usize| {
            let d = [i % n, i / n % n, i / n / n].map(|v| (v as f64 - middle) * mm);
            d.iter().map(|v| v * v).sum::<f64>().sqrt()
        };
        let all = 0..n * n * n;
        let values = all.clone().map(|i| (200.0 - 50.0 * (far(i) - radius).max(0.0)) as f32).collect();
        let mask = all.map(|i| f32::from(u8::from(far(i) <= radius))).collect();
        (volume(values, [n; 3], [mm; 3]), volume(mask, [n; 3], [mm; 3]))
    }

    #[test]
    fn a_balls_numbers_are_those_of_a_ball() {
        let (values, mask) = ball(8.0, 45, 0.8);
        let found = mask_details(&values, &mask).unwrap();
        assert_eq!(found[..5], [200.0; 5]);
        assert_eq!([found[5], found[6], found[7]], [0.0, 200.0, 200.0]);
        // The deepest voxel is the middle.
        assert!((found[8] - 8.0).abs() < 0.9, "depth {}", found[8]);
        // Ring of 0 to 2 mm: its mean lies between the values at both ends, and rings fall outwards.
        assert!(found[9] > 100.0 && found[9] < 200.0 && found[13] < found[9] && found[17] < found[13]);
        // Faces of voxels have 3/2 of a ball's surface.
        assert!((found[21] - 2.0 / 3.0).abs() < 0.03, "sphericity {}", found[21]);
        assert!((found[22] - 1.0).abs() < 0.01 && (found[23] - 1.0).abs() < 0.01);
        assert!((found[24] - 1.0).abs() < 0.03, "share of the ellipsoid {}", found[24]);
        // The perimeter of pixels around a disc is 4 of its diameters, here of 21 pixels of 0.8 mm.
        let expected = 4.0 * PI * (PI * 64.0) / (4.0f64 * 16.8).powi(2);
        assert!((found[25] - expected).abs() < 0.02, "compactness {}, expected {expected}", found[25]);
        // The hull of a disc of pixels cuts across the corners between them: 317 pixels of the 345 that it covers.
        assert!((found[26] - 317.0 / 345.0).abs() < 1e-6, "convexity {}", found[26]);
        assert!((found[27] - (PI * 64.0f64).ln()).abs() < 0.05, "area {}", found[27].exp());
    }

    #[test]
    fn a_boxs_shape_is_that_of_the_box() {
        // 8 x 4 x 2 voxels of 1 x 1 x 2 mm: 8 x 4 x 4 mm.
        let shape = [16, 12, 8];
        let inside = |i: usize| {
            let [x, y, z] = [i % 16, i / 16 % 12, i / 192];
            (4..12).contains(&x) && (4..8).contains(&y) && (3..5).contains(&z)
        };
        let mask: Vec<f32> = (0..1536).map(|i| f32::from(u8::from(inside(i)))).collect();
        let values: Vec<f32> = (0..1536).map(|i| if inside(i) { 30.0 } else { -800.0 }).collect();
        let spacing = [1.0, 1.0, 2.0];
        let found = mask_details(&volume(values, shape, spacing), &volume(mask, shape, spacing)).unwrap();
        let volume: f64 = 128.0;
        let surface = 2.0 * (32.0 + 32.0 + 16.0);
        assert!((found[21] - PI.cbrt() * (6.0 * volume).powf(2.0 / 3.0) / surface).abs() < 1e-9);
        assert!((found[22] - 0.5).abs() < 1e-6 && (found[23] - 0.5).abs() < 1e-6, "{:?}", &found[21..]);
        // Compactness 4 π 32 / 24², hull without a gap, 32 mm².
        assert!((found[25] - 4.0 * PI * 32.0 / 576.0).abs() < 1e-9);
        assert!((found[26] - 1.0).abs() < 1e-12 && (found[27] - 32f64.ln()).abs() < 1e-12);
        assert_eq!([found[9], found[10]], [-800.0, 0.0]);
    }

    #[test]
    fn an_added_constant_moves_the_values_and_leaves_the_shape() {
        let (values, mask) = ball(5.0, 24, 1.1);
        let brighter = Volume { voxels: values.voxels.iter().map(|v| v + 64.0).collect(), ..values.clone() };
        let [a, b] = [&values, &brighter].map(|v| mask_details(v, &mask).unwrap());
        let moved = [0, 1, 2, 3, 4, 6, 7, 9, 11, 12, 13, 15, 16, 17, 19, 20];
        for i in 0..28 {
            let expected = if moved.contains(&i) { 64.0 } else { 0.0 };
            assert!((b[i] - a[i] - expected).abs() < 1e-3, "number {i}: {} and {}", a[i], b[i]);
        }
    }

    #[test]
    fn a_mask_of_a_voxel_or_of_the_whole_scan_has_numbers_too() {
        let one: Vec<f32> = (0..125).map(|i| f32::from(u8::from(i == 62))).collect();
        for mask in [one, vec![1.0; 125]] {
            let values = volume((0..125).map(|i| i as f32).collect(), [5; 3], [1.0; 3]);
            let found = mask_details(&values, &volume(mask, [5; 3], [1.0; 3])).unwrap();
            assert!(found.iter().all(|v| v.is_finite()), "{found:?}");
        }
    }

    #[test]
    fn eigenvalues_are_those_that_numpy_gives() {
        // numpy.linalg.eigvalsh([[4, 1, 0], [1, 3, 1], [0, 1, 2]])
        let found = eigenvalues([[4.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 2.0]]);
        for (found, expected) in found.iter().zip([4.732_050_807_568_877, 3.0, 1.267_949_192_431_123]) {
            assert!((found - expected).abs() < 1e-12, "{found}, expected {expected}");
        }
    }
}
