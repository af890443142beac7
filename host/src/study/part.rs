//! Which cells of a study a process computes, where several share them.

use super::cell::Part;

/// A part of a study, for a process of several; empty is all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StudyPart {
    /// Names of tasks.
    pub tasks: Vec<String>,
    /// From 0. A task without folds belongs to the first.
    pub folds: Vec<usize>,
}

impl StudyPart {
    pub(super) fn has_task(&self, name: &str) -> bool {
        self.tasks.is_empty() || self.tasks.iter().any(|task| task == name)
    }

    pub(super) fn has(&self, part: &Part<'_>) -> bool {
        self.folds.is_empty() || self.folds.contains(&part.fold_index())
    }
}
