//! Where a batch's records go from its folder, for batches that do not end there.

use std::path::Path;

/// A store that a batch's records go to, one by one, as soon as they lie in its folder.
pub trait Upstream {
    /// A result's folder: its files, then its record, only where no other process has written one. The files of the folder
    /// are removed.
    ///
    /// # Errors
    /// One line; the record is not there then.
    fn put_result(&self, folder: &Path) -> Result<(), String>;

    /// A file of the batch's folder, whole.
    ///
    /// # Errors
    /// One line.
    fn put_file(&self, file: &Path) -> Result<(), String>;

    /// Removes a failure that is no longer true.
    ///
    /// # Errors
    /// One line.
    fn remove_failure(&self, case: &str, plugin: &str) -> Result<(), String>;
}
