//! The frozen vision transformer: families, weights, forward pass, and low-rank adapters inside the blocks.
//!
//! [`Backbone::open`] reads a Hugging Face folder; [`Backbone::forward`] turns normalised slices into
//! tokens, with a task's [`SiteAdapter`] inside. Tasks that adapt only later blocks share
//! [`Backbone::hidden_states`]. Nothing here knows plugins or scans.
//!
//! `driver` knows no family: it talks to `arch`, where each family is a file, and to `cpu`, the processor's kernels. Both
//! stand on `embedding`, `position`, `rotation` and `layers`.

mod activation;
mod adapter;
mod arch;
mod config;
mod cpu;
mod device_memory;
mod driver;
mod embedding;
mod error;
mod features;
mod info;
mod kept;
mod layers;
mod lora;
mod merged;
mod peft;
mod peft_export;
mod plain;
mod position;
mod precision;
mod quantise;
mod quantised;
mod rotation;
mod weights;

pub use adapter::{LowRank, NoAdapter, Site, SiteAdapter, SiteSpec};
pub use cpu::kernels;
pub use driver::{Backbone, KEPT_BYTES};
pub use error::BackboneError;
pub use features::{Features, HiddenStates, Slices, TokenLayout, Wanted};
pub use info::BackboneInfo;
pub use kept::KeptPatches;
pub use kernels::{Isa, Kernels};
pub use lora::{LoraWeights, lora_parameter_count, lora_shapes};
pub use merged::{MergedRows, Merging};
pub use peft::load_peft;
pub use peft_export::{PeftNames, write_peft};
pub use precision::{NEAR_COSINE, Precision, cosine};
pub use quantised::{QUANTISED_FILE, QuantisedRecord, QuantisedWeights};

#[cfg(test)]
mod tests;
