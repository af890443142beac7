//! Temperature and threshold, fitted on validation cases and on nothing else.

use super::{Operating, youden_threshold};
use crate::engine::calibrated;
use crate::task::{Calibration, FittedOn};
use anymc3d_manifest::TaskKind;

/// A label with fewer positives, or fewer negatives, is not fitted: a handful of cases says more about itself than
/// about the model.
pub const FEWEST: usize = 10;

/// Inverse temperatures that are searched.
const SEARCHED: [f64; 2] = [0.05, 20.0];

/// Temperature of a label's sigmoid: the T that minimises the negative log-likelihood of `sigmoid(logit / T)` (Guo et
/// al., ICML 2017). `labels` and `logits`: `[n]`. `None` if no such T lies between 1/20 and 20: for logits that separate
/// the classes (a smaller T is always better) or that order them wrongly.
pub fn label_temperature(labels: &[bool], logits: &[f64]) -> Option<f64> {
    assert_eq!(labels.len(), logits.len(), "one logit per label");
    stationary(|beta| {
        let cases = labels.iter().zip(logits);
        cases.map(|(&y, &z)| (1.0 / (1.0 + (-beta * z).exp()) - f64::from(u8::from(y))) * z).sum()
    })
}

/// Temperature of a softmax, as [`label_temperature`]. `classes` `[n]` indices, `logits` `[n][classes]`.
pub fn softmax_temperature(classes: &[usize], logits: &[Vec<f64>]) -> Option<f64> {
    assert_eq!(classes.len(), logits.len(), "one row of logits per class");
    stationary(|beta| {
        let expected = |row: &[f64]| {
            let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let e: Vec<f64> = row.iter().map(|z| (beta * (z - top)).exp()).collect();
            e.iter().zip(row).map(|(e, z)| e * z).sum::<f64>() / e.iter().sum::<f64>()
        };
        classes.iter().zip(logits).map(|(&class, row)| expected(row) - row[class]).sum()
    })
}

/// `1 / beta` where the slope of the negative log-likelihood in `beta` is zero. The likelihood is convex in `beta`, so
/// that its slope only rises and halving finds the one zero.
fn stationary(slope: impl Fn(f64) -> f64) -> Option<f64> {
    let [mut low, mut high] = SEARCHED;
    if !(slope(low) < 0.0 && slope(high) > 0.0) {
        return None;
    }
    for _ in 0..100 {
        let middle = (low * high).sqrt();
        *if slope(middle) < 0.0 { &mut low } else { &mut high } = middle;
    }
    Some(1.0 / (low * high).sqrt())
}

/// Fits a task's temperatures, and on the calibrated probabilities its thresholds (Youden). `logits` `[n][outputs]`,
/// `labels` as in a table's rows. Call it with validation cases only: figures on the cases of the fit are too good.
///
/// A label with fewer than [`FEWEST`] positives or negatives is not fitted (null), and a softmax is fitted only if two
/// classes have that many cases. `None` if nothing could be fitted.
pub fn fit(
    kind: TaskKind,
    logits: &[Vec<f64>],
    labels: &[Vec<Option<f32>>],
    fitted_on: FittedOn,
) -> Option<Calibration> {
    assert_eq!(logits.len(), labels.len(), "one row of labels per row of logits");
    let outputs = logits.first().map_or(0, Vec::len);
    let mut fitted = Calibration { temperatures: Vec::new(), thresholds: Vec::new(), fitted_on };
    if kind == TaskKind::Regression {
        for label in 0..outputs {
            let known = labels.iter().zip(logits).filter_map(|(y, z)| Some((f64::from(y[label]?), z[label])));
            fitted.temperatures.push(share_temperature(&known.collect::<Vec<_>>()));
        }
    } else if kind == TaskKind::Multiclass {
        fitted.temperatures.push(softmax(outputs, logits, labels));
    } else {
        let known = |label: usize| -> (Vec<bool>, Vec<f64>) {
            let rows = labels.iter().zip(logits);
            rows.filter_map(|(y, z)| Some((y[label]? >= 0.5, z[label]))).unzip()
        };
        for (truth, scores) in (0..outputs).map(known) {
            let positives = truth.iter().filter(|y| **y).count();
            let enough = positives.min(truth.len() - positives) >= FEWEST;
            fitted.temperatures.push(enough.then(|| label_temperature(&truth, &scores)).flatten());
            fitted.thresholds.push(None);
            if enough {
                let label = fitted.temperatures.len() - 1;
                fitted.thresholds[label] = threshold(&truth, &scores, fitted.temperatures[label]);
            }
        }
    }
    let any = fitted.temperatures.iter().chain(&fitted.thresholds).any(Option::is_some);
    any.then_some(fitted)
}

