//! Who computes what: processes that share a study's folder, none of them doing what another one does.
//!
//! A lock is a file of its own beside the cells, so that a cell's folder may be taken away while it is held. The system lets
//! go of it when its process ends, however it ends. On a file system without locks every process gets every lock.

use super::error::StudyError;
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The locks of a study's folder.
pub(super) struct Locks {
    folder: PathBuf,
}

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    _file: File,
}

impl Locks {
    /// # Errors
    /// When the folder cannot be written.
    pub fn open(out: &Path) -> Result<Self, StudyError> {
        let folder = out.join(".locks");
        match std::fs::create_dir_all(&folder) {
            Ok(()) => Ok(Self { folder }),
            Err(e) => Err(StudyError::Folder { path: folder, reason: format!("cannot be written ({e})") }),
        }
    }

    fn file(&self, name: &str) -> Result<(File, PathBuf), String> {
        let path = self.folder.join(format!("{name}.lock"));
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        file.map(|file| (file, path.clone()))
            .map_err(|e| format!("{}: cannot be written ({e})", path.display()))
    }

    fn outcome(file: File, path: &Path, tried: Result<(), TryLockError>) -> Result<Option<Held>, String> {
        match tried {
            Ok(()) => Ok(Some(Held { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => {
                Ok(Some(Held { _file: file }))
            }
            Err(TryLockError::Error(e)) => Err(format!("{}: cannot be locked ({e})", path.display())),
        }
    }

    /// For this process alone, unless another one holds it in any way.
    pub fn alone(&self, name: &str) -> Result<Option<Held>, String> {
        let (file, path) = self.file(name)?;
        let tried = file.try_lock();
        Self::outcome(file, &path, tried)
    }

    /// Beside others that share it, unless one holds it alone.
    pub fn shared(&self, name: &str) -> Result<Option<Held>, String> {
        let (file, path) = self.file(name)?;
        let tried = file.try_lock_shared();
        Self::outcome(file, &path, tried)
    }

    /// For this process alone, as soon as no other one holds it.
    pub fn wait(&self, name: &str) -> Result<Held, String> {
        let (file, path) = self.file(name)?;
        match file.lock() {
            Ok(()) => Ok(Held { _file: file }),
            Err(e) if e.kind() == ErrorKind::Unsupported => Ok(Held { _file: file }),
            Err(e) => Err(format!("{}: cannot be locked ({e})", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_alone_or_shared_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let locks = Locks::open(folder.path()).unwrap();
        let held = locks.alone("a").unwrap().unwrap();
        assert!(locks.alone("a").unwrap().is_none() && locks.shared("a").unwrap().is_none());
        assert!(locks.alone("b").unwrap().is_some());
        drop(held);
        let shared = locks.shared("a").unwrap().unwrap();
        assert!(locks.shared("a").unwrap().is_some() && locks.alone("a").unwrap().is_none());
        drop(shared);
        locks.wait("a").unwrap();
    }
}
