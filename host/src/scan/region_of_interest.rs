//! Where a case's finding lies: its mask or a point, which the regions `mask` and `point` are cut around.

use std::path::{Path, PathBuf};

use anymc3d_manifest::{Region, View};
use serde::{Deserialize, Serialize};

use crate::scan::canonical::Volume;
use crate::scan::region::Bounds;
use crate::scan::{SliceGrid, VolumeError};

/// What a case says of where to look. Views with another region do not read it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RegionOfInterest {
    /// File of the mask: 1 where the finding is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<PathBuf>,
    /// RAS mm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point_mm: Option<[f64; 3]>,
}

impl RegionOfInterest {
    /// The part that decides what `view` shows: none of it for a view of another region.
    pub fn read_by(&self, view: &View) -> Self {
        let point_mm = self.point_mm.filter(|_| view.region == Region::Point);
        let mask = self.mask_of(view).filter(|_| view.follows_region()).map(Path::to_owned);
        Self { mask, point_mm }
    }

    /// The mask, where `view` reads it: for its region, or for its head.
    pub fn mask_of(&self, view: &View) -> Option<&Path> {
        let read = view.needs_mask() || view.region == Region::Point && self.point_mm.is_none();
        self.mask.as_deref().filter(|_| read)
    }
}

/// A case's region of interest with its mask read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Target<'a> {
    /// On the scan's grid.
    pub mask: Option<&'a Volume>,
    /// RAS mm.
    pub point_mm: Option<[f64; 3]>,
}

/// Half of a voxel's millionth: what rounding leaves of an index that an affine was applied to.
const ROUNDING: f64 = 1e6;

impl Target<'_> {
    /// Refuses a case that lacks what the view needs of it.
    ///
    /// # Errors
    /// [`VolumeError::View`].
    pub fn check(&self, volume: &Volume, view: &View) -> Result<(), VolumeError> {
        match view.lacks(self.mask.is_some(), self.point_mm.is_some()) {
            Some(what) => Err(lacking(volume, view, what)),
            None => Ok(()),
        }
    }

    fn mask_on(&self, volume: &Volume, view: &View) -> Result<&Volume, VolumeError> {
        let mask = self.mask.ok_or_else(|| lacking(volume, view, "a mask"))?;
        mask.expect_grid(&volume.path, volume.shape, &volume.affine)?;
        Ok(mask)
    }

    /// Bounding box of the mask, `margin_mm` wider on every side, to whole voxels.
    ///
    /// # Errors
    /// When there is no mask, it is on another grid, or nothing in it is above 0.5.
    pub(crate) fn box_around(
        &self,
        volume: &Volume,
        view: &View,
        margin_mm: f64,
    ) -> Result<Bounds, VolumeError> {
        let mask = self.mask_on(volume, view)?;
        let mut bounds = [[usize::MAX, 0]; 3];
        let [nx, ny, _] = mask.shape;
        for (row, voxels) in mask.voxels.chunks_exact(nx.max(1)).enumerate() {
            let Some(first) = voxels.iter().position(|v| *v > INSIDE) else { continue };
            let last = voxels.iter().rposition(|v| *v > INSIDE).unwrap_or(first);
            for (bound, [from, to]) in bounds.iter_mut().zip([[first, last], [row % ny; 2], [row / ny; 2]]) {
                *bound = [bound[0].min(from), bound[1].max(to + 1)];
            }
        }
        if bounds[0][1] == 0 {
            return Err(empty(mask));
        }
        for (axis, [low, high]) in bounds.iter_mut().enumerate() {
            let margin = (margin_mm / volume.spacing_mm[axis]).ceil() as usize;
            *low = low.saturating_sub(margin);
            *high = high.saturating_add(margin).min(volume.shape[axis]);
        }
        Ok(bounds)
    }

    /// Canonical index (with fraction) of the region's centre: the point, else the mask's centroid.
    ///
    /// # Errors
    /// When neither is there, the point lies outside of the scan, or the mask is empty or on another grid.
    pub(crate) fn centre(&self, volume: &Volume, view: &View) -> Result<[f64; 3], VolumeError> {
        let point = self.point_mm.filter(|_| view.region == Region::Point);
        let Some(point) = point else {
            if view.region == Region::Point && self.mask.is_none() {
                return Err(lacking(volume, view, "a point or a mask"));
            }
            return centroid(self.mask_on(volume, view)?);
        };
        let inverse = volume.affine.inverse();
        // Without the rounding, the same scan stored in another order would give other last bits.
        let index = inverse.map(|m| m.apply(point).map(|i| (i * ROUNDING).round() / ROUNDING));
        let inside = |index: &[f64; 3]| {
            index.iter().zip(volume.shape).all(|(i, n)| (-0.5..=n as f64 - 0.5).contains(i))
        };
        index.filter(inside).ok_or_else(|| {
            let ends = [[0.0; 3], volume.shape.map(|n| n as f64 - 1.0)].map(|i| volume.affine.apply(i));
            let [x, y, z] = point;
            let range = |a: usize| format!("{:.1} to {:.1}", ends[0][a].min(ends[1][a]), ends[0][a].max(ends[1][a]));
            VolumeError::View {
                path: volume.path.clone(),
                view: view.name.clone(),
                found: format!("the point {x},{y},{z}"),
                expected: format!("one inside the scan: x {}, y {}, z {} mm", range(0), range(1), range(2)),
                todo: "give RAS millimetres (x to the patient's right, y to the front, z to the head); DICOM and ITK \
                       count x and y the other way"
                    .to_owned(),
            }
        })
    }
}

