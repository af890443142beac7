//! Scans, pixels and heatmaps against numbers made by nibabel, NumPy, SciPy and PyTorch.
//!
//! Fixtures come from `$ANYMC3D_FIXTURES` (default `tests/fixtures`), scans from `$ANYMC3D_DATA`
//! (default `../shared/data`). Where a variable is set, a missing file is a failure; where it is
//! not, the test says that it was skipped. The tests are generic over the fixtures' keys.

use std::path::{Path, PathBuf};

use anymc3d_host::output::{slice_heat, upsample};
use anymc3d_host::scan::{Scan, slices};
use anymc3d_manifest::{Axis, Fit, Intensity, Modality, Region, View};

fn folder(variable: &str, default: &str) -> (PathBuf, bool) {
    match std::env::var_os(variable).map(|given| anymc3d_tests::workspace().join(given)) {
        Some(path) => (path, true),
        None => (Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(default), false),
    }
}

/// The file where it exists; a failure where the variable promised it; else `None`, and a line that says so.
fn needed(variable: &str, default: &str, names: &[String]) -> Option<PathBuf> {
    let (folder, promised) = folder(variable, default);
    let found = names.iter().map(|n| folder.join(n)).find(|p| p.exists());
    if found.is_none() {
        let missing = format!("{} is not in {}", names[0], folder.display());
        assert!(!promised, "{missing}, where ${variable} points");
        println!("SKIPPED: {missing}; set ${variable}");
    }
    found
}

fn fixture(name: &str) -> Option<Vec<u8>> {
    let path = needed("ANYMC3D_FIXTURES", "tests/fixtures", &[name.to_string()])?;
    Some(std::fs::read(path).expect("a fixture is readable"))
}

fn scan_path(stem: &str) -> Option<PathBuf> {
    needed("ANYMC3D_DATA", "../shared/data", &[format!("{stem}.nii.gz"), format!("{stem}.nii")])
}

