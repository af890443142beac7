//! The folder of a batch: its plan, the manifest, and who writes which shard.
//!
//! `batch.json` says what the batch is of; `work.csv` is the manifest; results lie as `host run --out` puts them. In
//! `.batch/` are the journals and a lock for each shard. A lock is the system's own (flock): it ends with its process,
//! also where that is killed.

use super::batch_plan::{
    BatchError, BatchPlan, PLAN, PlannedTask, SCHEMA, WORK, continued, folder_error, read_plan,
};
use super::journal::Journal;
use super::manifest::Manifest;
use super::shard::Shard;
use crate::fs::{hex, write_atomically};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What a call wants of a folder.
pub struct Wish<'a> {
    /// The inputs, absolute.
    pub inputs: Vec<String>,
    /// A manifest in their place.
    pub manifest: Option<&'a Path>,
    /// Options on which results depend.
    pub options: BTreeMap<String, Value>,
    /// The plugins.
    pub tasks: Vec<PlannedTask>,
    /// Whether a batch of other options or work that lies there is continued with these.
    pub overwrite: bool,
}

/// The folder of a batch.
#[derive(Debug)]
pub struct BatchFolder {
    root: PathBuf,
    /// What it is of.
    pub plan: BatchPlan,
}

/// The right to write a shard, until it is dropped.
#[derive(Debug)]
pub struct ShardLock {
    _file: File,
}

impl BatchFolder {
    /// Opens the folder for a call, or makes it; the manifest is written before anything else, and only once. `find` lists
    /// the inputs' cases where no process has done so before. Also what is to be told: lines about plugins that are others now.
    ///
    /// # Errors
    /// [`BatchError`].
    pub fn prepare(
        root: &Path,
        wish: Wish<'_>,
        find: impl FnOnce() -> Result<Manifest, BatchError>,
    ) -> Result<(Self, Manifest, Vec<String>), BatchError> {
        let failed = |path: &Path, e: io::Error| folder_error(path, format!("cannot be written ({e})"));
        for below in [".batch/locks", ".batch/journal"] {
            let path = root.join(below);
            fs::create_dir_all(&path).map_err(|e| failed(root, e))?;
        }
        let _gate = gate(root)?;
        let before = match read_plan(root) {
            Ok(plan) => Some(plan),
            Err(BatchError::NoBatch { .. }) => None,
            Err(e) => return Err(e),
        };
        let place = root.join(WORK);
        let manifest = match (&before, wish.manifest) {
            (_, Some(given)) => Manifest::open(given)?,
            (Some(before), None) if before.inputs == wish.inputs => Manifest::open(&place)?,
            (Some(before), None) if !wish.overwrite => {
                let what = format!(
                    "of {}; this call's inputs are {}",
                    before.inputs.join(", "),
                    wish.inputs.join(", ")
                );
                return Err(BatchError::OtherWork { path: root.to_owned(), what });
            }
            _ => find()?,
        };
        if manifest.items.is_empty() {
            return Err(BatchError::NoWork);
        }
        let text = manifest.csv();
        let manifest_sha256 = hex(&Sha256::digest(&text));
        let mut plan = BatchPlan {
            schema: SCHEMA.to_owned(),
            inputs: wish.inputs,
            manifest_sha256,
            options: wish.options,
            tasks: wish.tasks,
        };
        let mut told = Vec::new();
        if let Some(before) = &before {
            told = continued(root, before, &mut plan, wish.overwrite)?;
        }
        if before.as_ref() != Some(&plan) {
            if let Some((shard, by)) = before.as_ref().and_then(|_| held(root, |_| true)) {
                return Err(BatchError::Busy {
                    path: root.to_owned(),
                    shard,
                    by: format!("{by}, with other plugins or options"),
                });
            }
            write_atomically(&place, &text).map_err(|e| failed(&place, e))?;
            let json =
                serde_json::to_string_pretty(&plan).map_err(|e| folder_error(&place, e.to_string()))?;
            let place = root.join(PLAN);
            write_atomically(&place, (json + "\n").as_bytes()).map_err(|e| failed(&place, e))?;
        }
        Ok((Self { root: root.to_owned(), plan }, manifest, told))
    }

