//! DINOv3's vision transformer: configuration → weights → blocks → forward pass.
//!
//! Siméoni et al., "DINOv3" (2025); names and numbers as transformers 5.23 has them. Unlike DINOv2 it has no position table:
//! positions rotate q and k of the patches in every block. The random rescaling of coordinates in transformers' training mode
//! is left out: the frozen model is always in evaluation mode.
//!
//! Shapes: S slices, h × w patches, T = 1 + registers + h·w tokens, d the width of a token, head = d / heads.

use super::Architecture;
use crate::backbone::adapter::{Site, SiteAdapter};
use crate::backbone::config::{ConfigFile, IMAGENET, PixelStatistics};
use crate::backbone::cpu::fused::{Arithmetic, Fused};
use crate::backbone::device_memory::BlockSize;
use crate::backbone::embedding::PatchEmbedding;
use crate::backbone::error::BackboneError;
use crate::backbone::features::HiddenStates;
use crate::backbone::info::{BackboneInfo, config_fingerprint, name_of};
use crate::backbone::layers::{LayerNorm, Linear, adapted, attend, split_heads};
use crate::backbone::rotation::{AxialRotation, Rotation};
use crate::backbone::weights::Weights;
use candle_core::{DType, Device, Result, Tensor};
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

#[derive(Clone, Copy, Serialize)]
enum Activation {
    /// By the error function.
    Gelu,
    Silu,
}

impl Config {
    fn read(dir: &Path, file: &ConfigFile) -> std::result::Result<Self, BackboneError> {
        let activation = match file.text("hidden_act").unwrap_or("gelu") {
            "gelu" => Activation::Gelu,
            "silu" => Activation::Silu,
            other => {
                return Err(file.error(format!("hidden_act is \"{other}\", expected \"gelu\" or \"silu\"")));
            }
        };
        let PixelStatistics { mean, std } = PixelStatistics::read(dir, IMAGENET)?;
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
        file.check_dimensions(config.embed_dim, config.blocks, config.heads, config.patch_size)?;
        let head = config.embed_dim / config.heads;
        if !head.is_multiple_of(4) {
            return Err(file
                .error(format!("a head is {head} wide; rotary positions of two axes need a multiple of 4")));
        }
        Ok(config)
    }

