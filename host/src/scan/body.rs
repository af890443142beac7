//! `background = "drop"`: which pixels of a view show the body. All others show the room around it, or padding.
//!
//! The body is looked for on cells of about 4 mm, slice by slice in axial planes: what is as dark as air and joins the plane's edge
//! is background. Lungs do not join it, and emphysema does not either, unless the scan cuts through it. One more cell on every
//! side counts as body.

use anymc3d_manifest::{Modality, View};
use rayon::prelude::*;
use std::ops::Range;

use crate::memory::{OutOfMemory, zeroed};
use crate::scan::axis_plan::AxisPlan;
use crate::scan::canonical::Volume;
use crate::scan::region;
use crate::scan::resample::Tap;
use crate::scan::slice_grid::SliceGrid;

/// Between the air of a room and the emptiest lung, HU.
const ROOM_AIR: f32 = -900.0;
/// Edge of a cell.
const CELL_MM: f64 = 4.0;

/// Why a view keeps all patches although it asks for `background = "drop"`.
pub(super) const UNKNOWN_MODALITY: &str = "background = \"drop\" needs a CT or MR scan: every patch is kept";
pub(super) const NO_BACKGROUND: &str =
    "background = \"drop\": no body with a background was found: every patch is kept";

/// The body on a coarse grid in canonical order.
struct BodyCells {
    /// Voxels along a cell's edges.
    edge: [usize; 3],
    /// Cells along the axes.
    count: [usize; 3],
    /// x fastest.
    body: Vec<bool>,
}

/// `[S, H, W]`: 1 for pixels that show the body in any of `grids`, which are a view's slices or its adjacent ones, else 0. A
/// line instead where every patch has to be kept.
///
/// # Errors
/// Where there is no memory for them.
pub(super) fn pixels_of_body(
    volume: &Volume,
    view: &View,
    grids: &[SliceGrid],
) -> Result<Result<Vec<f32>, &'static str>, OutOfMemory> {
    let modality = if view.modality == Modality::Any { volume.modality } else { Some(view.modality) };
    let air = match modality {
        Some(Modality::CT) => ROOM_AIR,
        Some(Modality::MR) => region::background(volume),
        _ => return Ok(Err(UNKNOWN_MODALITY)),
    };
    let Some(cells) = BodyCells::of(volume, air) else { return Ok(Err(NO_BACKGROUND)) };
    let [Some(first), ..] = [grids.first()] else { return Ok(Err(NO_BACKGROUND)) };
    let ([h, w], slices) = (first.image_size(), first.slices());
    let mut shown = zeroed::<f32>(slices.saturating_mul(h * w))?;
    for grid in grids {
        let along = grid.plans.each_ref().map(|plan| cells.ranges(plan));
        let axes = grid.plans.each_ref().map(|plan| plan.canonical);
        shown.par_chunks_mut(h * w).zip(&along[0]).for_each(|(image, slice)| {
            for (line, row) in image.chunks_exact_mut(w).zip(&along[1]) {
                let profile = cells.profile(axes, slice.clone(), row.clone());
                for (pixel, column) in line.iter_mut().zip(&along[2]) {
                    if profile[column.clone()].iter().any(|body| *body) {
                        *pixel = 1.0;
                    }
                }
            }
        });
    }
    Ok(Ok(shown))
}

impl BodyCells {
    /// `None` where nothing but background is found, or no background.
    fn of(volume: &Volume, air: f32) -> Option<Self> {
        let edge = volume.spacing_mm.map(|mm| ((CELL_MM / mm).round() as usize).max(1));
        let count = [0, 1, 2].map(|axis| volume.shape[axis].div_ceil(edge[axis]));
        let [cx, cy, cz] = count;
        let mut body = vec![false; cx * cy * cz];
        body.par_chunks_exact_mut(cx * cy).enumerate().for_each(|(z, plane)| {
            let middle = (z * edge[2] + edge[2] / 2).min(volume.shape[2] - 1);
            let dark: Vec<bool> = means(volume, middle, edge, [cx, cy]).iter().map(|m| *m < air).collect();
            let outside = joined_to_edge(&dark, cx);
            plane.iter_mut().zip(outside).for_each(|(body, outside)| *body = !outside);
        });
        let found = body.iter().filter(|body| **body).count();
        if found == 0 || found == body.len() {
            return None;
        }
        let grown =
            [1, cx, cx * cy].into_iter().zip(count).fold(body, |body, (step, n)| grown(&body, step, n));
        Some(Self { edge, count, body: grown })
    }

