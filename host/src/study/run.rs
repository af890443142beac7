//! All cells of a study, one after the other: what is done is kept, what changed is done anew, what another process computes
//! is left to it, what fails has a row that says why.

use super::cell::{Cell, Computing, Found, unwritable};
use super::error::StudyError;
use super::locks::Locks;
use super::measure::Measuring;
use super::outside::outside_outcome;
use super::part::StudyPart;
use super::report::{Place, StudyTable};
use super::rows::{CellOutcome, NoFigures};
use super::study_plan::{PlannedBackbone, Study};
use crate::backbone::{Backbone, Precision};
use crate::device::DeviceChoice;
use crate::engine::open_backbone_on;
use crate::fs::write_atomically;
use crate::memory;
use crate::train::{MemoryPlan, PrefixCache, Progress};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where a study computes, and what it leaves.
pub struct StudyOptions {
    /// Folder of the tables, the pictures and the cells.
    pub out: PathBuf,
    /// Which of the cells are computed; the table has what is done of all of them.
    pub part: StudyPart,
    /// Nothing is computed: folds are written, and the table of what is done.
    pub plan: bool,
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
    /// Another process computes it, or a part of it.
    fn elsewhere(&mut self);
    /// It has no figures; why.
    fn failed(&mut self, reason: &str);
    /// For a training run of the cell.
    fn training(&mut self) -> Box<dyn Progress>;
}

/// What is written of the table whenever it grew; `true` once nothing more comes.
pub type Report<'a> = dyn FnMut(&StudyTable, bool) -> Result<(), StudyError> + 'a;

/// The cells of a backbone, or those without one.
struct Group<'a> {
    backbone: Option<&'a PlannedBackbone>,
    cells: Vec<(Place, Cell<'a>)>,
}

/// How far a cell is after its turn.
enum CellState {
    /// It was done before.
    Earlier(Box<CellOutcome>),
    Done(Box<CellOutcome>),
    /// Parts of it are not of this process.
    Open,
    /// A part of it that is this process's too is computed by another one.
    Elsewhere,
}

impl Study {
    /// Computes every cell of the part that is not done, and calls `report` after each. A call that was killed is taken up by the
    /// next one with the same folder. Several processes may share the folder: none does what another one does, and each waits at
    /// its end for what others compute of its part.
    ///
    /// # Errors
    /// When the folder cannot be written, or the process has too little memory. A cell that fails is a row of the table.
    pub fn run(
        &self,
        options: &StudyOptions,
        progress: &mut dyn StudyProgress,
        report: &mut Report<'_>,
    ) -> Result<StudyTable, StudyError> {
        let locks = Locks::open(&options.out)?;
        self.write_folds(&options.out)?;
        let memory = MemoryPlan::new(memory::limit(), memory::base()).map_err(StudyError::Memory)?;
        let mut table = StudyTable::new(self);
        self.read_outside(&mut table, options, progress);
        let mut groups = self.groups(&options.out);
        let (mut number, of) = (0, self.cells(&options.part));
        let mut identities = BTreeMap::new();
        // Cells that another process has are asked for once more when everything else is done.
        for wait in [false, true] {
            let mut elsewhere = Vec::new();
            for group in groups {
                let opened = group.backbone.map(|b| self.open_backbone(b, options, memory)).transpose();
                let fingerprint = opened.as_ref().map_err(Clone::clone);
                let fingerprint = fingerprint.map(|b| b.as_ref().map(|b| b.info().fingerprint.clone()));
                let with = opened.as_ref().map_err(Clone::clone).map(|backbone| Computing {
                    backbone: backbone.as_ref(),
                    precision: options.precision,
                    cache: &options.cache,
                    memory,
                    measuring: &options.measuring,
                    timed_scans: self.timed_scans,
                });
                if let Ok(fingerprint) = &fingerprint {
                    for (place, cell) in &group.cells {
                        identities.insert(*place, cell.identity(fingerprint.as_deref(), options.precision));
                    }
                }
                put_done(&mut table, &group.cells, &identities);
                let mut left = Vec::new();
                for (place, cell) in group.cells {
                    if options.plan || !options.part.has_task(&cell.task.name) {
                        continue;
                    }
                    number += usize::from(!wait);
                    progress.cell(number.min(of), of, &cell.name());
                    let places = Places { locks: &locks, part: &options.part, wait };
                    let state = with.clone().and_then(|with| {
                        let identity = identities.get(&place).ok_or("a backbone without a fingerprint")?;
                        places.advance(&cell, identity, with, progress)
                    });
                    match state {
                        Ok(CellState::Earlier(outcome)) => {
                            table.put(place, Ok(outcome));
                            continue;
                        }
                        Ok(CellState::Done(outcome)) => table.put(place, Ok(outcome)),
                        Ok(CellState::Open) => {}
                        Ok(CellState::Elsewhere) => left.push((place, cell)),
                        Err(reason) => {
                            progress.failed(&reason);
                            table.put(place, Err(NoFigures::Failed(reason)));
                        }
                    }
                    let _writing = locks.wait("table").map_err(|e| StudyError::folder(&options.out, e))?;
                    report(&table, false)?;
                }
                elsewhere.push(Group { backbone: group.backbone, cells: left });
            }
            groups = elsewhere.into_iter().filter(|group| !group.cells.is_empty()).collect();
        }
        let _writing = locks.wait("table").map_err(|e| StudyError::folder(&options.out, e))?;
        // What other processes finished in the meantime.
        for group in self.groups(&options.out) {
            put_done(&mut table, &group.cells, &identities);
        }
        report(&table, true)?;
        Ok(table)
    }

