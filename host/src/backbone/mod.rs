//! The frozen vision transformer: configuration, weights, forward pass, and low-rank adapters inside the blocks.
//!
//! [`Backbone::open`] reads a Hugging Face folder; [`Backbone::forward`] turns normalised slices into
//! tokens, with a task's [`SiteAdapter`] inside. Tasks that adapt only later blocks share
//! [`Backbone::prefix`]. Nothing here knows plugins or volumes.

mod adapter;
mod config;
mod error;
mod fused;
mod info;
pub mod kernels;
mod lora;
mod model;
mod ops;
mod peft;
mod position;
mod room;
mod slices;
mod vit;
mod weights;

pub use adapter::{LowRank, NoAdapter, Site, SiteAdapter};
pub use error::BackboneError;
pub use info::BackboneInfo;
pub use kernels::{Isa, Kernels};
pub use lora::{LoraWeights, lora_parameter_count, lora_shapes};
pub use model::{Backbone, Features, Hidden, KEPT_BYTES, Precision};
pub use peft::load_peft;

#[cfg(test)]
mod tests;
