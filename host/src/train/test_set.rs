//! How a run's weights do on cases that neither trained them nor chose their epoch, from the same frozen prefixes.

use super::error::TrainError;
use super::options::TrainOptions;
use super::run::{TrainContext, Trained};
use super::step::Trainer;
use super::validate::validate;
use crate::fs::write_atomically;
use crate::plugin::ParameterSource;
use crate::task::as_plugins_see;
use crate::task::{Task, TaskOptions, Weights};
use candle_core::DType;
use std::path::Path;

/// Name of the file with the scores of these cases, in a run's folder.
pub const TEST_PREDICTIONS: &str = "test_predictions.csv";

/// Scores the cases `rows` by the weights of the best epoch and leaves `test_predictions.csv` (not calibrated) in `out`;
/// the mean AUROC over the labels that have both classes among them.
///
/// # Errors
/// When a case or the weights cannot be read, the plugin's code fails, or the file cannot be written.
pub fn score_test_set(
    setting: TrainContext<'_>,
    options: &TrainOptions,
    trained: &Trained,
    rows: &[usize],
    out: &Path,
) -> Result<Option<f64>, TrainError> {
    let TrainContext { library, backbone, precision, table, cache, memory, .. } = setting;
    let name = &library.embedded.manifest.plugin.name;
    let weights = Weights::find(name, Some(&trained.weights), &library.path)?;
    let source = ParameterSource::Weights(weights.tensors);
    // The branch is built as in training, so that every tensor of the file has its place.
    let wanted = TaskOptions { segmentation: true, variant: options.variant.clone() };
    let seen = as_plugins_see(backbone.info());
    let task = Task::build(library, &seen, source, DType::F32, backbone.device(), &wanted)?;
    let trainer = Trainer { task, backbone, precision, cache, options, token_bytes: memory.token_bytes };
    let judged = validate(&trainer, table, rows, &|| false)?;
    let place = out.join(TEST_PREDICTIONS);
    write_atomically(&place, &judged.predictions.csv())
        .map_err(|source| TrainError::Io { path: place.clone(), source })?;
    Ok(judged.auroc)
}