    /// The cells that each pixel of an axis is mostly made of, by voxels of at least half the largest weight; none where it is
    /// padding.
    fn ranges(&self, plan: &AxisPlan) -> Vec<Range<usize>> {
        let edge = self.edge[plan.canonical];
        let of = |tap: &Tap| {
            let half = 0.5 * tap.weights.iter().copied().fold(0f32, f32::max);
            let heavy = |w: &f32| *w >= half && half > 0.0;
            match (tap.weights.iter().position(heavy), tap.weights.iter().rposition(heavy)) {
                (Some(low), Some(high)) => (tap.start + low) / edge..(tap.start + high) / edge + 1,
                _ => 0..0,
            }
        };
        plan.taps().iter().map(of).collect()
    }

    /// Whether any cell of `first` × `second`, along the first two of `axes`, is body: for each cell along the third.
    fn profile(&self, axes: [usize; 3], first: Range<usize>, second: Range<usize>) -> Vec<bool> {
        let [cx, cy, _] = self.count;
        let step = axes.map(|axis| [1, cx, cx * cy][axis]);
        let mut profile = vec![false; self.count[axes[2]]];
        for a in first {
            for b in second.clone() {
                let from = a * step[0] + b * step[1];
                for (i, any) in profile.iter_mut().enumerate() {
                    *any |= self.body[from + i * step[2]];
                }
            }
        }
        profile
    }
}

/// Mean of the voxels of plane `z` in each cell, x fastest.
fn means(volume: &Volume, z: usize, edge: [usize; 3], [cx, cy]: [usize; 2]) -> Vec<f32> {
    let [nx, ny, _] = volume.shape;
    let plane = &volume.voxels[z * nx * ny..][..nx * ny];
    let mut means = vec![0f32; cx * cy];
    for (row, cells) in plane.chunks_exact(nx * edge[1].min(ny)).zip(means.chunks_exact_mut(cx)) {
        mean_of_rows(row, nx, edge[0], cells);
    }
    // The last cells may be cut.
    let rest = ny % edge[1];
    if rest > 0 {
        mean_of_rows(&plane[(ny - rest) * nx..], nx, edge[0], &mut means[(cy - 1) * cx..]);
    }
    means
}

fn mean_of_rows(rows: &[f32], nx: usize, edge: usize, cells: &mut [f32]) {
    for row in rows.chunks_exact(nx) {
        for (cell, voxels) in cells.iter_mut().zip(row.chunks(edge)) {
            *cell += voxels.iter().sum::<f32>() / voxels.len() as f32;
        }
    }
    let n = (rows.len() / nx) as f32;
    cells.iter_mut().for_each(|cell| *cell /= n);
}

/// Those of the `dark` cells of a plane that hang together with one at its edge.
fn joined_to_edge(dark: &[bool], width: usize) -> Vec<bool> {
    let height = dark.len() / width;
    let mut outside = vec![false; dark.len()];
    let edge =
        |i: usize| i.is_multiple_of(width) || i % width == width - 1 || i < width || i >= dark.len() - width;
    let mut open: Vec<usize> = (0..dark.len()).filter(|&i| dark[i] && edge(i)).collect();
    open.iter().for_each(|&i| outside[i] = true);
    while let Some(i) = open.pop() {
        let (x, y) = (i % width, i / width);
        let mut visit = |there: bool, i: usize| {
            if there && dark[i] && !outside[i] {
                outside[i] = true;
                open.push(i);
            }
        };
        visit(x > 0, i.wrapping_sub(1));
        visit(x + 1 < width, i + 1);
        visit(y > 0, i.wrapping_sub(width));
        visit(y + 1 < height, i + width);
    }
    outside
}

