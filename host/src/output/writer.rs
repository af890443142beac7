//! What is made of an answer: the record, and the files beside it, each by a writer.

use super::mask::{SegmentationMask, measure};
use crate::engine::result::CaseResult;
use crate::engine::{Case, Prediction, ViewEvidence};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// What a writer writes from, beside the record.
#[non_exhaustive]
pub struct ResultParts<'a> {
    /// The case that was answered.
    pub case: &'a Case,
    /// What each view that had a file was made from, in the order of the record's views; empty unless one of the writers
    /// [needs it](ResultWriter::needs_evidence).
    pub evidence: &'a [ViewEvidence],
    /// The mask on the scan's grid, where the task was opened with its decoder and has one.
    pub mask: Option<&'a SegmentationMask>,
}

/// Writes files of an answer. Heatmap, preview, mask and DICOM objects are written by [`super::HeatmapWriter`],
/// [`super::PreviewWriter`], [`super::SegmentationWriter`] and [`super::DicomWriter`]; a server or a report adds a writer of its own to
/// [`crate::run::Wanted::writers`].
///
/// A writer works where the prediction was computed. The plugins of an isolated session run in another process, which
/// makes the writer from its [spec](Self::spec): see [`crate::run::isolate::serve_with`].
pub trait ResultWriter: Send + Sync {
    /// What another process makes the same writer from.
    fn spec(&self) -> WriterSpec;

    /// Whether it writes from [`ResultParts::evidence`], which the backbone then has to keep.
    fn needs_evidence(&self) -> bool {
        false
    }

    /// Bytes that it takes for each voxel of a case's scan while it writes. Writers work one after the other.
    fn bytes_per_voxel(&self) -> usize {
        0
    }

    /// Writes files into `folder`, which is moved into place once all writers are done, and enters them into the record
    /// ([`crate::engine::result::FilesRecord`]). It may add warnings. `result.json` is written after all writers.
    ///
    /// # Errors
    /// One line without the folder's name; the case then has no result of this plugin.
    fn write(&self, parts: &ResultParts<'_>, result: &mut CaseResult, folder: &Path) -> Result<(), String>;
}

/// A writer as text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WriterSpec {
    /// Which writer.
    pub name: String,
    /// What it was made with; null where there is nothing to choose.
    pub options: serde_json::Value,
}

impl WriterSpec {
    /// A writer without options.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), options: serde_json::Value::Null }
    }
}

/// Makes a writer from its spec; `None` for a writer that it does not know.
pub type MakeWriter = dyn Fn(&WriterSpec) -> Option<Arc<dyn ResultWriter>> + Sync;

/// Whether the evidence of a case is to be kept for its writers.
pub fn need_evidence(writers: &[Arc<dyn ResultWriter>]) -> bool {
    writers.iter().any(|writer| writer.needs_evidence())
}

/// The record of a prediction; with a folder, its files are written into it, `result.json` last.
///
/// # Errors
/// One line without the folder's name.
pub fn record(
    prediction: Prediction,
    case: &Case,
    folder: Option<&Path>,
    writers: &[Arc<dyn ResultWriter>],
) -> Result<CaseResult, String> {
    let Prediction { mut result, evidence, segmentation } = prediction;
    let mask = segmentation.map(|(read, logits)| measure(&mut result, read, &logits)).transpose()?;
    let Some(folder) = folder else { return Ok(result) };
    let parts = ResultParts { case, evidence: &evidence, mask: mask.as_ref() };
    for writer in writers {
        writer.write(&parts, &mut result, folder)?;
    }
    write_record(&result, folder)?;
    Ok(result)
}

/// Writes `result.json`.
///
/// # Errors
/// One line without the folder's name.
pub(crate) fn write_record(result: &CaseResult, folder: &Path) -> Result<(), String> {
    let json = serde_json::to_string_pretty(result).map_err(|e| e.to_string())?;
    std::fs::write(folder.join("result.json"), json + "\n").map_err(|e| format!("cannot be written ({e})"))
}
