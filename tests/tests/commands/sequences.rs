//! Several sequences of one case and several classes, end to end: training, evaluation and prediction, with sequences
//! that are missing.

use anymc3d_host::scan::{Affine, write_nifti_i16};
use anymc3d_tests::{
    backbone_folder, edited_library, host_binary, plugin_library, random_weights, workspace,
};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SHAPE: [usize; 3] = [20, 20, 8];
const CLASSES: [&str; 4] = ["none", "stroke", "tumour", "cyst"];
const SEQUENCES: [&str; 3] = ["t1", "t2", "flair"];
/// Signal of each class's lesion by sequence, beside tissue of 500.
const SIGNALS: [[i16; 3]; 4] = [[500, 500, 500], [250, 800, 800], [500, 800, 800], [250, 800, 250]];

/// `brain_mri` with few and small slices; its views as optional as the plugin says, or required.
fn brain_mri(folder: &Path, required: bool) -> PathBuf {
    let to = folder.join(if required { "required.so" } else { "optional.so" });
    let mut edits = vec![("slices = 24", "slices =  3"), ("size = [168, 168]", "size = [ 56,  56]")];
    if required {
        edits.push(("required = false", "required = true "));
    }
    edited_library(&plugin_library("brain_mri"), &edits, &to);
    to
}

/// Heads with a lesion whose signal tells the class; every fourth lacks one sequence, in turn.
fn heads(folder: &Path, count: usize) -> PathBuf {
    let affine = Affine::aligned([10.0, 10.0, 18.0], [-100.0, -100.0, -70.0]);
    let mut table = String::from("case,image.t1,image.t2,image.flair,class\n");
    for case in 0..count {
        let class = case % CLASSES.len();
        let centre = [8.0 + (case % 3) as f64, 10.0 + (case % 2) as f64, 4.0];
        table += &format!("h{case}");
        for (s, sequence) in SEQUENCES.iter().enumerate() {
            if case % 4 == case / 4 % 4 && s == case % 3 {
                table.push(',');
                continue;
            }
            let voxel = |i: usize| {
                let at = [i % SHAPE[0], i / SHAPE[0] % SHAPE[1], i / (SHAPE[0] * SHAPE[1])];
                let far: f64 = (0..3).map(|a| (at[a] as f64 - centre[a]).powi(2)).sum();
                let head = (0..2).map(|a| (at[a] as f64 - 9.5).powi(2)).sum::<f64>() < 72.0;
                match (far < 9.0, head) {
                    (true, _) => SIGNALS[class][s],
                    (_, true) => 500 + ((i + 31 * case) * 7919 % 40) as i16,
                    _ => 0,
                }
            };
            let voxels: Vec<i16> = (0..SHAPE.iter().product()).map(voxel).collect();
            let name = format!("h{case}_{sequence}.nii");
            write_nifti_i16(&folder.join(&name), &voxels, SHAPE, &affine).unwrap();
            table += &format!(",{name}");
        }
        table += &format!(",{}\n", CLASSES[class]);
    }
    let path = folder.join("table.csv");
    fs::write(&path, table).unwrap();
    path
}

/// Exit code, stdout, stderr.
fn host(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(host_binary());
    command.args(arguments).arg("--backbone").arg(backbone_folder());
    let output = command.current_dir(workspace()).env("ANYMC3D_HOME", folder.join("home")).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn classes_are_learned_from_sequences_of_which_some_are_missing() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let plugin = brain_mri(folder.path(), false).display().to_string();
    let table = heads(folder.path(), 24).display().to_string();

    let run = at("run");
    let train = ["train", "--plugin", &plugin, "--data", &table, "--out", &run];
    let options = ["--epochs", "4", "--batch", "3", "--lr", "1e-3", "--head-lr", "1e-2", "--augment", "none"];
    let ran = host(folder.path(), &[&train[..], &options].concat());
    assert_eq!(ran.0, 0, "{ran:?}");
    let record = json(&folder.path().join("run/training.json"));
    // The loss of four equal probabilities is ln 4 = 1.386.
    let log = fs::read_to_string(folder.path().join("run/metrics.csv")).unwrap();
    let losses: Vec<f64> =
        log.lines().skip(1).map(|l| l.split(',').nth(1).unwrap().parse().unwrap()).collect();
    assert!(losses.len() == 4 && losses[3] < 0.8 * losses[0], "{losses:?}");
    assert_eq!(record["network_data_format"]["outputs"]["pred"]["channel_def"]["3"], "cyst");
    assert!(record["eval_metrics"]["class.tumour"]["auroc"].is_number(), "{record}");

    let (weights, figures) = (at("run/brain_mri.safetensors"), at("figures"));
    let ran = host(
        folder.path(),
        &["eval", "--plugin", &plugin, "--weights", &weights, "--data", &table, "--out", &figures],
    );
    assert_eq!(ran.0, 0, "{ran:?}");
    let metrics = json(&folder.path().join("figures/metrics.json"));
    let whole = &metrics["multiclass"]["class"];
    let confusion: u64 = whole["confusion"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!((whole["n"].as_u64(), confusion), (Some(24), 24));

    // Two of three sequences: the answer is of these two alone.
    let (t1, flair) = (format!("t1={}", at("h1_t1.nii")), format!("flair={}", at("h1_flair.nii")));
    let run = ["run", "--plugin", &plugin, "--weights", &weights, "--json", "--heatmap=false"];
    let ran = host(folder.path(), &[&run[..], &["--view", &t1, "--view", &flair]].concat());
    assert_eq!(ran.0, 0, "{ran:?}");
    let result: Value = serde_json::from_str(ran.1.trim()).unwrap();
    let names: Vec<&str> =
        result["views"].as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["t1", "flair"]);
    let predictions = result["predictions"].as_array().unwrap();
    let sum: f64 = predictions.iter().map(|p| p["probability"].as_f64().unwrap()).sum();
    assert!(predictions.len() == 4 && (sum - 1.0).abs() < 1e-6, "{result}");
}

