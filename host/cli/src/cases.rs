//! From what was typed as INPUT to cases, named by their files or by the table.

use super::dicom::Unanswered;
use anymc3d_host::data::table::{Row, Table};
use anymc3d_host::engine::Case;
use anymc3d_host::scan::dicom;
use anymc3d_host::scan::source::{scans_in, stem_of};
use anymc3d_manifest::Manifest;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// Whether INPUT is a data table by its name.
pub(super) fn is_table(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"))
}

/// A case of one file.
pub(super) fn of_file(path: &Path) -> Case {
    Case::of_file(path)
}

/// The scans right inside a folder, sorted by name, and how many masks were left out.
///
/// `X_mask.nii.gz` beside `X.nii.gz` is the truth of a scan and not a scan; a pair `.hdr`/`.img` is one scan.
///
/// # Errors
/// When the folder cannot be read, or holds no scan.
pub(super) fn in_folder(folder: &Path) -> Result<(Vec<PathBuf>, usize), String> {
    let unreadable = |e: std::io::Error| format!("{}: cannot be read ({e})", folder.display());
    let mut files = scans_in(folder).map_err(unreadable)?;
    let stems: HashSet<String> = files.iter().map(|f| stem_of(f)).collect();
    let scans = files.len();
    files.retain(|f| stem_of(f).strip_suffix("_mask").is_none_or(|scan| !stems.contains(scan)));
    if files.is_empty() {
        let message = "no scan in this folder; expected .nii, .nii.gz or .hdr files right inside it, or DICOM at any depth";
        return Err(format!("{}: {message}", folder.display()));
    }
    let masks = scans - files.len();
    Ok((files, masks))
}

/// A folder and all folders below it, sorted; links are not followed.
pub(super) fn folders_below(folder: &Path) -> Vec<PathBuf> {
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

/// The cases of a data table, with the files of every task's views. Studies that a task has no series in are told to
/// `unanswered`.
///
/// # Errors
/// When the table cannot be used by one of the tasks.
pub(super) fn in_table(
    table: &Path,
    tasks: &[Manifest],
    unanswered: &mut Unanswered,
) -> Result<Vec<Case>, String> {
    let mut cases: Vec<Case> = Vec::new();
    for manifest in tasks {
        let table = Table::open_unlabelled(table, manifest).map_err(|e| e.to_string())?;
        if cases.is_empty() {
            let named = |row: &Row| Case { name: row.case.clone(), image: None, views: BTreeMap::new() };
            cases = table.rows.iter().map(named).collect();
        }
        // The same file gives the same rows in the same order, whichever task's columns are looked at.
        for (case, row) in cases.iter_mut().zip(table.rows) {
            for (view, path) in row.images {
                let Some(rules) = manifest.views.iter().find(|v| v.name == view) else { continue };
                match dicom::resolve(&path, rules) {
                    Ok(found) if found == path => drop(case.views.insert(view, path)),
                    Ok(found) => drop(case.views.insert(Case::own(&manifest.plugin.name, &view), found)),
                    Err(e) => unanswered.fail(&case.name, &manifest.plugin.name, format!("view {view}: {e}")),
                }
            }
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
    fn a_name_never_leaves_the_folder() {
        assert_eq!(
            ["..", "", "a/..nii", "a/b.nii"].map(|p| of_file(Path::new(p)).name),
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
