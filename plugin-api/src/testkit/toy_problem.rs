//! A toy problem that every head and branch must be able to learn: a direction of its own in the tokens of a finding.

use super::call::targets;
use super::task::Task;
use crate::error::{Error, Result};
use crate::head::ViewFeatures;
use crate::loss::Targets;
use crate::tensor::Tensor;
use std::collections::BTreeMap;

const CASES: usize = 4;
const SLICES: usize = 2;
const GRID: [usize; 2] = [3, 2];
const STEPS: usize = 20;
const RATE: f32 = 5e-3;

struct Case {
    views: Vec<ViewFeatures>,
    targets: Targets,
    /// `[S, H, W]`, of every view.
    mask: Tensor,
}

/// Trains head and branch for some steps on four cases; the adapter, which the tokens do not come through, stays.
pub(crate) fn train(task: &Task) -> Result<String> {
    let cases = (0..CASES).map(|i| case(task, i)).collect::<Result<Vec<_>>>()?;
    let start = task.context().parameters();
    let mut optimiser = Adam::default();
    let mut losses = Vec::new();
    let outcome: Result<()> = (0..=STEPS).try_for_each(|step| {
        let mut total: Option<Tensor> = None;
        for case in &cases {
            let loss = of(task, case)?;
            total = Some(match total {
                Some(sum) => sum.add(&loss)?,
                None => loss,
            });
        }
        let Some(total) = total else { return Ok(()) };
        let mean = total.scale(1.0 / CASES as f64)?;
        losses.push(mean.to_vec()?[0]);
        if step < STEPS {
            optimiser.step(task, &mean)?;
        }
        Ok(())
    });
    for (name, parameter) in &start {
        task.context().set(name, &parameter.values)?;
    }
    outcome?;
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    let told = format!("{first:.4} to {last:.4} in {STEPS} steps on {CASES} toy cases");
    if last.is_finite() && last < 0.95 * first { Ok(told) } else { Err(Error::msg(told)) }
}

fn of(task: &Task, case: &Case) -> Result<Tensor> {
    let n = task.manifest().task.outputs();
    let logits = task.head(&case.views)?.logits.reshape(&[1, n])?;
    let mut loss = task.loss(&logits, &case.targets)?.sum_all()?;
    if task.has_segmentation() {
        for view in &case.views {
            let one = task.segmentation_loss(view, &case.mask)?.sum_all()?;
            loss = loss.add(&one.scale(1.0 / case.views.len() as f64)?)?;
        }
    }
    Ok(loss)
}

/// Noise, and for every finding its direction in one slice's class token and two of its patches.
fn case(task: &Task, i: usize) -> Result<Case> {
    let (context, d, p) = (task.context(), task.backbone().embed_dim, task.backbone().patch_size);
    let targets = targets(task.context(), &task.manifest().task, i)?;
    let (slice, n) = (i % SLICES, GRID[0] * GRID[1]);
    let mut findings = Vec::new();
    for (label, value) in targets.values.to_vec()?.into_iter().enumerate() {
        if value > 0.5 {
            findings.push(context.random(&format!("toy/direction/{label}"), &[d])?.to_vec()?);
        }
    }
    let patches = [i % n, (i + 1) % n];
    let planted = |rows: &Tensor, at: &[usize]| -> Result<Tensor> {
        let (dims, mut values) = (rows.dims()?, rows.scale(0.5)?.to_vec()?);
        for direction in &findings {
            for &row in at {
                values[row * d..(row + 1) * d].iter_mut().zip(direction).for_each(|(v, u)| *v += 1.5 * u);
            }
        }
        context.tensor(&values, &dims)
    };
    let mut views = task.views(SLICES, GRID, &format!("toy/{i}"))?;
    for view in &mut views {
        view.class_tokens = planted(&view.class_tokens, &[slice])?;
        view.patch_tokens = planted(&view.patch_tokens, &patches.map(|at| slice * n + at))?;
    }
    let (rows, columns) = (GRID[0] * p, GRID[1] * p);
    let mut mask = vec![0.0; SLICES * rows * columns];
    for at in patches.iter().filter(|_| !findings.is_empty()) {
        let (top, left) = (at / GRID[1] * p, at % GRID[1] * p);
        for row in top..top + p {
            let from = (slice * rows + row) * columns + left;
            mask[from..from + p].fill(1.0);
        }
    }
    Ok(Case { views, targets, mask: context.tensor(&mask, &[SLICES, rows, columns])? })
}

/// Adam (arXiv 1412.6980) with its usual constants.
#[derive(Default)]
struct Adam {
    moments: BTreeMap<String, Vec<(f32, f32)>>,
    steps: i32,
}

impl Adam {
    fn step(&mut self, task: &Task, loss: &Tensor) -> Result<()> {
        self.steps += 1;
        let gradients = task.context().gradients(loss)?;
        let parameters = task.context().parameters();
        let corrected = |beta: f32| 1.0 - beta.powi(self.steps);
        for (name, gradient) in gradients.iter() {
            let Some(parameter) = parameters.get(name) else { continue };
            let moments =
                self.moments.entry(name.to_owned()).or_insert_with(|| vec![(0.0, 0.0); gradient.len()]);
            let moved = parameter.values.iter().zip(gradient).zip(moments).map(|((v, g), (m, s))| {
                *m = 0.9 * *m + 0.1 * g;
                *s = 0.999 * *s + 0.001 * g * g;
                v - RATE * (*m / corrected(0.9)) / ((*s / corrected(0.999)).sqrt() + 1e-8)
            });
            let moved: Vec<f32> = moved.collect();
            task.context().set(name, &moved)?;
        }
        Ok(())
    }
}
