//! `segmentation.nii.gz`: the decoder's mask on the scan's own grid.

use super::writer::{ResultParts, ResultWriter, WriterSpec};
use crate::engine::result::CaseResult;
use crate::scan::{VolumeError, write_mask};
use std::path::Path;

const SEGMENTATION: &str = "segmentation.nii.gz";

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
