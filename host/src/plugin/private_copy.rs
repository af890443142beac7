//! A copy of a library that nobody overwrites: a library overwritten while it is open ends the process, and one renamed over
//! is silently not loaded anew. The copy's name is the content's digest, so equal content is one library.

use super::error::PluginError;
use abi_stable::library::LibHeader;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Copies that are kept in the home folder, the last used first.
const KEPT: usize = 32;
/// A copy that was used this recently may be about to be opened.
const IN_USE: Duration = Duration::from_secs(3600);
/// A copy that nobody used for so long goes, whatever the number.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);

/// Headers of libraries whose copies lay in the temporary folder, by digest: those copies are gone.
static OPENED: Mutex<BTreeMap<String, &'static LibHeader>> = Mutex::new(BTreeMap::new());

/// Where a library's copy lies.
pub(super) enum PrivateCopy {
    /// In the home folder, for the next process too.
    InHome(PathBuf),
    /// In a folder of the temporary folder that nobody could have made before: in a folder that others can write to, the copy
    /// could be exchanged between the comparison and the opening.
    Temporary {
        /// Digest of its bytes.
        sha256: String,
        /// Goes with the copy.
        folder: tempfile::TempDir,
    },
    /// This process opened the same bytes before.
    Opened(&'static LibHeader),
}

/// Copies a library's bytes to where they stay as they are.
///
/// # Errors
/// When neither the home folder nor the temporary folder can be written to.
pub(super) fn private_copy(sha256: &str, bytes: &[u8]) -> std::io::Result<PrivateCopy> {
    // Absolute, so that opening never searches for it.
    let home =
        crate::plugin::find::home().and_then(|h| std::path::absolute(h.join("cache").join("loaded")).ok());
    if let Some(Ok(kept)) = home.map(|folder| kept(&folder, sha256, bytes)) {
        return Ok(PrivateCopy::InHome(kept));
    }
    // A read-only home must not keep a scan from being read.
    if let Some(header) = OPENED.lock().unwrap_or_else(PoisonError::into_inner).get(sha256) {
        return Ok(PrivateCopy::Opened(header));
    }
    let folder = tempfile::Builder::new().prefix("anymc3d-loaded-").tempdir()?;
    std::fs::write(folder.path().join(file_name(sha256)), bytes)?;
    Ok(PrivateCopy::Temporary { sha256: sha256.to_owned(), folder })
}

impl PrivateCopy {
    /// Opens the copy, unless this process has it open. A temporary copy is removed once it is open, where the system can
    /// do that.
    pub fn opened_once(
        self,
        open: impl FnOnce(&Path) -> Result<&'static LibHeader, PluginError>,
    ) -> Result<&'static LibHeader, PluginError> {
        match self {
            Self::Opened(header) => Ok(header),
            Self::InHome(path) => open(&path),
            Self::Temporary { sha256, folder } => {
                let header = open(&folder.path().join(file_name(&sha256)))?;
                OPENED.lock().unwrap_or_else(PoisonError::into_inner).insert(sha256, header);
                if let Err(e) = folder.close() {
                    tracing::debug!("a temporary copy of a library stays: {e}");
                }
                Ok(header)
            }
        }
    }
}

fn file_name(sha256: &str) -> String {
    format!("{sha256}{}", std::env::consts::DLL_SUFFIX)
}

fn kept(folder: &Path, sha256: &str, bytes: &[u8]) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let target = folder.join(file_name(sha256));
    // What lies there is compared, not trusted.
    if std::fs::read(&target).is_ok_and(|there| there == bytes) {
        used_now(&target);
        return Ok(target);
    }
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.persist(&target).map_err(|e| e.error)?;
    prune(folder, SystemTime::now());
    Ok(target)
}

/// The time of a copy's file is that of its last use, to the hour.
fn used_now(copy: &Path) {
    let now = SystemTime::now();
    let recent = age(copy, now).is_some_and(|age| age < IN_USE / 2);
    // In a folder that cannot be written to nothing is pruned either.
    if !recent && let Ok(file) = std::fs::File::open(copy) {
        let _ = file.set_modified(now);
    }
}

fn age(path: &Path, now: SystemTime) -> Option<Duration> {
    let modified = std::fs::metadata(path).ok()?.modified().ok()?;
    Some(now.duration_since(modified).unwrap_or_default())
}

/// Removes copies that were not used for a month, and the ones that were unused for the longest time where there are more
/// than [`KEPT`]. A process that has one open keeps it.
fn prune(folder: &Path, now: SystemTime) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut copies: Vec<(Duration, PathBuf)> =
        entries.filter_map(|path| Some((age(&path, now)?, path))).collect();
    copies.sort();
    for (n, (age, path)) in copies.into_iter().enumerate() {
        if age > UNUSED || (n >= KEPT && age > IN_USE) {
            // Some systems cannot remove a library that is open: a later process does.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_that_nobody_used_go_and_those_in_use_stay() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let copy = |name: String, age: Duration| {
            let path = folder.path().join(name);
            std::fs::write(&path, "library").unwrap();
            std::fs::File::open(&path).unwrap().set_modified(now - age).unwrap();
        };
        let hours = |n: u64| Duration::from_secs(n * 3600);
        copy("old".into(), hours(24 * 31));
        (0..40).for_each(|n| copy(format!("used {n} hours ago"), hours(n + 2)));
        (0..5).for_each(|n| copy(format!("just now {n}"), Duration::from_secs(n)));
        prune(folder.path(), now);
        let left = |name: &str| folder.path().join(name).exists();
        assert!(
            !left("old") && left("just now 4") && left("used 26 hours ago") && !left("used 27 hours ago")
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), KEPT);
    }

    #[test]
    fn a_copy_that_is_used_again_counts_as_new() {
        let folder = tempfile::tempdir().unwrap();
        let path = kept(folder.path(), "abc", b"library").unwrap();
        let long_ago = SystemTime::now() - 2 * UNUSED;
        std::fs::File::open(&path).unwrap().set_modified(long_ago).unwrap();
        assert_eq!(kept(folder.path(), "abc", b"library").unwrap(), path);
        assert!(age(&path, SystemTime::now()).unwrap() < IN_USE);
    }
}
