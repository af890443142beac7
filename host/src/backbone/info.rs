//! What identifies a backbone.

use super::config::Config;
use super::weights::hex;
use sha2::{Digest, Sha256};
use std::path::Path;

/// What identifies a backbone.
#[derive(Clone, Debug, PartialEq)]
pub struct BackboneInfo {
    /// The folder's name.
    pub name: String,
    pub family: String,
    pub embed_dim: usize,
    pub blocks: usize,
    pub heads: usize,
    pub patch_size: usize,
    pub registers: usize,
    pub mean: [f32; 3],
    pub std: [f32; 3],
    /// Of `model.safetensors`, or of all shards one after the other in the order of their names.
    pub sha256: String,
    /// sha256 over the weights' digest, the dimensions, the patch size, mean and std: what a task's
    /// weights were trained on.
    pub fingerprint: String,
}

impl BackboneInfo {
    pub(crate) fn of(dir: &Path, config: &Config, sha256: String) -> Self {
        let name = dir.file_name().or(dir.as_os_str().into()).map(|n| n.to_string_lossy().into_owned());
        let mut info = Self {
            name: name.unwrap_or_default(),
            family: "dinov2".to_string(),
            embed_dim: config.embed_dim,
            blocks: config.blocks,
            heads: config.heads,
            patch_size: config.patch_size,
            registers: config.registers,
            mean: config.mean,
            std: config.std,
            sha256,
            fingerprint: String::new(),
        };
        let identity = format!(
            "anymc3d-backbone-1 {} {} {} {} {} {} {} {:?} {:?}",
            info.sha256,
            info.family,
            info.embed_dim,
            info.blocks,
            info.heads,
            info.patch_size,
            info.registers,
            info.mean,
            info.std
        );
        info.fingerprint = hex(&Sha256::digest(identity.as_bytes()));
        info
    }

    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        let text = || "test".to_string();
        Self {
            name: text(),
            family: text(),
            embed_dim: 8,
            blocks: 2,
            heads: 2,
            patch_size: 2,
            registers: 0,
            mean: [0.5; 3],
            std: [0.5; 3],
            sha256: text(),
            fingerprint: text(),
        }
    }
}
