//! Views around a finding, end to end: by option and by table, in training, evaluation and prediction.

use anymc3d_host::scan::{Affine, write_nifti_i16, write_nifti_u8};
use anymc3d_host::task::{Weights, WeightsInfo, weights};
use anymc3d_tests::{edited_library, host_binary, plugin_library, tiny_backbone, tiny_weights, workspace};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SHAPE: [usize; 3] = [30, 28, 16];
const SPACING: [f64; 3] = [1.5, 1.5, 2.5];

fn affine() -> Affine {
    Affine::aligned(SPACING, [-20.0, 10.0, 60.0])
}

/// Radius in mm, centre as voxel, and density in HU.
type Ball = (f64, [f64; 3], i16);

fn inside(i: usize, (radius, centre, _): Ball) -> bool {
    let at = [i % SHAPE[0], i / SHAPE[0] % SHAPE[1], i / (SHAPE[0] * SHAPE[1])];
    (0..3).map(|a| ((at[a] as f64 - centre[a]) * SPACING[a]).powi(2)).sum::<f64>() < radius * radius
}

/// Lung with a ball in it, and the ball's mask.
fn write(folder: &Path, name: &str, balls: &[Ball], masks: &[(&str, Ball)]) {
    let voxel = |i: usize| {
        let ball = balls.iter().find(|b| inside(i, **b));
        ball.map_or(-850, |b| b.2) + (i * 7919 % 40) as i16
    };
    let n = SHAPE.iter().product();
    let voxels: Vec<i16> = (0..n).map(voxel).collect();
    write_nifti_i16(&folder.join(name), &voxels, SHAPE, &affine()).unwrap();
    for (mask, ball) in masks {
        let drawn: Vec<u8> = (0..n).map(|i| u8::from(inside(i, *ball))).collect();
        write_nifti_u8(&folder.join(mask), &drawn, SHAPE, &affine()).unwrap();
    }
}

/// `nodule_malignancy` for the tiny backbone with few and small slices, and its region by `region`.
fn plugin(folder: &Path, region: &str) -> PathBuf {
    let to = folder.join("nodule_malignancy.so");
    let mut edits = vec![
        ("slices = 12", "slices =  3"),
        ("size = [112, 112]", "size = [ 56,  56]"),
        ("min_embed_dim = 384", "min_embed_dim =   1"),
    ];
    if region == "point" {
        edits.push(("region = \"mask\"", "region =\"point\""));
        edits.push(("mask_features = [\"scalars\"]", "mask_features = []         "));
    }
    edited_library(&plugin_library("nodule_malignancy"), &edits, &to);
    to
}

/// Exit code, stdout, stderr.
fn host(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(host_binary());
    command.args(arguments).current_dir(workspace()).env("ANYMC3D_HOME", folder.join("home"));
    if arguments[0] != "doctor" {
        command.arg("--backbone").arg(tiny_backbone());
    }
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// Case and logit of each line.
fn logits(told: &str) -> Vec<(String, f64)> {
    told.lines()
        .map(|line| {
            let json: Value = serde_json::from_str(line).unwrap();
            let logit = json["predictions"][0]["logit"].as_f64().unwrap_or_else(|| panic!("{line}"));
            (json["case"].as_str().unwrap().to_owned(), logit)
        })
        .collect()
}

const FIRST: Ball = (6.0, [9.0, 10.0, 6.0], 40);
const OTHER: Ball = (9.0, [20.0, 17.0, 9.0], -300);

#[test]
fn two_nodules_of_one_scan_are_two_cases_by_option_and_by_table_alike() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let library = plugin(folder.path(), "mask");
    tiny_weights(&library, &folder.path().join("nodule_malignancy.safetensors"), 3);
    write(folder.path(), "scan.nii", &[FIRST, OTHER], &[("first.nii", FIRST), ("other.nii", OTHER)]);
    fs::write(at("t.csv"), "case,image,mask\na,scan.nii,first.nii\nb,scan.nii,other.nii\n").unwrap();
    let (plugin, scan) = (library.display().to_string(), at("scan.nii"));

    let run = |arguments: &[&str]| {
        let ran = host(folder.path(), &[&["run", "--json", "--plugin", &plugin], arguments].concat());
        assert_eq!(ran.0, 0, "{ran:?}");
        logits(&ran.1)
    };
    let table = run(&[&at("t.csv")]);
    assert!(table.len() == 2 && (table[0].1 - table[1].1).abs() > 1e-3, "{table:?}");
    for (mask, (_, expected)) in ["first.nii", "other.nii"].iter().zip(&table) {
        assert_eq!(run(&[&scan, "--mask", &at(mask)])[0].1, *expected);
        let isolated = run(&[&scan, "--mask", &at(mask), "--isolate"]);
        assert_eq!(isolated[0].1, *expected, "in a process of its own");
    }

    // Each is refused by the option or column that is missing.
    let refused = |arguments: &[&str], code: i32, why: &str| {
        let ran = host(folder.path(), &[&["run", "--plugin", &plugin], arguments].concat());
        assert!(ran.0 == code && ran.2.contains(why), "{arguments:?}: {ran:?}");
    };
    refused(
        &[&scan],
        2,
        "view `axial` of plugin nodule_malignancy needs a mask that says where to look; give --mask FILE",
    );
    refused(
        &[&scan, &scan, "--mask", &at("first.nii")],
        2,
        "--mask and --point belong to one case, the inputs give 2",
    );
    refused(&[&scan, "--point", "1,2"], 2, "expected X,Y,Z in RAS mm");
    fs::write(at("none.csv"), "case,image\na,scan.nii\n").unwrap();
    refused(
        &[&at("none.csv")],
        1,
        "no column `mask`, but view `axial` of nodule_malignancy needs a mask of every case",
    );
    write(folder.path(), "scan.nii", &[FIRST], &[("empty.nii", (0.0, [0.0; 3], 0))]);
    refused(&[&scan, "--mask", &at("empty.nii")], 1, "a mask with nothing above 0.5");
}

