//! Options that several commands share: the backbone, its precision, the device, threads.

use super::advice::with_acceptance;
use super::allocator::keep_free_memory;
use super::outcome::CommandError;
use anymc3d_host::backbone::{Backbone, Precision};
use anymc3d_host::device::DeviceChoice;
use anymc3d_host::engine::backbone_store::accept_licences;
use anymc3d_host::engine::{FindBackboneError, PrecisionChoice, open_backbone_on};
#[cfg(unix)]
use anymc3d_host::memory;
use anymc3d_host::output::{OutputFolder, try_file};
use anymc3d_host::plugin::find;
use anymc3d_host::run::use_threads;
use anymc3d_host::scan::allow_micro_ct;
use anymc3d_host::scan::npz::{ArrayGeometry, Direction, directions, set_array_geometry};
use anymc3d_host::train::PrefixCache;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Which backbone, and where it computes.
#[derive(Debug, Args)]
pub(super) struct BackboneOptions {
    /// Backbone, by name or folder [default: dinov2-small]
    #[arg(long, value_name = "NAME|DIR")]
    pub backbone: Option<String>,
    /// Accept the licence of the backbone; recorded in $ANYMC3D_HOME, so it is asked once on a machine
    #[arg(long)]
    accept_licence: bool,
    /// Device that computes: cpu, cuda:N, or auto (the first GPU that this build can use, else the processor)
    #[arg(long, value_name = "auto|cpu|cuda:N", default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// Most of a device's memory, in bytes, as `--max-memory` gives it.
    #[arg(skip)]
    pub most: Option<usize>,
    #[command(flatten)]
    pub threads: ThreadOption,
}

/// `--precision`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum PrecisionOption {
    Auto,
    F32,
    Bf16,
    Int16,
    Int8,
}

impl PrecisionOption {
    pub fn choice(self) -> PrecisionChoice {
        match self {
            Self::Auto => PrecisionChoice::Auto,
            Self::F32 => PrecisionChoice::F32,
            Self::Bf16 => PrecisionChoice::Bf16,
            Self::Int16 => PrecisionChoice::Int16,
            Self::Int8 => PrecisionChoice::Int8,
        }
    }

    /// `auto` is left to the device.
    pub fn resolve(self, device: DeviceChoice) -> Precision {
        self.choice().resolve(device)
    }
}

/// The folder of `--out`, made and tried.
///
/// # Errors
/// One line that names the option and the folder.
pub(super) fn out_folder(folder: &Path) -> Result<OutputFolder, String> {
    OutputFolder::open(folder).map_err(|e| format!("--out {e}; choose another folder"))
}

/// The file of an option, its folder made and tried.
///
/// # Errors
/// One line that names the option and the file.
pub(super) fn out_file(option: &str, file: &Path) -> Result<(), String> {
    try_file(file).map_err(|e| format!("{option} {e}"))
}

/// A size in bytes: a number with `K`, `M`, `G` or `T` for powers of 1024, as in `4G` or `1.5GiB`.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let wrong = || format!("`{text}` is no size; write for example 800M or 4G");
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit = text[digits..].trim().to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(wrong()),
    };
    let bytes = number * 1024f64.powi(power);
    if bytes >= 1.0 && bytes < usize::MAX as f64 { Ok(bytes as usize) } else { Err(wrong()) }
}

/// Address space of the plugins' process, in bytes: what `--max-memory` says, else 80 % of the machine's memory, and never
/// more than this process has. A control group limits resident memory: the child process finds that limit itself.
#[cfg(unix)]
pub(super) fn memory_limit(given: Option<usize>) -> Option<u64> {
    let limits = memory::system_limits().into_iter().map(|(limit, _)| limit);
    let wanted = |limit: &memory::Limit| match limit.source {
        memory::Source::Machine => given.is_none(),
        source => source == memory::Source::AddressSpace,
    };
    limits.filter(wanted).map(|limit| limit.bytes).chain(given).min().map(|bytes| bytes as u64)
}

