//! Received instances on the disk until their study is complete: `incoming/<study>/<series>/<instance>.dcm`, all names
//! hashes.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anymc3d_dicom::{Instance, Limits, case_id, read_instance};
use tempfile::NamedTempFile;

use crate::dicomweb::{SeriesFacts, StudyKey, study_log};

/// What waits.
pub(crate) struct Incoming {
    folder: PathBuf,
    salt: Vec<u8>,
    most_bytes: u64,
    bytes: AtomicU64,
    /// When the last instance of each study came.
    last: Mutex<HashMap<String, Instant>>,
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
        let mut last = HashMap::new();
        let mut bytes = 0;
        for study in std::fs::read_dir(folder)? {
            let study = study?;
            if study.file_type()?.is_file() {
                // What a killed process left in the middle; its sender was told nothing.
                std::fs::remove_file(study.path())?;
                continue;
            }
            last.insert(study.file_name().to_string_lossy().into_owned(), Instant::now());
            bytes += bytes_below(&study.path())?;
        }
        Ok(Self {
            folder: folder.to_owned(),
            salt: salt.to_owned(),
            most_bytes,
            bytes: AtomicU64::new(bytes),
            last: Mutex::new(last),
        })
    }

    fn last(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut last = self.last();
        let series = self.folder.join(&study).join(name(&instance.series_uid));
        std::fs::create_dir_all(&series).map_err(disk)?;
        let to = series.join(format!("{}.dcm", name(&instance.sop_instance)));
        let before = to.metadata().map_or(0, |about| about.len());
        part.persist(&to).map_err(|e| disk(e.error))?;
        std::fs::File::open(&series).and_then(|f| f.sync_all()).map_err(disk)?;
        self.bytes.fetch_add(length.saturating_sub(before), Ordering::Relaxed);
        last.insert(study, Instant::now());
        Ok(())
    }

    /// The studies that nothing has come of for so long, and when the last instance came.
    pub fn quiet(&self, quiet: Duration) -> Vec<(String, Instant)> {
        let now = Instant::now();
        let last = self.last();
        last.iter()
            .filter(|(_, at)| now.duration_since(**at) >= quiet)
            .map(|(study, at)| (study.clone(), *at))
            .collect()
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
                    first = read_instance(&file, &Limits::default()).ok();
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
        let mut last = self.last();
        if last.get(study) != Some(&at) {
            return Ok(());
        }
        let folder = self.folder.join(study);
        let bytes = bytes_below(&folder).unwrap_or(0);
        crate::dicomweb::remove_folder(&folder)?;
        let _ = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |all| Some(all.saturating_sub(bytes)));
        last.remove(study);
        Ok(())
    }

    /// Studies that wait.
    pub fn len(&self) -> usize {
        self.last().len()
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
