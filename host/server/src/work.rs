//! What waits for the engine: jobs, and requests whose clients wait for the answer. One queue, first come, first served.

use crate::jobs::JobId;
use anymc3d_host::engine::Case;
use anymc3d_host::run::{CaseFailure, CaseOutput};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// A case whose client waits for the answer. It is dropped unanswered where the client has left before its turn.
pub struct WaitingCase {
    /// The case; its files lie in `folder`.
    pub case: Case,
    /// Index of the plugin that is asked.
    pub plugin: usize,
    /// Folder of the request; the answer's files go below it. It goes with whoever holds it last.
    pub folder: TempDir,
    /// Whether the heatmap is wanted.
    pub heatmap: bool,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<AnsweredCase, CaseFailure>>,
}

/// An answer whose files lie in the request's folder.
pub struct AnsweredCase {
    /// The answer.
    pub output: CaseOutput,
    /// The folder.
    pub folder: TempDir,
}

/// What the engine does next.
pub enum Work {
    /// A job of the database.
    Job(JobId),
    /// A request.
    Case(Box<WaitingCase>),
    /// Opens a plugin again, and takes it out of quarantine.
    Reload {
        /// Index of the plugin.
        plugin: usize,
        /// What runs from here on, or why not.
        reply: oneshot::Sender<Result<String, String>>,
    },
}

#[derive(Default)]
struct Waiting {
    work: VecDeque<Work>,
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

    /// Adds work where fewer than `most` wait; `usize::MAX` for what was accepted before.
    ///
    /// # Errors
    /// When it is full or closed.
    pub fn push(&self, work: Work, most: usize) -> Result<(), QueueFull> {
        let mut waiting = self.lock();
        if waiting.work.len() >= most {
            waiting.work.retain(|work| !is_left(work));
        }
        if waiting.closed || waiting.work.len() >= most {
            return Err(QueueFull);
        }
        waiting.work.push_back(work);
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits for the next work; `None` once the queue is closed. Jobs that still wait then stay in the database.
    pub fn next(&self) -> Option<Work> {
        let mut waiting = self.lock();
        loop {
            if waiting.closed {
                return None;
            }
            match waiting.work.pop_front() {
                Some(work) if is_left(&work) => {}
                Some(work) => return Some(work),
                None => waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            }
        }
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
        waiting.work.iter().position(|work| matches!(work, Work::Job(job) if job == id)).map(|at| at + 1)
    }

    /// Takes a job out; whether it was still waiting.
    pub fn withdraw(&self, id: &JobId) -> bool {
        let mut waiting = self.lock();
        let before = waiting.work.len();
        waiting.work.retain(|work| !matches!(work, Work::Job(job) if job == id));
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

/// Whether the client has left.
fn is_left(work: &Work) -> bool {
    match work {
        Work::Job(_) => false,
        Work::Case(case) => case.reply.is_closed(),
        Work::Reload { reply, .. } => reply.is_closed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case() -> (Work, oneshot::Receiver<Result<AnsweredCase, CaseFailure>>) {
        let (reply, answer) = oneshot::channel();
        let case = WaitingCase {
            case: Case::default(),
            plugin: 0,
            folder: tempfile::tempdir().unwrap(),
            heatmap: false,
            reply,
        };
        (Work::Case(Box::new(case)), answer)
    }

    #[test]
    fn a_request_whose_client_left_while_it_waited_is_never_computed() {
        let queue = WorkQueue::default();
        let (first, gone) = case();
        let (second, _waits) = case();
        queue.push(first, 2).unwrap();
        queue.push(second, 2).unwrap();
        let (third, _third) = case();
        assert_eq!(queue.push(third, 2).map_err(|e| e.to_string()), Err("the queue is full".to_owned()));
        drop(gone);
        let id = JobId::new().unwrap();
        queue.push(Work::Job(id.clone()), 2).unwrap();
        assert_eq!(queue.place(&id), Some(2));
        assert!(matches!(queue.next(), Some(Work::Case(_))));
        assert!(matches!(queue.next(), Some(Work::Job(job)) if job == id));
        queue.close();
        assert!(queue.next().is_none() && queue.push(Work::Job(id), usize::MAX).is_err());
    }
}
