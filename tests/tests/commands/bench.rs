//! `host bench`: each measure once, on the tiny backbone.

use anymc3d_tests::{host_binary, tiny_backbone};
use serde_json::Value;
use std::process::Command;

/// Standard output of a bench that must succeed.
fn bench(arguments: &[&str]) -> String {
    let backbone = tiny_backbone();
    let common = ["--backbone", backbone.to_str().unwrap(), "--slices", "2", "--size", "56", "-n", "1"];
    let ran = Command::new(host_binary()).arg("bench").args(arguments).args(common).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

fn rows(arguments: &[&str]) -> Vec<Value> {
    let all = bench(&[arguments, &["--json"]].concat());
    all.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_measure_of_passes_and_kernels_gives_rows_with_a_time_and_a_rate() {
    let rows = rows(&["kernels", "one", "many", "step"]);
    for name in ["qkv", "attention", "one", "12 tasks", "step"] {
        assert!(rows.iter().any(|r| r["measure"].as_str().unwrap().starts_with(name)), "{name}: {rows:#?}");
    }
    assert!(
        rows.iter().all(|r| r["ms"].as_f64().unwrap() > 0.0 && r["rate"].as_f64().unwrap() > 0.0),
        "{rows:#?}"
    );
}

#[test]
fn number_formats_are_compared_with_f32_and_the_fastest_near_one_is_named() {
    let rows = rows(&["precisions"]);
    let names: Vec<&str> = rows.iter().map(|r| r["measure"].as_str().unwrap()).collect();
    for (name, format) in names.iter().zip(["f32", "bf16", "int16", "int8"]) {
        let cosine: f64 = name.strip_prefix(&format!("frozen, {format}, cosine ")).unwrap().parse().unwrap();
        let least = if format == "int8" { 0.98 } else { 0.999 };
        assert!((least..=1.0).contains(&cosine), "{name}");
    }
    assert_eq!(rows[0]["ratio"], 1.0);
    let told = bench(&["precisions"]);
    let last = told.lines().last().unwrap();
    assert!(last.starts_with("Kernels: ") && last.contains("--precision "), "{told}");
}