    /// Opens a batch's folder to read it.
    ///
    /// # Errors
    /// [`BatchError`].
    pub fn open(root: &Path) -> Result<(Self, Manifest), BatchError> {
        let plan = read_plan(root)?;
        let manifest = Manifest::open(&root.join(WORK))?;
        Ok((Self { root: root.to_owned(), plan }, manifest))
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn journals(&self) -> PathBuf {
        self.root.join(".batch/journal")
    }

    /// Begins a journal.
    ///
    /// # Errors
    /// One line.
    pub fn begin_journal(&self, shard: Shard) -> Result<Journal, String> {
        Journal::begin(&self.journals(), shard)
    }

    /// Takes a shard for this process.
    ///
    /// # Errors
    /// [`BatchError::Busy`] where another process has it, or has a shard of another division of the work.
    pub fn lock(&self, shard: Shard) -> Result<ShardLock, BatchError> {
        let _gate = gate(&self.root)?;
        let own = format!("{}.lock", shard.file_stem());
        let busy = |(shard, by)| BatchError::Busy { path: self.root.clone(), shard, by };
        let division = format!("-of-{}.lock", shard.of());
        if let Some(other) = held(&self.root, |name| !name.ends_with(&division)) {
            return Err(busy(other));
        }
        let path = self.root.join(".batch/locks").join(&own);
        let failed = |e: io::Error| folder_error(&path, format!("cannot be locked ({e})"));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(busy((shard.to_string(), owner(&path)))),
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
        if held(&self.root, |name| name != own).is_none() {
            self.remove_leftovers();
        }
        let now = jiff::Timestamp::now();
        let who = format!("process {} on {} since {now:.0}", std::process::id(), super::usage::host_name());
        file.set_len(0).and_then(|()| file.write_all(who.as_bytes())).map_err(failed)?;
        Ok(ShardLock { _file: file })
    }
}

impl BatchFolder {
    /// Removes what processes that were killed had not moved into place; while no other process writes here.
    fn remove_leftovers(&self) {
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(".writing-") {
                // What cannot be removed is only in the way.
                let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
            }
        }
    }
}

/// Held for moments, so that two processes do not prepare one folder at a time.
fn gate(root: &Path) -> Result<File, BatchError> {
    let path = root.join(".batch/locks/gate");
    let failed = |e: io::Error| folder_error(&path, format!("cannot be locked ({e})"));
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

/// A shard's lock that another process holds, among those whose file's name counts: which, and who.
fn held(root: &Path, counts: impl Fn(&str) -> bool) -> Option<(String, String)> {
    let entries = fs::read_dir(root.join(".batch/locks")).ok()?;
    entries.flatten().find_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let shard = name.strip_suffix(".lock").filter(|_| counts(&name))?;
        let file = OpenOptions::new().write(true).open(entry.path()).ok()?;
        let busy = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
        busy.then(|| (shard.replace("-of-", "/"), owner(&entry.path())))
    })
}

