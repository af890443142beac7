//! What the validation cases say of the weights as they are.

use super::error::TrainError;
use super::step::{Trainer, scalar};
use crate::data::table::{Row, Table};
use crate::engine::probabilities;
use crate::eval::evaluation::questions;
use crate::eval::metrics::{self, LabelMetrics};
use crate::eval::predictions::Predictions;
use crate::task::{Calibration, FittedOn};
use candle_core::DType;
use std::collections::BTreeMap;

/// An epoch's validation.
pub(super) struct Validation {
    /// Mean classification loss.
    pub loss: f64,
    /// Mean AUROC over the labels that have both classes.
    pub auroc: Option<f64>,
    /// By label, not calibrated, at the manifest's threshold.
    pub metrics: BTreeMap<String, LabelMetrics>,
    /// Temperatures and thresholds that were fitted.
    pub calibration: Option<Calibration>,
    /// Every case's probabilities, not calibrated: what is fitted on a case says nothing about it.
    pub predictions: Predictions,
}

/// Scores the cases `rows` of a table, neither augmented nor with gradients. `cancelled` is asked before each.
pub(super) fn validate(
    trainer: &Trainer<'_>,
    table: &Table,
    rows: &[usize],
    cancelled: &dyn Fn() -> bool,
) -> Result<Validation, TrainError> {
    let task = &trainer.task.manifest().task;
    let rows: Vec<&Row> = rows.iter().map(|&i| &table.rows[i]).collect();
    let (mut all_logits, mut all_probabilities, mut total) = (Vec::new(), Vec::new(), 0.0);
    for row in &rows {
        if cancelled() {
            return Err(TrainError::Cancelled);
        }
        let step = trainer.validate(row)?;
        total += scalar(&step.loss)?;
        let logits: Vec<f64> = step.logits.flatten_all()?.detach().to_dtype(DType::F64)?.to_vec1()?;
        all_probabilities.push(probabilities(task.kind, &logits));
        all_logits.push(logits);
    }
    let predictions = Predictions::of(table, &rows, &all_probabilities);
    let thresholds = vec![task.threshold; predictions.labels.len()];
    let metrics: Vec<(String, LabelMetrics)> = questions(&predictions, &thresholds)
        .into_iter()
        .map(|q| {
            let figures = LabelMetrics::decided(&q.truth, &q.probabilities, q.threshold, &q.positive);
            (q.name, figures)
        })
        .collect();
    let areas: Vec<f64> = metrics.iter().filter_map(|(_, m)| m.auroc).collect();
    let labels: Vec<_> = rows.iter().map(|r| r.labels.clone()).collect();
    let fitted_on = FittedOn::of(rows.iter().map(|r| r.case.as_str()));
    Ok(Validation {
        loss: total / rows.len().max(1) as f64,
        auroc: (!areas.is_empty()).then(|| areas.iter().sum::<f64>() / areas.len() as f64),
        metrics: metrics.into_iter().collect(),
        calibration: metrics::fit(task.kind, &all_logits, &labels, fitted_on),
        predictions,
    })
}
