//! `host eval` as a user types it: what is printed, what is written, what is refused, and the figures themselves.

mod parity;
mod plugin;

use anymc3d_tests::{host_binary, workspace};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

const FILES: [&str; 10] = [
    "calibration.png",
    "calibration.svg",
    "confusion.png",
    "confusion.svg",
    "metrics.json",
    "precision_recall.png",
    "precision_recall.svg",
    "predictions.csv",
    "roc.png",
    "roc.svg",
];

#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    /// One clear line and this exit code.
    #[track_caller]
    fn refused(&self, code: i32, says: &[&str]) {
        assert_eq!((self.code, self.err.trim_end().lines().count()), (code, 1), "{self:#?}");
        for words in says {
            assert!(self.err.contains(words), "`{words}` is missing: {self:#?}");
        }
        assert!(self.err.starts_with("error: ") && self.out.is_empty(), "{self:#?}");
    }
}

fn host(arguments: &[&str]) -> Ran {
    let mut command = Command::new(host_binary());
    // Whatever is installed on the machine stays out of the tests.
    let home = workspace().join("target").join("no-such-home");
    command.args(arguments).current_dir(workspace()).env("ANYMC3D_HOME", home);
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_str().unwrap().to_owned()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| text(e.unwrap().file_name())).collect();
    names.sort();
    names
}

fn metrics(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("metrics.json")).unwrap()).unwrap()
}

/// Evaluates a predictions file of this content; the folder lives as long as it is held.
fn measured(csv: &str, more: &[&str]) -> (tempfile::TempDir, Ran) {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("p.csv"), folder.path().join("out"));
    fs::write(&file, csv).unwrap();
    let ran = host(&[&["eval", "--predictions", &text(file), "--out", &text(out)], more].concat());
    (folder, ran)
}

/// Two labels with ties and unknowns, three cases a patient.
fn made(n: usize) -> String {
    let mut csv = String::from("case,patient,nodule,fluid,p_nodule,p_fluid,site\n");
    for i in 0..n {
        let nodule = i * 7 % 11 < 4;
        let p = ((i * 37 % 23) as f64 + if nodule { 6.0 } else { 0.0 }) / 29.0;
        let fluid = ["1", "0", "", "0"][i % 4];
        writeln!(csv, "c{i},p{},{},{fluid},{p},{},x", i / 3, u8::from(nodule), (i % 5) as f64 / 4.0).unwrap();
    }
    csv
}

#[test]
fn every_file_is_written_and_the_written_predictions_give_the_same_figures_again() {
    let (folder, ran) = measured(&made(90), &["--bootstrap", "50", "--threshold", "nodule=0.4"]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    let words =
        ["LABEL", "AUROC [95 % CI]", "nodule", "fluid", "0.400", "macro AUROC", "90 cases of 30 patients"];
    for words in words.into_iter().chain(["Research only. Not for diagnosis."]) {
        assert!(ran.out.contains(words), "`{words}` is missing: {ran:#?}");
    }
    assert!(ran.err.contains("note: ") && ran.err.contains("columns left alone: site"), "{ran:#?}");
    let (first, again) = (folder.path().join("out"), folder.path().join("again"));
    assert_eq!(names(&first), FILES);
    assert!(fs::read(first.join("roc.png")).unwrap().starts_with(b"\x89PNG"));

    let predictions = first.join("predictions.csv");
    let ran = host(&[
        "eval",
        "--json",
        "--predictions",
        &text(&predictions),
        "--out",
        &text(&again),
        "--bootstrap",
        "50",
        "--threshold",
        "nodule=0.4",
    ]);
    assert_eq!((ran.code, ran.out.lines().count()), (0, 1), "{ran:#?}");
    assert_eq!(fs::read(&predictions).unwrap(), fs::read(again.join("predictions.csv")).unwrap());
    let (one, two) = (metrics(&first), metrics(&again));
    for key in ["schema", "cases", "patients", "macro_auroc", "labels", "bootstrap", "research_only"] {
        assert_eq!(one[key], two[key], "{key}");
    }
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap(), two);
    assert_eq!(one["schema"], "anymc3d/metrics/1");
    let nodule = &one["labels"]["nodule"];
    assert_eq!((nodule["threshold"].as_f64(), nodule["n"].as_u64()), (Some(0.4), Some(90)));
    for figure in ["auroc", "average_precision", "brier", "ece", "sensitivity", "f1", "balanced_accuracy"] {
        let [low, high] = [0, 1].map(|i| nodule["bootstrap_ci95"][figure][i].as_f64().unwrap());
        assert!(low <= high, "{figure}");
    }
    assert_eq!(one["labels"]["fluid"]["n"], 90 - 22);
}

