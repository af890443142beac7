//! What is done already: results of the same scan by the same library, weights, backbone and options.

use super::folder::BatchFolder;
use super::journal::{FailureKind, Outcome, read_all};
use super::manifest::WorkItem;
use super::scan_files::ScanFiles;
use crate::engine::Case;
use crate::engine::result::CaseResult;
use crate::fs::hex;
use crate::output::naming::{one_digest, with_digest};
use crate::run::TaskIdentity;
use crate::run::inputs::NoAnswer;
use anymc3d_manifest::Manifest;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// What is known of a case and a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Its result lies there.
    Done,
    /// It failed before, of the same scan by the same code.
    Failed,
    /// The case has nothing for the plugin.
    NothingForIt,
    /// There is a result of something else: what is different, in words.
    Outdated(String),
    /// Nothing.
    New,
}

/// Digest of options on which results depend.
pub fn digest_of_options(options: &BTreeMap<String, Value>) -> String {
    let text = serde_json::to_string(options).unwrap_or_default();
    hex(&Sha256::digest(text))
}

/// What made a result, as a short hash for the journal.
pub(super) fn made_by(identity: &TaskIdentity, options_sha256: &str) -> String {
    let weights = identity.weights_sha256.join("+");
    let mut parts = vec![
        identity.library_sha256.as_str(),
        &weights,
        &identity.backbone_sha256,
        &identity.precision,
        options_sha256,
    ];
    parts.extend(identity.quantised_sha256.as_deref());
    short_hash(&parts.join("\n"))
}

fn short_hash(text: &str) -> String {
    hex(&Sha256::digest(text)[..12])
}

/// The journals' last word on a case.
struct Known {
    outcome: Outcome,
    files: Option<String>,
}

/// Compares cases with what lies in a folder of results.
pub struct Resume<'a> {
    root: PathBuf,
    identities: &'a [TaskIdentity],
    /// Of the same plugins, in the same order: their views tell which files a plugin reads.
    manifests: &'a [Manifest],
    options_sha256: &'a str,
    scans: ScanFiles<'a>,
    /// By case and index of the plugin.
    known: HashMap<(String, usize), Known>,
}

impl<'a> Resume<'a> {
    /// Of a folder without journals, as `host run --out` makes it: every scan is read to compare its digest.
    pub fn of_results(
        root: &Path,
        identities: &'a [TaskIdentity],
        manifests: &'a [Manifest],
        options_sha256: &'a str,
    ) -> Self {
        let scans = ScanFiles::default();
        Self { root: root.to_owned(), identities, manifests, options_sha256, scans, known: HashMap::new() }
    }

    /// Of a batch: a scan whose files have the sizes and times of when it was done is not read.
    ///
    /// # Errors
    /// One line, where the journals cannot be read.
    pub fn of_batch(
        folder: &BatchFolder,
        identities: &'a [TaskIdentity],
        manifests: &'a [Manifest],
        options_sha256: &'a str,
        scans: ScanFiles<'a>,
    ) -> Result<Self, String> {
        let mut resume =
            Self { scans, ..Self::of_results(folder.root(), identities, manifests, options_sha256) };
        let made: Vec<String> = identities.iter().map(|i| made_by(i, options_sha256)).collect();
        // The last entry of a case is its newest: the shard's lock gives a case one writer at a time, so the
        // journals of its writers began one after the other, and they are read in that order.
        read_all(&folder.journals(), |entry| {
            let Some(plugin) = identities.iter().position(|i| i.plugin == entry.plugin) else { return };
            let of = (entry.case, plugin);
            // What something else made has replaced the result that an older entry means. What could not be
            // written says nothing of the case. Then what lies there decides.
            if made[plugin] != entry.made_by || entry.kind == Some(FailureKind::Writing) {
                resume.known.remove(&of);
                return;
            }
            resume.known.insert(of, Known { outcome: entry.outcome, files: entry.files });
        })?;
        Ok(resume)
    }

