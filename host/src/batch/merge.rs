//! From a batch's records to one table: what every case was answered, or why it has no answer.

use super::batch_plan::{BatchError, PlannedTask};
use super::folder::BatchFolder;
use super::journal::{FailureKind, JournalEntry, Outcome, read_all};
use super::manifest::{Manifest, WorkItem};
use super::resume::made_by;
use super::shard::{Shard, partition};
use crate::engine::result::{
    BackboneRecord, CaseResult, FailedCase, LabelPrediction, Novelty, PluginRecord, ValuePrediction,
};
use crate::run::TaskIdentity;
use crate::run::inputs::NoAnswer;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

/// What is read of `result.json`.
#[derive(Deserialize)]
struct Record {
    plugin: PluginRecord,
    backbone: BackboneRecord,
    predictions: Vec<LabelPrediction>,
    #[serde(default)]
    values: Vec<ValuePrediction>,
    #[serde(default)]
    novelty: Option<Novelty>,
    #[serde(default)]
    options_sha256: Option<String>,
}

/// What a plugin said of a case.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// One per label or step, the values of an ordinal or regression task, and how far the case is from the training cases.
    Predicted { predictions: Vec<LabelPrediction>, values: Vec<ValuePrediction>, novelty: Option<Novelty> },
    /// Whose fault, and the reason.
    Failed { kind: Option<FailureKind>, reason: String },
    /// The case has nothing for it.
    NothingForIt,
}

impl Answer {
    /// What a result says.
    pub fn of(result: &CaseResult) -> Self {
        let CaseResult { predictions, values, novelty, .. } = result;
        Self::Predicted { predictions: predictions.clone(), values: values.clone(), novelty: novelty.clone() }
    }

    /// How far the case is from the training cases, where the weights tell.
    pub fn novelty(&self) -> Option<&Novelty> {
        match self {
            Self::Predicted { novelty, .. } => novelty.as_ref(),
            _ => None,
        }
    }
}

/// A case with the answers of the batch's plugins, in their order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MergedCase {
    pub case: String,
    pub answers: Vec<Answer>,
}

/// All of a batch.
#[derive(Debug)]
pub struct Merged {
    /// The batch's plugins.
    pub(super) tasks: Vec<PlannedTask>,
    /// Sorted by name.
    pub(super) cases: Vec<MergedCase>,
    /// Cases that some plugin has not answered and not refused, by the reason; sorted.
    pub missing: Vec<Missing>,
    /// All that processes did, in the order in which the processes began.
    pub(super) runs: Vec<JournalEntry>,
    /// Cases of the manifest.
    pub(super) of: usize,
}

/// A case without a record of some plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The case.
    pub case: String,
    /// The plugin.
    pub plugin: String,
    /// The shard of the last division of the work that has it.
    pub shard: Shard,
    /// Why what lies there does not count; none where nothing does.
    pub outdated: Option<String>,
}

/// Reads all records of a batch. Cases with missing ones are not among [`Merged`]'s cases.
///
/// # Errors
/// [`BatchError`]: no batch, or one that cannot be read.
pub fn merge(root: &Path) -> Result<Merged, BatchError> {
    let (folder, manifest) = BatchFolder::open(root)?;
    let options = super::resume::digest_of_options(&folder.plan.options);
    let unreadable = |reason| BatchError::Folder { path: root.to_owned(), reason };
    let mut runs = Vec::new();
    read_all(&folder.journals(), |entry| runs.push(entry)).map_err(unreadable)?;
    let shards = shards(&manifest, &runs);
    let tasks = folder.plan.tasks.clone();
    // What made the last attempt at a case, by the journals: a failure's own record does not say it.
    let mut attempts: HashMap<(&str, &str), &str> = HashMap::new();
    for run in &runs {
        attempts.insert((&run.case, &run.plugin), &run.made_by);
    }
    let (mut cases, mut missing) = (Vec::with_capacity(manifest.items.len()), Vec::new());
    for (item, shard) in manifest.items.iter().zip(shards) {
        let mut answers = Vec::with_capacity(tasks.len());
        let before = missing.len();
        for task in &tasks {
            let attempt = attempts.get(&(item.case.name.as_str(), task.identity.plugin.as_str()));
            let stale = attempt.is_some_and(|made| **made != made_by(&task.identity, &options));
            match answer(root, item, task, &options) {
                Ok(Answer::Failed { .. }) if stale => {
                    let (case, plugin) = (item.case.name.clone(), task.identity.plugin.clone());
                    let outdated =
                        Some("failed with another library, weights, backbone or options".to_owned());
                    missing.push(Missing { case, plugin, shard, outdated });
                }
                Ok(answer) => answers.push(answer),
                Err(outdated) => {
                    let (case, plugin) = (item.case.name.clone(), task.identity.plugin.clone());
                    missing.push(Missing { case, plugin, shard, outdated });
                }
            }
        }
        if missing.len() == before {
            cases.push(MergedCase { case: item.case.name.clone(), answers });
        }
    }
    cases.sort_by(|a, b| a.case.cmp(&b.case));
    missing.sort_by(|a, b| (a.shard, &a.case, &a.plugin).cmp(&(b.shard, &b.case, &b.plugin)));
    Ok(Merged { tasks, cases, missing, runs, of: manifest.items.len() })
}

