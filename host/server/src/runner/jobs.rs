//! Jobs of the database.

use super::Runner;
use super::heard::Heard;
use super::outcome::Outcome;
use super::record::{answer_of, blame, describe, writers};
use crate::jobs::{Job, JobId, copy_all};
use crate::work::WaitingJob;
use anymc3d_host::engine::Case;
use anymc3d_host::run::inputs::{CaseEntry, InputOptions, NoAnswer, StudyNames, find_cases};
use anymc3d_host::run::{CaseFailure, CaseOutput};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// How often a job is begun: one that ends the whole server each time is not tried for ever.
const ATTEMPTS: u32 = 5;

impl Runner {
    /// Runs a job, and with it those of the same scan that wait: one pass for all plugins that they ask, and one computation for
    /// those that ask the same plugin. So it does for equal ones that arrive meanwhile. How many it ended.
    pub(super) fn jobs(&mut self, first: WaitingJob) -> usize {
        let key = first.key;
        let mut waiting = vec![first];
        waiting.extend(self.jobs_like(key.as_ref()));
        let begun = self.begun(waiting);
        let Some(first) = begun.first() else { return 0 };
        let (source, mut plugins) = (first.clone(), Vec::new());
        for name in begun.iter().flat_map(|job| &job.plugins) {
            if !plugins.contains(name) {
                plugins.push(name.clone());
            }
        }
        let outcome = self.outcome(&source, &plugins, &begun);
        let own = outcome.of(&source);
        let (mut works, mut answers) = (begun.len(), own.answers.len());
        for job in begun.iter().skip(1) {
            answers += self.end_sharing(&outcome, &source, job);
        }
        // What has failed is tried again; what was not asked is computed.
        if outcome.failures.is_empty() {
            let late = self.begun(self.jobs_like(key.as_ref()));
            let (equal, other): (Vec<_>, Vec<_>) =
                late.into_iter().partition(|job| job.plugins.iter().all(|name| plugins.contains(name)));
            works += equal.len();
            answers += equal.iter().map(|job| self.end_sharing(&outcome, &source, job)).sum::<usize>();
            for job in other {
                works += 1;
                let outcome = self.outcome(&job, &job.plugins, std::slice::from_ref(&job));
                self.ending.end(job, outcome);
            }
        }
        self.shared.metrics.shared(answers.saturating_sub(outcome.answers.len()));
        self.without_the_others(&outcome, &source);
        self.ending.end(source, own);
        works
    }

    /// The jobs that begin: not those that were deleted meanwhile, nor those that ended the server too often.
    fn begun(&self, waiting: Vec<WaitingJob>) -> Vec<Job> {
        let jobs = &self.shared.jobs;
        let mut begun = Vec::new();
        for WaitingJob { id, .. } in waiting {
            match jobs.begin(&id) {
                Ok(Some(job)) if job.attempts > ATTEMPTS => {
                    let message = format!(
                        "the server ended {ATTEMPTS} times while this job ran; it is not tried again"
                    );
                    self.ending.end(job, Outcome::failed(message));
                }
                Ok(job) => begun.extend(job),
                Err(e) => tracing::error!("job {id}: {e}"),
            }
        }
        begun
    }

    /// Ends a job with what it has of another's answers to the same scan, their files copied into its own folder. How many.
    fn end_sharing(&self, all: &Outcome, from: &Job, job: &Job) -> usize {
        let mut own = all.of(job);
        let jobs = &self.shared.jobs;
        // What an attempt before had begun.
        let _ = std::fs::remove_dir_all(jobs.results_folder(&job.id));
        for answer in std::mem::take(&mut own.answers) {
            let (source, copy) =
                (jobs.answer_folder(&from.id, &answer), jobs.answer_folder(&job.id, &answer));
            let copied = match copy.parent() {
                Some(parent) => std::fs::create_dir_all(parent).and_then(|()| copy_all(&source, &copy)),
                None => Ok(()),
            };
            match copied {
                Ok(()) => own.answers.push(answer),
                Err(e) => {
                    let message = format!("its files cannot be written ({e})");
                    own.fail(Some(&answer.case), Some(&answer.plugin), "writing", message);
                }
            }
        }
        let answers = own.answers.len();
        self.ending.end(job.clone(), own);
        answers
    }

