//! timm's vision transformers with a class token (DINOv2, DINO, MAE, supervised): configuration → names → weights.
//!
//! Names and numbers as timm 1.0.31 has them. It resizes positions with antialiasing, where transformers' DINOv2, DINO and
//! ViT do not: the same weights are another model below their trained size, with another fingerprint. timm's `config.json`
//! gives an architecture's name, mean and deviation; the tensors give the dimensions, but for the number of heads.

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
    patch_size: usize,
    channels: usize,
    registers: usize,
    norm_eps: f64,
    qkv_bias: bool,
    layer_scale: bool,
    /// SwiGLU with both halves in one layer.
    gated: bool,
    interpolation: Interpolation,
    mean: [f32; 3],
    std: [f32; 3],
}

/// Attention heads by the size in an architecture's name.
const HEADS: [(&str, usize); 7] = [
    ("vit_tiny_", 3),
    ("vit_small_", 6),
    ("vit_base_", 12),
    ("vit_large_", 16),
    ("vit_huge_", 16),
    ("vit_giant_patch14_dinov2", 24),
    ("vit_giant_patch14_reg4_dinov2", 24),
];

impl Config {
    fn read(dir: &Path, file: &ConfigFile, w: &Weights, root: &str) -> Loaded<Self> {
        let architecture = file.text("architecture").unwrap_or_default();
        let told = file.part("model_args").map(|a| a.count("num_heads", Some(0))).transpose()?.unwrap_or(0);
        let by_name = HEADS.iter().find(|(size, _)| architecture.starts_with(size)).map(|(_, heads)| *heads);
        let Some(heads) = by_name.filter(|_| told == 0).or((told > 0).then_some(told)) else {
            let message = format!(
                "architecture \"{architecture}\" is not one of timm's that this host knows; give \"model_args\": {{\"num_heads\": …}} where it is a plain vision transformer"
            );
            return Err(file.error(message));
        };
        let dims = |name: &str| w.shape(&format!("{root}{name}")).map(<[usize]>::to_vec).unwrap_or_default();
        let at = |name: &str, axis: usize| dims(name).get(axis).copied();
        let PixelStatistics { mean, std } = PixelStatistics::read(dir)?;
        let first = |name: &str| w.contains(&format!("{root}blocks.0.{name}"));
        let config = Self {
            embed_dim: at("cls_token", 2).unwrap_or(0),
            blocks: (0..).take_while(|i| w.contains(&format!("{root}blocks.{i}.norm1.weight"))).count(),
            heads,
            patch_size: at("patch_embed.proj.weight", 2).unwrap_or(0),
            channels: at("patch_embed.proj.weight", 1).unwrap_or(3),
            registers: at("reg_token", 1).unwrap_or(0),
            norm_eps: 1e-6,
            qkv_bias: first("attn.qkv.bias"),
            layer_scale: first("ls1.gamma"),
            gated: at("blocks.0.mlp.fc1.weight", 0) == at("blocks.0.mlp.fc2.weight", 1).map(|h| 2 * h),
            interpolation: Interpolation::BicubicAntialiased,
            mean,
            std,
        };
        if config.embed_dim == 0 || config.blocks == 0 || config.patch_size == 0 {
            let message = "has no cls_token, patch_embed.proj.weight and blocks.0, which timm's vision transformers have";
            return Err(w.error(message));
        }
        if !matches!(config.channels, 1 | 3) {
            return Err(w.error(format!("reads {} image channels, expected 1 or 3", config.channels)));
        }
        file.check_dimensions(config.embed_dim, config.blocks, config.heads, config.patch_size)?;
        Ok(config)
    }

    fn info(&self, dir: &Path, sha256: String) -> Loaded<BackboneInfo> {
        let info = BackboneInfo {
            name: name_of(dir),
            family: "timm_vit".to_owned(),
            embed_dim: self.embed_dim,
            blocks: self.blocks,
            heads: self.heads,
            patch_size: self.patch_size,
            class_token: true,
            registers: self.registers,
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
            hidden: None,
            norm_eps: self.norm_eps,
            qkv_bias: [self.qkv_bias; 3],
            output_bias: true,
            mlp_bias: true,
            layer_scale: self.layer_scale,
            gated: self.gated,
            activation: if self.gated { Activation::Silu } else { Activation::Gelu },
        }
    }
}

// ---- Names ----

const NAMES: BlockNames = BlockNames {
    norm1: "norm1",
    qkv: [&["attn.q_proj"], &["attn.k_proj"], &["attn.v_proj"]],
    fused_qkv: "attn.qkv",
    output: &["attn.proj"],
    scale1: "ls1.gamma",
    norm2: "norm2",
    up: &["mlp.fc1"],
    gate: "",
    gate_and_up: &["mlp.fc1"],
    down: &["mlp.fc2"],
    scale2: "ls2.gamma",
};

/// The token of masked patches, a classifier, and the text tower, projection and loss of open_clip (BiomedCLIP).
const LEFT_ALONE: [&str; 6] = ["mask_token", "head.", "text.", "visual.head.", "logit_scale", "logit_bias"];

// ---- Weights ----

/// Opens a folder of timm, on the processor.
pub(super) fn open(dir: &Path, file: ConfigFile) -> Loaded<Box<dyn Architecture>> {
    let mut weights = Weights::open(dir)?;
    let root = weights.root_of("cls_token");
    let config = Config::read(dir, &file, &weights, &root)?;
    let info = config.info(dir, weights.sha256()?)?;
    let (d, w) = (config.embed_dim, &mut weights);
    let name = |n: &str| format!("{root}{n}");
    let registers = match config.registers {
        0 => None,
        n => Some(w.take(&name("reg_token"), &[1, n, d])?),
    };
    let positions = name("pos_embed");
    // Models with registers have positions of the patches alone: then the rows are a square.
    let rows = w.shape(&positions).and_then(|s| s.get(1)).copied().unwrap_or(0);
    let of_class = rows.isqrt().pow(2) != rows;
    let positions = PositionTable::load(w, &positions, d, of_class, config.interpolation)?;
    let (patches, p) = (name("patch_embed.proj"), config.patch_size);
    let embedding = PatchEmbedding {
        projection: patch_projection(w, &patches, (d, p), config.channels, true)?,
        patch_size: p,
        class_token: Some(w.take(&name("cls_token"), &[1, 1, d])?),
        registers,
        positions: Some(Arc::new(positions)),
        norm: None,
    };
    let blocks = load_blocks(w, &name("blocks"), config.blocks, &NAMES, &config.block())?;
    let norm = LayerNorm::load(w, &name("norm"), d, config.norm_eps)?;
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
