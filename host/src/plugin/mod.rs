//! Plugins: find, check before loading, load, and the host's side of the operation table.
//!
//! `unsafe` lives in `load` (opening a library), `object` (calling through its tables) and the kernels of `conv3d`,
//! nowhere else.

mod calibration;
pub mod context;
mod conv3d;
mod error;
pub mod find;
mod layout;
#[allow(unsafe_code)]
mod load;
mod named;
#[allow(unsafe_code)]
mod object;
pub mod ops;
mod resize;
pub mod section;
mod smooth;
mod table;
mod task;
#[cfg(test)]
mod tests;
pub mod variant;
pub mod weights;

pub use calibration::{Calibration, FittedOn};
pub use context::{Context, Parameter, ParameterSource};
pub use error::PluginError;
pub use load::{Library, LoadTiming, hex, inspect, load};
pub use table::host_ops;
pub use task::{CustomAdapter, HeadAnswer, LoraPair, Task, TaskAdapter, TaskError, TaskOptions, ViewTokens};
pub use variant::{AdapterChoice, LossChange, Variant};
pub use weights::{Weights, WeightsInfo, write_atomically};