#[test]
fn a_point_says_where_to_look_in_mm_and_a_mask_stands_in_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let library = plugin(folder.path(), "point");
    tiny_weights(&library, &folder.path().join("nodule_malignancy.safetensors"), 3);
    write(folder.path(), "scan.nii", &[FIRST, OTHER], &[("first.nii", FIRST)]);
    let (plugin, scan) = (library.display().to_string(), at("scan.nii"));
    let [x, y, z] = affine().apply(FIRST.1);
    fs::write(at("t.csv"), format!("case,image,point\na,scan.nii,{x} {y} {z}\n")).unwrap();
    fs::write(at("q.csv"), format!("case,image,point\na,scan.nii,\"{x},{y},{z}\"\n")).unwrap();
    let run = |arguments: &[&str]| {
        let ran = host(folder.path(), &[&["run", "--json", "--plugin", &plugin], arguments].concat());
        assert_eq!(ran.0, 0, "{ran:?}");
        logits(&ran.1)[0].1
    };
    let point = run(&[&scan, "--point", &format!("{x},{y},{z}")]);
    assert_eq!(run(&[&at("t.csv")]), point);
    assert_eq!(run(&[&at("q.csv")]), point);
    // The ball is symmetric about its centre, and so is its mask.
    assert_eq!(run(&[&scan, "--mask", &at("first.nii")]), point);
    let [x, y, z] = affine().apply(OTHER.1);
    assert_ne!(run(&[&scan, "--point", &format!("{x},{y},{z}")]), point);
    let ran = host(folder.path(), &["run", "--plugin", &plugin, &scan, "--point", "400,0,0"]);
    assert!(
        ran.0 == 1
            && ran.2.contains("found the point 400,0,0, expected one inside the scan: x -20.0 to 23.5"),
        "{ran:?}"
    );
}

