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

/// 95 % interval of an area of 0 or 1, where DeLong's variance is 0 and its interval a point; `None` elsewhere.
///
/// `pairs` disjoint pairs of a positive and a negative are so many independent trials, each right with the area's
/// probability; all of them were right (or wrong), so that Clopper and Pearson's interval (Biometrika 1934) is
/// `[0.025^(1 / pairs), 1]`, or its mirror image. It holds whatever the scores' distribution, and is rather too wide.
pub fn exact_ci95(area: f64, pairs: usize) -> Option<[f64; 2]> {
    let bound = 0.025f64.powf(1.0 / pairs as f64);
    match area {
        _ if pairs == 0 => None,
        1.0 => Some([bound, 1.0]),
        0.0 => Some([0.0, 1.0 - bound]),
        _ => None,
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

/// DeLong's paired test of two scores of the same cases; `None` where a variance is not defined.
///
/// Equal areas without any variance (the same order of the cases) give z = 0, p = 1.
pub fn paired_delong(labels: &[bool], a: &[f64], b: &[f64]) -> Option<PairedTest> {
    let (ca, cb) = (Components::of(labels, a)?, Components::of(labels, b)?);
    Some(tested([ca.area(), cb.area()], difference_variance(&ca, &cb)?))
}

/// AUROC within folds: a mean over the folds that have both classes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FoldAuroc {
    /// The mean, and its variance: `None` where a fold has fewer than two positives or two negatives.
    pub area: Auroc,
    /// Folds that have both classes.
    pub folds: usize,
    /// The fewest disjoint pairs of a positive and a negative in one of them.
    pub fewest_pairs: usize,
}

/// The parts of a score that are ordered among themselves: per fold the labels and scores of its cases.
fn by_fold(labels: &[bool], scores: &[f64], folds: &[usize]) -> Vec<(Vec<bool>, Vec<f64>)> {
    assert_eq!(labels.len(), folds.len(), "one fold per label");
    assert_eq!(labels.len(), scores.len(), "one score per label");
    let mut parts: Vec<(Vec<bool>, Vec<f64>)> =
        vec![Default::default(); folds.iter().max().map_or(0, |f| f + 1)];
    for ((label, score), fold) in labels.iter().zip(scores).zip(folds) {
        parts[*fold].0.push(*label);
        parts[*fold].1.push(*score);
    }
    parts
}

/// Cross-validated AUROC: the mean of the folds' areas, since the scores of two folds come from two models and need not
/// share a scale (LeDell, Petersen and van der Laan, Electronic Journal of Statistics 2015, as in the R package cvAUC).
///
/// Folds are independent, so the variance of the mean is the sum of the folds' DeLong variances over their number
/// squared. cvAUC's influence curves give the same for folds of equal composition, up to DeLong's n - 1. `None` unless a
/// fold has both classes. `labels`, `scores`, `folds` (indices): `[n]`.
pub fn fold_auroc(labels: &[bool], scores: &[f64], folds: &[usize]) -> Option<FoldAuroc> {
    let parts = by_fold(labels, scores, folds);
    let defined: Vec<(Auroc, usize)> = parts
        .iter()
        .filter_map(|(labels, scores)| {
            let positives = labels.iter().filter(|l| **l).count();
            Some((auroc(labels, scores)?, positives.min(labels.len() - positives)))
        })
        .collect();
    let count = defined.len();
    let fewest_pairs = defined.iter().map(|d| d.1).min()?;
    let value = defined.iter().map(|d| d.0.value).sum::<f64>() / count as f64;
    let variances: Option<Vec<f64>> = defined.iter().map(|d| d.0.variance).collect();
    let variance = variances.map(|v| v.iter().sum::<f64>() / (count * count) as f64);
    Some(FoldAuroc { area: Auroc { value, variance }, folds: count, fewest_pairs })
}

/// Average precision within folds: the mean over the folds that have both classes, as [`fold_auroc`].
pub fn fold_average_precision(labels: &[bool], scores: &[f64], folds: &[usize]) -> Option<f64> {
    let parts = by_fold(labels, scores, folds);
    let both = |labels: &[bool]| labels.contains(&true) && labels.contains(&false);
    let values: Vec<f64> =
        parts.iter().filter(|(l, _)| both(l)).filter_map(|(l, s)| average_precision(l, s)).collect();
    (!values.is_empty()).then(|| mean(&values))
}

/// [`paired_delong`] within folds: both areas are means over the folds ([`fold_auroc`]), their covariance is that of the
/// folds; `None` where a fold with both classes has fewer than two of one.
pub fn fold_paired_delong(labels: &[bool], a: &[f64], b: &[f64], folds: &[usize]) -> Option<PairedTest> {
    let (mut areas, mut variance, mut count) = ([0.0, 0.0], 0.0, 0.0);
    for ((labels, a), (_, b)) in by_fold(labels, a, folds).iter().zip(&by_fold(labels, b, folds)) {
        let (Some(ca), Some(cb)) = (Components::of(labels, a), Components::of(labels, b)) else { continue };
        areas = [areas[0] + ca.area(), areas[1] + cb.area()];
        variance += difference_variance(&ca, &cb)?;
        count += 1.0;
    }
    (count > 0.0).then(|| tested(areas.map(|sum| sum / count), variance / (count * count)))
}

/// Variance of the difference of two areas over the same cases.
fn difference_variance(a: &Components, b: &Components) -> Option<f64> {
    Some(area_covariance(a, a)? + area_covariance(b, b)? - 2.0 * area_covariance(a, b)?)
}

fn tested([auroc_a, auroc_b]: [f64; 2], variance: f64) -> PairedTest {
    let gap = auroc_a - auroc_b;
    let z = if gap == 0.0 { 0.0 } else { gap / variance.max(0.0).sqrt() };
    PairedTest { auroc_a, auroc_b, z, p_value: libm::erfc(z.abs() / std::f64::consts::SQRT_2) }
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
    fn an_area_of_one_or_zero_has_an_exact_interval() {
        // Clopper-Pearson of 5 of 5 and of 50 of 50.
        let close = |found: Option<[f64; 2]>, expected: [f64; 2]| {
            found.unwrap().iter().zip(expected).for_each(|(a, b)| assert!((a - b).abs() < 1e-6, "{a} {b}"));
        };
        close(exact_ci95(1.0, 5), [0.478_176, 1.0]);
        close(exact_ci95(0.0, 5), [0.0, 0.521_824]);
        close(exact_ci95(1.0, 50), [0.928_878, 1.0]);
        assert_eq!((exact_ci95(0.99, 5), exact_ci95(1.0, 0)), (None, None));
    }

    #[test]
    fn a_model_against_itself_is_no_difference() {
        let (labels, scores) = ([true, false, true, false, false], [0.5, 0.6, 0.9, 0.1, 0.3]);
        let test = paired_delong(&labels, &scores, &scores).unwrap();
        assert_eq!((test.z, test.p_value), (0.0, 1.0));
    }

    /// Two models of different scale, each without a fault among its own cases but one pair.
    fn folds_of_two_scales() -> (Vec<bool>, Vec<f64>, Vec<usize>) {
        let low = [(true, 0.04), (true, 0.03), (false, 0.035), (false, 0.01), (false, 0.02)];
        let high = [(true, 0.95), (true, 0.90), (false, 0.80), (false, 0.85), (false, 0.70)];
        let all = low.iter().map(|c| (c, 0)).chain(high.iter().map(|c| (c, 1)));
        let (mut labels, mut scores, mut folds) = (vec![], vec![], vec![]);
        for ((label, score), fold) in all {
            labels.push(*label);
            scores.push(*score);
            folds.push(fold);
        }
        (labels, scores, folds)
    }

    #[test]
    fn folds_of_different_scale_are_ordered_within_themselves() {
        let (labels, scores, folds) = folds_of_two_scales();
        let pooled = auroc(&labels, &scores).unwrap().value;
        let found = fold_auroc(&labels, &scores, &folds).unwrap();
        assert!((pooled - 17.0 / 24.0).abs() < 1e-12, "{pooled}");
        assert!((found.area.value - (5.0 / 6.0 + 1.0) / 2.0).abs() < 1e-12);
        assert_eq!((found.folds, found.fewest_pairs), (2, 2));
        // By hand: the first fold's components are (1, 2/3) and (1/2, 1, 1); the second's have no variance.
        let first = (1.0 / 18.0) / 2.0 + (1.0 / 12.0) / 3.0;
        assert!((found.area.variance.unwrap() - first / 4.0).abs() < 1e-12);
    }

    #[test]
    fn one_fold_is_no_fold() {
        let (labels, scores, _) = folds_of_two_scales();
        let other: Vec<f64> = scores.iter().rev().copied().collect();
        let one = vec![0; labels.len()];
        assert_eq!(fold_auroc(&labels, &scores, &one).unwrap().area, auroc(&labels, &scores).unwrap());
        assert_eq!(
            fold_paired_delong(&labels, &scores, &other, &one),
            paired_delong(&labels, &scores, &other)
        );
        assert_eq!(fold_average_precision(&labels, &scores, &one), average_precision(&labels, &scores));
    }

    #[test]
    fn a_fold_of_one_class_has_no_area_and_says_nothing() {
        let found = fold_auroc(&[true, false, true], &[0.9, 0.1, 0.2], &[0, 0, 1]).unwrap();
        assert_eq!((found.area.value, found.folds), (1.0, 1));
        assert!(fold_auroc(&[true, false], &[0.9, 0.1], &[0, 1]).is_none());
    }

    #[test]
    fn average_precision_of_one_score_for_all_is_the_prevalence() {
        assert_eq!(average_precision(&[true, false, false, false], &[0.5; 4]), Some(0.25));
    }
}
