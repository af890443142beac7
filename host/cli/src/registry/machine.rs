//! What this machine has: target, ABI, backbones.

use crate::console::Console;
use crate::outcome::CommandError;
use anymc3d_host::backbone::{Backbone, Precision};
use anymc3d_host::engine::all_backbones;
use anymc3d_host::plugin::section::this_target;
use anymc3d_plugin_api::abi::objects::ABI_VERSION_TEXT;
use anymc3d_registry::{BackboneHere, Platform};
use std::path::{Path, PathBuf};

/// The platform, and where its backbones are.
pub(super) struct Machine {
    pub platform: Platform,
    folders: Vec<PathBuf>,
}

impl Machine {
    /// Opens every backbone, since a fingerprint is of its weights.
    pub fn look(console: &Console) -> Result<Self, CommandError> {
        let (mut backbones, mut folders) = (Vec::new(), Vec::new());
        for folder in all_backbones() {
            match Backbone::open(&folder, Precision::F32) {
                Ok(backbone) => {
                    let info = backbone.info();
                    backbones.push(BackboneHere {
                        name: info.name.clone(),
                        family: info.family.clone(),
                        embed_dim: info.embed_dim,
                        fingerprint: info.fingerprint.clone(),
                    });
                    folders.push(folder);
                }
                Err(e) => console.warning(e),
            }
        }
        let abi = ABI_VERSION_TEXT.parse().map_err(CommandError::failed)?;
        Ok(Self { platform: Platform { target: this_target(), abi, backbones }, folders })
    }

    /// The folder of the backbone with a fingerprint.
    pub fn backbone(&self, fingerprint: &str) -> Option<&Path> {
        let at = self.platform.backbones.iter().position(|b| b.fingerprint == fingerprint)?;
        self.folders.get(at).map(PathBuf::as_path)
    }
}
