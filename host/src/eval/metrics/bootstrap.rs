//! Bootstrap intervals: patients are drawn anew with replacement, all of a patient's cases together, since the cases of
//! one patient are no independent evidence. Percentile intervals (Efron & Tibshirani 1993, chapter 13).

use super::{ECE_BINS, bin_of};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use serde::{Deserialize, Serialize};

/// One question's answers, ready to be counted several times or not at all.
#[derive(Debug, Clone)]
pub struct Judged {
    /// Highest probability first.
    cases: Vec<JudgedCase>,
    /// The same, fold by fold, of the folds that have both classes; empty where there are none.
    folds: Vec<Judged>,
}

#[derive(Debug, Clone, Copy)]
struct JudgedCase {
    label: bool,
    probability: f64,
    positive: bool,
    patient: usize,
}

/// What a draw of patients gives; `None` where the drawn cases do not define it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// Area under the ROC curve.
    pub auroc: Option<f64>,
    /// Average precision.
    pub average_precision: Option<f64>,
    /// Mean squared error of the probability.
    pub brier: Option<f64>,
    /// Expected calibration error.
    pub ece: Option<f64>,
    /// Share of the positives found.
    pub sensitivity: Option<f64>,
    /// Share of the negatives left alone.
    pub specificity: Option<f64>,
    /// Harmonic mean of precision and sensitivity.
    pub f1: Option<f64>,
    /// Mean of sensitivity and specificity.
    pub balanced_accuracy: Option<f64>,
}

/// 95 % intervals of [`Figures`]; null where too few draws define the figure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Intervals {
    /// Area under the ROC curve.
    pub auroc: Option<[f64; 2]>,
    /// Average precision.
    pub average_precision: Option<[f64; 2]>,
    /// Mean squared error of the probability.
    pub brier: Option<[f64; 2]>,
    /// Expected calibration error.
    pub ece: Option<[f64; 2]>,
    /// Share of the positives found.
    pub sensitivity: Option<[f64; 2]>,
    /// Share of the negatives left alone.
    pub specificity: Option<[f64; 2]>,
    /// Harmonic mean of precision and sensitivity.
    pub f1: Option<[f64; 2]>,
    /// Mean of sensitivity and specificity.
    pub balanced_accuracy: Option<[f64; 2]>,
}

impl Judged {
    /// `labels`, `probabilities`, decisions `positive` and indices `patients`: all `[n]`.
    pub fn new(labels: &[bool], probabilities: &[f64], positive: &[bool], patients: &[usize]) -> Self {
        let n = labels.len();
        assert!(
            probabilities.len() == n && positive.len() == n && patients.len() == n,
            "one probability, decision and patient per label"
        );
        let case = |i: usize| JudgedCase {
            label: labels[i],
            probability: probabilities[i],
            positive: positive[i],
            patient: patients[i],
        };
        let mut cases: Vec<JudgedCase> = (0..n).map(case).collect();
        cases.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        Self { cases, folds: Vec::new() }
    }

    /// The same with area and average precision as means over folds; `folds` `[n]`, in the order of [`Judged::new`].
    #[must_use]
    pub fn within_folds(
        mut self,
        (labels, probabilities, positive, patients): (&[bool], &[f64], &[bool], &[usize]),
        folds: &[usize],
    ) -> Self {
        let count = folds.iter().max().map_or(0, |f| f + 1);
        let of = |fold: usize| {
            let own: Vec<usize> = (0..folds.len()).filter(|&i| folds[i] == fold).collect();
            let pick = |flags: &[bool]| own.iter().map(|&i| flags[i]).collect::<Vec<bool>>();
            let labels = pick(labels);
            let probabilities: Vec<f64> = own.iter().map(|&i| probabilities[i]).collect();
            let patients: Vec<usize> = own.iter().map(|&i| patients[i]).collect();
            let both = labels.contains(&true) && labels.contains(&false);
            both.then(|| Self::new(&labels, &probabilities, &pick(positive), &patients))
        };
        self.folds = (0..count).filter_map(of).collect();
        self
    }

