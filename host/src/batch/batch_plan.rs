//! What a batch is of: inputs, options, plugins; and why a folder is no place for one.

use crate::data::table::{CLASS_COLUMN, TableError};
use crate::run::TaskIdentity;
use anymc3d_manifest::TaskKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The plan's schema.
pub(super) const SCHEMA: &str = "anymc3d/batch/1";
pub(super) const PLAN: &str = "batch.json";
pub(super) const WORK: &str = "work.csv";

/// What a batch is of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchPlan {
    /// `anymc3d/batch/1`.
    pub schema: String,
    /// The inputs as they were given, absolute; the given manifest instead, where there was one.
    pub inputs: Vec<String>,
    /// Digest of `work.csv`.
    pub manifest_sha256: String,
    /// Options on which results depend.
    pub options: BTreeMap<String, Value>,
    /// The plugins.
    pub tasks: Vec<PlannedTask>,
}

/// A plugin of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedTask {
    /// What computes its answers.
    pub identity: TaskIdentity,
    /// Its columns in the merged table, without the plugin's name: `p_nodule`, `p_class.low`, `v_grade`.
    pub columns: Vec<String>,
}

impl PlannedTask {
    /// Of a plugin's own description.
    pub fn new(identity: TaskIdentity, task: &anymc3d_manifest::Task) -> Self {
        let column = |label: &String| match task.kind {
            TaskKind::Multiclass => format!("p_{CLASS_COLUMN}.{label}"),
            kind if kind.has_values() => format!("v_{label}"),
            _ => format!("p_{label}"),
        };
        Self { identity, columns: task.labels.iter().map(column).collect() }
    }
}

/// Why a folder is no place for a batch. One line; the option that helps is the caller's to name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// It cannot be read or written.
    #[error("{}: {reason}", path.display())]
    Folder {
        /// What.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// The manifest cannot be used.
    #[error(transparent)]
    Manifest(#[from] TableError),
    /// Nothing to do.
    #[error("the inputs give no case")]
    NoWork,
    /// Results of other options lie there.
    #[error("{}: holds a batch with other options: {differences}", path.display())]
    OtherOptions {
        /// The folder.
        path: PathBuf,
        /// `heatmap was true, is false`.
        differences: String,
    },
    /// Another list of cases.
    #[error("{}: holds a batch of other work: {what}", path.display())]
    OtherWork {
        /// The folder.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// Another process writes there.
    #[error("{}: shard {shard} is being written by {by}", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
        /// The shard.
        shard: String,
        /// `process 12 on node3 since …`.
        by: String,
    },
    /// The store that the batch lies in, or its scans.
    #[error("{reason}")]
    Store {
        /// One line that names the object.
        reason: String,
    },
    /// It is no batch's folder.
    #[error("{}: no batch there: {PLAN} is missing", path.display())]
    NoBatch {
        /// The folder.
        path: PathBuf,
    },
}

pub(super) fn folder_error(path: &Path, reason: String) -> BatchError {
    BatchError::Folder { path: path.to_owned(), reason }
}

/// Reads the plan of a folder.
///
/// # Errors
/// [`BatchError::NoBatch`] where there is none.
pub(super) fn read_plan(root: &Path) -> Result<BatchPlan, BatchError> {
    let path = root.join(PLAN);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(BatchError::NoBatch { path: root.to_owned() });
        }
        Err(e) => return Err(folder_error(&path, format!("cannot be read ({e})"))),
    };
    let plan: BatchPlan = serde_json::from_slice(&text)
        .map_err(|e| folder_error(&path, format!("is no plan of a batch ({e})")))?;
    if plan.schema != SCHEMA {
        return Err(folder_error(&path, format!("schema {}; this version knows {SCHEMA}", plan.schema)));
    }
    Ok(plan)
}

/// Compares a plan with the one that lies there; plugins of the earlier plan that this call does not run stay in it.
pub(super) fn continued(
    root: &Path,
    before: &BatchPlan,
    plan: &mut BatchPlan,
    overwrite: bool,
) -> Result<Vec<String>, BatchError> {
    let path = || root.to_owned();
    if before.options != plan.options && !overwrite {
        return Err(BatchError::OtherOptions {
            path: path(),
            differences: differences(&before.options, &plan.options),
        });
    }
    if before.manifest_sha256 != plan.manifest_sha256 && !overwrite {
        let what = match before.inputs == plan.inputs {
            true => format!("{WORK} is not the one that the batch began with"),
            false => "the given manifest lists other cases".to_owned(),
        };
        return Err(BatchError::OtherWork { path: path(), what });
    }
    let mut told = Vec::new();
    for task in &before.tasks {
        let name = &task.identity.plugin;
        match plan.tasks.iter().find(|now| now.identity.plugin == *name) {
            None => plan.tasks.push(task.clone()),
            Some(now) => told.extend(
                now.identity
                    .difference(&task.identity)
                    .map(|what| format!("{name}: {what}; what it answered before is done anew")),
            ),
        }
    }
    // The order in which a later call names plugins changes no column.
    plan.tasks.sort_by_key(|task| {
        before.tasks.iter().position(|b| b.identity.plugin == task.identity.plugin).unwrap_or(usize::MAX)
    });
    Ok(told)
}

fn differences(before: &BTreeMap<String, Value>, now: &BTreeMap<String, Value>) -> String {
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let of = |options: &BTreeMap<String, Value>, name: &String| {
        options.get(name).map_or("not given".to_owned(), Value::to_string)
    };
    let differ = names.into_iter().filter(|name| before.get(*name) != now.get(*name));
    differ
        .map(|name| format!("{name} was {}, is {}", of(before, name), of(now, name)))
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn identity(plugin: &str, weights: &str) -> TaskIdentity {
        TaskIdentity {
            plugin: plugin.into(),
            version: "1.0.0".into(),
            library_sha256: "ab".repeat(32),
            weights_sha256: vec![weights.repeat(64)],
            backbone: "tiny".into(),
            backbone_sha256: "cd".repeat(32),
            precision: "f32".into(),
            quantised_sha256: None,
        }
    }

    pub fn task(plugin: &str, columns: &[&str]) -> PlannedTask {
        PlannedTask {
            identity: identity(plugin, "1"),
            columns: columns.iter().map(|c| (*c).to_owned()).collect(),
        }
    }
}
