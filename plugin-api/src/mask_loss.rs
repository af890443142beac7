//! The loss of voxel logits against a mask: overlap and cross-entropy.

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// `dice · (1 - D) + cross_entropy · BCE` of logits against an occupancy of 0 to 1 on the same grid.
///
/// `D = (2 Σ p y + s) / (Σ p + Σ y + s)` is the soft Dice coefficient over the whole volume with smoothing `s` (arXiv
/// 1606.04797, without its squares), `p = σ(z)`. `BCE` is the mean over voxels of `w y softplus(-z) + (1 - y)
/// softplus(z)`. Dice alone has next to no gradient where the mask is empty, cross-entropy alone hardly sees a lesion
/// of a hundred voxels in a million: nnU-Net's sum of both, here at half each.
///
/// ```
/// # fn main() -> anymc3d_plugin_api::Result<()> {
/// # #[cfg(feature = "testkit")] {
/// use anymc3d_plugin_api::{MaskLoss, testkit::Context};
///
/// let context = Context::new(0);
/// let mask = context.tensor(&[0.0, 1.0, 1.0, 0.0], &[1, 2, 2])?;         // [S, H, W]
/// let right = mask.affine(40.0, -20.0)?;                                 // logits ±20
/// let loss = MaskLoss::default();
/// assert!(loss.of(&right, &mask)?.to_vec()?[0] < 1e-6);
/// assert!(loss.of(&right.neg()?, &mask)?.to_vec()?[0] > 5.0);
/// # }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct MaskLoss {
    /// Weight of the Dice loss.
    pub dice: f64,
    /// Weight of the cross-entropy.
    pub cross_entropy: f64,
    /// w: weight of the voxels inside the mask in the cross-entropy.
    pub positive_weight: f64,
    /// s, voxels: an empty mask against an empty answer is a perfect one.
    pub smoothing: f64,
}

impl Default for MaskLoss {
    /// 0.5, 0.5, no weight, one voxel.
    fn default() -> Self {
        Self { dice: 0.5, cross_entropy: 0.5, positive_weight: 1.0, smoothing: 1.0 }
    }
}

impl MaskLoss {
    /// Other weights of the Dice loss and of the cross-entropy.
    #[must_use]
    pub fn weights(mut self, dice: f64, cross_entropy: f64) -> Self {
        (self.dice, self.cross_entropy) = (dice, cross_entropy);
        self
    }

    /// Another weight of the voxels inside the mask in the cross-entropy.
    #[must_use]
    pub fn positive_weight(mut self, weight: f64) -> Self {
        self.positive_weight = weight;
        self
    }

    /// Another smoothing, voxels.
    #[must_use]
    pub fn smoothing(mut self, voxels: f64) -> Self {
        self.smoothing = voxels;
        self
    }

    /// The loss, shape `[]`.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn of(&self, logits: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let (z, y) = (logits.dims()?, mask.dims()?);
        if z != y {
            return Err(Error::msg(format!("logits {z:?} against a mask {y:?}")));
        }
        let (z, y) = (logits.flatten()?, mask.flatten()?);
        let p = z.sigmoid()?;
        let both = p.matmul(&y)?.affine(2.0, self.smoothing)?;
        let either = p.sum_all()?.add(&y.sum_all()?)?.affine(1.0, self.smoothing)?;
        let dice = both.div(&either)?.affine(-self.dice, self.dice)?;
        // w y softplus(-z) + (1 - y) softplus(z) with softplus(-z) = softplus(z) - z: one exponential for both
        let w = self.positive_weight;
        let softplus = z.softplus()?;
        let each = y.affine(w - 1.0, 1.0)?.mul(&softplus)?.sub(&y.mul(&z)?.scale(w)?)?;
        dice.add(&each.mean_all()?.scale(self.cross_entropy)?)
    }
}
