//! What the tests across crates share: where things are, libraries and the binary as they are built, weights and
//! scans made up on the spot.

pub mod allocations;
pub mod small;
pub mod support;

use anymc3d_host::backbone::{Backbone, BackboneInfo, Precision};
use anymc3d_host::device::{DeviceChoice, gpus};
use anymc3d_host::plugin::ParameterSource;
use anymc3d_host::task::{Task, TaskOptions, WeightsInfo, weights};
use anymc3d_host::task::{as_plugins_see, open_library};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The workspace's root.
pub fn workspace() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().unwrap_or(root)
}

/// The processor, and a GPU where this machine and this build have one.
pub fn devices() -> Vec<Device> {
    let gpu = DeviceChoice::Auto.open(None).ok().filter(|device| !device.is_cpu());
    if gpu.is_none() {
        println!("skipped on a GPU: {}", gpus().err().unwrap_or_default());
    }
    std::iter::once(Device::Cpu).chain(gpu).collect()
}

/// The golden numbers: `$ANYMC3D_FIXTURES`, by default `tests/fixtures`, and whether the variable is set.
pub fn fixtures() -> (PathBuf, bool) {
    place("ANYMC3D_FIXTURES", "tests/fixtures")
}

/// The sample scans: `$ANYMC3D_DATA`, by default `../shared/data`, and whether the variable is set.
pub fn data() -> (PathBuf, bool) {
    place("ANYMC3D_DATA", "../shared/data")
}

fn place(variable: &str, default: &str) -> (PathBuf, bool) {
    match std::env::var_os(variable) {
        // Cargo runs tests in the package's folder; a relative path is meant from the workspace's.
        Some(given) => (workspace().join(given), true),
        None => (workspace().join(default), false),
    }
}

/// A file of [`fixtures`] or [`data`], or `None` after saying that the test is skipped.
///
/// # Panics
/// Where the variable is set and the file is missing.
pub fn required((folder, given): (PathBuf, bool), name: &str) -> Option<PathBuf> {
    let path = folder.join(name);
    if path.exists() {
        return Some(path);
    }
    assert!(!given, "{} is missing", path.display());
    println!("skipped: no {}", path.display());
    None
}

/// The folder of the profile this test was built in, for example `target/debug`.
fn built() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let folder = test.ancestors().nth(2).expect("tests lie in target/<profile>/deps");
    folder.to_owned()
}

/// Builds the binary and every plugin of the workspace in the profile of this test run, once per process.
///
/// The whole workspace in one call: packages that are built alone would resolve other features, and so compile the host
/// and plugin-api a second time. After `cargo build --release` and `cargo test --release --workspace` cargo finds
/// nothing to do here except the plugins below `tests/plugins`.
fn build_workspace() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = built();
        let profile = match folder.file_name().unwrap_or_default().to_string_lossy().as_ref() {
            "debug" => "dev".to_owned(),
            other => other.to_owned(),
        };
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--workspace", "--profile", &profile]);
        // What `cargo test` tells a test of its package. Build scripts that look at it (ring's) would run again, and with them
        // everything above them, here and in the next call from a shell.
        let of_the_test =
            |name: &str| ["CARGO_MANIFEST", "CARGO_PKG_"].iter().any(|start| name.starts_with(start));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_the_test)) {
            cargo.env_remove(name);
        }
        cargo.current_dir(workspace()).env("CARGO_TARGET_DIR", folder.parent().unwrap_or(&folder));
        let status = cargo.status().expect("cargo can be started");
        assert!(status.success(), "cargo build --workspace: {status}");
    });
}

/// The binary `host`: `$ANYMC3D_HOST`, for example one with CUDA, or as this workspace builds it.
pub fn host_binary() -> PathBuf {
    if let Some(given) = std::env::var_os("ANYMC3D_HOST") {
        return workspace().join(given);
    }
    build_workspace();
    built().join(format!("host{}", std::env::consts::EXE_SUFFIX))
}

