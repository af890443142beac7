//! A head for small findings: the paper's pooling of class tokens, and the evidence of single patches beside it.

use crate::build::Build;
use crate::error::{Error, Result};
use crate::head::{AttentionPooling, Head, HeadOutput, ViewFeatures};
use crate::params::Init;
use crate::segmentation::TokenDecoder;
use crate::tensor::Tensor;

/// Attention pooling of the slices, plus the evidence of the patches that look most like a finding.
///
/// A class token summarises a whole slice: a lesion of a single patch hardly changes it, and image labels alone train it
/// slowly. Here the linear layer that the mask supervises ([`TokenDecoder`], parameters `segmentation.*`)
/// also scores every patch at inference: `a = softmax(s)` over all patches of a view, `e = Σ a s`, and
/// `logits = W v + b + g (e + 2)`, with `v` the pooled class token and `g` `[C]` (`head.evidence`, starting at 1). The
/// slice weights are the sums of `a` over a slice. Only the mask trains `s`; the image labels train `W`, `b`, `g` and,
/// through the class tokens, the adapter. This head supports a single view.
pub struct PatchEvidence {
    pooling: AttentionPooling,
    /// The layer that scores patches, and what their evidence weighs.
    patches: Option<(TokenDecoder, Tensor)>,
}

/// The evidence of an undecided case. Most patches of a scan are background, so the mask's loss with [`TokenDecoder`]'s
/// positive weight keeps even the highest scores of a scan without a finding near -2.5. Without this shift the class
/// tokens, and so the adapter, would spend the first epochs on correcting it.
const SETTLED: f64 = -2.0;

impl PatchEvidence {
    /// Builds the head from the task's parameters. If the user asked for class tokens alone
    /// ([`Build::class_tokens_only`]), it is [`AttentionPooling`]. Use [`TokenDecoder`] as the segmentation decoder: with
    /// another decoder the layer that this head reads stays untrained.
    ///
    /// # Errors
    /// When the task has several views, or a parameter contradicts the weights.
    pub fn new(build: &Build) -> Result<Self> {
        if build.views().len() != 1 {
            return Err(Error::msg(format!(
                "PatchEvidence is for one view, the task has {}",
                build.views().len()
            )));
        }
        let pooling = AttentionPooling::new(build)?;
        if build.class_tokens_only() {
            return Ok(Self { pooling, patches: None });
        }
        let gain = build.params().within("head").get("evidence", &[build.outputs()], Init::ones())?;
        Ok(Self { pooling, patches: Some((TokenDecoder::new(build)?, gain)) })
    }
}

impl Head for PatchEvidence {
    fn forward(&self, views: &[ViewFeatures]) -> Result<HeadOutput> {
        let [view] = views else {
            return Err(Error::msg(format!("PatchEvidence is for one view, {} came", views.len())));
        };
        let pooled = self.pooling.forward(views)?;
        let Some((decoder, gain)) = &self.patches else { return Ok(pooled) };
        let suspicion = Suspicion::of(decoder, view)?;
        let logits = pooled.logits.add(&gain.mul(&suspicion.evidence)?)?;
        let mut output =
            HeadOutput::new(logits).slice_weights(suspicion.slices).patch_weights(suspicion.patches);
        output.embedding = pooled.embedding;
        Ok(output)
    }
}

/// Where a view's patches look most like a finding, and how much.
pub(crate) struct Suspicion {
    /// Weights of all patches, `[S·h·w]`; they sum to 1.
    pub flat: Tensor,
    /// The same by slice and place, `[S, h, w]`.
    pub patches: Tensor,
    /// Their sums over the slices' patches, `[S]`.
    pub slices: Tensor,
    /// The score of the heaviest ones, centred: `[]`.
    pub evidence: Tensor,
}

impl Suspicion {
    /// By the scores of the layer that masks supervise; no gradient reaches it from here.
    pub fn of(decoder: &TokenDecoder, view: &ViewFeatures) -> Result<Self> {
        // Cut off: the few patches that decide a case would get a gradient of the image label that is a hundred times
        // the mask's, and before they are the right ones it teaches the wrong ones.
        let scores = decoder.scores(view)?.detach()?; // [S, h·w]
        let dims = scores.dims()?;
        let all = scores.flatten()?;
        let flat = all.softmax(0)?; // [S·h·w]
        Ok(Self {
            evidence: flat.mul(&all)?.sum_all()?.affine(1.0, -SETTLED)?,
            slices: flat.reshape(&dims)?.sum(1)?,
            patches: flat.reshape(&[dims[0], view.grid[0], view.grid[1]])?,
            flat,
        })
    }
}
