//! What is done for a study, step by step: each step begins where the ledger says that the last one ended.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anymc3d_dicom::case_id;

use super::answer::{Answer, AnswerError, AnswerRequest, JobOutcome};
use super::backoff::Backoff;
use super::client::Archive;
use super::config::RulesFile;
use super::deliver::{send_all, verify_all};
use super::error::ArchiveError;
use super::fetch::{Allowance, fetch_series};
use super::ledger::{
    Ledger, LedgerError, ObjectState, StudyKey, StudyOrigin, StudyRecord, StudyState, unix_seconds,
};
use super::outbox::{TakeError, take_results};
use super::study_log;
use crate::dimse::sender;

/// When a job is looked up again.
const JOB_PACE: Duration = Duration::from_millis(250);

/// What comes after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Now,
    After(Duration),
    /// Nothing, or nothing any more.
    Finished,
}

/// Why a step did not end.
enum Stop {
    Archive(ArchiveError),
    /// For good.
    Fail(String),
    /// Nobody's fault: asked again.
    Wait(Duration),
}

impl From<ArchiveError> for Stop {
    fn from(e: ArchiveError) -> Self {
        Self::Archive(e)
    }
}

impl From<LedgerError> for Stop {
    fn from(e: LedgerError) -> Self {
        Self::Archive(ArchiveError::Disk(e.to_string()))
    }
}

/// Everything that the steps need.
pub(crate) struct Steps {
    pub archive: Option<Archive>,
    pub ledger: Ledger,
    pub answer: Arc<dyn Answer>,
    pub rules: RulesFile,
    pub folder: PathBuf,
    pub salt: Vec<u8>,
    /// How often in a row the archive, or our disk, was not available.
    pub unavailable: AtomicU32,
}

impl Steps {
    pub fn key(&self, study_uid: &str) -> StudyKey {
        StudyKey::of(&self.salt, study_uid)
    }

    /// The folder of a study, below `studies/`.
    pub fn study_folder(&self, key: &StudyKey) -> PathBuf {
        self.folder.join("studies").join(key.as_str())
    }

    /// The folder of a series of a study.
    pub fn series_folder(&self, key: &StudyKey, series: &str) -> PathBuf {
        self.study_folder(key).join("series").join(case_id(&self.salt, series))
    }

    fn outbox(&self, key: &StudyKey) -> PathBuf {
        self.study_folder(key).join("outbox")
    }

    pub fn backoff(&self) -> Backoff {
        self.rules.retry.backoff()
    }

    /// Does what comes next for a study.
    pub fn advance(&self, key: &StudyKey) -> Next {
        let mut record = match self.ledger.get(key) {
            Ok(Some(record)) if !record.state.is_final() => record,
            Ok(_) => return Next::Finished,
            Err(e) => {
                study_log::of_study(study_log::ERROR, key, &e);
                return Next::After(self.backoff().most);
            }
        };
        let before = record.state;
        let stop = match self.step(key, &mut record) {
            Ok(()) => {
                self.unavailable.store(0, Ordering::Relaxed);
                // That an archive confirms what it has lost before is no progress: what was counted stays.
                let is_sent_again = record.state == StudyState::Stored && record.lost > 0;
                if record.state != before && !is_sent_again {
                    record.attempts = 0;
                    record.reason = None;
                }
                return self.keep(key, &mut record, Next::Now);
            }
            Err(stop) => stop,
        };
        match stop {
            Stop::Wait(wait) => Next::After(wait),
            Stop::Fail(reason) => self.fail(key, &mut record, reason),
            Stop::Archive(error) => self.repeat(key, &mut record, error),
        }
    }

    /// What an archive's error means for the study.
    fn repeat(&self, key: &StudyKey, record: &mut StudyRecord, error: ArchiveError) -> Next {
        let reason = error.to_string();
        let old = unix_seconds().saturating_sub(record.seen) > self.rules.retry.give_up_hours * 3600;
        let wait = match error {
            ArchiveError::Refused(_) | ArchiveError::TooLarge => return self.fail(key, record, reason),
            ArchiveError::Unavailable { wait, .. } => {
                let failures = self.unavailable.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                // An archive that loses objects and is away in between is asked ever less often too.
                wait.unwrap_or_default().max(self.backoff().wait(failures.max(record.lost)))
            }
            ArchiveError::Disk(_) => {
                let failures = self.unavailable.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                self.backoff().wait(failures)
            }
            ArchiveError::Interrupted(_) => {
                record.attempts += 1;
                if record.attempts >= self.rules.retry.attempts {
                    return self.fail(key, record, format!("{reason}; tried {} times", record.attempts));
                }
                self.backoff().wait(record.attempts)
            }
        };
        if old {
            return self.fail(
                key,
                record,
                format!("{reason}; given up after {} h", self.rules.retry.give_up_hours),
            );
        }
        study_log::of_study(
            study_log::WARNING,
            key,
            format!("{} → {reason}; again in {:.1} s", record.state.name(), wait.as_secs_f64()),
        );
        record.reason = Some(reason);
        self.keep(key, record, Next::After(wait))
    }

