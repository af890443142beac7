//! The device that computes: the processor, or an NVIDIA GPU if this build supports it.
//!
//! A build with the feature `cuda` also runs on machines without a GPU: it looks for the driver's library before it calls
//! the driver, because candle panics if the library is absent.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(not(feature = "cuda"))]
#[path = "none.rs"]
mod cuda;

use candle_core::{CudaStorage, Device, Layout, Tensor};
use std::fmt;
use std::str::FromStr;

/// What `--device` may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first GPU that can be used, else the processor.
    #[default]
    Auto,
    Cpu,
    /// By the driver's number.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no device; write auto, cpu, cuda or cuda:N");
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", number)) => number.parse().map(Self::Cuda).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// A GPU as its driver tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// The driver's number.
    pub number: usize,
    pub name: String,
    /// Bytes of its memory.
    pub memory: usize,
    /// Major and minor.
    pub compute_capability: (i32, i32),
    /// The CUDA version that its driver knows at most, as 1000 · major + 10 · minor.
    pub driver: i32,
}

/// The GPUs that this process can use.
///
/// # Errors
/// Why no GPU can be used, in one line that says what to do.
pub fn gpus() -> Result<Vec<Gpu>, String> {
    cuda::gpus()
}

impl DeviceChoice {
    /// Opens a device. On a GPU the tensors of this process take at most `most` bytes.
    ///
    /// # Errors
    /// When the device does not exist or cannot be used; `Auto` then takes the processor.
    pub fn open(self, most: Option<usize>) -> Result<Device, String> {
        let number = match self {
            Self::Cpu => return Ok(Device::Cpu),
            Self::Auto if gpus().is_ok_and(|gpus| !gpus.is_empty()) => 0,
            Self::Auto => return Ok(Device::Cpu),
            Self::Cuda(number) => number,
        };
        let refused = |reason: String| format!("--device {self}: {reason}");
        let gpus = gpus().map_err(refused)?;
        if !gpus.iter().any(|gpu| gpu.number == number) {
            let all: Vec<String> = gpus.iter().map(|g| format!("cuda:{} ({})", g.number, g.name)).collect();
            return Err(refused(format!("no such GPU; this machine has {}", all.join(", "))));
        }
        cuda::open(number, most).map_err(|e| refused(one_line(&e)))
    }
}

/// Name of a device as results tell it: `cpu`, or `cuda:N` and what the driver calls it.
pub fn device_name(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cuda { gpu_id } => {
            let gpu = gpus().ok().and_then(|all| all.into_iter().find(|gpu| gpu.number == gpu_id));
            gpu.map_or(format!("cuda:{gpu_id}"), |gpu| format!("cuda:{gpu_id} ({})", gpu.name))
        }
        _ => "cpu".to_owned(),
    }
}

/// Free bytes of a device's memory, where it has its own and tells; what this process was given and holds nothing in is free.
pub fn free_memory(device: &Device) -> Option<usize> {
    cuda::free_memory(device)
}

/// Bytes that this process's tensors hold of a device's memory, where it has its own and tells.
pub fn used_memory(device: &Device) -> Option<usize> {
    cuda::used_memory(device)
}

/// Values as a tensor on a device, put there beside what it computes. What does not fit stays with the processor, for whoever
/// takes it there piece by piece.
pub fn uploaded(
    values: Vec<f32>,
    shape: (usize, usize, usize, usize),
    device: &Device,
) -> candle_core::Result<Tensor> {
    if !device.is_cpu() {
        match cuda::uploaded(&values, shape, device) {
            Err(e) if is_out_of_memory(&e) => {}
            done => return done,
        }
    }
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// On a GPU, `scale · x yᵀ` of bf16 [b, m, k] and [b, n, k], which lie without gaps, as f32 [b, m, n]: what candle's own products
/// round to bf16 again. `sizes` are b, m, n and k.
pub fn wide_product(
    x: (&CudaStorage, &Layout),
    y: (&CudaStorage, &Layout),
    sizes: [usize; 4],
    scale: f32,
) -> candle_core::Result<CudaStorage> {
    cuda::wide_product(x, y, sizes, scale)
}

/// Whether an error says that a device's memory is full: then the next case may do.
pub fn is_out_of_memory(error: &candle_core::Error) -> bool {
    let text = error.to_string();
    text.contains("OUT_OF_MEMORY") || text.contains("out of memory")
}

/// What a user does about a full device.
pub const WHERE_FULL: &str =
    "see who else uses it; give more with --max-memory, fewer or smaller slices, or --device cpu";

/// The error as one line without a backtrace; a full device in words.
pub fn one_line(error: &candle_core::Error) -> String {
    if is_out_of_memory(error) {
        return format!("the device's memory is full: {WHERE_FULL}");
    }
    error.to_string().lines().next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for text in ["auto", "cpu", "cuda:0", "cuda:3"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        for wrong in ["gpu", "cuda:", "cuda:x", "cpu:0", "", "cuda:-1"] {
            assert!(wrong.parse::<DeviceChoice>().unwrap_err().contains("no device"), "{wrong}");
        }
    }

    #[test]
    fn a_gpu_that_is_not_there_is_refused_in_one_line_and_auto_takes_the_processor() {
        let Err(reason) = gpus() else {
            println!("skipped: this machine has a GPU");
            return;
        };
        let error = DeviceChoice::Cuda(0).open(None).unwrap_err();
        assert!(error.starts_with("--device cuda:0: ") && error.contains(&reason), "{error}");
        assert!(!error.contains('\n'));
        assert!(DeviceChoice::Auto.open(None).unwrap().is_cpu());
    }

    #[test]
    fn a_full_device_is_known_by_its_error() {
        let full = candle_core::Error::Msg("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")".into());
        assert!(is_out_of_memory(&full));
        assert!(!is_out_of_memory(&candle_core::Error::Msg("shape mismatch".into())));
    }
}
