//! Jobs: scans that were submitted, by whichever door, and what became of them.
//!
//! A door ([`crate::scans`], a DICOMweb archive, a C-STORE receiver) asks for an [`Intake`], writes the scan into its folder
//! and calls [`Jobs::submit`] with it. It looks a job up by [`Jobs::get`], hears of its end by [`Jobs::watch`] or
//! [`Jobs::finished`], and finds the files of each [`Answer`] in [`Jobs::answer_folder`]: `result.json`, `heatmap.nii.gz`,
//! `preview.png`, `report.html`, and of DICOM `dicom/*.dcm` (SR, parametric map, segmentation, secondary capture).
//!
//! A job's folder is `jobs/ID`: the scan as it arrived, and `results/CASE/PLUGIN`. The record is in the database
//! (`jobs.redb`), and it alone decides: a job is submitted when its record is written, and ended when its end is. A job
//! that ran when the process was killed waits again after the next start, without the files that it had begun.

mod id;
mod intake;
mod record;
mod retention;
mod store;
#[cfg(test)]
mod tests;

pub use id::{JobId, NoJobId};
pub use intake::Intake;
pub(crate) use intake::copy_all;
pub use record::{
    Answer, Channel, Job, JobFailure, JobRegion, JobState, LabelAnswer, NoveltyAnswer, Progress, Submitter,
};
pub use retention::Retention;
pub use store::StoreError;

use crate::work::{WaitingJob, Work, WorkQueue};
use jiff::Timestamp;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use store::{Added, Store};
use tokio::sync::{broadcast, watch};

/// A scan with what is asked of it.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Name of the scan's file or folder in the intake's folder; the reader tells by content what it is.
    pub scan: String,
    /// Where plugins that look at a finding are to look.
    pub region: JobRegion,
    /// The plugins that are asked, by name; none asks all.
    pub plugins: Vec<String>,
    /// Who submits.
    pub submitter: Submitter,
    /// A second submission of the same submitter under the same key is the first one.
    pub key: Option<String>,
    /// Digest of the scan's bytes as they were uploaded: of several files that of their digests. A study of
    /// an archive or of C-STORE has none.
    pub upload_sha256: Option<String>,
}

/// What came of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// A new job.
    New(JobId),
    /// The key had a job already; the scan that came with the second submission is removed.
    Known(JobId),
}

impl Submitted {
    /// The job.
    pub fn id(&self) -> &JobId {
        match self {
            Self::New(id) | Self::Known(id) => id,
        }
    }
}

/// Why a submission is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// As many jobs wait as may.
    #[error("{0} jobs wait already; try again later")]
    QueueFull(usize),
    /// A plugin that is not served.
    #[error("no plugin is called `{wanted}`; there is: {}", there.join(", "))]
    UnknownPlugin {
        /// As it was asked for.
        wanted: String,
        /// Those that are served.
        there: Vec<String>,
    },
    /// The key has a job of another scan or of other plugins.
    #[error("the idempotency key belongs to job {0}, which has another scan or other plugins")]
    KeyOfAnother(JobId),
    /// The scan's file is not in the intake's folder.
    #[error("no scan was written ({0})")]
    NoScan(io::Error),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why there are no jobs at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenJobsError {
    /// The folder.
    #[error("{}: cannot be used ({source})", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The database; another process may have it open.
    #[error("{}: {source}", file.display())]
    Store {
        /// Its file.
        file: PathBuf,
        /// Why.
        source: StoreError,
    },
}

/// The jobs of a server.
pub struct Jobs {
    folder: PathBuf,
    store: Store,
    queue: Arc<WorkQueue>,
    plugins: Vec<String>,
    most_waiting: usize,
    /// Of each job that has not ended.
    live: Mutex<HashMap<JobId, watch::Sender<Progress>>>,
    ended: broadcast::Sender<JobId>,
}

/// A folder below the server's, made where it is missing.
fn made(folder: &Path) -> Result<(), OpenJobsError> {
    std::fs::create_dir_all(folder)
        .map_err(|source| OpenJobsError::Folder { folder: folder.to_owned(), source })
}

