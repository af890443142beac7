//! What depends on the order of the scores alone: AUROC, DeLong, average precision.

use std::cmp::Ordering;

/// Normal quantile of 0.975.
pub(super) const Z_95: f64 = 1.959_963_984_540_054;

/// Area under the ROC curve with DeLong's variance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Auroc {
    /// The area; ties between a positive and a negative count one half.
    pub value: f64,
    /// DeLong's variance; `None` with fewer than two positives or two negatives.
    pub variance: Option<f64>,
}

impl Auroc {
    /// Normal 95 % interval, clipped to [0, 1].
    pub fn ci95(&self) -> Option<[f64; 2]> {
        let half = Z_95 * self.variance?.sqrt();
        Some([(self.value - half).max(0.0), (self.value + half).min(1.0)])
    }
}

/// Two models on the same cases.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairedTest {
    /// Area of the first.
    pub auroc_a: f64,
    /// Area of the second.
    pub auroc_b: f64,
    /// `(a - b)` over its standard error.
    pub z: f64,
    /// Two-sided.
    pub p_value: f64,
}

/// For each positive the share of negatives below it, and for each negative the share of positives above
/// it (ties one half): DeLong's structural components V10 and V01 (Biometrics 1988), by midranks
/// (Sun & Xu, IEEE SPL 2014).
struct Components {
    positives: Vec<f64>,
    negatives: Vec<f64>,
}

/// 1-based ranks, ties share their mean.
fn midranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut from = 0;
    while from < order.len() {
        let mut to = from + 1;
        while to < order.len() && values[order[to]] == values[order[from]] {
            to += 1;
        }
        for &i in &order[from..to] {
            ranks[i] = 0.5 * (from + 1 + to) as f64;
        }
        from = to;
    }
    ranks
}

impl Components {
    fn of(labels: &[bool], scores: &[f64]) -> Option<Self> {
        assert_eq!(labels.len(), scores.len(), "one score per label");
        let pick = |want: bool| -> Vec<f64> {
            labels.iter().zip(scores).filter(|(l, _)| **l == want).map(|(_, s)| *s).collect()
        };
        let (pos, neg) = (pick(true), pick(false));
        if pos.is_empty() || neg.is_empty() {
            return None;
        }
        let (m, n) = (pos.len() as f64, neg.len() as f64);
        let all = midranks(&[pos.as_slice(), neg.as_slice()].concat());
        let (within_pos, within_neg) = (midranks(&pos), midranks(&neg));
        let positives = within_pos.iter().zip(&all).map(|(own, rank)| (rank - own) / n).collect();
        let negatives =
            within_neg.iter().zip(&all[pos.len()..]).map(|(own, rank)| 1.0 - (rank - own) / m).collect();
        Some(Self { positives, negatives })
    }