/// The temperature with the least squared error of shares `σ(z / T)` of a scale; `None` for fewer than [`FEWEST`] cases, or
/// where it lies at the end of what is tried (0.05 to 20).
fn share_temperature(cases: &[(f64, f64)]) -> Option<f64> {
    if cases.len() < FEWEST {
        return None;
    }
    let error = |log: f64| -> f64 {
        cases.iter().map(|(y, z)| (1.0 / (1.0 + (-z / log.exp()).exp()) - y).powi(2)).sum()
    };
    let (low, high) = (0.05f64.ln(), 20f64.ln());
    let grid: Vec<f64> = (0..=120).map(|i| low + (high - low) * f64::from(i) / 120.0).collect();
    let best = (0..grid.len()).min_by(|&a, &b| error(grid[a]).total_cmp(&error(grid[b])))?;
    if best == 0 || best + 1 == grid.len() {
        return None;
    }
    // Golden section between the neighbours of the best.
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    let (mut a, mut b) = (grid[best - 1], grid[best + 1]);
    for _ in 0..60 {
        let (c, d) = (b - ratio * (b - a), a + ratio * (b - a));
        if error(c) < error(d) { b = d } else { a = c }
    }
    Some(((a + b) / 2.0).exp())
}

/// Youden's threshold on probabilities of this temperature, unless it is no better than saying the same of every case.
fn threshold(truth: &[bool], logits: &[f64], temperature: Option<f64>) -> Option<f64> {
    let p: Vec<f64> =
        logits.iter().flat_map(|z| calibrated(TaskKind::Binary, &[*z], &[temperature])).collect();
    let threshold = youden_threshold(truth, &p)?;
    let at = Operating::at(truth, &p, threshold);
    (at.balanced_accuracy()? > 0.5).then_some(threshold)
}

