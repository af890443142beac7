//! Pixel supervision: a branch for training that reads patch tokens and is dropped at inference unless a mask is asked
//! for.

use crate::build::Build;
use crate::error::{Error, Result};
use crate::head::ViewFeatures;
use crate::params::Init;
use crate::tensor::Tensor;

/// A task's segmentation decoder (arXiv 2512.12887: patch tokens as a pseudo-3D volume, decoded and supervised with a
/// mask). Its parameters belong under `segmentation.`; its gradient reaches the adapter, and so the class tokens, through
/// the patch tokens.
pub trait Segmentation: Send + Sync {
    /// Logits `[S, a, b]` of a view, `a` and `b` whole fractions of the image's rows and columns: [`TokenDecoder`] returns
    /// the patch grid, [`crate::VolumeDecoder`] the pixels. The host interpolates them to pixels; a voxel is in the mask if
    /// its logit is 0 or more.
    ///
    /// # Errors
    /// Any error; it becomes that case's error.
    fn logits(&self, view: &ViewFeatures) -> Result<Tensor>;

    /// Loss (shape `[]`) of a view against its mask `[S, H, W]`: occupancy 0 to 1 on the image's pixels.
    ///
    /// # Errors
    /// Any error; it ends the training run.
    fn loss(&self, view: &ViewFeatures, mask: &Tensor) -> Result<Tensor>;
}

/// One linear layer on the patch tokens, trained with weighted BCE on the patch grid.
///
/// The target of a patch is the largest mask value inside it. Parameters: `segmentation.weight` `[d]`,
/// `segmentation.bias` `[1]`.
pub struct TokenDecoder {
    weight: Tensor,
    bias: Tensor,
    positive_weight: f64,
}

impl TokenDecoder {
    /// Positive weight 20, because lesions fill few patches.
    ///
    /// # Errors
    /// When a parameter contradicts the weights.
    pub fn new(build: &Build) -> Result<Self> {
        let params = build.params().within("segmentation");
        let d = build.backbone().embed_dim;
        let weight = params.get("weight", &[d], Init::trunc_normal(0.02))?;
        // Lesions are rare: starting at a low probability spares the first steps the way there.
        let bias = params.get("bias", &[1], Init::constant(-4.0))?;
        Ok(Self { weight, bias, positive_weight: 20.0 })
    }

    /// Scores `[S, h·w]` of the patches: the logits, not yet on their grid.
    pub(crate) fn scores(&self, view: &ViewFeatures) -> Result<Tensor> {
        view.patch_tokens.matmul(&self.weight)?.add(&self.bias)
    }

    /// Another weight of positive patches.
    #[must_use]
    pub fn positive_weight(mut self, weight: f64) -> Self {
        self.positive_weight = weight;
        self
    }
}

/// `TokenDecoder::new(build).some()` on a result.
pub trait SomeSegmentation {
    /// The boxed part, or the error.
    ///
    /// # Errors
    /// The error of the construction.
    fn some(self) -> Result<Option<Box<dyn Segmentation>>>;
}

impl<T: Segmentation + 'static> SomeSegmentation for Result<T> {
    fn some(self) -> Result<Option<Box<dyn Segmentation>>> {
        Ok(Some(Box::new(self?)))
    }
}

impl Segmentation for TokenDecoder {
    fn logits(&self, view: &ViewFeatures) -> Result<Tensor> {
        let slices = view.patch_tokens.dims()?[0];
        self.scores(view)?.reshape(&[slices, view.grid[0], view.grid[1]])
    }

    fn loss(&self, view: &ViewFeatures, mask: &Tensor) -> Result<Tensor> {
        let target = patch_maximum(mask, view.grid)?;
        let logits = self.logits(view)?;
        // -(w y ln σ(z) + (1 - y) ln(1 - σ(z))) with softplus, stable for any z
        let positive = target.mul(&logits.neg()?.softplus()?)?.scale(self.positive_weight)?;
        let negative = target.affine(-1.0, 1.0)?.mul(&logits.softplus()?)?;
        positive.add(&negative)?.mean_all()
    }
}

/// Mask `[S, H, W]` to the largest value inside each patch `[S, h, w]`; no gradient.
///
/// # Errors
/// When the image is not a whole number of patches.
pub fn patch_maximum(mask: &Tensor, grid: [usize; 2]) -> Result<Tensor> {
    patches(mask, grid)?.max(4)?.max(2)
}

/// Mask `[S, H, W]` to the mean inside each cell of a coarser grid `[S, h, w]`: its occupancy; no gradient.
///
/// # Errors
/// When the image is not a whole number of cells.
pub fn patch_mean(mask: &Tensor, grid: [usize; 2]) -> Result<Tensor> {
    patches(mask, grid)?.mean(4)?.mean(2)
}

/// `[S, h, p, w, q]`
fn patches(mask: &Tensor, grid: [usize; 2]) -> Result<Tensor> {
    let dims = mask.dims()?;
    let [h, w] = grid;
    match dims[..] {
        [s, height, width] if h > 0 && w > 0 && height % h == 0 && width % w == 0 => {
            mask.detach()?.reshape(&[s, h, height / h, w, width / w])
        }
        _ => Err(Error::msg(format!("a mask of shape {dims:?} does not divide into {h} x {w} patches"))),
    }
}