/// What is above it belongs to a mask.
pub(crate) const INSIDE: f32 = 0.5;

/// Mean index of the mask's voxels.
fn centroid(mask: &Volume) -> Result<[f64; 3], VolumeError> {
    let [nx, ny, _] = mask.shape;
    let (mut count, mut sum) = (0u64, [0u64; 3]);
    for (row, voxels) in mask.voxels.chunks_exact(nx.max(1)).enumerate() {
        for (x, _) in voxels.iter().enumerate().filter(|(_, v)| **v > INSIDE) {
            count += 1;
            for (sum, i) in sum.iter_mut().zip([x, row % ny, row / ny]) {
                *sum += i as u64;
            }
        }
    }
    match count {
        0 => Err(empty(mask)),
        n => Ok(sum.map(|s| s as f64 / n as f64)),
    }
}

/// A mask in which nothing is marked.
pub(crate) fn empty(mask: &Volume) -> VolumeError {
    VolumeError::Content {
        path: mask.path.clone(),
        found: "a mask with nothing above 0.5".to_owned(),
        expected: "1 where the finding is".to_owned(),
        todo: "mark the finding, or leave the case out".to_owned(),
    }
}

fn lacking(volume: &Volume, view: &View, what: &str) -> VolumeError {
    VolumeError::View {
        path: volume.path.clone(),
        view: view.name.clone(),
        found: format!("no {}", what.trim_start_matches("a ")),
        expected: format!("{what} that says where to look"),
        todo: "give it with the scan, or in the table's column `mask` or `point`".to_owned(),
    }
}

impl SliceGrid {
    /// How much of each patch a mask covers, `[S, h·w]` in 0..1, from its slices `[S, H, W]`.
    pub fn cover(&self, slices: &[f32], (h, w): (usize, usize)) -> Vec<f32> {
        let [rows, columns] = self.image_size();
        patch_means(slices, [self.slices(), rows, columns], (h, w))
    }
}

/// Means of `[S, H, W]` over a grid of h × w patches, `[S, h·w]`; H and W are multiples of h and w.
pub(crate) fn patch_means(
    slices: &[f32],
    [s, rows, columns]: [usize; 3],
    (h, w): (usize, usize),
) -> Vec<f32> {
    let (ph, pw) = (rows / h.max(1), columns / w.max(1));
    let mut means = vec![0.0; s * h * w];
    for (i, value) in slices.iter().enumerate() {
        let (slice, row, column) = (i / (rows * columns), i / columns % rows, i % columns);
        let (r, c) = (row / ph.max(1), column / pw.max(1));
        if r < h && c < w {
            means[(slice * h + r) * w + c] += value;
        }
    }
    let share = 1.0 / (ph * pw).max(1) as f32;
    means.iter_mut().for_each(|v| *v *= share);
    means
}
