//! The host's side of the operation table: handles in, candle underneath, handles out. Every function is guarded.

use super::context::Context;
use super::{named, ops};
use crate::device;
use abi_stable::prefix_type::PrefixTypeTrait;
use abi_stable::std_types::{RSlice, RStr, RVec};
use anymc3d_plugin_api::abi::guard::guard_ffi;
use anymc3d_plugin_api::abi::objects::ABI_VERSION;
use anymc3d_plugin_api::abi::table::{Answer, HostOps, HostOps_Ref};
use anymc3d_plugin_api::abi::types::*;
use anymc3d_plugin_api::{Error, Result};
use candle_core::Tensor;
use std::sync::OnceLock;

/// The table, made once.
pub fn host_ops() -> HostOps_Ref {
    static TABLE: OnceLock<HostOps_Ref> = OnceLock::new();
    *TABLE.get_or_init(|| {
        HostOps {
            abi_version: ABI_VERSION,
            retain,
            release,
            dims,
            read,
            create,
            full,
            parameter,
            detach,
            unary,
            affine,
            power,
            clamp,
            binary,
            matmul,
            reduce,
            softmax,
            log_softmax,
            layer_norm,
            reshape,
            permute,
            broadcast_to,
            narrow,
            concat,
            index_select,
            exec,
            log,
            progress,
        }
        .leak_into_prefix()
    })
}

fn invalid(e: candle_core::Error) -> Error {
    Error::new(ErrorCode::INVALID, device::one_line(&e))
}

fn size(n: u64) -> Result<usize> {
    usize::try_from(n).map_err(|_| Error::new(ErrorCode::INVALID, format!("{n} is beyond this machine")))
}

fn sizes(list: RSlice<'_, u64>) -> Result<Vec<usize>> {
    list.iter().map(|&n| size(n)).collect()
}

/// One input, one output.
fn with(
    what: &str,
    context: ContextId,
    handle: Handle,
    f: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>,
) -> Answer<Handle> {
    guard_ffi(what, || {
        let context = Context::find(context)?;
        Ok(context.put(f(&context.get(handle)?).map_err(invalid)?))
    })
}

/// The same along an axis.
fn along(
    what: &str,
    context: ContextId,
    handle: Handle,
    axis: u64,
    f: impl FnOnce(&Tensor, usize) -> candle_core::Result<Tensor>,
) -> Answer<Handle> {
    guard_ffi(what, || {
        let (context, axis) = (Context::find(context)?, size(axis)?);
        Ok(context.put(f(&context.get(handle)?, axis).map_err(invalid)?))
    })
}

extern "C" fn retain(context: ContextId, handle: Handle) -> Answer<Handle> {
    with("retain", context, handle, |x| Ok(x.clone()))
}

extern "C" fn release(context: ContextId, handle: Handle) -> Answer<()> {
    guard_ffi("release", || Context::find(context)?.take(handle).map(drop))
}

extern "C" fn dims(context: ContextId, handle: Handle) -> Answer<RVec<u64>> {
    guard_ffi("dims", || Ok(Context::find(context)?.get(handle)?.dims().iter().map(|&n| n as u64).collect()))
}

extern "C" fn read(context: ContextId, handle: Handle) -> Answer<RVec<f32>> {
    guard_ffi("read", || Ok(ops::read(&Context::find(context)?.get(handle)?).map_err(invalid)?.into()))
}

extern "C" fn create(
    context: ContextId,
    elements: RSlice<'_, f32>,
    shape: RSlice<'_, u64>,
) -> Answer<Handle> {
    guard_ffi("create", || {
        let (context, shape) = (Context::find(context)?, sizes(shape)?);
        if shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(elements.len()) {
            let message = format!("{} elements for a tensor of shape {shape:?}", elements.len());
            return Err(Error::new(ErrorCode::INVALID, message));
        }
        let made = Tensor::from_slice(elements.as_slice(), shape, context.device());
        Ok(context.put(made.and_then(|t| t.to_dtype(context.dtype())).map_err(invalid)?))
    })
}

