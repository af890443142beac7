//! A small host in memory for a plugin's tests: no backbone, no scan, no dependency. Feature `testkit`.
//!
//! A plugin's `Cargo.toml` enables the feature for tests only, and a single test tries what every host asks:
//!
//! ```toml
//! [dev-dependencies]
//! anymc3d-plugin-api = { version = "1.1", features = ["testkit"] }
//! ```
//!
//! ```ignore
//! #[test]
//! fn the_task_is_what_a_host_expects() {
//!     testkit::check(MyTask, include_str!("../plugin.toml")).assert();
//! }
//! ```
//!
//! Every call goes through the tables that a real host calls, and every operation through a table of this host, so the
//! tests cover what crosses the boundary. The arithmetic is plain f32 with gradients in reverse mode, written to be read
//! and not to be fast. A test of the project compares values and gradients of each operation with the real host's.
//!
//! - [`check`] and [`Check`]: all checks, as a [`Report`].
//! - [`TestHost::task`]: a [`Task`] to call directly, for more tests.
//! - [`Context`]: tensors, [`Context::gradients`] and parameters, to test a head or a loss alone.
//!
//! What it cannot tell: whether the task learns from scans. [`Task::through_backbone`] has the sites of a transformer and
//! random weights.

mod adapter;
mod backbone;
mod call;
mod check;
mod context;
mod elementwise;
mod host;
mod node;
mod random;
mod reach;
mod reduce;
mod report;
mod shape;
mod state;
mod table;
mod task;
mod toy_problem;
mod volumes;

#[cfg(test)]
mod tests;

pub use check::{Check, check};
pub use context::{Context, Gradients, Parameter};
pub use host::TestHost;
pub use report::{Finding, Outcome, Report};
pub use task::Task;
