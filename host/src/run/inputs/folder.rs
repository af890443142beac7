//! The scans of a folder.

use super::InputError;
use crate::scan::source::{extension_of, scans_in, stem_of};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// The scans right inside a folder, and what was passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderScans {
    /// Sorted by name; at least one.
    pub files: Vec<PathBuf>,
    /// How many masks were left out.
    pub masks: usize,
    /// What else lies there and is no scan, by kind.
    pub left_out: BTreeMap<String, usize>,
}

/// What lies right inside a folder and is no scan, by kind: `.dcm`, `.nrrd`, `file without extension`, `folder`. Hidden
/// entries are passed over.
pub(super) fn left_out(folder: &Path) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') || (path.is_file() && extension_of(&path).is_some()) {
            continue;
        }
        let kind = match path.extension() {
            _ if path.is_dir() => "folder".to_owned(),
            Some(extension) => format!(".{}", extension.to_string_lossy().to_lowercase()),
            None => "file without extension".to_owned(),
        };
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
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
        return Err(InputError::EmptyFolder { path: folder.to_path_buf(), left_out: left_out(folder) });
    }
    let masks = scans - files.len();
    Ok(FolderScans { files, masks, left_out: left_out(folder) })
}

/// The scans right inside a folder or, where `recursive`, at any depth below it: by folder, sorted. What is left out of a
/// folder is told by folder; folders themselves are not, where they are looked at.
///
/// # Errors
/// As [`scans_in_folder`]; [`InputError::EmptyFolder`] where no folder holds a scan, with what they hold instead.
pub fn scans_in_folders(folder: &Path, recursive: bool) -> Result<Vec<(PathBuf, FolderScans)>, InputError> {
    if !recursive {
        return Ok(vec![(folder.to_path_buf(), scans_in_folder(folder)?)]);
    }
    let (mut found, mut all) = (Vec::new(), BTreeMap::new());
    for below in folders_below(folder) {
        match scans_in_folder(&below) {
            Ok(mut scans) => {
                scans.left_out.remove("folder");
                found.push((below, scans));
            }
            Err(InputError::EmptyFolder { left_out, .. }) => {
                left_out.into_iter().for_each(|(kind, n)| *all.entry(kind).or_default() += n);
            }
            Err(e) => return Err(e),
        }
    }
    all.remove("folder");
    match found.first_mut() {
        None => Err(InputError::EmptyFolder { path: folder.to_path_buf(), left_out: all }),
        Some((_, scans)) => {
            // Folders without a scan are no lines of their own.
            all.into_iter().for_each(|(kind, n)| *scans.left_out.entry(kind).or_default() += n);
            Ok(found)
        }
    }
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
            "scan.mgz",
            "scan.MGZ",
            "IM0001",
            ".hidden.nii",
            "own_mask.nii",
        ] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::create_dir(folder.path().join("more")).unwrap();
        let FolderScans { files, masks, left_out } = scans_in_folder(folder.path()).unwrap();
        let names: Vec<_> =
            files.iter().map(|f| f.file_name().unwrap().to_string_lossy().into_owned()).collect();
        assert_eq!((names.join(" ").as_str(), masks), ("a.nii.gz b.nii c.hdr own_mask.nii", 1));
        let kinds: Vec<(&str, usize)> = left_out.iter().map(|(kind, n)| (kind.as_str(), *n)).collect();
        assert_eq!(kinds, [(".mgz", 2), (".txt", 1), ("file without extension", 1), ("folder", 1)]);
    }
}
