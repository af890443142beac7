//! A run's state after an epoch, so that a run that was killed goes on as if it never was.
//!
//! One safetensors file in the run's folder: every variable's value and moments, and in the metadata what the run was
//! begun with and what its epochs gave. It is written beside its place and renamed: a kill leaves the old or the new.

use super::fingerprint::RunFingerprint;
use super::optimiser::{AdamW, Moments};
use super::record::EpochRecord;
use crate::fs::write_atomically;
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// The state's name in a run's folder.
pub const FILE: &str = "state.safetensors";
const KEY: &str = "anymc3d.training-state/1";

/// The best epoch so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// From 1.
    pub epoch: usize,
    /// Validation AUROC, if it is defined.
    pub auroc: Option<f64>,
    /// Validation loss.
    pub loss: f64,
}

impl Best {
    /// Whether `other` is better: by AUROC; of equals, or without one, by loss.
    pub fn beaten_by(&self, other: &Self) -> bool {
        let key = |b: &Self| (b.auroc.unwrap_or(f64::NEG_INFINITY), -b.loss);
        key(other) > key(self)
    }
}

/// Where a run stands after an epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// What it was begun with.
    pub origin: RunFingerprint,
    /// Optimiser steps taken.
    pub step: usize,
    /// Every epoch so far.
    pub epochs: Vec<EpochRecord>,
    /// The best of them.
    pub best: Option<Best>,
    /// Steps each variable took.
    steps: BTreeMap<String, usize>,
}

impl Checkpoint {
    /// A run at its start.
    pub fn start(origin: RunFingerprint) -> Self {
        Self { origin, step: 0, epochs: Vec::new(), best: None, steps: BTreeMap::new() }
    }

    /// Seconds of training so far, over all sittings.
    pub fn seconds(&self) -> f64 {
        self.epochs.last().map_or(0.0, |e| e.seconds)
    }
}

/// Why a run cannot be continued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct StateError {
    /// The state's file.
    pub path: PathBuf,
    /// What was found and expected.
    pub reason: String,
}

/// Writes where the run stands into its folder.
///
/// # Errors
/// When the file cannot be written; the old one is left as it was.
pub fn write(folder: &Path, progressed: &mut Checkpoint, optimiser: &AdamW) -> Result<(), StateError> {
    let path = folder.join(FILE);
    let fail = |reason: String| StateError { path: path.clone(), reason };
    let mut tensors: Vec<(String, Tensor)> = Vec::new();
    progressed.steps.clear();
    for (name, value, moments) in optimiser.state() {
        tensors.push((format!("value/{name}"), value.detach()));
        if let Some(m) = moments {
            tensors.push((format!("first/{name}"), m.first.clone()));
            tensors.push((format!("second/{name}"), m.second.clone()));
            progressed.steps.insert(name.to_owned(), m.steps);
        }
    }
    let text = serde_json::to_string(progressed).map_err(|e| fail(e.to_string()))?;
    let metadata = HashMap::from([(KEY.to_owned(), text)]);
    let bytes = safetensors::serialize(tensors.iter().map(|(n, t)| (n, t)), Some(metadata))
        .map_err(|e| fail(e.to_string()))?;
    write_atomically(&path, &bytes).map_err(|e| fail(format!("cannot be written: {e}")))
}

/// A run's state as it was read: where it stood, and the tensors to put back.
pub type Found = (Checkpoint, HashMap<String, Tensor>);

/// Reads a run's state, if the folder has one.
///
/// # Errors
/// When the file is none of ours or damaged.
pub fn read(folder: &Path) -> Result<Option<Found>, StateError> {
    let path = folder.join(FILE);
    let fail = |reason: String| StateError { path: path.clone(), reason };
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(fail(format!("cannot be read: {e}"))),
    };
    let damaged = |e: &dyn std::fmt::Display| {
        fail(format!("is no state of a training run ({e}); give another --out, or remove it"))
    };
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).map_err(|e| damaged(&e))?;
    let text = header.metadata().as_ref().and_then(|m| m.get(KEY).cloned());
    let text = text.ok_or_else(|| damaged(&"no record in its metadata"))?;
    let progressed: Checkpoint = serde_json::from_str(&text).map_err(|e| damaged(&e))?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|e| damaged(&e))?;
    Ok(Some((progressed, tensors)))
}

/// Puts variables and moments back to where the run stood.
///
/// # Errors
/// When the run had another origin, but for fewer epochs (the first difference is named), or the file does not fit the parameters.
pub fn restore(
    folder: &Path,
    progressed: &Checkpoint,
    tensors: &HashMap<String, Tensor>,
    origin: &RunFingerprint,
    optimiser: &mut AdamW,
) -> Result<(), StateError> {
    let path = folder.join(FILE);
    let fail = |reason: String| StateError { path: path.clone(), reason };
    // More epochs extend a run; fewer than it was begun with would be another schedule for those that are done.
    let mut begun = progressed.origin.clone();
    begun.options.epochs = begun.options.epochs.max(origin.options.epochs);
    if let Some((what, found, expected)) = difference(&begun, origin) {
        return Err(fail(format!(
            "the run was begun with {what} {found}, now it is {expected}; resume with what it was begun with, or give another --out"
        )));
    }
    let names: Vec<String> = optimiser.state().map(|(name, ..)| name.to_owned()).collect();
    for name in names {
        let tensor = |part: &str| tensors.get(&format!("{part}/{name}"));
        let value = tensor("value").ok_or_else(|| fail(format!("has no parameter `{name}`")))?;
        let moments = match (tensor("first"), tensor("second"), progressed.steps.get(&name)) {
            (Some(first), Some(second), Some(&steps)) => {
                Some(Moments { first: first.clone(), second: second.clone(), steps })
            }
            _ => None,
        };
        optimiser.restore(&name, value, moments).map_err(|e| fail(e.to_string()))?;
    }
    Ok(())
}

