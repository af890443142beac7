//! One backbone and many plugins: from scans to predictions.

pub mod backbone_store;
mod backbones;
mod beside;
mod case;
mod case_data;
mod cut_slices;
mod decoder;
mod embedding;
mod ensemble;
pub mod golden;
mod memory;
mod novelty;
mod predict;
mod prediction;
mod prefetch;
mod probability;
pub mod provenance;
pub mod result;
mod sharing_plan;
mod task_run;

pub use backbones::{
    DEFAULT_BACKBONE, FindBackboneError, PrecisionChoice, all_backbones, find_backbone, open_backbone,
    open_backbone_on, precision_name,
};
pub use beside::Beside;
pub use case::{Case, CaseError, Remedy, Stage};
pub use case_data::{CaseData, PrepareError, Prepared, ReadScan, TrainingSlices, ms, warnings};
pub use cut_slices::write_pixels;
pub use decoder::ViewLogits;
pub use embedding::{ViewEmbedding, case_embedding};
pub use memory::{Holdings, MemoryCap};
pub use predict::Engine;
pub use prediction::{Prediction, ViewEvidence};
pub use probability::{calibrated, probabilities};
pub use sharing_plan::{Passes, Plan, StackPlan, User};