/// Of each case its shard in the division that was used last.
fn shards(manifest: &Manifest, runs: &[JournalEntry]) -> Vec<Shard> {
    let last = runs.iter().rev().find_map(|run| run.shard.parse::<Shard>().ok()).unwrap_or(Shard::WHOLE);
    let of = |index| Shard::new(index, last.of()).unwrap_or(Shard::WHOLE);
    partition(&manifest.items, last.of()).into_iter().map(of).collect()
}

/// What a plugin said; `Err` where nothing counts, with the reason why what lies there does not.
fn answer(root: &Path, item: &WorkItem, task: &PlannedTask, options: &str) -> Result<Answer, Option<String>> {
    let (case, plugin) = (&item.case.name, &task.identity.plugin);
    if item.unanswered.get(plugin) == Some(&NoAnswer::NothingForIt) {
        return Ok(Answer::NothingForIt);
    }
    // A failure is removed by the result that comes after it, and an earlier result stays beside a failure.
    if let Some(answer) = failure(&root.join(format!("{case}.{plugin}.failed.json"))) {
        return Ok(answer);
    }
    let Ok(text) = fs::read(root.join(case).join(plugin).join("result.json")) else { return Err(None) };
    let record: Record =
        serde_json::from_slice(&text).map_err(|e| Some(format!("its result cannot be read ({e})")))?;
    let made = TaskIdentity {
        plugin: record.plugin.name,
        version: record.plugin.version,
        library_sha256: record.plugin.sha256,
        weights_sha256: std::iter::once(record.plugin.weights_sha256)
            .chain(record.plugin.further_weights_sha256)
            .collect(),
        backbone: record.backbone.name,
        backbone_sha256: record.backbone.sha256,
        precision: record.backbone.precision,
        quantised_sha256: record.backbone.quantised_sha256,
    };
    if let Some(what) = task.identity.difference(&made) {
        return Err(Some(format!("done by {what}")));
    }
    if record.options_sha256.as_deref() != Some(options) {
        return Err(Some("done with other options".to_owned()));
    }
    let Record { predictions, values, novelty, .. } = record;
    Ok(Answer::Predicted { predictions, values, novelty })
}

fn failure(path: &Path) -> Option<Answer> {
    let failed: FailedCase = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let all = [FailureKind::Scan, FailureKind::Plugin, FailureKind::Input, FailureKind::Writing];
    let kind = all.into_iter().find(|kind| failed.kind.as_deref() == Some(kind.name()));
    Some(Answer::Failed { kind, reason: failed.error })
}

impl Merged {
    /// The missing cases, counted by shard: `shard 3/8: 12 cases`.
    pub fn missing_by_shard(&self) -> BTreeMap<Shard, usize> {
        let mut all: BTreeMap<Shard, std::collections::BTreeSet<&str>> = BTreeMap::new();
        for missing in &self.missing {
            all.entry(missing.shard).or_default().insert(&missing.case);
        }
        all.into_iter().map(|(shard, cases)| (shard, cases.len())).collect()
    }

    /// Whether any case has a record.
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    /// Cases with a record of every plugin.
    pub fn len(&self) -> usize {
        self.cases.len()
    }

    /// How often a case was done for a plugin, where that is more than once.
    pub fn done_twice(&self) -> Vec<(&str, &str, usize)> {
        let mut times: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
        for run in self.runs.iter().filter(|run| run.outcome == Outcome::Done) {
            *times.entry((&run.case, &run.plugin, &run.made_by)).or_default() += 1;
        }
        times.into_iter().filter(|(_, n)| *n > 1).map(|((case, plugin, _), n)| (case, plugin, n)).collect()
    }
}
