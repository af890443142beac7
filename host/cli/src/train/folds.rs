//! Folds: what each keeps together, the folder of each fold's run, and the predictions of all folds together.

use crate::outcome::CommandError;
use anymc3d_host::data::table::{Split, Table};
use anymc3d_host::eval::evaluation::questions;
use anymc3d_host::eval::metrics::{auroc, fold_auroc};
use anymc3d_host::eval::predictions::Predictions;
use anymc3d_host::fs::write_atomically;
use anymc3d_host::task::{Weights, weights};
use anymc3d_host::train::PREDICTIONS;
use std::path::{Path, PathBuf};

/// What a fold keeps together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum FoldsBy {
    /// All scans of a patient
    Patient,
    /// All scans of a group, and of a patient
    Group,
}

/// The table's `k` folds.
pub(super) fn splits(table: &Table, k: u16, by: FoldsBy, seed: u64) -> Result<Vec<Split>, CommandError> {
    let k = usize::from(k);
    if by == FoldsBy::Patient {
        return Ok(table.folds(k, seed));
    }
    if table.rows.iter().all(|r| r.group.is_none()) {
        let path = table.path.display();
        let message = format!("--folds-by group: {path} has no column `group`, or nothing in it");
        return Err(CommandError::usage(message));
    }
    Ok(table.folds_by_group(k, seed))
}

/// The one fold that is trained, where one is asked for.
pub(super) fn only(fold: Option<u16>, folds: usize) -> Result<Option<usize>, CommandError> {
    let Some(fold) = fold.map(usize::from) else { return Ok(None) };
    if fold >= folds {
        let message = format!("--fold {fold}: there are {folds} folds, counted from 0");
        return Err(CommandError::usage(message));
    }
    Ok(Some(fold))
}

/// Folder of fold `n`, counted from 0.
pub(super) fn folder(out: &Path, n: usize) -> PathBuf {
    out.join(format!("fold-{}", n + 1))
}

/// Writes the weights of all folds as one file, an ensemble. Returns its path as a sentence.
pub(super) fn ensemble(out: &Path, folds: usize, plugin: &str) -> Result<String, CommandError> {
    let file = format!("{plugin}.safetensors");
    let members: Result<Vec<Weights>, _> =
        (0..folds).map(|n| Weights::open(&folder(out, n).join(&file))).collect();
    let place = out.join(&file);
    weights::write_ensemble(&place, &members.map_err(CommandError::failed)?).map_err(CommandError::failed)?;
    Ok(format!("{}: the {folds} folds as an ensemble", place.display()))
}

/// Writes `predictions.csv`: each case is scored by the fold that did not train on it. Returns their AUROC as a sentence.
///
/// The probabilities are not calibrated: each fold's calibration was fitted on the cases that it scores.
/// The folds' models need not share a scale, therefore the area is the mean of the folds' areas.
pub(super) fn out_of_fold(out: &Path, folds: usize) -> Result<String, CommandError> {
    let mut all: Option<Predictions> = None;
    for n in 0..folds {
        let path = folder(out, n).join(PREDICTIONS);
        let mut one = Predictions::open(&path).map_err(CommandError::failed)?;
        one.cases.iter_mut().for_each(|case| case.fold = Some((n + 1).to_string()));
        all = match all {
            None => Some(one),
            Some(before) => Some(before.joined(one).ok_or_else(|| {
                CommandError::failed(format!("{}: its labels are not those of fold 1", path.display()))
            })?),
        };
    }
    let all = all.ok_or_else(|| CommandError::failed("no fold has predictions"))?;
    let place = out.join(PREDICTIONS);
    write_atomically(&place, &all.csv())
        .map_err(|e| CommandError::failed(format!("{}: cannot be written ({e})", place.display())))?;
    let half = vec![0.5; all.labels.len()];
    let areas: Vec<String> = questions(&all, &half)
        .iter()
        .map(|q| match fold_auroc(&q.truth, &q.probabilities, &q.folds) {
            Some(found) => {
                let interval = found.area.ci95();
                let interval =
                    interval.map_or(String::new(), |[low, high]| format!(" ({low:.3} to {high:.3})"));
                let pooled = auroc(&q.truth, &q.probabilities).map_or(f64::NAN, |a| a.value);
                format!("{} {:.3}{interval}, all folds in one order {pooled:.3}", q.name, found.area.value)
            }
            None => format!("{} not defined", q.name),
        })
        .collect();
    Ok(format!(
        "{}: {} cases, each by the fold that did not see it; mean AUROC of the folds: {}",
        place.display(),
        all.cases.len(),
        areas.join(", ")
    ))
}
