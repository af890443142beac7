//! All cells of a study, one after the other: what is done is kept, what changed is done anew, what fails has a row that says
//! why.

use super::cell::{Cell, Computing, Found, unwritable};
use super::error::StudyError;
use super::measure::Measuring;
use super::report::StudyTable;
use super::rows::CellOutcome;
use super::study_plan::{PlannedBackbone, Study};
use crate::backbone::{Backbone, Precision};
use crate::device::DeviceChoice;
use crate::engine::open_backbone_on;
use crate::fs::write_atomically;
use crate::memory;
use crate::train::{MemoryPlan, PrefixCache, Progress};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// Where a study computes, and what it leaves.
pub struct StudyOptions {
    /// Folder of the tables, the pictures and the cells.
    pub out: PathBuf,
    /// Numbers of the large products.
    pub precision: Precision,
    /// Where to compute.
    pub device: DeviceChoice,
    /// Most bytes of a device's own memory.
    pub device_memory: Option<usize>,
    /// Frozen features; each is computed once per backbone and case.
    pub cache: PrefixCache,
    /// How scans are measured.
    pub measuring: Measuring,
}

/// Hears of a study while it goes on.
pub trait StudyProgress {
    /// A cell's turn has come: its number from 1, how many there are, and its name.
    fn cell(&mut self, number: usize, of: usize, name: &str);
    /// It was done by an earlier call.
    fn kept(&mut self);
    /// It is done anew, since something changed.
    fn changed(&mut self, what: &str);
    /// It has no figures; why.
    fn failed(&mut self, reason: &str);
    /// For a training run of the cell.
    fn training(&mut self) -> Box<dyn Progress>;
}

impl Study {
    /// Computes every cell that is not done, and writes the tables and the picture after each. A call that was killed is taken
    /// up by the next one with the same folder.
    ///
    /// # Errors
    /// When the folder cannot be written or another call writes into it, or the process has too little memory. A cell that
    /// fails is a row of the table.
    pub fn run(
        &self,
        options: &StudyOptions,
        progress: &mut dyn StudyProgress,
    ) -> Result<StudyTable, StudyError> {
        let _lock = lock(&options.out)?;
        let memory = MemoryPlan::new(memory::limit(), memory::base()).map_err(StudyError::Memory)?;
        let mut table = StudyTable::new(self);
        for (b, backbone) in self.backbones.iter().enumerate() {
            let opened = self.open_backbone(backbone, options, memory);
            for (t, task) in self.tasks.iter().enumerate() {
                for (m, method) in self.methods.iter().enumerate() {
                    let cell = Cell::new(&options.out, task, backbone, method);
                    progress.cell(table.len() + 1, self.cells(), &cell.name());
                    let with = opened.as_ref().map(|opened| Computing {
                        backbone: opened,
                        precision: options.precision,
                        cache: &options.cache,
                        memory,
                        measuring: &options.measuring,
                        timed_scans: self.timed_scans,
                    });
                    let outcome = with.map_err(Clone::clone).and_then(|with| one(&cell, with, progress));
                    if let Err(reason) = &outcome {
                        progress.failed(reason);
                    }
                    table.put([t, b, m], outcome.map(Box::new));
                    write(&table, &options.out)?;
                }
            }
        }
        Ok(table)
    }

    fn open_backbone(
        &self,
        backbone: &PlannedBackbone,
        options: &StudyOptions,
        memory: MemoryPlan,
    ) -> Result<Backbone, String> {
        let place = (options.device, options.device_memory);
        let folder = backbone.folder.display().to_string();
        let mut opened =
            open_backbone_on(Some(&folder), options.precision, place).map_err(|e| e.to_string())?;
        opened.keep_at_most(memory.kept_bytes);
        Ok(opened)
    }
}

/// A cell as it was left, or computed.
fn one(
    cell: &Cell<'_>,
    with: Computing<'_>,
    progress: &mut dyn StudyProgress,
) -> Result<CellOutcome, String> {
    let identity = cell.identity(&with.backbone.info().fingerprint, with.precision);
    match cell.find(&identity) {
        Found::Done(done) => {
            progress.kept();
            return Ok(CellOutcome::of(*done));
        }
        Found::ToDo => {}
        Found::Changed(what) => {
            progress.changed(&what);
            cell.forget()?;
        }
    }
    let mut training = progress.training();
    cell.compute(&identity, with, training.as_mut()).map(CellOutcome::of)
}

/// The study's files, each whole.
fn write(table: &StudyTable, out: &Path) -> Result<(), StudyError> {
    for (name, bytes) in table.files() {
        let path = out.join(name);
        write_atomically(&path, &bytes).map_err(|e| failed(&path, format!("cannot be written ({e})")))?;
    }
    Ok(())
}

fn failed(path: &Path, reason: String) -> StudyError {
    StudyError::Folder { path: path.to_owned(), reason }
}

/// Holds the folder for this call; the system lets go of it when the process ends, however it ends.
fn lock(out: &Path) -> Result<File, StudyError> {
    let path = out.join(".study.lock");
    let made = std::fs::create_dir_all(out)
        .and_then(|()| File::options().create(true).truncate(false).write(true).open(&path));
    let file = made.map_err(|e| failed(out, unwritable(&path, &e)))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(failed(out, "another study is writing into this folder; wait for it, or give another".into()))
        }
        Err(TryLockError::Error(e)) => Err(failed(out, format!("cannot be locked ({e})"))),
    }
}
