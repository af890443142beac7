//! Operations on volumes: what a 3D decoder is made of.

use crate::abi::named;
use crate::abi::types::{Entry, ErrorCode};
use crate::error::{Error, Result};
use crate::tensor::{Tensor, plain};
use abi_stable::std_types::{RSlice, RStr};

impl Tensor {
    /// 3D convolution (PyTorch's `conv3d`, a correlation) of `[C, D, H, W]` or `[N, C, D, H, W]` with `weight`
    /// `[O, C, kD, kH, kW]`: `[O, …]` or `[N, O, …]`, each axis of length `(n + 2 · padding - k) / stride + 1`.
    ///
    /// `stride` and zero `padding` (on both ends) are of depth, height and width. There is no bias: add one of shape
    /// `[O, 1, 1, 1]`. On the processor a stride costs as much as stride 1.
    ///
    /// # Errors
    /// When the channels differ, a stride is 0, or the kernel is larger than the padded input.
    ///
    /// ```
    /// # fn main() -> anymc3d_plugin_api::Result<()> {
    /// # #[cfg(feature = "testkit")] {
    /// use anymc3d_plugin_api::testkit::Context;
    ///
    /// let context = Context::new(0);
    /// let x = context.random("x", &[2, 4, 6, 6])?;                            // [C, D, H, W]
    /// let weight = context.random("weight", &[5, 2, 3, 3, 3])?;               // [O, C, kD, kH, kW]
    /// let y = x.conv3d(&weight, [1, 2, 2], [1, 1, 1])?;
    /// assert_eq!(y.dims()?, [5, 4, 3, 3]);
    /// assert_eq!(y.resize_linear([4, 6, 6])?.dims()?, [5, 4, 6, 6]);
    /// # }
    /// # Ok(())
    /// # }
    /// ```
    pub fn conv3d(&self, weight: &Tensor, stride: [usize; 3], padding: [usize; 3]) -> Result<Tensor> {
        self.named(named::CONV3D, &[self, weight], &[("stride", stride), ("padding", padding)])
    }

    /// Linear interpolation of the last three axes to `size`, edges aligned: `[…, D, H, W]` to `[…, size]`. PyTorch's
    /// `interpolate(mode="trilinear", align_corners=False)`; an axis that shrinks is not smoothed.
    ///
    /// # Errors
    /// When there are fewer than three axes, or one is empty.
    pub fn resize_linear(&self, size: [usize; 3]) -> Result<Tensor> {
        self.named(named::RESIZE_LINEAR, &[self], &[("size", size)])
    }

    /// An operation of [`named::ALL`] that gives one tensor.
    fn named(&self, name: &str, inputs: &[&Tensor], attributes: &[(&str, [usize; 3])]) -> Result<Tensor> {
        let handles: Vec<_> = inputs.iter().map(|t| t.handle()).collect();
        let attributes: Vec<Entry> = attributes
            .iter()
            .map(|(key, [d, h, w])| Entry { key: (*key).into(), value: format!("{d},{h},{w}").into() })
            .collect();
        let host = self.host();
        let answer = (host.ops.exec())(
            host.context,
            RStr::from_str(name),
            RSlice::from_slice(&handles),
            RSlice::from_slice(&attributes),
        );
        let answer = plain(answer).map_err(|e| match e.code() {
            ErrorCode::UNKNOWN_OP => host.too_old(name, named::since(name)),
            _ => e,
        })?;
        // Every handle is taken over before the number of them is judged.
        let mut outputs: Vec<Tensor> = answer.into_iter().map(|handle| host.adopt(handle)).collect();
        match (outputs.pop(), outputs.len()) {
            (Some(output), 0) => Ok(output),
            _ => Err(Error::msg(format!("op `{name}`: the host did not answer with one tensor"))),
        }
    }
}
