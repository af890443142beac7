//! A head with one query per label: each label looks for slices of its own.

use crate::build::Build;
use crate::error::{Error, Result};
use crate::head::{AttentionPooling, Head, HeadOutput, ViewFeatures};
use crate::params::Init;
use crate::tensor::Tensor;

/// The pooling (`--fusion label_queries`) that gives [`crate::RegionPooling`] a query per label.
pub const LABEL_QUERIES: &str = "label_queries";

/// Attention pooling with one query per label, where [`AttentionPooling`] has one for all.
///
/// For label `c` of one view: `a_c = softmax(H q_c / √d)`, `v_c = a_cᵀ H`, logit `w_c · v_c + b_c`. Views are fused label by
/// label: `β_c = softmax over views of (v_c⁽ⁱ⁾ · f_c / √d)`. The slice weights that a heatmap shows are the mean over the
/// labels, as are the weights of the views.
///
/// Parameters: `queries` (`queries.NAME` with several views) `[C, d]`, `queries_fusion` `[C, d]` with several views,
/// `head.weight` `[C, d]`, `head.bias` `[C]`. If the user asked for a pooling ([`Build::pooling`], `--fusion`), the head is
/// [`AttentionPooling`] with that pooling: `--fusion attention` compares the queries with the one query of the paper.
pub struct LabelQueryPooling(Kind);

enum Kind {
    Asked(AttentionPooling),
    Queries(Queries),
}

struct Queries {
    views: Vec<(String, Tensor)>,
    fusion: Option<Tensor>,
    weight: Tensor,
    bias: Tensor,
}

impl LabelQueryPooling {
    /// Builds the head from the task's parameters.
    ///
    /// # Errors
    /// When a parameter contradicts the weights.
    pub fn new(build: &Build) -> Result<Self> {
        let asked = build.setting("pooling").filter(|name| *name != LABEL_QUERIES);
        if let Some(pooling) = asked.map(str::parse).transpose()? {
            return Ok(Self(Kind::Asked(AttentionPooling::with(build, pooling)?)));
        }
        let (c, d, params) = (build.outputs(), build.backbone().embed_dim, build.params());
        let several = build.views().len() > 1;
        let mut views = Vec::new();
        for view in build.views() {
            let name = if several { format!("queries.{view}") } else { "queries".to_owned() };
            views.push((view.clone(), params.get(&name, &[c, d], Init::trunc_normal(0.02))?));
        }
        let fusion = match several {
            true => Some(params.get("queries_fusion", &[c, d], Init::trunc_normal(0.02))?),
            false => None,
        };
        let head = params.within("head");
        let weight = head.get("weight", &[c, d], Init::trunc_normal(0.02))?;
        let bias = head.get("bias", &[c], Init::zeros())?;
        Ok(Self(Kind::Queries(Queries { views, fusion, weight, bias })))
    }
}

impl Head for LabelQueryPooling {
    fn forward(&self, views: &[ViewFeatures]) -> Result<HeadOutput> {
        match &self.0 {
            Kind::Asked(pooling) => pooling.forward(views),
            Kind::Queries(queries) => queries.forward(views),
        }
    }
}

impl Queries {
    fn forward(&self, views: &[ViewFeatures]) -> Result<HeadOutput> {
        let (mut pooled, mut slice_weights) = (Vec::new(), Vec::new());
        for view in views {
            let query = self.views.iter().find(|(name, _)| *name == view.name);
            let (_, query) =
                query.ok_or_else(|| Error::msg(format!("no queries for a view named `{}`", view.name)))?;
            let h = &view.class_tokens; // [S, d]
            let d = h.dims()?.get(1).copied().unwrap_or(1) as f64;
            let a = query.matmul(&h.t()?)?.scale(1.0 / d.sqrt())?.softmax(1)?; // [C, S]
            pooled.push(a.matmul(h)?); // [C, d]
            slice_weights.push(a.mean(0)?);
        }
        let (embedding, view_weights) = self.fused(pooled)?;
        let logits = embedding.mul(&self.weight)?.sum(1)?.add(&self.bias)?; // [C]
        let mut output = HeadOutput::new(logits);
        for weights in slice_weights {
            output = output.slice_weights(weights);
        }
        Ok(match view_weights {
            Some(weights) => output.view_weights(weights),
            None => output,
        })
    }

    /// The views' embeddings `[C, d]` as one, and the weights `[V]` of several.
    fn fused(&self, mut pooled: Vec<Tensor>) -> Result<(Tensor, Option<Tensor>)> {
        match (pooled.len(), &self.fusion) {
            (0, _) => Err(Error::msg("a head was called without a view")),
            (1, _) => Ok((pooled.swap_remove(0), None)),
            (_, None) => Err(Error::msg("several views of one")),
            (_, Some(fusion)) => {
                let stacked = Tensor::stack(&pooled.iter().collect::<Vec<_>>(), 0)?; // [V, C, d]
                let d = stacked.dims()?.get(2).copied().unwrap_or(1) as f64;
                let b = stacked.mul(fusion)?.sum(2)?.scale(1.0 / d.sqrt())?.softmax(0)?; // [V, C]
                let embedding = stacked.mul(&b.unsqueeze(2)?)?.sum(0)?; // [C, d]
                Ok((embedding, Some(b.mean(1)?)))
            }
        }
    }
}
