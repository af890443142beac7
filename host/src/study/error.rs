//! Why there is no study, or none to its end.

use crate::data::table::TableError;
use crate::engine::FindBackboneError;
use crate::plugin::PluginError;
use std::path::PathBuf;

/// Why a study does not begin. What happens to a cell of a study stands in its row.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StudyError {
    /// The study file.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was found, what was expected.
        reason: String,
    },
    /// A task's plugin.
    #[error("task {task}: {source}")]
    Plugin {
        /// In the study file.
        task: String,
        /// Why.
        source: PluginError,
    },
    /// A task's table.
    #[error("task {task}: {source}")]
    Table {
        /// In the study file.
        task: String,
        /// Why.
        source: TableError,
    },
    /// A backbone is not there, or its licence was not accepted.
    #[error(transparent)]
    Backbone(FindBackboneError),
    /// The folder of the study.
    #[error("{}: {reason}", path.display())]
    Folder {
        /// The folder, or a file in it.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The process has too little memory.
    #[error("{0}")]
    Memory(String),
}

impl StudyError {
    pub(super) fn folder(path: &std::path::Path, reason: String) -> Self {
        Self::Folder { path: path.to_owned(), reason }
    }
}