/// The first field in which two origins differ, with both values.
fn difference(a: &RunFingerprint, b: &RunFingerprint) -> Option<(String, String, String)> {
    fn walk(at: &str, a: &serde_json::Value, b: &serde_json::Value) -> Option<(String, String, String)> {
        use serde_json::Value::Object;
        match (a, b) {
            (Object(x), Object(y)) => {
                let keys: std::collections::BTreeSet<&String> = x.keys().chain(y.keys()).collect();
                let null = serde_json::Value::Null;
                keys.into_iter().find_map(|k| walk(k, x.get(k).unwrap_or(&null), y.get(k).unwrap_or(&null)))
            }
            _ if a == b => None,
            _ => Some((at.to_owned(), a.to_string(), b.to_string())),
        }
    }
    walk("", &serde_json::to_value(a).ok()?, &serde_json::to_value(b).ok()?)
}

#[cfg(test)]
mod tests {
    use super::super::options::TrainOptions;
    use super::*;
    use candle_core::Var;

    fn origin() -> RunFingerprint {
        RunFingerprint {
            plugin: "p 0.1.0".into(),
            library_sha256: "l".into(),
            backbone: "b".into(),
            precision: "f32".into(),
            data_sha256: "d".into(),
            split_sha256: "s".into(),
            options: TrainOptions::default(),
        }
    }

    fn optimiser(start: f32) -> (AdamW, Var) {
        let x = Var::from_tensor(&Tensor::new(&[start, 2.0], &Device::Cpu).unwrap()).unwrap();
        let mut optimiser = AdamW::default();
        optimiser.add("x", x.clone(), 0.1, 0.0);
        (optimiser, x)
    }

    #[test]
    fn a_state_comes_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let (mut first, x) = optimiser(1.0);
        first.step(&x.sqr().unwrap().sum_all().unwrap().backward().unwrap(), 1.0).unwrap();
        let mut at = Checkpoint::start(origin());
        at.step = 7;
        at.best = Some(Best { epoch: 1, auroc: None, loss: 0.25 });
        write(folder.path(), &mut at, &first).unwrap();

        let (found, tensors) = read(folder.path()).unwrap().unwrap();
        assert_eq!(found, at);
        let (mut second, y) = optimiser(9.0);
        restore(folder.path(), &found, &tensors, &origin(), &mut second).unwrap();
        assert_eq!(x.to_vec1::<f32>().unwrap(), y.to_vec1::<f32>().unwrap());
        let steps: Vec<_> = second.state().map(|(_, _, m)| m.map(|m| m.steps)).collect();
        assert_eq!(steps, [Some(1)]);
    }

    #[test]
    fn a_run_begun_with_another_option_is_refused_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let (mut x, _) = optimiser(1.0);
        write(folder.path(), &mut Checkpoint::start(origin()), &x).unwrap();
        let (found, tensors) = read(folder.path()).unwrap().unwrap();
        let mut now = origin();
        now.options.lr = 0.5;
        let e = restore(folder.path(), &found, &tensors, &now, &mut x).unwrap_err().to_string();
        assert!(e.contains("begun with lr 0.0001, now it is 0.5"), "{e}");
    }

    #[test]
    fn a_run_may_be_resumed_with_more_epochs_and_not_with_fewer() {
        let folder = tempfile::tempdir().unwrap();
        let (mut x, _) = optimiser(1.0);
        write(folder.path(), &mut Checkpoint::start(origin()), &x).unwrap();
        let (found, tensors) = read(folder.path()).unwrap().unwrap();
        let mut now = origin();
        now.options.epochs = 40;
        restore(folder.path(), &found, &tensors, &now, &mut x).unwrap();
        now.options.epochs = 10;
        let e = restore(folder.path(), &found, &tensors, &now, &mut x).unwrap_err().to_string();
        assert!(e.contains("begun with epochs 20, now it is 10"), "{e}");
    }

    #[test]
    fn no_state_is_none_and_a_text_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).unwrap().is_none());
        std::fs::write(folder.path().join(FILE), "not a state").unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("no state of a training run"));
    }

    #[test]
    fn best_is_by_auroc_and_among_equals_by_loss() {
        let best = |auroc, loss| Best { epoch: 1, auroc, loss };
        assert!(best(Some(0.7), 0.1).beaten_by(&best(Some(0.8), 0.9)));
        assert!(best(Some(0.7), 0.2).beaten_by(&best(Some(0.7), 0.1)));
        assert!(best(None, 0.2).beaten_by(&best(None, 0.1)));
        assert!(!best(Some(0.7), 0.2).beaten_by(&best(Some(0.7), 0.2)));
        assert!(!best(Some(0.7), 0.2).beaten_by(&best(None, 0.1)));
    }
}
