//! What waits for the engine: jobs, and requests whose clients wait for the answer. One queue, first come, first served; those
//! of one scan are answered with the first of them.

use crate::jobs::JobId;
use anymc3d_host::engine::Case;
use anymc3d_host::run::{CaseFailure, CaseOutput};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// What decides the slices of a work's scan: works of equal keys are computed together. A digest of the scan's bytes, and of where
/// in it plugins look.
pub type ScanKey = [u8; 32];

/// A job of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingJob {
    /// Its name.
    pub id: JobId,
    /// Absent where it is computed alone: its scan came with a mask, or has no digest.
    pub key: Option<ScanKey>,
}

/// A case whose client waits for the answer. It is dropped unanswered where the client has left before its turn.
pub struct WaitingCase {
    /// The case; its files lie in `folder`.
    pub case: Case,
    /// Of its scan.
    pub key: ScanKey,
    /// Index of the plugin that is asked.
    pub plugin: usize,
    /// Folder of the request; the answer's files go below it. It goes with whoever holds it last.
    pub folder: TempDir,
    /// Whether the heatmap is wanted.
    pub heatmap: bool,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<AnsweredCase, CaseFailure>>,
}

/// An answer whose files lie in a request's folder.
#[derive(Debug, Clone)]
pub struct AnsweredCase {
    /// The answer.
    pub output: CaseOutput,
    /// The folder, of the first of the requests that were answered together.
    pub folder: Arc<TempDir>,
}

/// What the engine does next.
pub enum Work {
    /// A job of the database.
    Job(WaitingJob),
    /// A request.
    Case(Box<WaitingCase>),
    /// Opens a plugin again, and takes it out of quarantine.
    Reload {
        /// Index of the plugin.
        plugin: usize,
        /// Whether it is left as it is where its files are.
        only_changed: bool,
        /// What runs from here on, nothing where it was left as it is, or why not.
        reply: oneshot::Sender<Result<Option<String>, String>>,
    },
}

impl Work {
    fn is_job(&self, id: &JobId) -> bool {
        matches!(self, Self::Job(job) if job.id == *id)
    }

    /// Whether the client has left.
    fn is_left(&self) -> bool {
        match self {
            Self::Job(_) => false,
            Self::Case(case) => case.reply.is_closed(),
            Self::Reload { reply, .. } => reply.is_closed(),
        }
    }
}

#[derive(Default)]
struct Waiting {
    work: VecDeque<(Instant, Work)>,
    closed: bool,
}

/// The queue before the engine.
#[derive(Default)]
pub struct WorkQueue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

/// The queue takes no more: it is full, or the server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the queue is full")]
pub struct QueueFull;

impl WorkQueue {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds work where fewer than `most` wait; `usize::MAX` for what was accepted before. A reload goes before all that waits.
    ///
    /// # Errors
    /// When it is full or closed.
    pub fn push(&self, work: Work, most: usize) -> Result<(), QueueFull> {
        let mut waiting = self.lock();
        if waiting.work.len() >= most {
            waiting.work.retain(|(_, work)| !work.is_left());
        }
        if waiting.closed || waiting.work.len() >= most {
            return Err(QueueFull);
        }
        match work {
            Work::Reload { .. } => waiting.work.push_front((Instant::now(), work)),
            Work::Job(_) | Work::Case(_) => waiting.work.push_back((Instant::now(), work)),
        }
        self.arrived.notify_all();
        Ok(())
    }

