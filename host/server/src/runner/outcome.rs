//! What came of a job.

use crate::jobs::{Answer, Job, JobFailure, JobState};

/// What came of a job's cases.
#[derive(Clone, Default)]
pub(super) struct Outcome {
    pub answers: Vec<Answer>,
    pub failures: Vec<JobFailure>,
    pub notices: Vec<String>,
}

impl Outcome {
    pub fn failed(message: String) -> Self {
        let failure = JobFailure { case: None, plugin: None, blame: "server".into(), message };
        Self { failures: vec![failure], ..Self::default() }
    }

    pub fn fail(&mut self, case: Option<&str>, plugin: Option<&str>, blame: &str, message: String) {
        let (case, plugin) = (case.map(str::to_owned), plugin.map(str::to_owned));
        self.failures.push(JobFailure { case, plugin, blame: blame.to_owned(), message });
    }

    /// What a job asked for.
    pub fn of(&self, job: &Job) -> Self {
        let asked = |plugin: &String| job.plugins.contains(plugin);
        Self {
            answers: self.answers.iter().filter(|answer| asked(&answer.plugin)).cloned().collect(),
            failures: self.failures.iter().filter(|f| f.plugin.as_ref().is_none_or(asked)).cloned().collect(),
            notices: self.notices.clone(),
        }
    }

    pub fn state(&self) -> JobState {
        match (self.answers.is_empty(), self.failures.is_empty()) {
            (_, true) => JobState::Done,
            (false, false) => JobState::PartlyFailed,
            (true, false) => JobState::Failed,
        }
    }
}
