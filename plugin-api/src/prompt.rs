//! A head and a decoder for a finding that a person points at (after ProMISe, arXiv 2310.19721: a point in, a mask and a score
//! out).
//!
//! A view with `region = "point"` is cut around the case's point, so the point lies in the middle of its token grid: what
//! [`ViewFeatures::prompt_offsets_mm`] tells is how far each patch is from it.

use crate::build::Build;
use crate::error::{Error, Result};
use crate::head::{Head, HeadOutput, ViewFeatures};
use crate::mask_features::MaskFeatures;
use crate::params::Init;
use crate::segmentation::Segmentation;
use crate::tensor::Tensor;
use crate::volume_decoder::VolumeDecoder;

/// How far the nearness of a token to the point reaches, mm: the widths of its two bells.
const REACH_MM: [f64; 2] = [4.0, 12.0];
/// What a token far from the point still counts in the head's pooling.
const FAR: f64 = 0.01;

impl ViewFeatures {
    /// `[S, h·w, 3]`, mm: how far the centre of each patch lies from the case's point along slices, rows and columns.
    ///
    /// Of a view with `region = "point"`. Such a view is centred on the point, also where it reaches beyond the scan.
    ///
    /// # Errors
    /// As [`Self::token_spacing_mm`].
    pub fn prompt_offsets_mm(&self) -> Result<Tensor> {
        let slices = self.class_tokens.dims()?[0];
        let [h, w] = self.grid;
        let spacing = self.token_spacing_mm()?;
        let along = |i: usize, n: usize, mm: f32| (i as f32 - (n as f32 - 1.0) / 2.0) * mm;
        let mut offsets = Vec::with_capacity(slices * h * w * 3);
        for s in 0..slices {
            for patch in 0..h * w {
                offsets.push(along(s, slices, spacing[0]));
                offsets.push(along(patch / w, h, spacing[1]));
                offsets.push(along(patch % w, w, spacing[2]));
            }
        }
        self.class_tokens.host().tensor(&offsets, &[slices, h * w, 3])
    }

    /// `[S·h·w]`: squared distance of each patch's centre from the case's point, mm².
    fn prompt_distances(&self) -> Result<Tensor> {
        self.prompt_offsets_mm()?.square()?.sum(2)?.flatten()
    }
}

/// Adds to every patch token what it is to the point: `t + N E` with `N` `[S·h·w, 3]`, the nearness
/// `exp(-r² / 2 σ²)` for two σ (4 and 12 mm) and a 1, and `E` `[3, d]`, learned, starting at 0.
pub struct PromptEncoding {
    weight: Tensor,
}

impl PromptEncoding {
    /// Parameter `prompt.weight` `[3, d]` below `part`.
    ///
    /// # Errors
    /// When the parameter contradicts the weights.
    pub fn new(build: &Build, part: &str) -> Result<Self> {
        let d = build.backbone().embed_dim;
        let params = build.params().within(part);
        Ok(Self { weight: params.get("prompt.weight", &[REACH_MM.len() + 1, d], Init::zeros())? })
    }

    /// The encoded patch tokens, `[S·h·w, d]`.
    ///
    /// # Errors
    /// As [`ViewFeatures::token_spacing_mm`].
    pub fn tokens(&self, view: &ViewFeatures) -> Result<Tensor> {
        let dims = view.patch_tokens.dims()?;
        let [s, n, d] = dims[..] else {
            return Err(Error::msg(format!("patch tokens {dims:?}, expected [S, h·w, d]")));
        };
        let distances = view.prompt_distances()?;
        let bell = |mm: f64| distances.scale(-0.5 / (mm * mm))?.exp();
        let (near, wide) = (bell(REACH_MM[0])?, bell(REACH_MM[1])?);
        let one = near.host().full(1.0, &[s * n])?;
        let nearness = Tensor::stack(&[&near, &wide, &one], 1)?; // [S·h·w, 3]
        view.patch_tokens.reshape(&[s * n, d])?.add(&nearness.matmul(&self.weight)?)
    }
}

