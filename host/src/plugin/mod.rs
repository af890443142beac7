//! Plugins: find, check before loading, load, and the host's side of the operation table.
//!
//! `unsafe` lives in `load` (opening a library) and `object` (calling through its tables), nowhere else.

mod calibration;
pub mod context;
mod error;
pub mod find;
mod layout;
#[allow(unsafe_code)]
mod load;
#[allow(unsafe_code)]
mod object;
pub mod ops;
pub mod section;
mod table;
mod task;
#[cfg(test)]
mod tests;
pub mod weights;

pub use calibration::{Calibration, FittedOn};
pub use context::{Context, Parameter, ParameterSource};
pub use error::PluginError;
pub use load::{Library, LoadTiming, hex, inspect, load};
pub use table::host_ops;
pub use task::{CustomAdapter, HeadAnswer, LoraPair, Task, TaskAdapter, TaskError, TaskOptions, ViewTokens};
pub use weights::{Weights, WeightsInfo};
