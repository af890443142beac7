//! A host's operations as a Rust trait, and the table that calls them.
//!
//! A host implements [`Ops`] and hands [`host_ops`] to its plugins. This file does what is the same in every host: it looks
//! up the tensor of a handle, makes a shape from a list of `u64`, refuses unknown codes and turns a panic into an error.

use super::guard::guard_ffi;
use super::objects::ABI_VERSION;
use super::table::{Answer, HostOps, HostOps_Ref};
use super::types::*;
use crate::error::{Error, Result};
use crate::geometry::SliceGeometry;
use abi_stable::prefix_type::WithMetadata;
use abi_stable::staticref;
use abi_stable::std_types::{RSlice, RStr, RVec};
use std::marker::PhantomData;
use std::ops::Deref;

/// What a host computes for a task: each value of this type is the context of a task.
///
/// [`HostOps`] and [`crate::Tensor`] describe the tensors that these functions return. Errors cross the boundary
/// unchanged; a panic is caught before.
pub trait Ops: Sized + 'static {
    /// A tensor of the host.
    type Tensor;
    /// What holds a context while a call runs.
    type Held: Deref<Target = Self>;

    /// The context of an id that a plugin sent.
    ///
    /// # Errors
    /// When there is no such context.
    fn find(context: ContextId) -> Result<Self::Held>;
    /// Puts a tensor into a slot.
    fn put(&self, tensor: Self::Tensor) -> Handle;
    /// The tensor behind a handle.
    ///
    /// # Errors
    /// When the handle is stale or foreign.
    fn get(&self, handle: Handle) -> Result<Self::Tensor>;
    /// Takes a tensor out of its slot.
    ///
    /// # Errors
    /// When the handle is stale or foreign.
    fn take(&self, handle: Handle) -> Result<Self::Tensor>;
    /// Shape.
    fn dims(&self, x: &Self::Tensor) -> Vec<usize>;
    /// All elements in row-major order.
    ///
    /// # Errors
    /// When they cannot be read.
    fn read(&self, x: &Self::Tensor) -> Result<Vec<f32>>;
    /// A tensor from row-major elements, as many as `dims` multiply to.
    ///
    /// # Errors
    /// When there is no memory for it.
    fn create(&self, elements: &[f32], dims: &[usize]) -> Result<Self::Tensor>;
    /// A tensor with one value everywhere.
    ///
    /// # Errors
    /// When there is no memory for it.
    fn full(&self, value: f64, dims: &[usize]) -> Result<Self::Tensor>;
    /// The parameter of a name; the first request creates it.
    ///
    /// # Errors
    /// When the name was asked for with another shape before.
    fn parameter(&self, name: &str, dims: &[usize], init: InitSpec) -> Result<Self::Tensor>;
    /// The same values without their gradient.
    ///
    /// # Errors
    /// Those of the host's arithmetic, here and below: shapes, ranges, memory.
    fn detach(&self, x: &Self::Tensor) -> Result<Self::Tensor>;
    /// An operation of [`UnaryOp::ALL`].
    ///
    /// # Errors
    /// As [`Self::detach`].
    fn unary(&self, op: UnaryOp, x: &Self::Tensor) -> Result<Self::Tensor>;
    /// `x * mul + add`.
    ///
    /// # Errors
    /// As [`Self::detach`].
    fn affine(&self, x: &Self::Tensor, mul: f64, add: f64) -> Result<Self::Tensor>;
    /// `x ^ exponent`.
    ///
    /// # Errors
    /// As [`Self::detach`].
    fn power(&self, x: &Self::Tensor, exponent: f64) -> Result<Self::Tensor>;
    /// `min(max(x, low), high)`.
    ///
    /// # Errors
    /// When `low > high`.
    fn clamp(&self, x: &Self::Tensor, low: f64, high: f64) -> Result<Self::Tensor>;
    /// An operation of [`BinaryOp::ALL`], with broadcasting.
    ///
    /// # Errors
    /// As [`Self::detach`].
    fn binary(&self, op: BinaryOp, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor>;
    /// Matrix product over the last two axes; leading axes broadcast.
    ///
    /// # Errors
    /// As [`Self::detach`].
    fn matmul(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor>;
    /// An operation of [`ReduceOp::ALL`] over one axis, which stays with length 1.
    ///
    /// # Errors
    /// As [`Self::detach`].
    fn reduce(&self, op: ReduceOp, x: &Self::Tensor, axis: usize) -> Result<Self::Tensor>;
    /// Softmax over one axis.
    ///
    /// # Errors
    /// As [`Self::detach`].
    fn softmax(&self, x: &Self::Tensor, axis: usize) -> Result<Self::Tensor>;
    /// Logarithm of the softmax over one axis.
    ///
    /// # Errors
    /// As [`Self::detach`].
    fn log_softmax(&self, x: &Self::Tensor, axis: usize) -> Result<Self::Tensor>;
    /// Layer norm over the last axis.
    ///
    /// # Errors
    /// As [`Self::detach`].
    fn layer_norm(
        &self,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        bias: &Self::Tensor,
        epsilon: f64,
    ) -> Result<Self::Tensor>;
    /// The same elements in another shape.
    ///
    /// # Errors
    /// As [`Self::detach`].
    fn reshape(&self, x: &Self::Tensor, dims: &[usize]) -> Result<Self::Tensor>;
    /// Axes in another order.
    ///
    /// # Errors
    /// As [`Self::detach`].
    fn permute(&self, x: &Self::Tensor, axes: &[usize]) -> Result<Self::Tensor>;
    /// Repeated along axes of length 1, and along new leading axes.
    ///
    /// # Errors
    /// As [`Self::detach`].
    fn broadcast_to(&self, x: &Self::Tensor, dims: &[usize]) -> Result<Self::Tensor>;
    /// A range of one axis.
    ///
    /// # Errors
    /// As [`Self::detach`].
    fn narrow(&self, x: &Self::Tensor, axis: usize, start: usize, length: usize) -> Result<Self::Tensor>;
    /// Tensors one after the other along an axis.
    ///
    /// # Errors
    /// As [`Self::detach`].
    fn concat(&self, tensors: &[Self::Tensor], axis: usize) -> Result<Self::Tensor>;
    /// Elements of an axis by index.
    ///
    /// # Errors
    /// As [`Self::detach`].
    fn index_select(&self, x: &Self::Tensor, axis: usize, indices: &[u64]) -> Result<Self::Tensor>;
    /// An operation by name: see [`super::named`].
    ///
    /// # Errors
    /// [`ErrorCode::UNKNOWN_OP`] for a name or an attribute that the host does not know; as [`Self::detach`].
    fn exec(&self, name: &str, inputs: &[Self::Tensor], attributes: &[Entry]) -> Result<Vec<Self::Tensor>>;
    /// A line for the log: 1 error, 2 warning, 3 information, 4 debugging.
    fn log(&self, level: u32, text: &str);
    /// How far a long step is, 0 to 1, and what it is.
    fn progress(&self, fraction: f64, what: &str);
    /// The slice geometry of a view, by the id that the host sent with the running call.
    ///
    /// # Errors
    /// When the id is of another call, or of none.
    fn geometry(&self, view: ViewId) -> Result<impl Deref<Target = SliceGeometry>>;
}

/// The operation table of a host.
pub const fn host_ops<O: Ops>() -> HostOps_Ref {
    HostOps_Ref(Table::<O>::TABLE.as_prefix())
}

/// The functions of one host's table.
struct Table<O>(PhantomData<O>);

impl<O: Ops> Table<O> {
    staticref!(const TABLE: WithMetadata<HostOps> = WithMetadata::new(HostOps {
        abi_version: ABI_VERSION,
        retain: Self::retain,
        release: Self::release,
        dims: Self::dims,
        read: Self::read,
        create: Self::create,
        full: Self::full,
        parameter: Self::parameter,
        detach: Self::detach,
        unary: Self::unary,
        affine: Self::affine,
        power: Self::power,
        clamp: Self::clamp,
        binary: Self::binary,
        matmul: Self::matmul,
        reduce: Self::reduce,
        softmax: Self::softmax,
        log_softmax: Self::log_softmax,
        layer_norm: Self::layer_norm,
        reshape: Self::reshape,
        permute: Self::permute,
        broadcast_to: Self::broadcast_to,
        narrow: Self::narrow,
        concat: Self::concat,
        index_select: Self::index_select,
        exec: Self::exec,
        log: Self::log,
        progress: Self::progress,
        slice_positions: Self::slice_positions,
        slice_centres: Self::slice_centres,
        token_spacing: Self::token_spacing,
    }));

    /// Some inputs, one output.
    fn with<const N: usize>(
        what: &str,
        context: ContextId,
        handles: [Handle; N],
        f: impl FnOnce(&O, [O::Tensor; N]) -> Result<O::Tensor>,
    ) -> Answer<Handle> {
        guard_ffi(what, || {
            let context = O::find(context)?;
            let inputs = all::<O>(&context, &handles)?.try_into();
            let inputs = inputs.map_err(|_| invalid("as many inputs as handles"))?;
            Ok(context.put(f(&context, inputs)?))
        })
    }

    extern "C" fn retain(context: ContextId, handle: Handle) -> Answer<Handle> {
        Self::with("retain", context, [handle], |_, [x]| Ok(x))
    }

    extern "C" fn release(context: ContextId, handle: Handle) -> Answer<()> {
        guard_ffi("release", || O::find(context)?.take(handle).map(drop))
    }

    extern "C" fn dims(context: ContextId, handle: Handle) -> Answer<RVec<u64>> {
        guard_ffi("dims", || {
            let context = O::find(context)?;
            Ok(context.dims(&context.get(handle)?).into_iter().map(|n| n as u64).collect())
        })
    }

    extern "C" fn read(context: ContextId, handle: Handle) -> Answer<RVec<f32>> {
        guard_ffi("read", || {
            let context = O::find(context)?;
            Ok(context.read(&context.get(handle)?)?.into())
        })
    }

    extern "C" fn create(
        context: ContextId,
        elements: RSlice<'_, f32>,
        shape: RSlice<'_, u64>,
    ) -> Answer<Handle> {
        guard_ffi("create", || {
            let (context, shape) = (O::find(context)?, sizes(shape)?);
            if shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(elements.len()) {
                return Err(invalid(format!("{} elements for a tensor of shape {shape:?}", elements.len())));
            }
            Ok(context.put(context.create(elements.as_slice(), &shape)?))
        })
    }

    extern "C" fn full(context: ContextId, value: f64, shape: RSlice<'_, u64>) -> Answer<Handle> {
        guard_ffi("full", || {
            let (context, shape) = (O::find(context)?, sizes(shape)?);
            Ok(context.put(context.full(value, &shape)?))
        })
    }

    extern "C" fn parameter(
        context: ContextId,
        name: RStr<'_>,
        shape: RSlice<'_, u64>,
        init: InitSpec,
    ) -> Answer<Handle> {
        guard_ffi("parameter", || {
            let (context, shape) = (O::find(context)?, sizes(shape)?);
            Ok(context.put(context.parameter(name.as_str(), &shape, init)?))
        })
    }

    extern "C" fn detach(context: ContextId, handle: Handle) -> Answer<Handle> {
        Self::with("detach", context, [handle], |context, [x]| context.detach(&x))
    }

    extern "C" fn unary(context: ContextId, op: UnaryOp, handle: Handle) -> Answer<Handle> {
        if !UnaryOp::ALL.contains(&op) {
            return unknown(op.name(), op.0);
        }
        Self::with(op.name(), context, [handle], |context, [x]| context.unary(op, &x))
    }

    extern "C" fn affine(context: ContextId, handle: Handle, mul: f64, add: f64) -> Answer<Handle> {
        Self::with("affine", context, [handle], |context, [x]| context.affine(&x, mul, add))
    }

    extern "C" fn power(context: ContextId, handle: Handle, exponent: f64) -> Answer<Handle> {
        Self::with("power", context, [handle], |context, [x]| context.power(&x, exponent))
    }

    extern "C" fn clamp(context: ContextId, handle: Handle, low: f64, high: f64) -> Answer<Handle> {
        Self::with("clamp", context, [handle], |context, [x]| context.clamp(&x, low, high))
    }

    extern "C" fn binary(context: ContextId, op: BinaryOp, a: Handle, b: Handle) -> Answer<Handle> {
        if !BinaryOp::ALL.contains(&op) {
            return unknown(op.name(), op.0);
        }
        Self::with(op.name(), context, [a, b], |context, [a, b]| context.binary(op, &a, &b))
    }

    extern "C" fn matmul(context: ContextId, a: Handle, b: Handle) -> Answer<Handle> {
        Self::with("matmul", context, [a, b], |context, [a, b]| context.matmul(&a, &b))
    }

    extern "C" fn reduce(context: ContextId, op: ReduceOp, handle: Handle, axis: u64) -> Answer<Handle> {
        if !ReduceOp::ALL.contains(&op) {
            return unknown(op.name(), op.0);
        }
        Self::with(op.name(), context, [handle], |context, [x]| context.reduce(op, &x, size(axis)?))
    }

    extern "C" fn softmax(context: ContextId, handle: Handle, axis: u64) -> Answer<Handle> {
        Self::with("softmax", context, [handle], |context, [x]| context.softmax(&x, size(axis)?))
    }

    extern "C" fn log_softmax(context: ContextId, handle: Handle, axis: u64) -> Answer<Handle> {
        Self::with("log_softmax", context, [handle], |context, [x]| context.log_softmax(&x, size(axis)?))
    }

    extern "C" fn layer_norm(
        context: ContextId,
        x: Handle,
        weight: Handle,
        bias: Handle,
        epsilon: f64,
    ) -> Answer<Handle> {
        Self::with("layer_norm", context, [x, weight, bias], |context, [x, weight, bias]| {
            context.layer_norm(&x, &weight, &bias, epsilon)
        })
    }

    extern "C" fn reshape(context: ContextId, handle: Handle, shape: RSlice<'_, u64>) -> Answer<Handle> {
        Self::with("reshape", context, [handle], |context, [x]| context.reshape(&x, &sizes(shape)?))
    }

    extern "C" fn permute(context: ContextId, handle: Handle, axes: RSlice<'_, u64>) -> Answer<Handle> {
        Self::with("permute", context, [handle], |context, [x]| context.permute(&x, &sizes(axes)?))
    }

    extern "C" fn broadcast_to(context: ContextId, handle: Handle, shape: RSlice<'_, u64>) -> Answer<Handle> {
        Self::with("broadcast_to", context, [handle], |context, [x]| context.broadcast_to(&x, &sizes(shape)?))
    }

    extern "C" fn narrow(
        context: ContextId,
        handle: Handle,
        axis: u64,
        start: u64,
        length: u64,
    ) -> Answer<Handle> {
        Self::with("narrow", context, [handle], |context, [x]| {
            context.narrow(&x, size(axis)?, size(start)?, size(length)?)
        })
    }

    extern "C" fn concat(context: ContextId, handles: RSlice<'_, Handle>, axis: u64) -> Answer<Handle> {
        guard_ffi("concat", || {
            let context = O::find(context)?;
            let tensors = all::<O>(&context, handles.as_slice())?;
            Ok(context.put(context.concat(&tensors, size(axis)?)?))
        })
    }

    extern "C" fn index_select(
        context: ContextId,
        handle: Handle,
        axis: u64,
        indices: RSlice<'_, u64>,
    ) -> Answer<Handle> {
        Self::with("index_select", context, [handle], |context, [x]| {
            context.index_select(&x, size(axis)?, indices.as_slice())
        })
    }

    extern "C" fn exec(
        context: ContextId,
        name: RStr<'_>,
        inputs: RSlice<'_, Handle>,
        attributes: RSlice<'_, Entry>,
    ) -> Answer<RVec<Handle>> {
        guard_ffi(name.as_str(), || {
            let context = O::find(context)?;
            let inputs = all::<O>(&context, inputs.as_slice())?;
            let outputs = context.exec(name.as_str(), &inputs, attributes.as_slice())?;
            Ok(outputs.into_iter().map(|x| context.put(x)).collect())
        })
    }

    extern "C" fn log(context: ContextId, level: u32, text: RStr<'_>) -> Answer<()> {
        guard_ffi("log", || {
            O::find(context)?.log(level, text.as_str());
            Ok(())
        })
    }

    extern "C" fn progress(context: ContextId, fraction: f64, what: RStr<'_>) -> Answer<()> {
        guard_ffi("progress", || {
            O::find(context)?.progress(fraction, what.as_str());
            Ok(())
        })
    }

    extern "C" fn slice_positions(context: ContextId, view: ViewId) -> Answer<RVec<f64>> {
        guard_ffi("slice_positions", || {
            Ok(O::find(context)?.geometry(view)?.positions_mm.iter().copied().collect())
        })
    }

    extern "C" fn slice_centres(context: ContextId, view: ViewId) -> Answer<RVec<f64>> {
        guard_ffi("slice_centres", || {
            Ok(O::find(context)?.geometry(view)?.centres_mm.iter().flatten().copied().collect())
        })
    }

    extern "C" fn token_spacing(context: ContextId, view: ViewId) -> Answer<RVec<f64>> {
        guard_ffi("token_spacing", || {
            Ok(O::find(context)?.geometry(view)?.token_spacing_mm.into_iter().collect())
        })
    }
}

fn all<O: Ops>(context: &O, handles: &[Handle]) -> Result<Vec<O::Tensor>> {
    handles.iter().map(|&handle| context.get(handle)).collect()
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::INVALID, message)
}

fn unknown(what: &str, code: u32) -> Answer<Handle> {
    guard_ffi(what, || Err(Error::new(ErrorCode::UNKNOWN_OP, format!("operation {code} is unknown"))))
}

fn size(n: u64) -> Result<usize> {
    usize::try_from(n).map_err(|_| invalid(format!("{n} is beyond this machine")))
}

fn sizes(list: RSlice<'_, u64>) -> Result<Vec<usize>> {
    list.iter().map(|&n| size(n)).collect()
}
