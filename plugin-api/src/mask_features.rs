//! What a head is told of the case's mask, beside the tokens: numbers of it, and how much of each patch it covers.
//!
//! A view asks for it in plugin.toml, `mask_features = ["scalars", "details", "cover"]`; without that nothing is sent.

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

/// More numbers of the mask and its surroundings, in their order, in the scan's units where nothing else is said. A voxel's depth is
/// its distance in mm to the nearest voxel outside; the core is what is as deep as the 60th percentile of the depths, or deeper.
///
/// 1. `p25`, `p50`, `p75`, `p99`, `max`, `skewness` of the values inside;
/// 2. `core_mean` and `edge_mean`: mean of the core, and of what is inside and not of it; `depth_mm`: the largest depth;
/// 3. mean, standard deviation, 10th and 90th percentile of the values outside at a distance of up to 2 mm (`near`), 2 to 5 mm
///    (`middle`) and 5 to 10 mm (`far`). A ring without a voxel repeats the ring before it, the first the edge;
/// 4. `sphericity`: surface of the ball of the mask's volume over the area of its voxels' faces (Wadell 1935); `elongation` and
///    `flatness`: second and third principal axis over the first; `ellipsoid`: volume over that of the ellipsoid of these axes;
/// 5. of the axial slice with the largest area `compactness` (4π area / perimeter²), `convexity` (area over that of its convex
///    hull) and `log_area` (natural logarithm of mm²).
pub const MASK_DETAILS: [&str; 28] = [
    "p25",
    "p50",
    "p75",
    "p99",
    "max",
    "skewness",
    "core_mean",
    "edge_mean",
    "depth_mm",
    "near_mean",
    "near_std",
    "near_p10",
    "near_p90",
    "middle_mean",
    "middle_std",
    "middle_p10",
    "middle_p90",
    "far_mean",
    "far_std",
    "far_p10",
    "far_p90",
    "sphericity",
    "elongation",
    "flatness",
    "ellipsoid",
    "compactness",
    "convexity",
    "log_area",
];

/// What a host tells of the case's mask in one view. Since 1.1.
#[derive(Default)]
#[non_exhaustive]
pub struct MaskFeatures {
    /// [`MASK_SCALARS`] where the view asks for `scalars`, then [`MASK_DETAILS`] where it asks for `details`, `[6]`, `[28]` or
    /// `[34]`, as measured: not standardised.
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

    /// Numbers of the case's mask: [`MASK_SCALARS`] where the view asks for `scalars`, then [`MASK_DETAILS`] where it asks for
    /// `details`; `[6]`, `[28]` or `[34]`.
    ///
    /// # Errors
    /// When the view asks for neither in plugin.toml.
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
    /// How many numbers of the case's mask the host will send with the view's tokens.
    pub fn mask_numbers(&self, view: &str) -> usize {
        let of = |feature: &str, n: usize| if self.sends_mask_feature(view, feature) { n } else { 0 };
        of("scalars", MASK_SCALARS.len()) + of("details", MASK_DETAILS.len())
    }

    /// Whether the host will send `scalars`, `details` or `cover` of the case's mask with the view's tokens.
    pub fn sends_mask_feature(&self, view: &str, feature: &str) -> bool {
        let sent = self.setting(&format!("mask_features.{view}")).unwrap_or_default();
        sent.split(',').any(|name| name == feature)
    }
}
