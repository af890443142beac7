//! One path of a case through every command: training sees the pixels of a prediction, and a scan is decoded once.

use anymc3d_host::engine::CaseData;
use anymc3d_host::scan::{RegionOfInterest, Scan, write_nifti_i16, write_nifti_u8};
use anymc3d_manifest::Manifest;
use anymc3d_tests::{
    backbone_folder, backbone_info, edited_library, host_binary, plugin_library, random_weights, workspace,
};
use std::path::{Path, PathBuf};
use std::process::Command;

fn scan() -> PathBuf {
    workspace().join("examples/scans/chest_phantom.nii.gz")
}

/// How many scans and masks a command opens, as its log at `-vv` tells; without their names.
fn opened(folder: &Path, arguments: &[&str]) -> usize {
    logged(folder, arguments, "a scan is opened")
}

/// How often a command logs a line.
fn logged(folder: &Path, arguments: &[&str], what: &str) -> usize {
    let mut command = Command::new(host_binary());
    command.current_dir(workspace()).env("ANYMC3D_HOME", folder.join("home")).args(["-vv"]).args(arguments);
    command.arg("--backbone").arg(backbone_folder());
    let output = command.output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {log}");
    log.lines().filter(|line| line.contains(what)).count()
}

#[test]
fn a_plugins_library_is_read_once_from_choosing_to_loading() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (one, other) = (folder.path().join("one.so"), folder.path().join("other.so"));
    let few = [("slices = 40", "slices =  4"), ("size = [168, 168]", "size = [ 56,  56]")];
    edited_library(&plugin_library("lung_nodule"), &few, &one);
    edited_library(&plugin_library("attention_probe"), &few, &other);
    random_weights(&one, &folder.path().join("lung_nodule.safetensors"), 1, |_, _| {});
    random_weights(&other, &folder.path().join("attention_probe.safetensors"), 1, |_, _| {});
    let (one, other, scan) =
        (one.display().to_string(), other.display().to_string(), scan().display().to_string());
    let read = |arguments: &[&str]| logged(folder.path(), arguments, "a library is read");
    let run = ["run", "--plugin", &one, "--plugin", &other, &scan];
    assert_eq!(read(&run), 2);
    // Each process reads it for itself; the second compares its digest with the first one's.
    assert_eq!(read(&[&run[..], &["--isolate"]].concat()), 2 + 2);
    assert_eq!(read(&["embed", &scan, "--plugin", &one, "--out", &at("e.safetensors")]), 1);
    std::fs::write(at("table.csv"), format!("case,image,nodule\na,{scan},1\n")).unwrap();
    assert_eq!(read(&["eval", "--plugin", &one, "--data", &at("table.csv"), "--out", &at("figures")]), 1);
}

#[test]
fn trainings_pixels_without_an_augmentation_are_those_of_a_prediction_bit_for_bit() {
    for plugin in ["lung_nodule", "brain_mri", "liver_injury"] {
        let text =
            std::fs::read_to_string(workspace().join("plugins").join(plugin).join("plugin.toml")).unwrap();
        let manifest = Manifest::parse(&text).unwrap().manifest;
        for view in &manifest.views {
            let (mut predicted, mut trained) = (CaseData::default(), CaseData::default());
            let region = RegionOfInterest::default();
            let expected =
                predicted.slices(&scan(), view, &region, backbone_info(), 0).unwrap().pixels.clone();
            let found =
                trained.training_slices(&scan(), view, &region, backbone_info(), None, |_, _| ()).unwrap();
            let bits = |t: &candle_core::Tensor| -> Vec<u32> {
                t.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|v| v.to_bits()).collect()
            };
            assert_eq!(found.pixels.dims(), expected.dims(), "{plugin} {}", view.name);
            assert!(bits(&found.pixels) == bits(&expected), "{plugin} {}", view.name);
        }
    }
}

#[test]
fn a_scan_is_opened_once_per_case_however_many_plugins_and_views_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let text = |path: &Path| path.display().to_string();
    let few = [("slices = 40", "slices =  4"), ("size = [168, 168]", "size = [ 56,  56]")];
    let (one, other) = (at("one.so"), at("other.so"));
    edited_library(&plugin_library("lung_nodule"), &few, &one);
    edited_library(&plugin_library("attention_probe"), &few, &other);
    random_weights(&one, &at("lung_nodule.safetensors"), 1, |_, _| {});
    random_weights(&other, &at("attention_probe.safetensors"), 1, |_, _| {});
    let (one, other, scan) = (text(&one), text(&other), text(&scan()));

    assert_eq!(opened(folder.path(), &["run", "--plugin", &one, "--plugin", &other, &scan]), 1);
    let out = text(&at("o"));
    let isolated = ["run", "--isolate", "--plugin", &one, "--plugin", &other, &scan, "--out", &out];
    assert_eq!(opened(folder.path(), &isolated), 1);
    assert_eq!(
        opened(folder.path(), &["embed", &scan, "--plugin", &one, "--out", &text(&at("e.safetensors"))]),
        1
    );

    let original = Scan::open(Path::new(&scan)).unwrap();
    let count = original.voxels.len();
    let mut table = String::from("case,image,mask,nodule,split\n");
    for (case, split) in ["train", "train", "train", "train", "val", "val"].iter().enumerate() {
        let mut voxels: Vec<i16> = original.voxels.iter().map(|v| *v as i16).collect();
        voxels[0] = case as i16;
        let mask: Vec<u8> = (0..count).map(|i| u8::from(i % count == count / 2 + case)).collect();
        let (image, drawn) = (format!("{case}.nii"), format!("{case}_drawn.nii"));
        write_nifti_i16(&at(&image), &voxels, original.shape, &original.affine).unwrap();
        write_nifti_u8(&at(&drawn), &mask, original.shape, &original.affine).unwrap();
        let drawn = if *split == "train" { drawn.as_str() } else { "" };
        table += &format!("c{case},{image},{drawn},{},{split}\n", case % 2);
    }
    std::fs::write(at("table.csv"), table).unwrap();
    let data = text(&at("table.csv"));
    let eval = ["eval", "--plugin", &one, "--data", &data, "--out", &text(&at("figures"))];
    assert_eq!(opened(folder.path(), &eval), 6);
    let run = text(&at("run"));
    let train = |epochs: &'static str, out: &str| {
        opened(
            folder.path(),
            &[
                "train",
                "--plugin",
                &one,
                "--data",
                &data,
                "--epochs",
                epochs,
                "--augment",
                "none",
                "--out",
                out,
            ],
        )
    };
    // Six scans and four masks, by the table's check, which hands them to the first epoch. The second comes from the cache.
    assert_eq!(train("2", &run), 6 + 4);
}
