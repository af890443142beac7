//! Why an input gives no case.

use super::notice::counted;
use crate::data::table::TableError;
use crate::scan::VolumeError;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

/// Why an input, or a view of a case, gives nothing to predict for. One line that names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// A folder that cannot be listed.
    #[error("{}: cannot be read ({source})", path.display())]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A folder without a scan.
    #[error(
        "{}: no scan in this folder{}; expected .nii, .nii.gz, .hdr, .nrrd or .mha files right inside it, or DICOM at any \
         depth",
        path.display(),
        there(left_out)
    )]
    EmptyFolder {
        /// The folder.
        path: PathBuf,
        /// What lies there instead, by kind.
        left_out: BTreeMap<String, usize>,
    },
    /// A file or series that cannot be used.
    #[error(transparent)]
    Scan(#[from] VolumeError),
    /// A data table that cannot be used.
    #[error(transparent)]
    Table(#[from] TableError),
    /// DICOM studies, and none of them is a case.
    #[error("{}", first_of(reasons))]
    NoStudy {
        /// One line for each.
        reasons: Vec<String>,
    },
    /// A folder that holds no salt for the names of DICOM cases and takes none.
    #[error("{}: no salt for the names of DICOM cases ({source})", folder.display())]
    Salt {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No random numbers for a salt.
    #[error("no random numbers for the names of DICOM cases ({0})")]
    Random(io::Error),
}

fn there(left_out: &BTreeMap<String, usize>) -> String {
    if left_out.is_empty() { String::new() } else { format!(", found {}", counted(left_out)) }
}

/// The first reasons, and how many more there are.
fn first_of(reasons: &[String]) -> String {
    const NAMED: usize = 3;
    let mut line = reasons.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    if reasons.len() > NAMED {
        line += &format!("; and {} more studies", reasons.len() - NAMED);
    }
    line
}
