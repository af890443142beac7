//! A head for a finding that is marked already: class tokens, and what the mask says of it.

use crate::build::Build;
use crate::error::{Error, Result};
use crate::head::{AttentionPooling, Head, HeadOutput, ViewFeatures};
use crate::label_queries::{LABEL_QUERIES, LabelQueryPooling};
use crate::mask_features::MASK_SCALARS;
use crate::params::Init;
use crate::tensor::Tensor;

/// Attention pooling of the slices, and beside the embedding what the manifest asks for in `mask_features`.
///
/// `logits = W v + b + mean over views of (A z + P p / √d)` with `v` the pooled class tokens ([`AttentionPooling`]),
/// `z = clamp((s - mean) / std, -5, 5)` of the mask's scalars `s` ([`MASK_SCALARS`], where the view asks for `scalars`) and
/// `p = Σ c t / Σ c` the patch tokens `t` inside the mask (`c` is the share of a patch that it covers, where the view asks
/// for `cover`): a linear layer over the concatenation of all three.
///
/// Parameters beside those of [`AttentionPooling`], each with `.VIEW` behind if there are several views: `head.scalars`
/// `[C, 6]` and `head.inside` `[C, d]`, starting at 0, `scalars.mean` and `scalars.std` `[6]`. The host sets the last two
/// to those of the training cases before the first step, and no step changes them. With
/// [`Build::class_tokens_only`] the patch tokens are left out.
pub struct RegionPooling {
    pooling: Box<dyn Head>,
    views: Vec<MaskedView>,
}

/// What a view's mask adds.
struct MaskedView {
    name: String,
    scalars: Option<Standardised>,
    inside: Option<Tensor>, // [C, d]
}

/// Scalars brought to mean 0 and standard deviation 1, and what they weigh.
struct Standardised {
    mean: Tensor,   // [6]
    std: Tensor,    // [6]
    weight: Tensor, // [C, 6]
}

/// Standard deviations beyond which a scalar counts as no farther off: a mask unlike any of training's does not decide alone.
const FARTHEST: f64 = 5.0;

impl RegionPooling {
    /// Builds the head from the task's parameters; with `--fusion label_queries` over [`LabelQueryPooling`].
    ///
    /// # Errors
    /// When a parameter contradicts the weights.
    pub fn new(build: &Build) -> Result<Self> {
        match build.setting("pooling") {
            Some(LABEL_QUERIES) => Self::over(build, LabelQueryPooling::new(build)?),
            _ => Self::over(build, AttentionPooling::new(build)?),
        }
    }

    /// The same over another pooling, for example [`crate::LabelQueryPooling`]: what the masks say is added to its logits.
    ///
    /// # Errors
    /// When a parameter contradicts the weights.
    pub fn over(build: &Build, pooling: impl Head + 'static) -> Result<Self> {
        let pooling: Box<dyn Head> = Box::new(pooling);
        let (c, d, n) = (build.outputs(), build.backbone().embed_dim, MASK_SCALARS.len());
        let several = build.views().len() > 1;
        let mut views = Vec::new();
        for view in build.views() {
            let name = |part: &str| if several { format!("{part}.{view}") } else { part.to_owned() };
            let get = |part: &str, dims: &[usize], init: Init| build.params().get(&name(part), dims, init);
            let scalars = match build.sends_mask_feature(view, "scalars") {
                true => Some(Standardised {
                    mean: get("scalars.mean", &[n], Init::zeros())?,
                    std: get("scalars.std", &[n], Init::ones())?,
                    weight: get("head.scalars", &[c, n], Init::zeros())?,
                }),
                false => None,
            };
            let inside = match build.sends_mask_feature(view, "cover") && !build.class_tokens_only() {
                true => Some(get("head.inside", &[c, d], Init::zeros())?),
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
        if let Some(Standardised { mean, std, weight }) = &self.scalars {
            let z = view.mask_scalars()?.sub(mean)?.div(&std.clamp(1e-6, f64::MAX)?)?;
            sum = Some(weight.matmul(&z.clamp(-FARTHEST, FARTHEST)?)?);
        }
        if let Some(weight) = &self.inside {
            let dims = view.patch_tokens.dims()?;
            let [s, n, d] = dims[..] else {
                return Err(Error::msg(format!("patch tokens {dims:?}, expected [S, h·w, d]")));
            };
            let cover = view.mask_cover()?.reshape(&[s * n])?;
            // A mask that lies between the slices covers nothing, and adds nothing.
            let share = cover.div(&cover.sum_all()?.clamp(1e-6, f64::MAX)?)?;
            let inside = share.matmul(&view.patch_tokens.reshape(&[s * n, d])?)?; // [d]
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
