//! A plugin with its trained weights on the engine's backbone: ready to predict, or refused.

use crate::backbone::{Backbone, BackboneInfo};
use crate::plugin::{Inspected, Library, ParameterSource, PluginError, find, inspect, load};
use crate::task::{Task, TaskOptions, Weights, WeightsInfo};
use anymc3d_registry::InstalledPackage;
use anymc3d_registry::package::FileRole;
use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A package that was installed from a registry, its signature and digests verified before it ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PackageRecord {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Architecture and system.
    pub target: String,
    /// Digest of the archive.
    pub sha256: String,
    /// Digest of its signed `package.json`.
    pub manifest_sha256: String,
    /// Who signed it.
    pub publisher: String,
    /// Id of the key.
    pub key: String,
    /// The registry it was installed from.
    pub registry: String,
    /// `true`: the weights were given by hand, and are not the package's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub weights_replaced: bool,
}

/// A task that is ready to predict.
pub struct LoadedTask {
    /// The plugin's parts.
    pub task: Task,
    /// Where its library was found.
    pub library: PathBuf,
    /// Digest of its library.
    pub library_sha256: String,
    /// Where its weights were found.
    pub weights: PathBuf,
    /// Digest of its weights.
    pub weights_sha256: String,
    /// What the weights say of themselves.
    pub weights_info: WeightsInfo,
    /// The installed package that answered; none for a local file.
    pub package: Option<PackageRecord>,
    /// What to tell whoever loads it.
    pub notices: Vec<String>,
    /// The further weights of an ensemble: the same plugin each.
    pub members: Vec<LoadedTask>,
}

/// A backbone as a task is loaded onto it: what it is, and where it computes.
#[derive(Clone, Copy)]
pub struct BackboneTarget<'a> {
    info: &'a BackboneInfo,
    device: &'a Device,
}

static PROCESSOR: Device = Device::Cpu;

impl<'a> From<&'a BackboneInfo> for BackboneTarget<'a> {
    /// On the processor.
    fn from(info: &'a BackboneInfo) -> Self {
        Self { info, device: &PROCESSOR }
    }
}

impl<'a> From<&'a Backbone> for BackboneTarget<'a> {
    fn from(backbone: &'a Backbone) -> Self {
        Self { info: backbone.info(), device: backbone.device() }
    }
}

/// The backbone as plugins are told of it.
pub fn as_plugins_see(backbone: &BackboneInfo) -> anymc3d_plugin_api::BackboneInfo {
    let BackboneInfo { family, embed_dim, blocks, heads, patch_size, .. } = backbone;
    anymc3d_plugin_api::BackboneInfo::new(family, *embed_dim, *blocks, *heads, *patch_size)
}

/// Finds and loads a plugin's library by what the user typed.
///
/// # Errors
/// When it is not found, or refused by any of the loader's steps.
pub fn open_library(wanted: &str) -> Result<Library, PluginError> {
    load(&find::library(wanted)?)
}

/// How a task is opened to answer cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InferenceOptions {
    /// With its segmentation decoder.
    pub segmentation: bool,
    /// Tokens that each block merges away, instead of what its views say.
    pub merge: Option<usize>,
}

/// With the segmentation decoder or without.
impl From<bool> for InferenceOptions {
    fn from(segmentation: bool) -> Self {
        Self { segmentation, merge: None }
    }
}

