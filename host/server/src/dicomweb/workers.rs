//! The threads: one looks for studies, others do what the ledger says is next for each.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::ArchiveError;
use super::ledger::{NamedStudy, StudyKey};
use super::look::LookError;
use super::steps::{Next, Steps};
use super::study_log;
use super::watch::Candidates;
use crate::dimse::Incoming;

/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_millis(200);

/// What the threads share.
pub(crate) struct Shared {
    pub steps: Steps,
    pub incoming: Option<Arc<Incoming>>,
    pub agenda: Mutex<Agenda>,
    pub wake: Condvar,
    /// What the webhook named; the ledger has it as well.
    pub named: Mutex<VecDeque<NamedStudy>>,
    /// New studies that were not looked at yet.
    pub waiting: AtomicU32,
    pub stop: AtomicBool,
}

/// When each study's next step is due; those whose step is being done are not in it.
pub(crate) type Agenda = BTreeMap<StudyKey, Instant>;

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Takes the study whose step is due, does the step, and enters when the next one is.
    pub fn work(&self) {
        loop {
            let mut agenda = locked(&self.agenda);
            let key = loop {
                if self.stopped() {
                    return;
                }
                let now = Instant::now();
                let next = agenda.iter().min_by_key(|(_, at)| **at).map(|(key, at)| (key.clone(), *at));
                match next {
                    Some((key, at)) if at <= now => break key,
                    // A stop that is asked for between two waits must be seen as well.
                    other => {
                        let wait = other.map_or(TICK, |(_, at)| at.duration_since(now)).min(TICK * 5);
                        agenda =
                            self.wake.wait_timeout(agenda, wait).unwrap_or_else(PoisonError::into_inner).0;
                    }
                }
            };
            agenda.remove(&key);
            drop(agenda);
            let next = self.steps.advance(&key);
            let at = match next {
                Next::Finished => continue,
                Next::Now => Instant::now(),
                Next::After(wait) => Instant::now() + wait,
            };
            locked(&self.agenda).insert(key, at);
            self.wake.notify_one();
        }
    }

    pub fn begin(&self, key: StudyKey) {
        locked(&self.agenda).insert(key, Instant::now());
        self.wake.notify_one();
    }

    /// Looks for new studies until the service ends.
    pub fn watch(&self) {
        let settings = &self.steps.rules.archive;
        let quiet = Duration::from_secs_f64(settings.quiet_seconds);
        let mut candidates = Candidates::new(quiet, self.steps.rules.limits.studies);
        let mut next_list = Instant::now();
        let mut failures = 0;
        while !self.stopped() {
            if let Some(incoming) = &self.incoming {
                self.take_received(incoming);
            }
            let now = Instant::now();
            let mut listed = false;
            let mut result = self.take_named(&mut candidates);
            if let Some(archive) = &self.steps.archive {
                if result.is_ok() && settings.poll_seconds > 0.0 && now >= next_list {
                    result = self.list(archive, &mut candidates);
                    listed = true;
                }
                if result.is_ok() {
                    result = self.look_at_due(archive, &mut candidates);
                }
            }
            self.waiting.store(candidates.len() as u32, Ordering::Relaxed);
            if let Err(e) = result {
                failures += 1;
                let asked = match &e {
                    LookError::Archive(ArchiveError::Unavailable { wait, .. }) => wait.unwrap_or_default(),
                    _ => Duration::ZERO,
                };
                let wait = self.steps.backoff().wait(failures).max(asked);
                study_log::of_all(study_log::WARNING, format!("{e}; again in {:.1} s", wait.as_secs_f64()));
                self.pause(wait);
                continue;
            }
            failures = 0;
            if listed {
                next_list = now + Duration::from_secs_f64(settings.poll_seconds);
            }
            self.pause(TICK);
        }
    }

    /// Waits, and ends early when the service does. What C-STORE brings is taken meanwhile.
    fn pause(&self, wait: Duration) {
        let ends = Instant::now() + wait;
        while !self.stopped() {
            let left = ends.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(TICK));
            if let Some(incoming) = &self.incoming {
                self.take_received(incoming);
            }
        }
    }
}
