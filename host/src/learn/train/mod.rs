//! Training a plugin's parameters on a frozen backbone: its own code, its own loss, the host's autograd.
//!
//! Cases walk the same way as in `host run`; what differs is that adapter and head are variables, that a mask may
//! supervise patches, and that the frozen prefix of each case is kept on disk.

mod cache;
mod optimiser;
mod options;
mod progress;
mod record;
mod run;
mod sample;
mod schedule;

pub use cache::PrefixCache;
pub use options::TrainOptions;
pub use progress::{Progress, Silent, Terminal};
pub use record::{EpochRecord, TrainingRecord};
pub use run::{TrainError, Trained, train};
pub use sample::Flips;
pub use schedule::cosine_with_warmup;
