//! Weights know where their training cases lie, and results tell how far a case is from there.

use super::{bench, cases, train};
use anymc3d_host::task::Weights;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// `novelty` of each case as `host run` tells it.
fn novelties(weights: &Path, table: &Path) -> Vec<Value> {
    let bench = bench();
    let mut run = Command::new(&bench.host);
    run.args(["-q", "run", "--json", "--precision", "f32", "--plugin"])
        .arg(&bench.probe)
        .arg("--weights")
        .arg(weights)
        .arg(table);
    let done =
        run.env("ANYMC3D_HOME", bench.folder.path().join("home")).current_dir(anymc3d_tests::workspace());
    let done = done.output().unwrap();
    let lines = String::from_utf8(done.stdout).unwrap();
    let of = |line: &str| serde_json::from_str::<Value>(line).unwrap()["novelty"].clone();
    let found: Vec<Value> = lines.lines().map(of).collect();
    assert!(!found.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
    found
}

#[test]
fn trained_weights_know_their_training_cases_and_results_tell_how_far_others_are() {
    let (bench, folder) = (bench(), tempfile::tempdir().unwrap());
    cases(folder.path(), 30);
    let table = folder.path().join("table.csv");
    let out = folder.path().join("run");
    let more = ["--data", table.to_str().unwrap(), "--epochs", "1", "--augment", "none"];
    let (code, _, err) = train(&bench.probe, &out, &more);
    assert_eq!(code, 0, "{err}");
    let weights = out.join("attention_probe.safetensors");
    let reference = Weights::open(&weights).unwrap().info.reference.expect("24 cases are enough");
    let view = &reference.views[0];
    assert_eq!(
        (view.cases, view.after_blocks, view.directions.len()),
        (24, None, 2),
        "a task without an adapter"
    );
    let told = novelties(&weights, &table);
    assert!(
        told.iter().all(|n| n["reference_cases"] == 24 && n["distance"].as_f64().unwrap() > 0.0),
        "{told:?}"
    );
    assert!(told.iter().filter(|n| n["outside"] == true).count() <= 6, "{told:?}");

    // Few cases tell nothing; and weights that exist are told later.
    let before = folder.path().join("few");
    let few = ["--epochs", "1", "--augment", "none"];
    assert_eq!(train(&bench.probe, &before, &few).0, 0);
    let before = before.join("attention_probe.safetensors");
    assert_eq!(Weights::open(&before).unwrap().info.reference, None);
    assert!(novelties(&before, &table).iter().all(Value::is_null));
    let (after, vectors) =
        (folder.path().join("after.safetensors"), folder.path().join("vectors.safetensors"));
    let mut host = Command::new(&bench.host);
    host.args(["-q", "weights", "reference", "--precision", "f32", "--plugin"])
        .arg(&bench.probe)
        .arg("--weights")
        .arg(&before);
    host.arg("--data").arg(&table).arg("--out").arg(&after).arg("--vectors").arg(&vectors);
    let done =
        host.env("ANYMC3D_HOME", bench.folder.path().join("home")).current_dir(anymc3d_tests::workspace());
    let done = done.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let (old, new) = (Weights::open(&before).unwrap(), Weights::open(&after).unwrap());
    assert_eq!(old.tensors.keys().collect::<Vec<_>>(), new.tensors.keys().collect::<Vec<_>>());
    let reference = new.info.reference.as_ref().unwrap();
    assert_eq!(reference.views[0].cases, 30);
    let all = candle_core::safetensors::load(&vectors, &candle_core::Device::Cpu).unwrap();
    let rows = all["axial"].to_vec2::<f32>().unwrap();
    // What `run` measures is what the reference was made of.
    for (row, told) in rows.iter().zip(novelties(&after, &table)) {
        let (here, there) = (reference.views[0].distance(row), told["distance"].as_f64().unwrap());
        assert!((here - there).abs() < 0.05 * there, "{here} {there}");
    }
}