#[test]
fn training_measures_the_masks_scalars_stores_them_and_eval_run_and_doctor_read_the_same_table() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let library = plugin(folder.path(), "mask");
    let plugin = library.display().to_string();
    let mut table = String::from("case,patient,image,mask,malignant,split\n");
    let mut volumes = Vec::new();
    for i in 0..10usize {
        let (positive, val) = (i % 2, i >= 6);
        let ball = (4.0 + 3.0 * positive as f64 + 0.3 * i as f64, [14.0, 13.0, 8.0], 30);
        write(folder.path(), &format!("{i}.nii"), &[ball], &[(&format!("{i}_drawn.nii"), ball)]);
        table +=
            &format!("c{i},p{i},{i}.nii,{i}_drawn.nii,{positive},{}\n", if val { "val" } else { "train" });
        if !val {
            let n = (0..SHAPE.iter().product()).filter(|v| inside(*v, ball)).count();
            volumes.push((n as f64 * SPACING.iter().product::<f64>()).ln());
        }
    }
    fs::write(at("t.csv"), table).unwrap();
    let ran = host(folder.path(), &["doctor", "--plugin", &plugin, "--data", &at("t.csv")]);
    assert_eq!(ran.0, 0, "{ran:?}");
    let train = [
        "train",
        "--plugin",
        &plugin,
        "--data",
        &at("t.csv"),
        "--epochs",
        "2",
        "--first-block",
        "1",
        "--out",
        &at("run"),
    ];
    let ran = host(folder.path(), &train);
    assert_eq!(ran.0, 0, "{ran:?}");

    let weights = folder.path().join("run/nodule_malignancy.safetensors");
    let tensors = candle_core::safetensors::load(&weights, &candle_core::Device::Cpu).unwrap();
    let first = |name: &str| f64::from(tensors[name].to_vec1::<f32>().unwrap()[0]);
    let n = volumes.len() as f64;
    let mean = volumes.iter().sum::<f64>() / n;
    let std = (volumes.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    assert!((first("scalars.mean") - mean).abs() < 1e-4, "{} is not {mean}", first("scalars.mean"));
    assert!((first("scalars.std") - std).abs() < 1e-4, "{} is not {std}", first("scalars.std"));
    assert!(
        tensors["head.scalars"].flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().any(|w| *w != 0.0)
    );

    let weights = weights.display().to_string();
    let figures = at("figures");
    let eval =
        ["eval", "--plugin", &plugin, "--weights", &weights, "--data", &at("t.csv"), "--out", &figures];
    let ran = host(folder.path(), &eval);
    assert_eq!(ran.0, 0, "{ran:?}");
    let ran =
        host(folder.path(), &["run", "--json", "--plugin", &plugin, "--weights", &weights, &at("t.csv")]);
    assert!(ran.0 == 0 && logits(&ran.1).len() == 10, "{ran:?}");

    // What is wrong with a mask that says where to look is known before training.
    write(folder.path(), "0.nii", &[FIRST], &[("0_drawn.nii", (0.0, [0.0; 3], 0))]);
    let ran = host(folder.path(), &["doctor", "--plugin", &plugin, "--data", &at("t.csv")]);
    assert!(
        ran.0 == 1 && format!("{ran:?}").contains("the mask is empty, and it says where to look"),
        "{ran:?}"
    );
}

#[test]
fn weights_of_two_folds_are_one_answer_with_the_mean_of_their_logits_and_the_spread() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let library = plugin(folder.path(), "mask");
    write(folder.path(), "scan.nii", &[FIRST], &[("first.nii", FIRST)]);
    for (name, seed) in [("a.safetensors", 1), ("b.safetensors", 2)] {
        tiny_weights(&library, &folder.path().join(name), seed);
    }
    let (plugin, scan, mask) = (library.display().to_string(), at("scan.nii"), at("first.nii"));
    let ask = |weights: &str, more: &[&str]| -> (i32, Value, String) {
        let ask = ["run", "--json", "--plugin", &plugin, "--weights", weights, &scan, "--mask", &mask];
        let ran = host(folder.path(), &[&ask[..], more].concat());
        (ran.0, ran.1.lines().next().and_then(|l| serde_json::from_str(l).ok()).unwrap_or_default(), ran.2)
    };
    let said = |json: &Value, key: &str| json["predictions"][0][key].as_f64().unwrap();
    let (a, b) = (ask(&at("a.safetensors"), &[]).1, ask(&at("b.safetensors"), &[]).1);
    assert!(a["predictions"][0]["spread"].is_null());
    let both = format!("{},{}", at("a.safetensors"), at("b.safetensors"));
    for more in [&[][..], &["--isolate"][..]] {
        let (code, mean, told) = ask(&both, more);
        assert_eq!(code, 0, "{told}");
        let (za, zb, z) = (said(&a, "logit"), said(&b, "logit"), said(&mean, "logit"));
        assert!((z - (za + zb) / 2.0).abs() < 1e-6 && (za - zb).abs() > 1e-4, "{za} {zb} {z}");
        let spread = &mean["predictions"][0]["spread"];
        assert_eq!(spread["members"], 2);
        assert!((spread["logit_std"].as_f64().unwrap() - (za - zb).abs() / 2.0).abs() < 1e-6);
        let (low, high) = (said(&a, "probability"), said(&b, "probability"));
        assert!((spread["probability"][0].as_f64().unwrap() - low.min(high)).abs() < 1e-9);
        assert_eq!(mean["plugin"]["weights_sha256"], a["plugin"]["weights_sha256"]);
        assert_eq!(mean["plugin"]["further_weights_sha256"][0], b["plugin"]["weights_sha256"]);
    }
    // As one file: the same answer, whose digest is the file's.
    let [a, b] =
        ["a", "b"].map(|name| Weights::open(Path::new(&at(&format!("{name}.safetensors")))).unwrap());
    let one = at("ensemble.safetensors");
    weights::write_ensemble(Path::new(&one), &[a.clone(), b]).unwrap();
    let ((_, apart, _), (code, mean, told)) = (ask(&both, &[]), ask(&one, &[]));
    assert_eq!(code, 0, "{told}");
    assert_eq!(mean["predictions"], apart["predictions"]);
    let file = Weights::open(Path::new(&one)).unwrap();
    assert_eq!(mean["plugin"]["weights_sha256"], file.sha256.as_str());
    assert!(mean["plugin"]["further_weights_sha256"].is_null());
    let of_another = WeightsInfo { plugin: "another".to_owned(), ..a.info.clone() };
    let refused = weights::write_ensemble(Path::new(&one), &[a.clone(), Weights { info: of_another, ..a }]);
    assert!(refused.unwrap_err().to_string().contains("weights of another 0.1.0 on backbone"));
    let twice = format!("{0},{0}", at("a.safetensors"));
    let (code, _, told) = ask(&twice, &[]);
    assert!(code == 3 && told.contains("the same weights as"), "{told}");
}

