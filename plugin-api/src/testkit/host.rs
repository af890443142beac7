//! A host for tests: the shape of a backbone, and what parts are told of it.

use super::call::entry;
use super::context::Context;
use super::task::Task;
use crate::TaskPlugin;
use crate::abi::types::Entry;
use crate::build::{BackboneInfo, Build};
use crate::error::{Error, Result};
use anymc3d_manifest::{LossKind, Manifest};

/// A host for tests: a backbone's shape and a seed, no backbone and no scans.
///
/// ```
/// use anymc3d_plugin_api::prelude::*;
/// use anymc3d_plugin_api::testkit::TestHost;
/// # const MANIFEST: &str = "
/// # schema = 1
/// # [plugin]
/// # name = 'probe'
/// # version = '0.1.0'
/// # summary = 'A probe.'
/// # license = 'Apache-2.0'
/// # intended_use = 'Tests.'
/// # [task]
/// # kind = 'binary'
/// # labels = ['finding']
/// # [backbone]
/// # families = ['dinov2']
/// # [[view]]
/// # name = 'axial'
/// # modality = 'CT'
/// # axis = 'axial'
/// # slices = 8
/// # size = [56, 56]
/// # intensity = { kind = 'window', windows = [[-1000, 400]] }
/// # ";
/// struct Probe;
///
/// impl TaskPlugin for Probe {
///     fn adapter(&self, _: &Build) -> Result<Adapter> {
///         Ok(Adapter::None)
///     }
///     fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
///         AttentionPooling::new(build).boxed()
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let task = TestHost::dinov2_small().task(Probe, MANIFEST)?;
/// let views = task.views(8, [4, 4], "a case")?;
/// let answer = task.head(&views)?;
/// assert_eq!(answer.logits.dims()?, [1]);
/// assert_eq!(answer.slice_weights[0].dims()?, [8]);
/// assert_eq!(task.parameter_counts(), (0, 2 * 384 + 1, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct TestHost {
    pub(crate) backbone: BackboneInfo,
    pub(crate) seed: u64,
    more: Vec<(String, String)>,
}

impl TestHost {
    /// With the shape of the backbone that ships with the project: DINOv2 ViT-S/14.
    pub fn dinov2_small() -> Self {
        Self::new(BackboneInfo::new("dinov2", 384, 12, 6, 14))
    }

    /// With a backbone's shape.
    pub fn new(backbone: BackboneInfo) -> Self {
        Self { backbone, seed: 0, more: Vec::new() }
    }

    /// Another seed of parameters and inputs.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// A setting that a host may add when it builds a task: `pooling` (`host train --fusion`), `decoder`,
    /// `class_tokens_only`.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.more.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Its backbone's shape.
    pub fn backbone(&self) -> &BackboneInfo {
        &self.backbone
    }

    /// A [`Build`] in a given context, to test a head or a decoder alone.
    ///
    /// # Errors
    /// When the manifest would not compile into a plugin.
    pub fn build(&self, context: &Context, manifest: &str) -> Result<Build> {
        Build::from_entries(context.host(), &self.settings(&parsed(manifest)?))
    }

    /// A plugin's parts, built as a host builds them. `manifest` is the text of `plugin.toml`.
    ///
    /// # Errors
    /// When the manifest would not compile into a plugin, does not fit the backbone, or the plugin's code fails.
    pub fn task<P: TaskPlugin>(&self, plugin: P, manifest: &str) -> Result<Task> {
        Task::new(self, plugin, parsed(manifest)?)
    }

    /// What every part of a task is told.
    pub(crate) fn settings(&self, manifest: &Manifest) -> Vec<Entry> {
        let backbone = &self.backbone;
        let views: Vec<&str> = manifest.views.iter().map(|v| v.name.as_str()).collect();
        let loss = &manifest.task.loss;
        let kind = match loss.kind {
            LossKind::Focal => "focal",
            LossKind::Bce => "bce",
            LossKind::CrossEntropy => "cross_entropy",
            LossKind::Mse => "mse",
        };
        let weights: Vec<String> = loss.class_weights.iter().map(f64::to_string).collect();
        let mut settings = vec![
            entry("backbone.family", &backbone.family),
            entry("backbone.embed_dim", backbone.embed_dim),
            entry("backbone.blocks", backbone.blocks),
            entry("backbone.heads", backbone.heads),
            entry("backbone.patch_size", backbone.patch_size),
            entry("views", views.join(",")),
            entry("outputs", manifest.task.outputs()),
            entry("loss.kind", kind),
            entry("loss.gamma", loss.gamma),
            entry("loss.alpha", loss.alpha),
            entry("loss.class_weights", weights.join(",")),
        ];
        for (name, value) in &manifest.settings {
            settings.push(entry(format!("settings.{name}"), value));
        }
        for view in &manifest.views {
            settings.push(entry(format!("size.{}", view.name), format!("{},{}", view.size[0], view.size[1])));
        }
        for view in manifest.views.iter().filter(|v| !v.mask_features.is_empty()) {
            let names: Vec<&str> = view.mask_features.iter().map(|f| f.name()).collect();
            settings.push(entry(format!("mask_features.{}", view.name), names.join(",")));
        }
        settings.extend(self.more.iter().map(|(name, value)| entry(name, value)));
        settings
    }
}

fn parsed(manifest: &str) -> Result<Manifest> {
    Manifest::parse_strict(manifest).map_err(|e| Error::msg(e.to_string()))
}
