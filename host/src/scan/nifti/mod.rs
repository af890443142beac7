//! NIfTI files: told by their content, read and written, plain or gzipped.

use super::{ReadLimits, Scan, Source, VolumeError};
use std::path::{Path, PathBuf};

mod gzip;
mod read;
pub(crate) mod sniff;
mod write;

pub(crate) use read::*;
pub use write::{write_mask, write_nifti_f32, write_nifti_i16, write_nifti_u8, write_planes};

/// NIfTI-1: `.nii`, or a pair of `.hdr` and `.img`, each plain or gzipped.
pub struct Nifti;

impl Source for Nifti {
    fn name(&self) -> &'static str {
        "NIfTI-1"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &[".nii.gz", ".hdr.gz", ".img.gz", ".nii", ".hdr", ".img"]
    }

    fn identify(&self, path: &Path) -> bool {
        read::memory_of(path).is_some()
    }

    fn open(&self, path: &Path, limits: &ReadLimits) -> Result<Scan, VolumeError> {
        Scan::assemble(path.to_path_buf(), read::read(path, limits)?)
    }

    fn estimate(&self, path: &Path) -> Option<usize> {
        read::memory_of(path)
    }

    fn files(&self, path: &Path) -> Vec<PathBuf> {
        read::files_of(path)
    }
}