impl Jobs {
    /// Opens the jobs of a data folder for the plugins that are served. What had not ended waits again, oldest first; folders
    /// of submissions that were not completed are removed.
    ///
    /// # Errors
    /// When the folder cannot be used, or another process has the database.
    pub fn open(
        data: &Path,
        plugins: Vec<String>,
        queue: Arc<WorkQueue>,
        most_waiting: usize,
    ) -> Result<Self, OpenJobsError> {
        let folder = data.join("jobs");
        made(&folder)?;
        let file = data.join("jobs.redb");
        let failed = |source| OpenJobsError::Store { file: file.clone(), source };
        let store = Store::open(&file).map_err(failed)?;
        let (ended, _) = broadcast::channel(1024);
        let live = Mutex::default();
        let jobs = Self { folder, store, queue, plugins, most_waiting, live, ended };
        jobs.recover().map_err(failed)?;
        Ok(jobs)
    }

    /// Puts what had not ended back into the queue, and removes what belongs to no job.
    fn recover(&self) -> Result<(), StoreError> {
        let mut open = self.store.list(usize::MAX, |job| !job.state.is_final())?;
        open.reverse();
        for job in open {
            // What the killed process had begun.
            let _ = std::fs::remove_dir_all(self.results_folder(&job.id));
            if job.state == JobState::Running {
                self.store.change(&job.id, |job| job.state = JobState::Queued)?;
            }
            self.wait_for(&job.id);
            let key = job.scan_key();
            let _ = self.queue.push(Work::Job(WaitingJob { id: job.id, key }), usize::MAX);
        }
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.parse().ok());
            let known = match id {
                Some(id) => self.store.get(&id)?.is_some(),
                None => false,
            };
            if !known {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        Ok(())
    }

    fn live(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, watch::Sender<Progress>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for(&self, id: &JobId) {
        self.live().insert(id.clone(), watch::channel(Progress::of(JobState::Queued)).0);
    }

    /// Whether a submission would find room; asked before a scan is received.
    pub fn has_room(&self) -> bool {
        self.queue.len() < self.most_waiting
    }

    /// The plugins that are served, by name.
    pub fn plugins(&self) -> &[String] {
        &self.plugins
    }

    /// A folder for a scan that arrives.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn intake(&self) -> io::Result<Intake> {
        Intake::new(&self.folder)
    }

    /// Submits the scan of an intake. On the disk when the call returns; it blocks for that long.
    ///
    /// # Errors
    /// [`SubmitError`]; the intake's folder is then removed.
    pub fn submit(&self, intake: Intake, mut submission: Submission) -> Result<Submitted, SubmitError> {
        if let Some(wanted) = submission.plugins.iter().find(|p| !self.plugins.contains(p)) {
            let there = self.plugins.clone();
            return Err(SubmitError::UnknownPlugin { wanted: wanted.clone(), there });
        }
        if submission.plugins.is_empty() {
            submission.plugins.clone_from(&self.plugins);
        }
        let upload_bytes = bytes_of(&intake.folder().join(&submission.scan)).map_err(SubmitError::NoScan)?;
        let job = Job::queued(intake.id.clone(), submission, upload_bytes);
        if let Some(known) = self.store.of_key(&job)? {
            return self.known(&known, &job);
        }
        if !self.has_room() {
            return Err(SubmitError::QueueFull(self.most_waiting));
        }
        match self.store.add(&job)? {
            Added::Known(known) => return self.known(&known, &job),
            Added::New => intake.keep(),
        }
        self.wait_for(&job.id);
        // It is on the disk: where the server ends now, it waits for the next start.
        let waiting = WaitingJob { id: job.id.clone(), key: job.scan_key() };
        let _ = self.queue.push(Work::Job(waiting), usize::MAX);
        Ok(Submitted::New(job.id))
    }

    /// The job of a key, where the second submission is the first one again.
    fn known(&self, id: &JobId, again: &Job) -> Result<Submitted, SubmitError> {
        let same = self.store.get(id)?.is_none_or(|first| {
            first.plugins == again.plugins
                && first.region == again.region
                && first.upload_sha256 == again.upload_sha256
        });
        if same { Ok(Submitted::Known(id.clone())) } else { Err(SubmitError::KeyOfAnother(id.clone())) }
    }

