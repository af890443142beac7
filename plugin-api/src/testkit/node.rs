//! Numbers and where they came from: a tensor as a node of the graph that a backward pass walks.

use crate::abi::types::ErrorCode;
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// A tensor: row-major f32 values, and how a gradient passes through what made it.
pub(crate) type Node = Arc<Inner>;

/// The values of a node at one time.
pub(crate) type Values = Arc<Vec<f32>>;

/// From the gradient of a result to those of its inputs, in their order.
type Back = Box<dyn Fn(&[f32]) -> Vec<Vec<f32>> + Send + Sync>;

pub(crate) struct Inner {
    pub dims: Vec<usize>,
    /// Behind a lock because a step of training changes a parameter under every handle to it.
    values: RwLock<Values>,
    from: From,
}

enum From {
    /// Nothing before it wants a gradient.
    Constant,
    /// A parameter, or an input whose gradient was asked for.
    Leaf,
    Operation {
        inputs: Vec<Node>,
        back: Back,
    },
    /// An operation that has no gradient, on the way of one.
    Refusal {
        operation: &'static str,
        inputs: Vec<Node>,
    },
}

/// Number of elements of a shape.
pub(crate) fn count(dims: &[usize]) -> usize {
    dims.iter().product()
}

/// An error of what an operation was given.
pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::INVALID, message)
}

/// An absurd shape is an error; tried, it would be an allocation that ends the test. The real host's bound.
pub(crate) fn affordable(dims: &[usize]) -> Result<()> {
    match dims.iter().try_fold(8usize, |n, &d| n.checked_mul(d)) {
        Some(bytes) if bytes <= 1 << 36 => Ok(()),
        _ => Err(invalid(format!("a tensor of shape {dims:?} is too large"))),
    }
}

impl Inner {
    fn new(dims: Vec<usize>, values: Values, from: From) -> Node {
        debug_assert_eq!(count(&dims), values.len());
        Arc::new(Self { dims, values: RwLock::new(values), from })
    }

    /// Without a gradient.
    pub fn constant(dims: Vec<usize>, values: impl Into<Values>) -> Node {
        Self::new(dims, values.into(), From::Constant)
    }

    /// Something a gradient is wanted of.
    pub fn leaf(dims: Vec<usize>, values: impl Into<Values>) -> Node {
        Self::new(dims, values.into(), From::Leaf)
    }

    /// The result of an operation. `back` answers a gradient for each input, also for those that want none.
    pub fn made(
        dims: Vec<usize>,
        values: impl Into<Values>,
        inputs: &[&Node],
        back: impl Fn(&[f32]) -> Vec<Vec<f32>> + Send + Sync + 'static,
    ) -> Node {
        if !inputs.iter().any(|x| x.tracked()) {
            return Self::constant(dims, values);
        }
        let inputs = inputs.iter().map(|&x| x.clone()).collect();
        Self::new(dims, values.into(), From::Operation { inputs, back: Box::new(back) })
    }

    /// The result of an operation without a gradient: a backward pass that comes here is an error.
    pub fn refusing(
        operation: &'static str,
        dims: Vec<usize>,
        values: impl Into<Values>,
        inputs: &[&Node],
    ) -> Node {
        if !inputs.iter().any(|x| x.tracked()) {
            return Self::constant(dims, values);
        }
        let inputs = inputs.iter().map(|&x| x.clone()).collect();
        Self::new(dims, values.into(), From::Refusal { operation, inputs })
    }

    /// Its values as they are now.
    pub fn values(&self) -> Values {
        self.values.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Other values for a leaf.
    pub fn set(&self, values: Vec<f32>) {
        *self.values.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(values);
    }

    /// Whether a gradient is wanted of it or of anything before it.
    pub fn tracked(&self) -> bool {
        !matches!(self.from, From::Constant)
    }

    fn inputs(&self) -> &[Node] {
        match &self.from {
            From::Constant | From::Leaf => &[],
            From::Operation { inputs, .. } | From::Refusal { inputs, .. } => inputs,
        }
    }
}

/// What tells one node from another.
pub(crate) fn key(node: &Node) -> usize {
    Arc::as_ptr(node).addr()
}

/// The gradient of `Σ seed · node` by every leaf before it, by [`key`].
///
/// # Errors
/// When the gradient would pass through an operation without a gradient.
pub(crate) fn backward(node: &Node, seed: Vec<f32>) -> Result<HashMap<usize, Vec<f32>>> {
    let (mut gradients, mut leaves) = (HashMap::from([(key(node), seed)]), HashMap::new());
    // From the result to the inputs: whoever is walked over has had all of its gradient.
    for node in order(node).iter().rev() {
        let Some(gradient) = gradients.remove(&key(node)) else { continue };
        match &node.from {
            From::Constant => {}
            From::Leaf => {
                leaves.insert(key(node), gradient);
            }
            From::Refusal { operation, .. } => {
                let message = format!("op `{operation}` has no gradient; detach its result if none is meant");
                return Err(Error::new(ErrorCode::NO_GRADIENT, message));
            }
            From::Operation { inputs, back } => {
                for (input, gradient) in inputs.iter().zip(back(&gradient)) {
                    if !input.tracked() {
                        continue;
                    }
                    match gradients.get_mut(&key(input)) {
                        Some(sum) => sum.iter_mut().zip(&gradient).for_each(|(s, g)| *s += g),
                        None => {
                            gradients.insert(key(input), gradient);
                        }
                    }
                }
            }
        }
    }
    Ok(leaves)
}

/// Every tracked node before `node` and itself, inputs before what was made of them.
fn order(node: &Node) -> Vec<&Node> {
    let (mut order, mut seen) = (Vec::new(), std::collections::HashSet::new());
    let mut stack = vec![(node, false)];
    while let Some((node, done)) = stack.pop() {
        if done {
            order.push(node);
        } else if node.tracked() && seen.insert(key(node)) {
            stack.push((node, true));
            stack.extend(node.inputs().iter().map(|x| (x, false)));
        }
    }
    order
}
