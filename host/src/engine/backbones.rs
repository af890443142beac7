//! Which backbone: by name or folder; the default one is found without any option.

use super::backbone_store::{Unaccepted, check_licence};
use crate::backbone::{Backbone, BackboneError, Kernels, NEAR_COSINE, Precision, QuantisedRecord};
use crate::device::{DeviceChoice, gpus};
use crate::memory::{self, Limit};
use crate::plugin::find;
use std::path::{Path, PathBuf};

/// The backbone that ships with the project.
pub const DEFAULT_BACKBONE: &str = "dinov2-small";

/// No backbone by that name.
#[derive(Debug, thiserror::Error)]
pub enum FindBackboneError {
    /// Nothing there.
    #[error("backbone `{wanted}`: not found; looked for a folder with config.json at {}", looked.join(", "))]
    NotFound {
        /// As typed.
        wanted: String,
        /// Where.
        looked: Vec<String>,
    },
    /// The device that it is to compute on cannot be used.
    #[error("{0}")]
    Device(String),
    /// Its weights alone are more than the process may use.
    #[error("{}: found weights of {} MiB, expected at most the {} MiB that {} leaves this process; take a smaller backbone, or give more memory", folder.display(), bytes >> 20, limit.bytes >> 20, limit.source)]
    Memory {
        /// The backbone.
        folder: PathBuf,
        /// Of its weights.
        bytes: usize,
        /// What there is.
        limit: Limit,
    },
    /// Its licence was not accepted.
    #[error(transparent)]
    Licence(#[from] Unaccepted),
    /// There, and refused.
    #[error(transparent)]
    Refused(#[from] BackboneError),
}

/// Folders that may hold backbones, in the order they are looked at.
fn shelves() -> Vec<PathBuf> {
    let mut shelves: Vec<PathBuf> = find::home().map(|h| h.join("backbones")).into_iter().collect();
    shelves.extend(find::above_the_executable().into_iter().map(|f| f.join("backbones")));
    shelves
        .extend(std::env::current_dir().ok().iter().flat_map(|d| d.ancestors()).map(|f| f.join("backbones")));
    shelves
}

fn is_backbone(folder: &Path) -> bool {
    folder.join("config.json").is_file()
}

/// A backbone's folder by name (`$ANYMC3D_HOME/backbones`, then `backbones/` above the executable and above the
/// working folder) or by path.
///
/// # Errors
/// With every place that was looked at.
pub fn find_backbone(wanted: &str) -> Result<PathBuf, FindBackboneError> {
    let typed = PathBuf::from(wanted);
    if is_backbone(&typed) {
        return Ok(typed);
    }
    let mut looked = vec![typed.display().to_string()];
    if typed.components().count() == 1 {
        for shelf in shelves() {
            let candidate = shelf.join(wanted);
            if is_backbone(&candidate) {
                return Ok(candidate);
            }
            let text = candidate.display().to_string();
            if shelf.is_dir() && !looked.contains(&text) {
                looked.push(text);
            }
        }
    }
    Err(FindBackboneError::NotFound { wanted: wanted.to_owned(), looked })
}

/// Every backbone that would be found by name, the first of a name only.
pub fn all_backbones() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for shelf in shelves() {
        let entries = std::fs::read_dir(shelf).into_iter().flatten().flatten().map(|e| e.path());
        let hidden = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        let mut folders: Vec<PathBuf> = entries.filter(|p| is_backbone(p) && !hidden(p)).collect();
        folders.sort();
        for folder in folders {
            if !found.iter().any(|f| f.file_name() == folder.file_name()) {
                found.push(folder);
            }
        }
    }
    found
}

/// What `--precision` may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PrecisionChoice {
    /// bf16 where the device multiplies it faster than f32, else f32; to predict also int8, where the processor multiplies it and the
    /// backbone's layers were quantised and found near enough to f32.
    #[default]
    Auto,
    /// 32-bit floats throughout.
    F32,
    /// bf16 products with f32 sums.
    Bf16,
    /// Products of 16-bit integers.
    Int16,
    /// Products of 8-bit integers where the processor has VNNI, else of 16-bit integers.
    Int8,
}

