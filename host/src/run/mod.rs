//! Runs cases through a backbone and plugins, for a command line, a server, a batch runner or a Python package.
//!
//! A [`Session`] opens the backbone and the plugins once and predicts cases. Its [`Executor`] is an engine in this
//! process, or engines in child processes whose plugins may crash ([`isolate`]). The session reports everything besides
//! results to [`Events`]. [`inputs`] finds the cases of files, folders, DICOM and tables; [`watch`] finds those that arrive
//! later.

mod answer;
mod engines;
mod events;
mod executor;
mod failure;
mod identity;
pub mod inputs;
#[cfg(unix)]
pub mod isolate;
mod named_backbone;
#[cfg(unix)]
mod open_isolated;
mod options;
mod placing;
mod session;
pub mod watch;

pub use answer::{CaseOutput, Computed, Wanted};
pub use events::{Events, Notice, Severity, Silent};
#[cfg(unix)]
pub use executor::IsolatedExecutor;
pub use executor::{Engines, Executor, LocalExecutor};
pub use failure::{Blame, CaseFailure};
pub use identity::{ReferenceSummary, TaskIdentity};
#[cfg(unix)]
pub use options::Isolation;
pub use options::SessionOptions;
pub use session::{
    CaseRequest, RefusedPlugin, SelectedPlugin, Selection, Session, SessionError, use_threads,
};
