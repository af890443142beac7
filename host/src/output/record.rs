//! What is made of an answer: the record, and the files beside it.

use super::{evidence, segmentation};
use crate::engine::Prediction;
use crate::engine::result::CaseResult;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Which files are written beside `result.json`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Writers {
    /// `heatmap.nii.gz` and `preview.png`.
    pub heatmap: bool,
}

impl Writers {
    /// With heatmaps and previews, or without.
    #[must_use]
    pub fn heatmap(mut self, wanted: bool) -> Self {
        self.heatmap = wanted;
        self
    }
}

/// The record of a prediction; with a folder, its files are written into it, `result.json` last.
///
/// # Errors
/// One line without the folder's name.
pub fn record(prediction: Prediction, folder: Option<&Path>, writers: Writers) -> Result<CaseResult, String> {
    let mut result = prediction.result;
    let mask = match &prediction.segmentation {
        Some((read, branch)) => Some(segmentation::measure(&mut result, read, branch)?),
        None => None,
    };
    let Some(folder) = folder else { return Ok(result) };
    if writers.heatmap {
        result.files = evidence::write(folder, &mut result, &prediction.evidence)?;
    }
    if let Some(mask) = &mask {
        mask.write(folder, &mut result)?;
    }
    write(&result, folder)?;
    Ok(result)
}

/// Writes `result.json`.
///
/// # Errors
/// One line without the folder's name.
pub(crate) fn write(result: &CaseResult, folder: &Path) -> Result<(), String> {
    let json = serde_json::to_string_pretty(result).map_err(|e| e.to_string())?;
    std::fs::write(folder.join("result.json"), json + "\n").map_err(|e| format!("cannot be written ({e})"))
}
