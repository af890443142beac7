//! The series that a scan was read from, as DICOM results refer to it.

use std::path::Path;

pub use anymc3d_dicom::write;
pub use anymc3d_dicom::write::Patient;
use anymc3d_dicom::write::SourceSeries;
use anymc3d_dicom::{Limits, StackGeometry};
use anymc3d_manifest::View;

use super::study::request;
use super::{find, is_dicom, refused};
use crate::scan::VolumeError;

/// The series that a view's scan was read from, in one line: its size, and the view's rules that it meets. `None` where the
/// scan is no DICOM.
pub fn series_of(path: &Path, view: &View) -> Option<String> {
    let found = is_dicom(path).then(|| find(path).ok()).flatten()?;
    let study = &found.scan.studies[found.study];
    Some(anymc3d_dicom::describe(study, found.series, found.stack, &request(view)))
}

/// A series with its patient, and the way of values onto its frames. It holds identity, which goes into DICOM objects and
/// nowhere else (no `Debug`).
pub struct ResultSource {
    /// What results refer to and carry over.
    pub series: SourceSeries,
    geometry: StackGeometry,
}

impl ResultSource {
    /// Of the scan that was read from `path`; `None` where that is no DICOM.
    ///
    /// # Errors
    /// [`VolumeError::Dicom`]: the files changed meanwhile, or lack the UIDs that results must refer to.
    pub fn of(path: &Path) -> Result<Option<Self>, VolumeError> {
        if !is_dicom(path) {
            return Ok(None);
        }
        let found = find(path)?;
        let geometry = found.geometry().map_err(|e| refused(path, &e))?.clone();
        let series = SourceSeries::read(&found.scan, found.series(), found.stack, &Limits::default())
            .map_err(|e| refused(path, &e))?;
        Ok(Some(Self { series, geometry }))
    }

    /// Values on the scan's grid, first axis fastest, on the series' frames as stored: [frames, rows, columns].
    ///
    /// # Panics
    /// Where `values` has another number of values than the scan has voxels.
    pub fn onto_frames(&self, values: &[f32]) -> Vec<f32> {
        self.geometry.onto_frames(values)
    }

    /// Voxels of a frame.
    pub fn frame_voxels(&self) -> usize {
        self.geometry.rows * self.geometry.columns
    }

    /// Whether slice `k` of the scan is frame `k` of the series: nothing was resampled.
    pub fn is_straight(&self) -> bool {
        self.geometry.straight
    }
}
