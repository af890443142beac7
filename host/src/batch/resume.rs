//! What is done already: results of the same scan by the same library, weights, backbone and options.

use super::folder::BatchFolder;
use super::journal::{FailureKind, Outcome, read_all};
use super::manifest::WorkItem;
use super::scan_files::ScanFiles;
use crate::engine::Case;
use crate::engine::result::CaseResult;
use crate::fs::hex;
use crate::output::naming::with_digest;
use crate::run::TaskIdentity;
use crate::run::inputs::NoAnswer;
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
    options_sha256: &'a str,
    scans: ScanFiles<'a>,
    /// By case and index of the plugin.
    known: HashMap<(String, usize), Known>,
}

impl<'a> Resume<'a> {
    /// Of a folder without journals, as `host run --out` makes it: every scan is read to compare its digest.
    pub fn of_results(root: &Path, identities: &'a [TaskIdentity], options_sha256: &'a str) -> Self {
        let scans = ScanFiles::default();
        Self { root: root.to_owned(), identities, options_sha256, scans, known: HashMap::new() }
    }

    /// Of a batch: a scan whose files have the sizes and times of when it was done is not read.
    ///
    /// # Errors
    /// One line, where the journals cannot be read.
    pub fn of_batch(
        folder: &BatchFolder,
        identities: &'a [TaskIdentity],
        options_sha256: &'a str,
        scans: ScanFiles<'a>,
    ) -> Result<Self, String> {
        let mut resume = Self { scans, ..Self::of_results(folder.root(), identities, options_sha256) };
        let made: Vec<String> = identities.iter().map(|i| made_by(i, options_sha256)).collect();
        read_all(&folder.journals(), |entry| {
            let plugin = identities.iter().position(|i| i.plugin == entry.plugin);
            let Some(plugin) = plugin.filter(|i| made[*i] == entry.made_by) else { return };
            // What could not be written says nothing of the case.
            if entry.kind == Some(FailureKind::Writing) {
                resume.known.remove(&(entry.case, plugin));
                return;
            }
            let known = Known { outcome: entry.outcome, files: entry.files };
            resume.known.insert((entry.case, plugin), known);
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

    /// Under which name the result of a case lies that `host run` is asked for, where it is done: the case's own, or that with
    /// the scan's digest.
    pub fn done_as(&self, case: &Case, task: usize) -> Option<String> {
        let is_done = |name: &String| self.state_of_result(case, name, task) == State::Done;
        Some(case.name.clone()).filter(&is_done).or_else(|| {
            let digest = self.scans.digest(&first_file(case, &self.identities[task].plugin)?)?;
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
        let mut scans = vec![(Path::new(&result.input.path), &result.input.sha256)];
        scans.extend(result.input.other_views.iter().map(|o| (Path::new(&o.path), &o.sha256)));
        let mut files = self.files(case, task);
        files.dedup();
        if scans.len() != files.len() {
            return outdated("other files");
        }
        let same = files
            .iter()
            .zip(&scans)
            .all(|(file, (_, sha256))| self.scans.digest(file).as_ref() == Some(sha256));
        if same { State::Done } else { outdated("another scan") }
    }

    /// The files that a plugin read, in the order in which its result tells them: as its views are.
    fn files(&self, case: &Case, task: usize) -> Vec<PathBuf> {
        let plugin = &self.identities[task].plugin;
        let own = format!("{plugin}/");
        let mut files: Vec<PathBuf> = case.image.iter().cloned().collect();
        let of_plugin = case.views.iter().filter(|(view, _)| !view.contains('/') || view.starts_with(&own));
        files.extend(of_plugin.map(|(_, file)| file.clone()));
        files
    }
}

/// The file that names a case's digest.
fn first_file(case: &Case, plugin: &str) -> Option<PathBuf> {
    let own = format!("{plugin}/");
    let view = case.views.iter().find(|(view, _)| view.starts_with(&own)).map(|(_, file)| file.clone());
    case.image.clone().or(view).or_else(|| case.views.values().next().cloned())
}
