//! The types of the boundary: handles, codes and lists that never change.
//!
//! Structs here are frozen: a field can never be added. Data that may grow crosses as a list of named values
//! ([`Entry`], [`NamedHandle`]) or as a prefix type ([`super::table::HostOps`]).

use abi_stable::StableAbi;
use abi_stable::std_types::RString;

/// A tensor in the host's memory: a slot and the generation it was filled in, never a pointer.
///
/// The host refuses a stale handle, or a handle of another plugin, with an error.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle {
    /// Index of the slot.
    pub slot: u32,
    /// Which filling of the slot is meant; unique in the process for as long as a `u32` lasts.
    pub generation: u32,
}

/// Which of the host's task contexts (parameters, slots, device) a call belongs to.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextId(pub u64);

/// Which view of a call is meant, where the host is asked about it during that call. Since 1.1.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViewId(pub u64);

/// Kind of a failure. An integer, so that later codes pass through older builds.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    /// A tensor operation was given what it cannot take (shapes, ranges).
    pub const INVALID: Self = Self(1);
    /// A handle that is stale, foreign, or was never given out.
    pub const STALE_HANDLE: Self = Self(2);
    /// A panic, caught at the boundary.
    pub const PANIC: Self = Self(3);
    /// An operation this host does not have.
    pub const UNKNOWN_OP: Self = Self(4);
    /// A parameter was asked for in a way that contradicts the weights or an earlier request.
    pub const PARAMETER: Self = Self(5);
    /// The plugin's own complaint.
    pub const PLUGIN: Self = Self(6);
    /// A backward pass reached an operation without a gradient.
    pub const NO_GRADIENT: Self = Self(7);
}

/// A failure as it crosses the boundary.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct AbiError {
    /// Kind.
    pub code: ErrorCode,
    /// One sentence for a person.
    pub message: RString,
}

/// One named setting; numbers are written in decimal.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct Entry {
    /// Name.
    pub key: RString,
    /// Value.
    pub value: RString,
}

/// One named tensor. Whoever receives it owns the handle and must release it.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct NamedHandle {
    /// Name, for example `axial/class_tokens`.
    pub name: RString,
    /// Tensor.
    pub handle: Handle,
}

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$item:meta])* $variant:ident = $code:literal, $text:literal, $since:literal;)* }) => {
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub u32);
        impl $name {
            $($(#[$item])* pub const $variant: Self = Self($code);)*
            /// Every operation of this build, in the order of their codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// Name for messages.
            pub const fn name(self) -> &'static str {
                match self.0 { $($code => $text,)* _ => "unknown" }
            }
            /// The ABI version that brought it.
            pub const fn since(self) -> &'static str {
                match self.0 { $($code => $since,)* _ => "a later version" }
            }
        }
    };
}

codes! {
    /// An operation on one tensor, element by element.
    UnaryOp {
        /// `-x`
        NEG = 1, "neg", "1.0";
        /// `e^x`
        EXP = 2, "exp", "1.0";
        /// Natural logarithm.
        LOG = 3, "log", "1.0";
        /// Square root.
        SQRT = 4, "sqrt", "1.0";
        /// `x²`
        SQUARE = 5, "square", "1.0";
        /// `|x|`, gradient 0 at 0.
        ABS = 6, "abs", "1.0";
        /// `1 / x`
        RECIP = 7, "recip", "1.0";
        /// `max(x, 0)`
        RELU = 8, "relu", "1.0";
        /// `x Φ(x)` with the error function, not its tanh approximation.
        GELU = 9, "gelu", "1.0";
        /// `x σ(x)`
        SILU = 10, "silu", "1.0";
        /// `1 / (1 + e^-x)`
        SIGMOID = 11, "sigmoid", "1.0";
        /// Hyperbolic tangent.
        TANH = 12, "tanh", "1.0";
        /// `ln(1 + e^x)`, stable for large `|x|`.
        SOFTPLUS = 13, "softplus", "1.0";
        /// -1, 0 or 1. No gradient.
        SIGN = 14, "sign", "1.0";
        /// Largest integer not above. No gradient.
        FLOOR = 15, "floor", "1.0";
        /// Nearest integer, halves away from zero. No gradient.
        ROUND = 16, "round", "1.0";
    }
}

codes! {
    /// An operation on two tensors, element by element, broadcast as in NumPy.
    BinaryOp {
        /// `a + b`
        ADD = 1, "add", "1.0";
        /// `a - b`
        SUB = 2, "sub", "1.0";
        /// `a * b`
        MUL = 3, "mul", "1.0";
        /// `a / b`
        DIV = 4, "div", "1.0";
        /// Larger of both; where equal, each gets half of the gradient.
        MAXIMUM = 5, "maximum", "1.0";
        /// Smaller of both; where equal, each gets half of the gradient.
        MINIMUM = 6, "minimum", "1.0";
        /// 1 where `a > b`, else 0. No gradient.
        GREATER = 7, "greater", "1.0";
        /// 1 where `a >= b`, else 0. No gradient.
        GREATER_EQUAL = 8, "greater_equal", "1.0";
        /// 1 where `a == b`, else 0. No gradient.
        EQUAL = 9, "equal", "1.0";
    }
}

codes! {
    /// A reduction over one axis, which stays with length 1.
    ReduceOp {
        /// Sum.
        SUM = 1, "sum", "1.0";
        /// Mean.
        MEAN = 2, "mean", "1.0";
        /// Largest; ties share the gradient evenly.
        MAX = 3, "max", "1.0";
        /// Smallest; ties share the gradient evenly.
        MIN = 4, "min", "1.0";
        /// Lower median, as PyTorch's; the gradient goes to the element chosen.
        MEDIAN = 5, "median", "1.0";
        /// Index of the largest, as a number. No gradient.
        ARGMAX = 6, "argmax", "1.0";
    }
}

/// How the host fills a parameter that no weights give a value.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq)]
pub struct InitSpec {
    /// 0: constant `a`; 1: normal with mean `a` and standard deviation `b`; 2: the same, truncated at two
    /// standard deviations; 3: uniform between `a` and `b`.
    pub kind: u32,
    /// First number.
    pub a: f64,
    /// Second number.
    pub b: f64,
}