    /// What is known of a case and the plugin of index `task`. `files` is [`ScanFiles::hash`] of the case.
    pub(super) fn state(&self, item: &WorkItem, task: usize, files: Option<&str>) -> State {
        let case = &item.case;
        match item.unanswered.get(&self.identities[task].plugin) {
            Some(NoAnswer::NothingForIt) => return State::NothingForIt,
            Some(NoAnswer::Failed(_)) | None => {}
        }
        if let Some(known) = self.known.get(&(case.name.clone(), task)) {
            let unchanged = known.files.as_deref().is_some_and(|before| Some(before) == files);
            match known.outcome {
                // What failed without a file to look at fails the same way.
                Outcome::Failed if unchanged || (known.files.is_none() && files.is_none()) => {
                    return State::Failed;
                }
                Outcome::Done if unchanged && self.result(&case.name, task).exists() => return State::Done,
                _ => {}
            }
        }
        self.state_of_result(case, &case.name, task)
    }

    /// Under which name the result of a case lies that `host run` is asked for, where it is done: the case's
    /// own, or that with the digest of its scans.
    pub fn done_as(&self, case: &Case, task: usize) -> Option<String> {
        let is_done = |name: &String| self.state_of_result(case, name, task) == State::Done;
        Some(case.name.clone()).filter(&is_done).or_else(|| {
            let digest = self.digest_of_scans(case, task)?;
            Some(with_digest(&case.name, &digest)).filter(is_done)
        })
    }

    fn result(&self, name: &str, task: usize) -> PathBuf {
        self.root.join(name).join(&self.identities[task].plugin).join("result.json")
    }

    /// Reads a result, and the scan where everything else is the same.
    fn state_of_result(&self, case: &Case, name: &str, task: usize) -> State {
        let Ok(text) = std::fs::read(self.result(name, task)) else { return State::New };
        let outdated = |what: &str| State::Outdated(what.to_owned());
        let Ok(result) = serde_json::from_slice::<CaseResult>(&text) else {
            return outdated("a result that cannot be read");
        };
        if let Some(what) = self.identities[task].difference(&TaskIdentity::of_result(&result)) {
            return State::Outdated(what);
        }
        if result.options_sha256.as_deref() != Some(self.options_sha256) {
            return outdated("other options");
        }
        let mask = case.region.mask.as_deref().and_then(|mask| self.scans.digest(mask));
        if result.input.mask_sha256 != mask {
            return outdated("another mask");
        }
        if result.input.point_mm != case.region.point_mm {
            return outdated("another point");
        }
        match self.difference_of_scans(case, task, &result) {
            Some(what) => outdated(what),
            None => State::Done,
        }
    }

    /// How the scans that a plugin would read now differ from those that its result was made from.
    fn difference_of_scans(&self, case: &Case, task: usize, result: &CaseResult) -> Option<&'static str> {
        let files = self.files(case, task);
        let answered = |view: &str| result.views.iter().any(|v| v.name == view);
        if files.len() != result.views.len() || !files.iter().all(|(view, _)| answered(view)) {
            return Some("other files");
        }
        // A file that several views read is digested once.
        let mut digests: BTreeMap<&Path, Option<String>> = BTreeMap::new();
        let same = files.iter().all(|(view, file)| {
            let now = digests.entry(*file).or_insert_with(|| self.scans.digest(file));
            now.as_deref() == Some(digest_of_view(result, view))
        });
        (!same).then_some("another scan")
    }

    /// The files that a plugin reads, each with its view, in the order of the plugin's views. Other files of
    /// the case are not its own.
    fn files<'b>(&'b self, case: &'b Case, task: usize) -> Vec<(&'b str, &'b Path)> {
        let plugin = &self.identities[task].plugin;
        let views = self.manifests[task].views.iter();
        views.filter_map(|view| Some((view.name.as_str(), case.file(plugin, &view.name)?))).collect()
    }

    /// The digest that a case's name gets where another case has the name: as `Scans::digest` in
    /// `output::naming` makes it.
    fn digest_of_scans(&self, case: &Case, task: usize) -> Option<String> {
        let files = self.files(case, task);
        let (_, first) = *files.first()?;
        let others = files.iter().map(|(_, file)| *file).filter(|file| *file != first);
        let digests: Option<Vec<String>> =
            std::iter::once(first).chain(others).map(|file| self.scans.digest(file)).collect();
        Some(one_digest(&digests?.iter().map(String::as_str).collect::<Vec<_>>()))
    }
}

