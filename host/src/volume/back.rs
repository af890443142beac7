//! The way back: from slices, patches and masks to the scan's own grid and to millimetres.

use std::path::PathBuf;

use anymc3d_manifest::Axis;
use anymc3d_plugin_api::SliceGeometry;
use rayon::prelude::*;

use super::canonical::{StoredAxis, Volume};
use super::plan::AxisPlan;
use super::resample::separable;
use super::{Affine, VolumeError};

/// Where the pixels of a slice stack came from.
#[derive(Debug, Clone)]
pub struct SliceGrid {
    /// Slice, row, column.
    pub(crate) plans: [AxisPlan; 3],
    pub(crate) canonical_shape: [usize; 3],
    stored: [StoredAxis; 3],
    stored_shape: [usize; 3],
    /// Canonical voxel index → RAS mm.
    affine: Affine,
    path: PathBuf,
}

impl SliceGrid {
    pub(crate) fn new(volume: &Volume, plans: [AxisPlan; 3]) -> Self {
        Self {
            plans,
            canonical_shape: volume.shape,
            stored: volume.stored,
            stored_shape: volume.stored_shape(),
            affine: volume.affine,
            path: volume.path.clone(),
        }
    }

    /// Number of slices S.
    pub fn slices(&self) -> usize {
        self.plans[0].size
    }

    /// The anatomical axis that is cut; `native` resolved.
    pub fn axis(&self) -> Axis {
        [Axis::Sagittal, Axis::Coronal, Axis::Axial][self.plans[0].canonical]
    }

    /// Rows and columns of a slice, pixels.
    pub fn image_size(&self) -> [usize; 2] {
        [self.plans[1].size, self.plans[2].size]
    }

    /// Which canonical axis (0 right, 1 anterior, 2 superior) slices, rows and columns run along, and whether against it.
    pub fn directions(&self) -> [(usize, bool); 3] {
        std::array::from_fn(|i| (self.plans[i].canonical, self.plans[i].reversed))
    }

    /// The scan's stored shape: what [`Self::to_scan`] fills.
    pub fn scan_shape(&self) -> [usize; 3] {
        self.stored_shape
    }

    /// Index of the scan's stored slice nearest to slice `s`, along the stored axis that the view cuts.
    pub fn index_in_scan(&self, s: usize) -> usize {
        let plan = &self.plans[0];
        let index = plan.to_canonical(s as f64).round().clamp(0.0, plan.voxels as f64 - 1.0) as usize;
        if self.stored[plan.canonical].flipped { plan.voxels - 1 - index } else { index }
    }

    /// RAS coordinate (mm) of the centre of slice `s` along the view's axis: S for axial, A for coronal, R for sagittal.
    pub fn position_mm(&self, s: usize) -> f64 {
        self.patch_centre_mm(s, 0.5, 0.5)[self.plans[0].canonical]
    }

    /// RAS mm of a point of slice `s`, given as fractions of the image from its top and left edges.
    ///
    /// The centre of patch `(i, j)` of an `h` × `w` grid is `row = (i + 0.5) / h`, `col = (j + 0.5) / w`.
    pub fn patch_centre_mm(&self, s: usize, row: f64, col: f64) -> [f64; 3] {
        let [slices, rows, columns] = &self.plans;
        let mut index = [0.0; 3];
        index[slices.canonical] = slices.to_canonical(s as f64);
        index[rows.canonical] = rows.to_canonical(row * rows.size as f64 - 0.5);
        index[columns.canonical] = columns.to_canonical(col * columns.size as f64 - 0.5);
        self.affine.apply(index)
    }

    /// Height and width of a pixel, mm.
    pub fn pixel_size_mm(&self) -> [f64; 2] {
        [1, 2].map(|i| self.plans[i].step() * self.plans[i].spacing_mm)
    }

    /// Distance between slices, mm.
    pub fn slice_distance_mm(&self) -> f64 {
        self.plans[0].step() * self.plans[0].spacing_mm
    }

    /// Where the slices lie, and tokens on a grid h, w over each image, as plugins are told of it.
    pub fn geometry(&self, (h, w): (usize, usize)) -> SliceGeometry {
        let centres = (0..self.slices()).map(|s| self.patch_centre_mm(s, 0.5, 0.5)).collect();
        let ([rows, columns], pixel) = (self.image_size(), self.pixel_size_mm());
        let token = |pixels: usize, tokens: usize, mm: f64| pixels as f64 * mm / tokens.max(1) as f64;
        let spacing = [self.slice_distance_mm(), token(rows, h, pixel[0]), token(columns, w, pixel[1])];
        SliceGeometry::new((0..self.slices()).map(|s| self.position_mm(s)).collect(), centres, spacing)
    }

    /// `values` `[S, h, w]` that span the images edge to edge (any `h`, `w`) on the scan's stored grid, first axis fastest.
    ///
    /// Trilinear in mm; zero outside the stack. Empty where `values` is not `S · h · w` long or any of them is 0.
    pub fn to_scan(&self, values: &[f32], h: usize, w: usize) -> Vec<f32> {
        let sizes = [self.slices(), h, w];
        if sizes.contains(&0) || values.len() != sizes.iter().product::<usize>() {
            return Vec::new();
        }
        // For each stored axis: which of slice, row, column it is, and the taps along it.
        let mut source = [0; 3];
        let mut taps = [Vec::new(), Vec::new(), Vec::new()];
        for (i, plan) in self.plans.iter().enumerate() {
            let StoredAxis { axis, flipped } = self.stored[plan.canonical];
            source[axis] = i;
            taps[axis] = plan.taps_back(sizes[i]);
            if flipped {
                taps[axis].reverse();
            }
        }
        let step = [h * w, w, 1];
        let shape = source.map(|i| sizes[i]);
        let mut block = Vec::with_capacity(values.len());
        for z in 0..shape[2] {
            for y in 0..shape[1] {
                let row = z * step[source[2]] + y * step[source[1]];
                block.extend((0..shape[0]).map(|x| values[row + x * step[source[0]]]));
            }
        }
        separable(&block, shape, [&taps[0], &taps[1], &taps[2]], 0.0).values
    }

    /// How much of each pixel a mask covers, `[S, H, W]` in 0..1, by the same region, fit and resampling (padding 0).
    ///
    /// # Errors
    /// [`VolumeError::MaskGrid`] where the mask is not on the scan's grid (its stored order may differ).
    pub fn mask_to_slices(&self, mask: &Volume) -> Result<Vec<f32>, VolumeError> {
        mask.expect_grid(&self.path, self.canonical_shape, &self.affine)?;
        let inside: Vec<f32> = mask.voxels.par_iter().map(|&v| if v > 0.5 { 1.0 } else { 0.0 }).collect();
        let image = self.sample(&inside, 0.0);
        let layout = self.layout();
        let [s, h, w] = layout.shape;
        let mut out = Vec::with_capacity(s * h * w);
        for s in 0..s {
            for r in 0..h {
                let row = s * layout.step[0] + r * layout.step[1];
                out.extend((0..w).map(|c| image.values[row + c * layout.step[2]].clamp(0.0, 1.0)));
            }
        }
        Ok(out)
    }
}
