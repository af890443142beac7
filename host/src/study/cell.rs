//! A cell of the table: one task on one backbone by one method. It trains once per seed and fold, scores the test cases, and
//! leaves a folder that a later call takes up.

use super::file::folder_name;
use super::locks::Locks;
use super::measure::{Measured, Measuring, ScanCost};
use super::method::{MethodEntry, MethodKind};
use super::scalars::CaseScalars;
use super::study_plan::{PlannedBackbone, PlannedTask, StandIn, Trial};
use crate::backbone::{Backbone, Precision};
use crate::data::table::Table;
use crate::engine::precision_name;
use crate::eval::predictions::Predictions;
use crate::fs::write_atomically;
use crate::plugin::Library;
use crate::train::{
    MemoryPlan, PrefixCache, Progress, TEST_PREDICTIONS, TrainContext, score_test_set, train,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What a cell's folder says of it once it is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct CellRecord {
    /// `anymc3d/study_cell/1`.
    pub schema: String,
    /// What decides its figures.
    pub identity: Value,
    /// Trained numbers.
    pub parameters: usize,
    pub runs: Vec<RunRecord>,
    pub cost: Option<ScanCost>,
}

/// A training run of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RunRecord {
    pub seed: u64,
    /// From 1; of a task without folds absent.
    pub fold: Option<usize>,
    pub best_epoch: usize,
    pub val_auroc: Option<f64>,
    pub test_auroc: Option<f64>,
    pub seconds: f64,
    /// Trained numbers.
    #[serde(default)]
    pub parameters: usize,
    /// What a case takes, where it was measured along the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<ScanCost>,
}

/// A cell that is done: its record, and what each seed said of the test cases.
pub(super) struct DoneCell {
    pub record: CellRecord,
    pub seeds: Vec<Predictions>,
}

const SCHEMA: &str = "anymc3d/study_cell/1";
const BEGUN: &str = "begun.json";
const DONE: &str = "cell.json";
/// In a run's folder: its record, written when its test cases are scored.
const RUN: &str = "run.json";

/// What a cell is computed from.
pub(super) struct Cell<'a> {
    pub task: &'a PlannedTask,
    /// Absent of a method without a backbone.
    pub backbone: Option<&'a PlannedBackbone>,
    pub method: &'a MethodEntry,
    /// What answers in the place of the task's plugin.
    pub stand_in: Option<&'a StandIn>,
    pub folder: PathBuf,
}

/// What all cells of a backbone share.
#[derive(Clone, Copy)]
pub(super) struct Computing<'a> {
    /// Absent for the cells without one.
    pub backbone: Option<&'a Backbone>,
    pub precision: Precision,
    pub cache: &'a PrefixCache,
    pub memory: MemoryPlan,
    pub measuring: &'a Measuring,
    pub timed_scans: usize,
}

/// What lies in a cell's folder.
pub(super) enum Found {
    Done(Box<DoneCell>),
    /// Nothing, or what the same cell began.
    ToDo,
    /// What another cell left: its first difference.
    Changed(String),
}

/// A training run that a cell consists of.
pub(super) struct Part<'a> {
    seed: u64,
    /// From 1; absent where the task has no folds.
    fold: Option<usize>,
    trial: &'a Trial,
}

impl<'a> Cell<'a> {
    pub fn new(
        out: &Path,
        task: &'a PlannedTask,
        backbone: Option<&'a PlannedBackbone>,
        (method, stand_in): (&'a MethodEntry, Option<&'a StandIn>),
    ) -> Self {
        let backbone_name = backbone.map_or(NO_BACKBONE, |b| &b.name);
        let names = [&task.name, backbone_name, &method.name].map(folder_name);
        let folder = names.iter().fold(out.join("cells"), |folder, name| folder.join(name));
        Self { task, backbone, method, stand_in, folder }
    }

