//! DINOv3's vision transformer: configuration → names → weights.
//!
//! Siméoni et al., "DINOv3" (2025); names and numbers as transformers 5.24 has them. Unlike DINOv2 it has no position table:
//! positions rotate q and k of the patches in every block. The random rescaling of coordinates in transformers' training mode
//! is left out: the frozen model is always in evaluation mode.

use super::block::{BlockNames, BlockShape};
use super::transformer::{Transformer, load_blocks};
use super::{Architecture, Loaded};
use crate::backbone::activation::Activation;
use crate::backbone::config::{ConfigFile, PixelStatistics};
use crate::backbone::embedding::{PatchEmbedding, patch_projection};
use crate::backbone::error::BackboneError;
use crate::backbone::info::{BackboneInfo, config_fingerprint, name_of};
use crate::backbone::layers::LayerNorm;
use crate::backbone::rotation::AxialRotation;
use crate::backbone::weights::Weights;
use serde::Serialize;
use std::path::Path;

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
    registers: usize,
    norm_eps: f64,
    query_bias: bool,
    key_bias: bool,
    value_bias: bool,
    proj_bias: bool,
    mlp_bias: bool,
    /// `down(act(gate(x)) · up(x))` instead of `down(act(up(x)))`.
    gated: bool,
    activation: Activation,
    rope_theta: f64,
    mean: [f32; 3],
    std: [f32; 3],
}

impl Config {
    /// And the number of image channels, which the weights' digest covers.
    fn read(dir: &Path, file: &ConfigFile) -> Loaded<(Self, usize)> {
        let activation = file.activation(Activation::Gelu)?;
        let PixelStatistics { mean, std } = PixelStatistics::read(dir)?;
        let config = Self {
            embed_dim: file.count("hidden_size", None)?,
            blocks: file.count("num_hidden_layers", None)?,
            heads: file.count("num_attention_heads", None)?,
            hidden: file.count("intermediate_size", None)?,
            patch_size: file.count("patch_size", Some(16))?,
            registers: file.count("num_register_tokens", Some(0))?,
            norm_eps: file.number("layer_norm_eps", 1e-5),
            query_bias: file.flag("query_bias", true),
            key_bias: file.flag("key_bias", false),
            value_bias: file.flag("value_bias", true),
            proj_bias: file.flag("proj_bias", true),
            mlp_bias: file.flag("mlp_bias", true),
            gated: file.flag("use_gated_mlp", false),
            activation,
            rope_theta: file.number("rope_theta", 100.0),
            mean,
            std,
        };
        let channels =
            file.check_dimensions(config.embed_dim, config.blocks, config.heads, config.patch_size)?;
        let head = config.embed_dim / config.heads;
        if !head.is_multiple_of(4) {
            return Err(file
                .error(format!("a head is {head} wide; rotary positions of two axes need a multiple of 4")));
        }
        Ok((config, channels))
    }

    fn info(&self, dir: &Path, sha256: String) -> Loaded<BackboneInfo> {
        let family = "dinov3";
        let fingerprint = config_fingerprint(&sha256, family, self)
            .map_err(|e| BackboneError::config(&dir.join("config.json"), e.to_string()))?;
        Ok(BackboneInfo {
            name: name_of(dir),
            family: family.to_owned(),
            embed_dim: self.embed_dim,
            blocks: self.blocks,
            heads: self.heads,
            patch_size: self.patch_size,
            class_token: true,
            registers: self.registers,
            mean: self.mean,
            std: self.std,
            sha256,
            fingerprint,
        })
    }

    fn block(&self) -> BlockShape {
        BlockShape {
            embed_dim: self.embed_dim,
            hidden: Some(self.hidden),
            norm_eps: self.norm_eps,
            qkv_bias: [self.query_bias, self.key_bias, self.value_bias],
            output_bias: self.proj_bias,
            mlp_bias: self.mlp_bias,
            layer_scale: true,
            gated: self.gated,
            activation: self.activation,
        }
    }
}

// ---- Names ----

const NAMES: BlockNames = BlockNames {
    norm1: "norm1",
    qkv: [&["attention.q_proj"], &["attention.k_proj"], &["attention.v_proj"]],
    fused_qkv: "",
    output: &["attention.o_proj"],
    scale1: "layer_scale1.lambda1",
    norm2: "norm2",
    up: &["mlp.up_proj"],
    gate: "mlp.gate_proj",
    gate_and_up: &[],
    down: &["mlp.down_proj"],
    scale2: "layer_scale2.lambda1",
};

/// The token of masked patches, which inference does not use; frequencies, which follow from theta; heads of other models.
const LEFT_ALONE: [&str; 4] =
    ["embeddings.mask_token", "rope_embeddings.", "classifier.", "model.rope_embeddings."];

// ---- Weights ----

/// Opens a folder of `model_type` dinov3_vit, on the processor.
pub(super) fn open(dir: &Path, file: ConfigFile) -> Loaded<Box<dyn Architecture>> {
    let (config, channels) = Config::read(dir, &file)?;
    let mut weights = Weights::open(dir)?;
    let info = config.info(dir, weights.sha256()?)?;
    let (d, w) = (config.embed_dim, &mut weights);
    let root = w.root_of("embeddings.cls_token");
    let name = |n: &str| format!("{root}{n}");
    let patches = name("embeddings.patch_embeddings");
    let registers = match config.registers {
        0 => None,
        n => Some(w.take(&name("embeddings.register_tokens"), &[1, n, d])?),
    };
    let embedding = PatchEmbedding {
        projection: patch_projection(w, &patches, (d, config.patch_size), channels, true)?,
        patch_size: config.patch_size,
        class_token: Some(w.take(&name("embeddings.cls_token"), &[1, 1, d])?),
        registers,
        positions: None,
        norm: None,
    };
    // transformers 5 puts the blocks under `model.` in memory; files of both namings exist.
    let layers = match w.contains(&name("model.layer.0.norm1.weight")) {
        true => name("model.layer"),
        false => name("layer"),
    };
    let blocks = load_blocks(w, &layers, config.blocks, &NAMES, &config.block())?;
    let norm = LayerNorm::load(w, &name("norm"), d, config.norm_eps)?;
    weights.finish(&root, &LEFT_ALONE)?;
    Ok(Box::new(Transformer {
        info,
        embedding,
        rotation: Some(AxialRotation::new(d / config.heads, config.rope_theta)),
        blocks,
        norm,
        patches_normed: true,
        head: None,
    }))
}
