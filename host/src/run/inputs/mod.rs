//! From what somebody gives (files, folders, DICOM, data tables) to cases.
//!
//! [`find_cases`] looks at inputs as `host run` does; a server or a batch runner gives it paths and hands the entries to
//! [`super::Session::run_all`]. [`case_of_views`] makes one case of several files.

mod error;
mod folder;
pub(super) mod notice;
mod studies;
mod table;
mod unanswered;

pub use error::InputError;
pub use folder::{FolderScans, folders_below, scans_in_folder, scans_in_folders};
pub use notice::InputNotice;
pub use studies::StudyNames;
pub use table::is_table;
pub use unanswered::{NoAnswer, Unanswered};

use super::events::{Events, Notice};
use crate::engine::Case;
use crate::scan::dicom::{DicomInput, SeriesPick, resolve};
use anymc3d_manifest::Manifest;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use studies::Studies;

/// What a caller says of its inputs. `Default` lets the plugins' rules choose series, and names DICOM cases by a hash.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct InputOptions {
    /// Series of DICOM inputs that the caller chose, each for a view or, without a name, for all views. They go before
    /// the plugins' rules; a rule that they break is told.
    pub series: Vec<(Option<String>, SeriesPick)>,
    /// How cases of DICOM studies are named.
    pub names: StudyNames,
    /// Whether the folders below a folder are looked at too.
    pub recursive: bool,
    /// Whether a folder may be empty, because scans arrive in it.
    pub may_be_empty: bool,
}

/// What an input gave: a case, or the reason why there is none.
#[derive(Debug)]
pub enum CaseEntry {
    /// A case.
    Case(Case),
    /// An input without a case.
    Failed {
        /// As it was given.
        path: PathBuf,
        /// Why.
        error: InputError,
    },
}

impl CaseEntry {
    /// The case, where the input gives one.
    pub fn case(&self) -> Option<&Case> {
        match self {
            Self::Case(case) => Some(case),
            Self::Failed { .. } => None,
        }
    }

    /// The same, to say more of it: where its finding lies, for example.
    pub fn case_mut(&mut self) -> Option<&mut Case> {
        match self {
            Self::Case(case) => Some(case),
            Self::Failed { .. } => None,
        }
    }
}

/// What inputs gave.
#[derive(Debug, Default)]
pub struct CaseList {
    /// In the order of the inputs; a folder's and a table's cases in its own order.
    pub entries: Vec<CaseEntry>,
    /// Plugins that do not answer some of the cases.
    pub unanswered: Unanswered,
}

impl CaseList {
    /// For each entry its case, as [`super::Session::run_all`] takes them.
    pub fn cases(&self) -> Vec<Option<&Case>> {
        self.entries.iter().map(CaseEntry::case).collect()
    }

    fn add(&mut self, cases: impl IntoIterator<Item = Case>) {
        self.entries.extend(cases.into_iter().map(CaseEntry::Case));
    }

    fn fail(&mut self, input: &Path, error: impl Into<InputError>) {
        self.entries.push(CaseEntry::Failed { path: input.to_path_buf(), error: error.into() });
    }
}

/// The cases of all inputs, in their order. `tasks`: the manifests of the plugins that will answer. An input that gives no
/// case stands in the list with the reason; the others are still there.
pub fn find_cases(
    inputs: &[PathBuf],
    tasks: &[Manifest],
    options: &InputOptions,
    events: &dyn Events,
) -> CaseList {
    let mut list = CaseList::default();
    let (picks, names) = (options.series.as_slice(), &options.names);
    let mut studies = Studies { tasks, picks, names, events, skipped: Vec::new() };
    for input in inputs {
        if is_table(input) {
            match table::cases(input, tasks, &mut list.unanswered) {
                Ok(cases) => list.add(cases),
                Err(e) => list.fail(input, e),
            }
            continue;
        }
        let dicom = DicomInput::look(input);
        if let Ok(Some(dicom)) = &dicom {
            match studies.cases(dicom, &mut list.unanswered) {
                Ok(cases) => list.add(cases),
                Err(e) => list.fail(input, e),
            }
        }
        match dicom {
            Ok(Some(_)) if input.is_dir() => {
                // Scans of other formats, at any depth.
                for folder in folders_below(input) {
                    if let Ok(scans) = scans_in_folder(&folder) {
                        // What else lies there was told with the studies.
                        list.add(cases_in(
                            &folder,
                            &FolderScans { left_out: BTreeMap::new(), ..scans },
                            events,
                        ));
                    }
                }
            }
            Ok(Some(_)) => {}
            Err(e) if !input.is_dir() => list.fail(input, e),
            other if input.is_dir() => match scans_in_folders(input, options.recursive) {
                Ok(folders) => {
                    folders.iter().for_each(|(folder, scans)| list.add(cases_in(folder, scans, events)));
                }
                Err(e) if options.may_be_empty => {
                    let notice = InputNotice::EmptyFolder { reason: e.to_string() };
                    events.notice(&Notice::Input(notice));
                }
                Err(e) => list.fail(input, other.err().map_or(e, InputError::from)),
            },
            _ => list.add([Case::of_file(input)]),
        }
    }
    let any_case = list.entries.iter().any(|entry| entry.case().is_some());
    if let Some((path, error)) = studies.skipped(any_case) {
        list.fail(&path, error);
    }
    list
}

