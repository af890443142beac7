//! What a training run leaves behind: a line per epoch, and the record that goes into the weights' metadata.

use super::options::TrainOptions;
use serde::{Deserialize, Serialize};

/// One epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// From 1.
    pub epoch: usize,
    /// Mean classification loss over the training cases.
    pub loss: f64,
    /// Mean segmentation loss over the training cases that have a mask.
    pub segmentation_loss: Option<f64>,
    /// Mean classification loss over the validation cases.
    pub val_loss: f64,
    /// Mean AUROC over the labels that have both classes among the validation cases.
    pub val_auroc: Option<f64>,
    /// Mean length of the steps' gradients, before clipping.
    #[serde(default)]
    pub gradient_norm: f64,
    /// Factor of the peak learning rates at the last step.
    #[serde(default)]
    pub rate: f64,
    /// Seconds of training so far, over all sittings.
    pub seconds: f64,
}

/// How weights came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingRecord {
    /// What was chosen.
    pub options: TrainOptions,
    /// Digest of the data table's bytes.
    pub data_sha256: String,
    /// Training cases.
    pub train_cases: usize,
    /// Validation cases.
    pub val_cases: usize,
    /// Trainable parameters: adapter, head, segmentation branch.
    pub parameters: (usize, usize, usize),
    /// Precision of the backbone.
    pub precision: String,
    /// Epoch whose weights these are.
    pub best_epoch: usize,
    /// Its AUROC on the validation cases.
    pub val_auroc: Option<f64>,
    /// Seconds the run took.
    pub seconds: f64,
    /// Version of the host.
    pub host: String,
}
