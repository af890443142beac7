//! A tensor in the host's memory, and arithmetic on it.
//!
//! Values are f32 (the host may compute wider) in row-major order, axes count from 0, shapes broadcast as in
//! NumPy. Every operation runs in the host and is part of its autograd. A tensor is cheap to clone: a clone is
//! another handle to the same memory.

use crate::abi::table::{Answer, HostOps_Ref};
use crate::abi::types::*;
use crate::error::{Error, Result};
use abi_stable::std_types::{RResult, RSlice, RStr};

/// The host's operation table together with the task it is used for.
#[derive(Clone, Copy)]
pub struct Host {
    pub(crate) ops: HostOps_Ref,
    pub(crate) context: ContextId,
}

impl Host {
    /// Pairs a table with a context. Hosts and shims call this; authors get a [`crate::Build`].
    pub fn new(ops: HostOps_Ref, context: ContextId) -> Self {
        Self { ops, context }
    }

    /// A tensor from row-major elements.
    ///
    /// # Errors
    /// When the number of elements is not the product of `dims`.
    #[track_caller]
    pub fn tensor(&self, elements: &[f32], dims: &[usize]) -> Result<Tensor> {
        let made = (self.ops.create())(self.context, RSlice::from_slice(elements), (&*wide(dims)).into());
        self.own(made)
    }

    /// A tensor with one value everywhere.
    ///
    /// # Errors
    /// When the host has no memory for it.
    #[track_caller]
    pub fn full(&self, value: f64, dims: &[usize]) -> Result<Tensor> {
        self.own((self.ops.full())(self.context, value, (&*wide(dims)).into()))
    }

    /// The ABI version of the host, as `(major, minor)`.
    pub fn abi_version(&self) -> (u32, u32) {
        let v = self.ops.abi_version();
        (v >> 16, v & 0xffff)
    }

    /// Writes a line to the host's log.
    pub fn log(&self, level: LogLevel, text: &str) {
        // A log line that cannot be written is not worth failing a case for.
        let _ = (self.ops.log())(self.context, level as u32, RStr::from_str(text));
    }

    /// Tells how far a long step is (0 to 1) and what it is.
    pub fn progress(&self, fraction: f64, what: &str) {
        let _ = (self.ops.progress())(self.context, fraction, RStr::from_str(what));
    }

    /// Takes over a handle: it is released when the tensor is dropped.
    pub fn adopt(&self, handle: Handle) -> Tensor {
        Tensor { handle, host: *self }
    }

    #[track_caller]
    pub(crate) fn own(&self, answer: Answer<Handle>) -> Result<Tensor> {
        Ok(self.adopt(plain(answer)?))
    }

    /// The error of an operation that this host does not have.
    pub(crate) fn too_old(&self, name: &str, since: &str) -> Error {
        let (major, minor) = self.abi_version();
        let message = format!(
            "op `{name}` needs plugin-api >= {since}, this host has {major}.{minor}; upgrade the host"
        );
        Error::new(ErrorCode::UNKNOWN_OP, message)
    }

    /// The table's own error for an operation it does not know names no version; this build does.
    #[track_caller]
    fn own_op(&self, name: &str, since: &str, answer: Answer<Handle>) -> Result<Tensor> {
        match answer {
            RResult::RErr(e) if e.code == ErrorCode::UNKNOWN_OP => Err(self.too_old(name, since)),
            other => self.own(other),
        }
    }
}

/// How loud a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u32)]
pub enum LogLevel {
    /// Something failed.
    Error = 1,
    /// Something is odd.
    Warning = 2,
    /// Something happened.
    Information = 3,
    /// For whoever debugs the plugin.
    Debug = 4,
}

/// The host's answer; an error with the place of whoever asked.
#[track_caller]
pub(crate) fn plain<T>(answer: Answer<T>) -> Result<T> {
    let place = std::panic::Location::caller();
    answer.into_result().map_err(|e| Error::from(e).at(place))
}

fn wide(dims: &[usize]) -> Vec<u64> {
    dims.iter().map(|&n| n as u64).collect()
}