/// `nodule_sphericity` for the tiny backbone.
fn sphericity(folder: &Path) -> PathBuf {
    let to = folder.join("nodule_sphericity.so");
    let edits = [
        ("slices = 12", "slices =  3"),
        ("size = [112, 112]", "size = [ 56,  56]"),
        ("min_embed_dim = 384", "min_embed_dim =   1"),
    ];
    edited_library(&plugin_library("nodule_sphericity"), &edits, &to);
    to
}

#[test]
fn an_ordinal_task_trains_is_measured_and_answers_on_its_scale() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let plugin = sphericity(folder.path()).display().to_string();
    let mut table = String::from("case,image,mask,sphericity,split\n");
    for i in 0..15usize {
        let level = 1 + i % 5;
        // No two scans are alike: the same one in two splits would be refused.
        let ball = (3.0 + 1.5 * level as f64, [14.0, 13.0, 8.0], 30 + i as i16);
        write(folder.path(), &format!("{i}.nii"), &[ball], &[(&format!("{i}_drawn.nii"), ball)]);
        let value = if i == 3 { "3.5".to_owned() } else { level.to_string() };
        table += &format!("c{i},{i}.nii,{i}_drawn.nii,{value},{}\n", if i >= 10 { "val" } else { "train" });
    }
    fs::write(at("t.csv"), &table).unwrap();
    fs::write(at("bad.csv"), table.replace(",3.5,", ",7,")).unwrap();
    let ran = host(folder.path(), &["doctor", "--plugin", &plugin, "--data", &at("bad.csv")]);
    assert!(
        ran.0 == 1 && format!("{ran:?}").contains("label `sphericity` is `7`; expected a number from 1 to 5"),
        "{ran:?}"
    );
    let train = ["train", "--plugin", &plugin, "--data", &at("t.csv"), "--epochs", "2", "--first-block", "1"];
    let ran = host(folder.path(), &[&train[..], &["--head-lr", "1e-2", "--out", &at("run")]].concat());
    assert_eq!(ran.0, 0, "{ran:?}");

    let weights = at("run/nodule_sphericity.safetensors");
    let ask = ["--plugin", &plugin, "--weights", &weights];
    let ran = host(folder.path(), &[&["run", "--json"], &ask[..], &[&at("t.csv")]].concat());
    assert_eq!(ran.0, 0, "{ran:?}");
    let first: Value = serde_json::from_str(ran.1.lines().next().unwrap()).unwrap();
    let value = first["values"][0]["value"].as_f64().unwrap();
    let steps: Vec<f64> =
        first["predictions"].as_array().unwrap().iter().map(|p| p["probability"].as_f64().unwrap()).collect();
    assert_eq!((first["predictions"][2]["label"].as_str(), steps.len()), (Some("sphericity > 3"), 4));
    assert!((value - 1.0 - steps.iter().sum::<f64>()).abs() < 1e-9 && first["values"][0]["range"][1] == 5.0);
    let level = first["values"][0]["level"].as_f64().unwrap();
    assert_eq!(level, 1.0 + steps.iter().filter(|p| **p >= 0.5).count() as f64);

    let (data, figures) = (at("t.csv"), at("figures"));
    let ran = host(folder.path(), &[&["eval"], &ask[..], &["--data", &data, "--out", &figures]].concat());
    assert!(ran.0 == 0 && ran.1.contains("SPEARMAN"), "{ran:?}");
    let json =
        |path: &str| -> Value { serde_json::from_str(&fs::read_to_string(at(path)).unwrap()).unwrap() };
    let metrics = json("figures/metrics.json");
    let figures = &metrics["values"]["sphericity"];
    assert!(figures["n"] == 15 && figures["bootstrap_ci95"]["mae"].is_array(), "{metrics}");
    // The file that was written measures the same.
    let again = ["eval", "--predictions", &at("figures/predictions.csv"), "--out", &at("again")];
    let ran = Command::new(host_binary()).args(again).current_dir(workspace()).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let mae = |m: &Value| m["values"]["sphericity"]["mae"].as_f64().unwrap();
    assert!((mae(&json("again/metrics.json")) - mae(&metrics)).abs() < 1e-9);
}

