//! The test host's operations, behind the same table that a real host hands to a plugin.

use super::node::{Inner, Node, affordable, count};
use super::state::State;
use super::{elementwise, reduce as reductions, shape, volumes};
use crate::abi::ops::{self, Ops};
use crate::abi::table::HostOps_Ref;
use crate::abi::types::*;
use crate::error::Result;
use crate::geometry::SliceGeometry;
use std::ops::Deref;
use std::sync::Arc;

/// The table of the test host.
pub(crate) const fn host_ops() -> HostOps_Ref {
    ops::host_ops::<State>()
}

impl Ops for State {
    type Tensor = Node;
    type Held = Arc<Self>;

    fn find(context: ContextId) -> Result<Arc<Self>> {
        Self::find(context)
    }
    fn put(&self, node: Node) -> Handle {
        self.put(node)
    }
    fn get(&self, handle: Handle) -> Result<Node> {
        self.get(handle)
    }
    fn take(&self, handle: Handle) -> Result<Node> {
        self.take(handle)
    }
    fn dims(&self, x: &Node) -> Vec<usize> {
        x.dims.clone()
    }
    fn read(&self, x: &Node) -> Result<Vec<f32>> {
        Ok(x.values().to_vec())
    }
    fn create(&self, elements: &[f32], dims: &[usize]) -> Result<Node> {
        Ok(Inner::constant(dims.to_vec(), elements.to_vec()))
    }
    fn full(&self, value: f64, dims: &[usize]) -> Result<Node> {
        affordable(dims)?;
        Ok(Inner::constant(dims.to_vec(), vec![value as f32; count(dims)]))
    }
    fn parameter(&self, name: &str, dims: &[usize], init: InitSpec) -> Result<Node> {
        self.parameter(name, dims, init)
    }
    fn detach(&self, x: &Node) -> Result<Node> {
        Ok(Inner::constant(x.dims.clone(), x.values()))
    }
    fn unary(&self, op: UnaryOp, x: &Node) -> Result<Node> {
        elementwise::unary(op, x)
    }
    fn affine(&self, x: &Node, mul: f64, add: f64) -> Result<Node> {
        Ok(elementwise::affine(x, mul, add))
    }
    fn power(&self, x: &Node, exponent: f64) -> Result<Node> {
        Ok(elementwise::power(x, exponent))
    }
    fn clamp(&self, x: &Node, low: f64, high: f64) -> Result<Node> {
        elementwise::clamp(x, low, high)
    }
    fn binary(&self, op: BinaryOp, a: &Node, b: &Node) -> Result<Node> {
        elementwise::binary(op, a, b)
    }
    fn matmul(&self, a: &Node, b: &Node) -> Result<Node> {
        shape::matmul(a, b)
    }
    fn reduce(&self, op: ReduceOp, x: &Node, axis: usize) -> Result<Node> {
        reductions::reduce(op, x, axis)
    }
    fn softmax(&self, x: &Node, axis: usize) -> Result<Node> {
        reductions::softmax(x, axis)
    }
    fn log_softmax(&self, x: &Node, axis: usize) -> Result<Node> {
        reductions::log_softmax(x, axis)
    }
    fn layer_norm(&self, x: &Node, weight: &Node, bias: &Node, epsilon: f64) -> Result<Node> {
        reductions::layer_norm(x, weight, bias, epsilon)
    }
    fn reshape(&self, x: &Node, dims: &[usize]) -> Result<Node> {
        shape::reshape(x, dims)
    }
    fn permute(&self, x: &Node, axes: &[usize]) -> Result<Node> {
        shape::permute(x, axes)
    }
    fn broadcast_to(&self, x: &Node, dims: &[usize]) -> Result<Node> {
        shape::broadcast_to(x, dims)
    }
    fn narrow(&self, x: &Node, axis: usize, start: usize, length: usize) -> Result<Node> {
        shape::narrow(x, axis, start, length)
    }
    fn concat(&self, tensors: &[Node], axis: usize) -> Result<Node> {
        shape::concat(tensors, axis)
    }
    fn index_select(&self, x: &Node, axis: usize, indices: &[u64]) -> Result<Node> {
        shape::index_select(x, axis, indices)
    }
    fn exec(&self, name: &str, inputs: &[Node], attributes: &[Entry]) -> Result<Vec<Node>> {
        volumes::run(name, inputs, attributes)
    }
    fn log(&self, level: u32, text: &str) {
        let kind = match level {
            1 => "error",
            2 => "warning",
            3 => "information",
            _ => "debug",
        };
        self.say(format!("{kind}: {text}"));
    }
    fn progress(&self, fraction: f64, what: &str) {
        let percent = (fraction.clamp(0.0, 1.0) * 100.0).round();
        self.say(format!("progress: {percent} % {what}"));
    }
    fn geometry(&self, view: ViewId) -> Result<impl Deref<Target = SliceGeometry>> {
        self.geometry_of(view)
    }
}
