//! From slice embeddings to logits: the `Head` trait and the standard head.

use crate::build::Build;
use crate::error::{Error, Result};
use crate::geometry::GeometrySource;
use crate::mask_features::MaskFeatures;
use crate::params::Init;
use crate::pooling::{Pool, Pooling};
use crate::tensor::Tensor;

/// What the backbone saw in one view of a case.
#[non_exhaustive]
pub struct ViewFeatures {
    /// The view's name in the manifest.
    pub name: String,
    /// Slice embeddings `[S, d]`: class tokens after the final norm.
    pub class_tokens: Tensor,
    /// Patch tokens `[S, h·w, d]` after the final norm, rows first.
    pub patch_tokens: Tensor,
    /// Patch grid h, w.
    pub grid: [usize; 2],
    /// What is known of the case's mask, where the view asks for it in plugin.toml.
    pub mask: MaskFeatures,
    pub(crate) geometry: GeometrySource,
}

impl ViewFeatures {
    /// Class tokens `[S, d]` and patch tokens `[S, h·w, d]` on a grid h, w, without a geometry: for tests that call a head
    /// by hand. [`Self::with_geometry`] adds where the slices lie.
    pub fn new(
        name: impl Into<String>,
        class_tokens: Tensor,
        patch_tokens: Tensor,
        grid: [usize; 2],
    ) -> Self {
        let (mask, geometry) = (MaskFeatures::default(), GeometrySource::Unknown);
        Self { name: name.into(), class_tokens, patch_tokens, grid, mask, geometry }
    }
}

/// What a head answers.
#[non_exhaustive]
pub struct HeadOutput {
    /// Logits `[C]`.
    pub logits: Tensor,
    /// Slice weights `[S]` of each view, in the order of the views; they sum to 1 within a view.
    pub slice_weights: Vec<Tensor>,
    /// Weights `[V]` of the views, if there are several.
    pub view_weights: Option<Tensor>,
    /// Weights `[S, h, w]` of the patches of each view, in the order of the views, from a head that weighs patches.
    /// The heatmap shows these instead of the backbone's class attention.
    pub patch_weights: Vec<Tensor>,
    /// The vector `[E]` that the head makes of a case before its last layer, for `host embed --table`. A host that does not ask
    /// for it leaves it.
    pub embedding: Option<Tensor>,
}

impl HeadOutput {
    /// Logits alone.
    pub fn new(logits: Tensor) -> Self {
        let (slice_weights, patch_weights) = (Vec::new(), Vec::new());
        Self { logits, slice_weights, view_weights: None, patch_weights, embedding: None }
    }

    /// Sets the vector `[E]` before the last layer.
    #[must_use]
    pub fn embedding(mut self, embedding: Tensor) -> Self {
        self.embedding = Some(embedding);
        self
    }

    /// Other logits `[C]`, with the same weights.
    #[must_use]
    pub fn with_logits(mut self, logits: Tensor) -> Self {
        self.logits = logits;
        self
    }

    /// Adds the patch weights `[S, h, w]` of the next view.
    #[must_use]
    pub fn patch_weights(mut self, weights: Tensor) -> Self {
        self.patch_weights.push(weights);
        self
    }

    /// Adds the slice weights `[S]` of the next view.
    #[must_use]
    pub fn slice_weights(mut self, weights: Tensor) -> Self {
        self.slice_weights.push(weights);
        self
    }

    /// Sets the weights `[V]` of the views.
    #[must_use]
    pub fn view_weights(mut self, weights: Tensor) -> Self {
        self.view_weights = Some(weights);
        self
    }
}

/// A task's head.
pub trait Head: Send + Sync {
    /// Computes logits from the views of a case (those that are not missing, in the manifest's order).
    ///
    /// # Errors
    /// Any error; it becomes that case's error.
    fn forward(&self, views: &[ViewFeatures]) -> Result<HeadOutput>;
}

/// Pooling over slices, late fusion of views, and a linear layer: the paper's head.
///
/// Parameters: `query` (`query.NAME` with several views) `[d]`, `query_fusion` `[d]` with several views,
/// `head.weight` `[C, d]`, `head.bias` `[C]`. Other poolings have other parameters, or none, instead of queries ([`Pool`]).
/// Views are fused with the pooling of the slices. If that pooling needs an order (LSTM, transformer), views are fused by
/// attention, because views have no order.
pub struct AttentionPooling {
    pools: Vec<(String, Pool)>,
    fusion: Option<Pool>,
    weight: Tensor,
    bias: Tensor,
}

