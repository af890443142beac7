//! Plugins in a child process, whose end does not end the session.
//!
//! `wire` defines the messages, `process` is the session's end, `worker` is the child's end, `engine` restarts
//! child processes that plugins end, `reload` puts a newer build in their place, and `probe` runs a plugin's checks in a child process.

mod engine;
mod probe;
mod process;
mod reload;
mod trial;
mod wire;
mod worker;

pub use engine::{Answer, IsolatedEngine, Limits, Refusal};
pub use probe::{ProbeError, probe};
pub use process::{ExitReason, SpawnWorker};
pub use wire::{ChosenLibrary, OpenRequest, ProbeRequest};
pub use worker::{WorkerError, serve, serve_with};
