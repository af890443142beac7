//! A scan through whole tasks, in this process: orientations, sharing, and what a failing plugin leaves alone.

use anymc3d_host::backbone::{Backbone, Precision};
use anymc3d_host::engine::{Case, Engine};
use anymc3d_host::output::{ViewHeat, on_scan, peak, slice_heat};
use anymc3d_host::scan::{Affine, Scan, write_nifti_i16};
use anymc3d_host::task::LoadedTask;
use anymc3d_tests::{backbone_folder, backbone_info, edited_library, plugin_library, random_weights};
use std::path::{Path, PathBuf};

/// A plugin with few and small slices, so that a case takes a moment, and random weights beside it.
fn small(package: &str, folder: &Path, seed: u64) -> PathBuf {
    let library = folder.join(format!("{package}_{seed}.so"));
    let edits = [
        ("slices = 40", "slices = 5 "),
        ("size = [168, 168]", "size = [70 , 56 ]"),
        ("region = \"lungs\"", "region = \"body\" "),
    ];
    edited_library(&plugin_library(package), &edits, &library);
    let weights = library.with_extension("safetensors");
    random_weights(&library, &weights, seed, |tensors, _| {
        // LoRA's B starts at zero, which would leave the adapter without effect.
        for (name, t) in tensors.iter_mut().filter(|(name, _)| name.ends_with("lora_B")) {
            let n = t.elem_count();
            let values: Vec<f32> =
                (0..n).map(|i| ((i * 31 + name.len()) % 17) as f32 / 170.0 - 0.05).collect();
            *t = candle_core::Tensor::from_vec(values, t.shape(), t.device()).unwrap();
        }
    });
    library
}

fn open(library: &Path) -> LoadedTask {
    let weights = library.with_extension("safetensors");
    LoadedTask::open(&library.display().to_string(), Some(&weights), backbone_info()).unwrap()
}

fn engine(libraries: &[PathBuf]) -> Engine {
    let backbone = Backbone::open(&backbone_folder(), Precision::F32).unwrap();
    Engine::new(backbone, Precision::F32, libraries.iter().map(|l| open(l)).collect())
}

fn case(path: &Path) -> Case {
    Case { name: "case".into(), image: Some(path.to_owned()), ..Case::default() }
}

const SHAPE: [usize; 3] = [22, 18, 15];

/// A body of 40 HU in air with bright things in it, nothing symmetric.
fn body() -> (Vec<i16>, Affine) {
    let mut voxels = vec![-1000i16; SHAPE.iter().product()];
    for k in 0..SHAPE[2] {
        for j in 0..SHAPE[1] {
            for i in 0..SHAPE[0] {
                let inside = (3..20).contains(&i) && (2..15).contains(&j) && k > 1;
                let wave = ((i * 7 + j * 5 + k * 11) % 23) as i16 * 9;
                let blob = (i as i32 - 14).pow(2) + (j as i32 - 6).pow(2) + (k as i32 - 9).pow(2) < 9;
                let value = if blob { 380 } else { -60 + wave };
                if inside {
                    voxels[i + SHAPE[0] * (j + SHAPE[1] * k)] = value;
                }
            }
        }
    }
    (voxels, Affine::aligned([1.5, 2.0, 3.0], [-20.0, 12.0, 100.0]))
}

/// The same voxels with stored axis `a` running along axis `order[a]`, backwards where `flip[a]`.
fn stored(
    voxels: &[i16],
    affine: &Affine,
    order: [usize; 3],
    flip: [bool; 3],
) -> (Vec<i16>, [usize; 3], Affine) {
    let shape = order.map(|axis| SHAPE[axis]);
    let mut out = Vec::with_capacity(voxels.len());
    for c in 0..shape[2] {
        for b in 0..shape[1] {
            for a in 0..shape[0] {
                let mut at = [0; 3];
                for (stored, index) in [a, b, c].into_iter().enumerate() {
                    at[order[stored]] = if flip[stored] { shape[stored] - 1 - index } else { index };
                }
                out.push(voxels[at[0] + SHAPE[0] * (at[1] + SHAPE[1] * at[2])]);
            }
        }
    }
    let mut matrix = affine.0;
    for (to, from) in matrix.iter_mut().zip(&affine.0).take(3) {
        for axis in 0..3 {
            let along = from[order[axis]];
            to[axis] = if flip[axis] { -along } else { along };
            if flip[axis] {
                to[3] += along * (shape[axis] - 1) as f64;
            }
        }
    }
    (out, shape, Affine(matrix))
}

