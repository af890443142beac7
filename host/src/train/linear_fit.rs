//! The last layer of a head, fitted at once: logistic regression on what the head makes of each training case.
//!
//! Where nothing but a linear layer is trained, the least of its penalised loss is one point. Newton's method finds it in a few steps:
//! there is no learning rate, no order of cases and no epoch to choose, so that the validation cases stay unseen.

use super::error::TrainError;
use super::optimiser::SCALARS;
use super::progress::Progress;
use super::sample::{CaseTargets, targets};
use super::step::Trainer;
use crate::data::table::Table;
use crate::plugin::Parameter;
use anymc3d_manifest::{LossKind, TaskKind};
use candle_core::{DType, Device, Tensor, Var};

const WEIGHT: &str = "head.weight";
const BIAS: &str = "head.bias";
/// Steps after which Newton's method is where it stays.
const STEPS: usize = 100;
/// Longest step at which it has arrived.
const ARRIVED: f64 = 1e-8;
/// Penalty of the bias, as a share of a weight's: a label without a positive case has a bias too.
const OF_BIAS: f64 = 1e-4;

/// Sets `head.weight` `[C, E]` and `head.bias` `[C]` to the least of `½ penalty w·w + Σ weight · BCE` over the cases `rows`, for
/// each output by itself. Returns the mean loss of each case that has a known label.
///
/// # Errors
/// When the loss is another than `bce`, more than these two is trained, the head's logits are not `head.weight` times its
/// embedding, or a case cannot be read.
pub(super) fn fit_linear(
    trainer: &Trainer<'_>,
    table: &Table,
    rows: &[usize],
    penalty: f64,
    progress: &mut dyn Progress,
) -> Result<Vec<f64>, TrainError> {
    let (weight, bias) = linear_layer(trainer)?;
    let device = Device::Cpu;
    let (mut inputs, mut wanted, mut counted) = (Vec::new(), Vec::new(), Vec::new());
    for &i in rows {
        if progress.cancelled() {
            return Err(TrainError::Cancelled);
        }
        let row = &table.rows[i];
        let embedding = trainer.answer(row)?.embedding.ok_or_else(|| {
            refused(&format!(
                "case {}: the head tells no embedding, of which its logits could be linear",
                row.case
            ))
        })?;
        inputs.push(embedding.to_dtype(DType::F64)?.to_vec1::<f64>()?);
        let CaseTargets { values, known, .. } = targets(row, trainer.task.manifest(), &device)?;
        wanted.push(values.to_dtype(DType::F64)?.squeeze(0)?.to_vec1::<f64>()?);
        counted.push(known.to_dtype(DType::F64)?.squeeze(0)?.to_vec1::<f64>()?);
        progress.case(1, 0.0);
    }
    let (outputs, width) = (weight.dims()[0], weight.dims()[1]);
    if let Some((input, row)) = inputs.iter().zip(rows).find(|(input, _)| input.len() != width) {
        let case = &table.rows[*row].case;
        return Err(refused(&format!("case {case}: an embedding of {}, expected {width}", input.len())));
    }
    let mut fitted = Vec::new();
    for output in 0..outputs {
        let of = |all: &[Vec<f64>]| all.iter().map(|v| v[output]).collect::<Vec<f64>>();
        fitted.push(logistic(&inputs, &of(&wanted), &of(&counted), penalty)?);
    }
    let flat: Vec<f32> = fitted.iter().flat_map(|(w, _)| w.iter().map(|v| *v as f32)).collect();
    let biases: Vec<f32> = fitted.iter().map(|(_, b)| *b as f32).collect();
    for (variable, values) in [(&weight, flat), (&bias, biases)] {
        variable.set(&Tensor::from_vec(values, variable.dims(), variable.device())?)?;
    }
    obeyed(trainer, table, rows, (&inputs[..], &fitted[..]))?;
    let loss = |n: usize| {
        let all = fitted.iter().enumerate().map(|(c, (w, b))| {
            let z = dot(&inputs[n], w) + b;
            counted[n][c] * (softplus(z) - wanted[n][c] * z)
        });
        (all.sum::<f64>(), counted[n].iter().sum::<f64>())
    };
    Ok((0..inputs.len())
        .map(loss)
        .filter(|(_, known)| *known > 0.0)
        .map(|(sum, known)| sum / known)
        .collect())
}

fn refused(reason: &str) -> TrainError {
    TrainError::Data(format!("--logistic: {reason}"))
}

