//! AdamW with the paper's two groups: the adapter, and everything else.

use super::options::TrainOptions;
use crate::plugin::Parameter;
use candle_core::backprop::GradStore;
use candle_core::{DType, Error, Result, Tensor, Var};
use std::collections::BTreeMap;

/// Decay rates of the two moments, and what keeps the step finite: PyTorch's defaults.
const BETAS: (f64, f64) = (0.9, 0.999);
const EPSILON: f64 = 1e-8;

/// Parameters below it are measured (`standardise.rs`) and changed by no step of the optimiser.
pub(super) const SCALARS: &str = "scalars.";

/// Where AdamW stands with one variable.
#[derive(Debug, Clone)]
pub struct Moments {
    /// Running mean of the gradient, of the variable's shape.
    pub first: Tensor,
    /// Running mean of its square.
    pub second: Tensor,
    /// Steps this variable took; one without a gradient takes none.
    pub steps: usize,
}

/// One trained variable: its peak learning rate, its weight decay, its moments.
#[derive(Debug)]
struct Slot {
    name: String,
    variable: Var,
    rate: f64,
    decay: f64,
    moments: Option<Moments>,
}

/// AdamW (Loshchilov and Hutter 2019) as PyTorch computes it: decay first, then the bias-corrected step.
///
/// Its moments can be taken out and put back, so that a run that was interrupted goes on as if it never was.
#[derive(Debug, Default)]
pub struct AdamW {
    slots: Vec<Slot>,
}

impl AdamW {
    /// The trained parameters of a task in the paper's two groups: names that start with `adapter.`, and the others.
    pub fn of(parameters: &BTreeMap<String, Parameter>, options: &TrainOptions) -> Self {
        let mut optimiser = Self::default();
        for (name, parameter) in parameters {
            if let Parameter::Trained(variable) = parameter {
                let (rate, decay) = if name.starts_with(SCALARS) {
                    // Measured, not trained; among the variables, so that a resumed run has them.
                    (0.0, 0.0)
                } else if name.starts_with("adapter.") {
                    (options.lr, options.weight_decay)
                } else {
                    (options.head_lr, options.head_weight_decay)
                };
                optimiser.add(name, variable.clone(), rate, decay);
            }
        }
        optimiser
    }

    /// Another variable, with its peak learning rate and weight decay.
    pub fn add(&mut self, name: &str, variable: Var, rate: f64, decay: f64) {
        self.slots.push(Slot { name: name.to_owned(), variable, rate, decay, moments: None });
    }

    /// One step with the rates at `factor` of their peak. Variables without a gradient stay as they are.
    ///
    /// # Errors
    /// When a gradient is not of its variable's shape.
    pub fn step(&mut self, gradients: &GradStore, factor: f64) -> Result<()> {
        for slot in &mut self.slots {
            let Some(g) = gradients.get(&slot.variable).map(Tensor::detach) else { continue };
            let (m, v, steps) = match slot.moments.take() {
                Some(kept) => (kept.first, kept.second, kept.steps + 1),
                None => (g.zeros_like()?, g.zeros_like()?, 1),
            };
            let m = ((m * BETAS.0)? + (&g * (1.0 - BETAS.0))?)?;
            let v = ((v * BETAS.1)? + (g.sqr()? * (1.0 - BETAS.1))?)?;
            let power = i32::try_from(steps).unwrap_or(i32::MAX);
            let (c1, c2) = (1.0 - BETAS.0.powi(power), 1.0 - BETAS.1.powi(power));
            let change = ((&m / c1)? / ((&v / c2)?.sqrt()? + EPSILON)?)?;
            let rate = slot.rate * factor;
            let kept = (slot.variable.as_tensor() * (1.0 - rate * slot.decay))?;
            slot.variable.set(&(kept - (change * rate)?)?)?;
            slot.moments = Some(Moments { first: m, second: v, steps });
        }
        Ok(())
    }

    /// Adds `more` to `sum`, or starts it; of the later ones only the variables' own gradients are kept.
    ///
    /// A gradient that candle computes is itself an operation on activations (that of a factor is a product with the
    /// other), and would hold the case's whole graph. They are detached here, so that a case's memory goes with it.
    ///
    /// # Errors
    /// When two gradients of one variable differ in shape.
    pub fn accumulate(&self, sum: &mut Option<GradStore>, mut more: GradStore) -> Result<()> {
        for Slot { variable, .. } in &self.slots {
            let Some(gradient) = more.get(variable).map(Tensor::detach) else { continue };
            match sum {
                None => {
                    more.insert(variable, gradient);
                }
                Some(sum) => {
                    let total = match sum.get(variable) {
                        Some(before) => (before + gradient)?,
                        None => gradient,
                    };
                    sum.insert(variable, total);
                }
            }
        }
        sum.get_or_insert(more);
        Ok(())
    }

    /// Length of all gradients together: the square root of the sum of their squares. NaN or infinite where any is.
    ///
    /// # Errors
    /// When a gradient is not a float.
    pub fn norm(&self, gradients: &GradStore) -> Result<f64> {
        let mut sum: Option<Tensor> = None;
        for Slot { variable, .. } in &self.slots {
            if let Some(g) = gradients.get(variable) {
                let squares = g.to_dtype(DType::F64)?.sqr()?.sum_all()?;
                sum = Some(sum.map_or(Ok(squares.clone()), |sum| sum + squares)?);
            }
        }
        // Read once: a GPU is waited for at every reading.
        sum.map_or(Ok(0.0), |sum| Ok(sum.to_scalar::<f64>()?.sqrt()))
    }