    /// Waits for the next work, until it has waited for `window`: what arrives meanwhile may be computed with it. `None` once the
    /// queue is closed. Jobs that still wait then stay in the database.
    pub fn next(&self, window: Duration) -> Option<Work> {
        let mut waiting = self.lock();
        loop {
            if waiting.closed {
                return None;
            }
            let Some((since, work)) = waiting.work.front() else {
                waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = match work {
                Work::Reload { .. } => Duration::ZERO,
                Work::Job(_) | Work::Case(_) => window.saturating_sub(since.elapsed()),
            };
            if !left.is_zero() {
                let waited = self.arrived.wait_timeout(waiting, left);
                waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            if let Some((_, work)) = waiting.work.pop_front().filter(|(_, work)| !work.is_left()) {
                return Some(work);
            }
        }
    }

    /// Takes out what `take` wants of the works that wait, `most` at most, in their order.
    pub fn take(&self, most: usize, take: impl Fn(&Work) -> bool) -> Vec<Work> {
        let mut waiting = self.lock();
        let (mut taken, mut left) = (Vec::new(), VecDeque::with_capacity(waiting.work.len()));
        for (since, work) in waiting.work.drain(..) {
            match taken.len() < most && !work.is_left() && take(&work) {
                true => taken.push(work),
                false => left.push_back((since, work)),
            }
        }
        waiting.work = left;
        taken
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.lock().work.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The place of a job, 1 for the next; none where it does not wait.
    pub fn place(&self, id: &JobId) -> Option<usize> {
        let waiting = self.lock();
        waiting.work.iter().position(|(_, work)| work.is_job(id)).map(|at| at + 1)
    }

    /// Takes a job out; whether it was still waiting.
    pub fn withdraw(&self, id: &JobId) -> bool {
        let mut waiting = self.lock();
        let before = waiting.work.len();
        waiting.work.retain(|(_, work)| !work.is_job(id));
        waiting.work.len() < before
    }

    /// Takes no more work, and gives none. Clients that wait are told so: their reply is dropped.
    pub fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.work.clear();
        self.arrived.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(key: u8) -> (Work, oneshot::Receiver<Result<AnsweredCase, CaseFailure>>) {
        let (reply, answer) = oneshot::channel();
        let case = WaitingCase {
            case: Case::default(),
            key: [key; 32],
            plugin: 0,
            folder: tempfile::tempdir().unwrap(),
            heatmap: false,
            reply,
        };
        (Work::Case(Box::new(case)), answer)
    }

    fn job() -> (JobId, Work) {
        let id = JobId::new().unwrap();
        (id.clone(), Work::Job(WaitingJob { id, key: None }))
    }

    #[test]
    fn a_request_whose_client_left_while_it_waited_is_never_computed() {
        let queue = WorkQueue::default();
        let (first, gone) = case(1);
        let (second, _waits) = case(2);
        queue.push(first, 2).unwrap();
        queue.push(second, 2).unwrap();
        let (third, _third) = case(3);
        assert_eq!(queue.push(third, 2).map_err(|e| e.to_string()), Err("the queue is full".to_owned()));
        drop(gone);
        let (id, work) = job();
        queue.push(work, 2).unwrap();
        assert_eq!(queue.place(&id), Some(2));
        assert!(matches!(queue.next(Duration::ZERO), Some(Work::Case(_))));
        assert!(matches!(queue.next(Duration::ZERO), Some(Work::Job(job)) if job.id == id));
        queue.close();
        assert!(queue.next(Duration::ZERO).is_none() && queue.push(job().1, usize::MAX).is_err());
    }

    #[test]
    fn works_of_a_scan_are_taken_together_and_the_others_keep_their_order() {
        let queue = WorkQueue::default();
        let (mut answers, mut jobs) = (Vec::new(), Vec::new());
        for key in [1, 2, 1, 1] {
            let (work, answer) = case(key);
            queue.push(work, 9).unwrap();
            let (id, work) = job();
            queue.push(work, 9).unwrap();
            answers.push(answer);
            jobs.push(id);
        }
        let like = |work: &Work| matches!(work, Work::Case(case) if case.key == [1; 32]);
        assert_eq!(queue.take(2, like).len(), 2);
        let left: Vec<Option<usize>> = jobs.iter().map(|id| queue.place(id)).collect();
        assert_eq!((left, queue.len()), (vec![Some(1), Some(3), Some(4), Some(6)], 6));
        drop(answers);
        assert_eq!(queue.take(9, like).len(), 0, "whose client has left is not taken");
    }

    #[test]
    fn a_work_waits_for_its_window_once() {
        let queue = WorkQueue::default();
        let (work, _answer) = case(1);
        queue.push(work, 9).unwrap();
        let (began, window) = (Instant::now(), Duration::from_millis(60));
        assert!(queue.next(window).is_some() && began.elapsed() >= Duration::from_millis(55));
        let (work, _answer) = case(1);
        queue.push(work, 9).unwrap();
        std::thread::sleep(window);
        let began = Instant::now();
        assert!(queue.next(window).is_some() && began.elapsed() < Duration::from_millis(40));
    }
}
