//! The asymmetric loss (Ridnik et al. 2021, arXiv 2009.14119): easy negatives weigh little, the easiest nothing.

use anymc3d_plugin_api::prelude::*;

/// Exponents of positives and negatives, and the probability below which a negative is not counted.
const POSITIVE: f64 = 1.0;
const NEGATIVE: f64 = 2.0;
const MARGIN: f64 = 0.05;

/// Mean over the known labels of `(1-p)^γ₊ · -ln p` for positives and `q^γ₋ · -ln(1-q)` for negatives, `q = max(p-m, 0)`.
pub fn asymmetric(logits: &Tensor, targets: &Targets) -> Result<Tensor> {
    let y = &targets.values;
    // -ln p = softplus(-z) and 1 - p = σ(-z): no logarithm of a probability that may be zero.
    let positive = logits.neg()?.softplus()?.mul(&logits.neg()?.sigmoid()?.power(POSITIVE)?)?;
    let q = logits.sigmoid()?.affine(1.0, -MARGIN)?.relu()?; // at most 1 - m
    let negative = q.power(NEGATIVE)?.mul(&q.affine(-1.0, 1.0)?.log()?.neg()?)?;
    let each = y.mul(&positive)?.add(&y.affine(-1.0, 1.0)?.mul(&negative)?)?;
    let known = targets.known.sum_all()?.clamp(1.0, f64::MAX)?;
    each.mul(&targets.known)?.sum_all()?.div(&known)
}
