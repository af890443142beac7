//! `--background drop`, from training to a prediction and an embedding: what the room around the body shows changes nothing.

use anymc3d_host::backbone::{Backbone, Precision};
use anymc3d_host::engine::{Case, CaseData, Engine};
use anymc3d_host::scan::{Affine, write_nifti_i16};
use anymc3d_host::task::LoadedTask;
use anymc3d_tests::{backbone_folder, edited_library, host_binary, plugin_library, workspace};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

fn host(home: &Path, arguments: &[&str]) -> String {
    let backbone = backbone_folder();
    let ran = Command::new(host_binary())
        .current_dir(workspace())
        .env("ANYMC3D_HOME", home)
        .args(arguments)
        .args(["--backbone", backbone.to_str().unwrap(), "--precision", "f32"])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

/// 40 x 40 x 8 voxels of 8 mm. With the cell around it the body covers the four of 4 x 4 patches in the middle; the corners of the
/// room are `corner` HU.
fn scan(path: &Path, corner: i16, spot: i16) {
    let mut voxels = Vec::new();
    for i in 0..40 * 40 * 8 {
        let (x, y) = (i % 40, i / 40 % 40);
        let body = (11..29).contains(&x) && (11..29).contains(&y);
        let in_corner = !(8..32).contains(&x) && !(8..32).contains(&y);
        let shade = ((i * 7919) % 60) as i16;
        voxels.push(match (body, in_corner) {
            (true, _) if (18..22).contains(&x) && (18..22).contains(&y) => spot,
            (true, _) => 30 + shade,
            (_, true) => corner + shade / 2,
            _ => -1000,
        });
    }
    write_nifti_i16(path, &voxels, [40, 40, 8], &Affine::aligned([8.0; 3], [0.0; 3])).unwrap();
}

#[test]
fn weights_remember_it_and_nothing_that_the_room_shows_reaches_a_logit_or_an_embedding() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let library = folder.path().join("lung_nodule.so");
    let few = [
        ("slices = 40", "slices =  4"),
        ("size = [168, 168]", "size = [ 56,  56]"),
        ("region = \"lungs\"", "region = \"full\" "),
    ];
    edited_library(&plugin_library("lung_nodule"), &few, &library);
    let mut table = String::from("case,image,nodule\n");
    for case in 0..8 {
        scan(Path::new(&at(&format!("{case}.nii"))), -1000, if case % 2 == 1 { 300 } else { 20 });
        table += &format!("c{case},{case}.nii,{}\n", case % 2);
    }
    fs::write(at("table.csv"), table).unwrap();
    scan(Path::new(&at("a.nii")), -1000, 300);
    scan(Path::new(&at("b.nii")), -970, 300);
    let results = |arm: &str| -> Vec<Value> {
        let plugin = library.to_str().unwrap();
        let (data, out) = (at("table.csv"), at(arm));
        host(
            folder.path(),
            &[
                "train",
                "--plugin",
                plugin,
                "--data",
                &data,
                "--out",
                &out,
                "--epochs",
                "1",
                "--lambda",
                "0",
                "--unchecked",
                "--background",
                arm,
            ],
        );
        let weights = at(&format!("{arm}/lung_nodule.safetensors"));
        let ran = host(
            folder.path(),
            &["run", "--json", "--plugin", plugin, "--weights", &weights, &at("a.nii"), &at("b.nii")],
        );
        ran.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let logit = |result: &Value| result["predictions"][0]["logit"].as_f64().unwrap();
    let [a, b] = &results("drop")[..] else { panic!("two results") };
    assert_eq!(a["views"][0]["kept_patches"], 0.25);
    assert_eq!(logit(a), logit(b));
    let [c, d] = &results("keep")[..] else { panic!("two results") };
    assert!(c["views"][0].get("kept_patches").is_none() && logit(c) != logit(d));

    let backbone = Backbone::open(&backbone_folder(), Precision::F32).unwrap();
    let weights = folder.path().join("drop/lung_nodule.safetensors");
    let task = LoadedTask::open_found(&library, Some(&weights), &backbone, false).unwrap();
    let engine = Engine::new(backbone, Precision::F32, vec![task]);
    for adapted in [true, false] {
        let [a, b] = ["a.nii", "b.nii"].map(|name| {
            let case = Case { name: name.into(), image: Some(at(name).into()), ..Case::default() };
            engine.embed_case(CaseData::default(), &case, 0, adapted).unwrap()
        });
        assert_eq!(a, b, "adapted {adapted}");
    }
}
