//! Plugins: find, check before loading, load, and the host's side of the operation table.
//!
//! `unsafe` lives in `load` (opening a library), `object` (calling through its tables) and the kernels of `conv3d`,
//! nowhere else.

pub mod context;
mod conv3d;
mod error;
pub mod find;
mod layout;
#[allow(unsafe_code)]
mod load;
mod named;
#[allow(unsafe_code)]
pub(crate) mod object;
pub mod ops;
mod private_copy;
mod resize;
pub mod section;
mod smooth;
mod table;
#[cfg(test)]
mod tests;

pub use context::{Context, Parameter, ParameterSource};
pub use error::PluginError;
pub use load::{Inspected, Library, LoadTiming, inspect, load};
pub use table::host_ops;
