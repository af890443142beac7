//! What identifies a backbone, and what a task must know of it.

use super::adapter::SiteSpec;
use super::features::TokenLayout;
use super::weights::hex;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::path::Path;

/// What identifies a backbone.
#[derive(Clone, Debug, PartialEq)]
pub struct BackboneInfo {
    /// The folder's name.
    pub name: String,
    /// For example `dinov2`.
    pub family: String,
    /// d, the width of a token.
    pub embed_dim: usize,
    /// Number of transformer blocks.
    pub blocks: usize,
    /// Attention heads per block.
    pub heads: usize,
    /// Patch edge in pixels.
    pub patch_size: usize,
    /// Whether token 0 is a class token.
    pub class_token: bool,
    /// Register tokens per slice.
    pub registers: usize,
    /// Mean of each channel that pixels are normalised with.
    pub mean: [f32; 3],
    /// Deviation of each channel that pixels are normalised with.
    pub std: [f32; 3],
    /// Of `model.safetensors`, or of all shards one after the other in the order of their names.
    pub sha256: String,
    /// What a task's weights were trained on: sha256 over the weights' digest and the model's configuration.
    /// `dinov2_fingerprint` and `config_fingerprint` below say which parts of it.
    pub fingerprint: String,
}

impl BackboneInfo {
    /// Which tokens stand before the patches.
    pub fn layout(&self) -> TokenLayout {
        TokenLayout { class_token: self.class_token, registers: self.registers }
    }

    /// T: tokens of a slice of (h, w) patches.
    pub fn tokens(&self, grid: (usize, usize)) -> usize {
        self.layout().tokens(grid)
    }

    /// The layers that an adapter may touch, in the order of computation.
    pub fn sites(&self) -> Vec<SiteSpec> {
        SiteSpec::of_vit(self.embed_dim, self.blocks, self.patch_size)
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
            class_token: true,
            registers: 0,
            mean: [0.5; 3],
            std: [0.5; 3],
            sha256: text(),
            fingerprint: text(),
        }
    }
}

/// The name of a backbone: that of its folder.
pub(crate) fn name_of(dir: &Path) -> String {
    let name = dir.file_name().or(dir.as_os_str().into()).map(|n| n.to_string_lossy().into_owned());
    name.unwrap_or_default()
}

/// DINOv2's fingerprint: over the weights' digest, the dimensions, the patch size, mean and std.
///
/// It leaves out norm_eps, qkv_bias, swiglu and antialias. It must stay like this: trained weights carry it.
pub(crate) fn dinov2_fingerprint(info: &BackboneInfo) -> String {
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
    hex(&Sha256::digest(identity.as_bytes()))
}

/// The fingerprint of every later family: over the weights' digest and the whole configuration, as JSON, so that a field
/// added to a family's configuration cannot be forgotten here.
///
/// # Errors
/// When `config` does not serialise.
pub(crate) fn config_fingerprint(
    sha256: &str,
    family: &str,
    config: &impl Serialize,
) -> serde_json::Result<String> {
    let identity = format!("anymc3d-backbone-2 {sha256} {family} {}", serde_json::to_string(config)?);
    Ok(hex(&Sha256::digest(identity.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_of_dinov2_is_what_trained_weights_carry() {
        let info =
            BackboneInfo { family: "dinov2".into(), sha256: "ab".repeat(32), ..BackboneInfo::for_tests() };
        let pinned = "a6ad02ad1449d5627f92696a27429ef9b15b7048bed6f13eccf4ab6684627d71";
        assert_eq!(dinov2_fingerprint(&info), pinned);
        // What it covers.
        let of = |change: fn(&mut BackboneInfo)| {
            let mut changed = info.clone();
            change(&mut changed);
            dinov2_fingerprint(&changed)
        };
        let covered: [fn(&mut BackboneInfo); 9] = [
            |i| i.sha256 = "cd".repeat(32),
            |i| i.family = "dinov3".into(),
            |i| i.embed_dim = 16,
            |i| i.blocks = 3,
            |i| i.heads = 4,
            |i| i.patch_size = 7,
            |i| i.registers = 4,
            |i| i.mean[1] = 0.4,
            |i| i.std[2] = 0.4,
        ];
        assert!(covered.into_iter().all(|change| of(change) != pinned));
        assert_eq!(of(|i| i.name = "elsewhere".into()), pinned, "a folder may be renamed");
    }

    /// A family's configuration as a later family has it.
    #[derive(Clone, Serialize)]
    struct Later {
        embed_dim: usize,
        norm_eps: f64,
        gated: bool,
        activation: &'static str,
        mean: [f32; 3],
    }

    #[test]
    fn every_field_of_a_later_familys_configuration_changes_its_fingerprint() -> serde_json::Result<()> {
        let config =
            Later { embed_dim: 8, norm_eps: 1e-6, gated: false, activation: "gelu", mean: [0.1, 0.2, 0.3] };
        // Without `..`: a new field must be changed below.
        let Later { embed_dim: _, norm_eps: _, gated: _, activation: _, mean: _ } = config;
        let changes: [fn(&mut Later); 5] = [
            |c| c.embed_dim = 16,
            |c| c.norm_eps = 1e-5,
            |c| c.gated = true,
            |c| c.activation = "silu",
            |c| c.mean[2] = 0.300_000_03,
        ];
        let of = |c: &Later| config_fingerprint("ab", "later", c);
        let mut all = std::collections::BTreeSet::from([of(&config)?]);
        for change in changes {
            let mut changed = config.clone();
            change(&mut changed);
            all.insert(of(&changed)?);
        }
        all.extend([
            config_fingerprint("cd", "later", &config)?,
            config_fingerprint("ab", "other", &config)?,
        ]);
        assert_eq!(all.len(), changes.len() + 3);
        Ok(())
    }
}
