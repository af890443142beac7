//! The vision tower of SigLIP, MedSigLIP and SigLIP 2: configuration → names → weights.
//!
//! Zhai et al., "Sigmoid Loss for Language Image Pre-Training" (2023), and Tschannen et al., "SigLIP 2" (2025); names and
//! numbers as transformers 5.24 has them. No class token: a pooling head takes its place. SigLIP 2 of any aspect ratio
//! (NaFlex) reads patches by a plain layer and resizes its positions bilinearly; the host's slices of a case are all of one
//! size, so its padding and mask are not needed.

use super::block::BlockNames;
use super::plain_config::{Defaults, PlainConfig};
use super::pooling::PoolingHead;
use super::transformer::{Transformer, load_blocks};
use super::{Architecture, Loaded};
use crate::backbone::activation::Activation;
use crate::backbone::config::ConfigFile;
use crate::backbone::embedding::{PatchEmbedding, patch_projection};
use crate::backbone::layers::{LayerNorm, Linear};
use crate::backbone::position::{Interpolation, PositionTable};
use crate::backbone::weights::Weights;
use std::path::Path;
use std::sync::Arc;

// ---- Configuration ----

/// As transformers has them.
const DEFAULTS: Defaults = Defaults {
    sizes: Some([768, 12, 12, 3072]),
    patch_size: 16,
    norm_eps: 1e-6,
    activation: Activation::GeluTanh,
};

// ---- Names ----

/// CLIP's too.
pub(super) const NAMES: BlockNames = BlockNames {
    norm1: "layer_norm1",
    qkv: [&["self_attn.q_proj"], &["self_attn.k_proj"], &["self_attn.v_proj"]],
    fused_qkv: "",
    output: &["self_attn.out_proj"],
    scale1: "",
    norm2: "layer_norm2",
    up: &["mlp.fc1"],
    gate: "",
    gate_and_up: &[],
    down: &["mlp.fc2"],
    scale2: "",
};

/// The text tower and the loss of a model of images and text; indices; a classifier on top.
const LEFT_ALONE: [&str; 5] =
    ["text_model.", "logit_scale", "logit_bias", "embeddings.position_ids", "classifier."];

// ---- Weights ----

/// Opens a folder of a SigLIP or SigLIP 2 vision model, or of the whole model of images and text, on the processor.
pub(super) fn open(dir: &Path, file: ConfigFile) -> Loaded<Box<dyn Architecture>> {
    let file = file.vision();
    let mut weights = Weights::open(dir)?;
    let root = weights.root_of("embeddings.patch_embedding.weight");
    let name = |n: &str| format!("{root}{n}");
    let patches = name("embeddings.patch_embedding");
    let linear = weights.shape(&format!("{patches}.weight")).is_some_and(|s| s.len() == 2);
    if !file.flag("vision_use_head", true) {
        let message = "vision_use_head is false, and without the pooling head nothing stands in the place of a class token; use a checkpoint that has it";
        return Err(file.error(message));
    }
    let interpolation = match linear {
        true => Interpolation::BilinearAntialiased,
        false => Interpolation::Bicubic,
    };
    let config = PlainConfig::read(dir, &file, &DEFAULTS, interpolation)?;
    let info = config.info(dir, "siglip", false, weights.sha256()?)?;
    let (d, p, w) = (config.embed_dim, config.patch_size, &mut weights);
    let projection = match linear {
        true => linear_patches(w, &patches, (d, p), config.channels)?,
        false => patch_projection(w, &patches, (d, p), config.channels, true)?,
    };
    let positions = name("embeddings.position_embedding.weight");
    let embedding = PatchEmbedding {
        projection,
        patch_size: p,
        class_token: None,
        registers: None,
        positions: Some(Arc::new(PositionTable::load(w, &positions, d, false, config.interpolation)?)),
        norm: None,
    };
    let shape = config.block();
    let blocks = load_blocks(w, &name("encoder.layers"), config.blocks, &NAMES, &shape)?;
    let norm = LayerNorm::load(w, &name("post_layernorm"), d, config.norm_eps)?;
    let head = PoolingHead::load(w, &name("head"), config.heads, &NAMES, &shape)?;
    weights.finish(&root, &LEFT_ALONE)?;
    Ok(Box::new(Transformer {
        info,
        embedding,
        rotation: None,
        blocks,
        norm,
        patches_normed: true,
        head: Some(head),
    }))
}

/// A layer over patches whose columns run row, column, channel; ours run channel, row, column.
fn linear_patches(w: &mut Weights, name: &str, (d, p): (usize, usize), channels: usize) -> Loaded<Linear> {
    if channels != 3 {
        return Err(w.error(format!("{name} is a layer over patches of {channels} channel, expected 3")));
    }
    let layer = Linear::load(w, name, 3 * p * p, d)?;
    let weight = layer.weight.reshape((d, p, p, 3))?.permute((0, 3, 1, 2))?.reshape((d, 3 * p * p))?;
    Ok(Linear { weight, bias: layer.bias })
}
