//! AdamW with the paper's two groups: the adapter, and everything else.

use super::options::TrainOptions;
use crate::plugin::Parameter;
use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use std::collections::BTreeMap;

/// Two groups of variables with a rate and a decay each.
pub struct Groups {
    adapter: AdamW,
    head: AdamW,
    lr: (f64, f64),
    variables: Vec<Var>,
}

impl Groups {
    /// Parameters whose name starts with `adapter.` form the first group.
    pub fn new(parameters: &BTreeMap<String, Parameter>, options: &TrainOptions) -> Result<Self> {
        let (mut adapter, mut head) = (Vec::new(), Vec::new());
        for (name, parameter) in parameters {
            if let Parameter::Trained(var) = parameter {
                let group = if name.starts_with("adapter.") { &mut adapter } else { &mut head };
                group.push(var.clone());
            }
        }
        let variables = adapter.iter().chain(&head).cloned().collect();
        let settings = |lr, weight_decay| ParamsAdamW { lr, weight_decay, ..ParamsAdamW::default() };
        Ok(Self {
            adapter: AdamW::new(adapter, settings(options.lr, options.weight_decay))?,
            head: AdamW::new(head, settings(options.head_lr, options.head_weight_decay))?,
            lr: (options.lr, options.head_lr),
            variables,
        })
    }

    /// One step with the rates at `factor` of their peak.
    pub fn step(&mut self, gradients: &GradStore, factor: f64) -> Result<()> {
        self.adapter.set_learning_rate(self.lr.0 * factor);
        self.head.set_learning_rate(self.lr.1 * factor);
        self.adapter.step(gradients)?;
        self.head.step(gradients)
    }

    /// Adds `more` to `sum`, or starts it; only the variables' own gradients are kept.
    pub fn accumulate(&self, sum: &mut Option<GradStore>, more: GradStore) -> Result<()> {
        match sum {
            None => *sum = Some(more),
            Some(sum) => {
                for var in &self.variables {
                    let Some(gradient) = more.get(var) else { continue };
                    let total: Tensor = match sum.get(var) {
                        Some(before) => (before + gradient)?,
                        None => gradient.clone(),
                    };
                    sum.insert(var, total);
                }
            }
        }
        Ok(())
    }

    /// Whether every gradient is a number.
    pub fn finite(&self, gradients: &GradStore) -> Result<bool> {
        for var in &self.variables {
            if let Some(g) = gradients.get(var)
                && !g.abs()?.sum_all()?.to_scalar::<f32>()?.is_finite()
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
