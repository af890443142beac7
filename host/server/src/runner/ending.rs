//! How jobs ended is written down beside the next job's computing: the disk is asked three times to keep something, and the engine
//! does not wait for it.

use super::Shared;
use super::outcome::Outcome;
use crate::jobs::Job;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Most ends that wait to be written; the engine waits for them beyond that.
const WAITING: usize = 8;

/// The thread that ends jobs, one after the other in the order of their computing. Until it has, a job counts as running: a server
/// that is killed before computes it again.
pub(crate) struct Ending {
    shared: Arc<Shared>,
    thread: Option<Thread>,
}

struct Thread {
    jobs: SyncSender<(Job, Outcome)>,
    handle: JoinHandle<()>,
}

impl Ending {
    /// Starts it. Without a thread jobs are ended where they were computed.
    pub fn new(shared: &Arc<Shared>) -> Self {
        let (sender, jobs) = sync_channel::<(Job, Outcome)>(WAITING);
        let of_thread = shared.clone();
        let work = move || {
            for (job, outcome) in jobs {
                let ended = catch_unwind(AssertUnwindSafe(|| end(&of_thread, &job, outcome)));
                if ended.is_err() {
                    tracing::error!(
                        "job {}: the server's own code failed at its end; it is tried again after a restart",
                        job.id
                    );
                }
            }
        };
        let started = std::thread::Builder::new().name("endings".to_owned()).spawn(work);
        Self { shared: shared.clone(), thread: started.ok().map(|handle| Thread { jobs: sender, handle }) }
    }

    pub fn end(&self, job: Job, outcome: Outcome) {
        match &self.thread {
            Some(thread) => {
                if let Err(lost) = thread.jobs.send((job, outcome)) {
                    let (job, outcome) = lost.0;
                    end(&self.shared, &job, outcome);
                }
            }
            None => end(&self.shared, &job, outcome),
        }
    }
}

impl Drop for Ending {
    /// Waits until all are written.
    fn drop(&mut self) {
        if let Some(Thread { jobs, handle }) = self.thread.take() {
            drop(jobs);
            let _ = handle.join();
        }
    }
}

/// A job's end: counted before anybody hears of it.
fn end(shared: &Shared, job: &Job, outcome: Outcome) {
    let id = &job.id;
    shared.metrics.job(outcome.state().name());
    outcome.answers.iter().for_each(|answer| shared.metrics.answer(&answer.plugin, "answered"));
    let failed = outcome.failures.iter().filter_map(|failure| failure.plugin.as_ref());
    failed.for_each(|plugin| shared.metrics.answer(plugin, "failed"));
    let ended = shared.jobs.end(id, |job| {
        job.state = outcome.state();
        job.answers = outcome.answers;
        job.failures = outcome.failures;
        job.notices = outcome.notices;
    });
    match ended {
        Ok(Some(job)) => {
            if shared.audit.job(&job)
                && let Err(e) = shared.jobs.audited(id)
            {
                tracing::error!("{e}");
            }
        }
        Ok(None) => {}
        // It stays what it was, and is tried again after a restart.
        Err(e) => tracing::error!("job {id}: {e}"),
    }
}
