//! The plain vision transformer, as DINO and MAE encoders are: configuration → names → weights.
//!
//! Dosovitskiy et al., "An Image is Worth 16x16 Words" (2021); Caron et al., "Emerging Properties in Self-Supervised Vision
//! Transformers" (2021); He et al., "Masked Autoencoders Are Scalable Vision Learners" (2022). Names and numbers as
//! transformers 5.24 has them. MAE's encoder sees all patches here: masking belongs to its training.

use super::block::BlockNames;
use super::plain_config::{Defaults, PlainConfig};
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
const DEFAULTS: Defaults =
    Defaults { sizes: None, patch_size: 16, norm_eps: 1e-12, activation: Activation::Gelu };

// ---- Names ----

/// In the file, then as transformers 5 has them in memory.
const NAMES: BlockNames = BlockNames {
    norm1: "layernorm_before",
    qkv: [
        &["attention.attention.query", "attention.q_proj"],
        &["attention.attention.key", "attention.k_proj"],
        &["attention.attention.value", "attention.v_proj"],
    ],
    fused_qkv: "",
    output: &["attention.output.dense", "attention.o_proj"],
    scale1: "",
    norm2: "layernorm_after",
    up: &["intermediate.dense", "mlp.fc1"],
    gate: "",
    gate_and_up: &[],
    down: &["output.dense", "mlp.fc2"],
    scale2: "",
};

/// The token of masked patches and MAE's decoder, which inference does not use; heads of other models.
const LEFT_ALONE: [&str; 4] = ["embeddings.mask_token", "decoder.", "pooler.", "classifier."];

// ---- Weights ----

/// Opens a folder of `model_type` vit or vit_mae, on the processor.
pub(super) fn open(dir: &Path, file: ConfigFile) -> Loaded<Box<dyn Architecture>> {
    let config = PlainConfig::read(dir, &file, &DEFAULTS, Interpolation::Bicubic)?;
    let mut weights = Weights::open(dir)?;
    let info = config.info(dir, "vit", true, weights.sha256()?)?;
    let (d, w) = (config.embed_dim, &mut weights);
    let root = w.root_of("embeddings.cls_token");
    let name = |n: &str| format!("{root}{n}");
    let patches = name("embeddings.patch_embeddings.projection");
    let positions = name("embeddings.position_embeddings");
    let embedding = PatchEmbedding {
        projection: patch_projection(w, &patches, (d, config.patch_size), config.channels, true)?,
        patch_size: config.patch_size,
        class_token: Some(w.take(&name("embeddings.cls_token"), &[1, 1, d])?),
        registers: None,
        positions: Some(Arc::new(PositionTable::load(w, &positions, d, true, config.interpolation)?)),
        norm: None,
    };
    let layers = match w.contains(&name("layers.0.layernorm_before.weight")) {
        true => name("layers"),
        false => name("encoder.layer"),
    };
    let blocks = load_blocks(w, &layers, config.blocks, &NAMES, &config.block())?;
    let norm = LayerNorm::load(w, &name("layernorm"), d, config.norm_eps)?;
    weights.finish(&root, &LEFT_ALONE)?;
    Ok(Box::new(Transformer {
        info,
        embedding,
        rotation: None,
        blocks,
        norm,
        patches_normed: true,
        head: None,
    }))
}
