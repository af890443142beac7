//! Folds: where each leaves its run, and what all of them say of the cases together.

use crate::outcome::CommandError;
use anymc3d_host::eval::evaluation::questions;
use anymc3d_host::eval::metrics::{auroc, fold_auroc};
use anymc3d_host::eval::predictions::Predictions;
use anymc3d_host::fs::write_atomically;
use anymc3d_host::train::PREDICTIONS;
use std::path::{Path, PathBuf};

/// Folder of fold `n`, counted from 0.
pub(super) fn folder(out: &Path, n: usize) -> PathBuf {
    out.join(format!("fold-{}", n + 1))
}

/// Leaves `predictions.csv`: every case scored by the fold that did not see it. Says how good they are.
///
/// The probabilities are not calibrated: each fold's calibration was fitted on the cases that it judges. The folds'
/// models need not share a scale, so the area is the mean of the folds' areas.
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
