//! Heatmaps: class attention times slice weight, stacked, and mapped back onto the scan's grid.
//!
//! A heatmap shows where the model looked, with the resolution of a patch, not what it saw there. It keeps the raw
//! scale: the values of a slice sum to about its weight times the attention of its patches.

use rayon::prelude::*;

use crate::scan::{Affine, ScanPlanes, SliceGrid};

/// One view's part of a heatmap.
#[derive(Debug, Clone, Copy)]
pub struct ViewHeat<'a> {
    /// Where the view's slices lie.
    pub grid: &'a SliceGrid,
    /// `[S, h, w]` as [`slice_heat`] gives it.
    pub heat: &'a [f32],
    /// Rows and columns of the patch grid.
    pub patches: [usize; 2],
    /// The view's fusion weight; 1 where it is the only one.
    pub weight: f32,
}

/// The strongest voxel of a heatmap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// Stored voxel index.
    pub index: [usize; 3],
    /// RAS mm.
    pub position_mm: [f64; 3],
    /// Raw value.
    pub value: f32,
}

/// `class_attention[s, ..] * slice_weights[s]`: `[S, h, w]` in, `[S, h, w]` out.
///
/// `class_attention` is the last block's class-to-patch attention, mean over its heads. Slices
/// beyond the shorter of the two are left out.
pub fn slice_heat(class_attention: &[f32], slice_weights: &[f32]) -> Vec<f32> {
    let patches = class_attention.len() / slice_weights.len().max(1);
    let slices = class_attention.chunks_exact(patches.max(1)).zip(slice_weights);
    slices.flat_map(|(slice, weight)| slice.iter().map(move |v| v * weight)).collect()
}

/// `[S, h, w]` to `[S, H, W]`: PyTorch's `interpolate(mode="bilinear", align_corners=False)`.
///
/// Empty where `maps` is not a whole number of `h · w`.
pub fn upsample(maps: &[f32], [h, w]: [usize; 2], [rows, columns]: [usize; 2]) -> Vec<f32> {
    if h * w == 0 || !maps.len().is_multiple_of(h * w) {
        return Vec::new();
    }
    let (down, across) = (neighbours(h, rows), neighbours(w, columns));
    let mut out = vec![0f32; maps.len() / (h * w) * rows * columns];
    out.par_chunks_mut((rows * columns).max(1)).zip(maps.par_chunks(h * w)).for_each(|(out, map)| {
        for (out, &(top, bottom, v)) in out.chunks_exact_mut(columns).zip(&down) {
            for (out, &(left, right, u)) in out.iter_mut().zip(&across) {
                let along = |row: usize| map[row * w + left] * (1.0 - u) + map[row * w + right] * u;
                *out = along(top) * (1.0 - v) + along(bottom) * v;
            }
        }
    });
    out
}

/// For each of `out` samples the two inputs around it and how far it is to the second.
fn neighbours(n: usize, out: usize) -> Vec<(usize, usize, f32)> {
    (0..out)
        .map(|i| {
            let at = ((i as f64 + 0.5) * n as f64 / out as f64 - 0.5).clamp(0.0, (n - 1) as f64);
            let below = at as usize;
            (below, (below + 1).min(n - 1), (at - below as f64) as f32)
        })
        .collect()
}

/// The views' heatmaps on the stored grid of their scan, summed by weight, computed plane by plane.
///
/// Bilinear within a slice (as [`upsample`]), linear in mm between slices, zero outside the stack.
#[derive(Debug)]
pub struct Heatmap {
    parts: Vec<(ScanPlanes, f32)>,
    shape: [usize; 3],
    most: f32,
}

impl Heatmap {
    /// `None` where there is no view, the views come from scans of different shapes, or heat and grid do not fit.
    pub fn of(views: &[ViewHeat]) -> Option<Self> {
        let shape = views.first()?.grid.scan_shape();
        let mut parts = Vec::new();
        let mut most = 0.0;
        for view in views {
            let [h, w] = view.patches;
            let part = ScanPlanes::of(view.grid, view.heat, h, w).filter(|part| part.shape() == shape)?;
            // Interpolated values are no larger than those they lie between.
            most += view.heat.iter().copied().filter(|v| v.is_finite()).fold(0.0, f32::max) * view.weight;
            parts.push((part, view.weight));
        }
        Some(Self { parts, shape, most })
    }

    /// The scan's stored shape.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// No voxel has more: of one view the strongest patch.
    pub fn most(&self) -> f32 {
        self.most
    }

    /// Adds the heat of stored plane `z` to `plane` (first axis fastest).
    pub fn add(&self, z: usize, plane: &mut [f32]) {
        self.parts.iter().for_each(|(part, weight)| part.add(z, *weight, plane));
    }
}