/// With one more cell on both sides along an axis of `n` cells, `step` apart.
fn grown(body: &[bool], step: usize, n: usize) -> Vec<bool> {
    (0..body.len())
        .map(|i| {
            let at = i / step % n;
            body[i] || at > 0 && body[i - step] || at + 1 < n && body[i + step]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::tests::view;
    use crate::scan::{Affine, Scan, SliceStack, slices};
    use anymc3d_manifest::{Axis, Background, Channels, Fit};

    /// 80 x 64 x 40 voxels of 2 mm: a body of 40 x 32 x 40 voxels with a lung that reaches the top, air of -1000 ± 20 HU.
    fn chest() -> Scan {
        let mut voxels = Vec::new();
        for z in 0..40 {
            for y in 0..64 {
                for x in 0..80 {
                    let inside = (20..60).contains(&x) && (16..48).contains(&y);
                    let lung = (26..54).contains(&x) && (22..42).contains(&y) && z > 10;
                    let noise = ((x * 7 + y * 13 + z * 5) % 41) as f32 - 20.0;
                    voxels.push(
                        if lung {
                            -930.0
                        } else if inside {
                            40.0
                        } else {
                            -1000.0
                        } + noise,
                    );
                }
            }
        }
        Scan::from_voxels("x", voxels, [80, 64, 40], Affine::aligned([2.0; 3], [0.0; 3])).unwrap()
    }

    /// As many slices as the scan has along the axis.
    fn dropping(axis: Axis) -> View {
        let slices = match axis {
            Axis::Sagittal => 80,
            Axis::Coronal => 64,
            _ => 40,
        };
        let view = view(axis, slices, [80, 80], Fit::Square);
        View { modality: Modality::CT, background: Background::Drop, ..view }
    }

    fn cut(view: &View) -> SliceStack {
        slices(&chest().canonical(), view, 1).unwrap()
    }

    #[test]
    fn the_room_is_background_and_the_lungs_are_not_in_every_view() {
        for axis in [Axis::Axial, Axis::Coronal, Axis::Sagittal] {
            let stack = cut(&dropping(axis));
            let body = stack.body.as_ref().unwrap();
            // What is surely body must be kept; what is farther than two cells (8 mm) from it, or padding, must not.
            for (s, image) in body.chunks_exact(80 * 80).enumerate() {
                for (i, &shown) in image.iter().enumerate() {
                    let centre = stack.grid.patch_centre_mm(
                        s,
                        (i / 80) as f64 / 80.0 + 0.5 / 80.0,
                        (i % 80) as f64 / 80.0 + 0.5 / 80.0,
                    );
                    let distance = |x: f64, low: f64, high: f64| (low - x).max(x - high).max(0.0);
                    let away = distance(centre[0], 40.0, 118.0)
                        .max(distance(centre[1], 32.0, 94.0))
                        .max(distance(centre[2], 0.0, 78.0));
                    assert!(away > 0.0 || shown == 1.0, "{axis:?}: {centre:?} is dropped");
                    assert!(away < 14.0 || shown == 0.0, "{axis:?}: {centre:?} is kept");
                }
            }
        }
    }

    #[test]
    fn adjacent_slices_keep_what_any_of_the_three_shows() {
        let alone = cut(&dropping(Axis::Sagittal)).body.unwrap();
        let with = View { channels: Channels::Adjacent, adjacent_mm: Some(30.0), ..dropping(Axis::Sagittal) };
        let three = cut(&with).body.unwrap();
        assert!(alone.iter().zip(&three).all(|(one, any)| any >= one));
        assert!(three.iter().sum::<f32>() > alone.iter().sum());
    }

    #[test]
    fn a_scan_of_unknown_kind_or_without_a_background_keeps_all_and_says_so() {
        let unknown = View { modality: Modality::PT, ..dropping(Axis::Axial) };
        let stack = cut(&unknown);
        assert!(stack.body.is_none() && stack.warnings.iter().any(|w| w == UNKNOWN_MODALITY));
        let full = Scan::from_voxels(
            "x",
            (0..8000).map(|i| i as f32).collect(),
            [20; 3],
            Affine::aligned([2.0; 3], [0.0; 3]),
        );
        let stack = slices(&full.unwrap().canonical(), &dropping(Axis::Axial), 1).unwrap();
        assert!(stack.body.is_none() && stack.warnings.iter().any(|w| w == NO_BACKGROUND));
    }
}