#[test]
fn a_required_sequence_that_is_missing_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let plugin = brain_mri(folder.path(), true).display().to_string();
    let table = heads(folder.path(), 8).display().to_string();
    let ran = host(folder.path(), &["train", "--plugin", &plugin, "--data", &table, "--out", &at("run")]);
    // Case h0 lacks its T1, h5 its FLAIR.
    assert!(ran.0 == 1 && ran.2.contains("line 2") && ran.2.contains("t1"), "{ran:?}");
    assert!(ran.2.contains("line 7") && ran.2.contains("flair"), "{ran:?}");
    assert!(!folder.path().join("run").exists());
}

#[test]
fn one_file_is_never_taken_for_several_sequences() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let plugin = brain_mri(folder.path(), false);
    random_weights(&plugin, &folder.path().join("brain_mri.safetensors"), 1, |_, _| {});
    let plugin = plugin.display().to_string();
    heads(folder.path(), 4);
    let scan = at("h1_t1.nii");
    let refused = |arguments: &[&str], code: i32, says: &[&str]| {
        let ran = host(folder.path(), arguments);
        assert_eq!(ran.0, code, "{ran:?}");
        says.iter().for_each(|words| assert!(ran.2.contains(words), "`{words}` is missing: {ran:?}"));
        assert!(ran.1.is_empty(), "{ran:?}");
    };
    let ways = "--view t1=FILE --view t2=FILE --view flair=FILE, or a table with the columns image.VIEW";
    let run = ["run", "--plugin", &plugin];
    refused(&[&run[..], &[&scan]].concat(), 2, &["h1_t1.nii", "t1, t2, flair of plugin brain_mri", ways]);
    refused(&[&run[..], &[&folder.path().display().to_string()]].concat(), 2, &[ways]);
    let t1 = format!("t1={scan}");
    refused(&[&run[..], &["--view", &t1, &at("h1_t2.nii")]].concat(), 2, &["cannot be the views t2, flair"]);
    refused(
        &["embed", &scan, "--plugin", &plugin, "--out", &at("f.safetensors")],
        2,
        &["t1, t2, flair", "--view NAME"],
    );

    fs::write(at("one.csv"), "case,image,class\na,h1_t1.nii,none\nb,h2_t1.nii,cyst\n").unwrap();
    let (one, weights) = (at("one.csv"), at("brain_mri.safetensors"));
    let columns = ["column `image` would be the views t1, t2, flair", "image.t1, image.t2, image.flair"];
    refused(&[&run[..], &[&one]].concat(), 1, &columns);
    refused(&["train", "--plugin", &plugin, "--data", &one, "--out", &at("run")], 1, &columns);
    let eval = ["eval", "--plugin", &plugin, "--weights", &weights, "--data", &one, "--out", &at("figures")];
    refused(&eval, 1, &columns);
    let mut doctor = Command::new(host_binary());
    doctor.args(["doctor", "--plugin", &plugin, "--data", &one]).env("ANYMC3D_HOME", at("home"));
    let output = doctor.output().unwrap();
    let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    columns.iter().for_each(|words| assert!(told.contains(words), "{told}"));

    // Its own sequence is one that the scan may well be.
    let ran = host(folder.path(), &[&run[..], &["--view", &t1, "--json"]].concat());
    assert_eq!(ran.0, 0, "{ran:?}");
}
