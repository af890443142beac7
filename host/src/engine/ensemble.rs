//! Several weights of one plugin as one task: the mean of the members' logits, and how far they are apart.

use super::probability::calibrated;
use super::result::{EnsembleSpread, LabelPrediction, ValuePrediction};
use crate::task::{HeadAnswer, LoadedTask};
use anymc3d_manifest::TaskKind;
use candle_core::{Result, Tensor};

/// What the members' heads answered, as one answer. Logits are left out: [`label_predictions`] takes all of them. Weights
/// that only some members tell are dropped.
///
/// # Errors
/// When the members' weights differ in shape.
pub(super) fn combined(mut answers: Vec<HeadAnswer>) -> Result<Option<HeadAnswer>> {
    if answers.len() < 2 {
        return Ok(answers.pop());
    }
    let views = |of: fn(&HeadAnswer) -> &Vec<Tensor>| -> Result<Vec<Tensor>> {
        let shortest = answers.iter().map(|a| of(a).len()).min().unwrap_or(0);
        (0..shortest).map(|i| mean(answers.iter().map(|a| &of(a)[i]))).collect()
    };
    let slice_weights = views(|a| &a.slice_weights)?;
    let patch_weights = views(|a| &a.patch_weights)?;
    let told: Option<Vec<&Tensor>> = answers.iter().map(|a| a.view_weights.as_ref()).collect();
    let view_weights = told.map(|told| mean(told.into_iter())).transpose()?;
    let logits = mean(answers.iter().map(|a| &a.logits))?;
    // The members' vectors are of spaces of their own.
    Ok(Some(HeadAnswer { logits, slice_weights, view_weights, patch_weights, embedding: None }))
}

/// The mean of tensors of one shape; of one the tensor itself.
///
/// # Errors
/// When shapes differ.
pub(super) fn mean<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> Result<Tensor> {
    let all: Vec<&Tensor> = tensors.collect();
    match all[..] {
        [one] => Ok(one.clone()),
        _ => Tensor::stack(&all, 0)?.mean(0),
    }
}

/// The answer to each label, from the logits `[members][outputs]` of the task and its members.
///
/// One member: the logit, its probability by the stored temperature, and the stored threshold. Several: each logit is
/// divided by its member's temperature, then averaged; the threshold is the mean of theirs.
pub(super) fn label_predictions(loaded: &LoadedTask, logits: &[Vec<f64>]) -> Vec<LabelPrediction> {
    let task = &loaded.task.manifest().task;
    let members: Vec<&LoadedTask> = loaded.all().collect();
    let scaled: Vec<Vec<f64>> =
        members.iter().zip(logits).map(|(member, z)| scaled(member, z, members.len() > 1)).collect();
    let outputs = task.outputs();
    let mean = |i: usize| scaled.iter().map(|z| z[i]).sum::<f64>() / scaled.len().max(1) as f64;
    let logits: Vec<f64> = (0..outputs).map(mean).collect();
    let temperatures: Vec<Option<f64>> = match members.len() {
        1 => (0..outputs).map(|i| loaded.temperature(i)).collect(),
        _ => vec![None; outputs],
    };
    let probabilities = calibrated(task.kind, &logits, &temperatures);
    let of_members: Vec<Vec<f64>> =
        scaled.iter().map(|z| calibrated(task.kind, z, &vec![None; outputs])).collect();
    let best = (0..outputs).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
    let (names, several) = (task.output_names(), task.kind == TaskKind::Multiclass);
    (0..outputs)
        .map(|i| {
            let thresholds = members.iter().map(|m| m.threshold(i)).sum::<f64>() / members.len() as f64;
            let threshold = (!several).then_some(thresholds);
            LabelPrediction {
                label: names[i].clone(),
                probability: probabilities[i],
                logit: logits[i],
                temperature: temperatures[i],
                threshold,
                positive: threshold.map_or(best == Some(i), |t| probabilities[i] >= t),
                spread: (members.len() > 1).then(|| spread(i, &scaled, &of_members)),
            }
        })
        .collect()
}

/// The values of an ordinal or regression task, from its outputs' answers; none of other tasks.
pub(super) fn values(loaded: &LoadedTask, predictions: &[LabelPrediction]) -> Vec<ValuePrediction> {
    let task = &loaded.task.manifest().task;
    if !task.kind.has_values() {
        return Vec::new();
    }
    let of = |(label, outputs): (&String, &[LabelPrediction])| {
        let p: Vec<f64> = outputs.iter().map(|o| o.probability).collect();
        ValuePrediction {
            label: label.clone(),
            value: task.value_of(&p),
            level: (task.kind == TaskKind::Ordinal).then(|| task.level_of(&p)),
            range: task.scale(),
        }
    };
    task.labels.iter().zip(predictions.chunks(task.outputs_per_label().max(1))).map(of).collect()
}

/// A member's logits, divided by its temperatures where they are averaged with others'.
fn scaled(member: &LoadedTask, logits: &[f64], several: bool) -> Vec<f64> {
    let temperature = |i: usize| if several { member.temperature(i).unwrap_or(1.0) } else { 1.0 };
    logits.iter().enumerate().map(|(i, z)| z / temperature(i)).collect()
}

fn spread(i: usize, logits: &[Vec<f64>], probabilities: &[Vec<f64>]) -> EnsembleSpread {
    let n = logits.len() as f64;
    let mean = logits.iter().map(|z| z[i]).sum::<f64>() / n;
    let variance = logits.iter().map(|z| (z[i] - mean).powi(2)).sum::<f64>() / n;
    let of = probabilities.iter().map(|p| p[i]);
    EnsembleSpread {
        members: logits.len(),
        logit_std: variance.sqrt(),
        probability: [of.clone().fold(f64::INFINITY, f64::min), of.fold(f64::NEG_INFINITY, f64::max)],
    }
}
