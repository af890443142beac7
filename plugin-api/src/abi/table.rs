//! The host's operations, as a table of functions that plugins call.
//!
//! This is a prefix type: functions may be appended after `last_prefix_field` and never reordered, renamed or
//! changed. Every function can report an error. The caller keeps its inputs, and must release every handle
//! that it receives. Shapes are lists of `u64`, axes count from 0.

use super::types::*;
use abi_stable::StableAbi;
use abi_stable::std_types::{RResult, RSlice, RStr, RVec};

/// What a function of the table answers.
pub type Answer<T> = RResult<T, AbiError>;

/// The operation table of the host.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
#[sabi(kind(Prefix(prefix_ref = HostOps_Ref)))]
#[sabi(missing_field(option))]
pub struct HostOps {
    /// The host's ABI version, `major << 16 | minor`.
    pub abi_version: u32,
    /// Another handle to the same tensor.
    pub retain: extern "C" fn(ContextId, Handle) -> Answer<Handle>,
    /// Gives a handle back.
    pub release: extern "C" fn(ContextId, Handle) -> Answer<()>,
    /// Shape.
    pub dims: extern "C" fn(ContextId, Handle) -> Answer<RVec<u64>>,
    /// All elements in row-major order.
    pub read: extern "C" fn(ContextId, Handle) -> Answer<RVec<f32>>,
    /// A tensor from row-major elements.
    pub create: extern "C" fn(ContextId, RSlice<'_, f32>, RSlice<'_, u64>) -> Answer<Handle>,
    /// A tensor with one value everywhere.
    pub full: extern "C" fn(ContextId, f64, RSlice<'_, u64>) -> Answer<Handle>,
    /// A trainable parameter by name; the host owns it, also across a reload.
    pub parameter: extern "C" fn(ContextId, RStr<'_>, RSlice<'_, u64>, InitSpec) -> Answer<Handle>,
    /// The same values, cut off from the gradient.
    pub detach: extern "C" fn(ContextId, Handle) -> Answer<Handle>,
    /// Element by element.
    pub unary: extern "C" fn(ContextId, UnaryOp, Handle) -> Answer<Handle>,
    /// `x * mul + add`.
    pub affine: extern "C" fn(ContextId, Handle, f64, f64) -> Answer<Handle>,
    /// `x ^ exponent`.
    pub power: extern "C" fn(ContextId, Handle, f64) -> Answer<Handle>,
    /// `min(max(x, low), high)`; the gradient is 0 outside.
    pub clamp: extern "C" fn(ContextId, Handle, f64, f64) -> Answer<Handle>,
    /// Two tensors, broadcast.
    pub binary: extern "C" fn(ContextId, BinaryOp, Handle, Handle) -> Answer<Handle>,
    /// Matrix product over the last two axes; leading axes broadcast.
    pub matmul: extern "C" fn(ContextId, Handle, Handle) -> Answer<Handle>,
    /// Reduction over one axis, kept with length 1.
    pub reduce: extern "C" fn(ContextId, ReduceOp, Handle, u64) -> Answer<Handle>,
    /// Softmax over one axis.
    pub softmax: extern "C" fn(ContextId, Handle, u64) -> Answer<Handle>,
    /// Logarithm of the softmax over one axis.
    pub log_softmax: extern "C" fn(ContextId, Handle, u64) -> Answer<Handle>,
    /// Layer norm over the last axis: input, weight, bias, epsilon.
    pub layer_norm: extern "C" fn(ContextId, Handle, Handle, Handle, f64) -> Answer<Handle>,
    /// The same elements in another shape.
    pub reshape: extern "C" fn(ContextId, Handle, RSlice<'_, u64>) -> Answer<Handle>,
    /// Axes in another order.
    pub permute: extern "C" fn(ContextId, Handle, RSlice<'_, u64>) -> Answer<Handle>,
    /// Repeated along axes of length 1, and along new leading axes.
    pub broadcast_to: extern "C" fn(ContextId, Handle, RSlice<'_, u64>) -> Answer<Handle>,
    /// A range of one axis: axis, start, length.
    pub narrow: extern "C" fn(ContextId, Handle, u64, u64, u64) -> Answer<Handle>,
    /// Tensors one after the other along an axis.
    pub concat: extern "C" fn(ContextId, RSlice<'_, Handle>, u64) -> Answer<Handle>,
    /// Elements of an axis by index.
    pub index_select: extern "C" fn(ContextId, Handle, u64, RSlice<'_, u64>) -> Answer<Handle>,
    /// An operation by name, with inputs and attributes: see [`super::named`].
    pub exec:
        extern "C" fn(ContextId, RStr<'_>, RSlice<'_, Handle>, RSlice<'_, Entry>) -> Answer<RVec<Handle>>,
    /// A line for the host's log: 1 error, 2 warning, 3 information, 4 debugging.
    pub log: extern "C" fn(ContextId, u32, RStr<'_>) -> Answer<()>,
    /// How far a long step is, 0 to 1, and what it is.
    #[sabi(last_prefix_field)]
    pub progress: extern "C" fn(ContextId, f64, RStr<'_>) -> Answer<()>,
    /// Since 1.1. RAS coordinate (mm) of each slice's centre along the axis that a view cuts, `[S]`. The view's id stands
    /// in the settings of the call, `view_id.VIEW`, and is good for as long as the call runs.
    pub slice_positions: extern "C" fn(ContextId, ViewId) -> Answer<RVec<f64>>,
    /// Since 1.1. RAS centre (mm) of each slice of a view, `[S, 3]`.
    pub slice_centres: extern "C" fn(ContextId, ViewId) -> Answer<RVec<f64>>,
    /// Since 1.1. mm between neighbouring tokens of a view along slices, rows and columns.
    pub token_spacing: extern "C" fn(ContextId, ViewId) -> Answer<RVec<f64>>,
}