/// The layer, where it is all that is trained.
fn linear_layer(trainer: &Trainer<'_>) -> Result<(Var, Var), TrainError> {
    let manifest = trainer.task.manifest();
    if manifest.task.kind == TaskKind::Multiclass || manifest.task.loss.kind != LossKind::Bce {
        let (kind, loss) = (manifest.task.kind, manifest.task.loss.kind);
        return Err(refused(&format!("the loss {loss:?} of a {kind:?} task; expected bce (--loss bce)")));
    }
    let (mut weight, mut bias) = (None, None);
    for (name, parameter) in trainer.task.parameters() {
        let Parameter::Trained(variable) = parameter else { continue };
        match name.as_str() {
            WEIGHT if variable.dims().len() == 2 => weight = Some(variable),
            BIAS => bias = Some(variable),
            // Measured, or of a branch that no prediction runs.
            other if other.starts_with(SCALARS) || other.starts_with("segmentation.") => {}
            other => {
                return Err(refused(&format!(
                    "`{other}` is trained too; expected a linear layer alone, for example by --adapter none --fusion none or mean"
                )));
            }
        }
    }
    weight.zip(bias).ok_or_else(|| refused("the head has no `head.weight` [C, E] and `head.bias` [C]"))
}

/// Weights and bias of a label.
type Fitted = (Vec<f64>, f64);

/// Refuses a head whose logits are something else than its layer times its embedding.
fn obeyed(
    trainer: &Trainer<'_>,
    table: &Table,
    rows: &[usize],
    (inputs, fitted): (&[Vec<f64>], &[Fitted]),
) -> Result<(), TrainError> {
    let (Some(&row), Some(input)) = (rows.first(), inputs.first()) else { return Ok(()) };
    let logits = trainer.answer(&table.rows[row])?.logits.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    for (found, (w, b)) in logits.iter().zip(fitted) {
        let expected = dot(input, w) + b;
        if (found - expected).abs() > 1e-3 * (1.0 + expected.abs()) {
            return Err(refused(&format!(
                "the head gives {found:.4} where its `head.weight` times its embedding is {expected:.4}"
            )));
        }
    }
    Ok(())
}

/// Weights and bias of the least `½ penalty w·w + Σ counted (ln(1 + exp z) - wanted z)`, `z = w·x + b`: with `wanted` of 0 and 1
/// and a penalty of 1/C scikit-learn's `LogisticRegression(C)`. Its steps are halved where they overshoot.
fn logistic(
    inputs: &[Vec<f64>],
    wanted: &[f64],
    counted: &[f64],
    penalty: f64,
) -> candle_core::Result<Fitted> {
    let (n, width) = (inputs.len(), inputs.first().map_or(0, Vec::len) + 1);
    let flat: Vec<f64> = inputs.iter().flat_map(|row| row.iter().copied().chain([1.0])).collect();
    let x = Tensor::from_vec(flat, (n, width), &Device::Cpu)?;
    let turned = x.t()?.contiguous()?;
    let penalties: Vec<f64> =
        (0..width).map(|i| penalty * if i + 1 == width { OF_BIAS } else { 1.0 }).collect();
    let scores = |w: &[f64]| -> candle_core::Result<Vec<f64>> {
        x.matmul(&Tensor::from_slice(w, (width, 1), &Device::Cpu)?)?.flatten_all()?.to_vec1()
    };
    let loss_of = |w: &[f64], z: &[f64]| -> f64 {
        let data: f64 = (0..n).map(|i| counted[i] * (softplus(z[i]) - wanted[i] * z[i])).sum();
        data + w.iter().zip(&penalties).map(|(w, p)| 0.5 * p * w * w).sum::<f64>()
    };
    let mut weights = vec![0.0; width];
    let mut z = scores(&weights)?;
    let mut loss = loss_of(&weights, &z);
    for _ in 0..STEPS {
        let p: Vec<f64> = z.iter().map(|z| 1.0 / (1.0 + (-z).exp())).collect();
        let off: Vec<f64> = (0..n).map(|i| counted[i] * (p[i] - wanted[i])).collect();
        let slope: Vec<f64> =
            turned.matmul(&Tensor::from_vec(off, (n, 1), &Device::Cpu)?)?.flatten_all()?.to_vec1()?;
        let gradient: Vec<f64> = (0..width).map(|i| slope[i] + penalties[i] * weights[i]).collect();
        let bend: Vec<f64> = (0..n).map(|i| counted[i] * p[i] * (1.0 - p[i])).collect();
        let bent = x.broadcast_mul(&Tensor::from_vec(bend, (n, 1), &Device::Cpu)?)?;
        let mut curvature = turned.matmul(&bent)?.to_vec2::<f64>()?;
        (0..width).for_each(|i| curvature[i][i] += penalties[i].max(1e-12));
        let step = solved(curvature, gradient);
        let mut share = 1.0;
        loop {
            let next: Vec<f64> = weights.iter().zip(&step).map(|(w, s)| w - share * s).collect();
            let at = scores(&next)?;
            let found = loss_of(&next, &at);
            if found <= loss || share < 1e-6 {
                (weights, z, loss) = (next, at, found);
                break;
            }
            share *= 0.5;
        }
        if step.iter().map(|s| s * s).sum::<f64>().sqrt() < ARRIVED {
            break;
        }
    }
    let bias = weights.pop().unwrap_or(0.0);
    Ok((weights, bias))
}

