//! `segmentation.nii.gz`: the branch's mask on the scan's own grid, and its volume.

use super::{mask_on_scan, volume_ml};
use crate::engine::result::{CaseResult, SegmentationRecord};
use crate::engine::{ReadScan, ViewLogits};
use crate::scan::{VolumeError, write_mask};
use std::path::Path;
use std::sync::Arc;

const SEGMENTATION: &str = "segmentation.nii.gz";

/// A mask that is not yet a file.
pub(super) struct Mask {
    read: Arc<ReadScan>,
    voxels: Vec<u8>,
}

/// Makes the mask and stores its volume in the result.
///
/// # Errors
/// One line, when the logits do not fit their slices.
pub(super) fn measure(
    result: &mut CaseResult,
    read: &Arc<ReadScan>,
    branch: &ViewLogits,
) -> Result<Mask, String> {
    let voxels = mask_on_scan(&branch.grid, &branch.logits, branch.size)
        .ok_or("segmentation: the logits do not fit their slices")?;
    let count = voxels.iter().filter(|&&v| v > 0).count();
    let volume_ml = volume_ml(count, &read.scan.affine);
    result.segmentation = Some(SegmentationRecord { view: branch.view.clone(), voxels: count, volume_ml });
    Ok(Mask { read: read.clone(), voxels })
}

impl Mask {
    /// Writes the file and stores its name in the result.
    ///
    /// # Errors
    /// One line without the folder's name.
    pub fn write(&self, folder: &Path, result: &mut CaseResult) -> Result<(), String> {
        let scan = &self.read.scan;
        write_mask(&folder.join(SEGMENTATION), &self.voxels, scan.shape, &scan.forms).map_err(
            |e| match e {
                VolumeError::Write { source, .. } => format!("{SEGMENTATION} cannot be written ({source})"),
                other => other.to_string(),
            },
        )?;
        result.files.segmentation = Some(SEGMENTATION.to_owned());
        Ok(())
    }
}
