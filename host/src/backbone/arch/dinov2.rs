//! DINOv2's vision transformer, with or without registers: configuration → weights → blocks → forward pass.
//!
//! Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision" (2023), and Darcet et al., "Vision
//! Transformers Need Registers" (2023); names and numbers as transformers 5.23 has them.
//!
//! Shapes: S slices, h × w patches, T = 1 + registers + h·w tokens, d the width of a token.

use super::Architecture;
use crate::backbone::adapter::{Site, SiteAdapter};
use crate::backbone::config::{ConfigFile, IMAGENET, PixelStatistics};
use crate::backbone::cpu::fused::{Arithmetic, BlockLayers, Fused, FusedBlock};
use crate::backbone::device_memory::BlockSize;
use crate::backbone::embedding::PatchEmbedding;
use crate::backbone::error::BackboneError;
use crate::backbone::features::HiddenStates;
use crate::backbone::info::{BackboneInfo, dinov2_fingerprint, name_of};
use crate::backbone::layers::{LayerNorm, Linear, adapted, attention};
use crate::backbone::position::PositionTable;
use crate::backbone::weights::Weights;
use candle_core::{DType, Device, Result, Tensor};
use std::path::Path;
use std::sync::Arc;

// ---- Configuration ----

struct Config {
    embed_dim: usize,
    blocks: usize,
    heads: usize,
    patch_size: usize,
    registers: usize,
    norm_eps: f64,
    qkv_bias: bool,
    swiglu: bool,
    /// transformers interpolates the positions of the model with registers with antialiasing.
    antialias: bool,
    pixels: PixelStatistics,
}

impl Config {
    fn read(dir: &Path, file: &ConfigFile) -> std::result::Result<Self, BackboneError> {
        let with_registers = file.model_type() == "dinov2_with_registers";
        let act = file.text("hidden_act").unwrap_or("gelu");
        if act != "gelu" {
            return Err(file.error(format!("hidden_act is \"{act}\", expected \"gelu\"")));
        }
        let config = Self {
            pixels: PixelStatistics::read(dir, IMAGENET)?,
            embed_dim: file.count("hidden_size", None)?,
            blocks: file.count("num_hidden_layers", None)?,
            heads: file.count("num_attention_heads", None)?,
            patch_size: file.count("patch_size", Some(14))?,
            registers: if with_registers { file.count("num_register_tokens", Some(4))? } else { 0 },
            norm_eps: file.number("layer_norm_eps", 1e-6),
            qkv_bias: file.flag("qkv_bias", true),
            swiglu: file.flag("use_swiglu_ffn", false),
            antialias: with_registers,
        };
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
}

// ---- Weights ----

struct Dinov2 {
    info: BackboneInfo,
    embedding: PatchEmbedding,
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
    /// [hidden, d]; twice as many rows where gated (SwiGLU: gate first, then value).
    up: Linear,
    /// [d, hidden]
    down: Linear,
    gated: bool,
}

/// Opens a folder of `model_type` dinov2 or dinov2_with_registers, on the processor.
pub(super) fn open(
    dir: &Path,
    file: &ConfigFile,
) -> std::result::Result<Box<dyn Architecture>, BackboneError> {
    let config = Config::read(dir, file)?;
    let weights = Weights::open(dir)?;
    let info = config.info(dir, weights.sha256()?);
    Ok(Box::new(Dinov2::load(info, &config, weights)?))
}

impl Dinov2 {
    fn load(
        info: BackboneInfo,
        config: &Config,
        mut weights: Weights,
    ) -> std::result::Result<Self, BackboneError> {
        let (d, p) = (config.embed_dim, config.patch_size);
        let root = weights.root_of("embeddings.cls_token");
        let name = |n: &str| format!("{root}{n}");
        let conv = weights.take(&name("embeddings.patch_embeddings.projection.weight"), &[d, 3, p, p])?;
        let projection = Linear {
            weight: conv.reshape((d, 3 * p * p))?,
            bias: weights.take(&name("embeddings.patch_embeddings.projection.bias"), &[d])?,
        };
        let class_token = weights.take(&name("embeddings.cls_token"), &[1, 1, d])?;
        let registers = match config.registers {
            0 => None,
            n => Some(weights.take(&name("embeddings.register_tokens"), &[1, n, d])?),
        };
        let positions = name("embeddings.position_embeddings");
        let positions = PositionTable::load(&mut weights, &positions, d, config.antialias)?;
        let embedding = PatchEmbedding {
            projection,
            patch_size: p,
            class_token: Some(class_token),
            registers,
            positions: Some(Arc::new(positions)),
        };
        let layer = |i: usize| name(&format!("encoder.layer.{i}"));
        let blocks: std::result::Result<Vec<_>, _> =
            (0..config.blocks).map(|i| Block::load(&mut weights, &layer(i), config)).collect();
        let blocks = blocks?;
        let norm = LayerNorm::load(&mut weights, &name("layernorm"), d, config.norm_eps)?;
        weights.finish()?;
        Ok(Self { info, embedding, blocks, norm })
    }
}

impl Block {
    fn load(weights: &mut Weights, layer: &str, config: &Config) -> std::result::Result<Self, BackboneError> {
        let (d, eps) = (config.embed_dim, config.norm_eps);
        // transformers 5 renamed the projections in memory; files of both namings exist.
        let old = weights.contains(&format!("{layer}.attention.attention.query.weight"));
        let [q, k, v, o] = match old {
            true => ["attention.query", "attention.key", "attention.value", "output.dense"],
            false => ["q_proj", "k_proj", "v_proj", "o_proj"],
        };
        let mut part = |name: &str| {
            Linear::load_with(weights, &format!("{layer}.attention.{name}"), d, d, config.qkv_bias)
        };
        let qkv = Linear::stacked(&[part(q)?, part(k)?, part(v)?])?;
        Ok(Self {
            norm1: LayerNorm::load(weights, &format!("{layer}.norm1"), d, eps)?,
            qkv,
            output: Linear::load(weights, &format!("{layer}.attention.{o}"), d, d)?,
            scale1: weights.take(&format!("{layer}.layer_scale1.lambda1"), &[d])?,
            norm2: LayerNorm::load(weights, &format!("{layer}.norm2"), d, eps)?,
            mlp: Mlp::load(weights, &format!("{layer}.mlp"), config)?,
            scale2: weights.take(&format!("{layer}.layer_scale2.lambda1"), &[d])?,
        })
    }
}

impl Mlp {
    fn load(weights: &mut Weights, mlp: &str, config: &Config) -> std::result::Result<Self, BackboneError> {
        let (d, gated) = (config.embed_dim, config.swiglu);
        let [up, down] = if gated { ["weights_in", "weights_out"] } else { ["fc1", "fc2"] };
        let (up, down) = (format!("{mlp}.{up}"), format!("{mlp}.{down}"));
        // The hidden width follows from mlp_ratio by a rounding rule of the family; the file knows it.
        let width = |name: &str, axis: usize| Some(*weights.shape(&format!("{name}.weight"))?.get(axis)?);
        let per_unit = if gated { 2 } else { 1 };
        let hidden = width(&down, 1).or(width(&up, 0).map(|rows| rows / per_unit)).unwrap_or(4 * d);
        let rows = per_unit * hidden;
        Ok(Self {
            up: Linear::load(weights, &up, d, rows)?,
            down: Linear::load(weights, &down, hidden, d)?,
            gated,
        })
    }
}

// ---- Forward pass ----

impl Block {
    /// Tokens [S, T, d] → [S, T, d], and the class token's attention [S, T] where asked for.
    fn forward(
        &self,
        i: usize,
        x: &Tensor,
        heads: usize,
        adapter: &dyn SiteAdapter,
        want_attention: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let qkv = adapted(&self.qkv, &self.norm1.forward(x)?, Site::Qkv(i), adapter)?; // [S, T, 3d]
        let (mixed, class) = attention(&qkv, heads, want_attention)?; // [S, T, d], [S, T]
        let mixed = adapted(&self.output, &mixed, Site::AttentionOutput(i), adapter)?;
        let x = (x + mixed.broadcast_mul(&self.scale1)?)?;
        let changed = self.mlp.forward(&self.norm2.forward(&x)?)?;
        Ok(((x + changed.broadcast_mul(&self.scale2)?)?, class))
    }

