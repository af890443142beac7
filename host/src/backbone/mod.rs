//! The frozen vision transformer: configuration, weights, forward pass, and low-rank adapters inside the blocks.
//!
//! [`Backbone::open`] reads a Hugging Face folder; [`Backbone::forward`] turns normalised slices into
//! tokens, with a task's [`SiteAdapter`] inside. Tasks that adapt only later blocks share
//! [`Backbone::prefix`]. Nothing here knows plugins or volumes.

mod adapter;
mod arch;
mod config;
mod cpu;
mod device_memory;
mod driver;
mod error;
mod info;
mod layers;
mod lora;
mod peft;
mod weights;

pub use adapter::{LowRank, NoAdapter, Site, SiteAdapter};
pub use cpu::kernels;
pub use driver::{Backbone, Features, Hidden, KEPT_BYTES, Precision};
pub use error::BackboneError;
pub use info::BackboneInfo;
pub use kernels::{Isa, Kernels};
pub use lora::{LoraWeights, lora_parameter_count, lora_shapes};
pub use peft::load_peft;

#[cfg(test)]
mod tests;
