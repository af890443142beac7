//! A batch's folder on this machine, and the store that it stands for.

use super::client::{Objects, PutError, Tag, When};
use super::lease::{Lease, Refused, alive};
use crate::batch::Upstream;
use crate::batch::batch_plan::{BatchError, PLAN, WORK, folder_error};
use crate::batch::manifest::Manifest;
use crate::batch::shard::{Shard, partition};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

/// How long a process that has written the list of the work may take for the plan.
const BETWEEN: Duration = Duration::from_secs(2);
const RECORD: &str = "result.json";

/// A batch in a store.
pub struct Mirror {
    local: TempDir,
    objects: Objects,
    /// Plan and list of the work, as they were in the store.
    begun: [Option<(Vec<u8>, Tag)>; 2],
    /// What lay there when the records were listed.
    listed: Mutex<HashMap<String, Tag>>,
    lease: Mutex<Option<Lease>>,
}

impl Mirror {
    /// Opens the batch at an address, with its plan and its list of the work, as far as they are there.
    ///
    /// # Errors
    /// [`BatchError::Folder`]: the store does not answer.
    pub fn open(address: &str) -> Result<Self, BatchError> {
        let failed = |e: String| BatchError::Store { reason: e };
        let objects = Objects::open(address).map_err(failed)?;
        let local = tempfile::tempdir().map_err(|e| failed(format!("no temporary folder ({e})")))?;
        let mut mirror =
            Self { local, objects, begun: [None, None], listed: Mutex::default(), lease: Mutex::default() };
        mirror.read_plan().map_err(failed)?;
        if mirror.begun[0].is_none() && mirror.begun[1].is_some() {
            // Another process is about to write the plan, or ended before it did.
            std::thread::sleep(BETWEEN);
            mirror.read_plan().map_err(failed)?;
        }
        Ok(mirror)
    }

    fn read_plan(&mut self) -> Result<(), String> {
        for (name, begun) in [PLAN, WORK].into_iter().zip(&mut self.begun) {
            *begun = self.objects.read(name)?.map(|(bytes, tag)| (bytes.to_vec(), tag));
            if let Some((bytes, _)) = begun {
                let file = self.local.path().join(name);
                std::fs::write(&file, bytes)
                    .map_err(|e| format!("{}: cannot be written ({e})", file.display()))?;
            }
        }
        Ok(())
    }

    /// The folder on this machine.
    pub fn folder(&self) -> &Path {
        self.local.path()
    }

    /// The store's address.
    pub fn address(&self) -> &str {
        self.objects.address()
    }