    /// Removes the files of answers that other jobs asked for.
    fn without_the_others(&self, all: &Outcome, job: &Job) {
        let others = all.answers.iter().filter(|answer| !job.plugins.contains(&answer.plugin));
        for answer in others {
            let _ = std::fs::remove_dir_all(self.shared.jobs.answer_folder(&job.id, answer));
        }
    }

    /// What comes of a job's scan and plugins that it or `watching` jobs ask.
    fn outcome(&mut self, job: &Job, plugins: &[String], watching: &[Job]) -> Outcome {
        // What an attempt before had begun.
        let _ = std::fs::remove_dir_all(self.shared.jobs.results_folder(&job.id));
        let watching: Vec<JobId> = watching.iter().map(|job| job.id.clone()).collect();
        let outcome = catch_unwind(AssertUnwindSafe(|| self.cases(job, plugins, &watching)));
        outcome.unwrap_or_else(|_| {
            Outcome::failed("the server's own code failed at this scan; its log says where".into())
        })
    }

    /// The cases of a job's scan, each through the plugins that are asked.
    fn cases(&mut self, job: &Job, plugins: &[String], watching: &[JobId]) -> Outcome {
        let shared = self.shared.clone();
        let models = self.models.clone();
        let folder = shared.jobs.job_folder(&job.id);
        let events = Heard::new(&shared, &models, watching, &folder.display().to_string());
        let asked: Vec<usize> = plugins.iter().filter_map(|name| Some(models.find(name)?.0)).collect();
        let manifests: Vec<_> = asked.iter().map(|i| models.all()[*i].manifest()).collect();
        let mut options = InputOptions::default();
        options.names = StudyNames::with_salt_of_folder(&shared.data);
        let mut outcome = Outcome::default();
        for name in plugins.iter().filter(|name| models.find(name).is_none()) {
            let message = format!("plugin {name} is not served any more");
            outcome.fail(None, Some(name), "plugin", message);
        }
        let mut list = find_cases(&[folder.join(&job.scan)], &manifests, &options, &events);
        for entry in &mut list.entries {
            let case = match entry {
                CaseEntry::Case(case) => case,
                CaseEntry::Failed { error, .. } => {
                    outcome.fail(None, None, "scan", events.without_folder(&error.to_string()));
                    continue;
                }
            };
            describe(case, job, &folder);
            *events.case.borrow_mut() = case.name.clone();
            let case: &Case = case;
            let wanted: Vec<usize> = asked
                .iter()
                .copied()
                .filter(|index| match list.unanswered.of(&case.name, &models.all()[*index].name) {
                    None => true,
                    Some(NoAnswer::NothingForIt) => false,
                    Some(NoAnswer::Failed(reason)) => {
                        let plugin = &models.all()[*index].name;
                        outcome.fail(Some(&case.name), Some(plugin), "scan", events.without_folder(reason));
                        false
                    }
                })
                .collect();
            let results = shared.jobs.results_folder(&job.id);
            let writers = writers(shared.outputs, case.image.is_none());
            let answers = self.ask(case, &wanted, &results, &writers, &events);
            self.take(&mut outcome, case, &wanted, answers, &results, &events);
        }
        outcome.notices = events.notices.into_inner();
        outcome
    }

    fn take(
        &self,
        outcome: &mut Outcome,
        case: &Case,
        asked: &[usize],
        answers: Vec<Result<CaseOutput, CaseFailure>>,
        results: &Path,
        events: &Heard<'_>,
    ) {
        for (index, answer) in asked.iter().zip(answers) {
            let plugin = &self.models.all()[*index].name;
            match answer {
                Ok(output) => {
                    self.shared.metrics.result(plugin, &output.result);
                    outcome.answers.push(answer_of(output, results));
                }
                Err(failure) => {
                    let message = events.without_folder(&case.with_origins(failure.message.clone()));
                    outcome.fail(Some(&case.name), Some(plugin), blame(failure.blame), message);
                }
            }
        }
    }
}
