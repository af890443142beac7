//! The scans of a folder.

use super::InputError;
use crate::scan::source::{scans_in, stem_of};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The scans right inside a folder, and what was passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderScans {
    /// Sorted by name; at least one.
    pub files: Vec<PathBuf>,
    /// How many masks were left out.
    pub masks: usize,
}

/// The scans right inside a folder.
///
/// `X_mask.nii.gz` beside `X.nii.gz` is the truth of a scan and not a scan; a pair `.hdr`/`.img` is one scan.
///
/// # Errors
/// [`InputError::Unreadable`]; [`InputError::EmptyFolder`] where the folder holds no scan.
pub fn scans_in_folder(folder: &Path) -> Result<FolderScans, InputError> {
    let unreadable = |source| InputError::Unreadable { path: folder.to_path_buf(), source };
    let mut files = scans_in(folder).map_err(unreadable)?;
    let stems: HashSet<String> = files.iter().map(|f| stem_of(f)).collect();
    let scans = files.len();
    files.retain(|f| stem_of(f).strip_suffix("_mask").is_none_or(|scan| !stems.contains(scan)));
    if files.is_empty() {
        return Err(InputError::EmptyFolder(folder.to_path_buf()));
    }
    let masks = scans - files.len();
    Ok(FolderScans { files, masks })
}

/// A folder and all folders below it, sorted; links are not followed.
pub fn folders_below(folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![folder.to_path_buf()];
    let mut at = 0;
    while let Some(next) = all.get(at).cloned() {
        at += 1;
        let entries = std::fs::read_dir(next).into_iter().flatten().flatten();
        all.extend(entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_scans_sorted_and_without_masks() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "b.nii",
            "a.nii.gz",
            "a_mask.nii.gz",
            "c.hdr",
            "c.img",
            "notes.txt",
            ".hidden.nii",
            "own_mask.nii",
        ] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let FolderScans { files, masks } = scans_in_folder(folder.path()).unwrap();
        let names: Vec<_> =
            files.iter().map(|f| f.file_name().unwrap().to_string_lossy().into_owned()).collect();
        assert_eq!((names.join(" ").as_str(), masks), ("a.nii.gz b.nii c.hdr own_mask.nii", 1));
    }
}
