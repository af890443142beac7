//! What decides a run, so that a run is continued only as it was begun.

use super::options::TrainOptions;
use serde::{Deserialize, Serialize};

/// What decides a run: two runs with equal origins give equal weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunFingerprint {
    /// Name and version of the plugin.
    pub plugin: String,
    /// Digest of its library.
    pub library_sha256: String,
    /// Fingerprint of the backbone.
    pub backbone: String,
    /// Precision of its large products.
    pub precision: String,
    /// Digest of the data table's bytes.
    pub data_sha256: String,
    /// Digest of the names of the training and validation cases.
    pub split_sha256: String,
    /// All options.
    pub options: TrainOptions,
}
