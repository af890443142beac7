//! What a study computes: its plugins, tables and backbones found, before the first of them is used.

use super::error::StudyError;
use super::file::{BackboneEntry, StudyFile};
use super::method::MethodEntry;
use super::task_entry::TaskEntry;
use crate::data::table::{LabelColumns, Part, Problem, Row, Split, Table, TableError, digest_of};
use crate::engine::backbone_store::check_licence;
use crate::engine::{Case, FindBackboneError, find_backbone};
use crate::eval::predictions::{Predictions, Scores};
use crate::plugin::{Library, find};
use crate::task::open_library;
use anymc3d_manifest::{Manifest, TaskKind};
use serde_json::{Value, json};
use std::collections::BTreeMap;
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

/// Another plugin that answers a task's question: its one label is read from the column of the task's one label.
pub(super) struct StandIn {
    pub library: Library,
    /// The same rows as the task's.
    pub table: Table,
}

/// A method of another program: its predictions file of each task, `{task}` being the task's name as a folder's.
pub(super) struct OutsideMethod {
    pub name: String,
    pub path: PathBuf,
}

/// A study that can begin.
pub struct Study {
    pub(super) tasks: Vec<PlannedTask>,
    pub(super) backbones: Vec<PlannedBackbone>,
    pub(super) methods: Vec<MethodEntry>,
    /// By index of task and method.
    pub(super) stand_ins: BTreeMap<(usize, usize), StandIn>,
    pub(super) outside: Vec<OutsideMethod>,
    /// Names of a backbone and a method.
    pub(super) baseline: (String, String),
    pub(super) baselines: Vec<String>,
    pub(super) timed_scans: usize,
}

impl Study {
    /// Reads a study file and finds everything that it names. Plugins and backbone folders lie below the study file's folder,
    /// tables and predictions below `data`, which is that folder too where none is given. `outside` are further methods of
    /// other programs by name and path, as the file's `[predictions]` has them.
    ///
    /// # Errors
    /// When the file does not make sense, a plugin or a backbone is not found or refused, a licence was not accepted, or a
    /// table cannot be used. Nothing was computed.
    pub fn open(path: &Path, data: Option<&Path>, outside: &[(String, PathBuf)]) -> Result<Self, StudyError> {
        let mut file = StudyFile::read(path)?;
        let refuse = |reason: String| StudyError::File { path: path.to_owned(), reason };
        let folder = path.parent().unwrap_or(Path::new(""));
        let data = data.unwrap_or(folder);
        file.predictions.extend(outside.iter().cloned());
        file.check().map_err(refuse)?;
        let backbones = file.backbones.iter().map(|entry| found(entry, folder)).collect::<Result<_, _>>()?;
        let task = |entry: &TaskEntry| planned(entry, (folder, data), file.study.seed, &refuse);
        let tasks = file.tasks.iter().map(task).collect::<Result<Vec<_>, _>>()?;
        let mut stand_ins = BTreeMap::new();
        for (t, task) in tasks.iter().enumerate() {
            for (m, method) in file.methods.iter().enumerate() {
                if let Some(plugin) = method.plugin.as_deref().filter(|_| method.is_of(&task.entry)) {
                    let found = stand_in(task, method, plugin, (folder, data), &refuse)?;
                    stand_ins.insert((t, m), found);
                }
            }
        }
        let outside = file.predictions.iter();
        let outside = outside.map(|(name, path)| OutsideMethod { name: name.clone(), path: data.join(path) });
        let (backbone, method) = file.baseline();
        Ok(Self {
            tasks,
            backbones,
            stand_ins,
            outside: outside.collect(),
            baseline: (backbone.to_owned(), method.to_owned()),
            baselines: file.study.baselines,
            timed_scans: file.study.timed_scans,
            methods: file.methods,
        })
    }

    /// Names of the tasks.
    pub fn task_names(&self) -> Vec<&str> {
        self.tasks.iter().map(|task| task.name.as_str()).collect()
    }

