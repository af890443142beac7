//! A cohort: many cases over any number of processes and machines, resumable, and merged into one table.
//!
//! The engine that starts the processes is the user's: Slurm, Kubernetes, Snakemake. This room is the contract between
//! them. A [`Manifest`] lists the work and is the same in every process. A [`Shard`] is a process's part of it. A result's
//! own `result.json` is the record that a case is done, written whole or not at all; [`Resume`] finds what is left. A
//! [`Journal`] keeps what each case took. [`merge()`] makes one table of all.

mod batch_plan;
mod engines;
mod folder;
mod journal;
mod manifest;
mod manifest_file;
mod merge;
#[cfg(feature = "object-store")]
pub mod objects;
#[cfg(feature = "parquet")]
mod parquet;
mod progress;
mod resume;
mod run_table;
mod scan_files;
mod shard;
mod shard_case;
mod shard_outcome;
mod shard_run;
mod summary;
mod tables;
mod upstream;
mod usage;

pub use batch_plan::{BatchError, BatchPlan, PlannedTask};
pub use engines::{EngineError, Found, shard_of};
pub use folder::{BatchFolder, ShardLock, Wish};
pub use journal::{FailureKind, Journal, JournalEntry, Outcome};
pub use manifest::{Manifest, WorkItem};
pub use merge::{Merged, Missing, merge};
#[cfg(feature = "parquet")]
pub use parquet::predictions_parquet;
pub use progress::{Progress, ProgressReport};
pub use resume::{Resume, State, digest_of_options};
pub use run_table::RunTable;
pub use scan_files::{FetchError, RemoteScans, ScanFiles, is_address};
pub use shard::{Shard, partition};
pub use shard_outcome::{BatchEvents, Left, ShardOutcome, Why};
pub use shard_run::{ShardOptions, run_shard};
pub use summary::Summary;
pub(crate) use tables::{FAILED, tells_novelty};
pub use upstream::Upstream;
