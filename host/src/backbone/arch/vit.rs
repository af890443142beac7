//! The plain vision transformer, as DINO and MAE encoders are: configuration → names → weights.
//!
//! Dosovitskiy et al., "An Image is Worth 16x16 Words" (2021); Caron et al., "Emerging Properties in Self-Supervised Vision
//! Transformers" (2021); He et al., "Masked Autoencoders Are Scalable Vision Learners" (2022). Names and numbers as
//! transformers 5.24 has them. MAE's encoder sees all patches here: masking belongs to its training.

use super::block::{BlockNames, BlockShape};
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
    qkv_bias: bool,
    activation: Activation,
    interpolation: Interpolation,
    mean: [f32; 3],
    std: [f32; 3],
}

impl Config {
    fn read(dir: &Path, file: &ConfigFile) -> Loaded<Self> {
        let PixelStatistics { mean, std } = PixelStatistics::read(dir)?;
        let mut config = Self {
            embed_dim: file.count("hidden_size", None)?,
            blocks: file.count("num_hidden_layers", None)?,
            heads: file.count("num_attention_heads", None)?,
            hidden: file.count("intermediate_size", None)?,
            patch_size: file.count("patch_size", Some(16))?,
            channels: 3,
            norm_eps: file.number("layer_norm_eps", 1e-12),
            qkv_bias: file.flag("qkv_bias", true),
            activation: file.activation(Activation::Gelu)?,
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
            family: "vit".to_owned(),
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
            qkv_bias: [self.qkv_bias; 3],
            output_bias: true,
            mlp_bias: true,
            layer_scale: false,
            gated: false,
            activation: self.activation,
        }
    }
}

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
    let config = Config::read(dir, &file)?;
    let mut weights = Weights::open(dir)?;
    let info = config.info(dir, weights.sha256()?)?;
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
