//! The model on the processor's kernels. `infer` runs whole slices without gradients, `block_op` one block at a time with
//! them; both run the blocks of `fused`, made of the layers of `packed`. `calibration` shows a model slices and has its layers rounded
//! for them by `rounding`.

pub(crate) mod block_op;
pub(crate) mod calibration;
pub(crate) mod fused;
pub(crate) mod infer;
pub mod kernels;
mod packed;
pub(crate) mod packed_lora;
mod rounding;