fn cases_in(folder: &Path, scans: &FolderScans, events: &dyn Events) -> Vec<Case> {
    if scans.masks > 0 {
        let notice = InputNotice::MasksLeftOut { folder: folder.to_path_buf(), masks: scans.masks };
        events.notice(&Notice::Input(notice));
    }
    if !scans.left_out.is_empty() {
        let notice = InputNotice::LeftOut { root: folder.to_path_buf(), kinds: scans.left_out.clone() };
        events.notice(&Notice::Input(notice));
    }
    scans.files.iter().map(|file| Case::of_file(file)).collect()
}

/// One case of several files: `image` serves every view that `views` (name and file) does not name. Of a folder of DICOM,
/// each plugin gets the series that fits its view. The case is named by its first file; by its study where one of the
/// files is DICOM.
///
/// # Errors
/// [`InputError::Scan`] where a file cannot be used, and the errors of [`StudyNames::name`].
pub fn case_of_views(
    image: Option<&Path>,
    views: &[(String, PathBuf)],
    tasks: &[Manifest],
    names: &StudyNames,
) -> Result<Case, InputError> {
    let first = image.or_else(|| views.first().map(|(_, file)| file.as_path())).unwrap_or(Path::new(""));
    let mut case =
        Case { image: image.map(Path::to_path_buf), views: BTreeMap::new(), ..Case::of_file(first) };
    let mut name = None;
    for path in image.into_iter().chain(views.iter().map(|(_, file)| file.as_path())) {
        let dicom = DicomInput::look(path)?;
        if let (Some(dicom), None) = (dicom, &name) {
            let study = dicom.studies().first().copied();
            name = study.map(|study| names.name(&dicom, study)).transpose()?;
        }
    }
    for (view, file) in views {
        case.views.insert(view.clone(), file.clone());
        for manifest in tasks {
            let Some(rules) = manifest.views.iter().find(|v| v.name == *view) else { continue };
            let path = resolve(file, rules)?;
            if path != *file {
                case.views.insert(Case::own(&manifest.plugin.name, view), path);
            }
        }
    }
    if let Some(name) = name {
        case.name = name;
    }
    Ok(case)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Keeps what is told.
    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Events for Heard {
        fn notice(&self, notice: &Notice) {
            self.0.lock().unwrap().push(notice.to_string());
        }
    }

    fn task() -> Manifest {
        let text = include_str!("../../../../plugins/lung_nodule/plugin.toml");
        Manifest::parse(text).unwrap().manifest
    }

    #[test]
    fn files_folders_and_tables_become_cases_in_order_and_each_failure_stands_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in
            ["scans/b.nii", "scans/b_mask.nii", "scans/a.nii", "scans/deep/er/c.nii", "empty/notes.txt"]
        {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), "").unwrap();
        }
        std::fs::write(at("table.csv"), "case,image\nx,scans/a.nii\ny,scans/b.nii\n").unwrap();
        std::fs::write(at("other.CSV"), "image\nscans/a.nii\n").unwrap();
        let inputs = ["one.nii.gz", "scans", "empty", "table.csv", "other.CSV"].map(at);
        let heard = Heard::default();
        let list = find_cases(&inputs, &[task()], &InputOptions::default(), &heard);
        let names: Vec<String> = list
            .entries
            .iter()
            .map(|entry| match entry {
                CaseEntry::Case(case) => case.name.clone(),
                CaseEntry::Failed { path, .. } => {
                    format!("! {}", path.strip_prefix(folder.path()).unwrap().display())
                }
            })
            .collect();
        assert_eq!(names, ["one", "a", "b", "! empty", "x", "y", "! other.CSV"]);
        let cases = list.cases();
        assert_eq!(cases[4].unwrap().file("lung_nodule", "axial"), Some(at("scans/a.nii").as_path()));
        assert!(cases[3].is_none());
        let told = |what: &str| format!("{}: {what}", at("scans").display());
        assert_eq!(
            *heard.0.lock().unwrap(),
            [told("1 masks left out (…_mask)"), told("left out: 1 × folder")]
        );

        let options = InputOptions { recursive: true, ..InputOptions::default() };
        let list = find_cases(&[at("scans")], &[task()], &options, &Heard::default());
        let names: Vec<&str> = list.cases().iter().map(|case| case.unwrap().name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);

        let options = InputOptions { may_be_empty: true, ..InputOptions::default() };
        let list = find_cases(&[at("empty")], &[task()], &options, &heard);
        assert!(
            list.entries.is_empty()
                && heard.0.lock().unwrap()[2].contains("no scan in this folder, found 1 × .txt")
        );
    }

    #[test]
    fn a_case_of_several_files_is_named_by_the_first_and_keeps_each_for_its_view() {
        let views = [("t2".to_owned(), PathBuf::from("b.nii")), ("flair".to_owned(), PathBuf::from("c.nii"))];
        let names = StudyNames::default();
        let case = case_of_views(Some(Path::new("a.nii")), &views, &[task()], &names).unwrap();
        assert_eq!((case.name.as_str(), case.image.as_deref()), ("a", Some(Path::new("a.nii"))));
        assert_eq!(case.file("any", "flair"), Some(Path::new("c.nii")));
        assert_eq!(case.file("any", "t1"), Some(Path::new("a.nii")));
        let case = case_of_views(None, &views, &[task()], &names).unwrap();
        assert_eq!((case.name.as_str(), case.image), ("b", None));
    }
}
