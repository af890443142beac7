//! Options that several commands share: the backbone, its precision, the device, threads.

use super::outcome::CommandError;
use crate::backbone::{Backbone, Precision};
use crate::engine::{PrecisionChoice, open_backbone};
use clap::{Args, ValueEnum};

/// Which backbone, and where it computes.
#[derive(Debug, Args)]
pub(super) struct BackboneOptions {
    /// Backbone by name or folder [default: dinov2-small]
    #[arg(long, value_name = "NAME|DIR")]
    pub backbone: Option<String>,
    /// Where to compute; this build has the CPU
    #[arg(long, value_enum, default_value_t = DeviceOption::Auto)]
    device: DeviceOption,
    #[command(flatten)]
    pub threads: ThreadOption,
}

/// `--precision`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum PrecisionOption {
    Auto,
    F32,
    Bf16,
}

impl PrecisionOption {
    /// `auto` is left to the processor.
    pub fn resolve(self) -> Precision {
        let choice = match self {
            Self::Auto => PrecisionChoice::Auto,
            Self::F32 => PrecisionChoice::F32,
            Self::Bf16 => PrecisionChoice::Bf16,
        };
        choice.resolve()
    }
}

/// `--device`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DeviceOption {
    Auto,
    Cpu,
}

/// `--threads`
#[derive(Debug, Args)]
pub(super) struct ThreadOption {
    /// Threads to compute with [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl ThreadOption {
    /// Sizes the process's pool; before anything has used it.
    pub fn apply(&self) -> Result<(), CommandError> {
        let Some(threads) = self.threads else { return Ok(()) };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(usize::from(threads)).build_global();
        pool.map_err(|e| CommandError::failed(format!("--threads {threads}: {e}")))
    }
}

impl BackboneOptions {
    /// The backbone, or why it is refused.
    pub fn open(&self, precision: Precision) -> Result<Backbone, CommandError> {
        open_backbone(self.backbone.as_deref(), precision).map_err(CommandError::refused)
    }
}
