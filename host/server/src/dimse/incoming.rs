//! Received instances on the disk until their study is complete: `incoming/<study>/<series>/<instance>.dcm`, all names
//! hashes.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anymc3d_dicom::{ErrorKind, Instance, Limits, case_id, read_instance};
use tempfile::NamedTempFile;

use crate::dicomweb::{SeriesFacts, StudyKey, study_log};

/// What waits.
pub(crate) struct Incoming {
    folder: PathBuf,
    salt: Vec<u8>,
    most_bytes: u64,
    bytes: AtomicU64,
    /// By name of the study's folder.
    studies: Mutex<HashMap<String, Waiting>>,
}

/// A study that has not been taken.
struct Waiting {
    /// When its last instance came.
    last: Instant,
    /// What it adds to the bytes that wait.
    bytes: u64,
    /// How often it could not be taken, and when that is tried again.
    failures: u32,
    not_before: Instant,
}

impl Waiting {
    fn new(bytes: u64) -> Self {
        let now = Instant::now();
        Self { last: now, bytes, failures: 0, not_before: now }
    }
}

/// A study that is complete.
pub(crate) struct ReceivedStudy {
    pub uid: String,
    pub key: StudyKey,
    pub series: Vec<SeriesFacts>,
    /// Of each series, where its files lie.
    pub folders: BTreeMap<String, PathBuf>,
    folder: PathBuf,
}

/// Why an instance is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotKept {
    /// Nothing is wrong: it is one of our own, which are never answered.
    Own,
    /// The status that the sender gets.
    Refused(u16),
}

/// C-STORE statuses (PS3.4 B.2.3).
pub(crate) const OUT_OF_RESOURCES: u16 = 0xA700;
pub(crate) const DOES_NOT_MATCH: u16 = 0xA900;
pub(crate) const NOT_UNDERSTOOD: u16 = 0xC000;

