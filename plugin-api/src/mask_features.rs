//! What a head is told of the case's mask, beside the tokens: six numbers, and how much of each patch it covers.
//!
//! A view asks for it in plugin.toml, `mask_features = ["scalars", "cover"]`; without that nothing is sent.

use crate::build::Build;
use crate::error::{Error, Result};
use crate::head::ViewFeatures;
use crate::tensor::Tensor;

/// The numbers of [`MaskFeatures::scalars`], in their order, each over the voxels where the mask is above 0.5:
///
/// 1. `log_volume`: natural logarithm of the volume in mm³;
/// 2. `mean` and 3. `std`: mean and standard deviation (of the population) of the scan's values, in its units;
/// 4. `p5` and 5. `p95`: their 5th and 95th percentile, linear between order statistics;
/// 6. `diameter_mm`: longest distance between the centres of two voxels.
pub const MASK_SCALARS: [&str; 6] = ["log_volume", "mean", "std", "p5", "p95", "diameter_mm"];

/// What a host tells of the case's mask in one view. Since 1.1.
#[derive(Default)]
#[non_exhaustive]
pub struct MaskFeatures {
    /// [`MASK_SCALARS`], `[6]`, as measured: not standardised.
    pub scalars: Option<Tensor>,
    /// How much of each patch the mask covers, `[S, h·w]` in 0..1, rows first.
    pub cover: Option<Tensor>,
}

impl MaskFeatures {
    /// The numbers, or the cover, or both.
    pub fn new(scalars: Option<Tensor>, cover: Option<Tensor>) -> Self {
        Self { scalars, cover }
    }
}

impl ViewFeatures {
    /// The same features with what is known of a mask: for tests that call a head by hand.
    #[must_use]
    pub fn with_mask(mut self, mask: MaskFeatures) -> Self {
        self.mask = mask;
        self
    }

    /// [`MASK_SCALARS`] of the case's mask, `[6]`.
    ///
    /// # Errors
    /// When the view does not ask for `scalars` in plugin.toml.
    pub fn mask_scalars(&self) -> Result<&Tensor> {
        self.mask.scalars.as_ref().ok_or_else(|| self.not_asked("scalars"))
    }

    /// How much of each patch the case's mask covers, `[S, h·w]` in 0..1.
    ///
    /// # Errors
    /// When the view does not ask for `cover` in plugin.toml.
    pub fn mask_cover(&self) -> Result<&Tensor> {
        self.mask.cover.as_ref().ok_or_else(|| self.not_asked("cover"))
    }

    fn not_asked(&self, feature: &str) -> Error {
        Error::msg(format!(
            "view `{}` was sent no {feature} of the mask; ask for it in plugin.toml: mask_features = [\"{feature}\"]",
            self.name
        ))
    }
}

impl Build {
    /// Whether the host will send `scalars` or `cover` of the case's mask with the view's tokens.
    pub fn sends_mask_feature(&self, view: &str, feature: &str) -> bool {
        let sent = self.setting(&format!("mask_features.{view}")).unwrap_or_default();
        sent.split(',').any(|name| name == feature)
    }
}