impl LoadedTask {
    /// Loads a plugin and its weights onto a backbone, without its segmentation decoder.
    ///
    /// # Errors
    /// When library, weights and backbone do not fit each other; the error names every missing or unused tensor. An
    /// incomplete task never predicts. Weights may lack the decoder's tensors.
    pub fn open<'a>(
        wanted: &str,
        weights: Option<&Path>,
        backbone: impl Into<BackboneTarget<'a>>,
    ) -> Result<Self, PluginError> {
        Self::open_with(wanted, weights, backbone, false)
    }

    /// As [`Self::open`], with the decoder if `segmentation` is true; a plugin without a decoder gives a notice.
    ///
    /// # Errors
    /// As [`Self::open`]; with the decoder, weights must hold its tensors too.
    pub fn open_with<'a>(
        wanted: &str,
        weights: Option<&Path>,
        backbone: impl Into<BackboneTarget<'a>>,
        segmentation: bool,
    ) -> Result<Self, PluginError> {
        Self::open_found(&find::library(wanted)?, weights, backbone, segmentation)
    }

    /// As [`Self::open_with`], for a library that was found.
    ///
    /// # Errors
    /// As [`Self::open_with`].
    pub fn open_found<'a>(
        library: &Path,
        weights: Option<&Path>,
        backbone: impl Into<BackboneTarget<'a>>,
        segmentation: bool,
    ) -> Result<Self, PluginError> {
        Self::open_inspected(inspect(library)?, weights, backbone, segmentation)
    }

    /// As [`Self::open_with`], for a library that was read already: what its manifest promised is what runs.
    ///
    /// # Errors
    /// As [`Self::open_with`].
    pub fn open_inspected<'a>(
        library: Inspected,
        weights: Option<&Path>,
        backbone: impl Into<BackboneTarget<'a>>,
        segmentation: bool,
    ) -> Result<Self, PluginError> {
        Self::open_loaded(&library.load()?, weights, backbone.into(), segmentation)
    }

    /// Weights on a library that is loaded, those of all members where the file holds an ensemble.
    fn open_loaded(
        library: &Library,
        weights: Option<&Path>,
        backbone: BackboneTarget<'_>,
        segmentation: bool,
    ) -> Result<Self, PluginError> {
        let mut weights = Weights::find(&library.embedded.manifest.plugin.name, weights, &library.path)?;
        let further = std::mem::take(&mut weights.further);
        let mut task = Self::with_weights(library, weights, backbone, segmentation)?;
        for weights in further {
            task.add_member(Self::with_weights(library, weights, backbone, false)?);
        }
        Ok(task)
    }

    /// The weights of one member.
    fn with_weights(
        library: &Library,
        weights: Weights,
        BackboneTarget { info: backbone, device }: BackboneTarget<'_>,
        segmentation: bool,
    ) -> Result<Self, PluginError> {
        let manifest = &library.embedded.manifest;
        let name = &manifest.plugin.name;
        weights.check(name, &backbone.name, &backbone.fingerprint)?;
        if let Some(Err(reason)) = weights.info.calibration.as_ref().map(|c| c.check(&manifest.task)) {
            return Err(PluginError::Weights { path: weights.path, reason });
        }
        let seen = as_plugins_see(backbone);
        let build = |branch: bool| {
            let source = ParameterSource::Weights(weights.tensors.clone());
            let options = TaskOptions { segmentation: branch, variant: weights.info.variant.clone() };
            Task::build(library, &seen, source, DType::F32, device, &options)
        };
        // A branch that is dropped at inference may still have weights in the file: it is built so that they are
        // known to be used.
        let mut task = build(true)?;
        let mut mismatches = task.mismatches();
        if !segmentation {
            if !mismatches.is_empty() {
                // What only one of the two builds complains of is the branch's own: tensors that it lacks, or uses.
                task = build(false)?;
                let without = task.mismatches();
                mismatches.retain(|o| without.contains(o));
            }
            task = task.without_segmentation();
        }
        if !mismatches.is_empty() {
            let reason = format!("weights that do not fit plugin {name}: {}", mismatches.join("; "));
            return Err(PluginError::Weights { path: weights.path, reason });
        }
        if let Some(Err(reason)) = weights.info.reference.as_ref().map(|r| r.check(&task, backbone)) {
            return Err(PluginError::Weights { path: weights.path, reason });
        }
        let mut notices = Vec::new();
        let package =
            library.package.as_ref().map(|p| package_record(p, &weights, &mut notices)).transpose()?;
        if segmentation && !task.has_segmentation() {
            notices.push(format!("{name}: the plugin has no segmentation branch; no mask was made"));
        }
        if weights.info.plugin_version != manifest.plugin.version.to_string() {
            let (trained, now) = (&weights.info.plugin_version, &manifest.plugin.version);
            notices.push(format!("{name}: weights of version {trained} with the library of version {now}"));
        }
        for key in &library.embedded.unknown_keys {
            notices.push(format!("{name}: the manifest's `{key}` is unknown to this host and was ignored"));
        }
        Ok(Self {
            task,
            library: library.path.clone(),
            library_sha256: library.sha256.clone(),
            weights: weights.path,
            weights_sha256: weights.sha256,
            weights_info: weights.info,
            package,
            notices,
            members: Vec::new(),
        })
    }

    /// As [`Self::open_inspected`], with as many weights as are given: more than one make an ensemble, whose logits are
    /// averaged. Its segmentation is the first member's.
    ///
    /// # Errors
    /// As [`Self::open_with`], of the first weights that do not fit.
    pub fn open_all<'a>(
        library: Inspected,
        weights: &[PathBuf],
        backbone: impl Into<BackboneTarget<'a>>,
        options: impl Into<InferenceOptions>,
    ) -> Result<Self, PluginError> {
        let (library, backbone) = (library.load()?, backbone.into());
        let InferenceOptions { segmentation, merge } = options.into();
        let mut task = Self::open_members(&library, weights, backbone, segmentation)?;
        if let Some(each) = merge {
            task.task.merge_tokens(each);
            task.members.iter_mut().for_each(|member| member.task.merge_tokens(each));
        }
        Ok(task)
    }

    fn open_members(
        library: &Library,
        weights: &[PathBuf],
        backbone: BackboneTarget<'_>,
        segmentation: bool,
    ) -> Result<Self, PluginError> {
        let Some((first, further)) = weights.split_first() else {
            return Self::open_loaded(library, None, backbone, segmentation);
        };
        let mut task = Self::open_loaded(library, Some(first), backbone, segmentation)?;
        for path in further {
            let member = Self::open_loaded(library, Some(path), backbone, false)?;
            let again = std::iter::once(&task)
                .chain(&task.members)
                .find(|t| t.weights_sha256 == member.weights_sha256);
            if let Some(again) = again {
                let reason = format!(
                    "the same weights as {}; an ensemble needs different ones",
                    again.weights.display()
                );
                return Err(PluginError::Weights { path: member.weights, reason });
            }
            task.add_member(member);
        }
        Ok(task)
    }

    /// Makes another task, with the members that it has, a member of this one's ensemble.
    fn add_member(&mut self, mut member: LoadedTask) {
        let further = std::mem::take(&mut member.members);
        for notice in std::mem::take(&mut member.notices) {
            if !self.notices.contains(&notice) {
                self.notices.push(notice);
            }
        }
        self.members.push(member);
        self.members.extend(further);
    }

    /// The task and the further members of its ensemble.
    pub fn all(&self) -> impl Iterator<Item = &LoadedTask> {
        std::iter::once(self).chain(&self.members)
    }

    /// Digests of the ensemble's further files of weights. A file may hold several members.
    pub fn further_files(&self) -> Vec<String> {
        let mut digests: Vec<String> = self.members.iter().map(|m| m.weights_sha256.clone()).collect();
        digests.dedup();
        digests.retain(|digest| *digest != self.weights_sha256);
        digests
    }

    /// The plugin's name.
    pub fn name(&self) -> &str {
        &self.task.manifest().plugin.name
    }

    /// What its results may be used for: the words of whoever trained the weights, else the plugin's.
    pub fn intended_use(&self) -> &str {
        let plugin = &self.task.manifest().plugin;
        self.weights_info.intended_use.as_deref().unwrap_or(&plugin.intended_use)
    }

    /// Bytes of its parameters.
    pub fn parameter_bytes(&self) -> usize {
        let of = |task: &LoadedTask| -> usize {
            let parameters = task.task.parameters();
            parameters.values().map(|p| p.tensor().elem_count() * p.tensor().dtype().size_in_bytes()).sum()
        };
        self.all().map(of).sum()
    }

    /// Label `index` is positive where `p >= threshold`, p calibrated: as fitted, else as the manifest says.
    pub fn threshold(&self, index: usize) -> f64 {
        let fitted = self.weights_info.calibration.as_ref().and_then(|c| c.threshold(index));
        fitted.or(self.weights_info.threshold).unwrap_or(self.task.manifest().task.threshold)
    }

    /// What logit `index` is divided by, where that was fitted.
    pub fn temperature(&self, index: usize) -> Option<f64> {
        let kind = self.task.manifest().task.kind;
        self.weights_info.calibration.as_ref().and_then(|c| c.temperature(kind, index))
    }
}

/// What a result says of the package: its weights are the signed ones, or others were given and that is told.
fn package_record(
    package: &InstalledPackage,
    weights: &Weights,
    notices: &mut Vec<String>,
) -> Result<PackageRecord, PluginError> {
    let manifest = &package.manifest;
    let own = package.weights()?;
    let replaced = weights.path != own && weights.path.canonicalize().ok() != own.canonicalize().ok();
    if replaced {
        notices.push(format!("{}: with weights of your own, not those of its package", manifest.name));
    } else {
        package.check(FileRole::Weights, &weights.sha256)?;
    }
    if let Some(withdrawn) = package.yanked()? {
        let (label, detail) = (manifest.label(), &withdrawn.detail);
        notices.push(format!("{label} is withdrawn for {}: {detail}", withdrawn.reason));
    }
    Ok(PackageRecord {
        name: manifest.name.clone(),
        version: manifest.version.to_string(),
        target: manifest.target.clone(),
        sha256: package.receipt.archive_sha256.clone(),
        manifest_sha256: package.receipt.manifest_sha256.clone(),
        publisher: manifest.publisher.clone(),
        key: package.receipt.key.clone(),
        registry: package.receipt.registry.clone(),
        weights_replaced: replaced,
    })
}
