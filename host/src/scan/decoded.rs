//! Scans that were read for a check and will be asked for again: as many as a share of the memory holds.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::scan::Scan;

/// Decoded scans and masks by path. What does not fit is read again when it is asked for.
#[derive(Default)]
pub struct DecodedScans {
    /// Most bytes of voxels.
    most: usize,
    kept: Mutex<Store>,
}

#[derive(Default)]
struct Store {
    bytes: usize,
    scans: HashMap<PathBuf, Scan>,
    /// Of every scan that was offered, also of those that did not fit.
    digests: HashMap<PathBuf, String>,
}

fn bytes_of(scan: &Scan) -> usize {
    scan.voxels.len().saturating_mul(size_of::<f32>())
}

impl DecodedScans {
    /// Keeps up to so many bytes of voxels; with 0 it keeps digests alone.
    pub fn up_to(bytes: usize) -> Self {
        Self { most: bytes, kept: Mutex::default() }
    }

    /// Most bytes of voxels that it keeps.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Offers a scan that was read from `path`.
    pub fn offer(&self, path: &Path, scan: Scan) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.digests.insert(path.to_owned(), scan.sha256.clone());
        let bytes = kept.bytes.saturating_add(bytes_of(&scan));
        if bytes <= self.most && !kept.scans.contains_key(path) {
            kept.bytes = bytes;
            kept.scans.insert(path.to_owned(), scan);
        }
    }

    /// Gives a scan away, if it was kept.
    pub fn take(&self, path: &Path) -> Option<Scan> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let scan = kept.scans.remove(path)?;
        kept.bytes = kept.bytes.saturating_sub(bytes_of(&scan));
        Some(scan)
    }

    /// Digest of a scan that was offered.
    pub fn digest(&self, path: &Path) -> Option<String> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).digests.get(path).cloned()
    }

    /// Bytes of voxels that are kept.
    pub fn bytes(&self) -> usize {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Affine;

    fn scan(path: &str, voxels: usize) -> Scan {
        let affine = Affine::aligned([1.0; 3], [0.0; 3]);
        Scan::from_voxels(path, vec![1.0; voxels], [voxels, 1, 1], affine).unwrap()
    }

    #[test]
    fn scans_are_kept_up_to_a_cap_and_given_away_once() {
        let kept = DecodedScans::up_to(4 * 10);
        for (path, voxels) in [("a", 6), ("b", 6), ("c", 4)] {
            kept.offer(Path::new(path), scan(path, voxels));
        }
        assert_eq!(kept.bytes(), 40, "b did not fit beside a");
        assert!(kept.take(Path::new("b")).is_none() && kept.digest(Path::new("b")).is_some());
        assert_eq!(kept.take(Path::new("a")).unwrap().voxels.len(), 6);
        assert!(kept.take(Path::new("a")).is_none());
        assert_eq!(kept.bytes(), 16);
    }
}