    fn info(&self, dir: &Path, sha256: String) -> std::result::Result<BackboneInfo, BackboneError> {
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
}

// ---- Weights ----

struct Dinov3 {
    info: BackboneInfo,
    embedding: PatchEmbedding,
    positions: AxialRotation,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

struct Block {
    norm1: LayerNorm,
    /// Query, key and value stacked, [3d, d].
    qkv: Linear,
    output: Linear,
    scale1: Tensor, // [d]
    norm2: LayerNorm,
    mlp: Mlp,
    scale2: Tensor, // [d]
}

struct Mlp {
    /// [hidden, d]; gated [2·hidden, d], gate first.
    up: Linear,
    /// [d, hidden]
    down: Linear,
    gated: bool,
    activation: Activation,
}

/// Opens a folder of `model_type` dinov3_vit, on the processor.
pub(super) fn open(
    dir: &Path,
    file: &ConfigFile,
) -> std::result::Result<Box<dyn Architecture>, BackboneError> {
    let config = Config::read(dir, file)?;
    let weights = Weights::open(dir)?;
    let info = config.info(dir, weights.sha256()?)?;
    Ok(Box::new(Dinov3::load(info, &config, weights)?))
}

impl Dinov3 {
    fn load(
        info: BackboneInfo,
        config: &Config,
        mut weights: Weights,
    ) -> std::result::Result<Self, BackboneError> {
        let (d, p) = (config.embed_dim, config.patch_size);
        let root = weights.root_of("embeddings.cls_token");
        let name = |n: &str| format!("{root}{n}");
        let conv = weights.take(&name("embeddings.patch_embeddings.weight"), &[d, 3, p, p])?;
        let projection = Linear {
            weight: conv.reshape((d, 3 * p * p))?,
            bias: weights.take(&name("embeddings.patch_embeddings.bias"), &[d])?,
        };
        let class_token = weights.take(&name("embeddings.cls_token"), &[1, 1, d])?;
        let registers = match config.registers {
            0 => None,
            n => Some(weights.take(&name("embeddings.register_tokens"), &[1, n, d])?),
        };
        let embedding = PatchEmbedding {
            projection,
            patch_size: p,
            class_token: Some(class_token),
            registers,
            positions: None,
        };
        // transformers 5 puts the blocks under `model.` in memory; files of both namings exist.
        let layers = match weights.contains(&name("model.layer.0.norm1.weight")) {
            true => name("model.layer"),
            false => name("layer"),
        };
        let mut blocks = Vec::new();
        for i in 0..config.blocks {
            blocks.push(Block::load(&mut weights, &format!("{layers}.{i}"), config)?);
        }
        let norm = LayerNorm::load(&mut weights, &name("norm"), d, config.norm_eps)?;
        weights.finish()?;
        let positions = AxialRotation::new(d / config.heads, config.rope_theta);
        Ok(Self { info, embedding, positions, blocks, norm })
    }
}

impl Block {
    fn load(weights: &mut Weights, layer: &str, c: &Config) -> std::result::Result<Self, BackboneError> {
        let d = c.embed_dim;
        let mut part = |name: &str, bias: bool| {
            Linear::load_with(weights, &format!("{layer}.attention.{name}"), d, d, bias)
        };
        let [q, k, v] =
            [part("q_proj", c.query_bias)?, part("k_proj", c.key_bias)?, part("v_proj", c.value_bias)?];
        Ok(Self {
            output: part("o_proj", c.proj_bias)?,
            qkv: Linear::stacked(&[q, k, v])?,
            norm1: LayerNorm::load(weights, &format!("{layer}.norm1"), d, c.norm_eps)?,
            scale1: weights.take(&format!("{layer}.layer_scale1.lambda1"), &[d])?,
            norm2: LayerNorm::load(weights, &format!("{layer}.norm2"), d, c.norm_eps)?,
            mlp: Mlp::load(weights, &format!("{layer}.mlp"), c)?,
            scale2: weights.take(&format!("{layer}.layer_scale2.lambda1"), &[d])?,
        })
    }
}

impl Mlp {
    fn load(weights: &mut Weights, mlp: &str, c: &Config) -> std::result::Result<Self, BackboneError> {
        let mut part = |name: &str, d_in: usize, d_out: usize| {
            Linear::load_with(weights, &format!("{mlp}.{name}"), d_in, d_out, c.mlp_bias)
        };
        let up = part("up_proj", c.embed_dim, c.hidden)?;
        let up = match c.gated {
            true => Linear::stacked(&[part("gate_proj", c.embed_dim, c.hidden)?, up])?,
            false => up,
        };
        let down = part("down_proj", c.hidden, c.embed_dim)?;
        Ok(Self { up, down, gated: c.gated, activation: c.activation })
    }
}

// ---- Forward pass ----

impl Block {
    /// Tokens [S, T, d] → [S, T, d], and the class token's attention [S, T] where asked for.
    fn forward(
        &self,
        i: usize,
        x: &HiddenStates,
        heads: usize,
        rotation: &Rotation,
        adapter: &dyn SiteAdapter,
        want_attention: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let qkv = adapted(&self.qkv, &self.norm1.forward(&x.tokens)?, Site::Qkv(i), adapter)?; // [S, T, 3d]
        let [q, k, v] = split_heads(&qkv, heads)?; // [S, heads, T, head] each
        let leading = x.layout.leading();
        let (q, k) = (rotation.apply(&q, leading)?, rotation.apply(&k, leading)?);
        let (mixed, class) = attend(&q, &k, &v, want_attention)?; // [S, T, d], [S, T]
        let mixed = adapted(&self.output, &mixed, Site::AttentionOutput(i), adapter)?;
        let x = (&x.tokens + mixed.broadcast_mul(&self.scale1)?)?;
        let changed = self.mlp.forward(&self.norm2.forward(&x)?)?;
        Ok(((x + changed.broadcast_mul(&self.scale2)?)?, class))
    }

