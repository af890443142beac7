//! A scan brought to the closest RAS orientation, and which stored axis each canonical one is.

use std::path::{Path, PathBuf};

use anymc3d_manifest::Modality;
use rayon::prelude::*;

use super::{Affine, Scan, VolumeError};
use crate::memory::{OutOfMemory, copied, zeroed};

/// Where a canonical axis lies in the stored array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredAxis {
    /// Index of the stored axis.
    pub axis: usize,
    /// `true`: canonical index `i` is stored index `n - 1 - i`.
    pub flipped: bool,
}

/// A scan in canonical order: axis 0 runs to the right, 1 to anterior, 2 to superior, as closely as its grid does.
#[derive(Debug, Clone)]
pub struct Volume {
    /// The scan's file, for messages.
    pub path: PathBuf,
    /// First axis (to the right) fastest, in the scan's units.
    pub voxels: Vec<f32>,
    /// Voxels along right, anterior, superior.
    pub shape: [usize; 3],
    /// Voxel size along right, anterior, superior, mm.
    pub spacing_mm: [f64; 3],
    /// Canonical voxel index → RAS mm.
    pub affine: Affine,
    /// For each canonical axis, where it is stored.
    pub stored: [StoredAxis; 3],
    /// The scan's smallest value: what padding is made of.
    pub minimum: f32,
    /// What the file says it is, or what the intensities look like.
    pub modality: Option<Modality>,
}

impl Volume {
    pub(crate) fn of(scan: &Scan) -> Result<Self, OutOfMemory> {
        let mut stored = [StoredAxis { axis: 0, flipped: false }; 3];
        for (axis, (ras, flipped)) in scan.affine.closest_axes().into_iter().enumerate() {
            stored[ras] = StoredAxis { axis, flipped };
        }
        let shape = stored.map(|s| scan.shape[s.axis]);
        let affine = scan.affine.reindexed(scan.shape, stored.map(|s| (s.axis, s.flipped)));
        Ok(Self {
            path: scan.path.clone(),
            voxels: reorder(scan, shape, stored)?,
            shape,
            spacing_mm: affine.spacing(),
            affine,
            stored,
            minimum: scan.range()[0],
            modality: scan.modality.or(scan.modality_guess),
        })
    }

    /// Refuses a mask that is not on the grid of its scan at `scan` (their stored orders may differ): another shape, or a
    /// corner more than half the smallest voxel away.
    ///
    /// # Errors
    /// [`VolumeError::MaskGrid`].
    pub(crate) fn expect_grid(
        &self,
        scan: &Path,
        shape: [usize; 3],
        affine: &Affine,
    ) -> Result<(), VolumeError> {
        let smallest = affine.spacing().into_iter().fold(f64::INFINITY, f64::min);
        let apart = affine.corner_distance(&self.affine, shape);
        let found = match self.shape == shape {
            true if apart <= 0.5 * smallest => return Ok(()),
            true => format!("{:?} voxels {apart:.1} mm away", self.shape),
            false => format!("{:?} voxels", self.shape),
        };
        let expected = format!("{shape:?} voxels of {}", scan.display());
        Err(VolumeError::MaskGrid { path: self.path.clone(), found, expected })
    }

    /// Voxels along each stored axis.
    pub(crate) fn stored_shape(&self) -> [usize; 3] {
        let mut shape = [0; 3];
        for (n, s) in self.shape.into_iter().zip(self.stored) {
            shape[s.axis] = n;
        }
        shape
    }
}

fn reorder(scan: &Scan, shape: [usize; 3], stored: [StoredAxis; 3]) -> Result<Vec<f32>, OutOfMemory> {
    let strides = [1, scan.shape[0], scan.shape[0] * scan.shape[1]].map(|s| s as isize);
    // Canonical index (x, y, z) lies at start + x·step[0] + y·step[1] + z·step[2] of the stored array.
    let step = stored.map(|s| if s.flipped { -strides[s.axis] } else { strides[s.axis] });
    let start: isize = stored
        .iter()
        .filter(|s| s.flipped)
        .map(|s| strides[s.axis] * (scan.shape[s.axis] as isize - 1))
        .sum();
    if start == 0 && step == strides {
        return copied(&scan.voxels);
    }
    let mut out = zeroed::<f32>(scan.voxels.len())?;
    let plane = shape[0] * shape[1];
    out.par_chunks_mut(plane).enumerate().for_each(|(z, plane)| {
        for (y, row) in plane.chunks_exact_mut(shape[0]).enumerate() {
            let mut at = start + z as isize * step[2] + y as isize * step[1];
            for v in row {
                *v = scan.voxels[at as usize];
                at += step[0];
            }
        }
    });
    Ok(out)
}
