//! The vision tower of CLIP: configuration → names → weights.
//!
//! Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (2021); names and numbers as
//! transformers 5.24 has them. A norm stands before the blocks; the final norm is the class token's alone.

use super::plain_config::{Defaults, PlainConfig};
use super::siglip::NAMES;
use super::transformer::{Transformer, load_blocks};
use super::{Architecture, Loaded};
use crate::backbone::activation::Activation;
use crate::backbone::config::ConfigFile;
use crate::backbone::embedding::{PatchEmbedding, patch_projection};
use crate::backbone::layers::LayerNorm;
use crate::backbone::position::{Interpolation, PositionTable};
use crate::backbone::weights::Weights;
use std::path::Path;
use std::sync::Arc;

// ---- Configuration ----

/// As transformers has them.
const DEFAULTS: Defaults = Defaults {
    sizes: Some([768, 12, 12, 3072]),
    patch_size: 32,
    norm_eps: 1e-5,
    activation: Activation::QuickGelu,
};

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
    let config = PlainConfig::read(dir, &file.vision(), &DEFAULTS, Interpolation::Bicubic)?;
    let mut weights = Weights::open(dir)?;
    let info = config.info(dir, "clip", true, weights.sha256()?)?;
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