    /// The figures when patient `i` counts `times[i]` times; the same as [`super::LabelMetrics`]'s when each counts once.
    pub fn figures(&self, times: &[u32]) -> Figures {
        let mut figures = self.pooled(times);
        if !self.folds.is_empty() {
            let of: Vec<Figures> = self.folds.iter().map(|f| f.pooled(times)).collect();
            // A draw without one of the folds' classes would be the mean of other folds.
            let mean = |figure: fn(&Figures) -> Option<f64>| {
                let values: Option<Vec<f64>> = of.iter().map(figure).collect();
                values.map(|v| v.iter().sum::<f64>() / v.len() as f64)
            };
            figures.auroc = mean(|f| f.auroc);
            figures.average_precision = mean(|f| f.average_precision);
        }
        figures
    }

    /// With all folds in one order.
    fn pooled(&self, times: &[u32]) -> Figures {
        let counted = || self.cases.iter().filter(|c| c.label).map(|c| f64::from(times[c.patient]));
        let positives: f64 = counted().sum();
        let mut negatives = 0.0;
        // Pairs of a positive above a negative, ties one half; sum of precision over the positives.
        let (mut pairs, mut precision) = (0.0, 0.0);
        let (mut tp, mut fp) = (0.0, 0.0);
        let (mut squares, mut gaps) = (0.0, [0.0f64; ECE_BINS]);
        let (mut found, mut alarms) = (0.0, 0.0);
        for tied in self.cases.chunk_by(|a, b| a.probability == b.probability) {
            let (mut tied_positives, mut tied_negatives) = (0.0, 0.0);
            for case in tied {
                let weight = f64::from(times[case.patient]);
                let truth = f64::from(u8::from(case.label));
                squares += weight * (case.probability - truth).powi(2);
                gaps[bin_of(case.probability)] += weight * (truth - case.probability);
                let (here, decided) = if case.label {
                    (&mut tied_positives, &mut found)
                } else {
                    (&mut tied_negatives, &mut alarms)
                };
                *here += weight;
                *decided += if case.positive { weight } else { 0.0 };
            }
            pairs += tied_negatives * (tp + 0.5 * tied_positives);
            (tp, fp) = (tp + tied_positives, fp + tied_negatives);
            negatives += tied_negatives;
            if tied_positives > 0.0 {
                precision += tied_positives * tp / (tp + fp);
            }
        }
        let share = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
        let n = positives + negatives;
        let sensitivity = share(found, positives);
        let specificity = share(negatives - alarms, negatives);
        Figures {
            auroc: share(pairs, positives * negatives),
            average_precision: share(precision, positives),
            brier: share(squares, n),
            ece: share(gaps.iter().map(|g| g.abs()).sum(), n),
            sensitivity,
            specificity,
            f1: share(2.0 * found, positives + found + alarms),
            balanced_accuracy: sensitivity.zip(specificity).map(|(a, b)| 0.5 * (a + b)),
        }
    }
}

impl Intervals {
    /// Of the figures of all draws.
    pub fn of(draws: &[Figures]) -> Self {
        let of = |figure: fn(&Figures) -> Option<f64>| {
            let values: Vec<Option<f64>> = draws.iter().map(figure).collect();
            percentile_interval(&values)
        };
        Self {
            auroc: of(|f| f.auroc),
            average_precision: of(|f| f.average_precision),
            brier: of(|f| f.brier),
            ece: of(|f| f.ece),
            sensitivity: of(|f| f.sensitivity),
            specificity: of(|f| f.specificity),
            f1: of(|f| f.f1),
            balanced_accuracy: of(|f| f.balanced_accuracy),
        }
    }
}

/// How often each of `patients` is drawn, `[draws][patients]`; draw i depends on seed, i and the number of patients only.
pub fn patient_draws(patients: usize, draws: usize, seed: u64) -> impl Iterator<Item = Vec<u32>> {
    (0..draws as u64).map(move |draw| {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        rng.set_stream(draw);
        let mut times = vec![0u32; patients];
        for _ in 0..patients {
            times[rng.random_range(0..patients)] += 1;
        }
        times
    })
}

/// 2.5 % and 97.5 % of the draws that define a figure, linear between neighbours; `None` where fewer than half of them
/// do.
pub fn percentile_interval(draws: &[Option<f64>]) -> Option<[f64; 2]> {
    let mut values: Vec<f64> = draws.iter().flatten().copied().collect();
    if values.is_empty() || 2 * values.len() < draws.len() {
        return None;
    }
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = share * (values.len() - 1) as f64;
        let (low, high) = (values[place.floor() as usize], values[place.ceil() as usize]);
        low + (high - low) * place.fract()
    };
    Some([at(0.025), at(0.975)])
}