    /// In messages.
    pub fn name(&self) -> String {
        let names = [Some(&self.task.name), self.backbone.map(|b| &b.name), Some(&self.method.name)];
        names.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// Of its locks: the folder's name with dots.
    pub fn lock_name(&self) -> String {
        let backbone = self.backbone.map_or(NO_BACKBONE, |b| &b.name);
        [&self.task.name, backbone, &self.method.name].map(folder_name).join(".")
    }

    fn library(&self) -> &'a Library {
        self.stand_in.map_or(&self.task.library, |other| &other.library)
    }

    fn table(&self) -> &'a Table {
        self.stand_in.map_or(&self.task.table, |other| &other.table)
    }

    /// What decides the cell's figures, so that a change of it is seen.
    pub fn identity(&self, fingerprint: Option<&str>, precision: Precision) -> Value {
        let host = env!("CARGO_PKG_VERSION");
        if self.method.kind == MethodKind::Scalars {
            return json!({ "task": self.task.identity, "scalars": 1, "host": host });
        }
        let view = self.task.entry.view();
        let mut options = json!(self.method.options(0, &view, self.task.entry.any_backbone));
        if let Some(options) = options.as_object_mut() {
            options.remove("seed");
        }
        let mut identity = json!({
            "task": self.task.identity, "backbone": fingerprint, "precision": precision_name(precision),
            "seeds": self.method.seeds(), "options": options, "host": host,
        });
        if let (Some(other), Some(identity)) = (self.stand_in, identity.as_object_mut()) {
            identity.insert("plugin_sha256".to_owned(), json!(other.library.sha256));
        }
        identity
    }

    /// Looks for what an earlier call left.
    pub fn find(&self, identity: &Value) -> Found {
        let Some(begun) = self.read::<Value>(BEGUN) else {
            // Without a word of what it is of, it is nobody's.
            return match self.folder.exists() {
                true => Found::Changed("what it was begun as is not known".to_owned()),
                false => Found::ToDo,
            };
        };
        if let Some(what) = difference(&begun, identity, "") {
            return Found::Changed(what);
        }
        let record = self.read::<CellRecord>(DONE);
        let done = record.filter(|r| r.schema == SCHEMA && r.identity == *identity).and_then(|record| {
            let seeds = self.seeds_read().ok()?;
            Some(Box::new(DoneCell { record, seeds }))
        });
        done.map_or(Found::ToDo, Found::Done)
    }

    /// Takes the folder away.
    pub fn forget(&self) -> Result<(), String> {
        match std::fs::remove_dir_all(&self.folder) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(unwritable(&self.folder, &e)),
            _ => Ok(()),
        }
    }

    /// Writes down what the folder is of.
    pub fn begin(&self, identity: &Value) -> Result<(), String> {
        std::fs::create_dir_all(&self.folder).map_err(|e| unwritable(&self.folder, &e))?;
        self.write(BEGUN, identity)
    }

    /// Its runs, seed by seed.
    pub fn parts(&self) -> impl Iterator<Item = Part<'a>> {
        let task: &'a PlannedTask = self.task;
        let folds = task.trials.len() > 1;
        let trials = move || task.trials.iter().enumerate();
        let part = move |seed| move |(n, trial)| Part { seed, fold: folds.then_some(n + 1), trial };
        self.method.seeds().into_iter().flat_map(move |seed| trials().map(part(seed)))
    }

    fn run_folder(&self, part: &Part<'_>) -> PathBuf {
        let folder = self.folder.join(format!("seed-{}", part.seed));
        part.fold.map_or(folder.clone(), |fold| folder.join(format!("fold-{fold}")))
    }

    /// What a part left once it was done.
    fn record_of(&self, part: &Part<'_>) -> Option<RunRecord> {
        let folder = self.run_folder(part);
        let record = serde_json::from_slice(&std::fs::read(folder.join(RUN)).ok()?).ok()?;
        folder.join(TEST_PREDICTIONS).exists().then_some(record)
    }

    /// Whether a part is done.
    pub fn has(&self, part: &Part<'_>) -> bool {
        self.record_of(part).is_some()
    }

    /// Trains a part and scores its test cases; what was begun is taken up.
    pub fn compute(
        &self,
        part: &Part<'_>,
        with: Computing<'_>,
        scalars: &mut Option<CaseScalars>,
        progress: &mut dyn Progress,
    ) -> Result<(), String> {
        let out = self.run_folder(part);
        let record = match self.method.kind {
            MethodKind::Scalars => self.fitted(part, scalars, &out)?,
            _ => self.trained(part, with, &out, progress)?,
        };
        let (path, text) = (out.join(RUN), serde_json::to_vec_pretty(&record));
        write_atomically(&path, &text.map_err(|e| e.to_string())?).map_err(|e| unwritable(&path, &e))
    }

    fn trained(
        &self,
        part: &Part<'_>,
        with: Computing<'_>,
        out: &Path,
        progress: &mut dyn Progress,
    ) -> Result<RunRecord, String> {
        let context = TrainContext {
            library: self.library(),
            backbone: with.backbone.ok_or("a method that trains has a backbone")?,
            precision: with.precision,
            table: self.table(),
            split: &part.trial.split,
            cache: with.cache,
            memory: with.memory,
            contents: None,
            start: None,
            intended_use: Some("Research only. Not for diagnosis. Weights of a comparison."),
        };
        let view = self.task.entry.view();
        let options = self.method.options(part.seed, &view, self.task.entry.any_backbone);
        let trained = train(context, &options, out, true, progress).map_err(|e| e.to_string())?;
        let tested = score_test_set(context, &options, &trained, &part.trial.test, out);
        let (adapter, head, decoder) = trained.record.parameters;
        Ok(RunRecord {
            seed: part.seed,
            fold: part.fold,
            best_epoch: trained.record.best_epoch,
            val_auroc: trained.record.val_auroc,
            test_auroc: tested.map_err(|e| e.to_string())?,
            seconds: trained.record.seconds,
            // Without a loss of masks nothing trains a decoder.
            parameters: adapter + head + if options.lambda > 0.0 { decoder } else { 0 },
            cost: None,
        })
    }

    fn fitted(
        &self,
        part: &Part<'_>,
        scalars: &mut Option<CaseScalars>,
        out: &Path,
    ) -> Result<RunRecord, String> {
        let start = Instant::now();
        std::fs::create_dir_all(out).map_err(|e| unwritable(out, &e))?;
        if scalars.is_none() {
            let trials: Vec<&Trial> = self.task.trials.iter().collect();
            *scalars = Some(CaseScalars::read(self.task, &trials)?);
        }
        let scalars = scalars.as_ref().ok_or("no case was read")?;
        let path = out.join(TEST_PREDICTIONS);
        let said = scalars.score(self.task, part.trial);
        write_atomically(&path, &said.csv()).map_err(|e| unwritable(&path, &e))?;
        let outputs = self.task.table.rows.first().map_or(0, |row| row.labels.len());
        Ok(RunRecord {
            seed: part.seed,
            fold: part.fold,
            best_epoch: 0,
            val_auroc: None,
            test_auroc: None,
            seconds: start.elapsed().as_secs_f64(),
            parameters: outputs * (scalars.columns() + 1),
            cost: scalars.cost(),
        })
    }

    /// Measures a cell whose parts are all done, and writes down that it is; `None` while parts are missing.
    pub fn finish(
        &self,
        identity: &Value,
        with: Computing<'_>,
        locks: &Locks,
    ) -> Result<Option<DoneCell>, String> {
        let runs: Option<Vec<RunRecord>> = self.parts().map(|part| self.record_of(&part)).collect();
        let Some(runs) = runs else { return Ok(None) };
        let _one = locks.wait(&format!("{}.finish", self.lock_name()))?;
        if let Found::Done(done) = self.find(identity) {
            return Ok(Some(*done));
        }
        let first = self.parts().next().ok_or("nothing was trained")?;
        let weights = format!("{}.safetensors", self.library().embedded.manifest.plugin.name);
        let cost = match self.backbone {
            None => runs.iter().find_map(|run| run.cost),
            Some(backbone) => {
                let measured = Measured {
                    library: &self.library().path,
                    weights: self.run_folder(&first).join(weights),
                    backbone: &backbone.folder,
                    precision: with.precision,
                };
                with.measuring.measure(&measured, &self.task.timed(with.timed_scans, self.table()))?
            }
        };
        let seeds = self.seeds_read()?;
        let parameters = runs.first().map_or(0, |run| run.parameters);
        let (schema, identity) = (SCHEMA.to_owned(), identity.clone());
        let record = CellRecord { schema, identity, parameters, runs, cost };
        // Last: what a killed call repeats it repeats whole.
        self.write(DONE, &json!(record))?;
        Ok(Some(DoneCell { record, seeds }))
    }

    /// What each seed said of the test cases, each case by the fold that did not train on it.
    fn seeds_read(&self) -> Result<Vec<Predictions>, String> {
        let mut all: Vec<(u64, Predictions)> = Vec::new();
        for part in self.parts() {
            let path = self.run_folder(&part).join(TEST_PREDICTIONS);
            let mut one = Predictions::open(&path).map_err(|e| e.to_string())?;
            one.cases.iter_mut().for_each(|case| case.fold = part.fold.map(|fold| fold.to_string()));
            match all.last_mut().filter(|(of, _)| *of == part.seed) {
                Some((_, before)) => {
                    let joined = before.clone().joined(one);
                    *before =
                        joined.ok_or_else(|| format!("{}: other labels than fold 1", path.display()))?;
                }
                None => all.push((part.seed, one)),
            }
        }
        all.into_iter().map(|(_, predictions)| self.task.as_question(predictions)).collect()
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, file: &str) -> Option<T> {
        serde_json::from_slice(&std::fs::read(self.folder.join(file)).ok()?).ok()
    }

    fn write(&self, file: &str, value: &Value) -> Result<(), String> {
        let (path, text) = (self.folder.join(file), serde_json::to_vec_pretty(value));
        write_atomically(&path, &text.map_err(|e| e.to_string())?).map_err(|e| unwritable(&path, &e))
    }
}