extern "C" fn full(context: ContextId, value: f64, shape: RSlice<'_, u64>) -> Answer<Handle> {
    guard_ffi("full", || {
        let (context, shape) = (Context::find(context)?, sizes(shape)?);
        ops::affordable(&shape).map_err(invalid)?;
        let made = Tensor::full(value, shape, context.device());
        Ok(context.put(made.and_then(|t| t.to_dtype(context.dtype())).map_err(invalid)?))
    })
}

extern "C" fn parameter(
    context: ContextId,
    name: RStr<'_>,
    shape: RSlice<'_, u64>,
    init: InitSpec,
) -> Answer<Handle> {
    guard_ffi("parameter", || {
        let context = Context::find(context)?;
        Ok(context.put(context.parameter(name.as_str(), &sizes(shape)?, init)?))
    })
}

extern "C" fn detach(context: ContextId, handle: Handle) -> Answer<Handle> {
    with("detach", context, handle, |x| Ok(x.detach()))
}

extern "C" fn unary(context: ContextId, op: UnaryOp, handle: Handle) -> Answer<Handle> {
    guard_ffi(op.name(), || {
        known(UnaryOp::ALL.contains(&op), op.0)?;
        let context = Context::find(context)?;
        Ok(context.put(ops::unary(op, &context.get(handle)?).map_err(invalid)?))
    })
}

fn known(is: bool, code: u32) -> Result<()> {
    if is { Ok(()) } else { Err(Error::new(ErrorCode::UNKNOWN_OP, format!("operation {code} is unknown"))) }
}

extern "C" fn affine(context: ContextId, handle: Handle, mul: f64, add: f64) -> Answer<Handle> {
    with("affine", context, handle, |x| x.affine(mul, add))
}

extern "C" fn power(context: ContextId, handle: Handle, exponent: f64) -> Answer<Handle> {
    with("power", context, handle, |x| ops::power(x, exponent))
}

extern "C" fn clamp(context: ContextId, handle: Handle, low: f64, high: f64) -> Answer<Handle> {
    with("clamp", context, handle, |x| ops::clamp(x, low, high))
}

extern "C" fn binary(context: ContextId, op: BinaryOp, a: Handle, b: Handle) -> Answer<Handle> {
    guard_ffi(op.name(), || {
        known(BinaryOp::ALL.contains(&op), op.0)?;
        let context = Context::find(context)?;
        Ok(context.put(ops::binary(op, &context.get(a)?, &context.get(b)?).map_err(invalid)?))
    })
}

extern "C" fn matmul(context: ContextId, a: Handle, b: Handle) -> Answer<Handle> {
    guard_ffi("matmul", || {
        let context = Context::find(context)?;
        Ok(context.put(ops::matmul(&context.get(a)?, &context.get(b)?).map_err(invalid)?))
    })
}

extern "C" fn reduce(context: ContextId, op: ReduceOp, handle: Handle, axis: u64) -> Answer<Handle> {
    guard_ffi(op.name(), || {
        known(ReduceOp::ALL.contains(&op), op.0)?;
        let context = Context::find(context)?;
        Ok(context.put(ops::reduce(op, &context.get(handle)?, size(axis)?).map_err(invalid)?))
    })
}

extern "C" fn softmax(context: ContextId, handle: Handle, axis: u64) -> Answer<Handle> {
    along("softmax", context, handle, axis, ops::softmax)
}

extern "C" fn log_softmax(context: ContextId, handle: Handle, axis: u64) -> Answer<Handle> {
    along("log_softmax", context, handle, axis, ops::log_softmax)
}

