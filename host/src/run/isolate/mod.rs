//! Plugins' code in a process of its own: what ends that process does not end the session.
//!
//! [`wire`] holds the messages between the two, [`process`] is the process as the session sees it, [`worker`] is the
//! process from the inside, [`engine`] keeps engines running in processes, whatever their plugins do, and [`probe`] tries
//! a plugin's checks there.

mod engine;
mod probe;
mod process;
mod wire;
mod worker;

pub use engine::{Answer, IsolatedEngine, Limits, Refusal};
pub use probe::{ProbeError, probe};
pub use process::{ExitReason, SpawnWorker};
pub use wire::{OpenRequest, ProbeRequest};
pub use worker::{WorkerError, serve};
