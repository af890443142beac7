//! Plugins on the tiny backbone, and scans for them, that are answered in milliseconds: for tests that are not about numbers.

use crate::{edited_library, plugin_library, tiny_weights};
use anymc3d_host::scan::{Affine, write_nifti_i16};
use std::path::{Path, PathBuf};

/// What makes a plugin's manifest one for the tiny backbone.
pub const SMALL: [(&str, &str); 4] = [
    ("slices = 40", "slices = 5 "),
    ("size = [168, 168]", "size = [70 , 56 ]"),
    ("region = \"lungs\"", "region = \"body\" "),
    ("min_embed_dim = 384", "min_embed_dim = 48 "),
];
/// Voxels of a scan.
pub const SHAPE: [usize; 3] = [24, 20, 10];

/// The line of a manifest that names its first view, which `misbehaves` takes for what it is to do.
pub fn way_line(way: &str) -> String {
    format!("{:<36}# the way", format!("name = \"{way}\""))
}

/// `mean_probe` in a folder, with weights.
///
/// # Panics
/// When it cannot be written.
pub fn probe(folder: &Path) -> PathBuf {
    let path = folder.join("good.so");
    edited_library(&plugin_library("mean_probe"), &SMALL, &path);
    tiny_weights(&path, &folder.join("mean_probe.safetensors"), 4);
    path
}

/// `misbehaves` in a folder, with weights.
///
/// # Panics
/// When it cannot be written.
pub fn misbehaving(folder: &Path, way: &str) -> PathBuf {
    let path = folder.join("misbehaves.so");
    let (good, bad) = (way_line("axial"), way_line(way));
    let edits: Vec<(&str, &str)> = SMALL.into_iter().chain([(good.as_str(), bad.as_str())]).collect();
    edited_library(&plugin_library("misbehaves"), &edits, &path);
    // As it is while nothing goes wrong.
    let whole = folder.join("whole.so");
    let harmless = way_line("whole");
    let edits: Vec<(&str, &str)> = SMALL.into_iter().chain([(good.as_str(), harmless.as_str())]).collect();
    edited_library(&plugin_library("misbehaves"), &edits, &whole);
    tiny_weights(&whole, &folder.join("misbehaves.safetensors"), 4);
    std::fs::remove_file(whole).expect("it was written above");
    path
}

/// A scan of a body in air, another one for each seed, whose first voxel lies at `origin` (RAS mm).
///
/// # Panics
/// When it cannot be written.
pub fn scan(path: &Path, seed: usize, origin: [f64; 3]) {
    let voxel = |i: usize| {
        let (x, y) = (i % SHAPE[0], i / SHAPE[0] % SHAPE[1]);
        let inside = (3..20).contains(&x) && (2..17).contains(&y);
        if inside { (i * (seed + 1) * 7919 % 300) as i16 - 60 } else { -1000 }
    };
    let voxels: Vec<i16> = (0..SHAPE.iter().product()).map(voxel).collect();
    write_nifti_i16(path, &voxels, SHAPE, &Affine::aligned([9.0, 9.0, 12.0], origin))
        .expect("a scan is written");
}
