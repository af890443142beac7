//! The work: every case of the inputs under a name of its own, the same in every process.

use super::scan_files::is_address;
use crate::engine::Case;
use crate::fs::hex;
use crate::run::inputs::{CaseEntry, CaseList, NoAnswer};
use crate::scan::files_of;
use crate::scan::source::stem_of;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// One case of the work.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkItem {
    /// Its name is unique in the manifest, also where upper and lower case are the same.
    pub case: Case,
    /// Bytes of its files; 0 where they are not known.
    pub bytes: u64,
    /// Digest that its scan must have, where the manifest tells one.
    pub sha256: Option<String>,
    /// Plugins that do not answer it, by name.
    pub unanswered: BTreeMap<String, NoAnswer>,
    /// Why there is nothing to run.
    pub failed: Option<String>,
}

impl WorkItem {
    /// A case of which nothing but the name is known.
    pub(super) fn named(name: &str) -> Self {
        let case = Case { name: name.to_owned(), ..Case::default() };
        Self { case, bytes: 0, sha256: None, unanswered: BTreeMap::new(), failed: None }
    }
}

/// All work of a batch, in the order of the inputs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Manifest {
    /// The cases.
    pub items: Vec<WorkItem>,
}

impl Manifest {
    /// Of what the inputs gave; `plugins` are the names of those that will answer. Also how many cases were given twice and
    /// stand once.
    ///
    /// Cases of one name get eight digits of a hash of their path: which one comes first does not matter.
    pub fn of(list: CaseList, plugins: &[&str]) -> (Self, usize) {
        let CaseList { entries, unanswered } = list;
        let mut items: Vec<WorkItem> = Vec::with_capacity(entries.len());
        for entry in entries {
            let item = match entry {
                CaseEntry::Failed { path, error } => {
                    let mut item = WorkItem::named(&stem_of(&path));
                    item.case.image = Some(absolute(path));
                    WorkItem { failed: Some(error.to_string()), ..item }
                }
                CaseEntry::Case(mut case) => {
                    let not = |plugin: &&str| {
                        Some(((*plugin).to_owned(), unanswered.of(&case.name, plugin)?.clone()))
                    };
                    let unanswered = plugins.iter().filter_map(not).collect();
                    for file in
                        case.image.iter_mut().chain(case.views.values_mut()).chain(&mut case.region.mask)
                    {
                        *file = absolute(std::mem::take(file));
                    }
                    WorkItem { bytes: bytes_of(&case), unanswered, ..WorkItem::of(case) }
                }
            };
            items.push(item);
        }
        let twice = distinct(&mut items);
        (Self { items }, twice)
    }

    /// Bytes of all cases.
    pub fn bytes(&self) -> u64 {
        self.items.iter().fold(0, |sum, item| sum.saturating_add(item.bytes))
    }
}

impl WorkItem {
    fn of(case: Case) -> Self {
        Self { case, ..Self::named("") }
    }
}

/// Bytes of a case's files, as far as they lie on this machine.
fn bytes_of(case: &Case) -> u64 {
    let files = case.files().filter(|file| !is_address(file)).flat_map(files_of);
    files.filter_map(|file| Some(std::fs::metadata(file).ok()?.len())).fold(0, u64::saturating_add)
}

/// Another process may run in another folder.
fn absolute(path: PathBuf) -> PathBuf {
    if is_address(&path) {
        return path;
    }
    std::path::absolute(&path).unwrap_or(path)
}

/// Gives every case a name of its own and leaves out cases that stand twice; how many those are.
fn distinct(items: &mut Vec<WorkItem>) -> usize {
    let before = items.len();
    let mut seen: HashMap<String, Vec<usize>> = HashMap::new();
    let mut kept: Vec<WorkItem> = Vec::with_capacity(before);
    for item in items.drain(..) {
        let of_name = seen.entry(item.case.name.to_lowercase()).or_default();
        if of_name.iter().any(|i| kept[*i].case == item.case) {
            continue;
        }
        of_name.push(kept.len());
        kept.push(item);
    }
    for same in seen.into_values().filter(|same| same.len() > 1) {
        for i in same {
            let case = &mut kept[i].case;
            case.name = format!("{}-{}", case.name, &path_digest(case)[..8]);
        }
    }
    *items = kept;
    before - items.len()
}

/// Tells cases of one name apart: their files, and where they look.
fn path_digest(case: &Case) -> String {
    let files: Vec<String> = case.files().map(Path::display).map(|p| p.to_string()).collect();
    hex(&Sha256::digest(format!("{}\n{:?}", files.join("\n"), case.region.point_mm)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Silent;
    use crate::run::inputs::{InputOptions, find_cases};

    fn found(inputs: &[PathBuf]) -> (Manifest, usize) {
        let text = include_str!("../../../plugins/lung_nodule/plugin.toml");
        let tasks = [anymc3d_manifest::Manifest::parse(text).unwrap().manifest];
        let options = InputOptions { recursive: true, ..InputOptions::default() };
        Manifest::of(find_cases(inputs, &tasks, &options, &Silent), &["lung_nodule"])
    }

    #[test]
    fn cases_of_one_name_get_names_of_their_own_whatever_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["a/imaging.nii", "b/imaging.nii", "c/Imaging.nii", "d/other.nii"] {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), name).unwrap();
        }
        let (one, twice) = found(&[at("a"), at("b"), at("c"), at("d")]);
        assert_eq!(twice, 0);
        let names = |m: &Manifest| m.items.iter().map(|i| i.case.name.clone()).collect::<Vec<_>>();
        assert!(names(&one)[0].starts_with("imaging-") && names(&one)[2].starts_with("Imaging-"), "{one:?}");
        assert_eq!(names(&one)[3], "other");
        let (other, _) = found(&[at("d"), at("c"), at("b"), at("a")]);
        let mut reversed = names(&other);
        reversed.reverse();
        assert_eq!(reversed, names(&one));
        assert_eq!(one.items.iter().map(|i| i.bytes).collect::<Vec<_>>(), [13, 13, 13, 11]);
        // The same scan, given by its folder and by its name.
        let (again, twice) = found(&[folder.path().to_owned(), at("d/other.nii")]);
        assert_eq!((again.items.len(), twice), (4, 1));
    }

    #[test]
    fn an_input_without_a_case_is_work_that_has_failed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("t.csv"), "image\nx.nii\n").unwrap();
        let (manifest, _) = found(&[folder.path().join("t.csv")]);
        assert!(manifest.items[0].failed.as_ref().unwrap().contains("no column `case`"), "{manifest:?}");
    }
}
