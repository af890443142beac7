//! Resampling between the frames as stored and the straight grid of the volume, both ways.
//!
//! The frames are perpendicular to the normal already: straightening shifts each within its plane and interpolates
//! between neighbours along the normal, so no voxel mixes more than two frames.

use rayon::prelude::*;

use crate::geometry::StackGeometry;

/// Shift of a frame in voxels of the grid: voxel i of the frame is i + shift of the grid.
fn shift(geometry: &StackGeometry, slice: usize) -> [f64; 2] {
    [0, 1].map(|axis| (geometry.places[slice][axis] - geometry.extent(axis)[0]) / geometry.spacing_mm[axis])
}

impl StackGeometry {
    /// Values on the volume's grid ([`Self::volume_dims`], columns fastest) on the frames as stored, [slices, rows,
    /// columns], trilinear. Without straightening the values are the same.
    ///
    /// # Panics
    /// Where `values` has another number of values than the volume has voxels.
    pub fn onto_frames(&self, values: &[f32]) -> Vec<f32> {
        assert_eq!(values.len(), self.volume_dims().iter().product::<usize>(), "one value per voxel");
        if self.straight { values.to_vec() } else { to_frames(values, self) }
    }
}

/// Frames [slices, rows, columns] onto the grid of [`StackGeometry::volume_dims`]. Voxels that no frame covers are
/// NaN, and so are those next to a NaN.
pub(crate) fn to_grid(frames: &[f32], geometry: &StackGeometry) -> Vec<f32> {
    let [columns, rows, slices] = geometry.volume_dims();
    let size = geometry.rows * geometry.columns;
    let shifts: Vec<[f64; 2]> = (0..geometry.slices).map(|k| shift(geometry, k)).collect();
    let gap = geometry.volume_gap_mm();
    let mut out = vec![f32::NAN; columns * rows * slices];
    out.par_chunks_mut(columns * rows).enumerate().for_each(|(k, slice)| {
        let t = geometry.places[0][2] + gap * k as f64;
        let (below, weight) = neighbours(geometry, t);
        for (frame, w) in [(below, 1.0 - weight), (below + 1, weight)] {
            if w > 0.0 {
                let source = &frames[frame * size..(frame + 1) * size];
                add_shifted(
                    slice,
                    [columns, rows],
                    source,
                    geometry,
                    shifts[frame],
                    w as f32,
                    frame == below,
                );
            }
        }
    });
    out
}

/// The frame at or below `t` mm along the normal, and the weight of the one above it.
fn neighbours(geometry: &StackGeometry, t: f64) -> (usize, f64) {
    let places = &geometry.places;
    let above = places.partition_point(|p| p[2] <= t + 1e-6);
    let below = above.saturating_sub(1);
    if above >= places.len() {
        return (places.len() - 1, 0.0);
    }
    let weight = (t - places[below][2]) / (places[above][2] - places[below][2]);
    // A thousandth of a frame is rounding: such a voxel is the frame itself.
    match weight {
        w if w < 1e-3 => (below, 0.0),
        w if w > 0.999 => (above, 0.0),
        w => (below, w),
    }
}

/// Adds `weight` times a frame, shifted, to a slice of the grid; sets it where `first`.
fn add_shifted(
    slice: &mut [f32],
    [columns, rows]: [usize; 2],
    frame: &[f32],
    geometry: &StackGeometry,
    shift: [f64; 2],
    weight: f32,
    first: bool,
) {
    let (width, height) = (geometry.columns, geometry.rows);
    let across: Vec<Option<(usize, f32)>> =
        (0..columns).map(|i| position(i as f64 - shift[0], width)).collect();
    for j in 0..rows {
        let line = &mut slice[j * columns..(j + 1) * columns];
        let Some((row, v)) = position(j as f64 - shift[1], height) else {
            line.fill(f32::NAN);
            continue;
        };
        let upper = &frame[row * width..(row + 1) * width];
        let next = (row + 1).min(height - 1);
        let lower = &frame[next * width..(next + 1) * width];
        for (value, place) in line.iter_mut().zip(&across) {
            let sample = match place {
                None => f32::NAN,
                Some((i, u)) => {
                    let next = (i + 1).min(width - 1);
                    lerp(lerp(upper[*i], upper[next], *u), lerp(lower[*i], lower[next], *u), v)
                }
            };
            *value = if first { sample * weight } else { *value + sample * weight };
        }
    }
}

/// A weight of zero takes no part, so that a NaN beside a voxel does not reach it.
fn lerp(a: f32, b: f32, weight: f32) -> f32 {
    if weight == 0.0 { a } else { a + (b - a) * weight }
}

/// Pixel and weight of the next one; `None` outside of the pixels' centres by more than a thousandth.
fn position(x: f64, count: usize) -> Option<(usize, f32)> {
    let last = (count - 1) as f64;
    if x < -1e-3 || x > last + 1e-3 {
        return None;
    }
    let x = x.clamp(0.0, last);
    let whole = x.floor();
    let weight = (x - whole) as f32;
    match weight {
        w if w < 1e-4 => Some((whole as usize, 0.0)),
        w if w > 1.0 - 1e-4 => Some((whole as usize + 1, 0.0)),
        w => Some((whole as usize, w)),
    }
}