extern "C" fn layer_norm(
    context: ContextId,
    x: Handle,
    weight: Handle,
    bias: Handle,
    epsilon: f64,
) -> Answer<Handle> {
    guard_ffi("layer_norm", || {
        let context = Context::find(context)?;
        let (weight, bias) = (context.get(weight)?, context.get(bias)?);
        Ok(context.put(ops::layer_norm(&context.get(x)?, &weight, &bias, epsilon).map_err(invalid)?))
    })
}

extern "C" fn reshape(context: ContextId, handle: Handle, shape: RSlice<'_, u64>) -> Answer<Handle> {
    guard_ffi("reshape", || {
        let (context, shape) = (Context::find(context)?, sizes(shape)?);
        Ok(context.put(ops::reshape(&context.get(handle)?, &shape).map_err(invalid)?))
    })
}

extern "C" fn permute(context: ContextId, handle: Handle, axes: RSlice<'_, u64>) -> Answer<Handle> {
    guard_ffi("permute", || {
        let (context, axes) = (Context::find(context)?, sizes(axes)?);
        Ok(context.put(ops::permute(&context.get(handle)?, &axes).map_err(invalid)?))
    })
}

extern "C" fn broadcast_to(context: ContextId, handle: Handle, shape: RSlice<'_, u64>) -> Answer<Handle> {
    guard_ffi("broadcast_to", || {
        let (context, shape) = (Context::find(context)?, sizes(shape)?);
        Ok(context.put(ops::broadcast_to(&context.get(handle)?, &shape).map_err(invalid)?))
    })
}

extern "C" fn narrow(
    context: ContextId,
    handle: Handle,
    axis: u64,
    start: u64,
    length: u64,
) -> Answer<Handle> {
    guard_ffi("narrow", || {
        let (axis, start, length) = (size(axis)?, size(start)?, size(length)?);
        let context = Context::find(context)?;
        Ok(context.put(ops::narrow(&context.get(handle)?, axis, start, length).map_err(invalid)?))
    })
}

extern "C" fn concat(context: ContextId, handles: RSlice<'_, Handle>, axis: u64) -> Answer<Handle> {
    guard_ffi("concat", || {
        let context = Context::find(context)?;
        let tensors: Vec<Tensor> = handles.iter().map(|&h| context.get(h)).collect::<Result<_>>()?;
        Ok(context.put(ops::concat(&tensors, size(axis)?).map_err(invalid)?))
    })
}

extern "C" fn index_select(
    context: ContextId,
    handle: Handle,
    axis: u64,
    indices: RSlice<'_, u64>,
) -> Answer<Handle> {
    along("index_select", context, handle, axis, |x, axis| ops::index_select(x, axis, indices.as_slice()))
}

extern "C" fn exec(
    context: ContextId,
    name: RStr<'_>,
    inputs: RSlice<'_, Handle>,
    attributes: RSlice<'_, Entry>,
) -> Answer<RVec<Handle>> {
    guard_ffi(name.as_str(), || {
        let context = Context::find(context)?;
        let inputs: Vec<Tensor> = inputs.iter().map(|&h| context.get(h)).collect::<Result<_>>()?;
        let outputs = named::run(name.as_str(), &inputs, attributes.as_slice())?;
        Ok(outputs.into_iter().map(|t| context.put(t)).collect())
    })
}

extern "C" fn log(context: ContextId, level: u32, text: RStr<'_>) -> Answer<()> {
    guard_ffi("log", || {
        let task = Context::find(context)?.task();
        match level {
            1 => tracing::error!(task, "{text}"),
            2 => tracing::warn!(task, "{text}"),
            3 => tracing::info!(task, "{text}"),
            _ => tracing::debug!(task, "{text}"),
        }
        Ok(())
    })
}

extern "C" fn progress(context: ContextId, fraction: f64, what: RStr<'_>) -> Answer<()> {
    guard_ffi("progress", || {
        let task = Context::find(context)?.task();
        tracing::info!(task, percent = (fraction.clamp(0.0, 1.0) * 100.0).round(), "{what}");
        Ok(())
    })
}
