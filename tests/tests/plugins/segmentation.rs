//! Pixel supervision and its mask, from the outside: a plugin of somebody else's workspace trained and asked, and what
//! `host run --segmentation` writes.

use anymc3d_host::engine::result::CaseResult;
use anymc3d_host::scan::Scan;
use anymc3d_host::task::Weights;
use anymc3d_tests::support;
use anymc3d_tests::{edited_library, host_binary, plugin_library, random_weights, workspace};
use candle_core::Tensor;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn host(arguments: &[&str]) -> Ran {
    let mut command = Command::new(host_binary());
    // Whatever is installed on the machine stays out of the tests.
    let home = workspace().join("target").join("no-such-home");
    let output = command.args(arguments).current_dir(workspace()).env("ANYMC3D_HOME", home).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn done(arguments: &[&str]) -> Ran {
    let ran = host(arguments);
    assert_eq!(ran.code, 0, "{arguments:?}\n{}\n{}", ran.out, ran.err);
    ran
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Synthetic chests with their masks; the first has a nodule.
fn phantoms(folder: &Path, count: &str) -> PathBuf {
    done(&["phantom", "lung_nodule", "--count", count, "--seed", "5", "--out", text(folder)]);
    folder.join("table.csv")
}

/// Four of them, all to train on: the last epoch is the one that is kept.
fn four_phantoms(folder: &Path) -> PathBuf {
    let table = phantoms(&folder.join("phantoms"), "4");
    let rows = std::fs::read_to_string(&table).unwrap();
    let rows = rows.lines().enumerate();
    let rows = rows.map(|(i, row)| format!("{row},{}\n", if i == 0 { "split" } else { "train" }));
    std::fs::write(&table, rows.collect::<String>()).unwrap();
    table
}

/// Ten epochs; the columns `loss` and `segmentation_loss` of the log.
fn train(plugin: &str, table: &Path, out: &Path) -> [(&'static str, Vec<f64>); 2] {
    let shared =
        ["--plugin", plugin, "--data", text(table), "--out", text(out), "--seed", "3", "--augment", "none"];
    let more =
        ["--epochs", "10", "--batch", "2", "--head-lr", "0.005", "--cache-size", "0", "--precision", "f32"];
    done(&[&["train"][..], &shared, &more].concat());
    let log = std::fs::read_to_string(out.join("metrics.csv")).unwrap();
    ["loss", "segmentation_loss"].map(|name| {
        let at = log.lines().next().unwrap().split(',').position(|c| c == name).unwrap();
        let values = log.lines().skip(1).map(|line| line.split(',').nth(at).unwrap().parse().unwrap());
        (name, values.collect())
    })
}

fn result(path: &Path) -> CaseResult {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn moved(from: &Tensor, to: &Tensor) -> f32 {
    (from - to).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

#[test]
fn a_plugin_of_another_workspace_trains_its_own_decoder_with_its_own_losses_and_outlines_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let library = support::outside("own_decoder");
    let (table, out) = (four_phantoms(folder.path()), folder.path().join("run"));
    let plugin = text(&library);
    for (name, losses) in train(plugin, &table, &out) {
        assert!(losses.len() == 10 && losses.iter().all(|l| l.is_finite()), "{name}: {losses:?}");
        assert!(losses[9] < losses[0], "{name}: {losses:?}");
    }

    let trained = Weights::open(&out.join("own_decoder.safetensors")).unwrap().tensors;
    let start = folder.path().join("start.safetensors");
    random_weights(&library, &start, 3, |_, _| {});
    let start = Weights::open(&start).unwrap().tensors;
    assert_eq!(start.keys().collect::<Vec<_>>(), trained.keys().collect::<Vec<_>>());
    assert_eq!(trained.keys().filter(|name| name.starts_with("segmentation.")).count(), 5);
    for (name, from) in &start {
        // More than weight decay alone would.
        let least = if name.starts_with("adapter.") { 1e-6 } else { 1e-4 };
        let by = moved(from, &trained[name]);
        assert!(by > least, "{name} has moved by {by}");
    }

    // The same weights, without the branch's tensors: enough for a prediction, not for a mask.
    let bare = folder.path().join("bare.safetensors");
    random_weights(&library, &bare, 3, |tensors, _| {
        tensors.retain(|name, t| {
            *t = trained[name].clone();
            !name.starts_with("segmentation.")
        });
    });
    let scan = first_image(&table);
    let (whole, answer) = (out.join("own_decoder.safetensors"), folder.path().join("answer"));
    let ask = |weights: &Path, more: &[&str]| {
        host(
            &[
                &["run", "--plugin", plugin, "--weights", text(weights), "--out", text(&answer), text(&scan)],
                more,
            ]
            .concat(),
        )
    };
    let place = |file: &str| {
        answer
            .join(scan.file_name().unwrap().to_str().unwrap().trim_end_matches(".nii.gz"))
            .join("own_decoder")
            .join(file)
    };
    let ran = ask(&bare, &["--segmentation"]);
    assert!(ran.code == 3 && ran.err.contains("`segmentation.wide.weight`"), "{} {}", ran.code, ran.err);
    assert_eq!(ask(&bare, &[]).code, 0);
    let without = result(&place("result.json"));
    assert_eq!(ask(&whole, &[]).code, 0);
    let dropped = result(&place("result.json"));
    assert_eq!(ask(&whole, &["--segmentation"]).code, 0);
    let kept = result(&place("result.json"));
    assert_eq!(without.predictions, dropped.predictions);
    assert_eq!(dropped.predictions, kept.predictions);
    assert!(dropped.segmentation.is_none() && dropped.timing_ms.segmentation.is_none());
    let mask = Scan::open(&place("segmentation.nii.gz")).unwrap();
    assert_eq!(mask.voxels.iter().filter(|v| **v == 1.0).count(), kept.segmentation.unwrap().voxels);
}

fn first_image(table: &Path) -> PathBuf {
    let text = std::fs::read_to_string(table).unwrap();
    let at = text.lines().next().unwrap().split(',').position(|c| c == "image").unwrap();
    let name = text.lines().nth(1).unwrap().split(',').nth(at).unwrap().to_owned();
    table.parent().unwrap().join(name)
}

#[test]
fn the_standard_3d_decoder_trains_and_its_mask_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let code = "plugin/src/lib.rs";
    let library = support::foreign(
        "volume_decoder",
        "lung_nodule",
        &[
            (code, "PatchEvidence::new(build).boxed()", "AttentionPooling::new(build).boxed()"),
            (code, "Decoder::Token.build(build)", "Decoder::Volume.build(build)"),
            ("plugin/plugin.toml", "slices = 40", "slices = 6"),
            ("plugin/plugin.toml", "size = [168, 168]", "size = [56, 56]"),
        ],
    );
    let (table, out) = (four_phantoms(folder.path()), folder.path().join("run"));
    for (name, losses) in train(text(&library), &table, &out) {
        assert!(losses.iter().all(|l| l.is_finite()) && losses[9] < losses[0], "{name}: {losses:?}");
    }
    let weights = out.join("lung_nodule.safetensors");
    let run = ["run", "--plugin", text(&library), "--weights", text(&weights), "--segmentation", "--json"];
    let ran = done(&[&run[..], &[text(&first_image(&table))]].concat());
    let said: CaseResult = serde_json::from_str(ran.out.lines().next().unwrap()).unwrap();
    assert!(said.segmentation.is_some() && said.timing_ms.segmentation.unwrap() > 0.0);
}

#[test]
fn run_with_segmentation_writes_a_binary_mask_on_the_scans_own_grid_and_its_volume() {
    let folder = tempfile::tempdir().unwrap();
    let scan = first_image(&phantoms(&folder.path().join("phantoms"), "1"));
    // Logits on the patch grid (lung_nodule's TokenDecoder), about half of them above zero.
    let few = [("slices = 40", "slices =  6"), ("size = [168, 168]", "size = [ 56,  56]")];
    let library = folder.path().join("task.so");
    edited_library(&plugin_library("lung_nodule"), &few, &library);
    random_weights(&library, &folder.path().join("lung_nodule.safetensors"), 1, |tensors, _| {
        let bias = tensors.get_mut("segmentation.bias").unwrap();
        *bias = bias.zeros_like().unwrap();
    });
    let out = folder.path().join("out");
    let run = ["run", "--plugin", text(&library), "--segmentation", text(&scan)];
    let ran = done(&[&run[..], &["--out", text(&out)]].concat());
    assert!(ran.out.contains("segmented: ") && ran.out.contains("segmentation.nii.gz"), "{}", ran.out);

    let name = scan.file_name().unwrap().to_str().unwrap().trim_end_matches(".nii.gz").to_owned();
    let place = out.join(name).join("lung_nodule");
    let result = result(&place.join("result.json"));
    assert_eq!(result.files.segmentation.as_deref(), Some("segmentation.nii.gz"));
    assert!(result.files.heatmap.is_some() && result.timing_ms.segmentation.is_some());
    let record = result.segmentation.unwrap();
    let (mask, original) =
        (Scan::open(&place.join("segmentation.nii.gz")).unwrap(), Scan::open(&scan).unwrap());
    assert_eq!((mask.shape, &mask.orientation), (original.shape, &original.orientation));
    for (a, b) in mask.affine.0.iter().flatten().zip(original.affine.0.iter().flatten()) {
        assert!((a - b).abs() < 1e-3, "{:?} is not {:?}", mask.affine, original.affine);
    }
    assert!(mask.voxels.iter().all(|v| *v == 0.0 || *v == 1.0));
    let count = mask.voxels.iter().filter(|v| **v == 1.0).count();
    assert!(count == record.voxels && count > 0 && count < mask.voxels.len(), "{count}");
    let voxel_ml = original.spacing_mm.iter().product::<f64>() / 1000.0;
    assert!((record.volume_ml - count as f64 * voxel_ml).abs() < 1e-3 * record.volume_ml);
    assert_eq!(record.view, "axial");

    // Without a place for the file the volume is told all the same.
    let ran = done(&[&run[..], &["--json"]].concat());
    let said: CaseResult = serde_json::from_str(ran.out.lines().next().unwrap()).unwrap();
    assert_eq!(said.segmentation, Some(record));
    assert_eq!(said.files.segmentation, None);
}

#[test]
fn a_plugin_without_a_branch_gives_a_warning_and_no_mask() {
    let folder = tempfile::tempdir().unwrap();
    let scan = first_image(&phantoms(&folder.path().join("phantoms"), "1"));
    let few = [("slices = 40", "slices =  4"), ("size = [168, 168]", "size = [ 56,  56]")];
    let library = folder.path().join("task.so");
    edited_library(&plugin_library("mean_probe"), &few, &library);
    random_weights(&library, &folder.path().join("mean_probe.safetensors"), 1, |_, _| {});
    let ran = done(&["run", "--plugin", text(&library), "--segmentation", "--json", text(&scan)]);
    let result: CaseResult = serde_json::from_str(ran.out.lines().next().unwrap()).unwrap();
    assert!(result.segmentation.is_none());
    assert!(
        result.warnings.iter().any(|w| w.contains("has no segmentation branch")),
        "{:?}",
        result.warnings
    );
}

#[test]
fn named_tensors_are_all_that_a_branch_may_lack() {
    let folder = tempfile::tempdir().unwrap();
    let library = plugin_library("lung_nodule");
    let weights = folder.path().join("w.safetensors");
    // Its head reads the same tensors as its branch: they can never be left out.
    random_weights(&library, &weights, 1, |tensors: &mut BTreeMap<String, Tensor>, _| {
        tensors.remove("segmentation.weight");
    });
    let scan = workspace().join("examples/scans/chest_phantom.nii.gz");
    let ran = host(&["run", "--plugin", text(&library), "--weights", text(&weights), text(&scan)]);
    assert!(ran.code == 3 && ran.err.contains("`segmentation.weight` [384] is missing"), "{}", ran.err);
}
