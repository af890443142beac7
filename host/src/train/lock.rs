//! One training run per folder, from its first second.

use super::state::StateError;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// The lock's name in a run's folder.
const FILE: &str = ".training.lock";

/// Holds a run's folder until it is dropped. The system releases it when the process ends, however it ends, so a run that
/// was killed can be resumed. The file stays beside a run; a run that was refused takes it away again.
#[derive(Debug)]
pub(super) struct FolderLock {
    #[allow(dead_code, reason = "held for its lock")]
    file: File,
    path: PathBuf,
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        let Some(folder) = self.path.parent() else { return };
        let mut entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        if entries.all(|entry| entry.path() == self.path) {
            // Nothing came of the run.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl FolderLock {
    /// # Errors
    /// When another run holds the folder, or the file cannot be written.
    pub fn take(folder: &Path) -> Result<Self, StateError> {
        let path = folder.join(FILE);
        let fail = |reason: String| StateError { path: folder.to_owned(), reason };
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|e| fail(format!("{FILE} cannot be written: {e}")))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file, path }),
            Err(TryLockError::WouldBlock) => Err(fail(
                "another training run is writing into this folder; wait for it, or give another --out".into(),
            )),
            // A file system without locks: the state's own check still refuses a second run after the first epoch.
            Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => {
                Ok(Self { file, path })
            }
            Err(TryLockError::Error(e)) => Err(fail(format!("{FILE} cannot be locked: {e}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_run_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderLock::take(folder.path()).unwrap();
        let said = FolderLock::take(folder.path()).unwrap_err().to_string();
        assert!(said.contains("another training run is writing into this folder"), "{said}");
        std::fs::write(folder.path().join("metrics.csv"), "").unwrap();
        drop(first);
        assert!(folder.path().join(FILE).exists());
        FolderLock::take(folder.path()).unwrap();
        let refused = tempfile::tempdir().unwrap();
        drop(FolderLock::take(refused.path()).unwrap());
        assert!(!refused.path().join(FILE).exists(), "nothing came of that run");
        let gone = FolderLock::take(&folder.path().join("none")).unwrap_err().to_string();
        assert!(gone.contains("cannot be written"), "{gone}");
    }
}
