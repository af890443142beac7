//! Classification losses, stable for any logit.

use crate::build::LossSpec;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// What the logits of a case, or of a batch, are compared with.
#[non_exhaustive]
pub struct Targets {
    /// Multi-label and binary: `[…, C]` of 0 to 1 (a share of readers between them), any value where unknown. Multi-class:
    /// one-hot `[…, C]`.
    pub values: Tensor,
    /// 1 where the label is known, or its weight in the table; 0 where not: the shape of `values`.
    pub known: Tensor,
}

impl Targets {
    /// Values `[…, C]`, and 1 where each is known, 0 where not: the same shape.
    pub fn new(values: Tensor, known: Tensor) -> Self {
        Self { values, known }
    }
}

/// The manifest's loss. `logits` `[…, C]`; the result has shape `[]`.
///
/// # Errors
/// When shapes differ, or the manifest names a loss this build does not have.
pub fn manifest_loss(spec: &LossSpec, logits: &Tensor, targets: &Targets) -> Result<Tensor> {
    let weights = match spec.class_weights.len() {
        0 => None,
        n => {
            let w: Vec<f32> = spec.class_weights.iter().map(|&w| w as f32).collect();
            Some(logits.host().tensor(&w, &[n])?)
        }
    };
    let each = match spec.kind.as_str() {
        "bce" => binary_cross_entropy(logits, &targets.values)?,
        "mse" => logits.sigmoid()?.sub(&targets.values)?.square()?,
        "focal" => focal(logits, &targets.values, spec.gamma, spec.alpha)?,
        "cross_entropy" => {
            let rank = logits.rank()?;
            let axis =
                rank.checked_sub(1).ok_or_else(|| Error::msg("cross-entropy needs an axis of classes"))?;
            let chosen = logits.log_softmax(axis)?.neg()?.mul(&targets.values)?;
            // One term per case: the mean over cases is the mean over all elements times the classes.
            let mask = targets.known.mul(&targets.values)?;
            return weighted_mean(&chosen, &mask, weights.as_ref());
        }
        other => {
            return Err(Error::msg(format!(
                "no loss named `{other}`: focal, bce, mse and cross_entropy are known"
            )));
        }
    };
    weighted_mean(&each, &targets.known, weights.as_ref())
}

/// `Σ w k l / Σ k` over known labels `k`. Not over `Σ w k`: a host calls the loss with one case at a time, whose own weight
/// would cancel.
fn weighted_mean(losses: &Tensor, known: &Tensor, weights: Option<&Tensor>) -> Result<Tensor> {
    let total = known.sum_all()?.clamp(1e-12, f64::MAX)?;
    let counted = match weights {
        Some(w) => known.mul(w)?,
        None => known.try_clone()?,
    };
    losses.mul(&counted)?.sum_all()?.div(&total)
}

/// Binary cross-entropy on logits, element by element: `softplus(z) - z y`.
///
/// ```
/// # fn main() -> anymc3d_plugin_api::Result<()> {
/// # #[cfg(feature = "testkit")] {
/// use anymc3d_plugin_api::{loss::binary_cross_entropy, testkit::Context};
///
/// let context = Context::new(0);
/// let logits = context.tensor(&[0.0, 100.0, -100.0], &[1, 3])?;
/// let targets = context.tensor(&[1.0, 1.0, 1.0], &[1, 3])?;
/// let loss = binary_cross_entropy(&logits, &targets)?.to_vec()?;
/// assert!((loss[0] - 2f32.ln()).abs() < 1e-6 && loss[1] == 0.0 && loss[2] == 100.0);
/// # }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// When shapes do not broadcast.
pub fn binary_cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    logits.softplus()?.sub(&logits.mul(targets)?)
}

/// Focal loss on logits, element by element (arXiv 1708.02002, as torchvision's `sigmoid_focal_loss`):
/// `α_t (1 - p_t)^γ · BCE` with `α_t = α` for positives and `1 - α` for negatives. A soft target `y` mixes both:
/// `y` times the loss of a positive and `1 - y` times that of a negative.
///
/// # Errors
/// When shapes do not broadcast.
pub fn focal(logits: &Tensor, targets: &Tensor, gamma: f64, alpha: f64) -> Result<Tensor> {
    // Of a positive 1 - p = σ(-z), whose logarithm is -softplus(z); of a negative it is p, and z changes its sign.
    let one =
        |z: &Tensor| -> Result<Tensor> { z.softplus()?.scale(-gamma)?.exp()?.mul(&z.neg()?.softplus()?) };
    let positive = one(logits)?.mul(&targets.scale(alpha)?)?;
    let negative = one(&logits.neg()?)?.mul(&targets.affine(alpha - 1.0, 1.0 - alpha)?)?;
    positive.add(&negative)
}

/// Cross-entropy of logits `[N, C]` against classes, the mean over cases.
///
/// # Errors
/// When a class is out of range.
pub fn cross_entropy(logits: &Tensor, classes: &[usize]) -> Result<Tensor> {
    let dims = logits.dims()?;
    let [n, c] = dims[..] else {
        return Err(Error::msg(format!("cross-entropy takes logits [N, C], not {dims:?}")));
    };
    if n != classes.len() || classes.iter().any(|&k| k >= c) {
        return Err(Error::msg(format!(
            "{} classes for logits {dims:?}, or one out of range",
            classes.len()
        )));
    }
    let mut one_hot = vec![0f32; n * c];
    for (i, &k) in classes.iter().enumerate() {
        one_hot[i * c + k] = 1.0;
    }
    let chosen = logits.log_softmax(1)?.mul(&logits.host().tensor(&one_hot, &[n, c])?)?;
    chosen.sum_all()?.scale(-1.0 / n as f64)
}