/// A tensor in the host's memory, and arithmetic on it.
///
/// Values are f32 in row-major order, axes count from 0, and shapes broadcast as in NumPy. Every operation runs in the host
/// and is part of its autograd; a backward pass through an operation without a gradient is an error. A tensor is cheap to
/// clone ([`Self::try_clone`]): a clone is another handle to the same memory. Dropping a tensor releases its handle. Errors
/// name the operation and the shapes. Using a released handle, or a handle of another task, is an error.
///
/// ```
/// # fn main() -> anymc3d_plugin_api::Result<()> {
/// # #[cfg(feature = "testkit")] {
/// use anymc3d_plugin_api::testkit::Context;
///
/// let context = Context::new(0);
/// let h = context.tensor(&[1.0, 0.0, 0.0, 1.0, 1.0, 1.0], &[3, 2])?;     // [S, d]
/// let q = context.tensor(&[2.0, 0.0], &[2])?;                            // [d]
/// let a = h.matmul(&q)?.softmax(0)?;                                     // [S]
/// let v = a.matmul(&h)?;                                                 // [d]
/// assert_eq!(v.dims()?, [2]);
/// assert!((a.sum_all()?.to_vec()?[0] - 1.0).abs() < 1e-6);
/// # }
/// # Ok(())
/// # }
/// ```
pub struct Tensor {
    handle: Handle,
    host: Host,
}

impl Drop for Tensor {
    fn drop(&mut self) {
        // The host reports a stale handle when it is used; at the end of its life nobody is left to tell.
        let _ = (self.host.ops.release())(self.host.context, self.handle);
    }
}

