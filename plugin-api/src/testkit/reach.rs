//! Whether a gradient of the losses reaches every parameter, adapter included.

use super::call::targets;
use super::random::Random;
use super::task::Task;
use crate::error::{Error, Result};

/// Looked at away from the initialisation, through the stand-in for the backbone.
pub(crate) fn gradients(task: &Task) -> Result<String> {
    // Away from the initialisation: what starts at zero hides what it is multiplied with.
    let start = task.context().parameters();
    let mut random = Random::named(11, "away");
    for (name, parameter) in &start {
        let moved: Vec<f32> = parameter.values.iter().map(|v| v + 0.02 * random.normal() as f32).collect();
        task.context().set(name, &moved)?;
    }
    let found = reached(task);
    for (name, parameter) in &start {
        task.context().set(name, &parameter.values)?;
    }
    found
}

fn reached(task: &Task) -> Result<String> {
    let views = task.through_backbone(2, [2, 2], "gradients")?;
    let logits = task.head(&views)?.logits;
    let n = task.manifest().task.outputs();
    let mut total = logits.mul(&task.context().random("weights", &[n])?)?.sum_all()?;
    let row = logits.reshape(&[1, n])?;
    for positive in 0..2 {
        total = total
            .add(&task.loss(&row, &targets(task.context(), &task.manifest().task, positive)?)?.sum_all()?)?;
    }
    if task.has_segmentation() {
        let p = task.backbone().patch_size;
        let mut random = Random::named(13, "mask");
        let mask: Vec<f32> =
            (0..2 * 4 * p * p).map(|_| f32::from(u8::from(random.uniform() < 0.3))).collect();
        let mask = task.context().tensor(&mask, &[2, 2 * p, 2 * p])?;
        for view in &views {
            total = total.add(&task.segmentation_loss(view, &mask)?.sum_all()?)?;
        }
    }
    let gradients = task.context().gradients(&total)?;
    let parameters = task.context().parameters();
    let mut wrong = Vec::new();
    for name in parameters.keys() {
        match gradients.get(name) {
            None => wrong.push(format!("`{name}`: none")),
            Some(g) if g.iter().any(|g| !g.is_finite()) => wrong.push(format!("`{name}`: not finite")),
            Some(g) if g.iter().all(|g| *g == 0.0) => wrong.push(format!("`{name}`: zero everywhere")),
            Some(_) => {}
        }
    }
    match wrong.is_empty() {
        true => Ok(format!("{} of {}", parameters.len(), parameters.len())),
        false => Err(Error::msg(wrong.join("; "))),
    }
}
