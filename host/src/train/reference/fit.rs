//! From the training cases' vectors to where they lie, and how far each is from there.

use super::components::Components;
use crate::task::{REFERENCE_STEPS, ViewReference};

/// Most directions with a variance of their own.
const DIRECTIONS: usize = 16;
/// Cases for each direction, at least.
const CASES_EACH: usize = 10;
/// Cases, and patients, below which nothing is told.
pub const LEAST: usize = 20;
/// Times that the distribution is fitted without a part of the patients.
const FOLDS: usize = 10;

/// A training case.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseVector {
    /// Cases of a patient are left out together.
    pub patient: String,
    /// `[d]`
    pub vector: Vec<f32>,
}

/// Where the cases lie. Nothing where they are too few, or all the same.
///
/// A distribution is nearer to the cases that it was fitted to than to others, all the more the fewer they are. The quantiles are
/// therefore those of distances from distributions that were fitted without the case and all others of its patient.
///
/// # Errors
/// When there is no memory for a `[d, d]` matrix.
pub fn fit_reference(
    view: &str,
    after_blocks: Option<usize>,
    cases: &[CaseVector],
) -> candle_core::Result<Option<ViewReference>> {
    let mut patients: Vec<&str> = Vec::new();
    let mut numbers = std::collections::HashMap::new();
    for case in cases {
        numbers.entry(case.patient.as_str()).or_insert_with(|| {
            patients.push(&case.patient);
            patients.len() - 1
        });
    }
    if patients.len() < LEAST {
        return Ok(None);
    }
    let fold_of = |case: &CaseVector| numbers[case.patient.as_str()] % FOLDS;
    let mut distances = Vec::with_capacity(cases.len());
    for fold in 0..FOLDS {
        let others: Vec<&CaseVector> = cases.iter().filter(|case| fold_of(case) != fold).collect();
        let Some(without) = distribution(view, after_blocks, &others)? else { return Ok(None) };
        distances.extend(
            cases.iter().filter(|case| fold_of(case) == fold).map(|case| without.distance(&case.vector)),
        );
    }
    let all: Vec<&CaseVector> = cases.iter().collect();
    let Some(reference) = distribution(view, after_blocks, &all)? else { return Ok(None) };
    distances.sort_by(f64::total_cmp);
    let quantiles =
        (0..=REFERENCE_STEPS).map(|i| quantile(&distances, i as f64 / REFERENCE_STEPS as f64) as f32);
    Ok(Some(ViewReference { quantiles: quantiles.collect(), ..reference }))
}

/// Without quantiles.
fn distribution(
    view: &str,
    after_blocks: Option<usize>,
    cases: &[&CaseVector],
) -> candle_core::Result<Option<ViewReference>> {
    let rows: Vec<&[f32]> = cases.iter().map(|case| case.vector.as_slice()).collect();
    let found = Components::of(&rows, DIRECTIONS.min(rows.len() / CASES_EACH))?;
    let narrow = |v: &[f64]| -> Vec<f32> { v.iter().map(|v| *v as f32).collect() };
    let reference = ViewReference {
        view: view.to_owned(),
        after_blocks,
        cases: cases.len(),
        mean: narrow(&found.mean),
        directions: found.directions.iter().map(|u| narrow(u)).collect(),
        variances: narrow(&found.variances),
        residual_variance: found.residual as f32,
        quantiles: Vec::new(),
    };
    let varies = |v: &f32| v.is_finite() && *v > 0.0;
    let told = varies(&reference.residual_variance) && reference.variances.iter().all(varies);
    Ok(told.then_some(reference))
}

/// The quantile `q` of sorted numbers, linear between them, as `numpy.quantile` gives it.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (low, share) = (at.floor() as usize, at.fract());
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + share * (sorted[high] - sorted[low])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    fn cases(n: usize, seed: u64) -> Vec<CaseVector> {
        let mut random = ChaCha20Rng::seed_from_u64(seed);
        let mut normal = move || (0..12).map(|_| random.random::<f64>() - 0.5).sum::<f64>();
        let one = |i: usize| {
            let vector = (0..24).map(|j| (normal() * if j < 2 { 5.0 } else { 1.0 }) as f32).collect();
            CaseVector { patient: format!("p{i}"), vector }
        };
        (0..n).map(one).collect()
    }

    #[test]
    fn unseen_cases_lie_among_the_training_cases_and_others_beyond_their_limit() {
        let reference = fit_reference("axial", Some(8), &cases(400, 1)).unwrap().unwrap();
        let unseen = cases(400, 2);
        let percentiles: Vec<f64> =
            unseen.iter().map(|c| reference.percentile(reference.distance(&c.vector))).collect();
        let mean = percentiles.iter().sum::<f64>() / 400.0;
        assert!((mean - 50.0).abs() < 5.0, "{mean}");
        let beyond = unseen.iter().filter(|c| reference.distance(&c.vector) > reference.limit()).count();
        assert!(beyond <= 8, "{beyond} of 400");
        // Five deviations off in a narrow direction, which are one in a wide direction.
        let moved = |j: usize| {
            let all = unseen.iter().map(|c| {
                let mut vector = c.vector.clone();
                vector[j] += 5.0;
                reference.distance(&vector)
            });
            all.filter(|d| *d > reference.limit()).count()
        };
        assert!(moved(20) > 250 && moved(0) < 60, "{} {}", moved(20), moved(0));
    }

    #[test]
    fn a_distance_within_the_fit_is_smaller_than_one_that_left_the_case_out() {
        let all = cases(60, 3);
        let reference = fit_reference("axial", None, &all).unwrap().unwrap();
        let within: f64 = all.iter().map(|c| reference.distance(&c.vector)).sum::<f64>() / 60.0;
        assert!(f64::from(reference.quantiles[100]) > within, "{} {within}", reference.quantiles[100]);
    }

    #[test]
    fn too_few_patients_or_cases_that_are_all_the_same_tell_nothing() {
        assert_eq!(fit_reference("axial", None, &cases(19, 4)).unwrap(), None);
        let mut one_patient = cases(40, 4);
        one_patient.iter_mut().for_each(|c| c.patient = "p".to_owned());
        assert_eq!(fit_reference("axial", None, &one_patient).unwrap(), None);
        let mut same = cases(40, 4);
        same.iter_mut().for_each(|c| c.vector = vec![1.0; 24]);
        assert_eq!(fit_reference("axial", None, &same).unwrap(), None);
    }

    #[test]
    fn quantiles_are_those_of_numpy() {
        // numpy.quantile([1, 2, 4, 8], [0, 0.3, 1])
        let found = [0.0, 0.3, 1.0].map(|q| quantile(&[1.0, 2.0, 4.0, 8.0], q));
        assert!(found[0] == 1.0 && (found[1] - 1.9).abs() < 1e-12 && found[2] == 8.0, "{found:?}");
    }
}
