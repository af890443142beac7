//! How good predictions are: what `host eval` reports.
//!
//! A figure that the cases do not define (a sensitivity without a positive, an AUROC of one class) is
//! `None`, never 0 or 1. Slices of labels and probabilities are of one length; a function panics where
//! they are not, since that is the caller's mistake and no property of the data.

mod bootstrap;
mod calibration;
mod classes;
mod curve;
mod rank;

pub use bootstrap::{Figures, Intervals, Judged, patient_draws, percentile_interval};
pub use calibration::{FEWEST, fit, label_temperature, softmax_temperature};
pub use classes::{accuracy, argmax, balanced_accuracy, known, macro_auroc, one_vs_rest};
pub use curve::{Bin, precision_recall_curve, reliability, roc_curve, wilson_interval};
pub use rank::{
    Auroc, FoldAuroc, PairedTest, auroc, average_precision, exact_ci95, fold_auroc, fold_average_precision,
    fold_paired_delong, paired_delong, youden_threshold,
};

use serde::{Deserialize, Serialize};

/// Number of equal-width bins of [`ece`].
pub const ECE_BINS: usize = 15;

/// The figures of one label, as in metrics.json (schema `anymc3d/metrics/1`); an undefined one is null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelMetrics {
    /// Cases whose label is known.
    pub n: usize,
    /// How many of them are positive.
    pub positives: usize,
    /// Area under the ROC curve.
    pub auroc: Option<f64>,
    /// DeLong's 95 % interval.
    pub auroc_ci95: Option<[f64; 2]>,
    /// 95 % interval of an area of 0 or 1, where DeLong's is a point ([`exact_ci95`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auroc_ci95_exact: Option<[f64; 2]>,
    /// Folds that have both classes, where the cases were scored by several models: area and average precision are then
    /// means over them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folds: Option<usize>,
    /// The area with all folds in one order, which mixes the scales of their models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auroc_pooled: Option<f64>,
    /// Average precision.
    pub average_precision: Option<f64>,
    /// Mean squared error of the probability.
    pub brier: Option<f64>,
    /// Expected calibration error, 15 bins.
    pub ece: Option<f64>,
    /// Positive is `p >= threshold`; `None` for a class of several, where the most probable class is positive.
    pub threshold: Option<f64>,
    /// Share of the positives found.
    pub sensitivity: Option<f64>,
    /// Share of the negatives left alone.
    pub specificity: Option<f64>,
    /// Harmonic mean of precision and sensitivity.
    pub f1: Option<f64>,
    /// Mean of sensitivity and specificity.
    pub balanced_accuracy: Option<f64>,
}

impl LabelMetrics {
    /// All figures of one label from its known truths and their probabilities, both `[n]`.
    pub fn of(labels: &[bool], probabilities: &[f64], threshold: f64) -> Self {
        let positive: Vec<bool> = probabilities.iter().map(|p| *p >= threshold).collect();
        Self::decided(labels, probabilities, Some(threshold), &positive)
    }

    /// Area and average precision within folds, where each case was scored by the model of its fold (`folds`, `[n]`).
    #[must_use]
    pub fn within_folds(mut self, labels: &[bool], probabilities: &[f64], folds: &[usize]) -> Self {
        let found = fold_auroc(labels, probabilities, folds);
        self.auroc_pooled = self.auroc;
        self.folds = Some(found.map_or(0, |f| f.folds));
        self.auroc = found.map(|f| f.area.value);
        self.auroc_ci95 = found.and_then(|f| f.area.ci95());
        // Pairs of several folds are trials of a mean area only where each fold has as many.
        self.auroc_ci95_exact = found.and_then(|f| exact_ci95(f.area.value, f.folds * f.fewest_pairs));
        self.average_precision = fold_average_precision(labels, probabilities, folds);
        self
    }

    /// The same where the decisions `positive`, `[n]`, were made elsewhere.
    pub fn decided(
        labels: &[bool],
        probabilities: &[f64],
        threshold: Option<f64>,
        positive: &[bool],
    ) -> Self {
        let area = auroc(labels, probabilities);
        let at = Operating::of(labels, positive);
        let positives = labels.iter().filter(|l| **l).count();
        Self {
            n: labels.len(),
            positives,
            auroc: area.map(|a| a.value),
            auroc_ci95: area.and_then(|a| a.ci95()),
            auroc_ci95_exact: area.and_then(|a| exact_ci95(a.value, positives.min(labels.len() - positives))),
            folds: None,
            auroc_pooled: None,
            average_precision: average_precision(labels, probabilities),
            brier: brier(labels, probabilities),
            ece: ece(labels, probabilities),
            threshold,
            sensitivity: at.sensitivity(),
            specificity: at.specificity(),
            f1: at.f1(),
            balanced_accuracy: at.balanced_accuracy(),
        }
    }
}

