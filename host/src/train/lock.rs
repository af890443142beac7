//! One training run per folder, from its first second.

use super::state::StateError;
use std::fs::{File, TryLockError};
use std::path::Path;

/// The lock's name in a run's folder.
const FILE: &str = ".training.lock";

/// Holds a run's folder until it is dropped. The system releases it when the process ends, however it ends, so a run that
/// was killed can be resumed; the file stays.
#[derive(Debug)]
pub(super) struct FolderLock(#[allow(dead_code, reason = "held for its lock")] File);

impl FolderLock {
    /// # Errors
    /// When another run holds the folder, or the file cannot be written.
    pub fn take(folder: &Path) -> Result<Self, StateError> {
        let path = folder.join(FILE);
        let fail = |reason: String| StateError { path: folder.to_owned(), reason };
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|e| fail(format!("{FILE} cannot be written: {e}")))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(fail(
                "another training run is writing into this folder; wait for it, or give another --out".into(),
            )),
            // A file system without locks: the state's own check still refuses a second run after the first epoch.
            Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => Ok(Self(file)),
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
        drop(first);
        FolderLock::take(folder.path()).unwrap();
        let gone = FolderLock::take(&folder.path().join("none")).unwrap_err().to_string();
        assert!(gone.contains("cannot be written"), "{gone}");
    }
}
