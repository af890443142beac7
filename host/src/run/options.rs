//! Where and how a session computes.

#[cfg(unix)]
use super::isolate::{Limits, SpawnWorker};
use crate::backbone::{Backbone, Precision};
use crate::device::DeviceChoice;
use crate::engine::PrecisionChoice;
use crate::plugin::find::Choice;
use crate::task::InferenceOptions;
use std::path::PathBuf;
use std::sync::Arc;

/// The plugins run in processes of their own.
#[cfg(unix)]
#[derive(Clone)]
pub struct Isolation {
    /// What a plugin may take.
    pub limits: Limits,
    /// Bytes of address space of each process.
    pub max_memory: Option<u64>,
    /// Whether voxels as small as micro-CT's are read.
    pub micro_ct: bool,
    /// Starts a process that calls [`super::isolate::serve`].
    pub spawn: Arc<SpawnWorker>,
}

/// Where and how a session computes. `Default` is the default backbone on whatever device is there, in this process.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct SessionOptions {
    /// Backbone of all plugins, by name or folder; without it each plugin's is the one that its weights were trained on.
    pub backbone: Option<String>,
    /// A backbone that is open already, and the numbers of its products, instead of one by name; engines share it. Not for
    /// processes of their own.
    pub opened: Option<(Arc<Backbone>, Precision)>,
    /// Where to compute.
    pub device: DeviceChoice,
    /// Most bytes of a device's own memory.
    pub device_memory: Option<usize>,
    /// Numbers of the large products.
    pub precision: PrecisionChoice,
    /// Threads of a plugins' process; this process's pool is [`super::use_threads`]'s.
    pub threads: Option<u16>,
    /// Trained weights of the one plugin, several for an ensemble; without them each plugin's own are found.
    pub weights: Vec<PathBuf>,
    /// How installed packages are chosen.
    pub choice: Choice,
    /// Whether plugins keep their segmentation decoder.
    pub segmentation: bool,
    /// Tokens of a slice that each block of the backbone merges away, instead of what the plugins' views say.
    pub merge: Option<usize>,
    /// Processes of their own for the plugins.
    #[cfg(unix)]
    pub isolation: Option<Isolation>,
}

impl SessionOptions {
    /// How each task is opened.
    pub(super) fn of_tasks(&self) -> InferenceOptions {
        InferenceOptions { segmentation: self.segmentation, merge: self.merge }
    }
}
