//! Why a training run ended without weights.

use super::sample::SampleError;
use super::state::StateError;
use crate::backbone::BackboneError;
use crate::device;
use crate::plugin::PluginError;
use crate::task::TaskError;
use std::path::PathBuf;

/// Why a run ended without weights.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The plugin was refused.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// The plugin's code failed.
    #[error("case {case}: {source}")]
    Task {
        /// Case.
        case: String,
        /// Why.
        source: TaskError,
    },
    /// A case cannot be used.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The backbone.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// A backward pass, or an optimiser's step.
    #[error("{0}")]
    Tensor(String),
    /// Loss or gradients are no longer numbers.
    #[error("epoch {epoch}, case {case}: {what} is not a number; try a lower --lr")]
    Diverged {
        /// Epoch.
        epoch: usize,
        /// Case.
        case: String,
        /// Loss or gradient.
        what: &'static str,
    },
    /// The data.
    #[error("{0}")]
    Data(String),
    /// A run cannot be continued, or must not be overwritten.
    #[error(transparent)]
    State(#[from] StateError),
    /// Whoever watches the run ended it.
    #[error("cancelled; the last whole epoch is kept, and the run can be resumed")]
    Cancelled,
    /// Output.
    #[error("{}: cannot be written: {source}", path.display())]
    Io {
        /// File.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl From<candle_core::Error> for TrainError {
    fn from(e: candle_core::Error) -> Self {
        Self::Tensor(device::one_line(&e))
    }
}
