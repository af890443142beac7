//! What comes before the first pass: a process's start, an opened backbone, a plugin's library, a scan.

use super::Row;
use crate::outcome::CommandError;
use anymc3d_host::backbone::kernels::clock::{Moment, Spent};
use anymc3d_host::scan::{Affine, Scan, slices, write_nifti_i16};
use anymc3d_host::task::open_library;
use anymc3d_manifest::{Axis, Fit, Intensity, Modality, Region, View};
use std::path::Path;
use std::process::Command;

/// From a process's begin to `--version`, and the opening of the backbone beside it.
pub(super) fn start(
    repetitions: usize,
    open: impl Fn() -> Result<(), CommandError>,
) -> Result<Vec<Row>, CommandError> {
    let (mut process, mut backbone) = (Vec::new(), Vec::new());
    for _ in 0..repetitions {
        process.push(child(&["--version"]).map_err(CommandError::failed)?.0);
        let began = Moment::now();
        open()?;
        backbone.push(began.spent());
    }
    Ok(vec![Row::of("start of the process", &process), Row::of("backbone opened and packed", &backbone)])
}

/// Runs this executable; what passed, and what it wrote.
fn child(arguments: &[&str]) -> Result<(Spent, String), String> {
    let executable = std::env::current_exe().map_err(|e| format!("the executable is not known ({e})"))?;
    let began = Moment::now();
    let ended = Command::new(executable).args(arguments).output().map_err(|e| format!("no process ({e})"))?;
    let spent = began.spent();
    match ended.status.success() {
        true => Ok((spent, String::from_utf8_lossy(&ended.stdout).into_owned())),
        false => Err(String::from_utf8_lossy(&ended.stderr).trim().to_owned()),
    }
}

/// A library's first load in a process.
pub(super) fn load(plugin: &str, repetitions: usize) -> Result<Row, String> {
    let mut times = Vec::new();
    for _ in 0..repetitions {
        let (_, told) = child(&["bench", "--one-load", "--plugin", plugin])?;
        let ms = told.trim().parse().map_err(|_| format!("a load that answered `{}`", told.trim()))?;
        times.push(Spent { wall: ms, process: ms, thread: ms });
    }
    Ok(Row::of("plugin's library found, checked and opened", &times))
}

/// The other side of [`load`].
pub(super) fn one_load(plugin: &str) -> Result<(), String> {
    let began = Moment::now();
    open_library(plugin).map_err(|e| e.to_string())?;
    println!("{}", began.spent().wall);
    Ok(())
}

/// A body of 40 HU in air, with a scanner's noise: compressed by a third, as scans are.
fn write(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let shape = [256usize, 256, 108];
    let mut state = 1u32;
    let mut voxels = Vec::with_capacity(shape.iter().product());
    for i in 0..shape.iter().product::<usize>() {
        let (x, y) = (i % 256, i / 256 % 256);
        let inside = ((x as f64 - 128.0) / 110.0).powi(2) + ((y as f64 - 128.0) / 80.0).powi(2) < 1.0;
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = (state >> 26) as i16 - 32;
        voxels.push(if inside { 40 + noise } else { -1000 + noise / 8 });
    }
    let affine = Affine::aligned([1.0, 1.0, 1.5], [-128.0, -128.0, -80.0]);
    Ok(write_nifti_i16(path, &voxels, shape, &affine)?)
}

/// A scan of the size that the budget is stated for.
pub(super) fn read(repetitions: usize) -> Result<Vec<Row>, String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let path = folder.path().join("scan.nii.gz");
    write(&path).map_err(|e| e.to_string())?;
    let view = View {
        name: "axial".to_owned(),
        modality: Modality::CT,
        axis: Axis::Axial,
        slices: Some(32),
        slice_spacing_mm: None,
        size: [224, 224],
        fit: Fit::Square,
        spacing_mm: None,
        region: Region::Body,
        intensity: Intensity::Window { windows: vec![[-1000.0, 400.0]] },
        ..View::new("v", Axis::Axial, 1, [1, 1])
    };
    let (mut reading, mut slicing) = (Vec::new(), Vec::new());
    for _ in 0..=repetitions {
        let began = Moment::now();
        let volume = Scan::open(&path).map_err(|e| e.to_string())?.into_canonical().1;
        reading.push(began.spent());
        let began = Moment::now();
        let stack = slices(&volume, &view, 14).map_err(|e| e.to_string())?;
        std::hint::black_box(stack.normalised([0.5; 3], [0.2; 3]).map_err(|e| e.to_string())?);
        slicing.push(began.spent());
    }
    let name = |what: &str| format!("scan of 256 x 256 x 108, .nii.gz, {what}");
    Ok(vec![Row::of(&name("read"), &reading[1..]), Row::of(&name("sliced"), &slicing[1..])])
}