    fn area(&self) -> f64 {
        mean(&self.positives)
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Sample covariance, n - 1; `None` with fewer than two values.
fn covariance(a: &[f64], b: &[f64]) -> Option<f64> {
    let (ma, mb) = (mean(a), mean(b));
    let sum: f64 = a.iter().zip(b).map(|(x, y)| (x - ma) * (y - mb)).sum();
    (a.len() > 1).then(|| sum / (a.len() - 1) as f64)
}

/// Covariance of two areas over the same cases.
fn area_covariance(a: &Components, b: &Components) -> Option<f64> {
    let of_positives = covariance(&a.positives, &b.positives)? / a.positives.len() as f64;
    Some(of_positives + covariance(&a.negatives, &b.negatives)? / a.negatives.len() as f64)
}

/// AUROC and its variance; `None` unless both classes are there. `labels` and `scores`: `[n]`.
pub fn auroc(labels: &[bool], scores: &[f64]) -> Option<Auroc> {
    let components = Components::of(labels, scores)?;
    Some(Auroc { value: components.area(), variance: area_covariance(&components, &components) })
}

/// DeLong's paired test of two scores of the same cases; `None` if a variance is not defined.
///
/// Equal areas without any variance (the same order of the cases) give z = 0, p = 1.
pub fn paired_delong(labels: &[bool], a: &[f64], b: &[f64]) -> Option<PairedTest> {
    let (ca, cb) = (Components::of(labels, a)?, Components::of(labels, b)?);
    let variance = area_covariance(&ca, &ca)? + area_covariance(&cb, &cb)? - 2.0 * area_covariance(&ca, &cb)?;
    let (auroc_a, auroc_b) = (ca.area(), cb.area());
    let gap = auroc_a - auroc_b;
    let z = if gap == 0.0 { 0.0 } else { gap / variance.max(0.0).sqrt() };
    Some(PairedTest { auroc_a, auroc_b, z, p_value: libm::erfc(z.abs() / std::f64::consts::SQRT_2) })
}

/// Counts of positives and negatives at or above each distinct score, from the highest down.
pub(super) fn sweep(labels: &[bool], scores: &[f64]) -> Vec<(f64, usize, usize)> {
    assert_eq!(labels.len(), scores.len(), "one score per label");
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let mut steps: Vec<(f64, usize, usize)> = Vec::new();
    let (mut tp, mut fp) = (0, 0);
    for i in order {
        if labels[i] {
            tp += 1
        } else {
            fp += 1
        }
        match steps.last_mut() {
            Some(last) if last.0.partial_cmp(&scores[i]) == Some(Ordering::Equal) => {
                (last.1, last.2) = (tp, fp)
            }
            _ => steps.push((scores[i], tp, fp)),
        }
    }
    steps
}

/// Average precision, `sum (R_n - R_(n-1)) P_n` over the distinct scores, without interpolation;
/// `None` without a positive.
pub fn average_precision(labels: &[bool], scores: &[f64]) -> Option<f64> {
    let positives = labels.iter().filter(|l| **l).count();
    if positives == 0 {
        return None;
    }
    let mut before = 0;
    let mut sum = 0.0;
    for (_, tp, fp) in sweep(labels, scores) {
        sum += (tp - before) as f64 / positives as f64 * (tp as f64 / (tp + fp) as f64);
        before = tp;
    }
    Some(sum)
}

/// The score whose use as a threshold has the largest sensitivity + specificity - 1 (Youden); of equals the
/// highest. `None` unless both classes are there. To be chosen on validation data only.
pub fn youden_threshold(labels: &[bool], scores: &[f64]) -> Option<f64> {
    let positives = labels.iter().filter(|l| **l).count();
    let negatives = labels.len() - positives;
    if positives == 0 || negatives == 0 {
        return None;
    }
    let mut best: Option<(f64, f64)> = None;
    for (score, tp, fp) in sweep(labels, scores) {
        let j = tp as f64 / positives as f64 - fp as f64 / negatives as f64;
        if best.is_none_or(|(_, b)| j > b) {
            best = Some((score, j));
        }
    }
    best.map(|(score, _)| score)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tie_between_the_classes_counts_one_half() {
        let area = auroc(&[true, false, true, false], &[0.5, 0.5, 0.9, 0.1]).unwrap();
        assert_eq!(area.value, 0.875);
    }

    #[test]
    fn perfect_order_has_no_variance_and_a_single_positive_has_none_defined() {
        let perfect = auroc(&[true, true, false, false], &[0.9, 0.8, 0.2, 0.1]).unwrap();
        assert_eq!((perfect.value, perfect.ci95()), (1.0, Some([1.0, 1.0])));
        assert_eq!(auroc(&[true, false, false], &[0.9, 0.8, 0.2]).unwrap().ci95(), None);
    }

    #[test]
    fn a_model_against_itself_is_no_difference() {
        let (labels, scores) = ([true, false, true, false, false], [0.5, 0.6, 0.9, 0.1, 0.3]);
        let test = paired_delong(&labels, &scores, &scores).unwrap();
        assert_eq!((test.z, test.p_value), (0.0, 1.0));
    }

    #[test]
    fn average_precision_of_one_score_for_all_is_the_prevalence() {
        assert_eq!(average_precision(&[true, false, false, false], &[0.5; 4]), Some(0.25));
    }
}
