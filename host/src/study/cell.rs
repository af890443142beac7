//! A cell of the table: one task on one backbone by one method. It trains once per seed and fold, scores the test cases, and
//! leaves a folder that a later call takes up.

use super::file::{MethodEntry, folder_name};
use super::measure::{Measured, Measuring, ScanCost};
use super::study_plan::{PlannedBackbone, PlannedTask, Trial};
use crate::backbone::{Backbone, Precision};
use crate::engine::precision_name;
use crate::eval::predictions::Predictions;
use crate::fs::write_atomically;
use crate::train::{
    MemoryPlan, PrefixCache, Progress, TEST_PREDICTIONS, TrainContext, score_test_set, train,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

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
}

/// A cell that is done: its record, and what each seed said of the test cases.
pub(super) struct DoneCell {
    pub record: CellRecord,
    pub seeds: Vec<Predictions>,
}

const SCHEMA: &str = "anymc3d/study_cell/1";
const BEGUN: &str = "begun.json";
const DONE: &str = "cell.json";

/// What a cell is computed from.
pub(super) struct Cell<'a> {
    pub task: &'a PlannedTask,
    pub backbone: &'a PlannedBackbone,
    pub method: &'a MethodEntry,
    pub folder: PathBuf,
}

/// What all cells of a backbone share.
#[derive(Clone, Copy)]
pub(super) struct Computing<'a> {
    pub backbone: &'a Backbone,
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

impl<'a> Cell<'a> {
    pub fn new(
        out: &Path,
        task: &'a PlannedTask,
        backbone: &'a PlannedBackbone,
        method: &'a MethodEntry,
    ) -> Self {
        let names = [&task.name, &backbone.name, &method.name].map(|name| folder_name(name));
        let folder = names.iter().fold(out.join("cells"), |folder, name| folder.join(name));
        Self { task, backbone, method, folder }
    }

    /// In messages.
    pub fn name(&self) -> String {
        format!("{}, {}, {}", self.task.name, self.backbone.name, self.method.name)
    }

    /// What decides the cell's figures, so that a change of it is seen.
    pub fn identity(&self, fingerprint: &str, precision: Precision) -> Value {
        let view = self.task.entry.view();
        let mut options = json!(self.method.options(0, &view, self.task.entry.any_backbone));
        if let Some(options) = options.as_object_mut() {
            options.remove("seed");
        }
        json!({
            "task": self.task.identity, "backbone": fingerprint, "precision": precision_name(precision),
            "seeds": self.method.seeds(), "options": options, "host": env!("CARGO_PKG_VERSION"),
        })
    }

    /// Looks for what an earlier call left.
    pub fn find(&self, identity: &Value) -> Found {
        let read = |file: &str| -> Option<Value> {
            serde_json::from_slice(&std::fs::read(self.folder.join(file)).ok()?).ok()
        };
        let Some(begun) = read(BEGUN) else {
            // Without a word of what it is of, it is nobody's.
            return match self.folder.exists() {
                true => Found::Changed("what it was begun as is not known".to_owned()),
                false => Found::ToDo,
            };
        };
        if let Some(what) = difference(&begun, identity, "") {
            return Found::Changed(what);
        }
        let record = read(DONE).and_then(|record| serde_json::from_value::<CellRecord>(record).ok());
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

    fn runs(&self) -> impl Iterator<Item = (u64, Option<usize>, &Trial)> {
        let folds = self.task.trials.len() > 1;
        let trials = move || self.task.trials.iter().enumerate();
        self.method
            .seeds()
            .into_iter()
            .flat_map(move |seed| trials().map(move |(n, trial)| (seed, folds.then_some(n + 1), trial)))
    }

    fn run_folder(&self, seed: u64, fold: Option<usize>) -> PathBuf {
        let folder = self.folder.join(format!("seed-{seed}"));
        fold.map_or(folder.clone(), |fold| folder.join(format!("fold-{fold}")))
    }

    /// Trains, scores and measures; what was begun is taken up.
    pub fn compute(
        &self,
        identity: &Value,
        with: Computing<'_>,
        progress: &mut dyn Progress,
    ) -> Result<DoneCell, String> {
        std::fs::create_dir_all(&self.folder).map_err(|e| unwritable(&self.folder, &e))?;
        self.write(BEGUN, identity)?;
        let (mut runs, mut parameters, mut weights) = (Vec::new(), 0, None);
        for (seed, fold, trial) in self.runs() {
            let out = self.run_folder(seed, fold);
            let context = TrainContext {
                library: &self.task.library,
                backbone: with.backbone,
                precision: with.precision,
                table: &self.task.table,
                split: &trial.split,
                cache: with.cache,
                memory: with.memory,
                contents: None,
                start: None,
                intended_use: Some("Research only. Not for diagnosis. Weights of a comparison of backbones."),
            };
            let view = self.task.entry.view();
            let options = self.method.options(seed, &view, self.task.entry.any_backbone);
            let trained = train(context, &options, &out, true, progress).map_err(|e| e.to_string())?;
            let tested = score_test_set(context, &options, &trained, &trial.test, &out);
            let record = &trained.record;
            parameters = record.all_parameters();
            runs.push(RunRecord {
                seed,
                fold,
                best_epoch: record.best_epoch,
                val_auroc: record.val_auroc,
                test_auroc: tested.map_err(|e| e.to_string())?,
                seconds: record.seconds,
            });
            weights.get_or_insert(trained.weights);
        }
        let weights = weights.ok_or("nothing was trained")?;
        let measured = Measured {
            library: &self.task.library.path,
            weights,
            backbone: &self.backbone.folder,
            precision: with.precision,
        };
        let cost = with.measuring.measure(&measured, &self.task.timed(with.timed_scans))?;
        let seeds = self.seeds_read()?;
        let (schema, identity) = (SCHEMA.to_owned(), identity.clone());
        let record = CellRecord { schema, identity, parameters, runs, cost };
        // Last: what a killed call repeats it repeats whole.
        self.write(DONE, &json!(record))?;
        Ok(DoneCell { record, seeds })
    }

    /// What each seed said of the test cases, each case by the fold that did not train on it.
    fn seeds_read(&self) -> Result<Vec<Predictions>, String> {
        let mut all: Vec<(u64, Predictions)> = Vec::new();
        for (seed, fold, _) in self.runs() {
            let path = self.run_folder(seed, fold).join(TEST_PREDICTIONS);
            let mut one = Predictions::open(&path).map_err(|e| e.to_string())?;
            one.cases.iter_mut().for_each(|case| case.fold = fold.map(|fold| fold.to_string()));
            match all.last_mut().filter(|(of, _)| *of == seed) {
                Some((_, before)) => {
                    let joined = before.clone().joined(one);
                    *before =
                        joined.ok_or_else(|| format!("{}: other labels than fold 1", path.display()))?;
                }
                None => all.push((seed, one)),
            }
        }
        Ok(all.into_iter().map(|(_, predictions)| predictions).collect())
    }

    fn write(&self, file: &str, value: &Value) -> Result<(), String> {
        let (path, text) = (self.folder.join(file), serde_json::to_vec_pretty(value));
        write_atomically(&path, &text.map_err(|e| e.to_string())?).map_err(|e| unwritable(&path, &e))
    }
}

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