#[cfg(test)]
mod tests {
    use super::super::LabelMetrics;
    use super::*;

    fn made(n: usize) -> (Vec<bool>, Vec<f64>) {
        let labels: Vec<bool> = (0..n).map(|i| i * 7 % 11 < 4).collect();
        let score = |i: usize| ((i * 37 % 23) as f64 / 23.0 + if labels[i] { 0.3 } else { 0.0 }) / 1.3;
        (labels.clone(), (0..n).map(score).collect())
    }

    #[test]
    fn every_patient_counted_once_gives_the_plain_figures() {
        let (labels, p) = made(150);
        let plain = LabelMetrics::of(&labels, &p, 0.4);
        let positive: Vec<bool> = p.iter().map(|p| *p >= 0.4).collect();
        let patients: Vec<usize> = (0..150).map(|i| i / 3).collect();
        let found = Judged::new(&labels, &p, &positive, &patients).figures(&[1; 50]);
        let pairs = [
            (found.auroc, plain.auroc),
            (found.average_precision, plain.average_precision),
            (found.brier, plain.brier),
            (found.ece, plain.ece),
            (found.sensitivity, plain.sensitivity),
            (found.specificity, plain.specificity),
            (found.f1, plain.f1),
            (found.balanced_accuracy, plain.balanced_accuracy),
        ];
        for (found, plain) in pairs {
            assert!((found.unwrap() - plain.unwrap()).abs() < 1e-12, "{found:?} is not {plain:?}");
        }
    }

    #[test]
    fn within_folds_every_patient_counted_once_gives_the_figures_of_the_folds() {
        let (labels, p) = made(150);
        let folds: Vec<usize> = (0..150).map(|i| i % 5).collect();
        let plain = LabelMetrics::of(&labels, &p, 0.4).within_folds(&labels, &p, &folds);
        let positive: Vec<bool> = p.iter().map(|p| *p >= 0.4).collect();
        let patients: Vec<usize> = (0..150).map(|i| i / 3).collect();
        let judged = Judged::new(&labels, &p, &positive, &patients);
        let found = judged.within_folds((&labels, &p, &positive, &patients), &folds).figures(&[1; 50]);
        assert!((found.auroc.unwrap() - plain.auroc.unwrap()).abs() < 1e-12);
        assert!((found.average_precision.unwrap() - plain.average_precision.unwrap()).abs() < 1e-12);
        assert_eq!(plain.folds, Some(5));
        assert!(plain.auroc != plain.auroc_pooled);
    }

    #[test]
    fn a_patient_counted_twice_is_as_if_its_cases_stood_there_twice() {
        let (labels, p) = made(40);
        let positive = vec![true; 40];
        let patients: Vec<usize> = (0..40).map(|i| i / 4).collect();
        let times: Vec<u32> = (0..10).map(|i| i % 3).collect();
        let found = Judged::new(&labels, &p, &positive, &patients).figures(&times);
        let twice: Vec<usize> = (0..40).flat_map(|i| vec![i; times[i / 4] as usize]).collect();
        let (labels, p): (Vec<bool>, Vec<f64>) = twice.iter().map(|&i| (labels[i], p[i])).unzip();
        let plain = LabelMetrics::of(&labels, &p, 0.0);
        assert!((found.auroc.unwrap() - plain.auroc.unwrap()).abs() < 1e-12);
        assert!((found.ece.unwrap() - plain.ece.unwrap()).abs() < 1e-12);
        assert!((found.average_precision.unwrap() - plain.average_precision.unwrap()).abs() < 1e-12);
    }

    #[test]
    fn draws_are_whole_and_the_same_every_time() {
        let draws: Vec<Vec<u32>> = patient_draws(30, 20, 5).collect();
        assert!(draws.iter().all(|d| d.iter().sum::<u32>() == 30));
        assert_eq!(draws, patient_draws(30, 20, 5).collect::<Vec<_>>());
        assert_ne!(draws[0], draws[1]);
        assert_ne!(draws, patient_draws(30, 20, 6).collect::<Vec<_>>());
    }

    #[test]
    fn an_interval_needs_half_of_the_draws() {
        let values: Vec<Option<f64>> = (0..=1000).map(|i| Some(f64::from(i))).collect();
        assert_eq!(percentile_interval(&values), Some([25.0, 975.0]));
        assert_eq!(percentile_interval(&[Some(1.0), None, None]), None);
        assert_eq!(percentile_interval(&[]), None);
    }
}
