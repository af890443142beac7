//! What a head standardises the mask's scalars with: mean and standard deviation of the training cases.

use super::error::TrainError;
use super::optimiser::SCALARS;
use super::progress::Progress;
use super::step::Trainer;
use crate::data::table::Table;
use crate::plugin::Parameter;
use candle_core::{Tensor, Var};

/// A scalar that hardly varies stays as it is.
const LEAST_STD: f64 = 1e-6;

/// Sets `scalars.mean` and `scalars.std` (with `.VIEW` behind if there are several views) of a task whose head has them to
/// those of the cases `rows`; the standard deviation is the population's.
///
/// Reads every case once. Its frozen features are those of the first epoch, which finds them in the cache.
///
/// # Errors
/// When a case cannot be read.
pub(super) fn standardise(
    trainer: &Trainer<'_>,
    table: &Table,
    rows: &[usize],
    progress: &mut dyn Progress,
) -> Result<(), TrainError> {
    let parameters = trainer.task.parameters();
    let views = &trainer.task.manifest().views;
    let named = |part: &str, view: &str| -> Option<Var> {
        let name =
            if views.len() > 1 { format!("{SCALARS}{part}.{view}") } else { format!("{SCALARS}{part}") };
        match parameters.get(&name) {
            Some(Parameter::Trained(variable)) => Some(variable.clone()),
            _ => None,
        }
    };
    let set: Vec<(&str, Var, Var)> = views
        .iter()
        .filter_map(|v| Some((v.name.as_str(), named("mean", &v.name)?, named("std", &v.name)?)))
        .collect();
    if set.is_empty() {
        return Ok(());
    }
    let mut all: Vec<(String, Vec<f64>)> = Vec::new();
    for (n, &i) in rows.iter().enumerate() {
        if progress.cancelled() {
            return Err(TrainError::Cancelled);
        }
        all.extend(trainer.scalars(&table.rows[i])?);
        progress.read(n as u64 + 1, rows.len() as u64);
    }
    for (view, mean, std) in set {
        let of: Vec<&[f64]> = all.iter().filter(|(v, _)| v == view).map(|(_, s)| s.as_slice()).collect();
        if of.is_empty() {
            continue;
        }
        let (means, stds) = moments(&of);
        for (variable, values) in [(mean, means), (std, stds)] {
            let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
            variable.set(&Tensor::from_vec(values, variable.dims(), variable.device())?)?;
        }
    }
    Ok(())
}

/// Mean and standard deviation of each column.
fn moments(rows: &[&[f64]]) -> (Vec<f64>, Vec<f64>) {
    let n = rows.len() as f64;
    let columns = rows.first().map_or(0, |r| r.len());
    (0..columns)
        .map(|c| {
            let mean = rows.iter().map(|r| r[c]).sum::<f64>() / n;
            let std = (rows.iter().map(|r| (r[c] - mean).powi(2)).sum::<f64>() / n).sqrt();
            (mean, if std > LEAST_STD { std } else { 1.0 })
        })
        .unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_brought_to_mean_0_and_deviation_1_and_constants_are_left_as_wide_as_they_are() {
        let rows = [[1.0, 7.0], [3.0, 7.0], [8.0, 7.0]];
        let (mean, std) = moments(&rows.each_ref().map(|r| r.as_slice()));
        assert_eq!((mean[0], mean[1], std[1]), (4.0, 7.0, 1.0));
        // numpy: np.std([1, 3, 8])
        assert!((std[0] - 2.943_920_288_775_949).abs() < 1e-12);
    }
}