/// Values on the grid (a heatmap, a mask as 0 and 1) back onto the frames: [slices, rows, columns], trilinear.
pub(crate) fn to_frames(grid: &[f32], geometry: &StackGeometry) -> Vec<f32> {
    let [columns, rows, slices] = geometry.volume_dims();
    let gap = geometry.volume_gap_mm();
    let size = geometry.rows * geometry.columns;
    let mut out = vec![0.0; size * geometry.slices];
    out.par_chunks_mut(size).enumerate().for_each(|(k, frame)| {
        let [sx, sy] = shift(geometry, k);
        let z = (geometry.places[k][2] - geometry.places[0][2]) / gap;
        let Some((slice, w)) = position(z.clamp(0.0, (slices - 1) as f64), slices) else { return };
        let above = (slice + 1).min(slices - 1);
        for j in 0..geometry.rows {
            let Some((row, v)) = position((j as f64 + sy).min((rows - 1) as f64), rows) else { continue };
            for i in 0..geometry.columns {
                let Some((column, u)) = position((i as f64 + sx).min((columns - 1) as f64), columns) else {
                    continue;
                };
                let at = |s: usize, r: usize| {
                    let line = &grid[(s * rows + r.min(rows - 1)) * columns..];
                    lerp(line[column], line[(column + 1).min(columns - 1)], u)
                };
                let plane = |s: usize| lerp(at(s, row), at(s, row + 1), v);
                frame[j * geometry.columns + i] = lerp(plane(slice), plane(above), w);
            }
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::Plane;
    use crate::geometry::{cross, dot, measure};
    use crate::limits::Limits;

    /// Oblique, tilted, uneven: every property at once.
    fn tilted() -> (Vec<Plane>, StackGeometry) {
        let row = [0.8, 0.6, 0.0];
        let column = [-0.6 * 0.96, 0.8 * 0.96, 0.28];
        let normal = cross(row, column);
        let planes: Vec<Plane> = [0.0, 4.0, 8.0, 12.0, 19.0, 26.0, 33.0]
            .iter()
            .map(|t| Plane {
                position: std::array::from_fn(|i| {
                    [10.0, -20.0, 5.0][i] + normal[i] * t - column[i] * t * 0.33
                }),
                orientation: [row, column],
                spacing: [0.9, 0.6],
            })
            .collect();
        let geometry = measure(&planes, [24, 40], None, &Limits::default()).unwrap();
        (planes, geometry)
    }

    /// Each pixel holds one RAS coordinate of its place.
    fn phantom(planes: &[Plane], axis: usize) -> Vec<f32> {
        let sign = [-1.0, -1.0, 1.0][axis];
        let mut out = Vec::new();
        for p in planes {
            for j in 0..40 {
                for i in 0..24 {
                    let x = p.position[axis]
                        + p.orientation[0][axis] * 0.6 * f64::from(i)
                        + p.orientation[1][axis] * 0.9 * f64::from(j);
                    out.push((sign * x) as f32);
                }
            }
        }
        out
    }

    #[test]
    fn every_voxel_of_a_phantom_of_positions_lies_where_its_value_says() {
        let (planes, geometry) = tilted();
        assert!(!geometry.straight);
        let affine = geometry.affine();
        let [columns, rows, slices] = geometry.volume_dims();
        for axis in 0..3 {
            let grid = to_grid(&phantom(&planes, axis), &geometry);
            let (mut covered, mut worst) = (0, 0.0_f64);
            for (n, value) in grid.iter().enumerate().filter(|(_, v)| v.is_finite()) {
                let index = [n % columns, n / columns % rows, n / columns / rows].map(|v| v as f64);
                worst = worst.max((affine.apply(index)[axis] - f64::from(*value)).abs());
                covered += 1;
            }
            assert!(worst < 1e-3, "axis {axis}: {worst} mm");
            assert!(covered * 10 > 24 * 40 * slices * 8, "axis {axis}: {covered} voxels covered");
        }
    }

    #[test]
    fn a_value_on_the_grid_comes_back_onto_the_same_place_of_a_frame() {
        let (planes, geometry) = tilted();
        let affine = geometry.affine();
        let [columns, rows, slices] = geometry.volume_dims();
        for axis in 0..3 {
            let grid: Vec<f32> = (0..columns * rows * slices)
                .map(|n| {
                    affine.apply([n % columns, n / columns % rows, n / columns / rows].map(|v| v as f64))
                        [axis] as f32
                })
                .collect();
            let back = to_frames(&grid, &geometry);
            let worst =
                back.iter().zip(phantom(&planes, axis)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-3, "axis {axis}: {worst} mm");
        }
        assert!(dot(geometry.axes[2], geometry.axes[0]).abs() < 1e-12);
    }
}
