//! What a study computes: its plugins, tables and backbones found, before the first of them is used.

use super::error::StudyError;
use super::file::{BackboneEntry, MethodEntry, StudyFile, TaskEntry};
use crate::data::table::{LabelColumns, Part, Problem, Split, Table, TableError, digest_of};
use crate::engine::backbone_store::check_licence;
use crate::engine::{Case, FindBackboneError, find_backbone};
use crate::plugin::{Library, find};
use crate::task::open_library;
use anymc3d_manifest::TaskKind;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Which cases of a task train and choose the epoch, and which are scored by what comes of it.
pub(super) struct Trial {
    pub split: Split,
    pub test: Vec<usize>,
}

/// A task with its plugin and its cases.
pub(super) struct PlannedTask {
    pub name: String,
    pub entry: TaskEntry,
    pub library: Library,
    pub table: Table,
    /// One, or one per fold.
    pub trials: Vec<Trial>,
    /// What decides the cases: names, labels and parts.
    pub identity: Value,
}

/// A backbone that was found.
pub(super) struct PlannedBackbone {
    pub name: String,
    pub folder: PathBuf,
}

/// A study that can begin.
pub struct Study {
    pub(super) tasks: Vec<PlannedTask>,
    pub(super) backbones: Vec<PlannedBackbone>,
    pub(super) methods: Vec<MethodEntry>,
    /// Names of a backbone and a method.
    pub(super) baseline: (String, String),
    pub(super) timed_scans: usize,
}