/// A whole [`Heatmap`], first axis fastest; `None` as there.
pub fn on_scan(views: &[ViewHeat]) -> Option<Vec<f32>> {
    let heatmap = Heatmap::of(views)?;
    let [nx, ny, nz] = heatmap.shape;
    let mut sum = vec![0f32; nx * ny * nz];
    sum.par_chunks_mut(nx * ny).enumerate().for_each(|(z, plane)| heatmap.add(z, plane));
    Some(sum)
}

/// The strongest voxel, the first of equals; `None` where nothing is above zero.
pub fn peak(heat: &[f32], shape: [usize; 3], affine: &Affine) -> Option<Peak> {
    let (at, &value) = heat
        .par_iter()
        .enumerate()
        .filter(|(_, v)| **v > 0.0)
        .max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)))?;
    let index = [at % shape[0], at / shape[0] % shape[1], at / (shape[0] * shape[1])];
    Some(Peak { index, position_mm: affine.apply(index.map(|i| i as f64)), value })
}

#[cfg(test)]
mod tests {
    use anymc3d_manifest::{Axis, Fit, Intensity, Modality, Region, View};

    use super::*;
    use crate::scan::{Scan, SliceStack, slices};

    fn stack(scan: &Scan, axis: Axis) -> SliceStack {
        let view = View {
            name: "v".into(),
            modality: Modality::Any,
            axis,
            slices: Some(6),
            slice_spacing_mm: None,
            size: [28, 28],
            fit: Fit::Square,
            spacing_mm: None,
            region: Region::Full,
            intensity: Intensity::Window { windows: vec![[0.0, 1.0]] },
            ..View::new("v", Axis::Axial, 1, [1, 1])
        };
        slices(&scan.canonical(), &view, 14).unwrap()
    }

    fn scan() -> Scan {
        let voxels = (0..24 * 20 * 12).map(|i| (i % 7) as f32).collect();
        let mut affine = Affine::aligned([2.0, 2.0, 3.0], [-20.0, 5.0, 100.0]);
        affine.0[0] = [-2.0, 0.0, 0.0, 30.0];
        Scan::from_voxels("x", voxels, [24, 20, 12], affine).unwrap()
    }

    #[test]
    fn a_slices_heat_is_its_attention_times_its_weight() {
        assert_eq!(slice_heat(&[1.0, 2.0, 3.0, 4.0], &[0.5, 2.0]), [0.5, 1.0, 6.0, 8.0]);
        assert!(slice_heat(&[], &[]).is_empty());
    }

    #[test]
    fn upsampling_is_pytorchs() {
        // interpolate([[0, 1]], size=(1, 4)): 0, 0.25, 0.75, 1
        assert_eq!(upsample(&[0.0, 1.0], [1, 2], [1, 4]), [0.0, 0.25, 0.75, 1.0]);
        assert!(upsample(&[0.0; 3], [1, 2], [2, 2]).is_empty());
    }

    #[test]
    fn the_peak_is_where_the_hottest_patch_is() {
        let scan = scan();
        let stack = stack(&scan, Axis::Axial);
        let mut heat = vec![0.01; 6 * 4 * 4];
        heat[4 * 16 + 4 + 2] = 1.0; // slice 4, row 1, column 2
        let on_grid =
            on_scan(&[ViewHeat { grid: &stack.grid, heat: &heat, patches: [4, 4], weight: 1.0 }]).unwrap();
        let found = peak(&on_grid, scan.shape, &scan.affine).unwrap();
        let expected = stack.grid.patch_centre_mm(4, 1.5 / 4.0, 2.5 / 4.0);
        for a in 0..3 {
            assert!((found.position_mm[a] - expected[a]).abs() <= 3.0, "{found:?} is not at {expected:?}");
        }
        assert!(found.value > 0.5 && found.value <= 1.0);
        assert_eq!(peak(&[0.0; 8], [2; 3], &scan.affine), None);
    }

    #[test]
    fn views_are_summed_by_their_fusion_weights() {
        let scan = scan();
        let (axial, sagittal) = (stack(&scan, Axis::Axial), stack(&scan, Axis::Sagittal));
        let ones = [1.0; 6 * 4];
        let part = |s: &'static str, weight| {
            let grid = if s == "axial" { &axial.grid } else { &sagittal.grid };
            (grid, weight)
        };
        let views = [part("axial", 0.75), part("sagittal", 0.25)].map(|(grid, weight)| ViewHeat {
            grid,
            heat: &ones,
            patches: [2, 2],
            weight,
        });
        let sum = on_scan(&views).unwrap();
        assert!(sum.iter().all(|v| (v - 1.0).abs() < 1e-6));
        let half = on_scan(&views[1..]).unwrap();
        assert!(half.iter().all(|v| (v - 0.25).abs() < 1e-6));

        let other =
            Scan::from_voxels("y", vec![1.0; 8], [2; 3], Affine::aligned([1.0; 3], [0.0; 3])).unwrap();
        let other = stack(&other, Axis::Axial);
        let alien = ViewHeat { grid: &other.grid, ..views[0] };
        assert!(on_scan(&[views[0], alien]).is_none());
        assert!(on_scan(&[]).is_none());
    }
}
