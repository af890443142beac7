//! Without the feature `cuda` there is no GPU.

use super::Gpu;
use candle_core::{CudaStorage, Device, Layout, Result, Tensor, bail};

const UNKNOWN: &str = "this build knows no GPU; build it with the feature `cuda` (host/cuda/README.md)";

pub(super) fn gpus() -> std::result::Result<Vec<Gpu>, String> {
    Err(UNKNOWN.to_owned())
}

pub(super) fn open(_: usize, _: Option<usize>) -> Result<Device> {
    bail!("{UNKNOWN}")
}

pub(super) fn free_memory(_: &Device) -> Option<usize> {
    None
}

pub(super) fn used_memory(_: &Device) -> Option<usize> {
    None
}

pub(super) fn wide_product(
    _: (&CudaStorage, &Layout),
    _: (&CudaStorage, &Layout),
    _: [usize; 4],
    _: f32,
) -> Result<CudaStorage> {
    bail!("{UNKNOWN}")
}

pub(super) fn uploaded(_: &[f32], _: (usize, usize, usize, usize), _: &Device) -> Result<Tensor> {
    bail!("{UNKNOWN}")
}
