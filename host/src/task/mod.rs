//! A task: a plugin with its trained weights on a backbone, or refused.

mod calibration;
mod loaded;
mod site_adapter;
#[allow(clippy::module_inception)]
mod task;
pub mod variant;
pub mod weights;

pub use calibration::{Calibration, FittedOn};
pub use loaded::{BackboneTarget, LoadedTask, PackageRecord, as_plugins_see, open_library};
pub use site_adapter::TaskSiteAdapter;
pub use task::{
    CustomAdapter, HeadAnswer, LoraPair, MaskTensors, Task, TaskAdapter, TaskError, TaskOptions, ViewTokens,
};
pub use variant::{AdapterChoice, LossChange, Variant, ViewChange};
pub use weights::{Weights, WeightsInfo};
