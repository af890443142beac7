//! A scan brought to the closest RAS orientation, and which stored axis each canonical one is.

use std::path::{Path, PathBuf};

use anymc3d_manifest::Modality;
use rayon::prelude::*;

use crate::scan::{Affine, Scan, VolumeError};

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
    /// `voxels` in the stored order of `scan`, which need not hold them any more.
    pub(crate) fn of(scan: &Scan, mut voxels: Vec<f32>) -> Self {
        let mut stored = [StoredAxis { axis: 0, flipped: false }; 3];
        for (axis, (ras, flipped)) in scan.affine.closest_axes().into_iter().enumerate() {
            stored[ras] = StoredAxis { axis, flipped };
        }
        let shape = stored.map(|s| scan.shape[s.axis]);
        let affine = scan.affine.reindexed(scan.shape, stored.map(|s| (s.axis, s.flipped)));
        reorient(&mut voxels, scan.shape, stored);
        Self {
            path: scan.path.clone(),
            voxels,
            shape,
            spacing_mm: affine.spacing(),
            affine,
            stored,
            minimum: scan.range()[0],
            modality: scan.modality.or(scan.modality_guess),
        }
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

/// Stored order to canonical order, in place: a large scan is in memory once.
fn reorient(voxels: &mut [f32], mut shape: [usize; 3], stored: [StoredAxis; 3]) {
    let mut flipped = [false; 3];
    stored.iter().for_each(|s| flipped[s.axis] = s.flipped);
    flip(voxels, shape, flipped);
    // Which stored axis lies where; the last is brought to its place first, then the other two.
    let mut order = [0, 1, 2];
    let mut swap = |order: &mut [usize; 3], first: usize| {
        if first == 0 {
            swap_first(voxels, shape)
        } else {
            swap_last(voxels, shape)
        }
        shape.swap(first, first + 1);
        order.swap(first, first + 1);
    };
    if order[0] == stored[2].axis {
        swap(&mut order, 0);
    }
    if order[1] == stored[2].axis {
        swap(&mut order, 1);
    }
    if order[0] != stored[0].axis {
        swap(&mut order, 0);
    }
}

/// Turns axes round. The first two together are a plane backwards: a scan with x and y flipped, as DICOM has them, is walked
/// once.
fn flip(voxels: &mut [f32], shape: [usize; 3], [x, y, z]: [bool; 3]) {
    let [row, plane] = [shape[0], shape[0] * shape[1]];
    let turn = |voxels: &mut [f32]| match (x, y) {
        (false, false) => {}
        (true, false) => voxels.chunks_exact_mut(row).for_each(<[f32]>::reverse),
        (false, true) => {
            let (front, back) = voxels.split_at_mut(shape[1] / 2 * row);
            front.chunks_exact_mut(row).zip(back.chunks_exact_mut(row).rev()).for_each(|(a, b)| {
                a.swap_with_slice(b);
            });
        }
        (true, true) => voxels.reverse(),
    };
    if z {
        let (front, back) = voxels.split_at_mut(shape[2] / 2 * plane);
        let back = if shape[2] % 2 == 1 {
            let (middle, back) = back.split_at_mut(plane);
            turn(middle);
            back
        } else {
            back
        };
        front.par_chunks_exact_mut(plane).zip(back.par_chunks_exact_mut(plane).rev()).for_each(|(a, b)| {
            turn(a);
            turn(b);
            a.swap_with_slice(b);
        });
    } else if x || y {
        voxels.par_chunks_exact_mut(plane).for_each(turn);
    }
}

/// Exchanges the first two axes: each plane is transposed by itself.
fn swap_first(voxels: &mut [f32], [nx, ny, _]: [usize; 3]) {
    voxels.par_chunks_mut(nx * ny).for_each_with(Vec::new(), |before, plane| {
        before.clear();
        before.extend_from_slice(plane);
        for (x, row) in plane.chunks_exact_mut(ny).enumerate() {
            for (y, v) in row.iter_mut().enumerate() {
                *v = before[y * nx + x];
            }
        }
    });
}

/// Exchanges the last two axes: a matrix of whole rows is transposed, one cycle of places after the other.
fn swap_last(voxels: &mut [f32], [nx, ny, nz]: [usize; 3]) {
    let mut placed = vec![false; ny * nz];
    let mut first = vec![0f32; nx];
    for start in 0..ny * nz {
        if placed[start] {
            continue;
        }
        first.copy_from_slice(&voxels[start * nx..][..nx]);
        let mut to = start;
        loop {
            placed[to] = true;
            // The row that belongs at `z + nz * y` lies at `y + ny * z`.
            let from = to / nz + ny * (to % nz);
            if from == start {
                voxels[to * nx..][..nx].copy_from_slice(&first);
                break;
            }
            voxels.copy_within(from * nx..(from + 1) * nx, to * nx);
            to = from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::tests::orientations;

    #[test]
    fn axes_are_turned_and_exchanged_in_place_in_all_48_ways() {
        let shape = [4, 3, 5];
        let before: Vec<f32> = (0..60).map(|i| i as f32).collect();
        for (order, flips) in orientations() {
            let stored = std::array::from_fn(|a| StoredAxis { axis: order[a], flipped: flips[a] });
            let mut after = before.clone();
            reorient(&mut after, shape, stored);
            let new = order.map(|axis| shape[axis]);
            for (i, &found) in after.iter().enumerate() {
                let at = [i % new[0], i / new[0] % new[1], i / (new[0] * new[1])];
                let mut old = [0; 3];
                for a in 0..3 {
                    old[order[a]] = if flips[a] { new[a] - 1 - at[a] } else { at[a] };
                }
                let expected = before[old[0] + shape[0] * (old[1] + shape[1] * old[2])];
                assert_eq!(found, expected, "{order:?} {flips:?} {at:?}");
            }
        }
    }
}
