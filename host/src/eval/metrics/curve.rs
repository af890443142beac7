//! What the pictures of an evaluation show: ROC, precision against recall, reliability.

use super::rank::{Z_95, sweep};
use super::{ECE_BINS, bin_of};

/// Corners of the ROC curve, `[false positive rate, true positive rate]`, from (0, 0) to (1, 1); the area under them is
/// [`super::auroc`]'s. Empty unless both classes are there. `labels` and `scores`: `[n]`.
pub fn roc_curve(labels: &[bool], scores: &[f64]) -> Vec<[f64; 2]> {
    let positives = labels.iter().filter(|l| **l).count();
    let negatives = labels.len() - positives;
    if positives == 0 || negatives == 0 {
        return Vec::new();
    }
    let mut corners: Vec<(usize, usize)> = vec![(0, 0)];
    for (_, tp, fp) in sweep(labels, scores) {
        // A point on the way between two others draws nothing.
        if let [.., a, b] = corners.as_slice()
            && (b.0 - a.0) * (tp - b.1) == (fp - b.0) * (b.1 - a.1)
        {
            corners.pop();
        }
        corners.push((fp, tp));
    }
    let share = |(fp, tp): (usize, usize)| [fp as f64 / negatives as f64, tp as f64 / positives as f64];
    corners.into_iter().map(share).collect()
}

/// Corners of precision against recall, `[recall, precision]`, as the steps whose area is
/// [`super::average_precision`]. Empty without a positive. `labels` and `scores`: `[n]`.
pub fn precision_recall_curve(labels: &[bool], scores: &[f64]) -> Vec<[f64; 2]> {
    let positives = labels.iter().filter(|l| **l).count();
    let mut corners: Vec<[f64; 2]> = Vec::new();
    let mut before = 0.0;
    for (_, tp, fp) in sweep(labels, scores) {
        if positives == 0 || tp as f64 / positives as f64 == before {
            continue;
        }
        let (recall, precision) = (tp as f64 / positives as f64, tp as f64 / (tp + fp) as f64);
        corners.extend([[before, precision], [recall, precision]]);
        before = recall;
    }
    corners
}

/// The cases of one bin of [`super::ece`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// Place among the 15 bins; it holds p from `index / 15` on.
    pub index: usize,
    /// Cases.
    pub cases: usize,
    /// Positives among them.
    pub positives: usize,
    /// Mean probability.
    pub mean: f64,
}

/// The bins that hold a case, in their order. `labels` and `probabilities`: `[n]`.
pub fn reliability(labels: &[bool], probabilities: &[f64]) -> Vec<Bin> {
    assert_eq!(labels.len(), probabilities.len(), "one probability per label");
    let mut bins = [(0usize, 0usize, 0.0f64); ECE_BINS];
    for (&label, &p) in labels.iter().zip(probabilities) {
        let bin = &mut bins[bin_of(p)];
        (bin.0, bin.1, bin.2) = (bin.0 + 1, bin.1 + usize::from(label), bin.2 + p);
    }
    let filled = bins.into_iter().enumerate().filter(|(_, (cases, _, _))| *cases > 0);
    filled
        .map(|(index, (cases, positives, sum))| Bin { index, cases, positives, mean: sum / cases as f64 })
        .collect()
}

/// 95 % interval of a share `part / whole` (Wilson, JASA 1927); `[0, 1]` of nothing.
pub fn wilson_interval(part: usize, whole: usize) -> [f64; 2] {
    if whole == 0 {
        return [0.0, 1.0];
    }
    let (n, p, z2) = (whole as f64, part as f64 / whole as f64, Z_95 * Z_95);
    let centre = p + z2 / (2.0 * n);
    let half = Z_95 * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z2 / n;
    [((centre - half) / scale).max(0.0), ((centre + half) / scale).min(1.0)]
}

#[cfg(test)]
mod tests {
    use super::super::{auroc, average_precision, ece};
    use super::*;

    const LABELS: [bool; 9] = [true, false, true, true, false, false, true, false, false];
    const SCORES: [f64; 9] = [0.9, 0.8, 0.8, 0.7, 0.6, 0.4, 0.4, 0.2, 1.0];

    #[test]
    fn the_areas_under_the_curves_are_auroc_and_average_precision() {
        let area = |curve: &[[f64; 2]]| -> f64 {
            curve.windows(2).map(|w| (w[1][0] - w[0][0]) * 0.5 * (w[0][1] + w[1][1])).sum()
        };
        let roc = roc_curve(&LABELS, &SCORES);
        assert_eq!((roc.first(), roc.last()), (Some(&[0.0, 0.0]), Some(&[1.0, 1.0])));
        assert!((area(&roc) - auroc(&LABELS, &SCORES).unwrap().value).abs() < 1e-12);
        let curve = precision_recall_curve(&LABELS, &SCORES);
        assert!((area(&curve) - average_precision(&LABELS, &SCORES).unwrap()).abs() < 1e-12);
    }

    #[test]
    fn one_class_alone_has_no_curve() {
        assert!(roc_curve(&[true, true], &[0.1, 0.2]).is_empty());
        assert!(precision_recall_curve(&[false, false], &[0.1, 0.2]).is_empty());
    }

    #[test]
    fn the_bins_are_those_of_the_calibration_error() {
        let bins = reliability(&LABELS, &SCORES);
        assert_eq!(bins.iter().map(|b| b.cases).sum::<usize>(), LABELS.len());
        let gap = |b: &Bin| (b.positives as f64 - b.mean * b.cases as f64).abs();
        let error = bins.iter().map(gap).sum::<f64>() / LABELS.len() as f64;
        assert!((error - ece(&LABELS, &SCORES).unwrap()).abs() < 1e-12);
    }

    #[test]
    fn a_share_of_nothing_found_still_has_an_upper_limit() {
        let [low, high] = wilson_interval(0, 10);
        assert!(low == 0.0 && (high - 0.277_533).abs() < 1e-5, "{high}");
        assert_eq!(wilson_interval(0, 0), [0.0, 1.0]);
    }
}
