//! From logits to probabilities.

use anymc3d_manifest::TaskKind;

/// [`probabilities`] of logits divided by their temperatures, one per logit; none is 1.
pub fn calibrated(kind: TaskKind, logits: &[f64], temperatures: &[Option<f64>]) -> Vec<f64> {
    let scaled: Vec<f64> = logits.iter().zip(temperatures).map(|(z, t)| z / t.unwrap_or(1.0)).collect();
    probabilities(kind, &scaled)
}

/// Softmax for a multi-class task, a sigmoid each otherwise.
pub fn probabilities(kind: TaskKind, logits: &[f64]) -> Vec<f64> {
    if kind == TaskKind::Multiclass {
        let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let e: Vec<f64> = logits.iter().map(|z| (z - top).exp()).collect();
        let sum: f64 = e.iter().sum();
        e.into_iter().map(|v| v / sum).collect()
    } else {
        logits.iter().map(|z| 1.0 / (1.0 + (-z).exp())).collect()
    }
}