#[test]
fn a_scan_stored_in_all_48_orientations_gives_the_same_pixels_logits_and_heatmap_peak() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(&[small("lung_nodule", folder.path(), 3)]);
    let (voxels, affine) = body();
    let mut first: Option<(Vec<f32>, f64, [f64; 3])> = None;
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for flips in 0..8 {
            let flip = [flips & 1 > 0, flips & 2 > 0, flips & 4 > 0];
            let (voxels, shape, affine) = stored(&voxels, &affine, order, flip);
            let path = folder.path().join("scan.nii");
            write_nifti_i16(&path, &voxels, shape, &affine).unwrap();
            let answer = engine.predict(&case(&path), true).remove(0).unwrap();
            let view = &answer.evidence[0];
            let heat = slice_heat(&view.attention, &view.slice_weights);
            let part = ViewHeat { grid: &view.stack.grid, heat: &heat, patches: [5, 4], weight: 1.0 };
            let on_scan = on_scan(&[part]).unwrap();
            let scan = Scan::open(&path).unwrap();
            let peak = peak(&on_scan, scan.shape, &scan.affine).unwrap().position_mm;
            let logit = answer.result.predictions[0].logit;
            match &first {
                None => first = Some((view.stack.pixels.clone(), logit, peak)),
                Some((pixels, z, position)) => {
                    let worst =
                        pixels.iter().zip(&view.stack.pixels).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(worst <= 1e-4, "{order:?} {flip:?}: pixels differ by {worst}");
                    assert!((z - logit).abs() <= 1e-3, "{order:?} {flip:?}: {logit} against {z}");
                    let off = (0..3).map(|i| (position[i] - peak[i]).abs()).fold(0.0, f64::max);
                    assert!(off <= 1e-3, "{order:?} {flip:?}: the peak moved by {off} mm");
                }
            }
        }
    }
}

#[test]
fn tasks_with_equal_preprocessing_answer_together_as_they_do_alone() {
    let folder = tempfile::tempdir().unwrap();
    let libraries = [small("lung_nodule", folder.path(), 5), small("mean_probe", folder.path(), 6)];
    let path = folder.path().join("scan.nii.gz");
    let (voxels, affine) = body();
    write_nifti_i16(&path, &voxels, SHAPE, &affine).unwrap();
    let together = engine(&libraries).predict(&case(&path), false);
    for (i, both) in together.into_iter().enumerate() {
        let alone = engine(&libraries[i..=i]).predict(&case(&path), false).remove(0).unwrap().result;
        let both = both.unwrap().result;
        assert_eq!(both.plugin.name, alone.plugin.name);
        let off = (both.predictions[0].logit - alone.predictions[0].logit).abs();
        assert!(off < 1e-4, "{}: off by {off}", both.plugin.name);
        // The second task found the scan read and the slices cut.
        assert!(i == 0 || (both.timing_ms.read == 0.0 && both.timing_ms.preprocess == 0.0));
    }
}

#[test]
fn a_plugin_that_panics_in_a_case_is_its_own_error_and_the_others_answer() {
    let folder = tempfile::tempdir().unwrap();
    let libraries = [small("panics", folder.path(), 1), small("mean_probe", folder.path(), 2)];
    let path = folder.path().join("scan.nii.gz");
    let (voxels, affine) = body();
    write_nifti_i16(&path, &voxels, SHAPE, &affine).unwrap();
    let mut answers = engine(&libraries).predict(&case(&path), false);
    let good = answers.pop().unwrap().unwrap();
    assert_eq!(good.result.plugin.name, "mean_probe");
    let bad = answers.pop().unwrap().err().unwrap().to_string();
    assert!(bad.contains("plugin panics: forward") && bad.contains("this plugin gives up"), "{bad}");
    assert!(bad.contains("lib.rs:"), "{bad}");
}