    /// How many cells a part of the study has.
    pub fn cells(&self, part: &StudyPart) -> usize {
        let groups = self.groups(Path::new(""));
        let cells = groups.iter().flat_map(|group| &group.cells);
        cells.filter(|(_, cell)| part.has_task(&cell.task.name)).count()
    }

    /// The cells of each backbone, before them those without one.
    fn groups(&self, out: &Path) -> Vec<Group<'_>> {
        let none = std::iter::once((self.backbones.len(), None));
        let with = self.backbones.iter().enumerate().map(|(b, backbone)| (b, Some(backbone)));
        let mut groups = Vec::new();
        for (b, backbone) in none.chain(with) {
            let mut cells = Vec::new();
            for (t, task) in self.tasks.iter().enumerate() {
                for (m, method) in self.methods.iter().enumerate() {
                    if method.kind.has_backbone() == backbone.is_some() && method.is_of(&task.entry) {
                        let answers = (method, self.stand_ins.get(&(t, m)));
                        cells.push(([t, b, m], Cell::new(out, task, backbone, answers)));
                    }
                }
            }
            if !cells.is_empty() {
                groups.push(Group { backbone, cells });
            }
        }
        groups
    }

    fn read_outside(&self, table: &mut StudyTable, options: &StudyOptions, progress: &mut dyn StudyProgress) {
        for (t, task) in self.tasks.iter().enumerate() {
            for (n, method) in self.outside.iter().enumerate() {
                let found = outside_outcome(task, method);
                if let Err(NoFigures::Failed(reason)) = &found
                    && options.part.has_task(&task.name)
                {
                    progress.failed(reason);
                }
                table.put([t, self.backbones.len(), self.methods.len() + n], found);
            }
        }
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

/// Enters the cells that are done and not in the table yet.
fn put_done(table: &mut StudyTable, cells: &[(Place, Cell<'_>)], identities: &BTreeMap<Place, Value>) {
    for (place, cell) in cells {
        if table.has(*place) {
            continue;
        }
        if let Some(Found::Done(done)) = identities.get(place).map(|identity| cell.find(identity)) {
            table.put(*place, Ok(Box::new(CellOutcome::of(*done))));
        }
    }
}

/// What decides which parts of a cell are this process's.
struct Places<'a> {
    locks: &'a Locks,
    part: &'a StudyPart,
    /// Whether to wait for what another process holds.
    wait: bool,
}

impl Places<'_> {
    /// A cell as it was left, or computed as far as it is this process's.
    fn advance(
        &self,
        cell: &Cell<'_>,
        identity: &Value,
        with: Computing<'_>,
        progress: &mut dyn StudyProgress,
    ) -> Result<CellState, String> {
        let name = cell.lock_name();
        if let Found::Done(done) = cell.find(identity) {
            progress.kept();
            return Ok(CellState::Earlier(Box::new(CellOutcome::of(*done))));
        }
        if let Some(_alone) = self.locks.alone(&name)? {
            if let Found::Changed(what) = cell.find(identity) {
                progress.changed(&what);
                cell.forget()?;
            }
            cell.begin(identity)?;
        }
        // From here on nobody takes the folder away.
        let Some(_shared) = self.locks.shared(&name)? else {
            progress.elsewhere();
            return Ok(CellState::Elsewhere);
        };
        if let Found::Changed(what) = cell.find(identity) {
            return Err(format!(
                "{what}, and another process computes the cell as it was; wait for it, or give another folder"
            ));
        }
        let (mut elsewhere, mut scalars) = (false, None);
        for part in cell.parts().filter(|part| self.part.has(part)) {
            let lock = format!("{name}.{}", part.lock_name());
            let held = match self.wait {
                true => Some(self.locks.wait(&lock)?),
                false => self.locks.alone(&lock)?,
            };
            match held {
                None => elsewhere = true,
                Some(_) if cell.has(&part) => {}
                Some(_held) => {
                    let mut training = progress.training();
                    cell.compute(&part, with, &mut scalars, training.as_mut())?;
                }
            }
        }
        if elsewhere {
            progress.elsewhere();
            return Ok(CellState::Elsewhere);
        }
        let done = cell.finish(identity, with, self.locks)?;
        Ok(done.map_or(CellState::Open, |done| CellState::Done(Box::new(CellOutcome::of(done)))))
    }
}

/// Writes files into a study's folder, each whole.
///
/// # Errors
/// When one cannot be written.
pub fn write_files(files: &[(String, Vec<u8>)], out: &Path) -> Result<(), StudyError> {
    for (name, bytes) in files {
        let path = out.join(name);
        write_atomically(&path, bytes).map_err(|e| StudyError::folder(out, unwritable(&path, &e)))?;
    }
    Ok(())
}
