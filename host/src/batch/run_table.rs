//! The table of one call: the same columns and rows that a merged batch has.

use super::batch_plan::PlannedTask;
use super::merge::{Answer, Merged, MergedCase};
use crate::engine::result::CaseResult;
use std::collections::BTreeMap;
use std::path::Path;

/// What plugins said of cases so far.
#[derive(Debug)]
pub struct RunTable {
    tasks: Vec<PlannedTask>,
    cases: BTreeMap<String, Vec<Answer>>,
}

impl RunTable {
    /// Of a session's plugins.
    pub fn begin(tasks: Vec<PlannedTask>) -> Self {
        Self { tasks, cases: BTreeMap::new() }
    }

    fn put(&mut self, case: &str, task: usize, answer: Answer) {
        let nothing = || self.tasks.iter().map(|_| Answer::NothingForIt).collect();
        self.cases.entry(case.to_owned()).or_insert_with(nothing)[task] = answer;
    }

    /// A result of the plugin of index `task`.
    pub fn said(&mut self, task: usize, result: &CaseResult) {
        self.put(&result.case, task, Answer::of(result));
    }

    /// A result that lies in a folder of results under a name.
    ///
    /// # Errors
    /// One line that names the file.
    pub fn said_before(&mut self, root: &Path, name: &str, task: usize) -> Result<(), String> {
        let path = root.join(name).join(&self.tasks[task].identity.plugin).join("result.json");
        let text = std::fs::read(&path).map_err(|e| format!("{}: cannot be read ({e})", path.display()))?;
        let result =
            serde_json::from_slice(&text).map_err(|e| format!("{}: is no result ({e})", path.display()))?;
        self.said(task, &result);
        Ok(())
    }

    /// Why the plugin of index `task`, or without one none of them, has no answer.
    pub fn failed(&mut self, case: &str, task: Option<usize>, reason: &str) {
        for task in task.map_or(0..self.tasks.len(), |task| task..task + 1) {
            self.put(case, task, Answer::Failed { kind: None, reason: reason.to_owned() });
        }
    }

    /// As [`Merged::predictions_csv`].
    pub fn csv(self) -> Vec<u8> {
        let cases: Vec<MergedCase> =
            self.cases.into_iter().map(|(case, answers)| MergedCase { case, answers }).collect();
        let of = cases.len();
        Merged { tasks: self.tasks, cases, missing: Vec::new(), runs: Vec::new(), of }.predictions_csv(None)
    }
}
