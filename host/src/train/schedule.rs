//! The learning rate's course over a run.

/// Factor of the peak learning rate at step `step` of `steps`: linear up over the first `warmup` share, then half a
/// cosine down to zero after the last step.
pub fn cosine_with_warmup(step: usize, steps: usize, warmup: f64) -> f64 {
    let steps = steps.max(1) as f64;
    let rising = (warmup.clamp(0.0, 1.0) * steps).floor();
    let at = step as f64;
    if at < rising {
        return (at + 1.0) / rising;
    }
    let share = (at - rising) / (steps - rising).max(1.0);
    0.5 * (1.0 + (std::f64::consts::PI * share.min(1.0)).cos())
}

#[cfg(test)]
mod tests {
    use super::cosine_with_warmup;

    #[test]
    fn the_rate_rises_linearly_peaks_once_and_falls_to_nothing() {
        let factors: Vec<f64> = (0..=100).map(|i| cosine_with_warmup(i, 100, 0.1)).collect();
        assert!((factors[0] - 0.1).abs() < 1e-12 && (factors[9] - 1.0).abs() < 1e-12);
        assert!((factors[10] - 1.0).abs() < 1e-12);
        assert!(factors[10..].windows(2).all(|w| w[1] <= w[0]));
        assert!((factors[55] - 0.5).abs() < 1e-12 && factors[100].abs() < 1e-12);
    }

    #[test]
    fn without_warm_up_it_starts_at_the_peak_even_for_a_single_step() {
        assert_eq!(cosine_with_warmup(0, 1, 0.0), 1.0);
        assert_eq!(cosine_with_warmup(0, 0, 0.0), 1.0);
    }
}
