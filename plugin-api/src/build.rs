//! What a task is told when its parts are built: the backbone, the views, the outputs, the loss.

use crate::abi::types::Entry;
use crate::error::{Error, Result};
use crate::params::Params;
use crate::pooling::Pooling;
use crate::tensor::Host;
use std::str::FromStr;

/// Shape of the frozen backbone.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackboneInfo {
    /// For example `dinov2`.
    pub family: String,
    /// Width d of a token.
    pub embed_dim: usize,
    /// Number of transformer blocks.
    pub blocks: usize,
    /// Attention heads per block.
    pub heads: usize,
    /// Patch edge in pixels.
    pub patch_size: usize,
}

impl BackboneInfo {
    /// A family, the width d of a token, transformer blocks, attention heads per block, and the edge of a patch in pixels.
    ///
    /// ```
    /// # use anymc3d_plugin_api::BackboneInfo;
    /// let vit_s = BackboneInfo::new("dinov2", 384, 12, 6, 14);
    /// assert_eq!((vit_s.embed_dim, vit_s.heads), (384, 6));
    /// ```
    pub fn new(
        family: impl Into<String>,
        embed_dim: usize,
        blocks: usize,
        heads: usize,
        patch_size: usize,
    ) -> Self {
        Self { family: family.into(), embed_dim, blocks, heads, patch_size }
    }
}

/// How the classification loss is computed, from the manifest.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LossSpec {
    /// `focal`, `bce`, `mse` or `cross_entropy`.
    pub kind: String,
    /// Focal: exponent.
    pub gamma: f64,
    /// Focal: weight of the positive class.
    pub alpha: f64,
    /// A weight per label or class, or empty.
    pub class_weights: Vec<f64>,
}

impl LossSpec {
    /// A loss by its name in the manifest: `focal` (with gamma 2 and alpha 0.25 unless set), `bce` or `cross_entropy`; no
    /// class weights.
    pub fn new(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), gamma: 2.0, alpha: 0.25, class_weights: Vec::new() }
    }

    /// Focal: another exponent and another weight of the positive class.
    #[must_use]
    pub fn focal(mut self, gamma: f64, alpha: f64) -> Self {
        (self.gamma, self.alpha) = (gamma, alpha);
        self
    }

    /// A weight per label or class.
    #[must_use]
    pub fn class_weights(mut self, weights: Vec<f64>) -> Self {
        self.class_weights = weights;
        self
    }
}

/// What a task's parts are built from.
#[derive(Clone)]
pub struct Build {
    host: Host,
    settings: Settings,
    backbone: BackboneInfo,
    views: Vec<String>,
    outputs: usize,
    loss: LossSpec,
}

impl Build {
    /// Reads the settings that the host sent.
    ///
    /// # Errors
    /// When a setting that ABI 1.0 promises is missing or not a number.
    pub fn from_entries(host: Host, entries: &[Entry]) -> Result<Self> {
        let settings = Settings::new(entries);
        let backbone = settings.backbone()?;
        let views = settings.list("views")?;
        let outputs = settings.get("outputs")?;
        let loss = LossSpec {
            kind: settings.text("loss.kind")?.to_owned(),
            gamma: settings.get("loss.gamma")?,
            alpha: settings.get("loss.alpha")?,
            class_weights: settings
                .list("loss.class_weights")?
                .iter()
                .map(|w| {
                    w.parse().map_err(|_| Error::msg(format!("loss.class_weights: `{w}` is not a number")))
                })
                .collect::<Result<_>>()?,
        };
        Ok(Self { host, settings, backbone, views, outputs, loss })
    }

    /// The host.
    pub fn host(&self) -> Host {
        self.host
    }

    /// The task's trainable parameters.
    pub fn params(&self) -> Params {
        Params::new(self.host)
    }

    /// Shape of the backbone.
    pub fn backbone(&self) -> &BackboneInfo {
        &self.backbone
    }

    /// Names of the manifest's views, in its order.
    pub fn views(&self) -> &[String] {
        &self.views
    }

    /// Number of logits the head must give: one per label or class.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// The manifest's loss.
    pub fn loss(&self) -> &LossSpec {
        &self.loss
    }

    /// The pooling that the user asked for (`--fusion`), instead of the head's.
    ///
    /// # Errors
    /// When this plugin-api does not know it.
    pub fn pooling(&self) -> Result<Option<Pooling>> {
        self.setting("pooling").map(str::parse).transpose()
    }

    /// Refuses a host that does not know slice positions. Call it when you build a part that reads
    /// [`crate::ViewFeatures::slice_positions_mm`] or its siblings: the host is then refused once, before any case.
    ///
    /// # Errors
    /// On a host of ABI 1.0; the error names the version that is needed.
    pub fn needs_slice_positions(&self) -> Result<()> {
        crate::geometry::needed(&self.host, "slice_positions")
    }

    /// Whether heads that read patch tokens were asked to leave them (`--class-tokens-only`).
    pub fn class_tokens_only(&self) -> bool {
        self.setting("class_tokens_only") == Some("true")
    }

    /// A setting by name: `settings.NAME` of plugin.toml's `[settings]`, `size.VIEW` (rows, columns of a view), those that
    /// came after this build, and `view`: the name of the view whose adapter is
    /// built, in [`crate::TaskPlugin::adapter`].
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.find(name)
    }
}

/// Named settings as they crossed the boundary.
#[derive(Clone)]
pub(crate) struct Settings(Vec<(String, String)>);

impl Settings {
    pub(crate) fn new(entries: &[Entry]) -> Self {
        Self(entries.iter().map(|e| (e.key.to_string(), e.value.to_string())).collect())
    }

    pub(crate) fn find(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    fn text(&self, key: &str) -> Result<&str> {
        self.find(key).ok_or_else(|| Error::msg(format!("the host sent no `{key}`")))
    }

    fn get<T: FromStr>(&self, key: &str) -> Result<T> {
        let text = self.text(key)?;
        text.parse().map_err(|_| Error::msg(format!("the host sent `{key}` = `{text}`, not a number")))
    }

    /// Values that hold no comma, joined by commas.
    fn list(&self, key: &str) -> Result<Vec<String>> {
        Ok(self.text(key)?.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect())
    }

    pub(crate) fn backbone(&self) -> Result<BackboneInfo> {
        Ok(BackboneInfo {
            family: self.text("backbone.family")?.to_owned(),
            embed_dim: self.get("backbone.embed_dim")?,
            blocks: self.get("backbone.blocks")?,
            heads: self.get("backbone.heads")?,
            patch_size: self.get("backbone.patch_size")?,
        })
    }
}
