//! A plugin that is asked at a point: the answer follows the point, and not the order in which a scan is stored.

use anymc3d_host::backbone::{Backbone, Precision};
use anymc3d_host::scan::{Affine, Scan, write_nifti_i16};
use anymc3d_tests::{edited_library, host_binary, plugin_library, random_weights_on, tiny_backbone};
use candle_core::{Device, Tensor};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SHAPE: [usize; 3] = [24, 20, 16];

/// Lung with a ball at voxel 15, 6, 9.
fn scan() -> (Vec<i16>, Affine) {
    let voxel = |i: usize| {
        let at = [i % SHAPE[0], i / SHAPE[0] % SHAPE[1], i / (SHAPE[0] * SHAPE[1])];
        let far: f64 =
            (0..3).map(|a| ((at[a] as f64 - [15.0, 6.0, 9.0][a]) * [1.5, 1.5, 2.5][a]).powi(2)).sum();
        if far < 40.0 { 40 } else { -850 + (i * 7919 % 60) as i16 }
    };
    let affine = Affine::aligned([1.5, 1.5, 2.5], [-20.0, 10.0, 60.0]);
    ((0..SHAPE.iter().product()).map(voxel).collect(), affine)
}

/// The scan with stored axis `a` running along axis `order[a]`, backwards where `flip[a]`.
fn stored(order: [usize; 3], flip: [bool; 3]) -> (Vec<i16>, [usize; 3], Affine) {
    let ((voxels, affine), shape) = (scan(), order.map(|axis| SHAPE[axis]));
    let at = |i: usize| {
        let index = [i % shape[0], i / shape[0] % shape[1], i / (shape[0] * shape[1])];
        let mut at = [0; 3];
        (0..3).for_each(|a| at[order[a]] = if flip[a] { shape[a] - 1 - index[a] } else { index[a] });
        voxels[at[0] + SHAPE[0] * (at[1] + SHAPE[1] * at[2])]
    };
    let mut matrix = affine.0;
    for (to, from) in matrix.iter_mut().zip(&affine.0).take(3) {
        for a in 0..3 {
            to[a] = if flip[a] { -from[order[a]] } else { from[order[a]] };
            to[3] += if flip[a] { from[order[a]] * (shape[a] - 1) as f64 } else { 0.0 };
        }
    }
    ((0..voxels.len()).map(at).collect(), shape, Affine(matrix))
}

/// `nodule_prompt` for the tiny backbone, with weights that make something of the point.
fn plugin(folder: &Path) -> PathBuf {
    let to = folder.join("nodule_prompt.so");
    let edits = [
        ("slices = 8", "slices = 4"),
        ("size = [112, 112]", "size = [ 56,  56]"),
        ("min_embed_dim = 384", "min_embed_dim =   1"),
    ];
    edited_library(&plugin_library("nodule_prompt"), &edits, &to);
    let backbone = Backbone::open(&tiny_backbone(), Precision::F32).unwrap();
    let weights = folder.join("nodule_prompt.safetensors");
    random_weights_on(backbone.info(), &to, &weights, 5, |tensors, _| {
        for name in ["head.prompt.weight", "segmentation.prompt.weight"] {
            let dims = tensors[name].dims().to_vec();
            let n: usize = dims.iter().product();
            let values: Vec<f32> = (0..n).map(|i| ((i * 7919 % 101) as f32 - 50.0) / 25.0).collect();
            tensors.insert(name.to_owned(), Tensor::from_vec(values, dims, &Device::Cpu).unwrap());
        }
        let bias = Tensor::from_vec(vec![0.0f32], 1, &Device::Cpu).unwrap();
        tensors.insert("segmentation.out.bias".to_owned(), bias);
    });
    to
}

/// Logit and mask in canonical order, of one answer.
fn asked(folder: &Path, plugin: &Path, point: &str, out: &str) -> (f64, Vec<f32>) {
    let output = Command::new(host_binary())
        .args(["run", "--plugin", &plugin.display().to_string(), "--point", point, "--segmentation"])
        .args(["--heatmap=false", "--threads", "1", "--out", out, "scan.nii", "--backbone"])
        .arg(tiny_backbone())
        .current_dir(folder)
        .env("ANYMC3D_HOME", folder.join("home"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer = folder.join(out).join("scan/nodule_prompt");
    let result: Value = serde_json::from_slice(&fs::read(answer.join("result.json")).unwrap()).unwrap();
    let mask = Scan::open(&answer.join("segmentation.nii.gz")).unwrap().canonical();
    (result["predictions"][0]["logit"].as_f64().unwrap(), mask.voxels)
}

#[test]
fn the_answer_at_a_point_is_the_same_in_all_48_orientations_and_another_at_another_point() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = plugin(folder.path());
    // The ball's centre: -20 + 15 × 1.5, 10 + 6 × 1.5, 60 + 9 × 2.5.
    let (point, other) = ("2.5,19,82.5", "-14,31,70");
    let mut first: Option<(f64, Vec<f32>)> = None;
    for (n, order) in
        [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]].into_iter().enumerate()
    {
        for flips in 0..8 {
            let flip = [flips & 1 > 0, flips & 2 > 0, flips & 4 > 0];
            let (voxels, shape, affine) = stored(order, flip);
            write_nifti_i16(&folder.path().join("scan.nii"), &voxels, shape, &affine).unwrap();
            let (logit, mask) = asked(folder.path(), &plugin, point, &format!("out-{n}-{flips}"));
            let marked = mask.iter().filter(|v| **v > 0.5).count();
            assert!(marked > 0 && marked < mask.len(), "{marked} of {}", mask.len());
            match &first {
                None => first = Some((logit, mask)),
                Some((expected, drawn)) => {
                    assert!(
                        (logit - expected).abs() < 1e-3,
                        "{order:?} {flip:?}: {logit}, expected {expected}"
                    );
                    let differ = mask.iter().zip(drawn).filter(|(a, b)| a != b).count();
                    // A voxel whose logit is next to 0 may fall on either side.
                    assert!(differ * 500 < mask.len(), "{order:?} {flip:?}: {differ} voxels differ");
                }
            }
        }
    }
    let (elsewhere, drawn) = asked(folder.path(), &plugin, other, "elsewhere");
    let (here, mask) = first.unwrap();
    assert!((elsewhere - here).abs() > 1e-3, "{elsewhere} {here}");
    assert!(mask.iter().zip(&drawn).any(|(a, b)| a != b));
}
