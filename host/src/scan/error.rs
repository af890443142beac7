//! What can go wrong between a file and its slices, in one line a person can act on.

use std::io;
use std::path::PathBuf;

use crate::memory::{MemoryBudget, OutOfMemory};

impl VolumeError {
    /// Names the scan and the part of it for which the system has no memory.
    pub(crate) fn no_memory(path: &std::path::Path, what: &'static str) -> impl Fn(OutOfMemory) -> Self {
        move |source| Self::NoMemory { path: path.to_path_buf(), what, source }
    }
}

/// Every error names the file, what was found, what was expected and what to do.
///
/// Messages never quote a header's free text (it may hold a patient's name).
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The operating system would not give the file.
    #[error("{}: cannot be read ({source}); expected a scan (NIfTI, NRRD, MetaImage, Analyze or DICOM): check the path and its permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The content is another format, or none.
    #[error("{}: found {found}, expected a scan (NIfTI, NRRD, MetaImage, Analyze or DICOM); {todo}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What the content looks like.
        found: String,
        /// What to do about it.
        todo: String,
    },
    /// A file that is cut short, contradicts itself, or is of a kind that is not a scan.
    #[error("{}: found {found}, expected {expected}; {todo}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is in it.
        found: String,
        /// What should be.
        expected: String,
        /// What to do about it.
        todo: String,
    },
    /// DICOM that is refused. The message names no file below the path: such names may hold a patient's.
    #[error("{}: {found}", path.display())]
    Dicom {
        /// The path as typed, with the series.
        path: PathBuf,
        /// What was found and what to do.
        found: String,
    },
    /// A scan that takes more memory than there is.
    #[error("{}: found {found}, which takes {} MiB to be read, expected at most {room}; resample or crop the scan, or give more memory (--max-memory, or the system's own limit)", path.display(), (bytes >> 20) + 1)]
    Memory {
        /// The scan.
        path: PathBuf,
        /// What of it.
        found: String,
        /// What it takes.
        bytes: usize,
        /// What is left.
        room: MemoryBudget,
    },
    /// Memory that was counted as free, and that the system has not.
    #[error("{}: {source} for {what}; end other programs, resample or crop the scan, or raise the limit of this process", path.display())]
    NoMemory {
        /// The scan.
        path: PathBuf,
        /// What of it.
        what: &'static str,
        /// How much.
        source: OutOfMemory,
    },
    /// A view that this scan cannot fill.
    #[error("{}: view `{view}`: found {found}, expected {expected}; {todo}", path.display())]
    View {
        /// The scan.
        path: PathBuf,
        /// The view's name in the manifest.
        view: String,
        /// What was found.
        found: String,
        /// What the view needs.
        expected: String,
        /// What to do about it.
        todo: String,
    },
    /// A mask that lies on another grid than its scan.
    #[error("{}: found a mask of {found}, expected the grid of its scan, {expected}; resample the mask onto the scan", path.display())]
    MaskGrid {
        /// The mask.
        path: PathBuf,
        /// The mask's grid.
        found: String,
        /// The scan's grid.
        expected: String,
    },
    /// A file that could not be written; nothing half-written is left.
    #[error("{}: cannot be written ({source}); nothing is left there: check that the folder exists, is writable and has space", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