fn floats(tensor: &safetensors::tensor::TensorView) -> Vec<f32> {
    tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// `scan|axis|fit|SxHxW|intensity` to the scan's stem and the view it describes.
fn view_of(key: &str) -> (String, View) {
    let parts: Vec<&str> = key.split('|').collect();
    let [scan, axis, fit, size, intensity] = parts[..] else { panic!("unexpected key {key}") };
    let axis = match axis {
        "axial" => Axis::Axial,
        "coronal" => Axis::Coronal,
        "sagittal" => Axis::Sagittal,
        other => panic!("unexpected axis {other}"),
    };
    let fit = match fit {
        "square" => Fit::Square,
        "stretch" => Fit::Stretch,
        other => panic!("unexpected fit {other}"),
    };
    let size: Vec<usize> = size.split('x').map(|n| n.parse().expect("a size")).collect();
    let numbers: Vec<f64> = intensity[2..].split(',').map(|n| n.parse().expect("a number")).collect();
    let intensity = if intensity.starts_with('p') {
        Intensity::Percentile { low: numbers[0], high: numbers[1], nonzero: true }
    } else {
        Intensity::Window { windows: numbers.chunks(2).map(|w| [w[0], w[1]]).collect() }
    };
    let view = View {
        name: "parity".into(),
        modality: Modality::Any,
        axis,
        slices: Some(size[0]),
        slice_spacing_mm: None,
        size: [size[1], size[2]],
        fit,
        spacing_mm: None,
        region: Region::Full,
        intensity,
        ..View::new("v", Axis::Axial, 1, [1, 1])
    };
    (scan.to_string(), view)
}

#[test]
fn pixels_have_parity_with_nibabel_and_pytorch() {
    let Some(file) = fixture("pixels.safetensors") else { return };
    let tensors = safetensors::SafeTensors::deserialize(&file).expect("pixels.safetensors");
    for (key, expected) in tensors.tensors() {
        let (stem, view) = view_of(&key);
        let Some(path) = scan_path(&stem) else { continue };
        let scan = Scan::open(&path).unwrap_or_else(|e| panic!("{e}"));
        let stack = slices(&scan.canonical(), &view, 1).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(stack.shape.as_slice(), expected.shape(), "{key}");
        let tolerance = if matches!(view.intensity, Intensity::Percentile { .. }) { 1e-3 } else { 1e-4 };
        let worst =
            stack.pixels.iter().zip(floats(&expected)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{key}: largest difference {worst:.2e}");
        assert!(worst < tolerance, "{key}: {worst} is more than {tolerance}");
    }
}

/// Trilinear value of a scan at an RAS position, in f64.
fn sample(scan: &Scan, ras_mm: [f64; 3]) -> f64 {
    let index = scan.affine.inverse().expect("an invertible affine").apply(ras_mm);
    let mut value = 0.0;
    for corner in 0..8usize {
        let (mut at, mut weight, mut stride) = (0, 1.0, 1);
        for (axis, i) in index.into_iter().enumerate() {
            let i = i.clamp(0.0, scan.shape[axis] as f64 - 1.0);
            let below = (i.floor() as usize).min(scan.shape[axis].saturating_sub(2));
            let up = corner >> axis & 1;
            weight *= if up == 1 { i - below as f64 } else { 1.0 - (i - below as f64) };
            at += (below + up).min(scan.shape[axis] - 1) * stride;
            stride *= scan.shape[axis];
        }
        value += weight * f64::from(scan.voxels[at]);
    }
    value
}

#[test]
fn geometry_has_parity_with_nibabel() {
    let Some(file) = fixture("geometry.json") else { return };
    let scans: serde_json::Value = serde_json::from_slice(&file).expect("geometry.json");
    for (name, expected) in scans.as_object().expect("an object") {
        let Some(path) = needed("ANYMC3D_DATA", "../shared/data", std::slice::from_ref(name)) else {
            continue;
        };
        let scan = Scan::open(&path).unwrap_or_else(|e| panic!("{e}"));
        println!(
            "{name}: {} {:?} {:?} {:?}",
            scan.orientation, scan.shape, scan.modality_guess, scan.warnings
        );
        let number = |v: &serde_json::Value| v.as_f64().expect("a number");
        let close = |what: &str, found: f64, expected: f64, tolerance: f64| {
            assert!((found - expected).abs() <= tolerance, "{name}: {what} is {found}, expected {expected}");
        };
        assert_eq!(scan.orientation, expected["stored_orientation"].as_str().expect("letters"), "{name}");
        for a in 0..3 {
            assert_eq!(Some(scan.shape[a] as u64), expected["stored_shape"][a].as_u64(), "{name}");
            close("spacing", scan.spacing_mm[a], number(&expected["spacing_mm"][a]), 1e-5);
        }
        for r in 0..4 {
            for c in 0..4 {
                close("affine", scan.affine.0[r][c], number(&expected["affine_ras_mm"][r][c]), 1e-5);
            }
        }
        let span = number(&expected["max"]) - number(&expected["min"]);
        close("minimum", f64::from(scan.range()[0]), number(&expected["min"]), 1e-5 * span);
        close("maximum", f64::from(scan.range()[1]), number(&expected["max"]), 1e-5 * span);
        let mean = scan.voxels.iter().map(|&v| f64::from(v)).sum::<f64>() / scan.voxels.len() as f64;
        close("mean", mean, number(&expected["mean"]), 1e-6 * span);
        for point in expected["samples"].as_array().expect("samples") {
            let ras = [0, 1, 2].map(|i| number(&point["ras_mm"][i]));
            // Positions are rounded to 1e-4 mm; between neighbours a scan may jump by its whole span.
            close("sample", sample(&scan, ras), number(&point["value"]), 5e-4 * span.max(1.0));
        }
    }
}

#[test]
fn parity_heatmap_upsampling() {
    let Some(file) = fixture("heatmap.safetensors") else { return };
    let tensors = safetensors::SafeTensors::deserialize(&file).expect("heatmap.safetensors");
    let tensor = |name: &str| tensors.tensor(name).expect(name);
    let (attention, pixels) = (tensor("cls_attention"), tensor("pixels"));
    let (&[s, h, w], &[_, _, rows, columns]) = (attention.shape(), pixels.shape()) else {
        panic!("unexpected ranks")
    };
    let heat = slice_heat(&floats(&attention), &floats(&tensor("slice_weights")));
    let heat = upsample(&heat, [h, w], [rows, columns]);
    assert_eq!(heat.len(), s * rows * columns);
    let stored = tensor("heatmap");
    let every = rows / stored.shape()[1];
    let found =
        (0..s * rows * columns).filter(|i| i / columns % rows % every == 0 && i % columns % every == 0);
    let found: Vec<f32> = found.map(|i| heat[i]).collect();
    let expected = floats(&stored);
    assert_eq!(found.len(), expected.len());
    let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("heatmap: largest difference {worst:.2e}");
    assert!(worst < 1e-6, "{worst}");
}
