//! Where tensors are computed: the processor, or an NVIDIA GPU where this build knows one.
//!
//! A build with the feature `cuda` runs on machines without: the driver's library is looked for before anything of it is
//! called, because candle panics where it is absent.

use candle_core::Device;
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

/// What there is beside the processor.
///
/// # Errors
/// Why no GPU can be used, in one line that says what to do.
pub fn gpus() -> Result<Vec<Gpu>, String> {
    cuda::gpus()
}

impl DeviceChoice {
    /// The device that was asked for.
    ///
    /// # Errors
    /// When it is not there, or cannot be used; `Auto` takes the processor then.
    pub fn open(self) -> Result<Device, String> {
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
        // A stream of its own: candle's default is one per thread, and slices are uploaded by another thread than the one
        // that computes with them.
        Device::new_cuda_with_stream(number).map_err(|e| refused(one_line(&e)))
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

/// Free bytes of a device's memory, where it has its own and tells.
pub fn free_memory(device: &Device) -> Option<usize> {
    cuda::free_memory(device)
}

/// Whether an error says that a device's memory is full: then the next case may do.
pub fn is_out_of_memory(error: &candle_core::Error) -> bool {
    let text = error.to_string();
    text.contains("OUT_OF_MEMORY") || text.contains("out of memory")
}

fn one_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().trim().to_owned()
}

#[cfg(not(feature = "cuda"))]
mod cuda {
    use super::Gpu;
    use candle_core::Device;

    pub fn gpus() -> Result<Vec<Gpu>, String> {
        Err("this build knows no GPU; build it with the feature `cuda` (cuda/README.md)".to_owned())
    }

    pub fn free_memory(_: &Device) -> Option<usize> {
        None
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    use super::Gpu;
    use candle_core::Device;
    use candle_core::cuda_backend::cudarc::driver::{CudaContext, DriverError, result};

    pub fn gpus() -> Result<Vec<Gpu>, String> {
        libraries::present()?;
        let told = |what: &str, e: DriverError| {
            format!("the NVIDIA driver {what} ({e:?}); see whether `nvidia-smi` works as this user")
        };
        result::init().map_err(|e| told("does not start", e))?;
        let count = result::device::get_count().map_err(|e| told("tells no GPU", e))?;
        let driver = libraries::driver_version();
        let describe = |number: usize| {
            let context = CudaContext::new(number).map_err(|e| told("does not open a GPU", e))?;
            Ok(Gpu {
                number,
                name: context.name().map_err(|e| told("tells no name", e))?,
                memory: context.total_mem().map_err(|e| told("tells no memory", e))?,
                compute_capability: context.compute_capability().map_err(|e| told("tells no version", e))?,
                driver,
            })
        };
        let all: Result<Vec<Gpu>, String> = (0..usize::try_from(count).unwrap_or(0)).map(describe).collect();
        match all {
            Ok(all) if all.is_empty() => Err("the NVIDIA driver tells no GPU; see `nvidia-smi`".to_owned()),
            all => all,
        }
    }

    pub fn free_memory(device: &Device) -> Option<usize> {
        let device = device.as_cuda_device().ok()?;
        device.cuda_stream().context().mem_get_info().ok().map(|(free, _)| free)
    }

    /// The libraries that candle loads when it is first asked for, and panics without.
    #[allow(unsafe_code)]
    mod libraries {
        use candle_core::cuda_backend::cudarc::driver;

        pub fn present() -> Result<(), String> {
            let all = [("NVIDIA's driver", "libcuda"), ("cuBLAS", "libcublas"), ("cuRAND", "libcurand")];
            match all.iter().find(|(_, library)| !is_there(library)) {
                None => Ok(()),
                Some((what, library)) => Err(format!(
                    "{what} ({library}.so) is not found; install it, or name its folder in LD_LIBRARY_PATH (cuda/README.md)"
                )),
            }
        }

        /// Under one of the names that candle's loader tries.
        fn is_there(library: &str) -> bool {
            ["", ".13", ".12", ".11", ".10", ".1"].iter().any(|version| {
                // SAFETY: it opens NVIDIA's library of that name, as the dynamic linker would, and closes it again. No
                // function of it is called.
                unsafe { libloading::Library::new(format!("{library}.so{version}")) }.is_ok()
            })
        }

        pub fn driver_version() -> i32 {
            let mut version = 0;
            // SAFETY: the driver was initialised, and writes one number where it is told to.
            let _ = unsafe { driver::sys::cuDriverGetVersion(&mut version) };
            version
        }
    }
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
        let error = DeviceChoice::Cuda(0).open().unwrap_err();
        assert!(error.starts_with("--device cuda:0: ") && error.contains(&reason), "{error}");
        assert!(!error.contains('\n'));
        assert!(DeviceChoice::Auto.open().unwrap().is_cpu());
    }

    #[test]
    fn a_full_device_is_known_by_its_error() {
        let full = candle_core::Error::Msg("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")".into());
        assert!(is_out_of_memory(&full));
        assert!(!is_out_of_memory(&candle_core::Error::Msg("shape mismatch".into())));
    }
}