    /// Scales all gradients so that their length together is at most `most` (Pascanu 2013); `norm` is that length.
    ///
    /// # Errors
    /// When a gradient cannot be scaled.
    pub fn clip(&self, gradients: &mut GradStore, norm: f64, most: f64) -> Result<()> {
        if norm <= most {
            return Ok(());
        }
        let factor = most / (norm + 1e-6);
        for Slot { variable, .. } in &self.slots {
            if let Some(g) = gradients.get(variable) {
                let scaled = (g * factor)?;
                gradients.insert(variable, scaled);
            }
        }
        Ok(())
    }

    /// Values and moments by variable; moments are `None` before a variable's first step.
    pub fn state(&self) -> impl Iterator<Item = (&str, &Tensor, Option<&Moments>)> {
        self.slots.iter().map(|s| (s.name.as_str(), s.variable.as_tensor(), s.moments.as_ref()))
    }

    /// Puts back what [`Self::state`] gave for a variable, from wherever it was read to.
    ///
    /// # Errors
    /// When there is no such variable, or shapes differ.
    pub fn restore(&mut self, name: &str, value: &Tensor, moments: Option<Moments>) -> Result<()> {
        let slot = self.slots.iter_mut().find(|s| s.name == name);
        let slot = slot.ok_or_else(|| Error::Msg(format!("no parameter `{name}`")))?;
        let dims = slot.variable.dims();
        let fits = |t: &Tensor| t.dims() == dims;
        if !(fits(value) && moments.as_ref().is_none_or(|m| fits(&m.first) && fits(&m.second))) {
            return Err(Error::Msg(format!("`{name}` has shape {:?}, expected {dims:?}", value.dims())));
        }
        let device = slot.variable.device().clone();
        slot.variable.set(&value.to_device(&device)?)?;
        let on_device = |m: Moments| {
            let (first, second) = (m.first.to_device(&device)?, m.second.to_device(&device)?);
            Ok::<_, Error>(Moments { first, second, steps: m.steps })
        };
        slot.moments = moments.map(on_device).transpose()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::AdamW;
    use candle_core::{Device, Result, Tensor, Var};

    fn one(start: f64) -> Result<(AdamW, Var)> {
        let variable = Var::from_tensor(&Tensor::new(&[start], &Device::Cpu)?)?;
        let mut optimiser = AdamW::default();
        optimiser.add("x", variable.clone(), 0.1, 0.0);
        Ok((optimiser, variable))
    }

    /// d/dx of `scale * x`, twice, is `scale`.
    fn gradient(variable: &Var, scale: f64) -> Result<candle_core::backprop::GradStore> {
        (variable.as_tensor() * scale)?.sum_all()?.backward()
    }

    #[test]
    fn a_first_step_has_the_length_of_the_learning_rate_whatever_the_gradient() -> Result<()> {
        for scale in [1e-3, 1.0, 1e3] {
            let (mut optimiser, x) = one(5.0)?;
            optimiser.step(&gradient(&x, scale)?, 1.0)?;
            let moved = 5.0 - x.to_vec1::<f64>()?[0];
            assert!((moved - 0.1).abs() < 1e-5, "{moved}");
        }
        Ok(())
    }

    #[test]
    fn neither_sums_of_gradients_nor_moments_hold_the_graph_that_they_came_from() -> Result<()> {
        let (mut optimiser, x) = one(2.0)?;
        let activations = Var::new(&[3.0], &Device::Cpu)?;
        let product = || (x.as_tensor() * (activations.as_tensor() * 5.0)?)?.sum_all()?.backward();
        assert!(product()?.get(&x).is_some_and(Tensor::track_op), "candle detaches gradients by itself now");
        let mut sum = None;
        for expected in [15.0, 30.0] {
            optimiser.accumulate(&mut sum, product()?)?;
            let total = sum.as_ref().and_then(|s| s.get(&x)).cloned().expect("a gradient");
            assert!(!total.track_op());
            assert_eq!(total.to_vec1::<f64>()?, [expected]);
        }
        // Whatever way a gradient came.
        for gradients in [sum.expect("a sum"), product()?] {
            optimiser.step(&gradients, 1.0)?;
            let (_, _, moments) = optimiser.state().next().expect("a variable");
            assert!(moments.is_some_and(|m| !m.first.track_op() && !m.second.track_op()));
        }
        Ok(())
    }

    #[test]
    fn an_optimiser_that_is_put_back_goes_on_as_if_it_never_stopped() -> Result<()> {
        let (mut whole, x) = one(1.0)?;
        for i in 0..6 {
            whole.step(&gradient(&x, 1.0 + f64::from(i))?, 0.5)?;
        }
        let (mut first, y) = one(1.0)?;
        for i in 0..3 {
            first.step(&gradient(&y, 1.0 + f64::from(i))?, 0.5)?;
        }
        let (mut second, z) = one(0.0)?;
        for (name, value, moments) in first.state() {
            second.restore(name, value, moments.cloned())?;
        }
        for i in 3..6 {
            second.step(&gradient(&z, 1.0 + f64::from(i))?, 0.5)?;
        }
        assert_eq!(x.to_vec1::<f64>()?, z.to_vec1::<f64>()?);
        assert!(second.restore("y", x.as_tensor(), None).is_err());
        Ok(())
    }

    #[test]
    fn clipping_shortens_long_gradients_and_leaves_short_ones() -> Result<()> {
        let (optimiser, x) = one(1.0)?;
        for (scale, expected) in [(10.0, 2.0), (1.0, 1.0)] {
            let mut g = gradient(&x, scale)?;
            let norm = optimiser.norm(&g)?;
            assert!((norm - scale).abs() < 1e-12);
            optimiser.clip(&mut g, norm, 2.0)?;
            assert!((optimiser.norm(&g)? - expected).abs() < 1e-5);
        }
        Ok(())
    }
}