    /// A job by its name.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn get(&self, id: &JobId) -> Result<Option<Job>, StoreError> {
        self.store.get(id)
    }

    /// The jobs that `keep` keeps, the newest first, `most` at most.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn list(&self, most: usize, keep: impl Fn(&Job) -> bool) -> Result<Vec<Job>, StoreError> {
        self.store.list(most, keep)
    }

    /// Hands over all jobs, the newest first, as long as `take` wants more.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn newest(&self, take: impl FnMut(&Job) -> bool) -> Result<(), StoreError> {
        self.store.newest(take)
    }

    /// How a job goes on, until its state is final; `None` for one that has ended or that is not there.
    pub fn watch(&self, id: &JobId) -> Option<watch::Receiver<Progress>> {
        self.live().get(id).map(watch::Sender::subscribe)
    }

    /// Names of jobs as they end. A receiver that lags is told that it lost some, and looks them up by [`Self::list`].
    pub fn finished(&self) -> broadcast::Receiver<JobId> {
        self.ended.subscribe()
    }

    /// Waits for a job's end; `None` where there is no such job, or it was deleted meanwhile.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn end_of(&self, id: &JobId) -> Result<Option<Job>, StoreError> {
        if let Some(mut progress) = self.watch(id) {
            while !progress.borrow_and_update().state.is_final() {
                if progress.changed().await.is_err() {
                    break;
                }
            }
        }
        self.get(id)
    }

    /// How many jobs and requests wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// The place of a job in the queue, 1 for the next.
    pub fn place(&self, id: &JobId) -> Option<usize> {
        self.queue.place(id)
    }

    /// A job's folder.
    pub fn job_folder(&self, id: &JobId) -> PathBuf {
        self.folder.join(id.as_str())
    }

    /// The folder of a job's results.
    pub fn results_folder(&self, id: &JobId) -> PathBuf {
        self.job_folder(id).join("results")
    }

    /// The folder of an answer's files.
    pub fn answer_folder(&self, id: &JobId, answer: &Answer) -> PathBuf {
        self.results_folder(id).join(&answer.folder)
    }

    /// Deletes a job that does not run; `false` where it runs.
    ///
    /// # Errors
    /// When the database cannot be written to.
    pub fn delete(&self, id: &JobId) -> Result<bool, StoreError> {
        let waits = self.queue.withdraw(id);
        let ended = self.store.get(id)?.is_none_or(|job| job.state.is_final());
        if !waits && !ended {
            return Ok(false);
        }
        self.store.remove(id)?;
        self.live().remove(id);
        let _ = std::fs::remove_dir_all(self.job_folder(id));
        Ok(true)
    }

    /// The engine begins with a job; `None` where it was deleted meanwhile.
    pub(crate) fn begin(&self, id: &JobId) -> Result<Option<Job>, StoreError> {
        let begun = self.store.change(id, |job| {
            job.state = JobState::Running;
            job.started = Some(Timestamp::now());
            job.attempts += 1;
        })?;
        if begun.is_some() {
            self.tell(id, Progress::of(JobState::Running));
        }
        Ok(begun)
    }

    /// Tells whoever watches a job.
    pub(crate) fn tell(&self, id: &JobId, progress: Progress) {
        if let Some(sender) = self.live().get(id) {
            sender.send_replace(progress);
        }
    }

    /// A job ends with what `change` writes into its record, in one transaction.
    pub(crate) fn end(&self, id: &JobId, change: impl FnOnce(&mut Job)) -> Result<Option<Job>, StoreError> {
        let bytes = bytes_of(&self.job_folder(id)).unwrap_or(0);
        let ended = self.store.change(id, |job| {
            change(job);
            job.bytes = bytes;
            job.ended = Some(Timestamp::now());
        })?;
        if let Some(job) = &ended {
            self.tell(id, Progress::of(job.state));
        }
        self.live().remove(id);
        // Nobody may be listening.
        let _ = self.ended.send(id.clone());
        Ok(ended)
    }

    /// The audit log has a job's end.
    pub(crate) fn audited(&self, id: &JobId) -> Result<(), StoreError> {
        self.store.change(id, |job| job.audited = true).map(drop)
    }
}

/// Bytes of a file, or of all files below a folder.
fn bytes_of(path: &Path) -> io::Result<u64> {
    let about = std::fs::symlink_metadata(path)?;
    if !about.is_dir() {
        return Ok(about.len());
    }
    let mut sum = 0;
    for entry in std::fs::read_dir(path)? {
        sum += bytes_of(&entry?.path()).unwrap_or(0);
    }
    Ok(sum)
}