macro_rules! unary {
    ($($(#[$doc:meta])* $method:ident = $op:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// When the handle is stale.
        #[track_caller]
        pub fn $method(&self) -> Result<Tensor> { self.unary(UnaryOp::$op) }
    )*};
}
macro_rules! binary {
    ($($(#[$doc:meta])* $method:ident = $op:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// When the shapes do not broadcast to each other.
        #[track_caller]
        pub fn $method(&self, other: &Tensor) -> Result<Tensor> { self.binary(BinaryOp::$op, other) }
    )*};
}
macro_rules! reduce {
    ($($(#[$doc:meta])* $method:ident, $keep:ident = $op:ident;)*) => {$(
        $(#[$doc])*
        /// Removes the axis.
        ///
        /// # Errors
        /// When there is no such axis, or it is empty.
        #[track_caller]
        pub fn $method(&self, axis: usize) -> Result<Tensor> { self.reduce(ReduceOp::$op, axis)?.squeeze(axis) }
        $(#[$doc])*
        /// Keeps the axis with length 1.
        ///
        /// # Errors
        /// When there is no such axis, or it is empty.
        #[track_caller]
        pub fn $keep(&self, axis: usize) -> Result<Tensor> { self.reduce(ReduceOp::$op, axis) }
    )*};
}

impl Tensor {
    /// Another handle to the same tensor.
    ///
    /// # Errors
    /// When the handle is stale.
    #[track_caller]
    pub fn try_clone(&self) -> Result<Tensor> {
        self.host.own((self.host.ops.retain())(self.host.context, self.handle))
    }

    /// The host this tensor lives in.
    pub fn host(&self) -> Host {
        self.host
    }

    /// The handle, without giving it up.
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// Gives the handle up: whoever takes it must release it.
    pub fn into_handle(self) -> Handle {
        let handle = self.handle;
        std::mem::forget(self);
        handle
    }

    /// Shape.
    ///
    /// # Errors
    /// When the handle is stale.
    #[track_caller]
    pub fn dims(&self) -> Result<Vec<usize>> {
        let dims = plain((self.host.ops.dims())(self.host.context, self.handle))?;
        dims.iter()
            .map(|&n| usize::try_from(n).map_err(|_| Error::msg("a dimension beyond this machine")))
            .collect()
    }

    /// Number of axes.
    ///
    /// # Errors
    /// When the handle is stale.
    #[track_caller]
    pub fn rank(&self) -> Result<usize> {
        Ok(self.dims()?.len())
    }

    /// All elements in row-major order.
    ///
    /// # Errors
    /// When the handle is stale.
    #[track_caller]
    pub fn to_vec(&self) -> Result<Vec<f32>> {
        Ok(plain((self.host.ops.read())(self.host.context, self.handle))?.into_vec())
    }

    /// The same values, cut off from the gradient.
    ///
    /// # Errors
    /// When the handle is stale.
    #[track_caller]
    pub fn detach(&self) -> Result<Tensor> {
        self.host.own((self.host.ops.detach())(self.host.context, self.handle))
    }

    #[track_caller]
    fn unary(&self, op: UnaryOp) -> Result<Tensor> {
        self.host.own_op(op.name(), op.since(), (self.host.ops.unary())(self.host.context, op, self.handle))
    }

    #[track_caller]
    fn binary(&self, op: BinaryOp, other: &Tensor) -> Result<Tensor> {
        let answer = (self.host.ops.binary())(self.host.context, op, self.handle, other.handle);
        self.host.own_op(op.name(), op.since(), answer)
    }

    #[track_caller]
    fn reduce(&self, op: ReduceOp, axis: usize) -> Result<Tensor> {
        let answer = (self.host.ops.reduce())(self.host.context, op, self.handle, axis as u64);
        self.host.own_op(op.name(), op.since(), answer)
    }

    unary! {
        /// `-x`
        neg = NEG;
        /// `e^x`
        exp = EXP;
        /// Natural logarithm.
        log = LOG;
        /// Square root.
        sqrt = SQRT;
        /// `x²`
        square = SQUARE;
        /// `|x|`; the gradient at 0 is 0.
        abs = ABS;
        /// `1 / x`
        recip = RECIP;
        /// `max(x, 0)`; the gradient at 0 is 0.
        relu = RELU;
        /// `x Φ(x)`, with the error function.
        gelu = GELU;
        /// `x σ(x)`
        silu = SILU;
        /// `1 / (1 + e^-x)`
        sigmoid = SIGMOID;
        /// Hyperbolic tangent.
        tanh = TANH;
        /// `ln(1 + e^x)`, stable for large `|x|`.
        softplus = SOFTPLUS;
        /// -1, 0 or 1. Has no gradient: a backward pass through it is an error.
        sign = SIGN;
        /// Largest integer not above. Has no gradient.
        floor = FLOOR;
        /// Nearest integer. Has no gradient.
        round = ROUND;
    }
    binary! {
        /// `a + b`
        add = ADD;
        /// `a - b`
        sub = SUB;
        /// `a * b`, element by element.
        mul = MUL;
        /// `a / b`
        div = DIV;
        /// The larger of both.
        maximum = MAXIMUM;
        /// The smaller of both.
        minimum = MINIMUM;
        /// 1 where `a > b`, else 0. Has no gradient.
        greater = GREATER;
        /// 1 where `a >= b`, else 0. Has no gradient.
        greater_equal = GREATER_EQUAL;
        /// 1 where `a == b`, else 0. Has no gradient.
        equal = EQUAL;
    }
    reduce! {
        /// Sum along an axis.
        sum, sum_keep = SUM;
        /// Mean along an axis.
        mean, mean_keep = MEAN;
        /// Largest along an axis.
        max, max_keep = MAX;
        /// Smallest along an axis.
        min, min_keep = MIN;
        /// Lower median along an axis.
        median, median_keep = MEDIAN;
        /// Index of the largest along an axis. Has no gradient.
        argmax, argmax_keep = ARGMAX;
    }

    /// `x * mul + add`.
    ///
    /// # Errors
    /// When the handle is stale.
    #[track_caller]
    pub fn affine(&self, mul: f64, add: f64) -> Result<Tensor> {
        self.host.own((self.host.ops.affine())(self.host.context, self.handle, mul, add))
    }

    /// `x * factor`.
    ///
    /// # Errors
    /// When the handle is stale.
    #[track_caller]
    pub fn scale(&self, factor: f64) -> Result<Tensor> {
        self.affine(factor, 0.0)
    }

    /// `x ^ exponent`.
    ///
    /// # Errors
    /// When the handle is stale.
    #[track_caller]
    pub fn power(&self, exponent: f64) -> Result<Tensor> {
        self.host.own((self.host.ops.power())(self.host.context, self.handle, exponent))
    }

    /// `min(max(x, low), high)`; the gradient is 0 outside.
    ///
    /// # Errors
    /// When `low > high`.
    #[track_caller]
    pub fn clamp(&self, low: f64, high: f64) -> Result<Tensor> {
        self.host.own((self.host.ops.clamp())(self.host.context, self.handle, low, high))
    }

    /// Matrix product over the last two axes, leading axes broadcast. A tensor with one axis is a row on the
    /// left and a column on the right, and that axis is gone from the product, as in NumPy.
    ///
    /// # Errors
    /// When the inner lengths differ.
    #[track_caller]
    pub fn matmul(&self, other: &Tensor) -> Result<Tensor> {
        let (a, b) = (self.dims()?, other.dims()?);
        let row = if a.len() == 1 { Some(self.reshape(&[1, a[0]])?) } else { None };
        let column = if b.len() == 1 { Some(other.reshape(&[b[0], 1])?) } else { None };
        let (left, right) = (row.as_ref().unwrap_or(self), column.as_ref().unwrap_or(other));
        let product =
            self.host.own((self.host.ops.matmul())(self.host.context, left.handle, right.handle))?;
        if row.is_none() && column.is_none() {
            return Ok(product);
        }
        let mut dims = product.dims()?;
        if column.is_some() {
            dims.pop();
        }
        if row.is_some() {
            dims.remove(dims.len() - if column.is_some() { 1 } else { 2 });
        }
        product.reshape(&dims)
    }

    /// Softmax over one axis.
    ///
    /// # Errors
    /// When there is no such axis.
    #[track_caller]
    pub fn softmax(&self, axis: usize) -> Result<Tensor> {
        self.host.own((self.host.ops.softmax())(self.host.context, self.handle, axis as u64))
    }

    /// Logarithm of the softmax over one axis.
    ///
    /// # Errors
    /// When there is no such axis.
    #[track_caller]
    pub fn log_softmax(&self, axis: usize) -> Result<Tensor> {
        self.host.own((self.host.ops.log_softmax())(self.host.context, self.handle, axis as u64))
    }

    /// Layer norm over the last axis: `(x - mean) / sqrt(var + epsilon) * weight + bias`.
    ///
    /// # Errors
    /// When `weight` or `bias` are not as long as the last axis.
    #[track_caller]
    pub fn layer_norm(&self, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
        let ops = self.host.ops;
        self.host.own((ops.layer_norm())(self.host.context, self.handle, weight.handle, bias.handle, epsilon))
    }

    /// The same elements in another shape.
    ///
    /// # Errors
    /// When the number of elements changes.
    #[track_caller]
    pub fn reshape(&self, dims: &[usize]) -> Result<Tensor> {
        self.host.own((self.host.ops.reshape())(self.host.context, self.handle, (&*wide(dims)).into()))
    }

    /// Axes in another order: axis `i` of the result is axis `axes[i]` of this.
    ///
    /// # Errors
    /// When `axes` is not a permutation.
    #[track_caller]
    pub fn permute(&self, axes: &[usize]) -> Result<Tensor> {
        self.host.own((self.host.ops.permute())(self.host.context, self.handle, (&*wide(axes)).into()))
    }

    /// The last two axes exchanged; a tensor with one axis stays as it is.
    ///
    /// # Errors
    /// When the handle is stale.
    #[track_caller]
    pub fn t(&self) -> Result<Tensor> {
        let rank = self.rank()?;
        if rank < 2 {
            return self.try_clone();
        }
        let mut axes: Vec<usize> = (0..rank).collect();
        axes.swap(rank - 1, rank - 2);
        self.permute(&axes)
    }

    /// Repeated along axes of length 1 and along new leading axes.
    ///
    /// # Errors
    /// When an axis that is not 1 would change.
    #[track_caller]
    pub fn broadcast_to(&self, dims: &[usize]) -> Result<Tensor> {
        self.host.own((self.host.ops.broadcast_to())(self.host.context, self.handle, (&*wide(dims)).into()))
    }

    /// A range of one axis.
    ///
    /// # Errors
    /// When the range leaves the axis.
    #[track_caller]
    pub fn narrow(&self, axis: usize, start: usize, length: usize) -> Result<Tensor> {
        let (axis, start, length) = (axis as u64, start as u64, length as u64);
        self.host.own((self.host.ops.narrow())(self.host.context, self.handle, axis, start, length))
    }

    /// Elements of an axis by index.
    ///
    /// # Errors
    /// When an index leaves the axis.
    #[track_caller]
    pub fn index_select(&self, axis: usize, indices: &[usize]) -> Result<Tensor> {
        let indices = wide(indices);
        self.host.own((self.host.ops.index_select())(
            self.host.context,
            self.handle,
            axis as u64,
            (&*indices).into(),
        ))
    }

    /// Without an axis of length 1.
    ///
    /// # Errors
    /// When that axis is longer.
    #[track_caller]
    pub fn squeeze(&self, axis: usize) -> Result<Tensor> {
        let mut dims = self.dims()?;
        if dims.get(axis) != Some(&1) {
            return Err(Error::new(ErrorCode::INVALID, format!("squeeze: axis {axis} of {dims:?} is not 1")));
        }
        dims.remove(axis);
        self.reshape(&dims)
    }

    /// With a new axis of length 1 before `axis`.
    ///
    /// # Errors
    /// When `axis` is beyond the rank.
    #[track_caller]
    pub fn unsqueeze(&self, axis: usize) -> Result<Tensor> {
        let mut dims = self.dims()?;
        if axis > dims.len() {
            return Err(Error::new(ErrorCode::INVALID, format!("unsqueeze: no place {axis} in {dims:?}")));
        }
        dims.insert(axis, 1);
        self.reshape(&dims)
    }

    /// One axis, all elements.
    ///
    /// # Errors
    /// When the handle is stale.
    #[track_caller]
    pub fn flatten(&self) -> Result<Tensor> {
        let n = self.dims()?.iter().product();
        self.reshape(&[n])
    }

    /// Sum of all elements, shape `[]`.
    ///
    /// # Errors
    /// When the handle is stale.
    #[track_caller]
    pub fn sum_all(&self) -> Result<Tensor> {
        self.flatten()?.sum(0)
    }

    /// Mean of all elements, shape `[]`.
    ///
    /// # Errors
    /// When the handle is stale.
    #[track_caller]
    pub fn mean_all(&self) -> Result<Tensor> {
        self.flatten()?.mean(0)
    }

    /// Tensors one after the other along an axis that they have.
    ///
    /// # Errors
    /// When the other axes differ, or there is nothing to join.
    #[track_caller]
    pub fn concat(tensors: &[&Tensor], axis: usize) -> Result<Tensor> {
        let Some(first) = tensors.first() else {
            return Err(Error::new(ErrorCode::INVALID, "concat: no tensors"));
        };
        let handles: Vec<Handle> = tensors.iter().map(|t| t.handle).collect();
        first.host.own((first.host.ops.concat())(first.host.context, (&*handles).into(), axis as u64))
    }

    /// Tensors of one shape along a new axis.
    ///
    /// # Errors
    /// When the shapes differ, or there is nothing to join.
    #[track_caller]
    pub fn stack(tensors: &[&Tensor], axis: usize) -> Result<Tensor> {
        let raised: Vec<Tensor> = tensors.iter().map(|t| t.unsqueeze(axis)).collect::<Result<_>>()?;
        Self::concat(&raised.iter().collect::<Vec<_>>(), axis)
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.dims() {
            Ok(dims) => write!(f, "Tensor{dims:?}"),
            Err(e) => write!(f, "Tensor({e})"),
        }
    }
}
