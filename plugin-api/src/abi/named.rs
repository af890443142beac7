//! Operations that are called by name, through `exec` of the table.
//!
//! An operation has a name, and no function in the table, if it has several settings and may get more: a function of the
//! table can never get another parameter, but an attribute can be added here. Looking up a name costs less than a
//! thousandth of what such an operation computes. Attributes are named values in decimal; commas separate the numbers of
//! a value.
//!
//! A host refuses, with `UNKNOWN_OP`, a name **or an attribute** that it does not know: the plugin expects another result
//! than this host would compute. Names and attributes are added and never changed.

/// `[x, weight]` → `[out]`, attributes `stride` and `padding` (`D,H,W`; 1 and 0 where missing). See
/// [`crate::Tensor::conv3d`].
pub const CONV3D: &str = "conv3d";

/// `[x]` → `[out]`, attribute `size` (`D,H,W`). See [`crate::Tensor::resize_linear`].
pub const RESIZE_LINEAR: &str = "resize_linear";

/// Every operation of this build, and the ABI version that brought it.
pub const ALL: &[(&str, &str)] = &[(CONV3D, "1.0"), (RESIZE_LINEAR, "1.0")];

/// The ABI version that brought an operation.
pub fn since(name: &str) -> &'static str {
    ALL.iter().find(|(n, _)| *n == name).map_or("a later version", |(_, since)| since)
}
