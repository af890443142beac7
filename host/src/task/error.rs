//! Why a task has no answer.

/// A task's code or answer failed on a case.
#[derive(Debug, Clone, thiserror::Error)]
#[error("plugin {task}: {method}: {reason}")]
pub struct TaskError {
    /// Plugin.
    pub task: String,
    /// Method that failed.
    pub method: &'static str,
    /// Why.
    pub reason: String,
}
