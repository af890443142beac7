//! Checks of a training step: the plugin's own losses, backwards through head, branch, adapter and backbone.

use super::plugin_under_test::{PluginUnderTest, mask_of, noise, random_init};
use super::{Findings, shorten};
use crate::backbone::{Features, SiteAdapter};
use crate::device;
use crate::plugin::{Parameter, ops};
use crate::task::{Task, TaskAdapter, ViewTokens};
use crate::task::{TaskSiteAdapter, as_plugins_see};
use anymc3d_manifest::TaskKind;
use anymc3d_plugin_api::SliceGeometry;
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Slices and rows and columns of patches of a step: the backbone runs whole, so few.
const STEP: (usize, usize, usize) = (3, 4, 4);

pub(super) fn gradients(subject: &mut PluginUnderTest, findings: &mut Findings) -> Result<(), String> {
    let values = subject.values()?;
    let seen = as_plugins_see(subject.backbone.info());
    let task = subject.build_on(&seen, random_init(values), true)?;
    let mut reached: BTreeMap<String, f64> = BTreeMap::new();
    let mut losses = Vec::new();
    for draw in 0..2 {
        let step = step(subject, &task, draw);
        let (loss, gradients) = match step {
            Ok(step) => step,
            Err(e) => {
                findings.compare_runs("a training step", "a loss, and its gradients", Err(e));
                return Ok(());
            }
        };
        losses.push(format!("{loss:.4}"));
        for (name, largest) in gradients {
            let known = reached.entry(name).or_default();
            // A number that is none stays one, whatever comes after it.
            if !known.is_nan() {
                *known = if largest.is_nan() { f64::NAN } else { known.max(largest) };
            }
        }
    }
    let branch = if task.has_segmentation() { "classification and segmentation loss" } else { "loss" };
    findings.compare_runs(format!("{branch} of two cases"), "a finite number", Ok(losses.join(", ")));
    let bad: Vec<String> = reached.iter().filter(|(_, g)| g.is_nan()).map(|(name, _)| name.clone()).collect();
    let outcome =
        if bad.is_empty() { Ok("all of them".to_owned()) } else { Err(format!("not in {}", shorten(&bad))) };
    findings.compare_runs("gradients", "finite", outcome);
    let still: Vec<String> =
        reached.iter().filter(|(_, g)| **g == 0.0).map(|(name, _)| name.clone()).collect();
    let outcome = if still.is_empty() {
        Ok(format!("all {}", reached.len()))
    } else {
        Err(format!("{} of {} get none: {}", still.len(), reached.len(), shorten(&still)))
    };
    findings.compare_runs("parameters that a gradient reaches", "every one of them", outcome);
    Ok(())
}