impl Part<'_> {
    /// From 0; 0 where the task has no folds.
    pub fn fold_index(&self) -> usize {
        self.fold.map_or(0, |fold| fold - 1)
    }

    /// Of its lock, behind the cell's.
    pub fn lock_name(&self) -> String {
        format!("seed-{}.fold-{}", self.seed, self.fold.unwrap_or(0))
    }
}

/// What stands in the place of a backbone's name where there is none.
pub(super) const NO_BACKBONE: &str = "none";

pub(super) fn unwritable(path: &Path, e: &std::io::Error) -> String {
    format!("{}: cannot be written ({e})", path.display())
}

/// The first key whose values differ, with both.
fn difference(before: &Value, now: &Value, key: &str) -> Option<String> {
    if let (Value::Object(b), Value::Object(n)) = (before, now) {
        let keys: std::collections::BTreeSet<&String> = b.keys().chain(n.keys()).collect();
        return keys.into_iter().find_map(|k| {
            let key = if key.is_empty() { k.clone() } else { format!("{key}.{k}") };
            difference(b.get(k).unwrap_or(&Value::Null), n.get(k).unwrap_or(&Value::Null), &key)
        });
    }
    (before != now).then(|| format!("{key} was {before}, now it is {now}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named_by_its_key() {
        let before = json!({"options": {"lr": 0.1, "batch": 4}, "host": "1"});
        let now = json!({"options": {"lr": 0.2, "batch": 4}, "host": "1"});
        assert_eq!(difference(&before, &before, ""), None);
        assert_eq!(difference(&before, &now, "").as_deref(), Some("options.lr was 0.1, now it is 0.2"));
        let more = json!({"options": {"lr": 0.1, "batch": 4, "rank": 8}, "host": "1"});
        assert_eq!(difference(&before, &more, "").as_deref(), Some("options.rank was null, now it is 8"));
    }
}