/// Digest of the file that a view of a result read. A view without an entry of its own read the first file.
fn digest_of_view<'r>(result: &'r CaseResult, view: &str) -> &'r str {
    let other = result.input.other_views.iter().find(|other| other.view == view);
    other.map_or(result.input.sha256.as_str(), |other| other.sha256.as_str())
}

#[cfg(test)]
mod tests {
    use super::super::batch_plan::tests::identity;
    use super::super::folder::Wish;
    use super::super::journal::JournalEntry;
    use super::super::journal::tests::entry;
    use super::super::manifest::Manifest as Work;
    use super::*;
    use crate::output::naming::Scans;
    use crate::scan::source::digest_of;
    use crate::scan::{Affine, write_nifti_f32};
    use serde_json::json;
    use std::fs;

    const PLUGIN: &str = "brain_mri";

    /// Its views are t1, t2 and flair, in this order.
    fn manifests() -> [Manifest; 1] {
        let text = include_str!("../../../plugins/brain_mri/plugin.toml");
        [Manifest::parse(text).unwrap().manifest]
    }

    /// A scan of a voxel of this value.
    fn scan(folder: &Path, name: &str, value: f32) -> PathBuf {
        let path = folder.join(name);
        let affine = Affine::aligned([1.0; 3], [0.0; 3]);
        write_nifti_f32(&path, &[value], [1, 1, 1], &affine).unwrap();
        path
    }

    fn case(views: &[(&str, &Path)]) -> Case {
        let views = views.iter().map(|(view, file)| ((*view).to_owned(), (*file).to_owned()));
        Case { name: "a".into(), views: views.collect(), ..Case::default() }
    }

    /// What a plugin says of views, each with its file, in the order of its manifest.
    fn result(by: &TaskIdentity, views: &[(&str, &Path)]) -> CaseResult {
        let sha256 = |file: &Path| digest_of(file).unwrap();
        let (_, first) = views[0];
        let others = views.iter().filter(|(_, file)| *file != first);
        let others: Vec<Value> = others
            .map(|(view, file)| json!({ "view": view, "path": file, "sha256": sha256(file) }))
            .collect();
        let seen = |view: &str| {
            json!({
                "name": view,
                "slices": 1,
                "weights": [1.0],
                "heatmap_of": "class_attention",
                "top_slices": [],
            })
        };
        let seen: Vec<Value> = views.iter().map(|(view, _)| seen(view)).collect();
        let json = json!({
            "schema": crate::engine::result::SCHEMA,
            "case": "a",
            "input": {
                "path": first,
                "sha256": sha256(first),
                "shape": [1, 1, 1],
                "spacing_mm": [1.0, 1.0, 1.0],
                "orientation": "RAS",
                "other_views": others,
            },
            "plugin": {
                "name": by.plugin,
                "version": by.version,
                "sha256": by.library_sha256,
                "weights_sha256": by.weights_sha256[0],
            },
            "backbone": { "name": by.backbone, "sha256": by.backbone_sha256, "precision": by.precision },
            "device": "cpu",
            "host": "0",
            "options_sha256": "o",
            "predictions": [],
            "views": seen,
            "files": {},
            "timing_ms": { "read": 0.0, "preprocess": 0.0, "backbone": 0.0, "head": 0.0, "total": 0.0 },
            "warnings": [],
            "intended_use": "Tests.",
        });
        serde_json::from_value(json).unwrap()
    }

