//! Who answers: the door to the server's jobs, as far as studies of an archive need it.

use std::path::{Path, PathBuf};

/// A folder of DICOM files, and what is asked of it.
pub struct AnswerRequest<'a> {
    /// Taken over: the folder is moved, or its files are.
    pub scan: &'a Path,
    pub plugins: &'a [String],
    /// A second request under the same key is the first one.
    pub key: &'a str,
    /// By which way it came, and by which rules: for the job's record.
    pub origin: super::ledger::StudyOrigin,
    pub rules: &'a [String],
}

/// Why a request is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Later it will be.
    #[error("{0}")]
    Busy(String),
    /// Never.
    #[error("{0}")]
    Refused(String),
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobOutcome {
    Waiting,
    /// Files of results, `DIR/dicom/NAME.dcm` among them; and what plugins could not answer, a line each.
    Done {
        files: Vec<PathBuf>,
        failures: Vec<String>,
    },
    /// No plugin has answered.
    Failed(String),
    /// No such job: it was removed before its results were taken.
    Gone,
}

/// Answers studies with plugins.
pub trait Answer: Send + Sync {
    /// Begins a job; returns its name.
    ///
    /// # Errors
    /// [`AnswerError`].
    fn submit(&self, request: &AnswerRequest<'_>) -> Result<String, AnswerError>;

    /// Looks a job up.
    fn outcome(&self, job: &str) -> JobOutcome;
}
