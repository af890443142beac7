//! The way back: from slices, patches and masks to the scan's own grid and to millimetres.

use std::path::PathBuf;

use anymc3d_manifest::Axis;
use anymc3d_plugin_api::SliceGeometry;
use rayon::prelude::*;

use crate::memory::{reserved, zeroed};
use crate::scan::axis_plan::AxisPlan;
use crate::scan::canonical::{StoredAxis, Volume};
use crate::scan::planes::ScanPlanes;
use crate::scan::{Affine, VolumeError};

/// Where the pixels of a slice stack came from.
#[derive(Debug, Clone)]
pub struct SliceGrid {
    /// Slice, row, column.
    pub(crate) plans: [AxisPlan; 3],
    pub(crate) canonical_shape: [usize; 3],
    pub(crate) stored: [StoredAxis; 3],
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

    /// The same grid with every slice `mm` farther along the view's axis.
    pub(crate) fn shifted(&self, mm: f64) -> Self {
        let mut moved = self.clone();
        moved.plans[0] = self.plans[0].shifted(mm);
        moved
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

    /// Index of the scan's stored axis that the slices follow each other along.
    pub fn stored_axis(&self) -> usize {
        self.stored[self.plans[0].canonical].axis
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
    /// Trilinear in mm; zero outside the stack. Empty where `values` is not `S · h · w` long, any of them is 0, or there
    /// is no memory for the grid.
    pub fn to_scan(&self, values: &[f32], h: usize, w: usize) -> Vec<f32> {
        let Some(planes) = ScanPlanes::of(self, values, h, w) else { return Vec::new() };
        let [nx, ny, nz] = self.stored_shape;
        let Ok(mut out) = zeroed::<f32>(nx * ny * nz) else { return Vec::new() };
        out.par_chunks_mut(nx * ny).enumerate().for_each(|(z, plane)| planes.add(z, 1.0, plane));
        out
    }

    /// How much of each pixel a mask covers, `[S, H, W]` in 0..1, by the same region, fit and resampling (padding 0).
    ///
    /// # Errors
    /// [`VolumeError::MaskGrid`] where the mask is not on the scan's grid (its stored order may differ),
    /// [`VolumeError::NoMemory`] where there is none for its slices.
    pub fn mask_to_slices(&self, mask: &Volume) -> Result<Vec<f32>, VolumeError> {
        mask.expect_grid(&self.path, self.canonical_shape, &self.affine)?;
        let no_memory = VolumeError::no_memory(&mask.path, "its slices");
        let mut inside = zeroed::<f32>(mask.voxels.len()).map_err(&no_memory)?;
        inside.par_iter_mut().zip(&mask.voxels).for_each(|(i, &v)| *i = f32::from(u8::from(v > 0.5)));
        let image = self.sample(&inside, 0.0).map_err(&no_memory)?;
        let layout = self.layout();
        let [s, h, w] = layout.shape;
        let mut out = reserved(s.saturating_mul(h).saturating_mul(w)).map_err(&no_memory)?;
        for s in 0..s {
            for r in 0..h {
                let row = s * layout.step[0] + r * layout.step[1];
                out.extend((0..w).map(|c| image.values[row + c * layout.step[2]].clamp(0.0, 1.0)));
            }
        }
        Ok(out)
    }
}