    /// Most folds of a task; 1 where no task has folds.
    pub fn folds(&self) -> usize {
        self.tasks.iter().map(|task| task.trials.len()).max().unwrap_or(1)
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

/// A plugin by name, which is looked for where plugins are, or by a path below the study file.
fn library_of(plugin: &str, folder: &Path, task: &str) -> Result<Library, StudyError> {
    let is_path = Path::new(plugin).components().count() > 1;
    let wanted = if is_path { folder.join(plugin).display().to_string() } else { plugin.to_owned() };
    let library = find::library(&wanted).and_then(|found| open_library(&found.display().to_string()));
    library.map_err(|source| StudyError::Plugin { task: task.to_owned(), source })
}

/// A task's table, with the cases of its table of test cases behind: which they are, and digests of both files.
fn table_of(
    entry: &TaskEntry,
    data: &Path,
    columns: &LabelColumns,
    manifest: &Manifest,
    refuse: &dyn Fn(String) -> StudyError,
) -> Result<(Table, Vec<usize>, Vec<String>), StudyError> {
    let name = entry.row_name();
    let unusable = |source: TableError| StudyError::Table { task: name.clone(), source };
    let path = data.join(&entry.table);
    let mut table = columns.open(&path, manifest).map_err(unusable)?;
    let mut digests = vec![digest(&path, &name)?];
    let Some(test) = &entry.test else { return Ok((table, Vec::new(), digests)) };
    let test = data.join(test);
    let more = columns.open(&test, manifest).map_err(unusable)?;
    digests.push(digest(&test, &name)?);
    let added = table.append(more, "learns or is tested");
    let added = added.map_err(|reason| refuse(format!("[[task]] `{name}`: {reason}")))?;
    Ok((table, added, digests))
}

fn planned(
    entry: &TaskEntry,
    (folder, data): (&Path, &Path),
    seed: u64,
    refuse: &dyn Fn(String) -> StudyError,
) -> Result<PlannedTask, StudyError> {
    let name = entry.row_name();
    let library = library_of(&entry.plugin, folder, &name)?;
    let manifest = &library.embedded.manifest;
    let kind = manifest.task.kind;
    let of_task = |reason: String| refuse(format!("[[task]] `{name}`: {reason}"));
    match entry.cut {
        None if kind.has_values() => {
            return Err(of_task(format!("a {kind:?} task has no AUROC, which a study compares; give `cut`")));
        }
        Some(_) if !kind.has_values() => {
            return Err(of_task(format!("`cut` is of ordinal and regression tasks, this is a {kind:?} one")));
        }
        _ => {}
    }
    let pairs = entry.labels.iter().map(|(label, column)| (label.as_str(), column.as_str()));
    let columns =
        LabelColumns::new(pairs, manifest).map_err(|reason| of_task(format!("labels: {reason}")))?;
    let (table, tested, digests) = table_of(entry, data, &columns, manifest, refuse)?;
    let trials = match (&entry.test, entry.folds) {
        (Some(_), _) => {
            // Validation cases are never among the table of test cases.
            let mut learning = table.clone();
            learning.rows.truncate(table.rows.len() - tested.len());
            vec![Trial { split: learning.split(VALIDATION, seed), test: tested }]
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
        let source = TableError { path: table.path, problems };
        return Err(StudyError::Table { task: name, source });
    }
    let identity = json!({
        "plugin": format!("{} {}", manifest.plugin.name, manifest.plugin.version),
        "library_sha256": library.sha256, "tables_sha256": digests, "labels": entry.labels, "folds": entry.folds,
        "split_seed": seed,
    });
    Ok(PlannedTask { name, entry: entry.clone(), library, table, trials, identity })
}

/// Another plugin on a task: both must ask one yes-or-no question.
fn stand_in(
    task: &PlannedTask,
    method: &MethodEntry,
    plugin: &str,
    (folder, data): (&Path, &Path),
    refuse: &dyn Fn(String) -> StudyError,
) -> Result<StandIn, StudyError> {
    let library = library_of(plugin, folder, &task.name)?;
    let manifest = &library.embedded.manifest;
    let one = |of: &Manifest| {
        let yes_or_no = matches!(of.task.kind, TaskKind::Binary | TaskKind::Multilabel);
        (yes_or_no && of.task.labels.len() == 1).then(|| of.task.labels[0].clone())
    };
    let of_method = |what: &str| {
        refuse(format!(
            "[[method]] `{}` on task `{}`: {what}; name its tasks in `tasks`",
            method.name, task.name
        ))
    };
    let theirs = one(manifest).ok_or_else(|| of_method("the plugin does not ask one yes-or-no question"))?;
    let ours = one(&task.library.embedded.manifest);
    let ours = ours.ok_or_else(|| of_method("the task does not ask one yes-or-no question"))?;
    let column = task.entry.labels.get(&ours).unwrap_or(&ours);
    let columns = LabelColumns::new([(theirs.as_str(), column.as_str())], manifest)
        .map_err(|reason| of_method(&reason))?;
    let (mut table, ..) = table_of(&task.entry, data, &columns, manifest, refuse)?;
    // The rows of both tables are of the same cases, whatever the plugins are called; scores go by the task's label.
    table.labels = vec![ours];
    Ok(StandIn { library, table })
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
    /// The first test cases, as a run is asked for them: `table` has their files by the views of the plugin that answers.
    pub fn timed(&self, count: usize, table: &Table) -> Vec<Case> {
        let rows = self.trials.iter().flat_map(|trial| &trial.test).map(|&i| &table.rows[i]);
        let case = |row: &Row| Case {
            name: row.case.clone(),
            region: row.region(),
            views: row.images.clone().into_iter().collect(),
            ..Case::default()
        };
        rows.take(count).map(case).collect()
    }

    /// The test cases of all trials with their truths, each in its fold; nobody has scored them yet.
    pub fn asked(&self) -> Result<Predictions, String> {
        let outputs = self.table.rows.first().map_or(0, |row| row.labels.len());
        let mut all: Option<Predictions> = None;
        for (n, trial) in self.trials.iter().enumerate() {
            let rows: Vec<&Row> = trial.test.iter().map(|&i| &self.table.rows[i]).collect();
            let mut of = Predictions::of(&self.table, &rows, &vec![vec![0.0; outputs]; rows.len()]);
            let fold = (self.trials.len() > 1).then(|| (n + 1).to_string());
            of.cases.iter_mut().for_each(|case| case.fold.clone_from(&fold));
            all = match all {
                None => Some(of),
                Some(before) => before.joined(of),
            };
        }
        self.as_question(all.ok_or("no test cases")?)
    }

    /// Values as the yes-or-no question that `cut` asks; what asks one already stays as it is. The score is the value's share
    /// of the scale: it orders cases, and is no probability.
    ///
    /// # Errors
    /// One line, when a label has no values.
    pub fn as_question(&self, mut predictions: Predictions) -> Result<Predictions, String> {
        let Some(cut) = self.entry.cut else { return Ok(predictions) };
        let [low, high] = self.library.embedded.manifest.task.scale();
        for label in &mut predictions.labels {
            let Scores::Values { truth, predicted } = &label.scores else {
                return Err(format!(
                    "{}: label `{}` has no column v_{}, expected values of an ordinal or regression task",
                    predictions.path.display(),
                    label.name,
                    label.name
                ));
            };
            label.scores = Scores::Binary {
                truth: truth.iter().map(|t| t.map(|t| t >= cut)).collect(),
                probabilities: predicted.iter().map(|v| ((v - low) / (high - low)).clamp(0.0, 1.0)).collect(),
            };
            label.name = format!("{} >= {cut}", label.name);
        }
        Ok(predictions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
