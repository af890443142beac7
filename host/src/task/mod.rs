//! A task: a plugin with its trained weights on a backbone, or refused.

mod adapter;
mod adopt;
mod calibration;
mod error;
mod head;
mod import;
mod loaded;
mod reference;
mod site_adapter;
#[allow(clippy::module_inception)]
mod task;
mod training_cases;
pub mod variant;
pub mod weights;

pub use adapter::{CustomAdapter, LoraPair, TaskAdapter};
pub use adopt::{AdoptError, adopted};
pub use calibration::{Calibration, FittedOn};
pub use error::TaskError;
pub use head::HeadAnswer;
pub use import::{export_lora, import_lora};
pub use loaded::{BackboneTarget, InferenceOptions, LoadedTask, PackageRecord, as_plugins_see, open_library};
pub use reference::{Reference, STEPS as REFERENCE_STEPS, ViewReference, reference_depth};
pub use site_adapter::TaskSiteAdapter;
pub use task::{MaskTensors, Task, TaskOptions, ViewTokens};
pub use training_cases::{TrainingCases, UsedFor};
pub use variant::{AdapterChoice, LossChange, Variant, ViewChange};
pub use weights::{TrainedFor, Weights, WeightsInfo};