    fn fail(&self, key: &StudyKey, record: &mut StudyRecord, reason: String) -> Next {
        study_log::of_study(
            study_log::ERROR,
            key,
            format!("{} → failed for good: {reason}", record.state.name()),
        );
        record.end(StudyState::Failed, Some(reason));
        self.keep(key, record, Next::Finished)
    }

    /// Writes the record; a study at its end leaves no scan behind.
    fn keep(&self, key: &StudyKey, record: &mut StudyRecord, next: Next) -> Next {
        if let Err(e) = self.ledger.put(key, record) {
            study_log::of_study(study_log::ERROR, key, &e);
            return Next::After(self.backoff().most);
        }
        if record.state.is_final() {
            if let Err(e) = self.clean(key, record) {
                study_log::of_study(study_log::ERROR, key, format!("its files cannot be removed ({e})"));
            }
            return Next::Finished;
        }
        next
    }

    /// Removes the files of a study at its end. Results that could not be delivered stay, so that the study can be taken up
    /// again under the same UIDs.
    fn clean(&self, key: &StudyKey, record: &StudyRecord) -> std::io::Result<()> {
        let folder = self.study_folder(key);
        if record.state != StudyState::Failed || record.objects.is_empty() {
            return remove_folder(&folder);
        }
        remove_folder(&folder.join("series"))?;
        (0..record.orders.len()).try_for_each(|number| remove_folder(&order_folder(&folder, number)))
    }

    fn step(&self, key: &StudyKey, record: &mut StudyRecord) -> Result<(), Stop> {
        match record.state {
            StudyState::Seen => self.fetch(key, record),
            StudyState::Fetched => self.answer(key, record),
            StudyState::Answered => self.send(key, record),
            StudyState::Stored => self.verify(key, record),
            _ => Ok(()),
        }
    }

    fn archive(&self) -> Result<&Archive, Stop> {
        self.archive.as_ref().ok_or_else(|| Stop::Fail("this server was started without --dicomweb".into()))
    }

    fn study_uid(record: &StudyRecord) -> Result<String, Stop> {
        record.study_uid.clone().ok_or_else(|| Stop::Fail("the ledger has lost the study's UID".into()))
    }

    fn fetch(&self, key: &StudyKey, record: &mut StudyRecord) -> Result<(), Stop> {
        let (archive, study) = (self.archive()?, Self::study_uid(record)?);
        let mut allowance = Allowance::of(&self.rules.limits);
        let mut series: Vec<&String> = record.orders.iter().flat_map(|order| &order.series).collect();
        series.sort();
        series.dedup();
        let mut instances = 0;
        for uid in series {
            let folder = self.series_folder(key, uid);
            let limits = &self.rules.limits;
            instances += fetch_series(archive, &self.salt, (&study, uid), &folder, limits, &mut allowance)?;
        }
        study_log::of_study(study_log::INFO, key, format!("fetched, {instances} instances"));
        record.state = StudyState::Fetched;
        Ok(())
    }

    fn answer(&self, key: &StudyKey, record: &mut StudyRecord) -> Result<(), Stop> {
        let study = Self::study_uid(record)?;
        let before = record.clone();
        for number in 0..record.orders.len() {
            if record.orders[number].taken {
                continue;
            }
            let Some(job) = record.orders[number].job.clone() else {
                let job = self.submit(key, record, number)?;
                study_log::of_study(study_log::INFO, key, format!("submitted as job {job}"));
                record.orders[number].job = Some(job);
                self.ledger.put(key, record)?;
                continue;
            };
            match self.answer.outcome(&job) {
                JobOutcome::Waiting => {}
                JobOutcome::Gone => record.orders[number].job = None,
                JobOutcome::Failed(reason) => {
                    record.note(format!("job {job}: {reason}"));
                    record.orders[number].taken = true;
                }
                JobOutcome::Done { files, failures } => {
                    failures.into_iter().for_each(|failure| record.note(failure));
                    let objects = &self.rules.results.objects;
                    let taken = take_results(&files, &self.outbox(key), &study, objects, number);
                    let taken = taken.map_err(|e| match e {
                        TakeError::Disk(_) => Stop::Archive(ArchiveError::Disk(e.to_string())),
                        TakeError::Refused(_) => Stop::Fail(e.to_string()),
                    })?;
                    if taken.is_empty() {
                        record.note(format!("job {job} has no results in DICOM"));
                    }
                    record.objects.extend(taken);
                    record.orders[number].taken = true;
                    self.ledger.put(key, record)?;
                }
            }
        }
        if record.orders.iter().any(|order| !order.taken) {
            if *record != before {
                self.ledger.put(key, record)?;
            }
            return Err(Stop::Wait(JOB_PACE));
        }
        if record.objects.is_empty() {
            return Err(Stop::Fail(format!("no plugin has answered: {}", record.notes.join("; "))));
        }
        record.state = StudyState::Answered;
        Ok(())
    }

