//! The server's jobs as the ones who answer.

use std::sync::Arc;

use super::answer::{Answer, AnswerError, AnswerRequest, JobOutcome};
use super::ledger::StudyOrigin;
use super::study_log;
use crate::jobs::{Channel, Job, JobId, JobRegion, Jobs, Submission, SubmitError, Submitter};

/// Name of a study's folder in a job's folder.
const SCAN: &str = "study";

/// Jobs that studies become.
pub struct AnswerByJobs(pub Arc<Jobs>);

impl Answer for AnswerByJobs {
    fn submit(&self, request: &AnswerRequest<'_>) -> Result<String, AnswerError> {
        let busy = |e: &dyn std::fmt::Display| AnswerError::Busy(e.to_string());
        // Before the scan is moved: it would have to come back.
        if !self.0.has_room() {
            return Err(AnswerError::Busy("as many jobs wait as may".into()));
        }
        let intake = self.0.intake().map_err(|e| busy(&e))?;
        intake.take(request.scan, SCAN).map_err(|e| busy(&e))?;
        let channel = match request.origin {
            StudyOrigin::Archive => Channel::Dicomweb,
            StudyOrigin::Dimse => Channel::Dimse,
        };
        let submission = Submission {
            scan: SCAN.to_owned(),
            region: JobRegion::default(),
            plugins: request.plugins.to_vec(),
            submitter: Submitter { channel, name: request.rules.join(", ") },
            key: Some(request.key.to_owned()),
            upload_sha256: None,
        };
        match self.0.submit(intake, submission) {
            Ok(submitted) => Ok(submitted.id().to_string()),
            Err(e @ (SubmitError::UnknownPlugin { .. } | SubmitError::KeyOfAnother(_))) => {
                Err(AnswerError::Refused(e.to_string()))
            }
            Err(e) => Err(busy(&e)),
        }
    }

    fn outcome(&self, job: &str) -> JobOutcome {
        let Ok(id) = job.parse::<JobId>() else { return JobOutcome::Gone };
        match self.0.get(&id) {
            Ok(Some(job)) if job.state.is_final() => outcome_of(&self.0, &job),
            Ok(Some(_)) => JobOutcome::Waiting,
            Ok(None) => JobOutcome::Gone,
            Err(e) => {
                study_log::of_all(study_log::ERROR, &e);
                JobOutcome::Waiting
            }
        }
    }
}

fn outcome_of(jobs: &Jobs, job: &Job) -> JobOutcome {
    let failures: Vec<String> = job
        .failures
        .iter()
        .map(|f| match &f.plugin {
            Some(plugin) => format!("{plugin}: {}", f.message),
            None => f.message.clone(),
        })
        .collect();
    if job.answers.is_empty() {
        let all = if failures.is_empty() { "no answer".into() } else { failures.join("; ") };
        return JobOutcome::Failed(all);
    }
    let files = job.answers.iter().flat_map(|answer| {
        let folder = jobs.answer_folder(&job.id, answer);
        answer.files.iter().map(move |file| folder.join(file))
    });
    JobOutcome::Done { files: files.collect(), failures }
}