/// `--micro-ct`
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct GeometryOption {
    /// Accept voxels from 0.0001 mm (micro-CT); without this option the host refuses voxels below 0.01 mm. It always
    /// refuses voxels above 100 mm, an axis more than 1000 times as coarse as another, and a field of view above 5 m
    #[arg(long)]
    pub micro_ct: bool,
    /// Distance between voxels of a NumPy archive (FILE.npz:SPLIT) along its axes D, H, W in mm [default: unknown, taken as 1]
    #[arg(long, value_name = "D,H,W", value_parser = array_spacing)]
    array_spacing: Option<ArraySpacing>,
    /// Where the axes D, H, W of a NumPy archive run to, for example SPL [default: unknown, taken as SAR]
    #[arg(long, value_name = "XYZ", value_parser = array_axes)]
    array_axes: Option<ArrayAxes>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct ArraySpacing([f64; 3]);

#[derive(Debug, Clone, Copy, PartialEq)]
struct ArrayAxes([Direction; 3]);

fn array_spacing(text: &str) -> Result<ArraySpacing, String> {
    let numbers: Option<Vec<f64>> = text.split(',').map(|v| v.trim().parse().ok()).collect();
    let above_0 = numbers.filter(|all| all.iter().all(|v| v.is_finite() && *v > 0.0));
    let found = above_0.and_then(|all| all.try_into().ok());
    found
        .map(ArraySpacing)
        .ok_or_else(|| "expected three lengths in mm above 0, for example 1,0.5,0.5".to_owned())
}

fn array_axes(text: &str) -> Result<ArrayAxes, String> {
    let found = directions(&text.to_uppercase()).map(ArrayAxes);
    found.ok_or_else(|| {
        "expected one of R L, one of A P and one of S I, in the order of the axes D, H, W".to_owned()
    })
}

impl GeometryOption {
    /// Options on which results depend, where they are given.
    pub fn result_options(&self) -> BTreeMap<String, Value> {
        let spacing = self.array_spacing.map(|s| json!(s.0));
        let axes = self.array_axes.map(|a| json!(format!("{:?}", a.0)));
        let given = [
            ("array-spacing", spacing),
            ("array-axes", axes),
            ("micro-ct", self.micro_ct.then_some(Value::Bool(true))),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    /// Applies to all scans of the process; call it before the first is read.
    pub fn apply(self) {
        allow_micro_ct(self.micro_ct);
        set_array_geometry(ArrayGeometry {
            spacing_mm: self.array_spacing.map(|s| s.0),
            axes: self.array_axes.map(|a| a.0),
        });
    }
}

/// `--threads`
#[derive(Debug, Args)]
pub(super) struct ThreadOption {
    /// Number of threads that compute [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl ThreadOption {
    /// Sizes the process's pool; before anything has used it.
    pub fn apply(&self) -> Result<(), CommandError> {
        threads(self.threads)
    }

    /// As given.
    #[cfg(unix)]
    pub fn number(&self) -> Option<u16> {
        self.threads
    }
}

/// The cache of frozen features, in `folder` or the default one, of at most so many GiB; 0 caches none.
pub(super) fn open_cache(folder: Option<&Path>, gib: f64) -> Result<PrefixCache, CommandError> {
    if !(gib.is_finite() && gib >= 0.0) {
        return Err(CommandError::usage(format!("--cache-size {gib}: expected a number of 0 or more")));
    }
    let folder = folder.map(Path::to_owned).or_else(|| find::home().map(|h| h.join("cache").join("prefix")));
    let folder = folder.filter(|_| gib > 0.0);
    PrefixCache::open(folder.as_deref(), (gib * (1u64 << 30) as f64) as u64).map_err(|e| {
        let folder = folder.as_deref().unwrap_or(Path::new("")).display();
        CommandError::failed(format!("{folder}: the feature cache cannot be opened: {e}; give --cache DIR"))
    })
}

/// Sizes the process's pool; before anything has used it.
pub(super) fn threads(threads: Option<u16>) -> Result<(), CommandError> {
    let Some(threads) = threads else { return Ok(()) };
    use_threads(threads).map_err(|e| CommandError::failed(format!("--threads: {e}")))
}

impl BackboneOptions {
    /// Sizes the process's pool and takes down what is accepted; before anything is opened.
    pub fn apply(&self) -> Result<(), CommandError> {
        if self.accept_licence {
            accept_licences();
        }
        self.threads.apply()
    }

    /// The backbone, or why it is refused.
    pub fn open(&self, precision: Precision) -> Result<Backbone, CommandError> {
        let place = (self.device, self.most);
        let opened = open_backbone_on(self.backbone.as_deref(), precision, place).map_err(|e| refused(&e))?;
        keep_free_memory();
        Ok(opened)
    }
}

/// A backbone that is refused, with the option that helps.
pub(super) fn refused(error: &FindBackboneError) -> CommandError {
    CommandError::refused(with_acceptance(error))
}

/// `--view NAME=FILE`
#[derive(Debug, Clone)]
pub(super) struct ViewFile {
    pub view: String,
    pub file: PathBuf,
}

impl std::str::FromStr for ViewFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((view, file)) if !view.is_empty() && !file.is_empty() => {
                Ok(Self { view: view.to_owned(), file: file.into() })
            }
            _ => Err("expected NAME=FILE, for example sagittal=a.nii.gz".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ArrayAxes, ArraySpacing, array_axes, array_spacing, size};

    #[test]
    fn an_archives_spacing_and_axes_are_three_each() {
        assert_eq!(array_spacing("1, 0.5,2"), Ok(ArraySpacing([1.0, 0.5, 2.0])));
        assert!(["1,2", "1,2,0", "a,b,c", "1,2,inf"].iter().all(|t| array_spacing(t).is_err()));
        assert_eq!(array_axes("spl"), Ok(ArrayAxes([(2, false), (1, true), (0, true)])));
        assert!(["SP", "SPX", "SIL"].iter().all(|t| array_axes(t).is_err()));
    }

    #[test]
    fn sizes_are_powers_of_1024_and_anything_else_is_refused() {
        assert_eq!(size("4G"), Ok(4 << 30));
        assert_eq!(size("1.5GiB"), Ok(3 << 29));
        assert_eq!((size("800m"), size("512KB"), size("77")), (Ok(800 << 20), Ok(512 << 10), Ok(77)));
        for wrong in ["", "G", "4X", "-1G", "0", "1e3", "4 G 2"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