/// The solution of `a x = b` of a positive definite `a`, by Cholesky's decomposition.
fn solved(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for i in 0..n {
        let (before, rest) = a.split_at_mut(i);
        let row = &mut rest[0];
        for j in 0..i {
            row[j] = (row[j] - dot(&row[..j], &before[j][..j])) / before[j][j];
        }
        row[i] = (row[i] - dot(&row[..i], &row[..i])).max(1e-300).sqrt();
        b[i] = (b[i] - dot(&row[..i], &b[..i])) / row[i];
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|j| a[j][i] * b[j]).sum();
        b[i] = (b[i] - known) / a[i][i];
    }
    b
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `ln(1 + exp z)` without overflow.
fn softplus(z: f64) -> f64 {
    z.max(0.0) + (-z.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: [[f64; 2]; 8] =
        [[1.0, 2.0], [2.0, 1.0], [3.0, 5.0], [4.0, 3.0], [5.0, 8.0], [6.0, 5.0], [7.0, 9.0], [8.0, 7.0]];
    const Y: [f64; 8] = [0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0];

    fn rows() -> Vec<Vec<f64>> {
        X.iter().map(|row| row.to_vec()).collect()
    }

    #[test]
    fn weights_are_where_the_penalised_loss_is_flat() {
        let rows = rows();
        for penalty in [0.1, 1.0, 20.0] {
            let (w, b) = logistic(&rows, &Y, &[1.0; 8], penalty).unwrap();
            let off: Vec<f64> =
                rows.iter().zip(Y).map(|(x, y)| 1.0 / (1.0 + (-(dot(x, &w) + b)).exp()) - y).collect();
            for i in 0..2 {
                let slope: f64 = rows.iter().zip(&off).map(|(x, o)| o * x[i]).sum::<f64>() + penalty * w[i];
                assert!(slope.abs() < 1e-6, "penalty {penalty}: a slope of {slope}");
            }
            let slope = off.iter().sum::<f64>() + OF_BIAS * penalty * b;
            assert!(slope.abs() < 1e-6, "penalty {penalty}: a slope of {slope} of the bias");
        }
    }

    #[test]
    fn a_case_that_counts_twice_is_a_case_that_is_there_twice_and_one_that_counts_nothing_is_none() {
        let (mut rows, mut wanted) = (rows(), Y.to_vec());
        let twice = logistic(&rows, &wanted, &[1.0, 1.0, 2.0, 0.0, 1.0, 1.0, 1.0, 1.0], 0.5).unwrap();
        rows.push(rows[2].clone());
        wanted.push(wanted[2]);
        rows.remove(3);
        wanted.remove(3);
        let there = logistic(&rows, &wanted, &[1.0; 8], 0.5).unwrap();
        assert!(twice.0.iter().zip(&there.0).all(|(a, b)| (a - b).abs() < 1e-8), "{twice:?} {there:?}");
        // Half a positive is a case of either kind that counts half.
        let half = logistic(&[vec![1.0], vec![-1.0]], &[0.5, 0.0], &[1.0; 2], 1.0).unwrap();
        let both = [vec![1.0], vec![1.0], vec![-1.0]];
        let both = logistic(&both, &[1.0, 0.0, 0.0], &[0.5, 0.5, 1.0], 1.0).unwrap();
        assert!((half.0[0] - both.0[0]).abs() < 1e-8);
    }

    #[test]
    fn a_label_without_a_positive_has_a_finite_bias_and_a_larger_penalty_smaller_weights() {
        let none = logistic(&rows(), &[0.0; 8], &[1.0; 8], 1.0).unwrap();
        assert!(none.1.is_finite() && none.1 < -2.0, "{none:?}");
        let length = |penalty: f64| {
            let (w, _) = logistic(&rows(), &Y, &[1.0; 8], penalty).unwrap();
            dot(&w, &w)
        };
        assert!(length(0.1) > length(1.0) && length(1.0) > length(10.0));
    }
}
