//! A head for a finding that is marked already: class tokens, and what the mask says of it.

use crate::build::Build;
use crate::error::{Error, Result};
use crate::head::{AttentionPooling, Head, HeadOutput, ViewFeatures};
use crate::label_queries::{LABEL_QUERIES, LabelQueryPooling};
use crate::mask_inputs::{Standardised, inside, named};
use crate::params::Init;
use crate::region_probe::{NO_POOLING, RegionProbe};
use crate::tensor::Tensor;

/// Attention pooling of the slices, and beside the embedding what the manifest asks for in `mask_features`.
///
/// `logits = W v + b + mean over views of (A z + P p / √d)` with `v` the pooled class tokens ([`AttentionPooling`]),
/// `z = clamp((s - mean) / std, -5, 5)` of the mask's numbers `s` ([`crate::MASK_SCALARS`] where the view asks for `scalars`,
/// [`crate::MASK_DETAILS`] where it asks for `details`) and
/// `p = Σ c t / Σ c` the patch tokens `t` inside the mask (`c` is the share of a patch that it covers, where the view asks
/// for `cover`): a linear layer over the concatenation of all three.
///
/// Parameters beside those of [`AttentionPooling`], each with `.VIEW` behind if there are several views: `head.scalars`
/// `[C, n]` and `head.inside` `[C, d]`, starting at 0, `scalars.mean` and `scalars.std` `[n]`. The host sets the last two
/// to those of the training cases before the first step, and no step changes them. With
/// [`Build::class_tokens_only`] the patch tokens are left out.
pub struct RegionPooling {
    pooling: Box<dyn Head>,
    views: Vec<MaskedView>,
}

/// What a view's mask adds.
struct MaskedView {
    name: String,
    scalars: Option<(Standardised, Tensor)>, // [C, n]
    inside: Option<Tensor>,                  // [C, d]
}

impl RegionPooling {
    /// Builds the head from the task's parameters; with `--fusion label_queries` over [`LabelQueryPooling`], with
    /// `--fusion none` [`RegionProbe`] instead.
    ///
    /// # Errors
    /// When a parameter contradicts the weights.
    pub fn new(build: &Build) -> Result<Self> {
        match build.setting("pooling") {
            Some(LABEL_QUERIES) => Self::over(build, LabelQueryPooling::new(build)?),
            // The probe reads all that the mask says by itself.
            Some(NO_POOLING) => {
                let alone = |name: &String| MaskedView { name: name.clone(), scalars: None, inside: None };
                let views = build.views().iter().map(alone).collect();
                Ok(Self { pooling: Box::new(RegionProbe::new(build)?), views })
            }
            _ => Self::over(build, AttentionPooling::new(build)?),
        }
    }

    /// The same over another pooling, for example [`crate::LabelQueryPooling`]: what the masks say is added to its logits.
    ///
    /// # Errors
    /// When a parameter contradicts the weights.
    pub fn over(build: &Build, pooling: impl Head + 'static) -> Result<Self> {
        let pooling: Box<dyn Head> = Box::new(pooling);
        let (c, d) = (build.outputs(), build.backbone().embed_dim);
        let mut views = Vec::new();
        for view in build.views() {
            let get =
                |part: &str, n: usize| build.params().get(&named(build, part, view), &[c, n], Init::zeros());
            let scalars = match Standardised::new(build, view)? {
                Some(numbers) => Some((numbers, get("head.scalars", build.mask_numbers(view))?)),
                None => None,
            };
            let inside = match build.sends_mask_feature(view, "cover") && !build.class_tokens_only() {
                true => Some(get("head.inside", d)?),
                false => None,
            };
            views.push(MaskedView { name: view.clone(), scalars, inside });
        }
        Ok(Self { pooling, views })
    }
}

impl MaskedView {
    /// What the mask adds to the logits, `[C]`; nothing where the view asks for nothing.
    fn forward(&self, view: &ViewFeatures) -> Result<Option<Tensor>> {
        let mut sum = None;
        if let Some((numbers, weight)) = &self.scalars {
            sum = Some(weight.matmul(&numbers.of(view)?)?);
        }
        if let Some(weight) = &self.inside {
            let inside = inside(view)?;
            let d = inside.dims()?.first().copied().unwrap_or(1);
            let seen = weight.matmul(&inside.scale(1.0 / (d as f64).sqrt())?)?;
            sum = Some(match sum {
                Some(sum) => seen.add(&sum)?,
                None => seen,
            });
        }
        Ok(sum)
    }
}

impl Head for RegionPooling {
    fn forward(&self, views: &[ViewFeatures]) -> Result<HeadOutput> {
        let output = self.pooling.forward(views)?;
        let mut logits = output.logits.try_clone()?;
        for view in views {
            let of = self.views.iter().find(|v| v.name == view.name);
            let of =
                of.ok_or_else(|| Error::msg(format!("no parameters for a view named `{}`", view.name)))?;
            if let Some(seen) = of.forward(view)? {
                logits = logits.add(&seen.scale(1.0 / views.len() as f64)?)?;
            }
        }
        Ok(output.with_logits(logits))
    }
}
