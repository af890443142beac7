//! The NIfTI family as a source of scans.

use std::path::PathBuf;

use crate::scan::bytes::{Bytes, is_gzip};
use crate::scan::limits::ReadLimits;
use crate::scan::nifti::sniff::recognise;
use crate::scan::nifti::{read, twins};
use crate::scan::source::{ScanPath, Source, ToldBy};
use crate::scan::{Scan, VolumeError};

/// One file (`.nii`), or header and voxels of a pair; each plain or gzipped.
pub(crate) struct Nifti;

impl Source for Nifti {
    fn name(&self) -> &'static str {
        "NIfTI"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &[".nii.gz", ".hdr.gz", ".img.gz", ".nii", ".hdr", ".img"]
    }

    fn identify(&self, path: &ScanPath, start: &[u8]) -> Option<ToldBy> {
        let header = Bytes::of(start).up_to(352).unwrap_or_default();
        if recognise(&path.file, &header, is_gzip(start)).is_ok() {
            return Some(ToldBy::Content);
        }
        let name = path.file.file_name()?.to_string_lossy().to_ascii_lowercase();
        self.extensions().iter().any(|e| name.ends_with(e)).then_some(ToldBy::Name)
    }

    fn open(&self, path: &ScanPath, limits: &ReadLimits) -> Result<Scan, VolumeError> {
        path.expect_no_series("NIfTI")?;
        let mut stored = read::read(&path.file, limits)?;
        stored.warnings.extend(twins::warning(&path.file));
        Scan::assemble(path.file.clone(), stored, limits.content)
    }

    fn files(&self, path: &ScanPath) -> Vec<PathBuf> {
        read::files_of(&path.file)
    }

    fn estimate(&self, path: &ScanPath) -> Option<usize> {
        read::memory_of(&path.file)
    }
}
