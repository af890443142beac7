//! The configuration that CLIP, SigLIP and the plain vision transformer share: no registers, no layer scale, no gate.

use super::block::BlockShape;
use super::{Loaded, identified};
use crate::backbone::activation::Activation;
use crate::backbone::config::{ConfigFile, PixelStatistics};
use crate::backbone::info::{BackboneInfo, name_of};
use crate::backbone::position::Interpolation;
use serde::Serialize;
use std::path::Path;

/// Every field of it goes into the fingerprint.
#[derive(Serialize)]
pub(super) struct PlainConfig {
    pub embed_dim: usize,
    pub blocks: usize,
    pub heads: usize,
    /// Hidden width of the MLP.
    pub hidden: usize,
    pub patch_size: usize,
    pub channels: usize,
    pub norm_eps: f64,
    pub qkv_bias: bool,
    pub activation: Activation,
    pub interpolation: Interpolation,
    mean: [f32; 3],
    std: [f32; 3],
}

/// What a family's configuration in transformers says where a file leaves a key out.
pub(super) struct Defaults {
    /// Width, blocks, heads and hidden width; `None`: the file must say them.
    pub sizes: Option<[usize; 4]>,
    pub patch_size: usize,
    pub norm_eps: f64,
    pub activation: Activation,
}

impl PlainConfig {
    /// # Errors
    /// When a key is missing or cannot be, or no file gives mean and deviation of the pixels.
    pub fn read(
        dir: &Path,
        file: &ConfigFile,
        defaults: &Defaults,
        interpolation: Interpolation,
    ) -> Loaded<Self> {
        let PixelStatistics { mean, std } = PixelStatistics::read(dir)?;
        let size = |key: &str, at: usize| file.count(key, defaults.sizes.map(|sizes| sizes[at]));
        let mut config = Self {
            embed_dim: size("hidden_size", 0)?,
            blocks: size("num_hidden_layers", 1)?,
            heads: size("num_attention_heads", 2)?,
            hidden: size("intermediate_size", 3)?,
            patch_size: file.count("patch_size", Some(defaults.patch_size))?,
            channels: 3,
            norm_eps: file.number("layer_norm_eps", defaults.norm_eps),
            qkv_bias: file.flag("qkv_bias", true),
            activation: file.activation(defaults.activation)?,
            interpolation,
            mean,
            std,
        };
        config.channels =
            file.check_dimensions(config.embed_dim, config.blocks, config.heads, config.patch_size)?;
        Ok(config)
    }

    /// Of the weights with this digest.
    pub fn info(&self, dir: &Path, family: &str, class_token: bool, sha256: String) -> Loaded<BackboneInfo> {
        let info = BackboneInfo {
            name: name_of(dir),
            family: family.to_owned(),
            embed_dim: self.embed_dim,
            blocks: self.blocks,
            heads: self.heads,
            patch_size: self.patch_size,
            class_token,
            registers: 0,
            mean: self.mean,
            std: self.std,
            sha256,
            fingerprint: String::new(),
        };
        identified(dir, info, self)
    }

    pub fn block(&self) -> BlockShape {
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
