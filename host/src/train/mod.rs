//! Training a plugin's parameters on a frozen backbone: its own code, its own loss, the host's autograd.
//!
//! Cases walk the same way as in `host run`; what differs is that adapter and head are variables, that a mask may
//! supervise patches, and that the frozen prefix of each case is kept on disk.

mod about_weights;
mod augment;
mod cache;
mod card;
mod error;
mod events;
mod few;
mod fingerprint;
mod linear_fit;
mod lock;
mod log;
mod memory;
mod optimiser;
mod options;
mod progress;
mod record;
mod reference;
mod run;
mod sample;
mod schedule;
mod standardise;
mod state;
mod step;
mod test_set;
mod untrained;
mod validate;

pub use augment::{Augmentation, Recipe};
pub use cache::PrefixCache;
pub use error::TrainError;
pub use few::too_few;
pub use memory::MemoryPlan;
pub use optimiser::AdamW;
pub use options::TrainOptions;
pub use progress::{Progress, Silent};
pub use record::{EpochRecord, Machine, PartRecord, TrainingRecord};
pub use reference::{
    CaseVector, LEAST as LEAST_REFERENCE_CASES, ReferenceContext, ViewVectors, fit_reference, reference_of,
    reference_vectors,
};
pub use run::{Contents, PREDICTIONS, TrainContext, Trained, train};
pub use schedule::cosine_with_warmup;
pub use test_set::{TEST_PREDICTIONS, score_test_set};
pub use untrained::untrained_parameter;