impl PrecisionChoice {
    /// The choice that comes to `precision` on every machine.
    pub fn of(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
            Precision::Int16 => Self::Int16,
            Precision::Int8 => Self::Int8,
        }
    }

    /// The choice of this name.
    pub fn named(name: &str) -> Option<Self> {
        if name == "auto" { Some(Self::Auto) } else { Precision::named(name).map(Self::of) }
    }

    /// As options call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => Precision::F32.name(),
            Self::Bf16 => Precision::Bf16.name(),
            Self::Int16 => Precision::Int16.name(),
            Self::Int8 => Precision::Int8.name(),
        }
    }

    /// What it comes to on this machine where a backbone, by name or folder, predicts.
    pub fn resolve_on(self, device: DeviceChoice, backbone: &str) -> Precision {
        let on_processor = || match device {
            DeviceChoice::Cpu => true,
            DeviceChoice::Auto => gpus().map_or(true, |all| all.is_empty()),
            DeviceChoice::Cuda(_) => false,
        };
        let multiplies = || matches!(Kernels::detect(), Ok(Kernels::Fast(isa)) if isa.has_vnni());
        let near = || {
            let record = find_backbone(backbone).ok().and_then(|folder| QuantisedRecord::of_folder(&folder));
            record.is_some_and(|record| record.lowest_cosine >= NEAR_COSINE)
        };
        match self {
            Self::Auto if on_processor() && multiplies() && near() => Precision::Int8,
            other => other.resolve(device),
        }
    }

    /// What it comes to on this machine. A GPU that cannot be used is told where it is opened.
    pub fn resolve(self, device: DeviceChoice) -> Precision {
        let native = || {
            let number = match device {
                DeviceChoice::Cpu => return native_bf16(),
                DeviceChoice::Auto => 0,
                DeviceChoice::Cuda(number) => number,
            };
            let gpu = gpus().ok().and_then(|all| all.into_iter().find(|gpu| gpu.number == number));
            match gpu {
                // Ampere and later.
                Some(gpu) => gpu.compute_capability.0 >= 8,
                None => native_bf16(),
            }
        };
        match self {
            Self::F32 => Precision::F32,
            Self::Bf16 => Precision::Bf16,
            Self::Int16 => Precision::Int16,
            Self::Int8 => Precision::Int8,
            Self::Auto if native() => Precision::Bf16,
            Self::Auto => Precision::F32,
        }
    }
}

/// Whether the kernels in use multiply bf16 by instructions of their own.
fn native_bf16() -> bool {
    matches!(Kernels::detect(), Ok(Kernels::Fast(isa)) if isa.has_bf16())
}

/// As results call it.
pub fn precision_name(precision: Precision) -> &'static str {
    precision.name()
}

/// Opens the backbone that was asked for, or the default one.
///
/// # Errors
/// When it is not found or refused.
pub fn open_backbone(wanted: Option<&str>, precision: Precision) -> Result<Backbone, FindBackboneError> {
    open_backbone_on(wanted, precision, (DeviceChoice::Cpu, None))
}

/// The same on a device, of whose own memory it may take so many bytes.
///
/// # Errors
/// As there, and when the device cannot be used.
pub fn open_backbone_on(
    wanted: Option<&str>,
    precision: Precision,
    (device, most): (DeviceChoice, Option<usize>),
) -> Result<Backbone, FindBackboneError> {
    let folder = find_backbone(wanted.unwrap_or(DEFAULT_BACKBONE))?;
    check_licence(&folder)?;
    let weights = std::fs::metadata(folder.join("model.safetensors")).map_or(0, |m| m.len());
    let (bytes, limit) = (usize::try_from(weights).unwrap_or(usize::MAX), memory::limit());
    if bytes > limit.bytes {
        return Err(FindBackboneError::Memory { folder, bytes, limit });
    }
    let device = device.open(most).map_err(FindBackboneError::Device)?;
    let mut backbone = Backbone::open_on(&folder, precision, &device)?;
    if let Some(most) = most {
        backbone.device_at_most(most);
    }
    Ok(backbone)
}
