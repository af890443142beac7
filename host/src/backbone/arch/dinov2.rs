//! DINOv2's vision transformer, with or without registers: configuration → names → weights. RAD-DINO and Curia are DINOv2.
//!
//! Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision" (2023), and Darcet et al., "Vision
//! Transformers Need Registers" (2023); names and numbers as transformers 5.24 has them.

use super::block::{BlockNames, BlockShape};
use super::transformer::{Transformer, load_blocks};
use super::{Architecture, Loaded};
use crate::backbone::activation::Activation;
use crate::backbone::config::{ConfigFile, PixelStatistics};
use crate::backbone::embedding::{PatchEmbedding, patch_projection};
use crate::backbone::info::{BackboneInfo, dinov2_fingerprint, name_of};
use crate::backbone::layers::LayerNorm;
use crate::backbone::position::{Interpolation, PositionTable};
use crate::backbone::weights::Weights;
use std::path::Path;
use std::sync::Arc;

// ---- Configuration ----

struct Config {
    embed_dim: usize,
    blocks: usize,
    heads: usize,
    patch_size: usize,
    channels: usize,
    registers: usize,
    norm_eps: f64,
    qkv_bias: bool,
    swiglu: bool,
    /// transformers interpolates the positions of the model with registers with antialiasing.
    interpolation: Interpolation,
    pixels: PixelStatistics,
}

impl Config {
    fn read(dir: &Path, file: &ConfigFile) -> Loaded<Self> {
        let with_registers = file.model_type() == "dinov2_with_registers";
        if file.activation(Activation::Gelu)? != Activation::Gelu {
            let found = file.text("hidden_act").unwrap_or_default();
            return Err(file.error(format!("hidden_act is \"{found}\", expected \"gelu\"")));
        }
        let mut config = Self {
            pixels: PixelStatistics::read(dir)?,
            embed_dim: file.count("hidden_size", None)?,
            blocks: file.count("num_hidden_layers", None)?,
            heads: file.count("num_attention_heads", None)?,
            patch_size: file.count("patch_size", Some(14))?,
            channels: 3,
            registers: if with_registers { file.count("num_register_tokens", Some(4))? } else { 0 },
            norm_eps: file.number("layer_norm_eps", 1e-6),
            qkv_bias: file.flag("qkv_bias", true),
            swiglu: file.flag("use_swiglu_ffn", false),
            interpolation: match with_registers {
                true => Interpolation::BicubicAntialiased,
                false => Interpolation::Bicubic,
            },
        };
        config.channels =
            file.check_dimensions(config.embed_dim, config.blocks, config.heads, config.patch_size)?;
        Ok(config)
    }

    fn info(&self, dir: &Path, sha256: String) -> BackboneInfo {
        let mut info = BackboneInfo {
            name: name_of(dir),
            family: "dinov2".to_owned(),
            embed_dim: self.embed_dim,
            blocks: self.blocks,
            heads: self.heads,
            patch_size: self.patch_size,
            class_token: true,
            registers: self.registers,
            mean: self.pixels.mean,
            std: self.pixels.std,
            sha256,
            fingerprint: String::new(),
        };
        info.fingerprint = dinov2_fingerprint(&info);
        info
    }

    fn block(&self) -> BlockShape {
        BlockShape {
            embed_dim: self.embed_dim,
            hidden: None,
            norm_eps: self.norm_eps,
            qkv_bias: [self.qkv_bias; 3],
            output_bias: true,
            mlp_bias: true,
            layer_scale: true,
            gated: self.swiglu,
            activation: if self.swiglu { Activation::Silu } else { Activation::Gelu },
        }
    }
}

// ---- Names ----

/// In the file, then as transformers 5 has them in memory.
const NAMES: BlockNames = BlockNames {
    norm1: "norm1",
    qkv: [
        &["attention.attention.query", "attention.q_proj"],
        &["attention.attention.key", "attention.k_proj"],
        &["attention.attention.value", "attention.v_proj"],
    ],
    fused_qkv: "",
    output: &["attention.output.dense", "attention.o_proj"],
    scale1: "layer_scale1.lambda1",
    norm2: "norm2",
    up: &["mlp.fc1", "mlp.up_proj"],
    gate: "mlp.gate_proj",
    gate_and_up: &["mlp.weights_in"],
    down: &["mlp.fc2", "mlp.weights_out", "mlp.down_proj"],
    scale2: "layer_scale2.lambda1",
};

/// The token of masked patches, which inference does not use, and heads of other models on it.
const LEFT_ALONE: [&str; 5] = ["embeddings.mask_token", "classifier.", "neck.", "head.", "decode_head."];

// ---- Weights ----

/// Opens a folder of `model_type` dinov2 or dinov2_with_registers, on the processor.
pub(super) fn open(dir: &Path, file: ConfigFile) -> Loaded<Box<dyn Architecture>> {
    let config = Config::read(dir, &file)?;
    let mut weights = Weights::open(dir)?;
    let info = config.info(dir, weights.sha256()?);
    let (d, w) = (config.embed_dim, &mut weights);
    let root = w.root_of("embeddings.cls_token");
    let name = |n: &str| format!("{root}{n}");
    let patches = name("embeddings.patch_embeddings.projection");
    let registers = match config.registers {
        0 => None,
        n => Some(w.take(&name("embeddings.register_tokens"), &[1, n, d])?),
    };
    let positions = name("embeddings.position_embeddings");
    let embedding = PatchEmbedding {
        projection: patch_projection(w, &patches, (d, config.patch_size), config.channels, true)?,
        patch_size: config.patch_size,
        class_token: Some(w.take(&name("embeddings.cls_token"), &[1, 1, d])?),
        registers,
        positions: Some(Arc::new(PositionTable::load(w, &positions, d, true, config.interpolation)?)),
        norm: None,
    };
    let blocks = load_blocks(w, &name("encoder.layer"), config.blocks, &NAMES, &config.block())?;
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