impl Incoming {
    /// Opens the folder; what waited there before a restart waits again, from now on.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn open(folder: &Path, salt: &[u8], most_bytes: u64) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut studies = HashMap::new();
        let mut bytes = 0;
        for study in std::fs::read_dir(folder)? {
            let study = study?;
            if study.file_type()?.is_file() {
                // What a killed process left in the middle; its sender was told nothing.
                std::fs::remove_file(study.path())?;
                continue;
            }
            let waiting = Waiting::new(bytes_below(&study.path())?);
            bytes += waiting.bytes;
            studies.insert(study.file_name().to_string_lossy().into_owned(), waiting);
        }
        Ok(Self {
            folder: folder.to_owned(),
            salt: salt.to_owned(),
            most_bytes,
            bytes: AtomicU64::new(bytes),
            studies: Mutex::new(studies),
        })
    }

    fn studies(&self) -> std::sync::MutexGuard<'_, HashMap<String, Waiting>> {
        self.studies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file for an instance that arrives.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn part(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new().prefix(".part-").tempfile_in(&self.folder)
    }

    /// Whether there is room for more.
    pub fn has_room(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) < self.most_bytes
    }

    /// Keeps an instance that came whole: on the disk when the call returns.
    ///
    /// # Errors
    /// [`NotKept`].
    pub fn keep(&self, part: NamedTempFile, sop_class: &str, sop_instance: &str) -> Result<(), NotKept> {
        let disk = |e: io::Error| {
            study_log::of_all(study_log::ERROR, format!("a received instance cannot be written ({e})"));
            NotKept::Refused(OUT_OF_RESOURCES)
        };
        let Ok(instance) = read_instance(part.path(), &Limits::default()) else {
            return Err(NotKept::Refused(NOT_UNDERSTOOD));
        };
        if instance.sop_class != sop_class
            || instance.sop_instance != sop_instance
            || instance.study_uid.is_empty()
        {
            return Err(NotKept::Refused(DOES_NOT_MATCH));
        }
        if instance.is_own {
            return Err(NotKept::Own);
        }
        let name = |uid: &str| case_id(&self.salt, uid);
        let study = name(&instance.study_uid);
        part.as_file().sync_all().map_err(disk)?;
        let length = part.as_file().metadata().map_err(disk)?.len();
        // Held while the file moves in, so that the study is not taken away meanwhile.
        let mut studies = self.studies();
        let series = self.folder.join(&study).join(name(&instance.series_uid));
        std::fs::create_dir_all(&series).map_err(disk)?;
        let to = series.join(format!("{}.dcm", name(&instance.sop_instance)));
        let before = to.metadata().map_or(0, |about| about.len());
        part.persist(&to).map_err(|e| disk(e.error))?;
        std::fs::File::open(&series).and_then(|f| f.sync_all()).map_err(disk)?;
        let more = length.saturating_sub(before);
        self.bytes.fetch_add(more, Ordering::Relaxed);
        let waiting = studies.entry(study).or_insert_with(|| Waiting::new(0));
        waiting.last = Instant::now();
        waiting.bytes += more;
        Ok(())
    }

    /// The studies that nothing has come of for so long and that are due, and when the last instance came.
    pub fn quiet(&self, quiet: Duration) -> Vec<(String, Instant)> {
        let studies = self.studies();
        let now = Instant::now();
        let is_due = |w: &Waiting| now >= w.not_before && now.duration_since(w.last) >= quiet;
        let due = studies.iter().filter(|(_, waiting)| is_due(waiting));
        due.map(|(study, waiting)| (study.clone(), waiting.last)).collect()
    }

    /// A study could not be taken; how often in all.
    pub fn fail(&self, study: &str) -> u32 {
        self.studies().get_mut(study).map_or(0, |waiting| {
            waiting.failures = waiting.failures.saturating_add(1);
            waiting.failures
        })
    }

    /// It is tried again then.
    pub fn look_after(&self, study: &str, at: Instant) {
        if let Some(waiting) = self.studies().get_mut(study) {
            waiting.not_before = at;
        }
    }

    /// Forgets a study whose folder somebody removed; whether it did.
    pub fn forget_missing(&self, study: &str) -> bool {
        // Held, so that no instance brings the folder back meanwhile.
        let mut studies = self.studies();
        let found = std::fs::symlink_metadata(self.folder.join(study));
        let is_missing = found.is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
        if is_missing && let Some(gone) = studies.remove(study) {
            self.release(gone.bytes);
        }
        is_missing
    }

    fn release(&self, bytes: u64) {
        let left = |all: u64| Some(all.saturating_sub(bytes));
        let _ = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
    }

    /// Reads the headers of a study that is complete; `None` where nothing of it can be read.
    ///
    /// # Errors
    /// Of the disk.
    pub fn read(&self, study: &str) -> io::Result<Option<ReceivedStudy>> {
        let folder = self.folder.join(study);
        let (mut series, mut folders, mut uid) = (Vec::new(), BTreeMap::new(), None);
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            let (mut first, mut count): (Option<Instance>, u64) = (None, 0);
            for file in std::fs::read_dir(&path)? {
                let file = file?.path();
                count += 1;
                if first.is_none() {
                    // A disk that cannot be read says nothing of the file: the study waits for another try.
                    first = match read_instance(&file, &Limits::default()) {
                        Ok(instance) => Some(instance),
                        Err(e) if e.kind == ErrorKind::Io => return Err(io::Error::other(e.to_string())),
                        Err(_) => None,
                    };
                }
            }
            if let Some(first) = first {
                uid = Some(first.study_uid.clone());
                folders.insert(first.series_uid.clone(), path);
                series.push(SeriesFacts::of_instance(&first, count));
            }
        }
        Ok(uid.map(|uid| ReceivedStudy { key: StudyKey::of(&self.salt, &uid), uid, series, folders, folder }))
    }

    /// Removes what is left of a study, unless more of it came after `at`.
    ///
    /// # Errors
    /// Of the disk.
    pub fn done(&self, study: &str, at: Instant) -> io::Result<()> {
        let mut studies = self.studies();
        if studies.get(study).is_none_or(|waiting| waiting.last != at) {
            return Ok(());
        }
        crate::dicomweb::remove_folder(&self.folder.join(study))?;
        if let Some(done) = studies.remove(study) {
            self.release(done.bytes);
        }
        Ok(())
    }

    /// Studies that wait.
    pub fn len(&self) -> usize {
        self.studies().len()
    }
}

impl ReceivedStudy {
    /// Links the files of a series into a folder.
    ///
    /// # Errors
    /// Of the disk.
    pub fn hand_over(&self, series: &str, to: &Path) -> io::Result<()> {
        let Some(from) = self.folders.get(series) else { return Ok(()) };
        debug_assert!(from.starts_with(&self.folder));
        std::fs::create_dir_all(to)?;
        crate::dicomweb::link_files(from, to)
    }
}

fn bytes_below(folder: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        sum += if about.is_dir() { bytes_below(&entry.path())? } else { about.len() };
    }
    Ok(sum)
}
