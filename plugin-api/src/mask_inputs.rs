//! What heads make of a case's mask: its numbers, standardised, and the patch tokens inside it.

use crate::build::Build;
use crate::error::{Error, Result};
use crate::head::ViewFeatures;
use crate::params::Init;
use crate::tensor::Tensor;

/// Numbers of a mask brought to mean 0 and standard deviation 1.
pub(crate) struct Standardised {
    mean: Tensor, // [n]
    std: Tensor,  // [n]
}

/// Standard deviations beyond which a scalar counts as no farther off: a mask unlike any of training's does not decide alone.
const FARTHEST: f64 = 5.0;

impl Standardised {
    /// Of the numbers that the view's head is told, if any.
    pub(crate) fn new(build: &Build, view: &str) -> Result<Option<Self>> {
        let n = build.mask_numbers(view);
        if n == 0 {
            return Ok(None);
        }
        let get = |part: &str, init: Init| build.params().get(&named(build, part, view), &[n], init);
        let (mean, std) = (get("scalars.mean", Init::zeros())?, get("scalars.std", Init::ones())?);
        Ok(Some(Self { mean, std }))
    }

    /// `[n]`, within [`FARTHEST`] of 0.
    pub(crate) fn of(&self, view: &ViewFeatures) -> Result<Tensor> {
        let z = view.mask_scalars()?.sub(&self.mean)?.div(&self.std.clamp(1e-6, f64::MAX)?)?;
        z.clamp(-FARTHEST, FARTHEST)
    }
}

/// A parameter's name, with the view's behind if there are several.
pub(crate) fn named(build: &Build, part: &str, view: &str) -> String {
    if build.views().len() > 1 { format!("{part}.{view}") } else { part.to_owned() }
}

/// `[d]`: the mean patch token inside the mask. A mask that lies between the slices covers nothing, and gives zeros.
pub(crate) fn inside(view: &ViewFeatures) -> Result<Tensor> {
    let dims = view.patch_tokens.dims()?;
    let [s, n, d] = dims[..] else {
        return Err(Error::msg(format!("patch tokens {dims:?}, expected [S, h·w, d]")));
    };
    let cover = view.mask_cover()?.reshape(&[s * n])?;
    let share = cover.div(&cover.sum_all()?.clamp(1e-6, f64::MAX)?)?;
    share.matmul(&view.patch_tokens.reshape(&[s * n, d])?)
}
