//! The thread that owns the session: it takes one work after the other, with those of the same scan, and runs them. Whatever a
//! plugin does costs its case.

mod ending;
mod heard;
mod jobs;
mod outcome;
mod record;
mod requests;

use crate::audit::Audit;
use crate::jobs::Jobs;
use crate::metrics::Metrics;
use crate::models::Models;
use crate::options::Outputs;
use crate::work::{ScanKey, WaitingCase, WaitingJob, Work, WorkQueue};
use anymc3d_host::engine::Case;
use anymc3d_host::output::{OutputFolder, ResultWriter};
use anymc3d_host::run::{Blame, CaseFailure, CaseOutput, CaseRequest, Session, Wanted};
use ending::Ending;
use heard::Heard;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most works that are computed together.
const TOGETHER: usize = 64;

/// What the runner and the handlers share.
pub(crate) struct Shared {
    pub data: PathBuf,
    pub jobs: Arc<Jobs>,
    pub queue: Arc<WorkQueue>,
    pub audit: Audit,
    pub metrics: Metrics,
    pub outputs: Outputs,
    /// How long a work waits for others of its scan.
    pub window: Duration,
}

/// Runs works on a session.
pub(crate) struct Runner {
    session: Session,
    models: Arc<Models>,
    shared: Arc<Shared>,
    ending: Ending,
}

impl Runner {
    pub fn new(session: Session, models: Arc<Models>, shared: Arc<Shared>) -> Self {
        let ending = Ending::new(&shared);
        Self { session, models, shared, ending }
    }

    /// Runs works until the queue is closed, then lets the plugins go.
    pub fn run(mut self) {
        let shared = self.shared.clone();
        shared.metrics.processes(self.session.processes());
        while let Some(work) = shared.queue.next(shared.window) {
            let began = Instant::now();
            let works = match work {
                Work::Job(job) => self.jobs(job),
                Work::Case(waiting) => self.requests(*waiting),
                Work::Reload { plugin, only_changed, reply } => {
                    let changed = !only_changed || self.session.has_changed(plugin);
                    let said = if changed { self.reload(plugin).map(Some) } else { Ok(None) };
                    shared.metrics.processes(self.session.processes());
                    let _ = reply.send(said);
                    continue;
                }
            };
            shared.metrics.processes(self.session.processes());
            shared.metrics.took(began.elapsed().as_secs_f64() / works.max(1) as f64);
        }
        let models = self.models.clone();
        self.session.close(&Heard::new(&shared, &models, &[], ""));
    }

    /// The jobs of a scan that wait.
    fn jobs_like(&self, key: Option<&ScanKey>) -> Vec<WaitingJob> {
        let Some(key) = key else { return Vec::new() };
        let like = |work: &Work| matches!(work, Work::Job(job) if job.key.as_ref() == Some(key));
        let taken = self.shared.queue.take(TOGETHER, like).into_iter();
        taken.filter_map(|work| if let Work::Job(job) = work { Some(job) } else { None }).collect()
    }

    /// The requests of a scan that wait, of those that `also` wants.
    fn requests_like(&self, key: &ScanKey, also: impl Fn(&WaitingCase) -> bool) -> Vec<WaitingCase> {
        let like = |work: &Work| matches!(work, Work::Case(case) if case.key == *key && also(case));
        let taken = self.shared.queue.take(TOGETHER, like).into_iter();
        taken.filter_map(|work| if let Work::Case(case) = work { Some(*case) } else { None }).collect()
    }

    /// The answers of some plugins to a case, their files in place below `results`.
    fn ask(
        &mut self,
        case: &Case,
        plugins: &[usize],
        results: &Path,
        writers: &[Arc<dyn ResultWriter>],
        events: &Heard<'_>,
    ) -> Vec<Result<CaseOutput, CaseFailure>> {
        let output = match OutputFolder::open(results) {
            Ok(output) => output,
            Err(message) => {
                let failure = CaseFailure { message, blame: Blame::Output, remedy: None };
                return plugins.iter().map(|_| Err(failure.clone())).collect();
            }
        };
        let wanted = Wanted { output: Some(&output), writers };
        let mut answers = Vec::new();
        let asked = [Some(CaseRequest { case, tasks: plugins.to_vec() })];
        self.session.run_while(asked, wanted, events, |_, _, all| {
            answers = all;
            ControlFlow::Continue(())
        });
        answers
    }

    fn reload(&mut self, plugin: usize) -> Result<String, String> {
        let shared = self.shared.clone();
        let models = self.models.clone();
        let events = Heard::new(&shared, &models, &[], "");
        let said = self.session.reload(plugin, &events)?;
        let identity = self.session.identities().swap_remove(plugin);
        let reference = self.session.references().swap_remove(plugin);
        models.all()[plugin].replace(self.session.plugins()[plugin].manifest.clone(), identity, reference);
        Ok(said)
    }
}