/// `.npy` of version 1.
fn npy(shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

#[test]
fn a_split_of_an_archive_is_a_table_for_every_command() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let library = folder.path().join("lung_nodule.so");
    let edits = [
        ("slices = 40", "slices =  3"),
        ("size = [168, 168]", "size = [ 56,  56]"),
        ("min_embed_dim = 384", "min_embed_dim =   1"),
        ("region = \"lungs\"", "region = \"full\" "),
    ];
    edited_library(&plugin_library("lung_nodule"), &edits, &library);
    let plugin = library.display().to_string();
    let voxel = |case: usize, i: usize| {
        ((i * 7919 + case * 31) % 97) as u8 + if case % 2 == 1 && i % 512 < 200 { 150 } else { 0 }
    };
    let images: Vec<u8> = (0..8).flat_map(|case| (0..512).map(move |i| voxel(case, i))).collect();
    let labels: Vec<u8> = (0..8).map(|case| case % 2).collect();
    let mut zip = zip::ZipWriter::new(fs::File::create(at("toy.npz")).unwrap());
    for split in ["train", "val"] {
        for (name, bytes) in [("images", npy("(8, 8, 8, 8)", &images)), ("labels", npy("(8, 1)", &labels))] {
            let deflated = zip::write::SimpleFileOptions::default();
            zip.start_file(format!("{split}_{name}.npy"), deflated).unwrap();
            zip.write_all(&bytes).unwrap();
        }
    }
    zip.finish().unwrap();
    let (train, val) = (at("toy.npz:train"), at("toy.npz:val"));
    let ran =
        host(folder.path(), &["doctor", "--plugin", &plugin, "--data", &train, "--array-spacing", "2,1,1"]);
    assert!(format!("{ran:?}").contains("8 cases, 0 errors"), "{ran:?}");
    let place = ["--array-spacing", "2,1,1", "--array-axes", "SPL"];
    let command = [
        "train",
        "--plugin",
        &plugin,
        "--data",
        &train,
        "--val",
        &val,
        "--epochs",
        "1",
        "--class-tokens-only",
    ];
    let more = ["--first-block", "1", "--unchecked", "--out", &at("run")];
    let ran = host(folder.path(), &[&command[..], &more, &place].concat());
    assert_eq!(ran.0, 0, "{ran:?}");
    let weights = at("run/lung_nodule.safetensors");
    let run = ["run", "--json", "--plugin", &plugin, "--weights", &weights, &val];
    let ran = host(folder.path(), &[&run[..], &place].concat());
    assert_eq!(ran.0, 0, "{ran:?}");
    let lines: Vec<Value> = ran.1.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((lines.len(), lines[3]["case"].as_str()), (8, Some("val-000003")));
    assert_eq!(lines[3]["input"]["spacing_mm"], serde_json::json!([1.0, 1.0, 2.0]));
    assert_eq!(lines[3]["input"]["orientation"], "LPS");
    // Isolated, the case means the same; without a geometry it is stated as unknown.
    let ran = host(folder.path(), &[&run[..], &place, &["--isolate"]].concat());
    assert_eq!(
        logits(&ran.1),
        lines
            .iter()
            .map(|l| (l["case"].as_str().unwrap().to_owned(), l["predictions"][0]["logit"].as_f64().unwrap()))
            .collect::<Vec<_>>()
    );
    let ran = host(folder.path(), &run);
    assert!(ran.2.contains("spacing unknown") && ran.2.contains("orientation unknown"), "{ran:?}");
    let eval = ["eval", "--plugin", &plugin, "--weights", &weights, "--data", &val, "--out", &at("figures")];
    let ran = host(folder.path(), &[&eval[..], &place].concat());
    assert!(
        ran.0 == 0 && fs::read_to_string(at("figures/predictions.csv")).unwrap().contains("val-000007"),
        "{ran:?}"
    );
    let ran = host(folder.path(), &["run", "--plugin", &plugin, "--weights", &weights, &at("toy.npz:test")]);
    assert!(
        ran.0 == 1 && ran.2.contains("no array `test_images`; splits with images: train, val"),
        "{ran:?}"
    );
}