impl Study {
    /// Reads a study file and finds everything that it names. Plugins and backbone folders lie below the study file's folder,
    /// tables below `data`, which is that folder too where none is given.
    ///
    /// # Errors
    /// When the file does not make sense, a plugin or a backbone is not found or refused, a licence was not accepted, or a
    /// table cannot be used. Nothing was computed.
    pub fn open(path: &Path, data: Option<&Path>) -> Result<Self, StudyError> {
        let file = StudyFile::read(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let data = data.unwrap_or(folder);
        let backbones = file.backbones.iter().map(|entry| found(entry, folder)).collect::<Result<_, _>>()?;
        let refuse = |reason: String| StudyError::File { path: path.to_owned(), reason };
        let task = |entry: &TaskEntry| planned(entry, (folder, data), file.study.seed, &refuse);
        let tasks = file.tasks.iter().map(task).collect::<Result<_, _>>()?;
        let (backbone, method) = file.baseline();
        Ok(Self {
            tasks,
            backbones,
            baseline: (backbone.to_owned(), method.to_owned()),
            timed_scans: file.study.timed_scans,
            methods: file.methods,
        })
    }

    /// Cells of the table: tasks times backbones times methods.
    pub fn cells(&self) -> usize {
        self.tasks.len() * self.backbones.len() * self.methods.len()
    }
}

fn found(entry: &BackboneEntry, folder: &Path) -> Result<PlannedBackbone, StudyError> {
    let wanted = match &entry.folder {
        Some(below) => folder.join(below).display().to_string(),
        None => entry.name.clone(),
    };
    let folder = find_backbone(&wanted).map_err(StudyError::Backbone)?;
    check_licence(&folder).map_err(|e| StudyError::Backbone(FindBackboneError::from(e)))?;
    Ok(PlannedBackbone { name: entry.name.clone(), folder })
}

fn planned(
    entry: &TaskEntry,
    (folder, data): (&Path, &Path),
    seed: u64,
    refuse: &dyn Fn(String) -> StudyError,
) -> Result<PlannedTask, StudyError> {
    let name = entry.row_name();
    // A name is looked for where plugins are; a path lies below the study file.
    let is_path = Path::new(&entry.plugin).components().count() > 1;
    let wanted =
        if is_path { folder.join(&entry.plugin).display().to_string() } else { entry.plugin.clone() };
    let library = find::library(&wanted).and_then(|found| open_library(&found.display().to_string()));
    let library = library.map_err(|source| StudyError::Plugin { task: name.clone(), source })?;
    let manifest = &library.embedded.manifest;
    if matches!(manifest.task.kind, TaskKind::Ordinal | TaskKind::Regression) {
        let kind = manifest.task.kind;
        return Err(refuse(format!(
            "[[task]] `{name}`: a {kind:?} task has no AUROC, which a study compares"
        )));
    }
    let pairs = entry.labels.iter().map(|(label, column)| (label.as_str(), column.as_str()));
    let columns = LabelColumns::new(pairs, manifest)
        .map_err(|reason| refuse(format!("[[task]] `{name}`: labels: {reason}")))?;
    let path = data.join(&entry.table);
    let unusable = |source: TableError| StudyError::Table { task: name.clone(), source };
    let mut table = columns.open(&path, manifest).map_err(unusable)?;
    let mut digests = vec![digest(&path, &name)?];
    let trials = match (&entry.test, entry.folds) {
        (Some(test), _) => {
            let test = data.join(test);
            let more = columns.open(&test, manifest).map_err(unusable)?;
            digests.push(digest(&test, &name)?);
            let split = table.split(VALIDATION, seed);
            let test = table
                .append(more, "learns or is tested")
                .map_err(|reason| refuse(format!("[[task]] `{name}`: {reason}")))?;
            vec![Trial { split, test }]
        }
        (None, Some(k)) => folds(&table, k, seed),
        (None, None) => {
            vec![Trial { split: table.split(VALIDATION, seed), test: table.part(Part::Test) }]
        }
    };
    if trials.iter().any(|t| t.test.is_empty() || t.split.train.is_empty() || t.split.val.is_empty()) {
        let parts = trials.iter().map(|t| [t.split.train.len(), t.split.val.len(), t.test.len()]);
        let [train, val, test] = parts.min_by_key(|p| p.iter().copied().min()).unwrap_or_default();
        let what = format!(
            "{train} cases to train on, {val} to choose the epoch by and {test} to test on, expected some of each; give \
             `folds`, a table `test`, or a column `split`"
        );
        let problems = vec![Problem { line: None, what }];
        return Err(unusable(TableError { path: table.path, problems }));
    }
    let identity = json!({
        "plugin": format!("{} {}", manifest.plugin.name, manifest.plugin.version),
        "library_sha256": library.sha256, "tables_sha256": digests, "labels": entry.labels, "folds": entry.folds,
        "split_seed": seed,
    });
    Ok(PlannedTask { name, entry: entry.clone(), library, table, trials, identity })
}

/// Share of the cases that choose the epoch where nothing says which.
const VALIDATION: f64 = 0.2;

/// Each fold is tested once. The next one chooses the epoch: a case that chose it would flatter what it is scored by.
fn folds(table: &Table, k: usize, seed: u64) -> Vec<Trial> {
    let parts: Vec<Vec<usize>> = table.folds(k, seed).into_iter().map(|split| split.val).collect();
    let trial = |fold: usize| {
        let choosing = (fold + 1) % k;
        let mut train: Vec<usize> =
            (0..k).filter(|n| *n != fold && *n != choosing).flat_map(|n| parts[n].iter().copied()).collect();
        train.sort_unstable();
        Trial { split: Split { train, val: parts[choosing].clone() }, test: parts[fold].clone() }
    };
    (0..k).map(trial).collect()
}

fn digest(path: &Path, task: &str) -> Result<String, StudyError> {
    digest_of(path).map_err(|e| {
        let problems = vec![Problem { line: None, what: format!("cannot be read ({e})") }];
        StudyError::Table { task: task.to_owned(), source: TableError { path: path.to_owned(), problems } }
    })
}

impl PlannedTask {
    /// The first test cases, as a run is asked for them.
    pub fn timed(&self, count: usize) -> Vec<Case> {
        let rows = self.trials.iter().flat_map(|trial| &trial.test).map(|&i| &self.table.rows[i]);
        let case = |row: &crate::data::table::Row| Case {
            name: row.case.clone(),
            region: row.region(),
            views: row.images.clone().into_iter().collect(),
            ..Case::default()
        };
        rows.take(count).map(case).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::table::Row;
    use std::collections::BTreeSet;

    #[test]
    fn every_fold_is_tested_once_by_a_model_whose_epoch_another_fold_chose() {
        let row = |i: usize| Row {
            labels: vec![Some((i % 2) as f32)],
            patient: Some(format!("p{}", i / 2)),
            ..Row::named(format!("c{i}"))
        };
        let table = Table {
            path: "t.csv".into(),
            kind: TaskKind::Binary,
            labels: vec!["a".into()],
            range: None,
            rows: (0..40).map(row).collect(),
        };
        let trials = folds(&table, 5, 1);
        let mut tested: Vec<usize> = Vec::new();
        for trial in &trials {
            let mut all: Vec<usize> =
                [&trial.split.train, &trial.split.val, &trial.test].into_iter().flatten().copied().collect();
            all.sort_unstable();
            assert_eq!(all, (0..40).collect::<Vec<_>>());
            let patients = |of: &[usize]| of.iter().map(|i| i / 2).collect::<BTreeSet<_>>();
            assert!(patients(&trial.test).is_disjoint(&patients(&trial.split.train)));
            tested.extend(&trial.test);
        }
        tested.sort_unstable();
        assert_eq!(tested, (0..40).collect::<Vec<_>>());
    }
}
