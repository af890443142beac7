//! A task's trained weights: one safetensors file whose metadata says what they belong to.

use crate::fs::{hex, repeated_tensor, write_atomically};
use crate::plugin::PluginError;
use crate::task::calibration::Calibration;
use crate::task::variant::Variant;
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// What the weights say of themselves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeightsInfo {
    /// Plugin they were trained with.
    pub plugin: String,
    /// Its version.
    pub plugin_version: String,
    /// Name of the backbone.
    pub backbone: String,
    /// Fingerprint of the backbone: digest of weights, dims, patch size, mean and std.
    pub backbone_fingerprint: String,
    /// Decision threshold that was fitted, if one was.
    pub threshold: Option<f64>,
    /// What differed from the plugin's own adapter, pooling and loss.
    #[serde(default, skip_serializing_if = "Variant::is_none")]
    pub variant: Variant,
    /// Temperatures and thresholds that were fitted on validation cases, if any were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// How they were trained.
    pub training: serde_json::Value,
}

/// Weights as read from a file.
#[derive(Debug, Clone)]
pub struct Weights {
    /// File.
    pub path: PathBuf,
    /// Digest of its bytes, hexadecimal.
    pub sha256: String,
    /// What it says of itself.
    pub info: WeightsInfo,
    /// Tensors by parameter name.
    pub tensors: BTreeMap<String, Tensor>,
}

/// Metadata key that holds [`WeightsInfo`] as JSON.
const KEY: &str = "anymc3d.weights/1";

impl Weights {
    /// Reads and checks the file's form.
    ///
    /// # Errors
    /// When it cannot be read, is no safetensors file, or does not say what it belongs to.
    pub fn open(path: &Path) -> Result<Self, PluginError> {
        let refuse = |reason: String| PluginError::Weights { path: path.to_owned(), reason };
        let bytes = std::fs::read(path).map_err(|source| PluginError::Io {
            path: path.to_owned(),
            what: "cannot be read",
            source,
        })?;
        if let Some(name) = repeated_tensor(&bytes) {
            return Err(refuse(format!("has the tensor `{name}` twice; expected each name once")));
        }
        let not_weights = |e: safetensors::SafeTensorError| refuse(format!("not a safetensors file ({e})"));
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).map_err(not_weights)?;
        let text = header.metadata().as_ref().and_then(|m| m.get(KEY));
        let text = text.ok_or_else(|| {
            refuse(format!(
                "safetensors without `{KEY}` in its metadata; expected weights written by `host train`"
            ))
        })?;
        let info = serde_json::from_str(text).map_err(|e| refuse(format!("metadata `{KEY}`: {e}")))?;
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
            .map_err(|e| refuse(crate::device::one_line(&e)))?;
        let sha256 = hex(&Sha256::digest(&bytes));
        Ok(Self { path: path.to_owned(), sha256, info, tensors: tensors.into_iter().collect() })
    }

    /// The first of the places that holds a file.
    ///
    /// # Errors
    /// When none does, with every place, and as [`Weights::open`].
    pub fn find(plugin: &str, given: Option<&Path>, library: &Path) -> Result<Self, PluginError> {
        if let Some(given) = given {
            return Self::open(given);
        }
        let looked = crate::plugin::find::weights_places(library, plugin);
        match looked.iter().find(|p| p.is_file()) {
            Some(found) => Self::open(found),
            None => Err(PluginError::NoWeights { name: plugin.to_owned(), looked }),
        }
    }

    /// Refuses weights of another plugin or another backbone.
    ///
    /// # Errors
    /// Naming both.
    pub fn check(&self, plugin: &str, backbone: &str, fingerprint: &str) -> Result<(), PluginError> {
        let refuse = |reason: String| Err(PluginError::Weights { path: self.path.clone(), reason });
        if self.info.plugin != plugin {
            return refuse(format!("weights of plugin {}, expected those of {plugin}", self.info.plugin));
        }
        if self.info.backbone_fingerprint != fingerprint {
            let theirs = self.info.backbone_fingerprint.get(..12).unwrap_or(&self.info.backbone_fingerprint);
            return refuse(format!(
                "trained on backbone {} ({theirs}…), this host runs {backbone} ({}…); give --backbone, or train anew",
                self.info.backbone,
                &fingerprint[..12.min(fingerprint.len())]
            ));
        }
        Ok(())
    }
}

/// Writes weights: to a temporary file in the same folder, then renamed, so that nothing half-written stays.
///
/// # Errors
/// When the folder cannot be written to.
pub fn write(path: &Path, tensors: &BTreeMap<String, Tensor>, info: &WeightsInfo) -> Result<(), PluginError> {
    let io = |source| PluginError::Io { path: path.to_owned(), what: "cannot be written", source };
    let refuse = |reason: String| PluginError::Weights { path: path.to_owned(), reason };
    let json = serde_json::to_string(info).map_err(|e| refuse(e.to_string()))?;
    let metadata = HashMap::from([(KEY.to_owned(), json)]);
    let bytes = safetensors::serialize(tensors.iter().map(|(name, t)| (name.as_str(), t)), Some(metadata))
        .map_err(|e| refuse(e.to_string()))?;
    write_atomically(path, &bytes).map_err(io)
}
