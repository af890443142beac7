#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

pub mod abi;
mod adapter;
mod build;
mod decoder;
mod error;
mod evidence;
mod export;
mod geometry;
mod head;
mod label_queries;
pub mod loss;
mod mask_features;
mod mask_inputs;
mod mask_loss;
mod params;
mod patch_pooling;
mod pooling;
mod prompt;
mod region_pooling;
mod region_probe;
mod segmentation;
mod task;
mod tensor;
#[cfg(feature = "testkit")]
pub mod testkit;
mod volume_decoder;
mod volumetric;

pub use adapter::{Adapter, Lora, Site, SiteAdapter};
pub use build::{BackboneInfo, Build, LossSpec};
pub use decoder::Decoder;
pub use error::{Error, Result};
pub use evidence::PatchEvidence;
pub use export::manifest_text;
#[doc(hidden)]
pub use export::{embedded_manifest, section_length as __section_length};
pub use geometry::SliceGeometry;
pub use head::{AttentionPooling, Boxed, Head, HeadOutput, ViewFeatures};
pub use label_queries::{LABEL_QUERIES, LabelQueryPooling};
pub use mask_features::{MASK_DETAILS, MASK_SCALARS, MaskFeatures};
pub use mask_loss::MaskLoss;
pub use params::{Init, Params};
pub use patch_pooling::PatchPooling;
pub use pooling::{Pool, Pooling, pool};
pub use prompt::{PromptDecoder, PromptEncoding, PromptPooling};
pub use region_pooling::RegionPooling;
pub use region_probe::{NO_POOLING, RegionProbe};
pub use segmentation::{Segmentation, SomeSegmentation, TokenDecoder, patch_maximum, patch_mean};
pub use task::TaskPlugin;
pub use tensor::{Host, LogLevel, Tensor};
pub use volume_decoder::VolumeDecoder;

#[doc(hidden)]
pub use anymc3d_plugin_macros::checked_manifest as __checked_manifest;

/// Everything an author usually needs.
pub mod prelude {
    pub use crate::loss::Targets;
    pub use crate::{
        Adapter, AttentionPooling, BackboneInfo, Boxed, Build, Decoder, Error, Head, HeadOutput, Init,
        LabelQueryPooling, Lora, MaskFeatures, MaskLoss, Params, PatchEvidence, PatchPooling, Pool, Pooling,
        PromptDecoder, PromptPooling, RegionPooling, Result, Segmentation, Site, SiteAdapter, SliceGeometry,
        SomeSegmentation, TaskPlugin, Tensor, TokenDecoder, ViewFeatures, VolumeDecoder, export_plugin, pool,
    };
}
