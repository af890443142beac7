//! Formats that scans come in. A format is a [`Source`]; [`source_of`] finds the one that a path belongs to.
//!
//! A new format is one implementation and one entry in [`sources`]: every command reads it then, names cases after its
//! files, estimates its memory and digests it.

use super::nifti::Nifti;
use super::{ReadLimits, Scan, VolumeError};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};

/// A format of scans.
pub trait Source: Sync {
    /// What people call it.
    fn name(&self) -> &'static str;

    /// Endings of its files' names, lower case, the longest first.
    fn extensions(&self) -> &'static [&'static str];

    /// Whether a path is this source's, by its content; names are only a hint.
    fn identify(&self, path: &Path) -> bool;

    /// Reads a scan.
    ///
    /// # Errors
    /// [`VolumeError`], which names the path.
    fn open(&self, path: &Path, limits: &ReadLimits) -> Result<Scan, VolumeError>;

    /// Bytes that the scan takes at most while it is read and sliced. `None` where its header cannot be read; opening the
    /// scan tells why.
    fn estimate(&self, path: &Path) -> Option<usize>;

    /// The files that the scan is made of, as far as they are there.
    fn files(&self, path: &Path) -> Vec<PathBuf>;

    /// SHA-256 of the scan's files, lower-case hexadecimal: without decoding a voxel.
    ///
    /// # Errors
    /// When a file cannot be read.
    fn digest(&self, path: &Path) -> std::io::Result<String> {
        let mut hash = Sha256::new();
        for file in self.files(path) {
            let mut file = std::fs::File::open(file)?;
            let mut block = vec![0; 1 << 16];
            loop {
                match file.read(&mut block)? {
                    0 => break,
                    n => hash.update(&block[..n]),
                }
            }
        }
        Ok(crate::fs::hex(&hash.finalize()))
    }
}

/// Every source. The last one is asked where none identifies a path, and tells what is wrong with it.
pub fn sources() -> &'static [&'static dyn Source] {
    &[&Nifti]
}

/// The source of a path.
pub fn source_of(path: &Path) -> &'static dyn Source {
    let [others @ .., last] = sources() else { return &Nifti };
    others.iter().find(|source| source.identify(path)).copied().unwrap_or(*last)
}

/// The ending of a scan's name, if it has one, as the sources list it.
pub fn extension(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let all = sources().iter().flat_map(|source| source.extensions());
    all.filter(|e| name.ends_with(*e)).max_by_key(|e| e.len()).copied()
}

/// Bytes that a scan takes at most while it is read and sliced, as [`Source::estimate`] says.
pub fn memory_of(path: &Path) -> Option<usize> {
    source_of(path).estimate(path)
}

/// The files that a scan is made of, as far as they are there.
pub fn files_of(path: &Path) -> Vec<PathBuf> {
    source_of(path).files(path)
}

/// SHA-256 of a scan's files, as [`Source::digest`] says.
///
/// # Errors
/// When a file cannot be read.
pub fn digest_of(path: &Path) -> std::io::Result<String> {
    source_of(path).digest(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_ending_of_a_name_counts_and_a_name_without_one_has_none() {
        let of = |name: &str| extension(Path::new(name));
        assert_eq!(
            (of("a/scan.NII.gz"), of("scan.nii"), of("x.hdr")),
            (Some(".nii.gz"), Some(".nii"), Some(".hdr"))
        );
        assert_eq!((of("scan.txt"), of("nii"), of("")), (None, None, None));
    }

    #[test]
    fn the_digest_of_a_pair_is_that_of_both_files_and_changes_with_either() {
        let folder = tempfile::tempdir().unwrap();
        let (header, image) = (folder.path().join("a.hdr"), folder.path().join("a.img"));
        std::fs::write(&header, "header").unwrap();
        std::fs::write(&image, "voxels").unwrap();
        let before = digest_of(&header).unwrap();
        assert_eq!(before, crate::fs::hex(&Sha256::digest("headervoxels")));
        std::fs::write(&image, "others").unwrap();
        assert_ne!(digest_of(&header).unwrap(), before);
    }
}
