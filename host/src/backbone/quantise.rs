//! A backbone's layers in 8 bits: made once, and told of where they are computed with.

use super::arch;
use super::cpu::calibration::quantised_blocks;
use super::cpu::kernels::{Isa, Kernels};
use super::driver::Backbone;
use super::error::BackboneError;
use super::precision::Precision;
use super::quantised::QuantisedWeights;
use candle_core::Tensor;
use std::path::Path;

impl Backbone {
    /// Opens a folder with 8-bit layers that are not written yet.
    ///
    /// # Errors
    /// As [`Backbone::open`].
    pub fn open_quantised(dir: &Path, layers: &QuantisedWeights) -> Result<Self, BackboneError> {
        Self::of(arch::open(dir)?, Precision::Int8, Kernels::detect()?, Some(layers))
    }

    /// The instruction set of its kernels, as `ANYMC3D_KERNELS` calls it, where that has products of 8-bit integers; `None`: it has not.
    pub fn int8_kernels(&self) -> Option<&'static str> {
        self.fused.as_ref().map(|fused| fused.arithmetic.isa).filter(|isa| isa.has_vnni()).map(Isa::name)
    }

    /// Sha256 of the file of quantised layers that is computed with; `None`: the layers are rounded as they are opened, or not at all.
    pub fn quantised_sha256(&self) -> Option<&str> {
        self.quantised_sha256.as_deref()
    }

    /// The layers of its blocks in 8-bit integers, rounded for what goes into them when the model looks at `pixels` [S, 3, H, W],
    /// normalised. It must be open in f32 on the processor's kernels. `done` is told after each block how many are.
    ///
    /// # Errors
    /// When it computes in other numbers or without kernels, or the pixels do not divide into patches.
    pub fn quantised(
        &self,
        pixels: &Tensor,
        done: &mut dyn FnMut(usize),
    ) -> Result<QuantisedWeights, BackboneError> {
        let exact = self.fused.as_ref().filter(|fused| fused.arithmetic.precision == Precision::F32);
        let Some(fused) = exact else {
            let message =
                "layers are quantised from a backbone that computes in f32 on the processor's kernels";
            return Err(BackboneError::Input(message.to_owned()));
        };
        let blocks = quantised_blocks(fused, pixels, self.grid_of(pixels)?, done)?;
        Ok(QuantisedWeights { blocks, sha256: None })
    }
}
