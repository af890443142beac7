//! Why a plugin has no answer for a case, and whose fault that is.

use crate::engine::{CaseError, Remedy};

/// Whose fault a missing answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// The scan cannot be used: every plugin that reads it fails alike.
    Scan,
    /// The plugin or its process.
    Task,
    /// What was to be written.
    Output,
}

/// Why a plugin has no answer for a case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("{message}")]
pub struct CaseFailure {
    /// One line.
    pub message: String,
    /// Whose fault it is.
    pub blame: Blame,
    /// What would help, where that is known.
    pub remedy: Option<Remedy>,
}

impl CaseFailure {
    pub(super) fn of_task(message: impl Into<String>) -> Self {
        Self { message: message.into(), blame: Blame::Task, remedy: None }
    }

    pub(super) fn of_output(message: impl Into<String>) -> Self {
        Self { message: message.into(), blame: Blame::Output, remedy: None }
    }

    #[cfg(unix)]
    pub(super) fn of_scan(message: impl Into<String>) -> Self {
        Self { message: message.into(), blame: Blame::Scan, remedy: None }
    }
}

impl From<CaseError> for CaseFailure {
    fn from(e: CaseError) -> Self {
        let blame = if matches!(e, CaseError::Scan(_)) { Blame::Scan } else { Blame::Task };
        Self { message: e.to_string(), blame, remedy: e.remedy() }
    }
}