    fn write(root: &Path, name: &str, result: &CaseResult) {
        let folder = root.join(name).join(PLUGIN);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("result.json"), serde_json::to_vec(result).unwrap()).unwrap();
    }

    #[test]
    fn what_was_done_before_something_else_replaced_it_is_done_anew() {
        let (scans, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let t1 = scan(scans.path(), "t1.nii", 1.0);
        let mut item = WorkItem::named("a");
        item.case = case(&[("t1", &t1)]);
        let (inputs, options) = (vec!["/scans".to_owned()], BTreeMap::new());
        let wish = Wish { inputs, manifest: None, options, tasks: vec![], overwrite: false };
        let work = || Ok(Work { items: vec![item.clone()] });
        let (batch, ..) = BatchFolder::prepare(out.path(), wish, work).unwrap();
        let files = ScanFiles::default().hash(&item.case);
        assert!(files.is_some());
        let (first, second) = ([identity(PLUGIN, "1")], [identity(PLUGIN, "2")]);
        let is_done = |by: &TaskIdentity, journal: &str| {
            write(out.path(), "a", &result(by, &[("t1", &t1)]));
            let (files, made_by) = (files.clone(), made_by(by, "o"));
            let entry = JournalEntry { files, made_by, ..entry("a", PLUGIN, Outcome::Done) };
            fs::write(batch.journals().join(journal), serde_json::to_vec(&entry).unwrap()).unwrap();
        };
        let manifests = manifests();
        let state = |by: &[TaskIdentity; 1]| {
            let resume = Resume::of_batch(&batch, by, &manifests, "o", ScanFiles::default()).unwrap();
            resume.state(&item, 0, files.as_deref())
        };
        let other = |before: char, now: char| {
            let eight = |digit: char| digit.to_string().repeat(8);
            State::Outdated(format!("another weights ({} before, {} now)", eight(before), eight(now)))
        };
        // The names of the journals sort the other way than the times in them.
        is_done(&first[0], "2-of-3.1000-1-0.jsonl");
        assert_eq!((state(&first), state(&second)), (State::Done, other('1', '2')));
        is_done(&second[0], "1-of-2.2000-1-0.jsonl");
        assert_eq!((state(&first), state(&second)), (other('2', '1'), State::Done));
        is_done(&first[0], "0-of-1.3000-1-0.jsonl");
        assert_eq!((state(&first), state(&second)), (State::Done, other('1', '2')));
    }

    #[test]
    fn a_case_of_several_views_is_done_in_whatever_order_their_names_sort() {
        let (scans, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str, value: f32| scan(scans.path(), name, value);
        let (t1, t2, flair) = (at("1.nii", 1.0), at("2.nii", 2.0), at("3.nii", 3.0));
        let views: [(&str, &Path); 3] = [("t1", &t1), ("t2", &t2), ("flair", &flair)];
        let (identities, manifests) = ([identity(PLUGIN, "1")], manifests());
        let resume = Resume::of_results(out.path(), &identities, &manifests, "o");
        let state = |case: &Case| resume.state_of_result(case, "a", 0);
        let outdated = |what: &str| State::Outdated(what.to_owned());
        write(out.path(), "a", &result(&identities[0], &views));
        assert_eq!(state(&case(&views)), State::Done);
        assert_eq!(resume.done_as(&case(&views), 0), Some("a".to_owned()));
        // Files that no view of the plugin reads: an image beside a file for each view, and another plugin's.
        let other = at("4.nii", 4.0);
        let mut more = case(&views);
        more.image = Some(other.clone());
        more.views.insert("knee/t1".into(), other.clone());
        more.views.insert("sagittal".into(), other.clone());
        assert_eq!(state(&more), State::Done);
        // A file that is the plugin's alone goes before the view's.
        more.views.insert(Case::own(PLUGIN, "t1"), other.clone());
        assert_eq!(state(&more), outdated("another scan"));
        let swapped = case(&[("t1", &t2), ("t2", &t1), ("flair", &flair)]);
        assert_eq!(state(&swapped), outdated("another scan"));
        assert_eq!(state(&case(&views[..2])), outdated("other files"));
        write(out.path(), "a", &result(&identities[0], &views[..2]));
        assert_eq!(state(&case(&views)), outdated("other files"));
    }

    #[test]
    fn a_case_of_several_views_whose_name_another_has_is_found_by_the_digest_of_its_scans() {
        let (scans, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str, value: f32| scan(scans.path(), name, value);
        let (t1, t2, flair) = (at("1.nii", 1.0), at("2.nii", 2.0), at("3.nii", 3.0));
        let (identities, manifests) = ([identity(PLUGIN, "1")], manifests());
        let resume = Resume::of_results(out.path(), &identities, &manifests, "o");
        write(out.path(), "a", &result(&identities[0], &[("t1", &flair)]));
        let all: [(&str, &Path); 3] = [("t1", &t1), ("t2", &t2), ("flair", &flair)];
        for views in [&all[..], &all[1..2]] {
            let result = result(&identities[0], views);
            let name = with_digest("a", &Scans::of(&result).digest());
            assert_eq!(resume.done_as(&case(views), 0), None);
            write(out.path(), &name, &result);
            assert_eq!(resume.done_as(&case(views), 0), Some(name));
        }
    }
}