impl AttentionPooling {
    /// Attention pooling, as in the paper.
    ///
    /// # Errors
    /// When a parameter contradicts the weights.
    pub fn new(build: &Build) -> Result<Self> {
        Self::with(build, Pooling::Attention)
    }

    /// Another pooling. The pooling that the user asked for ([`Build::pooling`]) overrides it.
    ///
    /// # Errors
    /// When a parameter contradicts the weights.
    pub fn with(build: &Build, pooling: Pooling) -> Result<Self> {
        let pooling = build.pooling()?.unwrap_or(pooling);
        let d = build.backbone().embed_dim;
        let several = build.views().len() > 1;
        let mut pools = Vec::new();
        for view in build.views() {
            pools.push((view.clone(), Pool::new(build, pooling, several.then_some(view))?));
        }
        let fusion = match pooling {
            _ if !several => None,
            Pooling::Attention | Pooling::Lstm | Pooling::Transformer => Some(Pool::fusion(build)?),
            plain => Some(Pool::new(build, plain, None)?),
        };
        let head = build.params().within("head");
        let weight = head.get("weight", &[build.outputs(), d], Init::trunc_normal(0.02))?;
        let bias = head.get("bias", &[build.outputs()], Init::zeros())?;
        Ok(Self { pools, fusion, weight, bias })
    }

    /// As a boxed [`Head`], for [`crate::TaskPlugin::head`].
    ///
    /// # Errors
    /// Never; the signature lets `AttentionPooling::new(build).boxed()` pass its error on.
    pub fn boxed(self) -> Result<Box<dyn Head>> {
        Ok(Box::new(self))
    }

    fn pool(&self, view: &str) -> Result<&Pool> {
        let found = self.pools.iter().find(|(name, _)| name == view);
        found.map(|(_, p)| p).ok_or_else(|| Error::msg(format!("no query for a view named `{view}`")))
    }
}

/// `AttentionPooling::new(build).boxed()` on a result.
pub trait Boxed {
    /// The boxed head, or the error.
    ///
    /// # Errors
    /// The error of the construction.
    fn boxed(self) -> Result<Box<dyn Head>>;
}

impl<H: Head + 'static> Boxed for Result<H> {
    fn boxed(self) -> Result<Box<dyn Head>> {
        Ok(Box::new(self?))
    }
}

/// What [`AttentionPooling`] made of the views.
pub(crate) struct Pooled {
    /// `[d]`
    pub embedding: Tensor,
    /// `[S]` of each view.
    pub slice_weights: Vec<Tensor>,
    /// `[V]`, of several views.
    pub view_weights: Option<Tensor>,
}

impl AttentionPooling {
    /// Slices pooled, views fused.
    pub(crate) fn pooled(&self, views: &[ViewFeatures]) -> Result<Pooled> {
        let (mut pooled, mut slice_weights) = (Vec::new(), Vec::new());
        for view in views {
            let (v, a) = self.pool(&view.name)?.forward(&view.class_tokens)?;
            pooled.push(v);
            slice_weights.push(a);
        }
        let (embedding, view_weights) = match pooled.len() {
            0 => return Err(Error::msg("a head was called without a view")),
            1 => (pooled.swap_remove(0), None),
            _ => {
                let stacked = Tensor::stack(&pooled.iter().collect::<Vec<_>>(), 0)?; // [V, d]
                let fusion = self.fusion.as_ref().ok_or_else(|| Error::msg("several views of one"))?;
                let (v, a) = fusion.forward(&stacked)?;
                (v, Some(a))
            }
        };
        Ok(Pooled { embedding, slice_weights, view_weights })
    }

    /// The linear layer: an embedding `[d]` to logits `[C]`.
    pub(crate) fn linear(&self, embedding: &Tensor) -> Result<Tensor> {
        self.weight.matmul(embedding)?.add(&self.bias)
    }
}

impl Head for AttentionPooling {
    fn forward(&self, views: &[ViewFeatures]) -> Result<HeadOutput> {
        let Pooled { embedding, slice_weights, view_weights } = self.pooled(views)?;
        let logits = self.linear(&embedding)?;
        let patch_weights = Vec::new();
        Ok(HeadOutput { logits, slice_weights, view_weights, patch_weights, embedding: Some(embedding) })
    }
}
