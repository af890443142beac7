//! What is asked of a case besides its results, and what comes back.

use super::failure::CaseFailure;
use crate::engine::Prediction;
use crate::engine::result::CaseResult;
use crate::output::{OutputFolder, ResultWriter, need_evidence};
use std::path::PathBuf;
use std::sync::Arc;

/// What is wanted of a case besides its results.
#[derive(Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// Where files go, `<folder>/<case>/<plugin>`; without it results come back and no file is written.
    pub output: Option<&'a OutputFolder>,
    /// What writes files beside `result.json`; [`crate::output::standard_writers`] gives those of `host run`.
    pub writers: &'a [Arc<dyn ResultWriter>],
}

impl Wanted<'_> {
    /// Whether something will be written from the evidence.
    pub(super) fn evidence(&self) -> bool {
        self.output.is_some() && need_evidence(self.writers)
    }
}

/// A plugin's answer to a case, its files in place.
#[derive(Debug, Clone)]
pub struct CaseOutput {
    /// The record.
    pub result: CaseResult,
    /// The record as one line of JSON (`anymc3d/result/1`).
    pub json: String,
    /// The folder that holds its files; none without an output folder.
    pub folder: Option<PathBuf>,
}

/// A case's answers, in the order of the plugins that were asked.
pub enum Computed {
    /// Their files are in place.
    Placed(Vec<Result<CaseOutput, CaseFailure>>),
    /// Nothing of them is written yet.
    Predicted(Vec<Result<Prediction, CaseFailure>>),
}
