//! The host's operations, behind the table that plugins call: candle underneath.

use super::context::Context;
use super::{named, ops};
use crate::device;
use anymc3d_plugin_api::abi::ops::{Ops, host_ops as table_of};
use anymc3d_plugin_api::abi::table::HostOps_Ref;
use anymc3d_plugin_api::abi::types::*;
use anymc3d_plugin_api::{Error, Result, SliceGeometry};
use candle_core::Tensor;
use std::ops::Deref;
use std::sync::Arc;

/// The table of this host.
pub const fn host_ops() -> HostOps_Ref {
    table_of::<Context>()
}

fn plain<T>(computed: candle_core::Result<T>) -> Result<T> {
    computed.map_err(|e| Error::new(ErrorCode::INVALID, device::one_line(&e)))
}

impl Ops for Context {
    type Tensor = Tensor;
    type Held = &'static Self;

    fn find(context: ContextId) -> Result<&'static Self> {
        Self::find(context)
    }
    fn put(&self, tensor: Tensor) -> Handle {
        self.put(tensor)
    }
    fn get(&self, handle: Handle) -> Result<Tensor> {
        self.get(handle)
    }
    fn take(&self, handle: Handle) -> Result<Tensor> {
        self.take(handle)
    }
    fn dims(&self, x: &Tensor) -> Vec<usize> {
        x.dims().to_vec()
    }
    fn read(&self, x: &Tensor) -> Result<Vec<f32>> {
        plain(ops::read(x))
    }
    fn create(&self, elements: &[f32], dims: &[usize]) -> Result<Tensor> {
        plain(Tensor::from_slice(elements, dims, self.device()).and_then(|t| t.to_dtype(self.dtype())))
    }
    fn full(&self, value: f64, dims: &[usize]) -> Result<Tensor> {
        plain(ops::affordable(dims))?;
        plain(Tensor::full(value, dims, self.device()).and_then(|t| t.to_dtype(self.dtype())))
    }
    fn parameter(&self, name: &str, dims: &[usize], init: InitSpec) -> Result<Tensor> {
        self.parameter(name, dims, init)
    }
    fn detach(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.detach())
    }
    fn unary(&self, op: UnaryOp, x: &Tensor) -> Result<Tensor> {
        plain(ops::unary(op, x))
    }
    fn affine(&self, x: &Tensor, mul: f64, add: f64) -> Result<Tensor> {
        plain(x.affine(mul, add))
    }
    fn power(&self, x: &Tensor, exponent: f64) -> Result<Tensor> {
        plain(ops::power(x, exponent))
    }
    fn clamp(&self, x: &Tensor, low: f64, high: f64) -> Result<Tensor> {
        plain(ops::clamp(x, low, high))
    }
    fn binary(&self, op: BinaryOp, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        plain(ops::binary(op, a, b))
    }
    fn matmul(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        plain(ops::matmul(a, b))
    }
    fn reduce(&self, op: ReduceOp, x: &Tensor, axis: usize) -> Result<Tensor> {
        plain(ops::reduce(op, x, axis))
    }
    fn softmax(&self, x: &Tensor, axis: usize) -> Result<Tensor> {
        plain(ops::softmax(x, axis))
    }
    fn log_softmax(&self, x: &Tensor, axis: usize) -> Result<Tensor> {
        plain(ops::log_softmax(x, axis))
    }
    fn layer_norm(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
        plain(ops::layer_norm(x, weight, bias, epsilon))
    }
    fn reshape(&self, x: &Tensor, dims: &[usize]) -> Result<Tensor> {
        plain(ops::reshape(x, dims))
    }
    fn permute(&self, x: &Tensor, axes: &[usize]) -> Result<Tensor> {
        plain(ops::permute(x, axes))
    }
    fn broadcast_to(&self, x: &Tensor, dims: &[usize]) -> Result<Tensor> {
        plain(ops::broadcast_to(x, dims))
    }
    fn narrow(&self, x: &Tensor, axis: usize, start: usize, length: usize) -> Result<Tensor> {
        plain(ops::narrow(x, axis, start, length))
    }
    fn concat(&self, tensors: &[Tensor], axis: usize) -> Result<Tensor> {
        plain(ops::concat(tensors, axis))
    }
    fn index_select(&self, x: &Tensor, axis: usize, indices: &[u64]) -> Result<Tensor> {
        plain(ops::index_select(x, axis, indices))
    }
    fn exec(&self, name: &str, inputs: &[Tensor], attributes: &[Entry]) -> Result<Vec<Tensor>> {
        named::run(name, inputs, attributes)
    }
    fn log(&self, level: u32, text: &str) {
        let task = self.task();
        match level {
            1 => tracing::error!(task, "{text}"),
            2 => tracing::warn!(task, "{text}"),
            3 => tracing::info!(task, "{text}"),
            _ => tracing::debug!(task, "{text}"),
        }
    }
    fn progress(&self, fraction: f64, what: &str) {
        let percent = (fraction.clamp(0.0, 1.0) * 100.0).round();
        tracing::info!(task = self.task(), percent, "{what}");
    }
    fn geometry(&self, view: ViewId) -> Result<impl Deref<Target = SliceGeometry>> {
        Self::geometry(self, view).map(|found: Arc<SliceGeometry>| found)
    }
}