#[test]
fn a_label_of_one_class_has_null_figures_and_a_dash() {
    let (folder, ran) = measured("case,a,p_a\nx,1,0.5\ny,1,0.7\n", &[]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert!(ran.err.contains("warning: label `a`: no negative among 2 known cases"), "{ran:#?}");
    let line: Vec<&str> = ran.out.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(line, ["a", "2", "2", "-", "1.000", "1.000", "-", "0.500"]);
    let found = metrics(&folder.path().join("out"));
    let a = &found["labels"]["a"];
    assert!(a["auroc"].is_null() && a["auroc_ci95"].is_null() && a["specificity"].is_null(), "{a}");
    assert!(found["macro_auroc"].is_null());
}

#[test]
fn wrong_files_are_refused_with_1_and_leave_nothing() {
    let wrong: [(&str, &[&str]); 9] = [
        ("case,a\nx,1\n", &["p.csv", "line 1", "no column `p_LABEL`", "found `case,a`"]),
        ("case,a,b,p_a\nx,1,0,0.5\n", &["line 1", "there is no column `p_b`"]),
        ("case,a,p_a\nx,1,1.5\n", &["line 2", "`p_a` is `1.5`", "expected a probability, 0 to 1"]),
        ("case,a,p_a\nx,1,NaN\n", &["line 2", "`p_a` is `NaN`"]),
        ("case,a,p_a\nx,maybe,0.5\n", &["line 2", "label `a` is `maybe`", "expected 0, 1 or nothing"]),
        ("case,a,p_a\nx,1,0.5\nx,0,0.4\n", &["line 3", "case `x` is already on line 2"]),
        ("case,a,p_a\nx,,0.5\n", &["no known label in 1 cases"]),
        ("case,a,p_a\n", &["no case"]),
        ("case,g,p_g.low,p_g.high\nx,mid,0.5,0.5\n", &["line 2", "class `g` is `mid`", "low, high"]),
    ];
    for (csv, says) in wrong {
        let (folder, ran) = measured(csv, &[]);
        ran.refused(1, says);
        assert_eq!(names(folder.path()), ["p.csv"], "{csv}");
    }
    host(&["eval", "--predictions", "/nowhere/p.csv", "--out", "x"])
        .refused(1, &["/nowhere/p.csv", "cannot be read"]);
}

#[test]
fn wrong_usage_is_refused_with_2_in_one_line() {
    let refused = |arguments: &[&str], says: &[&str]| host(&[&["eval"], arguments].concat()).refused(2, says);
    refused(&["--out", "x"], &["nothing to evaluate", "--plugin", "--predictions"]);
    refused(&["--plugin", "p", "--predictions", "p.csv", "--out", "x"], &["give one of"]);
    refused(&["--plugin", "p", "--out", "x"], &["--data T.csv"]);
    refused(&["--predictions", "p.csv"], &["--out DIR is missing"]);
    refused(&["--predictions", "p.csv", "--split", "test", "--out", "x"], &["--split belongs to --plugin"]);
    refused(&["--compare", "a.csv", "b.csv", "--out", "x"], &["--compare prints"]);
    let (_folder, ran) = measured("case,a,p_a\nx,1,0.5\n", &["--threshold", "b=0.5"]);
    ran.refused(2, &["no label `b`", "there is: a"]);
    let ran = host(&["eval", "--help"]);
    assert!(ran.code == 0 && ran.out.starts_with("Examples:\n  host eval "), "{ran:#?}");
}

#[test]
fn an_unwritable_out_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.csv");
    fs::write(&file, "case,a,p_a\nx,1,0.5\n").unwrap();
    let below = text(file.join("out"));
    host(&["eval", "--predictions", &text(&file), "--out", &below])
        .refused(1, &["--out", &below, "cannot be written"]);
}

#[test]
fn a_comparison_is_an_object_on_stdout_and_a_table_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, csv: &str| {
        fs::write(folder.path().join(name), csv).unwrap();
        text(folder.path().join(name))
    };
    let a = file("a.csv", "case,x,p_x\nc1,1,0.9\nc2,0,0.2\nc3,1,0.4\nc4,0,0.6\n");
    let b = file("b.csv", "case,x,p_x\nc4,0,0.1\nc3,1,0.8\nc2,0,0.2\nc1,1,0.7\n");
    let ran = host(&["eval", "--compare", &a, &b]);
    assert!(ran.code == 0 && ran.err.starts_with("LABEL  AUROC A  AUROC B"), "{ran:#?}");
    assert!(ran.err.contains("Research only. Not for diagnosis."), "{ran:#?}");
    let found: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((found["x"]["auroc_a"].as_f64(), found["x"]["auroc_b"].as_f64()), (Some(0.75), Some(1.0)));

    let other = file("c.csv", "case,x,p_x\nc1,1,0.9\nc2,0,0.2\nc3,1,0.4\nc5,0,0.6\n");
    host(&["eval", "--compare", &a, &other]).refused(1, &["case `c4` is on line 5", "not in", "c.csv"]);
    let label = file("d.csv", "case,x,p_x\nc1,1,0.9\nc2,1,0.2\nc3,1,0.4\nc4,0,0.6\n");
    host(&["eval", "--compare", &a, &label])
        .refused(1, &["case `c2`: label `x` is 0 on line 3", "and 1 on line 3"]);
    let name = file("e.csv", "case,y,p_y\nc1,1,0.9\n");
    host(&["eval", "--compare", &a, &name]).refused(1, &["label `x` is in", "and not in"]);
}