/// Does what lies at the point belong to a finding? Attention over the encoded patch tokens, which the point's
/// neighbourhood dominates: `a = softmax(t q / √d + ln(exp(-r² / 2 σ²) + 0.01))` with σ = 4 mm, `logits = W Σ a t + b`.
///
/// For one view with `region = "point"`. Parameters: `head.prompt.weight` `[3, d]`, `query` `[d]`, `head.weight` `[C, d]`,
/// `head.bias` `[C]`.
pub struct PromptPooling {
    encoding: PromptEncoding,
    query: Tensor,
    weight: Tensor,
    bias: Tensor,
}

impl PromptPooling {
    /// Builds the head from the task's parameters.
    ///
    /// # Errors
    /// When the task has several views, the host tells no positions, or a parameter contradicts the weights.
    pub fn new(build: &Build) -> Result<Self> {
        let views = build.views().len();
        if views != 1 {
            return Err(Error::msg(format!("PromptPooling is for one view, the task has {views}")));
        }
        build.needs_slice_positions()?;
        let (c, d) = (build.outputs(), build.backbone().embed_dim);
        let head = build.params().within("head");
        Ok(Self {
            encoding: PromptEncoding::new(build, "head")?,
            query: build.params().get("query", &[d], Init::trunc_normal(0.02))?,
            weight: head.get("weight", &[c, d], Init::trunc_normal(0.02))?,
            bias: head.get("bias", &[c], Init::zeros())?,
        })
    }
}

impl Head for PromptPooling {
    fn forward(&self, views: &[ViewFeatures]) -> Result<HeadOutput> {
        let [view] = views else {
            return Err(Error::msg(format!("PromptPooling is for one view, {} came", views.len())));
        };
        let tokens = self.encoding.tokens(view)?; // [S·h·w, d]
        let d = tokens.dims()?[1] as f64;
        let near = view.prompt_distances()?.scale(-0.5 / (REACH_MM[0] * REACH_MM[0]))?.exp()?;
        let scores = tokens.matmul(&self.query)?.scale(1.0 / d.sqrt())?;
        let weights = scores.add(&near.affine(1.0, FAR)?.log()?)?.softmax(0)?; // [S·h·w]
        let pooled = weights.matmul(&tokens)?; // [d]
        let logits = self.weight.matmul(&pooled)?.add(&self.bias)?;
        let (slices, [h, w]) = (view.class_tokens.dims()?[0], view.grid);
        let slice_weights = weights.reshape(&[slices, h * w])?.sum(1)?;
        let patch_weights = weights.reshape(&[slices, h, w])?;
        Ok(HeadOutput::new(logits)
            .slice_weights(slice_weights)
            .patch_weights(patch_weights)
            .embedding(pooled))
    }
}

/// What belongs to the finding at the point: [`VolumeDecoder`] over the encoded patch tokens. Parameters:
/// `segmentation.prompt.weight` `[3, d]` and those of the decoder.
pub struct PromptDecoder {
    encoding: PromptEncoding,
    decoder: VolumeDecoder,
}

impl PromptDecoder {
    /// Over the standard decoder.
    ///
    /// # Errors
    /// As [`VolumeDecoder::new`], and when the host tells no positions.
    pub fn new(build: &Build) -> Result<Self> {
        Self::over(build, VolumeDecoder::new(build)?)
    }

    /// Over another decoder of volumes.
    ///
    /// # Errors
    /// When the host tells no positions, or a parameter contradicts the weights.
    pub fn over(build: &Build, decoder: VolumeDecoder) -> Result<Self> {
        build.needs_slice_positions()?;
        Ok(Self { encoding: PromptEncoding::new(build, "segmentation")?, decoder })
    }

    fn encoded(&self, view: &ViewFeatures) -> Result<ViewFeatures> {
        let dims = view.patch_tokens.dims()?;
        Ok(ViewFeatures {
            name: view.name.clone(),
            class_tokens: view.class_tokens.try_clone()?,
            patch_tokens: self.encoding.tokens(view)?.reshape(&dims)?,
            grid: view.grid,
            mask: MaskFeatures::default(),
            geometry: view.geometry.clone(),
        })
    }
}

impl Segmentation for PromptDecoder {
    fn logits(&self, view: &ViewFeatures) -> Result<Tensor> {
        self.decoder.logits(&self.encoded(view)?)
    }

    fn loss(&self, view: &ViewFeatures, mask: &Tensor) -> Result<Tensor> {
        self.decoder.loss(&self.encoded(view)?, mask)
    }
}
