//! One backbone and many plugins: from scans to predictions.

mod adapter;
mod ahead;
mod backbones;
mod branch;
pub mod golden;
mod loaded;
mod memory;
mod plan;
mod predict;
mod prepare;
pub mod result;

pub use adapter::Adapted;
pub use backbones::{
    DEFAULT_BACKBONE, FindBackboneError, PrecisionChoice, all_backbones, find_backbone, open_backbone,
    open_backbone_on, precision_name,
};
pub use branch::ViewLogits;
pub use loaded::{Ground, LoadedTask, as_plugins_see, open_library};
pub use memory::{Holdings, MemoryCap};
pub use plan::{Plan, StackPlan, User};
pub use predict::{Case, CaseError, Engine, Prediction, Stage, ViewEvidence, calibrated, probabilities};
pub use prepare::{Desk, PrepareError, Prepared, ReadScan, ms, warnings};
