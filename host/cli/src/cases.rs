//! From what was typed as INPUT to cases, named by their files or by the table.

use anymc3d_host::data::table::{Row, Table};
use anymc3d_host::engine::Case;
use anymc3d_host::scan::extension;
use anymc3d_manifest::Manifest;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// What a case of this file is called, in every call: the name of a folder.
pub(super) fn name(path: &Path) -> String {
    match stem(path) {
        name if matches!(name.as_str(), "" | "." | "..") => "case".to_owned(),
        name => name,
    }
}

/// A scan's name without `.nii`, `.nii.gz` and the like.
pub(super) fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match extension(path) {
        Some(ending) => name.get(..name.len() - ending.len()).unwrap_or(&name).to_owned(),
        None => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    }
}

/// Whether INPUT is a data table by its name.
pub(super) fn is_table(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"))
}

/// A case of one file.
pub(super) fn of_file(path: &Path) -> Case {
    Case { name: name(path), image: Some(path.to_owned()), views: BTreeMap::new() }
}

/// The scans right inside a folder, sorted by name, and how many masks were left out.
///
/// `X_mask.nii.gz` beside `X.nii.gz` is the truth of a scan and not a scan; a pair `.hdr`/`.img` is one scan.
///
/// # Errors
/// When the folder cannot be read, or holds no scan.
pub(super) fn in_folder(folder: &Path) -> Result<(Vec<PathBuf>, usize), String> {
    let unreadable = |e: std::io::Error| format!("{}: cannot be read ({e})", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if !hidden && path.is_file() && extension(&path).is_some() {
            files.push(path);
        }
    }
    files.sort();
    let stems: HashSet<String> = files.iter().map(|f| stem(f)).collect();
    let with_header = |f: &Path| extension(f) == Some(".img") && f.with_extension("hdr").is_file();
    files.retain(|f| !with_header(f));
    let scans = files.len();
    files.retain(|f| stem(f).strip_suffix("_mask").is_none_or(|scan| !stems.contains(scan)));
    if files.is_empty() {
        let message = "no scan in this folder; expected .nii, .nii.gz or .hdr files right inside it";
        return Err(format!("{}: {message}", folder.display()));
    }
    let masks = scans - files.len();
    Ok((files, masks))
}

/// The cases of a data table, with the files of every task's views.
///
/// # Errors
/// When the table cannot be used by one of the tasks.
pub(super) fn in_table(table: &Path, tasks: &[Manifest]) -> Result<Vec<Case>, String> {
    let mut cases: Vec<Case> = Vec::new();
    for manifest in tasks {
        let table = Table::open_unlabelled(table, manifest).map_err(|e| e.to_string())?;
        if cases.is_empty() {
            let named = |row: &Row| Case { name: row.case.clone(), image: None, views: BTreeMap::new() };
            cases = table.rows.iter().map(named).collect();
        }
        // The same file gives the same rows in the same order, whichever task's columns are looked at.
        for (case, row) in cases.iter_mut().zip(table.rows) {
            case.views.extend(row.images);
        }
    }
    Ok(cases)
}

/// `--view NAME=FILE`
#[derive(Debug, Clone)]
pub(super) struct ViewFile {
    pub view: String,
    pub file: PathBuf,
}

impl std::str::FromStr for ViewFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((view, file)) if !view.is_empty() && !file.is_empty() => {
                Ok(Self { view: view.to_owned(), file: file.into() })
            }
            _ => Err("expected NAME=FILE, for example sagittal=a.nii.gz".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_called_by_its_files_stem() {
        let stem = |name: &str| stem(Path::new(name));
        assert_eq!(stem("a/scan.01.nii.gz"), "scan.01");
        assert_eq!(stem("scan.NII"), "scan");
        assert_eq!(stem("scan.dcm"), "scan");
        assert_eq!(stem("é.nii"), "é");
    }

    #[test]
    fn a_name_never_leaves_the_folder() {
        assert_eq!(
            ["..", "", "a/..nii", "a/b.nii"].map(|p| name(Path::new(p))),
            ["case", "case", "case", "b"]
        );
    }

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
        let (files, masks) = in_folder(folder.path()).unwrap();
        let names: Vec<_> =
            files.iter().map(|f| f.file_name().unwrap().to_string_lossy().into_owned()).collect();
        assert_eq!((names.join(" ").as_str(), masks), ("a.nii.gz b.nii c.hdr own_mask.nii", 1));
    }
}
