//! From slice embeddings to logits: the `Head` trait and the standard head.

use crate::build::Build;
use crate::error::{Error, Result};
use crate::params::Init;
use crate::tensor::Tensor;

/// What the backbone saw in one view of a case.
pub struct ViewFeatures {
    /// The view's name in the manifest.
    pub name: String,
    /// Slice embeddings `[S, d]`: class tokens after the final norm.
    pub class_tokens: Tensor,
    /// Patch tokens `[S, h·w, d]` after the final norm, rows first.
    pub patch_tokens: Tensor,
    /// Patch grid h, w.
    pub grid: [usize; 2],
}

/// What a head answers.
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
}

impl HeadOutput {
    /// Logits alone.
    pub fn new(logits: Tensor) -> Self {
        Self { logits, slice_weights: Vec::new(), view_weights: None, patch_weights: Vec::new() }
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
    /// From the views of one case (those that are there, in the manifest's order) to logits.
    ///
    /// # Errors
    /// Whatever goes wrong; it becomes that case's error.
    fn forward(&self, views: &[ViewFeatures]) -> Result<HeadOutput>;
}

/// How slices, and views, become one embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Task-query attention: `a = softmax(H q / sqrt(d))`, `v = aᵀ H` (paper).
    Attention,
    /// Mean over slices.
    Mean,
    /// Median over slices, element by element.
    Median,
    /// Maximum over slices, element by element.
    Max,
}

/// Pooling over slices, late fusion of views, and a linear layer: the paper's head.
///
/// Parameters: `query` (`query.NAME` with several views) `[d]`, `query_fusion` `[d]` with several views,
/// `head.weight` `[C, d]`, `head.bias` `[C]`. Pooling other than attention has no queries.
pub struct AttentionPooling {
    pooling: Pooling,
    queries: Vec<(String, Tensor)>,
    fusion: Option<Tensor>,
    weight: Tensor,
    bias: Tensor,
}

impl AttentionPooling {
    /// Attention pooling, as the paper has it.
    ///
    /// # Errors
    /// When a parameter contradicts the weights.
    pub fn new(build: &Build) -> Result<Self> {
        Self::with(build, Pooling::Attention)
    }

    /// Another way of pooling.
    ///
    /// # Errors
    /// When a parameter contradicts the weights.
    pub fn with(build: &Build, pooling: Pooling) -> Result<Self> {
        let (d, params) = (build.backbone().embed_dim, build.params());
        let several = build.views().len() > 1;
        let (mut queries, mut fusion) = (Vec::new(), None);
        if pooling == Pooling::Attention {
            for view in build.views() {
                let name = if several { format!("query.{view}") } else { "query".to_owned() };
                queries.push((view.clone(), params.get(&name, &[d], Init::trunc_normal(0.02))?));
            }
            if several {
                fusion = Some(params.get("query_fusion", &[d], Init::trunc_normal(0.02))?);
            }
        }
        let head = params.within("head");
        let weight = head.get("weight", &[build.outputs(), d], Init::trunc_normal(0.02))?;
        let bias = head.get("bias", &[build.outputs()], Init::zeros())?;
        Ok(Self { pooling, queries, fusion, weight, bias })
    }

    /// As a boxed [`Head`], for [`crate::TaskPlugin::head`].
    ///
    /// # Errors
    /// Never by itself; the signature lets `AttentionPooling::new(build).boxed()` pass its error on.
    pub fn boxed(self) -> Result<Box<dyn Head>> {
        Ok(Box::new(self))
    }

    fn query(&self, view: &str) -> Result<&Tensor> {
        let found = self.queries.iter().find(|(name, _)| name == view);
        found.map(|(_, q)| q).ok_or_else(|| Error::msg(format!("no query for a view named `{view}`")))
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

impl Head for AttentionPooling {
    fn forward(&self, views: &[ViewFeatures]) -> Result<HeadOutput> {
        let (mut pooled, mut weights) = (Vec::new(), Vec::new());
        for view in views {
            let query = match self.pooling {
                Pooling::Attention => Some(self.query(&view.name)?),
                _ => None,
            };
            let (v, a) = pool(self.pooling, &view.class_tokens, query)?;
            pooled.push(v);
            weights.push(a);
        }
        let (embedding, view_weights) = match pooled.len() {
            0 => return Err(Error::msg("a head was called without a view")),
            1 => (pooled.swap_remove(0), None),
            _ => {
                let stacked = Tensor::stack(&pooled.iter().collect::<Vec<_>>(), 0)?; // [V, d]
                let (v, a) = pool(self.pooling, &stacked, self.fusion.as_ref())?;
                (v, Some(a))
            }
        };
        let logits = self.weight.matmul(&embedding)?.add(&self.bias)?; // [C]
        Ok(HeadOutput { logits, slice_weights: weights, view_weights, patch_weights: Vec::new() })
    }
}

/// Rows `[N, d]` to one embedding `[d]` and the weight `[N]` of each row.
///
/// The weights of mean, median and maximum are the share of the elements that each row gave.
///
/// # Errors
/// When attention has no query, or shapes differ.
pub fn pool(pooling: Pooling, rows: &Tensor, query: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
    let dims = rows.dims()?;
    let [n, d] = dims[..] else {
        return Err(Error::msg(format!("pooling takes rows [N, d], not {dims:?}")));
    };
    match pooling {
        Pooling::Attention => {
            let query = query.ok_or_else(|| Error::msg("attention pooling without a query"))?;
            let a = rows.matmul(query)?.scale(1.0 / (d as f64).sqrt())?.softmax(0)?; // [N]
            Ok((a.matmul(rows)?, a))
        }
        Pooling::Mean => Ok((rows.mean(0)?, rows.host().full(1.0 / n as f64, &[n])?)),
        Pooling::Median => chosen(rows, rows.median_keep(0)?),
        Pooling::Max => chosen(rows, rows.max_keep(0)?),
    }
}

fn chosen(rows: &Tensor, winners: Tensor) -> Result<(Tensor, Tensor)> {
    let hits = rows.equal(&winners)?.detach()?; // [N, d]
    let share = hits.div(&hits.sum_keep(0)?)?.mean(1)?; // ties share
    Ok((winners.squeeze(0)?, share))
}
