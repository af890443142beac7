//! A head for small findings whose kind matters: class tokens, and the patch tokens where a finding seems to be.

use crate::build::Build;
use crate::error::{Error, Result};
use crate::evidence::Suspicion;
use crate::head::{AttentionPooling, Head, HeadOutput, Pooled, ViewFeatures};
use crate::params::{Init, Params};
use crate::segmentation::TokenDecoder;
use crate::tensor::Tensor;

/// Attention pooling of the slices, plus, for each view, the patch tokens at the likely finding.
///
/// [`crate::PatchEvidence`] tells that something is there; this head also sees what it is. The linear layer that the
/// mask supervises ([`TokenDecoder`], parameters `segmentation.*`) scores every patch of a view: `a = softmax(s)`,
/// evidence `e = Σ a s`, patch embedding `p = Σ a t` of the patch tokens `t`. Then
///
/// `logits = W v / √d + b + mean over views of (Wₙ pₙ / √d + gₙ (eₙ + 2))`
///
/// with `v` the pooled class tokens ([`AttentionPooling`]), `Wₙ` `[C, d]` (`head.patches.NAME`, starting at 0) and `gₙ`
/// `[C]` (`head.evidence.NAME`, starting at 1). Each view has separate layers, so that the head can distinguish which
/// sequence shows a finding. Only the mask trains `s`; image labels reach the adapter through `v` and through `p`, with
/// or without a mask. The mean leaves missing views out.
///
/// Why `√d`: a token has `d` numbers of about 1 that are far from centred, and a step of AdamW moves every weight by the
/// learning rate. Without the factor each step would shift the logits of all cases by up to `d` times the learning rate
/// (at 1e-3 by a third), and this shift would dominate the losses.
pub struct PatchPooling {
    pooling: AttentionPooling,
    patches: Option<Patches>,
}

/// What reads the patch tokens.
struct Patches {
    decoder: TokenDecoder,
    views: Vec<PatchView>,
}

/// What a view's patches add to the logits.
struct PatchView {
    name: String,
    weight: Tensor, // [C, d]
    gain: Tensor,   // [C]
}

impl PatchView {
    fn new(name: &str, head: &Params, outputs: usize, d: usize) -> Result<Self> {
        let weight = head.within("patches").get(name, &[outputs, d], Init::zeros())?;
        let gain = head.within("evidence").get(name, &[outputs], Init::ones())?;
        Ok(Self { name: name.to_owned(), weight, gain })
    }
}

impl PatchPooling {
    /// Builds the head from the task's parameters. If the user asked for class tokens alone
    /// ([`Build::class_tokens_only`]), it is [`AttentionPooling`]. Use [`TokenDecoder`] as the segmentation decoder: with
    /// another decoder the layer that this head reads stays untrained.
    ///
    /// # Errors
    /// When a parameter contradicts the weights.
    pub fn new(build: &Build) -> Result<Self> {
        let pooling = AttentionPooling::new(build)?;
        if build.class_tokens_only() {
            return Ok(Self { pooling, patches: None });
        }
        let head = build.params().within("head");
        let d = build.backbone().embed_dim;
        let view = |name: &String| PatchView::new(name, &head, build.outputs(), d);
        let views = build.views().iter().map(view).collect::<Result<_>>()?;
        Ok(Self { pooling, patches: Some(Patches { decoder: TokenDecoder::new(build)?, views }) })
    }
}

impl Head for PatchPooling {
    fn forward(&self, views: &[ViewFeatures]) -> Result<HeadOutput> {
        let Some(patches) = &self.patches else { return self.pooling.forward(views) };
        let Pooled { embedding, view_weights, .. } = self.pooling.pooled(views)?;
        let scale = 1.0 / (embedding.dims()?[0] as f64).sqrt();
        let own = self.pooling.linear(&embedding.scale(scale)?)?;
        let (mut sum, mut all) = (None::<Tensor>, Vec::new());
        for view in views {
            let of = patches.views.iter().find(|v| v.name == view.name);
            let of = of.ok_or_else(|| Error::msg(format!("no patches for a view named `{}`", view.name)))?;
            let suspicion = Suspicion::of(&patches.decoder, view)?;
            let tokens = view.patch_tokens.reshape(&[suspicion.flat.dims()?[0], of.weight.dims()?[1]])?;
            let patch = suspicion.flat.matmul(&tokens)?.scale(scale)?; // [d]
            let seen = of.weight.matmul(&patch)?.add(&of.gain.mul(&suspicion.evidence)?)?;
            sum = Some(match sum {
                Some(sum) => sum.add(&seen)?,
                None => seen,
            });
            all.push(suspicion);
        }
        let sum = sum.ok_or_else(|| Error::msg("no view came"))?;
        let mut output = HeadOutput::new(own.add(&sum.scale(1.0 / views.len() as f64)?)?);
        output.view_weights = view_weights;
        for suspicion in all {
            output = output.slice_weights(suspicion.slices).patch_weights(suspicion.patches);
        }
        Ok(output)
    }
}
