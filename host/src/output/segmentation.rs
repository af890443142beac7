//! `segmentation.nii.gz`: the branch's mask on the scan's own grid, and its volume.

use super::writer::{ResultParts, ResultWriter, WriterSpec};
use super::{mask_on_scan, volume_ml};
use crate::engine::result::{CaseResult, SegmentationRecord};
use crate::engine::{ReadScan, ViewLogits};
use crate::scan::{VolumeError, write_mask};
use std::path::Path;
use std::sync::Arc;

const SEGMENTATION: &str = "segmentation.nii.gz";

/// What a decoder segmented, on the grid of the scan.
pub struct SegmentationMask {
    /// The view that was decoded.
    pub view: String,
    /// The scan.
    pub read: Arc<ReadScan>,
    /// 0 or 1 for each voxel of the scan as it is stored, first axis fastest.
    pub voxels: Vec<u8>,
}

/// Makes the mask and stores its volume in the result.
///
/// # Errors
/// One line, when the logits do not fit their slices.
pub(super) fn measure(
    result: &mut CaseResult,
    read: Arc<ReadScan>,
    logits: &ViewLogits,
) -> Result<SegmentationMask, String> {
    let voxels = mask_on_scan(&logits.grid, &logits.logits, logits.size)
        .ok_or("segmentation: the logits do not fit their slices")?;
    let count = voxels.iter().filter(|&&v| v > 0).count();
    let volume_ml = volume_ml(count, &read.scan.affine);
    let view = logits.view.clone();
    result.segmentation = Some(SegmentationRecord { view: view.clone(), voxels: count, volume_ml });
    Ok(SegmentationMask { view, read, voxels })
}

/// Writes `segmentation.nii.gz`, where there is a mask.
#[derive(Debug, Clone, Copy, Default)]
pub struct SegmentationWriter;

impl ResultWriter for SegmentationWriter {
    fn spec(&self) -> WriterSpec {
        WriterSpec::named("segmentation")
    }

    fn write(&self, parts: &ResultParts<'_>, result: &mut CaseResult, folder: &Path) -> Result<(), String> {
        let Some(mask) = parts.mask else { return Ok(()) };
        let scan = &mask.read.scan;
        let written = write_mask(&folder.join(SEGMENTATION), &mask.voxels, scan.shape, &scan.forms);
        written.map_err(|e| match e {
            VolumeError::Write { source, .. } => format!("{SEGMENTATION} cannot be written ({source})"),
            other => other.to_string(),
        })?;
        result.files.segmentation = Some(SEGMENTATION.to_owned());
        Ok(())
    }
}
