//! A linear layer on what a mask says of a finding, and on the patch tokens inside it: nothing else is trained.

use crate::build::Build;
use crate::error::{Error, Result};
use crate::head::{Head, HeadOutput, ViewFeatures};
use crate::mask_inputs::{Standardised, inside};
use crate::params::Init;
use crate::tensor::Tensor;

/// The name of [`RegionProbe`] as a pooling (`--fusion none`): no slice is pooled.
pub const NO_POOLING: &str = "none";

/// `logits = W e + b` with `e` the numbers of the mask, standardised by the training cases and kept within 5 standard deviations
/// (where the view asks for `scalars` or `details`), and a tenth of the mean patch token inside the mask (where it asks for
/// `cover`: one penalty then holds hundreds of numbers of a token about as tightly as the few of the mask), of one view after the
/// other; a view without a file is zeros. `host train --logistic` fits W and b at once.
///
/// Parameters: `head.weight` `[C, E]` and `head.bias` `[C]`, starting at 0, `scalars.mean` and `scalars.std` `[n]`, with
/// `.VIEW` behind if there are several views. The slices' weights are their shares of the mask.
pub struct RegionProbe {
    views: Vec<ProbedView>,
    weight: Tensor, // [C, E]
    bias: Tensor,   // [C]
}

struct ProbedView {
    name: String,
    numbers: Option<Standardised>,
    cover: bool,
    length: usize,
}

/// What a token counts beside a standardised number.
const OF_TOKEN: f64 = 0.1;
/// Of the mask's share that a slice is given where the mask lies between the slices.
const LEAST_SHARE: f64 = 1e-9;

impl RegionProbe {
    /// Builds the head from the task's parameters.
    ///
    /// # Errors
    /// When no view asks for `mask_features`, or a parameter contradicts the weights.
    pub fn new(build: &Build) -> Result<Self> {
        let d = build.backbone().embed_dim;
        let mut views = Vec::new();
        for view in build.views() {
            let n = build.mask_numbers(view);
            let cover = build.sends_mask_feature(view, "cover") && !build.class_tokens_only();
            let numbers = Standardised::new(build, view)?;
            let length = n + if cover { d } else { 0 };
            views.push(ProbedView { name: view.clone(), numbers, cover, length });
        }
        let inputs: usize = views.iter().map(|v| v.length).sum();
        if inputs == 0 {
            return Err(Error::msg(
                "a head that reads what a mask says alone needs mask_features: scalars, details or cover",
            ));
        }
        let head = build.params().within("head");
        let weight = head.get("weight", &[build.outputs(), inputs], Init::zeros())?;
        let bias = head.get("bias", &[build.outputs()], Init::zeros())?;
        Ok(Self { views, weight, bias })
    }
}

impl Head for RegionProbe {
    fn forward(&self, views: &[ViewFeatures]) -> Result<HeadOutput> {
        let (mut parts, mut weights) = (Vec::new(), Vec::new());
        for of in &self.views {
            let Some(view) = views.iter().find(|v| v.name == of.name) else {
                parts.push(self.bias.host().full(0.0, &[of.length])?);
                continue;
            };
            if let Some(numbers) = &of.numbers {
                parts.push(numbers.of(view)?);
            }
            if of.cover {
                parts.push(inside(view)?.scale(OF_TOKEN)?);
                let of_slice = view.mask_cover()?.mean(1)?.affine(1.0, LEAST_SHARE)?; // [S]
                weights.push(of_slice.div(&of_slice.sum_all()?)?);
            }
        }
        let all = Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)?;
        let mut output = HeadOutput::new(self.weight.matmul(&all)?.add(&self.bias)?).embedding(all);
        if weights.len() == views.len() {
            output.slice_weights = weights;
        }
        Ok(output)
    }
}
