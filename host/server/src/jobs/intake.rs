//! A scan on its way in: the folder of a job that does not exist yet.

use super::JobId;
use std::io;
use std::path::{Path, PathBuf};

/// The folder of a job while its scan arrives. It goes again unless the job is submitted; one that a killed process left
/// is removed at the next start.
#[derive(Debug)]
pub struct Intake {
    pub(super) id: JobId,
    folder: PathBuf,
    kept: bool,
}

impl Intake {
    pub(super) fn new(jobs: &Path) -> io::Result<Self> {
        let id = JobId::new()?;
        let folder = jobs.join(id.as_str());
        std::fs::create_dir(&folder)?;
        Ok(Self { id, folder, kept: false })
    }

    /// Where the scan's file or folder is to be written; give its name to [`super::Submission::scan`].
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Moves a file or folder in under a name; copies it where it lies on another file system.
    ///
    /// # Errors
    /// What the system says.
    pub fn take(&self, from: &Path, name: &str) -> io::Result<()> {
        let to = self.folder.join(name);
        match std::fs::rename(from, &to) {
            Err(e) if e.kind() == io::ErrorKind::CrossesDevices => copy_all(from, &to),
            other => other,
        }
    }

    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed now is removed at the next start.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// Copies files and folders; what is neither (a link, a socket) is left out.
pub(crate) fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    let kind = std::fs::symlink_metadata(from)?.file_type();
    if kind.is_dir() {
        std::fs::create_dir(to)?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            copy_all(&entry.path(), &to.join(entry.file_name()))?;
        }
    } else if kind.is_file() {
        std::fs::copy(from, to)?;
    }
    Ok(())
}
