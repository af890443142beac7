//! The test host's operation table: the same functions that a real host hands to a plugin, each guarded.

use super::context::State;
use super::node::{Inner, Node, affordable, count, invalid};
use super::{elementwise, reduce as reductions, shape, volumes};
use crate::abi::guard::guard_ffi;
use crate::abi::objects::ABI_VERSION;
use crate::abi::table::{Answer, HostOps, HostOps_Ref};
use crate::abi::types::*;
use crate::error::{Error, Result};
use abi_stable::prefix_type::PrefixTypeTrait;
use abi_stable::std_types::{RSlice, RStr, RVec};
use std::sync::OnceLock;

/// The table, made once.
pub(crate) fn host_ops() -> HostOps_Ref {
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

fn size(n: u64) -> Result<usize> {
    usize::try_from(n).map_err(|_| invalid(format!("{n} is beyond this machine")))
}

fn sizes(list: RSlice<'_, u64>) -> Result<Vec<usize>> {
    list.iter().map(|&n| size(n)).collect()
}

/// Some inputs, one output.
fn with<const N: usize>(
    what: &str,
    context: ContextId,
    handles: [Handle; N],
    f: impl FnOnce([Node; N]) -> Result<Node>,
) -> Answer<Handle> {
    guard_ffi(what, || {
        let state = State::find(context)?;
        let inputs: Vec<Node> = handles.iter().map(|&h| state.get(h)).collect::<Result<_>>()?;
        let inputs = inputs.try_into().map_err(|_| invalid("as many inputs as handles"))?;
        Ok(state.put(f(inputs)?))
    })
}

fn known(is: bool, code: u32) -> Result<()> {
    if is { Ok(()) } else { Err(Error::new(ErrorCode::UNKNOWN_OP, format!("operation {code} is unknown"))) }
}

extern "C" fn retain(context: ContextId, handle: Handle) -> Answer<Handle> {
    with("retain", context, [handle], |[x]| Ok(x))
}

extern "C" fn release(context: ContextId, handle: Handle) -> Answer<()> {
    guard_ffi("release", || State::find(context)?.take(handle).map(drop))
}

extern "C" fn dims(context: ContextId, handle: Handle) -> Answer<RVec<u64>> {
    guard_ffi("dims", || Ok(State::find(context)?.get(handle)?.dims.iter().map(|&n| n as u64).collect()))
}

extern "C" fn read(context: ContextId, handle: Handle) -> Answer<RVec<f32>> {
    guard_ffi("read", || Ok(State::find(context)?.get(handle)?.values().to_vec().into()))
}

extern "C" fn create(
    context: ContextId,
    elements: RSlice<'_, f32>,
    shape: RSlice<'_, u64>,
) -> Answer<Handle> {
    guard_ffi("create", || {
        let (state, shape) = (State::find(context)?, sizes(shape)?);
        if shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(elements.len()) {
            return Err(invalid(format!("{} elements for a tensor of shape {shape:?}", elements.len())));
        }
        Ok(state.put(Inner::constant(shape, elements.to_vec())))
    })
}

extern "C" fn full(context: ContextId, value: f64, shape: RSlice<'_, u64>) -> Answer<Handle> {
    guard_ffi("full", || {
        let (state, shape) = (State::find(context)?, sizes(shape)?);
        affordable(&shape)?;
        let n = count(&shape);
        Ok(state.put(Inner::constant(shape, vec![value as f32; n])))
    })
}

extern "C" fn parameter(
    context: ContextId,
    name: RStr<'_>,
    shape: RSlice<'_, u64>,
    init: InitSpec,
) -> Answer<Handle> {
    guard_ffi("parameter", || {
        let state = State::find(context)?;
        let parameter = state.parameter(name.as_str(), &sizes(shape)?, init)?;
        Ok(state.put(parameter))
    })
}

extern "C" fn detach(context: ContextId, handle: Handle) -> Answer<Handle> {
    with("detach", context, [handle], |[x]| Ok(Inner::constant(x.dims.clone(), x.values())))
}

extern "C" fn unary(context: ContextId, op: UnaryOp, handle: Handle) -> Answer<Handle> {
    with(op.name(), context, [handle], |[x]| {
        known(UnaryOp::ALL.contains(&op), op.0)?;
        elementwise::unary(op, &x)
    })
}

extern "C" fn affine(context: ContextId, handle: Handle, mul: f64, add: f64) -> Answer<Handle> {
    with("affine", context, [handle], |[x]| Ok(elementwise::affine(&x, mul, add)))
}

extern "C" fn power(context: ContextId, handle: Handle, exponent: f64) -> Answer<Handle> {
    with("power", context, [handle], |[x]| Ok(elementwise::power(&x, exponent)))
}

extern "C" fn clamp(context: ContextId, handle: Handle, low: f64, high: f64) -> Answer<Handle> {
    with("clamp", context, [handle], |[x]| elementwise::clamp(&x, low, high))
}

extern "C" fn binary(context: ContextId, op: BinaryOp, a: Handle, b: Handle) -> Answer<Handle> {
    with(op.name(), context, [a, b], |[a, b]| {
        known(BinaryOp::ALL.contains(&op), op.0)?;
        elementwise::binary(op, &a, &b)
    })
}

extern "C" fn matmul(context: ContextId, a: Handle, b: Handle) -> Answer<Handle> {
    with("matmul", context, [a, b], |[a, b]| shape::matmul(&a, &b))
}

extern "C" fn reduce(context: ContextId, op: ReduceOp, handle: Handle, axis: u64) -> Answer<Handle> {
    with(op.name(), context, [handle], |[x]| {
        known(ReduceOp::ALL.contains(&op), op.0)?;
        reductions::reduce(op, &x, size(axis)?)
    })
}

extern "C" fn softmax(context: ContextId, handle: Handle, axis: u64) -> Answer<Handle> {
    with("softmax", context, [handle], |[x]| reductions::softmax(&x, size(axis)?))
}

extern "C" fn log_softmax(context: ContextId, handle: Handle, axis: u64) -> Answer<Handle> {
    with("log_softmax", context, [handle], |[x]| reductions::log_softmax(&x, size(axis)?))
}

extern "C" fn layer_norm(
    context: ContextId,
    x: Handle,
    weight: Handle,
    bias: Handle,
    epsilon: f64,
) -> Answer<Handle> {
    with("layer_norm", context, [x, weight, bias], |[x, w, b]| reductions::layer_norm(&x, &w, &b, epsilon))
}

extern "C" fn reshape(context: ContextId, handle: Handle, dims: RSlice<'_, u64>) -> Answer<Handle> {
    with("reshape", context, [handle], |[x]| shape::reshape(&x, &sizes(dims)?))
}

extern "C" fn permute(context: ContextId, handle: Handle, axes: RSlice<'_, u64>) -> Answer<Handle> {
    with("permute", context, [handle], |[x]| shape::permute(&x, &sizes(axes)?))
}

extern "C" fn broadcast_to(context: ContextId, handle: Handle, dims: RSlice<'_, u64>) -> Answer<Handle> {
    with("broadcast_to", context, [handle], |[x]| shape::broadcast_to(&x, &sizes(dims)?))
}

extern "C" fn narrow(
    context: ContextId,
    handle: Handle,
    axis: u64,
    start: u64,
    length: u64,
) -> Answer<Handle> {
    with("narrow", context, [handle], |[x]| shape::narrow(&x, size(axis)?, size(start)?, size(length)?))
}

extern "C" fn concat(context: ContextId, handles: RSlice<'_, Handle>, axis: u64) -> Answer<Handle> {
    guard_ffi("concat", || {
        let state = State::find(context)?;
        let inputs: Vec<Node> = handles.iter().map(|&h| state.get(h)).collect::<Result<_>>()?;
        Ok(state.put(shape::concat(&inputs, size(axis)?)?))
    })
}

extern "C" fn index_select(
    context: ContextId,
    handle: Handle,
    axis: u64,
    indices: RSlice<'_, u64>,
) -> Answer<Handle> {
    with("index_select", context, [handle], |[x]| shape::index_select(&x, size(axis)?, indices.as_slice()))
}

extern "C" fn exec(
    context: ContextId,
    name: RStr<'_>,
    inputs: RSlice<'_, Handle>,
    attributes: RSlice<'_, Entry>,
) -> Answer<RVec<Handle>> {
    guard_ffi(name.as_str(), || {
        let state = State::find(context)?;
        let inputs: Vec<Node> = inputs.iter().map(|&h| state.get(h)).collect::<Result<_>>()?;
        let outputs = volumes::run(name.as_str(), &inputs, attributes.as_slice())?;
        Ok(outputs.into_iter().map(|node| state.put(node)).collect())
    })
}

extern "C" fn log(context: ContextId, level: u32, text: RStr<'_>) -> Answer<()> {
    guard_ffi("log", || {
        let kind = match level {
            1 => "error",
            2 => "warning",
            3 => "information",
            _ => "debug",
        };
        State::find(context)?.say(format!("{kind}: {text}"));
        Ok(())
    })
}

extern "C" fn progress(context: ContextId, fraction: f64, what: RStr<'_>) -> Answer<()> {
    guard_ffi("progress", || {
        let percent = (fraction.clamp(0.0, 1.0) * 100.0).round();
        State::find(context)?.say(format!("progress: {percent} % {what}"));
        Ok(())
    })
}