    fn bytes(&self) -> usize {
        let layers = [&self.qkv, &self.output, &self.mlp.up, &self.mlp.down];
        let scales = [&self.scale1, &self.scale2].map(|s| s.elem_count() * s.dtype().size_in_bytes());
        let of_layers: usize = layers.into_iter().map(Linear::bytes).sum();
        of_layers + self.norm1.bytes() + self.norm2.bytes() + scales.iter().sum::<usize>()
    }

    /// Output projections keep an f32 bias: what is added to the tokens is not rounded.
    fn to_device(&self, device: &Device, dtype: DType) -> Result<Self> {
        let into_tokens = |l: &Linear| l.to_device(device, dtype, DType::F32);
        Ok(Self {
            norm1: self.norm1.to_device(device)?,
            qkv: self.qkv.to_device(device, dtype, dtype)?,
            output: into_tokens(&self.output)?,
            scale1: self.scale1.to_device(device)?,
            norm2: self.norm2.to_device(device)?,
            mlp: Mlp {
                up: self.mlp.up.to_device(device, dtype, dtype)?,
                down: into_tokens(&self.mlp.down)?,
                gated: self.mlp.gated,
                activation: self.mlp.activation,
            },
            scale2: self.scale2.to_device(device)?,
        })
    }
}

impl Mlp {
    /// [S, T, d] → [S, T, d]
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let act = |x: Tensor| match self.activation {
            Activation::Gelu => x.gelu_erf(),
            Activation::Silu => x.silu(),
        };
        let x = self.up.forward(&x.to_dtype(self.up.weight.dtype())?)?; // [S, T, hidden or 2·hidden]
        let x = if self.gated {
            let hidden = x.dim(2)? / 2;
            (act(x.narrow(2, 0, hidden)?)? * x.narrow(2, hidden, hidden)?)?
        } else {
            act(x)?
        };
        self.down.forward_wide(&x)
    }
}

impl Architecture for Dinov3 {
    fn info(&self) -> &BackboneInfo {
        &self.info
    }

    fn bytes(&self) -> usize {
        self.embedding.bytes() + self.norm.bytes() + self.blocks.iter().map(Block::bytes).sum::<usize>()
    }

    fn block_size(&self) -> BlockSize {
        BlockSize {
            embed_dim: self.info.embed_dim,
            heads: self.info.heads,
            hidden: self.blocks.first().map_or(0, |b| b.mlp.up.weight.dims()[0]),
            number: self.embedding.projection.weight.dtype().size_in_bytes(),
        }
    }

    fn to_device(&self, device: &Device, dtype: DType) -> Result<Box<dyn Architecture>> {
        Ok(Box::new(Self {
            info: self.info.clone(),
            embedding: self.embedding.to_device(device, dtype)?,
            positions: self.positions.to_device(device),
            blocks: self.blocks.iter().map(|b| b.to_device(device, dtype)).collect::<Result<_>>()?,
            norm: self.norm.to_device(device)?,
        }))
    }

    fn embed(&self, pixels: &Tensor, adapter: &dyn SiteAdapter) -> Result<HiddenStates> {
        self.embedding.forward(pixels, adapter)
    }

    fn block(
        &self,
        x: &HiddenStates,
        adapter: &dyn SiteAdapter,
        want_attention: bool,
    ) -> Result<(HiddenStates, Option<Tensor>)> {
        let (i, heads, rotation) = (x.block, self.info.heads, self.positions.at(x.grid)?);
        let (tokens, class) = self.blocks[i].forward(i, x, heads, &rotation, adapter, want_attention)?;
        Ok((x.next(tokens), class))
    }

    fn final_norm(&self, tokens: &Tensor) -> Result<Tensor> {
        self.norm.forward(tokens)
    }

    /// The kernels have no rotation yet.
    fn fused(&self, _arithmetic: Arithmetic) -> Result<Option<Fused>> {
        Ok(None)
    }
}