/// Loss of a case, and the largest gradient of every parameter (NaN where one is not finite).
fn step(subject: &PluginUnderTest, task: &Task, draw: u64) -> Result<(f64, Vec<(String, f64)>), String> {
    let of_tensor = |e: candle_core::Error| device::one_line(&e);
    let (slices, rows, columns) = STEP;
    let patch = subject.backbone.info().patch_size;
    let (h, w) = (rows * patch, columns * patch);
    let manifest = task.manifest();
    let mut features: Vec<Features> = Vec::new();
    for (i, adapter) in task.adapters().iter().enumerate() {
        let pixels = noise(slices * 3 * h * w, 100 * draw + i as u64 + 1);
        let pixels = Tensor::from_vec(pixels, (slices, 3, h, w), &Device::Cpu).map_err(of_tensor)?;
        features.push(through(subject, adapter, &pixels)?);
    }
    let views: Vec<ViewTokens<'_>> = manifest
        .views
        .iter()
        .zip(&features)
        .map(|(v, f)| ViewTokens {
            name: &v.name,
            class_tokens: &f.class_tokens,
            patch_tokens: &f.patch_tokens,
            grid: f.grid,
            geometry: Some(Arc::new(SliceGeometry::evenly_spaced(slices, [5.0, 14.0, 14.0]))),
            mask: mask_of(v, slices, rows * columns),
        })
        .collect();
    let logits = task.head(&views).map_err(|e| e.to_string())?.logits;
    let mut total = classification(task, &logits.unsqueeze(0).map_err(of_tensor)?)?;
    if task.has_segmentation() {
        for view in &views {
            // Half of the image is inside.
            let mask: Vec<f32> = (0..slices * h * w).map(|i| f32::from(u8::from(i % w < w / 2))).collect();
            let mask = Tensor::from_vec(mask, (slices, h, w), &Device::Cpu).map_err(of_tensor)?;
            let loss = task.segmentation_loss(view, &mask).map_err(|e| e.to_string())?;
            total = (total + one_number(loss, "the segmentation loss")?).map_err(of_tensor)?;
        }
    }
    let value = total.to_dtype(DType::F64).and_then(|t| t.to_scalar::<f64>()).map_err(of_tensor)?;
    if !value.is_finite() {
        return Err(format!("a loss of {value}"));
    }
    let gradients = total.backward().map_err(of_tensor)?;
    let largest = |parameter: &Parameter| -> Result<f64, String> {
        let Parameter::Trained(var) = parameter else { return Ok(0.0) };
        let Some(gradient) = gradients.get(var) else { return Ok(0.0) };
        let values = ops::read(gradient).map_err(of_tensor)?;
        Ok(values
            .iter()
            .fold(0.0f64, |m, v| if v.is_finite() { m.max(f64::from(v.abs())) } else { f64::NAN }))
    };
    let all = task.parameters();
    let gradients =
        all.iter().map(|(name, p)| Ok((name.clone(), largest(p)?))).collect::<Result<_, String>>()?;
    Ok((value, gradients))
}

fn through(subject: &PluginUnderTest, adapter: &TaskAdapter, pixels: &Tensor) -> Result<Features, String> {
    let adapted = TaskSiteAdapter::new(adapter);
    let frozen = matches!(adapter, TaskAdapter::None | TaskAdapter::Cut(_));
    let features = subject.backbone.forward(pixels, &adapted, false).map_err(|e| e.to_string())?;
    let tracked = features.class_tokens.track_op();
    if !frozen && adapted.first_block() < subject.backbone.info().blocks && !tracked {
        return Err(
            "the adapter changes nothing that training could learn: its tokens have no gradient".to_owned()
        );
    }
    Ok(features)
}

/// The loss where everything is positive and where nothing is, or of each class.
fn classification(task: &Task, logits: &Tensor) -> Result<Tensor, String> {
    let of_tensor = |e: candle_core::Error| device::one_line(&e);
    let about = &task.manifest().task;
    let n = about.outputs();
    let targets: Vec<Vec<f32>> = match about.kind {
        TaskKind::Multiclass => {
            (0..n).map(|c| (0..n).map(|i| f32::from(u8::from(i == c))).collect()).collect()
        }
        _ => vec![vec![0.0; n], vec![1.0; n]],
    };
    let known = Tensor::ones((1, n), DType::F32, &Device::Cpu).map_err(of_tensor)?;
    let mut total: Option<Tensor> = None;
    for (i, target) in targets.into_iter().enumerate() {
        let target = Tensor::from_vec(target, (1, n), &Device::Cpu).map_err(of_tensor)?;
        let loss = task.loss(logits, &target, &known).map_err(|e| e.to_string())?;
        // Unequal shares: where the loss is symmetric, equal ones would cancel.
        let loss = (one_number(loss, "the loss")? * (1.0 + i as f64)).map_err(of_tensor)?;
        total = Some(match total {
            Some(sum) => (sum + loss).map_err(of_tensor)?,
            None => loss,
        });
    }
    total.ok_or_else(|| "the task has no outputs".to_owned())
}

fn one_number(loss: Tensor, what: &str) -> Result<Tensor, String> {
    if loss.elem_count() != 1 {
        return Err(format!("{what} has shape {:?}, expected one number", loss.dims()));
    }
    loss.reshape(()).map_err(|e| device::one_line(&e))
}