    /// Writes plan and list of the work into the store, if they are others than lie there. `false` where another process
    /// has written them meanwhile: the folder has its plan now, and this call's is to be compared with it.
    ///
    /// # Errors
    /// [`BatchError::Busy`] where a process works by the plan that this one would replace.
    pub fn publish(&mut self) -> Result<bool, BatchError> {
        let failed = |e: String| BatchError::Store { reason: e };
        let read = |name: &str| {
            let path = self.local.path().join(name);
            std::fs::read(&path).map_err(|e| folder_error(&path, e.to_string()))
        };
        let now = [read(PLAN)?, read(WORK)?];
        let same = |i: usize| self.begun[i].as_ref().is_some_and(|(before, _)| *before == now[i]);
        if same(0) && same(1) {
            return Ok(true);
        }
        if self.begun[0].is_some()
            && let Some((shard, by)) = alive(&self.objects).map_err(failed)?
        {
            let by = format!("{by}, with other plugins or options");
            return Err(BatchError::Busy { path: self.address().into(), shard, by });
        }
        // The plan names the list by its digest: it comes last.
        for i in [1, 0] {
            let when = match &self.begun[i] {
                Some((_, tag)) => When::Still(tag.clone()),
                None => When::Absent,
            };
            match self.objects.put([PLAN, WORK][i], now[i].clone(), &when) {
                Ok(tag) => self.begun[i] = Some((now[i].clone(), tag)),
                Err(PutError::Store(e)) => return Err(failed(e)),
                Err(PutError::Changed) => {
                    std::thread::sleep(BETWEEN);
                    for name in [PLAN, WORK] {
                        // What is not there needs no removing.
                        let _ = std::fs::remove_file(self.local.path().join(name));
                    }
                    self.read_plan().map_err(failed)?;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Takes a shard for this process, until the mirror is dropped.
    ///
    /// # Errors
    /// [`BatchError::Busy`] where another process has it, or has a shard of another division of the work.
    pub fn lock(&self, shard: Shard) -> Result<(), BatchError> {
        let lease = Lease::take(&self.objects, shard).map_err(|refused| match refused {
            Refused::Busy(shard, by) => BatchError::Busy { path: self.address().into(), shard, by },
            Refused::Store(reason) => BatchError::Store { reason },
        })?;
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease);
        Ok(())
    }

    /// Copies what processes have recorded into the folder: of a shard its own cases' results, else all records.
    ///
    /// # Errors
    /// [`BatchError::Store`].
    pub fn read_records(&self, manifest: &Manifest, shard: Option<Shard>) -> Result<(), BatchError> {
        let failed = |e: String| BatchError::Store { reason: e };
        let all = self.objects.list("").map_err(failed)?;
        let cases: HashMap<&str, usize> =
            manifest.items.iter().enumerate().map(|(i, item)| (item.case.name.as_str(), i)).collect();
        let shards = shard.map(|shard| partition(&manifest.items, shard.of()));
        let own = |case: &str| match (cases.get(case), &shards, shard) {
            (Some(&i), Some(shards), Some(shard)) => shards[i] == shard.index(),
            (found, ..) => found.is_some(),
        };
        let wanted = |name: &str| {
            let parts: Vec<&str> = name.split('/').collect();
            match parts.as_slice() {
                [".batch", "journal", file] => file.ends_with(".jsonl"),
                [case, _, RECORD] => own(case),
                [file] if shard.is_none() => file.ends_with(".failed.json"),
                _ => false,
            }
        };
        let names: Vec<String> = all.iter().map(|o| o.name.clone()).filter(|name| wanted(name)).collect();
        self.objects.copy_to(self.local.path(), &names).map_err(failed)?;
        *self.listed.lock().unwrap_or_else(PoisonError::into_inner) =
            all.into_iter().map(|o| (o.name, o.tag)).collect();
        Ok(())
    }

    fn name_of(&self, file: &Path) -> String {
        let below = file.strip_prefix(self.local.path()).unwrap_or(file);
        below.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
    }

    fn holds(&self) -> Result<(), String> {
        let lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        match lease.as_ref().is_none_or(Lease::holds) {
            true => Ok(()),
            false => Err(format!(
                "{}: the lock of this shard was lost: another process has taken it, or the store did not answer",
                self.address()
            )),
        }
    }

    fn was_listed(&self, name: &str) -> bool {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner).contains_key(name)
    }

    fn listed_below(&self, name: &str) -> Vec<String> {
        let below = format!("{name}/");
        let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        listed.keys().filter(|key| key.starts_with(&below)).cloned().collect()
    }
}

impl Upstream for Mirror {
    fn put_result(&self, folder: &Path) -> Result<(), String> {
        self.holds()?;
        let name = self.name_of(folder);
        let record = format!("{name}/{RECORD}");
        // A record without its files would count as done.
        if self.was_listed(&record) {
            self.objects.remove(&record)?;
        }
        let files = files_below(folder).map_err(|e| format!("{}: cannot be read ({e})", folder.display()))?;
        let names: Vec<String> = files.iter().map(|file| self.name_of(file)).collect();
        for (file, name) in files.iter().zip(&names).filter(|(_, name)| **name != record) {
            self.objects.put_file(name, file)?;
        }
        for old in self.listed_below(&name).iter().filter(|old| **old != record && !names.contains(old)) {
            self.objects.remove(old)?;
        }
        self.holds()?;
        let file = folder.join(RECORD);
        let bytes = std::fs::read(&file).map_err(|e| format!("{}: cannot be read ({e})", file.display()))?;
        self.objects.put(&record, bytes, &When::Absent).map_err(|e| match e {
            PutError::Store(e) => e,
            PutError::Changed => {
                self.objects.failed(&record, "another process has written it: two write this shard")
            }
        })?;
        // What cannot be removed goes with the folder.
        let _ = std::fs::remove_dir_all(folder);
        let _ = folder.parent().map(std::fs::remove_dir);
        Ok(())
    }

    fn put_file(&self, file: &Path) -> Result<(), String> {
        self.holds()?;
        self.objects.put_file(&self.name_of(file), file)
    }

    fn remove_failure(&self, case: &str, plugin: &str) -> Result<(), String> {
        let name = format!("{case}.{plugin}.failed.json");
        if self.was_listed(&name) { self.objects.remove(&name) } else { Ok(()) }
    }
}

fn files_below(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    Ok(files)
}