/// A plugin's library by the name of its package.
pub fn plugin_library(package: &str) -> PathBuf {
    build_workspace();
    built().join(anymc3d_host::plugin::find::library_name(package))
}

/// The folder of the backbone that ships with the project.
pub fn backbone_folder() -> PathBuf {
    workspace().join("backbones").join(anymc3d_host::engine::DEFAULT_BACKBONE)
}

/// What identifies it.
pub fn backbone_info() -> &'static BackboneInfo {
    static INFO: OnceLock<BackboneInfo> = OnceLock::new();
    INFO.get_or_init(|| {
        let backbone =
            Backbone::open(&backbone_folder(), Precision::F32).expect("the default backbone opens");
        backbone.info().clone()
    })
}

/// A backbone of three narrow blocks, for tests that are not about numbers.
pub fn tiny_backbone() -> PathBuf {
    workspace().join("tests/fixtures/dinov2_registers")
}

/// [`random_weights`] for the tiny backbone.
pub fn tiny_weights(library: &Path, to: &Path, seed: u64) {
    let backbone = Backbone::open(&tiny_backbone(), Precision::F32).expect("the tiny backbone opens");
    random_weights_on(backbone.info(), library, to, seed, |_, _| {});
}

/// Weights of a library as its parameters are initialised, written to a file; `change` may spoil them first.
pub fn random_weights(
    library: &Path,
    to: &Path,
    seed: u64,
    change: impl FnOnce(&mut BTreeMap<String, Tensor>, &mut WeightsInfo),
) {
    random_weights_on(backbone_info(), library, to, seed, change);
}

/// [`random_weights`] on a backbone of choice.
pub fn random_weights_on(
    info: &BackboneInfo,
    library: &Path,
    to: &Path,
    seed: u64,
    change: impl FnOnce(&mut BTreeMap<String, Tensor>, &mut WeightsInfo),
) {
    let library = open_library(&library.display().to_string()).expect("the library opens");
    let manifest = library.embedded.manifest.clone();
    let source = ParameterSource::Training { seed, start: BTreeMap::new() };
    let options = TaskOptions { segmentation: true, ..TaskOptions::default() };
    let task = Task::build(&library, &as_plugins_see(info), source, DType::F32, &Device::Cpu, &options)
        .expect("the task is built");
    let parameters = task.parameters();
    let mut tensors: BTreeMap<String, Tensor> =
        parameters.into_iter().map(|(name, p)| (name, p.tensor().detach())).collect();
    let mut about = WeightsInfo {
        plugin: manifest.plugin.name.clone(),
        plugin_version: manifest.plugin.version.to_string(),
        backbone: info.name.clone(),
        backbone_fingerprint: info.fingerprint.clone(),
        training: serde_json::json!({"seed": seed, "note": "random, for tests"}),
        ..WeightsInfo::default()
    };
    change(&mut tensors, &mut about);
    weights::write(to, &tensors, &about).expect("the weights are written");
}

/// A copy of a plugin's library whose manifest says something else, each replacement as long as what it replaces. Tests' scans
/// have few slices, centimetres apart: the copy is for findings of any size.
///
/// # Panics
/// Where the manifest does not say what is to be replaced.
pub fn edited_library(library: &Path, replacements: &[(&str, &str)], to: &Path) {
    let mut bytes = std::fs::read(library).expect("the library is read");
    for (old, new) in replacements {
        assert_eq!(old.len(), new.len(), "the manifest's text keeps its length");
        let found = bytes.windows(old.len()).enumerate().filter(|(_, w)| *w == old.as_bytes());
        let places: Vec<usize> = found.map(|(at, _)| at).collect();
        assert!(!places.is_empty(), "the manifest says `{old}`");
        for at in places {
            bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
        }
    }
    for (old, new) in
        [("smallest_mm = 8.0", "smallest_mm = 1e3"), ("smallest_mm = 14.0", "smallest_mm = 1000")]
    {
        while let Some(at) = bytes.windows(old.len()).position(|w| w == old.as_bytes()) {
            bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
        }
    }
    std::fs::write(to, bytes).expect("the copy is written");
}