/// The four counts at one threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operating {
    /// Positives with `p >= threshold`.
    pub true_positives: usize,
    /// Negatives with `p >= threshold`.
    pub false_positives: usize,
    /// Negatives below.
    pub true_negatives: usize,
    /// Positives below.
    pub false_negatives: usize,
}

impl Operating {
    /// Counts at `threshold`; positive is `p >= threshold`.
    pub fn at(labels: &[bool], probabilities: &[f64], threshold: f64) -> Self {
        let positive: Vec<bool> = probabilities.iter().map(|p| *p >= threshold).collect();
        Self::of(labels, &positive)
    }

    /// Counts of decisions `positive`, one per label.
    pub fn of(labels: &[bool], positive: &[bool]) -> Self {
        assert_eq!(labels.len(), positive.len(), "one decision per label");
        let mut counts =
            Self { true_positives: 0, false_positives: 0, true_negatives: 0, false_negatives: 0 };
        for (&label, &positive) in labels.iter().zip(positive) {
            *match (label, positive) {
                (true, true) => &mut counts.true_positives,
                (false, true) => &mut counts.false_positives,
                (false, false) => &mut counts.true_negatives,
                (true, false) => &mut counts.false_negatives,
            } += 1;
        }
        counts
    }

    /// Share of the positives found.
    pub fn sensitivity(&self) -> Option<f64> {
        ratio(self.true_positives, self.true_positives + self.false_negatives)
    }

    /// Share of the negatives left alone.
    pub fn specificity(&self) -> Option<f64> {
        ratio(self.true_negatives, self.true_negatives + self.false_positives)
    }

    /// `2 TP / (2 TP + FP + FN)`.
    pub fn f1(&self) -> Option<f64> {
        ratio(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)
    }

    /// Mean of sensitivity and specificity.
    pub fn balanced_accuracy(&self) -> Option<f64> {
        Some(0.5 * (self.sensitivity()? + self.specificity()?))
    }
}

fn ratio(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Brier score: mean of `(p - y)^2`.
pub fn brier(labels: &[bool], probabilities: &[f64]) -> Option<f64> {
    assert_eq!(labels.len(), probabilities.len(), "one probability per label");
    let sum: f64 = labels.iter().zip(probabilities).map(|(&y, p)| (p - f64::from(u8::from(y))).powi(2)).sum();
    (!labels.is_empty()).then(|| sum / labels.len() as f64)
}

/// `min(floor(15 p), 14)`
fn bin_of(p: f64) -> usize {
    ((p * ECE_BINS as f64) as usize).min(ECE_BINS - 1)
}

/// Expected calibration error over [`ECE_BINS`] equal-width bins of p, bin `min(floor(15 p), 14)`:
/// the mean over cases of `|share of positives - mean p|` of the case's bin.
pub fn ece(labels: &[bool], probabilities: &[f64]) -> Option<f64> {
    assert_eq!(labels.len(), probabilities.len(), "one probability per label");
    let mut gaps = [0.0f64; ECE_BINS];
    for (&y, &p) in labels.iter().zip(probabilities) {
        gaps[bin_of(p)] += f64::from(u8::from(y)) - p;
    }
    (!labels.is_empty()).then(|| gaps.iter().map(|g| g.abs()).sum::<f64>() / labels.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_cases_do_not_define_is_none() {
        let only = LabelMetrics::of(&[true, true], &[0.2, 0.9], 0.5);
        assert_eq!(
            (only.auroc, only.auroc_ci95, only.specificity, only.balanced_accuracy),
            (None, None, None, None)
        );
        assert_eq!(only.sensitivity, Some(0.5));
        let none = LabelMetrics::of(&[], &[], 0.5);
        assert_eq!((none.brier, none.ece, none.f1, none.average_precision), (None, None, None, None));
    }

    #[test]
    fn the_threshold_itself_is_positive() {
        let at = Operating::at(&[true, false], &[0.5, 0.5], 0.5);
        assert_eq!((at.sensitivity(), at.specificity()), (Some(1.0), Some(0.0)));
    }

    #[test]
    fn a_probability_of_one_falls_into_the_last_bin() {
        assert_eq!(ece(&[true, true], &[1.0, 1.0]), Some(0.0));
        assert_eq!(ece(&[false], &[1.0]), Some(1.0));
    }
}