    fn layers(&self, heads: usize) -> BlockLayers<'_> {
        BlockLayers {
            norm1: &self.norm1,
            qkv: &self.qkv,
            output: &self.output,
            scale1: Some(&self.scale1),
            norm2: &self.norm2,
            up: &self.mlp.up,
            down: &self.mlp.down,
            scale2: Some(&self.scale2),
            gated: self.mlp.gated,
            heads,
        }
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
            },
            scale2: self.scale2.to_device(device)?,
        })
    }
}

impl Mlp {
    /// [S, T, d] → [S, T, d]
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.up.forward(&x.to_dtype(self.up.weight.dtype())?)?; // [S, T, hidden or 2·hidden]
        let x = if self.gated {
            let hidden = x.dim(2)? / 2;
            (x.narrow(2, 0, hidden)?.silu()? * x.narrow(2, hidden, hidden)?)?
        } else {
            x.gelu_erf()?
        };
        self.down.forward_wide(&x)
    }
}

impl Architecture for Dinov2 {
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
        let (i, heads) = (x.block, self.info.heads);
        let (tokens, class) = self.blocks[i].forward(i, &x.tokens, heads, adapter, want_attention)?;
        Ok((x.next(tokens), class))
    }

    fn final_norm(&self, tokens: &Tensor) -> Result<Tensor> {
        self.norm.forward(tokens)
    }

    fn fused(&self, arithmetic: Arithmetic) -> Result<Option<Fused>> {
        let block = |b: &Block| FusedBlock::new(arithmetic, &b.layers(self.info.heads));
        let blocks = self.blocks.iter().map(block).collect::<Result<_>>()?;
        Ok(Some(Fused::new(arithmetic, &self.embedding, blocks, &self.norm)?))
    }
}
