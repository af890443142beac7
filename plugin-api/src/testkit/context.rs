//! A task's place in the test host, as a test has it.

use super::node::{self, Inner, Node, affordable, count, key};
use super::random::Random;
use super::state::{Lent, State, lock};
use super::table::host_ops;
use crate::abi::types::{ContextId, ErrorCode};
use crate::error::{Error, Result};
use crate::geometry::SliceGeometry;
use crate::tensor::{Host, Tensor};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A parameter as it is now.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Parameter {
    /// Shape.
    pub dims: Vec<usize>,
    /// Row-major elements.
    pub values: Vec<f32>,
}

/// A separate context in the test host: tensors, parameters, gradients, log.
///
/// ```
/// use anymc3d_plugin_api::testkit::Context;
/// # fn main() -> anymc3d_plugin_api::Result<()> {
/// let context = Context::new(1);
/// let x = context.variable(&[1.0, 2.0, 3.0], &[3])?;
/// let loss = x.square()?.sum_all()?;
/// assert_eq!(context.gradients(&loss)?.of(&x), Some(vec![2.0, 4.0, 6.0]));
/// # Ok(())
/// # }
/// ```
pub struct Context {
    id: ContextId,
    state: Arc<State>,
}

impl Context {
    /// A new one. Parameters are drawn from `seed` and their own name.
    pub fn new(seed: u64) -> Self {
        let (id, state) = State::create(seed);
        Self { id, state }
    }

    /// What plugins address this place by.
    pub fn id(&self) -> ContextId {
        self.id
    }

    /// The operation table with this place, as a plugin is given it.
    pub fn host(&self) -> Host {
        Host::new(host_ops(), self.id)
    }

    /// A tensor from row-major elements, without a gradient.
    ///
    /// # Errors
    /// When the number of elements is not the product of `dims`.
    pub fn tensor(&self, elements: &[f32], dims: &[usize]) -> Result<Tensor> {
        self.host().tensor(elements, dims)
    }

    /// As [`Self::tensor`], for an input whose gradient [`Self::gradients`] returns.
    ///
    /// # Errors
    /// When the number of elements is not the product of `dims`.
    pub fn variable(&self, elements: &[f32], dims: &[usize]) -> Result<Tensor> {
        let plain = self.tensor(elements, dims)?;
        let node = self.state.get(plain.handle())?;
        let leaf = Inner::leaf(dims.to_vec(), node.values());
        Ok(self.host().adopt(self.state.put(leaf)))
    }

    /// Standard normal numbers, the same for the same `name` and seed.
    ///
    /// # Errors
    /// When the shape is absurd.
    pub fn random(&self, name: &str, dims: &[usize]) -> Result<Tensor> {
        affordable(dims)?;
        let mut random = Random::named(self.state.seed ^ 0x7465_7374, name);
        let values: Vec<f32> = (0..count(dims)).map(|_| random.normal() as f32).collect();
        self.tensor(&values, dims)
    }

    /// The gradients of a loss by every parameter and variable before it.
    ///
    /// # Errors
    /// When `loss` is not a single number or is stale, or when its graph has an operation without a gradient.
    pub fn gradients(&self, loss: &Tensor) -> Result<Gradients> {
        let node = self.state.get(loss.handle())?;
        if count(&node.dims) != 1 {
            return Err(node::invalid(format!("a loss of shape {:?}, expected one number", node.dims)));
        }
        let by_leaf = node::backward(&node, vec![1.0])?;
        let named = lock(&self.state.parameters);
        let named = named.iter().filter_map(|(name, p)| Some((name.clone(), by_leaf.get(&key(p))?.clone())));
        Ok(Gradients { named: named.collect(), by_leaf, state: self.state.clone() })
    }

    /// Every parameter that was asked for, by name.
    pub fn parameters(&self) -> BTreeMap<String, Parameter> {
        let seen = |p: &Node| Parameter { dims: p.dims.clone(), values: p.values().to_vec() };
        lock(&self.state.parameters).iter().map(|(name, p)| (name.clone(), seen(p))).collect()
    }

    /// Other values for a parameter, under every handle to it.
    ///
    /// # Errors
    /// When there is no such parameter, or it has another number of elements.
    pub fn set(&self, name: &str, values: &[f32]) -> Result<()> {
        let parameters = lock(&self.state.parameters);
        let p = parameters.get(name).ok_or_else(|| {
            Error::new(ErrorCode::PARAMETER, format!("no parameter `{name}` was asked for"))
        })?;
        if count(&p.dims) != values.len() {
            let message = format!("parameter `{name}` is {:?}, given {} numbers", p.dims, values.len());
            return Err(Error::new(ErrorCode::PARAMETER, message));
        }
        p.set(values.to_vec());
        Ok(())
    }

    pub(crate) fn lend(&self, geometry: &SliceGeometry) -> Lent {
        self.state.lend(geometry)
    }

    /// Handles that have not been given back.
    pub fn live_handles(&self) -> usize {
        self.state.live()
    }

    /// What was logged so far, each line with its level, for example `warning: no mask`.
    pub fn log_lines(&self) -> Vec<String> {
        lock(&self.state.log).clone()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        State::forget(self.id);
    }
}

/// What [`Context::gradients`] found.
pub struct Gradients {
    named: BTreeMap<String, Vec<f32>>,
    by_leaf: HashMap<usize, Vec<f32>>,
    state: Arc<State>,
}

impl Gradients {
    /// By a parameter, row-major; `None` where the loss does not depend on it.
    pub fn get(&self, parameter: &str) -> Option<&[f32]> {
        self.named.get(parameter).map(Vec::as_slice)
    }

    /// By a variable; `None` where the loss does not depend on it.
    pub fn of(&self, variable: &Tensor) -> Option<Vec<f32>> {
        let node = self.state.get(variable.handle()).ok()?;
        self.by_leaf.get(&key(&node)).cloned()
    }

    /// All parameters that the loss depends on.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[f32])> {
        self.named.iter().map(|(name, g)| (name.as_str(), g.as_slice()))
    }
}
