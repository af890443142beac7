//! A task's trained weights: one safetensors file whose metadata says what they belong to.

use crate::fs::{hex, repeated_tensor, write_atomically};
use crate::plugin::PluginError;
use crate::task::calibration::Calibration;
use crate::task::reference::Reference;
use crate::task::training_cases::TrainingCases;
use crate::task::variant::Variant;
use anymc3d_manifest::{Manifest, TaskKind, View};
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// What the weights say of themselves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    /// What they may be used for, in the words of whoever trained them; without it the plugin's words hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intended_use: Option<String>,
    /// What the task was when they were trained: the same parameters mean something else on other pixels or labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_for: Option<TrainedFor>,
    /// The scans that they were trained and chosen by, where that was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cases: Option<TrainingCases>,
    /// Where the training cases lie, if that was measured: results then tell how far a case is from them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// How they were trained.
    pub training: serde_json::Value,
    /// What the further members of an ensemble say of themselves, where the file holds one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ensemble: Vec<WeightsInfo>,
}

/// What decides what a task's parameters mean: its labels and what it looks at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainedFor {
    /// Kind of task.
    pub kind: TaskKind,
    /// Labels or classes, in the order of the logits.
    pub labels: Vec<String>,
    /// From scans to pixels.
    pub views: Vec<View>,
}

impl TrainedFor {
    /// As a manifest says it now.
    pub fn of(manifest: &Manifest) -> Self {
        let task = &manifest.task;
        Self { kind: task.kind, labels: task.labels.clone(), views: manifest.views.clone() }
    }
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
    /// The further members of an ensemble that shares the file; none of ordinary weights.
    pub further: Vec<Weights>,
}

/// Metadata key that holds [`WeightsInfo`] as JSON.
const KEY: &str = "anymc3d.weights/1";

impl Weights {
    /// Reads a weights file and checks its format.
    ///
    /// # Errors
    /// When the file cannot be read, is no safetensors file, or does not name its plugin and backbone.
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
        let mut info: WeightsInfo =
            serde_json::from_str(text).map_err(|e| refuse(format!("metadata `{KEY}`: {e}")))?;
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
            .map_err(|e| refuse(crate::device::one_line(&e)))?;
        let sha256 = hex(&Sha256::digest(&bytes));
        let mut tensors: BTreeMap<String, Tensor> = tensors.into_iter().collect();
        let mut further = Vec::new();
        for (n, info) in std::mem::take(&mut info.ensemble).into_iter().enumerate() {
            let prefix = member_prefix(n);
            let own = tensors.extract_if(prefix.clone().., |name, _| name.starts_with(&prefix));
            let own = own.map(|(name, tensor)| (name[prefix.len()..].to_owned(), tensor)).collect();
            let (path, sha256) = (path.to_owned(), sha256.clone());
            further.push(Self { path, sha256, info, tensors: own, further: Vec::new() });
        }
        Ok(Self { path: path.to_owned(), sha256, info, tensors, further })
    }

    /// These weights and the further members of their ensemble.
    pub fn all(&self) -> impl Iterator<Item = &Weights> {
        std::iter::once(self).chain(&self.further)
    }

    /// Opens the first path that exists.
    ///
    /// # Errors
    /// When no path exists (the error lists all paths), and as [`Weights::open`].
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

/// What stands before the names of the tensors of an ensemble's `n`-th further member, counted from 0.
fn member_prefix(n: usize) -> String {
    format!("ensemble.{}.", n + 2)
}

/// Writes several weights of one plugin as one file, an ensemble; in the order given, the first decides the segmentation.
///
/// # Errors
/// When there are none, when they are of different plugins, versions or backbones, or have a repeated file among them, and as
/// [`write()`].
pub fn write_ensemble(path: &Path, members: &[Weights]) -> Result<(), PluginError> {
    let all: Vec<&Weights> = members.iter().flat_map(Weights::all).collect();
    let refuse = |at: &Weights, reason: String| Err(PluginError::Weights { path: at.path.clone(), reason });
    let Some((first, further)) = all.split_first() else {
        let reason = "an ensemble of no weights; expected two or more".to_owned();
        return Err(PluginError::Weights { path: path.to_owned(), reason });
    };
    for (n, one) in further.iter().enumerate() {
        let of = |w: &Weights| {
            let (plugin, version) = (&w.info.plugin, &w.info.plugin_version);
            format!("{plugin} {version} on backbone {}", w.info.backbone_fingerprint)
        };
        if of(one) != of(first) {
            return refuse(one, format!("weights of {}, expected those of {}", of(one), of(first)));
        }
        if let Some(again) = all[..=n].iter().find(|w| w.sha256 == one.sha256 && w.path != one.path) {
            let reason =
                format!("the same weights as {}; an ensemble needs different ones", again.path.display());
            return refuse(one, reason);
        }
    }
    let mut info = first.info.clone();
    // A case is compared with the training cases of the first member.
    info.ensemble = further.iter().map(|w| WeightsInfo { reference: None, ..w.info.clone() }).collect();
    let mut tensors = first.tensors.clone();
    for (n, one) in further.iter().enumerate() {
        let prefix = member_prefix(n);
        tensors.extend(one.tensors.iter().map(|(name, t)| (format!("{prefix}{name}"), t.clone())));
    }
    write(path, &tensors, &info)
}

/// Writes weights to a temporary file in the same folder and renames it, so that no partial file remains.
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
