//! `host plugin check`: a good plugin passes, and each planted mistake is found by the check that is there for it.

use anymc3d_host::backbone::{Backbone, Precision};
use anymc3d_host::engine::{Case, Engine, golden};
use anymc3d_host::scan::{Affine, write_nifti_i16};
use anymc3d_host::task::LoadedTask;
use anymc3d_tests::support;
use anymc3d_tests::{
    backbone_folder, edited_library, host_binary, plugin_library, tiny_backbone, tiny_weights, workspace,
};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The mistake as the view is named, the check that finds it, and words of what was found.
const MISTAKES: [(&str, &str, &str); 15] = [
    ("no_gradient", "gradients", "gate"),
    ("fixed_width", "backbones", "matmul"),
    ("keeps_state", "repeatable", "off by"),
    ("sees_order", "slice order", "it matters"),
    ("divides_by_spread", "extremes", "NaN"),
    ("keeps_handles", "handles", "10 after 10 calls"),
    ("leaks_memory", "cost", "MiB"),
    ("squeezes", "shapes", "slice weights of shape []"),
    ("fixed_grid", "shapes", "reshape"),
    ("panics_in_drop", "drop", "a file that is no longer there"),
    ("crashes_on_two_slices", "shapes", "signal 6"),
    ("never_returns", "shapes", "no answer within"),
    ("late_parameter", "parameters", "`late` was asked for in a call"),
    ("two_outputs", "shapes", "logits of shape [2], expected [1]"),
    ("shares_scratch", "threads", "off by"),
];

/// A copy of the careful plugin, with a mistake where one is named.
fn copy(folder: &Path, mistake: &str) -> PathBuf {
    let path = folder.join(format!("{mistake}.so"));
    let way = |name: &str| format!("{:<36}# the mistake", format!("name = \"{name}\""));
    let (good, bad) = (way("axial"), way(mistake));
    edited_library(&plugin_library("careless"), &[(&good, &bad)], &path);
    path
}

fn check(library: &Path, more: &[&str]) -> Output {
    check_on(&tiny_backbone(), library, more)
}

fn check_on(backbone: &Path, library: &Path, more: &[&str]) -> Output {
    let mut host = Command::new(host_binary());
    host.args(["plugin", "check"]).arg(library).arg("--backbone").arg(backbone).args(more);
    host.current_dir(workspace()).env("ANYMC3D_HOME", workspace().join("target/no-such-home"));
    host.output().unwrap()
}

fn findings(output: &Output) -> Vec<serde_json::Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    let report: serde_json::Value = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(report["schema"], "anymc3d/check/1");
    report["findings"].as_array().unwrap().clone()
}

#[test]
fn a_careful_plugin_passes_every_check() {
    let folder = tempfile::tempdir().unwrap();
    let good = copy(folder.path(), "axial");
    let output = check(&good, &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.ends_with(" as expected, no problems\n") && !text.contains("FAILED"), "{text}");
    let all = findings(&check(&good, &["--json"]));
    let checks: std::collections::BTreeSet<&str> = all.iter().map(|f| f["check"].as_str().unwrap()).collect();
    assert_eq!(checks.len(), 18, "every check says something: {checks:?}");
    assert!(all.iter().all(|f| f["verdict"] != "failed"), "{all:#?}");
}

#[test]
fn the_example_of_five_ratings_passes_every_check() {
    let output = check_on(&backbone_folder(), &support::example("nodule_ratings"), &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("FAILED"), "{text}");
}

#[test]
fn each_planted_mistake_is_found_by_its_check() {
    let folder = tempfile::tempdir().unwrap();
    let mut missed = Vec::new();
    for (mistake, expected, words) in MISTAKES {
        let output = check(&copy(folder.path(), mistake), &["--json", "--time-limit", "10"]);
        let failed: Vec<serde_json::Value> =
            findings(&output).into_iter().filter(|f| f["verdict"] == "failed").collect();
        let told: Vec<String> =
            failed.iter().map(|f| format!("{}: {} ({})", f["check"], f["found"], f["tried"])).collect();
        println!("{mistake}: exit {:?}; {}", output.status.code(), told.join(" | "));
        let found =
            failed.iter().any(|f| f["check"] == expected && f["found"].as_str().unwrap().contains(words));
        if !found || output.status.code() != Some(1) {
            missed.push(mistake);
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}

#[test]
fn what_a_host_would_refuse_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.so");
    std::fs::write(&text, "no library").unwrap();
    let output = check(&text, &[]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stdout).contains("not a library this machine can load"));
    // Its manifest says one ABI, its code is of another.
    let lying = folder.path().join("lying.so");
    edited_library(&plugin_library("careless"), &[("abi = \"1.1\"", "abi = \"1.3\"")], &lying);
    let output = check(&lying, &[]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("its manifest says ABI 1.3, its code ABI 1.1"), "{said}");
    assert_eq!(check(&folder.path().join("missing.so"), &[]).status.code(), Some(3));
}

#[test]
fn weights_that_do_not_fit_are_a_finding() {
    let folder = tempfile::tempdir().unwrap();
    let good = copy(folder.path(), "axial");
    let weights = workspace().join("plugins/lung_nodule/lung_nodule.safetensors");
    let output = check(&good, &["--json", "--weights", weights.to_str().unwrap()]);
    let all = findings(&output);
    let told = all.iter().find(|f| f["tried"] == "weights").unwrap();
    assert_eq!((told["verdict"].as_str(), output.status.code()), (Some("failed"), Some(1)));
    assert!(told["found"].as_str().unwrap().contains("weights of plugin lung_nodule"), "{told}");
}

#[test]
fn golden_cases_beside_the_library_are_run_with_its_weights() {
    let folder = tempfile::tempdir().unwrap();
    let good = copy(folder.path(), "axial");
    let weights = folder.path().join("careless.safetensors");
    tiny_weights(&good, &weights, 8);
    let scan = folder.path().join("chest.nii");
    let voxels: Vec<i16> = (0..16 * 14 * 8).map(|i: i32| (i * 7919 % 900 - 500) as i16).collect();
    write_nifti_i16(&scan, &voxels, [16, 14, 8], &Affine::aligned([9.0, 9.0, 12.0], [0.0; 3])).unwrap();
    let backbone = Backbone::open(&tiny_backbone(), Precision::F32).unwrap();
    let task = LoadedTask::open(good.to_str().unwrap(), Some(&weights), backbone.info()).unwrap();
    let engine = Engine::new(backbone, Precision::F32, vec![task]);
    let case = Case { name: "chest".into(), image: Some(scan), ..Case::default() };
    let written = golden::record(&engine, &case, golden::TOLERANCE, &folder.path().join("golden")).unwrap();
    let found = |output: &Output| {
        let all = findings(output);
        let told = all.iter().find(|f| f["check"] == "golden").unwrap();
        (told["verdict"].as_str().unwrap().to_owned(), told["found"].as_str().unwrap().to_owned())
    };
    let output = check(&good, &["--json"]);
    assert_eq!(
        (found(&output).0.as_str(), output.status.code()),
        ("passed", Some(0)),
        "{}",
        found(&output).1
    );
    // An author's machine that got another logit.
    let mut case: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&written).unwrap()).unwrap();
    let logit = case["logits"][0]["logit"].as_f64().unwrap();
    case["logits"][0]["logit"] = (logit + 0.5).into();
    std::fs::write(&written, case.to_string()).unwrap();
    let output = check(&good, &["--json"]);
    assert_eq!((found(&output).0.as_str(), output.status.code()), ("failed", Some(1)));
    assert!(found(&output).1.contains("its author got"), "{}", found(&output).1);
}