fn softmax(classes: usize, logits: &[Vec<f64>], labels: &[Vec<Option<f32>>]) -> Option<f64> {
    let class = |row: &Vec<Option<f32>>| row.iter().position(|l| *l == Some(1.0));
    let (truth, rows): (Vec<usize>, Vec<Vec<f64>>) =
        labels.iter().zip(logits).filter_map(|(l, z)| Some((class(l)?, z.clone()))).unzip();
    let of = |class: usize| truth.iter().filter(|c| **c == class).count();
    let filled = (0..classes).filter(|class| of(*class) >= FEWEST).count();
    (filled > 1).then(|| softmax_temperature(&truth, &rows)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits that say `scale` times too much: of those at ±scale · k one in `1 + e^k` is wrong.
    fn overconfident(scale: f64) -> (Vec<bool>, Vec<f64>) {
        let (mut labels, mut logits) = (Vec::new(), Vec::new());
        for k in 1..=3 {
            let wrong = (10_000.0 / (1.0 + f64::from(k).exp())).round() as usize;
            for i in 0..10_000 {
                labels.extend([i >= wrong, i < wrong]);
                logits.extend([scale * f64::from(k), -scale * f64::from(k)]);
            }
        }
        (labels, logits)
    }

    fn rows(labels: &[bool], logits: &[f64]) -> (Vec<Vec<f64>>, Vec<Vec<Option<f32>>>) {
        let truth = labels.iter().map(|&y| vec![Some(f32::from(u8::from(y)))]).collect();
        (logits.iter().map(|z| vec![*z]).collect(), truth)
    }

    #[test]
    fn the_temperature_undoes_what_the_logits_say_too_much() {
        for scale in [0.5, 1.0, 3.0] {
            let (labels, logits) = overconfident(scale);
            let found = label_temperature(&labels, &logits).unwrap();
            assert!((found / scale - 1.0).abs() < 1e-3, "{found} is not {scale}");
        }
    }

    #[test]
    fn two_classes_by_softmax_have_the_temperature_of_their_sigmoid() {
        let (labels, logits) = overconfident(2.5);
        let rows: Vec<Vec<f64>> = logits.iter().map(|z| vec![0.25 * z, -0.75 * z]).collect();
        let classes: Vec<usize> = labels.iter().map(|y| usize::from(!y)).collect();
        let (a, b) =
            (softmax_temperature(&classes, &rows).unwrap(), label_temperature(&labels, &logits).unwrap());
        assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    }

    #[test]
    fn logits_that_separate_the_classes_or_reverse_them_have_no_temperature() {
        assert_eq!(label_temperature(&[true, true, false], &[2.0, 1.0, -1.0]), None);
        assert_eq!(label_temperature(&[true, true, false, false], &[-2.0, -1.0, 1.0, 0.5]), None);
        assert_eq!(label_temperature(&[true, false], &[0.0, 0.0]), None);
    }

    #[test]
    fn the_temperature_of_shares_undoes_logits_that_are_too_large() {
        let cases: Vec<(f64, f64)> = (-20..=20)
            .map(|i| {
                let z = f64::from(i) / 5.0;
                (1.0 / (1.0 + (-z).exp()), 3.0 * z)
            })
            .collect();
        assert!((share_temperature(&cases).unwrap() - 3.0).abs() < 1e-3);
        assert_eq!(share_temperature(&cases[..3]), None);
    }

    #[test]
    fn too_few_positives_or_negatives_leave_the_label_as_it_is() {
        let fitted = |positives: usize, negatives: usize| {
            let labels: Vec<bool> = (0..positives + negatives).map(|i| i < positives).collect();
            let logits: Vec<f64> = (0..labels.len())
                .map(|i| if labels[i] { 0.7 } else { -0.7 } + (i % 5) as f64 * 0.5 - 1.0)
                .collect();
            let (logits, labels) = rows(&labels, &logits);
            fit(TaskKind::Binary, &logits, &labels, FittedOn::of([]))
        };
        assert_eq!(fitted(FEWEST - 1, 50), None);
        assert_eq!(fitted(50, FEWEST - 1), None);
        let both = fitted(FEWEST, FEWEST).unwrap();
        assert!(both.temperatures[0].is_some() && both.thresholds[0].is_some(), "{both:?}");
    }

    #[test]
    fn unknown_labels_do_not_count_and_the_threshold_is_one_of_calibrated_probabilities() {
        let (labels, logits) = overconfident(2.0);
        let (mut scores, mut truth) = rows(&labels, &logits);
        scores.push(vec![9.0]);
        truth.push(vec![None]);
        let found = fit(TaskKind::Binary, &scores, &truth, FittedOn::of(["a"])).unwrap();
        let temperature = found.temperatures[0].unwrap();
        assert!((temperature - label_temperature(&labels, &logits).unwrap()).abs() < 1e-12);
        // Every case above 0 is more often positive than not.
        let expected = 1.0 / (1.0 + (-2.0 / temperature).exp());
        assert!((found.thresholds[0].unwrap() - expected).abs() < 1e-12);
    }
}