    /// Submits an order as a job, with links to the files of its series: several orders may share a series, and a job
    /// takes its folder over.
    fn submit(&self, key: &StudyKey, record: &StudyRecord, number: usize) -> Result<String, Stop> {
        let disk = |e: std::io::Error| {
            Stop::Archive(ArchiveError::Disk(format!("a study cannot be handed over ({e})")))
        };
        let order = &record.orders[number];
        let scan = order_folder(&self.study_folder(key), number);
        remove_folder(&scan).map_err(disk)?;
        std::fs::create_dir_all(&scan).map_err(disk)?;
        for (at, series) in order.series.iter().enumerate() {
            let to = scan.join(at.to_string());
            std::fs::create_dir(&to).map_err(disk)?;
            link_files(&self.series_folder(key, series), &to).map_err(disk)?;
        }
        let job_key = match record.round {
            0 => format!("{key}-{number}"),
            round => format!("{key}-{number}-{round}"),
        };
        let (origin, rules) = (record.origin, order.rules.as_slice());
        let request = AnswerRequest { scan: &scan, plugins: &order.plugins, key: &job_key, origin, rules };
        match self.answer.submit(&request) {
            Ok(job) => Ok(job),
            Err(AnswerError::Busy(reason)) => {
                study_log::of_study(study_log::INFO, key, reason);
                Err(Stop::Wait(JOB_PACE * 4))
            }
            Err(AnswerError::Refused(reason)) => Err(Stop::Fail(reason)),
        }
    }

    fn send(&self, key: &StudyKey, record: &mut StudyRecord) -> Result<(), Stop> {
        let outbox = self.outbox(key);
        let mut save = |record: &mut StudyRecord| {
            self.ledger.put(key, record).map_err(|e| ArchiveError::Disk(e.to_string()))
        };
        if let Some(peer) = &self.rules.results.store_to {
            sender::send_all(peer, &outbox, record, &mut save)?;
            self.refused(record)?;
            study_log::of_study(study_log::INFO, key, format!("sent, {} objects", record.objects.len()));
            record.end(StudyState::Sent, None);
            return Ok(());
        }
        let (archive, study) = (self.archive()?, Self::study_uid(record)?);
        let most = self.rules.results.request_mb << 20;
        send_all(archive, &study, &outbox, most, record, &mut save)?;
        record.state = StudyState::Stored;
        Ok(())
    }

    fn verify(&self, key: &StudyKey, record: &mut StudyRecord) -> Result<(), Stop> {
        let (archive, study) = (self.archive()?, Self::study_uid(record)?);
        let outbox = self.outbox(key);
        let mut save = |record: &mut StudyRecord| {
            self.ledger.put(key, record).map_err(|e| ArchiveError::Disk(e.to_string()))
        };
        let before = count_verified(record);
        let verified = verify_all(archive, &study, &outbox, record, &mut save);
        if record.objects.iter().any(|o| matches!(o.state, ObjectState::Waiting | ObjectState::Begun)) {
            record.state = StudyState::Answered;
            // Only an object that came through begins the count anew: so the repetition has an end.
            if count_verified(record) > before {
                (record.attempts, record.lost) = (0, 0);
            }
            record.lost = record.lost.saturating_add(1);
        }
        verified?;
        self.refused(record)?;
        study_log::of_study(study_log::INFO, key, format!("verified, {} objects", record.objects.len()));
        record.end(StudyState::Verified, None);
        Ok(())
    }

    /// A study some of whose objects were refused has failed, and says which.
    fn refused(&self, record: &StudyRecord) -> Result<(), Stop> {
        let refused = record.objects.iter().filter(|o| o.state == ObjectState::Refused).count();
        match refused {
            0 => Ok(()),
            n => Err(Stop::Fail(format!(
                "{} of {} objects are stored: {}",
                record.objects.len() - n,
                record.objects.len(),
                record.notes.join("; ")
            ))),
        }
    }
}

impl Steps {
    /// A study whose files were received: entered as fetched.
    pub fn received(&self, study_uid: &str, orders: Vec<super::ledger::Order>) -> Result<bool, LedgerError> {
        let mut record = StudyRecord::new(study_uid, StudyOrigin::Dimse, orders);
        record.state = StudyState::Fetched;
        self.ledger.enter(&self.key(study_uid), &record)
    }
}

fn count_verified(record: &StudyRecord) -> usize {
    record.objects.iter().filter(|o| o.state == ObjectState::Verified).count()
}

fn order_folder(study: &Path, number: usize) -> PathBuf {
    study.join(format!("order-{number}"))
}

/// Removes a folder with everything in it; none is fine.
pub(crate) fn remove_folder(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Links the DICOM files of a folder into another one; copies where the file system has no links.
pub(crate) fn link_files(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_string_lossy().ends_with(".dcm") {
            let target = to.join(&name);
            // Of an attempt before; a copy onto a link would empty the file that both are.
            let _ = std::fs::remove_file(&target);
            if std::fs::hard_link(entry.path(), &target).is_err() {
                std::fs::copy(entry.path(), &target)?;
            }
        }
    }
    Ok(())
}
