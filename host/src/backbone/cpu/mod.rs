//! The blocks on the processor's own kernels.

pub(crate) mod block_op;
pub(crate) mod fused;
pub mod kernels;