fn owner(lock: &Path) -> String {
    let text = fs::read_to_string(lock).unwrap_or_default();
    if text.is_empty() { "another process".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::super::batch_plan::tests::{identity, task};
    use super::super::manifest::WorkItem;
    use super::*;

    fn wish<'a>(tasks: Vec<PlannedTask>, heatmap: bool) -> Wish<'a> {
        let options = BTreeMap::from([("heatmap".to_owned(), Value::from(heatmap))]);
        Wish { inputs: vec!["/scans".into()], manifest: None, options, tasks, overwrite: false }
    }

    fn work() -> Result<Manifest, BatchError> {
        let item = |name: &str| {
            let mut item = WorkItem::named(name);
            item.case.image = Some(format!("/scans/{name}.nii").into());
            item
        };
        Ok(Manifest { items: vec![item("a"), item("b")] })
    }

    #[test]
    fn the_work_is_listed_once_and_other_options_or_work_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let shown = root.path().display().to_string();
        let (folder, first, told) =
            BatchFolder::prepare(root.path(), wish(vec![task("p", &["p_a"])], true), work).unwrap();
        assert!(told.is_empty() && first == work().unwrap());
        let again = |wish: Wish<'_>| {
            BatchFolder::prepare(root.path(), wish, || panic!("listed again"))
                .map_err(|e| e.to_string().replace(&shown, "F"))
        };
        let (same, listed, _) = again(wish(vec![task("p", &["p_a"])], true)).unwrap();
        assert_eq!((&same.plan, listed), (&folder.plan, first));
        assert_eq!(
            again(wish(vec![task("p", &["p_a"])], false)).unwrap_err(),
            "F: holds a batch with other options: heatmap was true, is false"
        );
        let other = Wish { inputs: vec!["/more".into()], ..wish(vec![task("p", &["p_a"])], true) };
        assert_eq!(
            again(other).unwrap_err(),
            "F: holds a batch of other work: of /scans; this call's inputs are /more"
        );
        // Another plugin comes to the first; other weights are told.
        let (both, ..) = again(wish(vec![task("q", &["p_b"])], true)).unwrap();
        assert_eq!(
            both.plan.tasks.iter().map(|t| t.identity.plugin.as_str()).collect::<Vec<_>>(),
            ["p", "q"]
        );
        let newer = PlannedTask { identity: identity("p", "2"), columns: vec!["p_a".into()] };
        let (_, _, told) = again(wish(vec![newer], true)).unwrap();
        assert_eq!(
            told,
            ["p: another weights (11111111 before, 22222222 now); what it answered before is done anew"]
        );
        // A manifest that somebody edits is another one.
        let text = fs::read_to_string(root.path().join(WORK)).unwrap();
        fs::write(root.path().join(WORK), text.replace("b,0,,/scans/b.nii\n", "")).unwrap();
        let message = again(wish(vec![], true)).unwrap_err();
        assert_eq!(
            message,
            "F: holds a batch of other work: work.csv is not the one that the batch began with"
        );
    }

    #[test]
    fn a_shard_has_one_writer_and_the_work_one_division_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let (folder, ..) = BatchFolder::prepare(root.path(), wish(vec![], true), work).unwrap();
        let shard = |i, n| Shard::new(i, n).unwrap();
        let first = folder.lock(shard(0, 2)).unwrap();
        let refused = folder.lock(shard(0, 2)).unwrap_err().to_string();
        let me = std::process::id();
        assert!(refused.contains(&format!("shard 0/2 is being written by process {me} on ")), "{refused}");
        let _second = folder.lock(shard(1, 2)).unwrap();
        let refused = folder.lock(shard(2, 3)).unwrap_err().to_string();
        assert!(refused.contains("/2 is being written by process"), "{refused}");
        let refused = BatchFolder::prepare(root.path(), wish(vec![task("p", &[])], true), work)
            .unwrap_err()
            .to_string();
        assert!(refused.ends_with("with other plugins or options"), "{refused}");
        drop(first);
        drop(_second);
        folder.lock(shard(2, 3)).unwrap();
    }

    #[test]
    fn no_case_and_no_batch_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let none = || Ok(Manifest::default());
        let refused = BatchFolder::prepare(root.path(), wish(vec![], true), none).unwrap_err();
        assert_eq!(refused.to_string(), "the inputs give no case");
        let refused = BatchFolder::open(root.path()).unwrap_err().to_string();
        assert!(refused.ends_with("no batch there: batch.json is missing"), "{refused}");
    }
}
