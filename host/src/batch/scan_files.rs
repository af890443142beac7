//! Where the scans of cases lie: on disks, or in a store, from which they come case by case.

use crate::engine::Case;
use crate::fs::hex;
use crate::scan::files_of;
use crate::scan::source::digest_of;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use tempfile::TempDir;

/// Whether a path is the address of an object and no file of this machine.
pub fn is_address(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.contains("://"))
}

/// Why a scan did not come from its store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchError {
    /// It is not there, or is another one; one line.
    Scan(String),
    /// The store does not answer; one line.
    Store(String),
}

/// Scans in a store.
pub trait RemoteScans: Sync {
    /// What tells whether an object has changed; none where it is not there.
    fn stamp(&self, address: &Path) -> Option<String>;

    /// Copies an object into a folder, under its own name; where it lies then.
    ///
    /// # Errors
    /// [`FetchError`].
    fn fetch(&self, address: &Path, folder: &Path) -> Result<PathBuf, FetchError>;
}

/// The scans of a batch.
#[derive(Clone, Copy, Default)]
pub struct ScanFiles<'a> {
    /// Those that have addresses.
    pub remote: Option<&'a dyn RemoteScans>,
}

/// A case whose scans were copied from a store. The copies are removed with it.
pub(super) struct FetchedCase {
    /// With the copies as its files.
    pub case: Case,
    _folder: TempDir,
}

impl ScanFiles<'_> {
    /// Sizes and times of a case's files, and where it looks, as a short hash; none where a file cannot be looked at. A
    /// file that has changed since has another.
    pub(super) fn hash(&self, case: &Case) -> Option<String> {
        let mut text = format!("{:?}", case.region.point_mm);
        for path in case.files() {
            if is_address(path) {
                text += &format!("\n{} {}", self.remote?.stamp(path)?, path.display());
                continue;
            }
            let files = files_of(path);
            if files.is_empty() {
                return None;
            }
            for file in files {
                let about = std::fs::metadata(&file).ok()?;
                let modified = about.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
                text += &format!("\n{} {modified} {}", about.len(), file.display());
            }
        }
        Some(hex(&Sha256::digest(text)[..12]))
    }

    /// Digest of a scan; none where it cannot be read.
    pub(super) fn digest(&self, file: &Path) -> Option<String> {
        if !is_address(file) {
            return digest_of(file).ok();
        }
        let folder = tempfile::tempdir().ok()?;
        digest_of(&self.remote?.fetch(file, folder.path()).ok()?).ok()
    }

    /// Whether files of a case have to be fetched.
    pub(super) fn is_remote(case: &Case) -> bool {
        case.files().any(is_address)
    }

    /// Copies a case's files from their store.
    ///
    /// # Errors
    /// [`FetchError`].
    pub(super) fn fetch(&self, case: &Case) -> Result<FetchedCase, FetchError> {
        let store = |e: std::io::Error| FetchError::Store(format!("no temporary folder ({e})"));
        let folder = tempfile::tempdir().map_err(store)?;
        let mut copies: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
        for (i, address) in case.files().filter(|file| is_address(file)).enumerate() {
            let remote = self.remote.ok_or_else(|| {
                FetchError::Scan(format!("{}: an address, and no store is open", address.display()))
            })?;
            let own = folder.path().join(i.to_string());
            std::fs::create_dir(&own).map_err(store)?;
            copies.insert(address.to_owned(), remote.fetch(address, &own)?);
        }
        let mut fetched = case.clone();
        let files =
            fetched.image.iter_mut().chain(fetched.views.values_mut()).chain(&mut fetched.region.mask);
        for file in files {
            if let Some(copy) = copies.get(file) {
                *file = copy.clone();
            }
        }
        fetched.copies = copies.into_iter().map(|(address, copy)| (copy, address)).collect();
        Ok(FetchedCase { case: fetched, _folder: folder })
    }
}
