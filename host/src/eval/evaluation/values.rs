//! How good the numbers of ordinal and regression tasks are, with intervals by patient.

use crate::eval::metrics::{patient_draws, percentile_interval};
use crate::eval::predictions::{Predictions, Scores};

use super::Bootstrap;

/// Figures of one label's values; `None` where the cases do not define them.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ValueReport {
    /// Cases whose value is known.
    pub n: usize,
    /// The figures.
    #[serde(flatten)]
    pub figures: ValueFigures,
    /// 95 % intervals over draws of patients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap_ci95: Option<ValueIntervals>,
}

/// One set of figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct ValueFigures {
    /// Mean absolute error.
    pub mae: Option<f64>,
    /// Root of the mean squared error.
    pub rmse: Option<f64>,
    /// Mean of predicted minus true.
    pub bias: Option<f64>,
    /// Share of the variance that is explained: `1 - Σ (y - p)² / Σ (y - ȳ)²`.
    pub r2: Option<f64>,
    /// Pearson's correlation.
    pub pearson: Option<f64>,
    /// Spearman's rank correlation, ties with their mean rank.
    pub spearman: Option<f64>,
    /// Slope of true on predicted values: 1 for predictions on the right scale.
    pub calibration_slope: Option<f64>,
    /// Cohen's kappa with quadratic weights of the values rounded to whole numbers, where all true values are whole.
    pub quadratic_kappa: Option<f64>,
}

/// An interval for each figure.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[allow(missing_docs)] // as in ValueFigures
pub struct ValueIntervals {
    pub mae: Option<[f64; 2]>,
    pub rmse: Option<[f64; 2]>,
    pub bias: Option<[f64; 2]>,
    pub r2: Option<[f64; 2]>,
    pub pearson: Option<[f64; 2]>,
    pub spearman: Option<[f64; 2]>,
    pub calibration_slope: Option<[f64; 2]>,
    pub quadratic_kappa: Option<[f64; 2]>,
}

/// A report for each label that has values.
pub(super) fn of(predictions: &Predictions, bootstrap: Bootstrap) -> Vec<(String, ValueReport)> {
    let (patients, how_many) = predictions.patients();
    let labels = predictions.labels.iter().filter_map(|label| match &label.scores {
        Scores::Values { truth, predicted } => Some((label.name.clone(), truth, predicted)),
        _ => None,
    });
    labels
        .map(|(name, truth, predicted)| {
            let known: Vec<(usize, f64, f64)> = truth
                .iter()
                .enumerate()
                .filter_map(|(i, t)| Some((patients[i], (*t)?, predicted[i])))
                .collect();
            let pairs: Vec<(f64, f64)> = known.iter().map(|&(_, t, p)| (t, p)).collect();
            let draws: Vec<ValueFigures> = patient_draws(how_many, bootstrap.draws, bootstrap.seed)
                .map(|times| {
                    let drawn = known
                        .iter()
                        .flat_map(|&(patient, t, p)| std::iter::repeat_n((t, p), times[patient] as usize));
                    figures(&drawn.collect::<Vec<_>>())
                })
                .collect();
            let bootstrap_ci95 = (bootstrap.draws > 0).then(|| intervals(&draws));
            (name, ValueReport { n: pairs.len(), figures: figures(&pairs), bootstrap_ci95 })
        })
        .collect()
}

fn intervals(draws: &[ValueFigures]) -> ValueIntervals {
    let of = |figure: fn(&ValueFigures) -> Option<f64>| {
        percentile_interval(&draws.iter().map(figure).collect::<Vec<_>>())
    };
    ValueIntervals {
        mae: of(|f| f.mae),
        rmse: of(|f| f.rmse),
        bias: of(|f| f.bias),
        r2: of(|f| f.r2),
        pearson: of(|f| f.pearson),
        spearman: of(|f| f.spearman),
        calibration_slope: of(|f| f.calibration_slope),
        quadratic_kappa: of(|f| f.quadratic_kappa),
    }
}

