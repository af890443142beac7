//! Cases through a backbone and its plugins: what a command line, a server, a batch runner or a Python package drives.
//!
//! A [`Session`] opens the backbone and the plugins once and answers cases. Its [`Executor`] is an engine in this
//! process, or engines in processes of their own whose plugins may crash ([`isolate`]). What happens beside the results
//! is told to [`Events`].

mod events;
mod executor;
mod failure;
#[cfg(unix)]
pub mod isolate;
mod session;

pub use events::{Events, Notice, Severity, Silent};
#[cfg(unix)]
pub use executor::IsolatedExecutor;
pub use executor::{CaseOutput, Executor, LocalExecutor, Wanted};
pub use failure::{Blame, CaseFailure};
#[cfg(unix)]
pub use session::Isolation;
pub use session::{
    RefusedPlugin, SelectedPlugin, Selection, Session, SessionError, SessionOptions, use_threads,
};
