//! The vision tower of CLIP: configuration → names → weights.
//!
//! Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (2021); names and numbers as
//! transformers 5.24 has them. A norm stands before the blocks; the final norm is the class token's alone.

use super::block::BlockShape;
use super::siglip::NAMES;
use super::transformer::{Transformer, load_blocks};
use super::{Architecture, Loaded, identified};
use crate::backbone::activation::Activation;
use crate::backbone::config::{ConfigFile, PixelStatistics};
use crate::backbone::embedding::{PatchEmbedding, patch_projection};
use crate::backbone::info::{BackboneInfo, name_of};
use crate::backbone::layers::LayerNorm;
use crate::backbone::position::{Interpolation, PositionTable};
use crate::backbone::weights::Weights;
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;

// ---- Configuration ----

/// Every field of it goes into the fingerprint.
#[derive(Serialize)]
struct Config {
    embed_dim: usize,
    blocks: usize,
    heads: usize,
    /// Hidden width of the MLP.
    hidden: usize,
    patch_size: usize,
    channels: usize,
    norm_eps: f64,
    activation: Activation,
    interpolation: Interpolation,
    mean: [f32; 3],
    std: [f32; 3],
}

impl Config {
    fn read(dir: &Path, file: &ConfigFile) -> Loaded<Self> {
        let PixelStatistics { mean, std } = PixelStatistics::read(dir)?;
        let mut config = Self {
            embed_dim: file.count("hidden_size", Some(768))?,
            blocks: file.count("num_hidden_layers", Some(12))?,
            heads: file.count("num_attention_heads", Some(12))?,
            hidden: file.count("intermediate_size", Some(3072))?,
            patch_size: file.count("patch_size", Some(32))?,
            channels: 3,
            norm_eps: file.number("layer_norm_eps", 1e-5),
            activation: file.activation(Activation::QuickGelu)?,
            interpolation: Interpolation::Bicubic,
            mean,
            std,
        };
        config.channels =
            file.check_dimensions(config.embed_dim, config.blocks, config.heads, config.patch_size)?;
        Ok(config)
    }

    fn info(&self, dir: &Path, sha256: String) -> Loaded<BackboneInfo> {
        let info = BackboneInfo {
            name: name_of(dir),
            family: "clip".to_owned(),
            embed_dim: self.embed_dim,
            blocks: self.blocks,
            heads: self.heads,
            patch_size: self.patch_size,
            class_token: true,
            registers: 0,
            mean: self.mean,
            std: self.std,
            sha256,
            fingerprint: String::new(),
        };
        identified(dir, info, self)
    }

    fn block(&self) -> BlockShape {
        BlockShape {
            embed_dim: self.embed_dim,
            hidden: Some(self.hidden),
            norm_eps: self.norm_eps,
            qkv_bias: [true; 3],
            output_bias: true,
            mlp_bias: true,
            layer_scale: false,
            gated: false,
            activation: self.activation,
        }
    }
}

/// The text tower, both projections and the loss of a model of images and text; indices; a classifier on top.
const LEFT_ALONE: [&str; 6] = [
    "text_model.",
    "logit_scale",
    "visual_projection.",
    "text_projection.",
    "embeddings.position_ids",
    "classifier.",
];

// ---- Weights ----

/// Opens a folder of a CLIP vision model, or of the whole model of images and text, on the processor.
pub(super) fn open(dir: &Path, file: ConfigFile) -> Loaded<Box<dyn Architecture>> {
    let config = Config::read(dir, &file.vision())?;
    let mut weights = Weights::open(dir)?;
    let info = config.info(dir, weights.sha256()?)?;
    let (d, eps, w) = (config.embed_dim, config.norm_eps, &mut weights);
    let root = w.root_of("embeddings.class_embedding");
    let name = |n: &str| format!("{root}{n}");
    let patches = name("embeddings.patch_embedding");
    let positions = name("embeddings.position_embedding.weight");
    let embedding = PatchEmbedding {
        projection: patch_projection(w, &patches, (d, config.patch_size), config.channels, false)?,
        patch_size: config.patch_size,
        class_token: Some(w.take(&name("embeddings.class_embedding"), &[d])?.reshape((1, 1, d))?),
        registers: None,
        positions: Some(Arc::new(PositionTable::load(w, &positions, d, true, config.interpolation)?)),
        // The file's own spelling.
        norm: Some(LayerNorm::load(w, &name("pre_layrnorm"), d, eps)?),
    };
    let blocks = load_blocks(w, &name("encoder.layers"), config.blocks, &NAMES, &config.block())?;
    let norm = LayerNorm::load(w, &name("post_layernorm"), d, eps)?;
    weights.finish(&root, &LEFT_ALONE)?;
    Ok(Box::new(Transformer {
        info,
        embedding,
        rotation: None,
        blocks,
        norm,
        patches_normed: false,
        head: None,
    }))
}