/// All figures of true and predicted values.
pub fn figures(pairs: &[(f64, f64)]) -> ValueFigures {
    if pairs.is_empty() {
        return ValueFigures::default();
    }
    let n = pairs.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / n;
    let (truth, predicted) = (mean(|p| p.0), mean(|p| p.1));
    let moment =
        |f: &dyn Fn(f64, f64) -> f64| pairs.iter().map(|&(t, p)| f(t - truth, p - predicted)).sum::<f64>();
    let (tt, pp, tp) = (moment(&|t, _| t * t), moment(&|_, p| p * p), moment(&|t, p| t * p));
    let squares = pairs.iter().map(|(t, p)| (t - p).powi(2)).sum::<f64>();
    let ranked: Vec<(f64, f64)> =
        ranks(pairs.iter().map(|p| p.0)).into_iter().zip(ranks(pairs.iter().map(|p| p.1))).collect();
    ValueFigures {
        mae: Some(pairs.iter().map(|(t, p)| (t - p).abs()).sum::<f64>() / n),
        rmse: Some((squares / n).sqrt()),
        bias: Some(predicted - truth),
        r2: (tt > 0.0).then(|| 1.0 - squares / tt),
        pearson: correlation(pairs),
        spearman: correlation(&ranked),
        calibration_slope: (pp > 0.0).then(|| tp / pp),
        quadratic_kappa: kappa(pairs),
    }
}

fn correlation(pairs: &[(f64, f64)]) -> Option<f64> {
    let n = pairs.len() as f64;
    let (a, b) = (pairs.iter().map(|p| p.0).sum::<f64>() / n, pairs.iter().map(|p| p.1).sum::<f64>() / n);
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for (x, y) in pairs {
        (aa, bb, ab) = (aa + (x - a).powi(2), bb + (y - b).powi(2), ab + (x - a) * (y - b));
    }
    (aa > 0.0 && bb > 0.0).then(|| ab / (aa * bb).sqrt())
}

/// Ranks from 1; ties have the mean of theirs.
fn ranks(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let values: Vec<f64> = values.collect();
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut from = 0;
    while from < order.len() {
        let tied = order[from..].iter().take_while(|&&i| values[i] == values[order[from]]).count();
        let rank = from as f64 + (tied as f64 + 1.0) / 2.0;
        order[from..from + tied].iter().for_each(|&i| ranks[i] = rank);
        from += tied;
    }
    ranks
}

/// Cohen's kappa with quadratic weights (Cohen 1968): `1 - Σ (t - p)² / Σ over all pairs of cases (t_i - p_j)² / n`.
fn kappa(pairs: &[(f64, f64)]) -> Option<f64> {
    if pairs.iter().any(|(t, _)| t.fract() != 0.0) {
        return None;
    }
    let n = pairs.len() as f64;
    let rounded: Vec<(f64, f64)> = pairs.iter().map(|(t, p)| (*t, p.round())).collect();
    let observed = rounded.iter().map(|(t, p)| (t - p).powi(2)).sum::<f64>() / n;
    // E (T - P)² of independent T and P.
    let mean = |of: fn(&(f64, f64)) -> f64| rounded.iter().map(of).sum::<f64>() / n;
    let (t, p) = (mean(|p| p.0), mean(|p| p.1));
    let expected = mean(|p| p.0 * p.0) + mean(|p| p.1 * p.1) - 2.0 * t * p;
    (expected > 1e-12).then(|| 1.0 - observed / expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_scikit_learn_and_scipy() {
        let truth = [1.0, 2.0, 2.0, 3.0, 4.0, 5.0, 5.0, 3.0];
        let predicted = [1.2, 1.9, 2.6, 2.4, 4.4, 4.1, 4.9, 3.6];
        let found = figures(&truth.into_iter().zip(predicted).collect::<Vec<_>>());
        // sklearn.metrics mean_absolute_error, mean_squared_error ** 0.5, r2_score; scipy.stats pearsonr, spearmanr,
        // linregress(predicted, truth).slope; cohen_kappa_score(truth, round(predicted), weights="quadratic").
        for (found, expected) in [
            (found.mae, 0.437500000),
            (found.rmse, 0.513565965),
            (found.bias, 0.012500000),
            (found.r2, 0.858151261),
            (found.pearson, 0.926904358),
            (found.spearman, 0.897117993),
            (found.calibration_slope, 1.033761890),
            (found.quadratic_kappa, 0.855855856),
        ] {
            let found = found.unwrap();
            assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
        }
    }

    #[test]
    fn what_the_cases_do_not_define_is_left_out() {
        assert_eq!(figures(&[]), ValueFigures::default());
        let constant = figures(&[(2.0, 1.0), (2.0, 3.0)]);
        assert_eq!((constant.r2, constant.pearson, constant.spearman), (None, None, None));
        assert_eq!(constant.mae, Some(1.0));
        assert_eq!(figures(&[(0.5, 1.0), (2.0, 3.0)]).quadratic_kappa, None);
    }
}
