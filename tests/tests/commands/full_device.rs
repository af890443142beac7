//! A device that is full now and then: that case's error, and the next one is answered.
//!
//! It takes a build with the feature `cuda` and the stand-in of host/cuda/standin, which can be told when to be full; elsewhere the
//! test says that it is skipped.

use anymc3d_host::scan::{Affine, write_nifti_i16};
use anymc3d_tests::{host_binary, plugin_library, tiny_backbone, tiny_weights, workspace};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

const SHAPE: [usize; 3] = [24, 20, 10];

fn scan(path: &Path, seed: usize) {
    let voxels: Vec<i16> =
        (0..SHAPE.iter().product()).map(|i| (i * seed * 7919 % 1300) as i16 - 1000).collect();
    write_nifti_i16(path, &voxels, SHAPE, &Affine::aligned([9.0, 9.0, 12.0], [0.0; 3])).unwrap();
}

/// Lines of standard output, which are JSON.
fn answers(ran: &Output) -> Vec<Value> {
    String::from_utf8_lossy(&ran.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn logit(answer: &Value) -> f64 {
    answer["predictions"][0]["logit"].as_f64().unwrap()
}

#[test]
fn a_device_that_is_full_for_a_moment_costs_one_case_and_never_another_ones_numbers() {
    let doctor = Command::new(host_binary()).arg("doctor").output().unwrap();
    if !String::from_utf8_lossy(&doctor.stdout).contains("stand-in") {
        println!("skipped: no stand-in for a GPU; see host/cuda/README.md");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("careless.so");
    std::fs::copy(plugin_library("careless"), &plugin).unwrap();
    tiny_weights(&plugin, &folder.path().join("careless.safetensors"), 4);
    let scans = ["a", "b", "c"].map(|name| folder.path().join(format!("{name}.nii")));
    scans.iter().enumerate().for_each(|(i, path)| scan(path, i + 3));
    let report = folder.path().join("report");
    let run = |full_at: usize| {
        let mut host = Command::new(host_binary());
        host.arg("run").args(&scans).arg("--plugin").arg(&plugin).arg("--backbone").arg(tiny_backbone());
        host.args([
            "--json",
            "--segmentation",
            "--device",
            "cuda:0",
            "--precision",
            "bf16",
            "--threads",
            "2",
        ]);
        host.env("STANDIN_FULL_AT", full_at.to_string())
            .env("STANDIN_REPORT", &report)
            .current_dir(workspace());
        host.env("ANYMC3D_HOME", workspace().join("target/no-such-home")).output().unwrap()
    };
    let whole = run(0);
    let expected: Vec<f64> = answers(&whole).iter().map(logit).collect();
    assert_eq!(
        (whole.status.code(), expected.len()),
        (Some(0), 3),
        "{}",
        String::from_utf8_lossy(&whole.stderr)
    );
    let told = std::fs::read_to_string(&report).unwrap();
    let told: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!(told["left"], 0, "nothing stays on the device");
    let all = usize::try_from(told["allocations"].as_u64().unwrap()).unwrap();
    // A step that is no divisor of what repeats.
    let (mut refused, mut failed) = (0, 0);
    for full_at in (1..=all).step_by((all / 60).max(1) | 1) {
        let ran = run(full_at);
        let (err, answers) = (String::from_utf8_lossy(&ran.stderr).into_owned(), answers(&ran));
        let at = format!("allocation {full_at} of {all}: {err}{answers:?}");
        if ran.status.code() == Some(3) {
            // Nothing was opened: the backbone, or the one plugin.
            assert!(answers.is_empty() && err.contains("memory"), "{at}");
            refused += 1;
            continue;
        }
        assert_eq!(answers.len(), 3, "{at}");
        let errors: Vec<&str> = answers.iter().filter_map(|a| a["error"].as_str()).collect();
        assert_eq!(ran.status.code(), Some(i32::from(!errors.is_empty())), "{at}");
        assert!(
            errors.len() <= 1 && errors.iter().all(|e| e.contains("the device's memory is full")),
            "{at}"
        );
        failed += errors.len();
        for (answer, expected) in answers.iter().zip(&expected).filter(|(a, _)| a["error"].is_null()) {
            assert!((logit(answer) - expected).abs() < 1e-6, "{at}");
        }
    }
    println!("of {all} allocations: {refused} refused at the opening, {failed} cost their case");
    assert!(refused > 0 && failed > 0);
}
