//! `host benchmark`: methods against baselines, scores of other programs, several processes, kills, and what is refused.

use super::training::cases;
use anymc3d_tests::{host_binary, plugin_library, workspace};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const METHODS: &str = "[[method]]\nname = \"scalars\"\nkind = \"scalars\"\n\
    [[method]]\nname = \"linear\"\nkind = \"linear_probe\"\nepochs = 2\nhead_lr = 1e-2\nseeds = [1, 2]\n\
    [[method]]\nname = \"attention\"\nkind = \"attention_probe\"\nepochs = 2\nhead_lr = 1e-2\n";
const HEADS: &str = "[[method]]\nname = \"lstm\"\nkind = \"frozen\"\nfusion = \"lstm\"\nepochs = 1\n\
    [[method]]\nname = \"transformer\"\nkind = \"frozen\"\nfusion = \"transformer\"\nepochs = 1\n\
    [[method]]\nname = \"LoRA\"\nkind = \"lora\"\nepochs = 1\nrank = 2\n\
    [[method]]\nname = \"pixels\"\nkind = \"lora\"\nepochs = 1\nrank = 2\nlambda = 1.0\n";

/// A folder with cases, a home and a suite.
struct SuiteFolder(tempfile::TempDir);

impl SuiteFolder {
    fn new(methods: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        cases(folder.0.path(), 18);
        // Two cases of each patient.
        let table = fs::read_to_string(folder.path("table.csv")).unwrap();
        let rows = table.lines().enumerate().map(|(i, line)| match i {
            0 => format!("{line},patient\n"),
            _ => format!("{line},p{}\n", (i - 1) % 9),
        });
        fs::write(folder.path("table.csv"), rows.collect::<String>()).unwrap();
        let text = format!(
            "[study]\nbaselines = [\"scalars\", \"attention\"]\ntimed_scans = 1\n\
             [[task]]\nname = \"ball\"\nplugin = \"{}\"\ntable = \"table.csv\"\nfolds = 3\nslices = 4\nsize = [56, 56]\n\
             any_backbone = true\n[[backbone]]\nname = \"registers\"\nfolder = \"{}\"\n{methods}",
            plugin_library("lung_nodule").display(),
            workspace().join("tests/fixtures/dinov2_registers").display(),
        );
        fs::write(folder.path("suite.toml"), text).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, out: &str, more: &[&str]) -> Command {
        let mut command = Command::new(host_binary());
        command.args(["benchmark", "suite.toml", "--out", out, "--threads", "1", "--precision", "f32"]);
        command.args(["--bootstrap", "200"]).args(more);
        command.current_dir(self.0.path()).env("ANYMC3D_HOME", self.path("home"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Exit code and standard error.
    fn run(&self, out: &str, more: &[&str]) -> (i32, String) {
        ended(self.command(out, more).spawn().unwrap())
    }

    fn rows(&self, out: &str) -> Vec<Value> {
        let text = fs::read(self.path(out).join("benchmark.json")).unwrap();
        let table: Value = serde_json::from_slice(&text).unwrap();
        table["rows"].as_array().unwrap().clone()
    }

    /// The rows without what a clock decides.
    fn figures(&self, out: &str) -> Vec<Value> {
        let mut rows = self.rows(out);
        for row in rows.iter_mut().filter_map(Value::as_object_mut) {
            row.remove("training_minutes");
            row.remove("milliseconds");
        }
        rows
    }
}

fn ended(child: Child) -> (i32, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn row<'a>(rows: &'a [Value], method: &str) -> &'a Value {
    rows.iter().find(|row| row["method"] == method).unwrap_or_else(|| panic!("no row of {method}: {rows:?}"))
}

/// Files below a folder with a name's end.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path, end)),
            path if path.to_string_lossy().ends_with(end) => found.push(path),
            _ => {}
        }
    }
    found
}

/// Scores of another program for the cases of a folds file: of every third case the wrong way round. Truths as they are, or with
/// the first one turned.
fn others_scores(folds: &Path, to: &Path, turned: bool) -> Vec<(String, bool, f64)> {
    let text = fs::read_to_string(folds).unwrap();
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    assert_eq!(header[..5], ["case", "patient", "fold", "split", "nodule"], "{header:?}");
    let (mut file, mut said) = ("case,fold,nodule,p_nodule\n".to_owned(), Vec::new());
    for (i, line) in lines.enumerate() {
        let cells: Vec<&str> = line.split(',').collect();
        let truth = (cells[4] == "1") != (turned && i == 0);
        let p = if truth == (i % 3 != 0) { 0.6 + i as f64 / 100.0 } else { 0.4 - i as f64 / 100.0 };
        file += &format!("{},{},{},{p}\n", cells[0], cells[2], u8::from(truth));
        said.push((cells[2].to_owned(), truth, p));
    }
    fs::write(to, file).unwrap();
    said
}

/// The mean over folds of the share of pairs in the right order: by counting.
fn area_by_hand(said: &[(String, bool, f64)]) -> f64 {
    let of_fold = |fold: &str| {
        let of = |truth| said.iter().filter(move |s| s.0 == fold && s.1 == truth).map(|s| s.2);
        let pairs: Vec<bool> = of(true).flat_map(|p| of(false).map(move |n| p > n)).collect();
        pairs.iter().filter(|right| **right).count() as f64 / pairs.len() as f64
    };
    ["1", "2", "3"].map(of_fold).iter().sum::<f64>() / 3.0
}

#[test]
fn every_method_has_a_row_with_intervals_and_is_tested_against_every_baseline() {
    let raptor = format!(
        "[[method]]\nname = \"Raptor\"\nkind = \"plugin\"\nplugin = \"{}\"\nslices = 2\nsize = [56, 56]\nepochs = 1\n",
        plugin_library("raptor").display()
    );
    let folder = SuiteFolder::new(&format!("{METHODS}{HEADS}{raptor}"));
    assert_eq!(folder.run("plan", &["--plan"]).0, 0);
    assert!(!folder.path("plan/cells").exists());
    let said = others_scores(&folder.path("plan/folds/ball.csv"), &folder.path("theirs_ball.csv"), false);
    fs::write(folder.path("theirs_ball.json"), "{\"parameters\": 33, \"training_minutes\": 1.5}").unwrap();
    let more = ["--predictions", "theirs=theirs_{task}.csv", "--predictions", "absent=no_{task}.csv"];
    let (code, err) = folder.run("out", &more);
    assert_eq!(code, 0, "{err}");
    let rows = folder.rows("out");
    let names: Vec<&str> = rows.iter().map(|row| row["method"].as_str().unwrap()).collect();
    let all = [
        "scalars",
        "linear",
        "attention",
        "lstm",
        "transformer",
        "LoRA",
        "pixels",
        "Raptor",
        "absent",
        "theirs",
    ];
    assert_eq!(names, all);
    for row in rows.iter().filter(|row| row["method"] != "absent") {
        assert_eq!((&row["cases"], &row["positives"], &row["patients"]), (&18.into(), &9.into(), &9.into()));
        let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key}: {row}"));
        for (value, interval) in [("auroc", "auroc_delong_ci95"), ("brier", "brier_ci95")] {
            let ends = row[interval].as_array().unwrap_or_else(|| panic!("{interval}: {row}"));
            let (low, high) = (ends[0].as_f64().unwrap(), ends[1].as_f64().unwrap());
            assert!(low <= number(value) && number(value) <= high, "{value}: {row}");
        }
        assert!((0.0..=1.0).contains(&number("average_precision")), "{row}");
        assert!(number("parameters") > 0.0 && number("training_minutes") > 0.0, "{row}");
        let baselines: Vec<&str> =
            row["tests"].as_array().unwrap().iter().map(|t| t["baseline"].as_str().unwrap()).collect();
        let expected: Vec<&str> =
            ["scalars", "attention"].into_iter().filter(|name| row["method"] != *name).collect();
        assert_eq!(baselines, expected, "{row}");
        for test in row["tests"].as_array().unwrap() {
            let base = self::row(&rows, test["baseline"].as_str().unwrap())["auroc"].as_f64().unwrap();
            assert!((test["difference"].as_f64().unwrap() - (number("auroc") - base)).abs() < 1e-9, "{row}");
        }
    }
    let theirs = row(&rows, "theirs");
    assert!((theirs["auroc"].as_f64().unwrap() - area_by_hand(&said)).abs() < 1e-9, "{theirs}");
    assert_eq!((&theirs["parameters"], &theirs["training_minutes"]), (&33.into(), &1.5.into()));
    assert!(row(&rows, "absent")["missing"].as_str().unwrap().starts_with("not run: "));
    // Density tells the ball: five numbers of a scan, and an intercept.
    assert_eq!(row(&rows, "scalars")["parameters"], 6);
    let parameters = |method: &str| row(&rows, method)["parameters"].as_u64().unwrap();
    assert!(parameters("LoRA") < parameters("pixels"), "masks train a decoder too");
    let markdown = fs::read_to_string(folder.path("out/benchmark.md")).unwrap();
    for text in [
        "## ball: 18 cases of 9 patients, 9 positive",
        "| theirs | ",
        "| absent | not run: ",
        "| baseline |",
        "cells are done",
    ] {
        assert!(markdown.contains(text), "{text}: {markdown}");
    }
    assert_eq!(fs::read_to_string(folder.path("out/benchmark.csv")).unwrap().lines().count(), 11);
    for picture in ["forest", "auroc_parameters", "roc_ball"] {
        let svg = fs::read_to_string(folder.path("out").join(format!("{picture}.svg"))).unwrap();
        assert!(svg.contains(">theirs<"), "{picture}");
        assert!(fs::read(folder.path("out").join(format!("{picture}.png"))).unwrap().starts_with(b"\x89PNG"));
    }
    // The same call again reads what is there.
    let (begin, before) = (Instant::now(), folder.rows("out"));
    assert_eq!(folder.run("out", &more).0, 0);
    let again = begin.elapsed();
    assert_eq!(folder.rows("out"), before);
    let seconds: f64 =
        before.iter().filter_map(|row| row["training_minutes"].as_f64()).sum::<f64>() * 60.0 - 90.0;
    assert!(again.as_secs_f64() < 0.5 * seconds.max(1.0), "{again:?} after {seconds} s of training");
}

#[test]
fn a_benchmark_killed_at_three_places_and_taken_up_gives_the_table_of_one_that_was_not() {
    let folder = SuiteFolder::new(&METHODS.replace("epochs = 2", "epochs = 12"));
    assert_eq!(folder.run("whole", &[]).0, 0);
    let killed = folder.path("killed");
    let places: [(&str, &dyn Fn() -> bool); 3] = [
        ("the scalars are done", &|| !files(&killed, "cell.json").is_empty()),
        ("a probe trains", &|| {
            !files(&killed.join("cells/ball/registers/linear/seed-2"), "metrics.csv").is_empty()
        }),
        ("the last cell's first fold is scored", &|| {
            killed.join("cells/ball/registers/attention/seed-0/fold-1/run.json").exists()
        }),
    ];
    for (place, reached) in places {
        let mut child = folder.command("killed", &[]).spawn().unwrap();
        let begin = Instant::now();
        while !reached() {
            assert!(begin.elapsed() < Duration::from_secs(120), "{place}: takes minutes");
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(files(&killed, "cell.json").len() < 3, "it was through before it was killed");
    let (code, err) = folder.run("killed", &[]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(folder.figures("killed"), folder.figures("whole"));
}

#[test]
fn processes_share_a_suite_by_folds_or_at_once_and_none_does_what_another_did() {
    let folder = SuiteFolder::new(METHODS);
    let (code, err) = folder.run("whole", &[]);
    assert_eq!(code, 0, "{err}");
    let epochs = |err: &str| err.lines().filter(|line| line.starts_with("epoch")).count();
    // Two seeds of one and one of the other, three folds, two epochs.
    assert_eq!(epochs(&err), 18, "{err}");
    for fold in ["0", "1", "2"] {
        let (code, err) = folder.run("folds", &["--fold", fold, "--task", "ball"]);
        assert_eq!((code, epochs(&err)), (0, 6), "{err}");
    }
    assert_eq!(folder.figures("folds"), folder.figures("whole"));
    let both = [(), ()].map(|()| folder.command("both", &[]).spawn().unwrap()).map(ended);
    let done: usize = both.iter().map(|(_, err)| epochs(err)).sum();
    assert_eq!((both[0].0, both[1].0, done), (0, 0, 18), "{both:?}");
    assert_eq!(folder.figures("both"), folder.figures("whole"));
}

#[test]
fn scores_that_are_not_of_the_tasks_cases_are_a_row_with_the_reason_and_wrong_options_are_refused() {
    let folder = SuiteFolder::new(METHODS);
    assert_eq!(folder.run("out", &["--plan"]).0, 0);
    others_scores(&folder.path("out/folds/ball.csv"), &folder.path("turned.csv"), true);
    let (code, err) = folder.run("out", &["--plan", "--predictions", "turned=turned.csv"]);
    assert_eq!(code, 1, "{err}");
    let missing = folder.rows("out")[0]["missing"].as_str().unwrap().to_owned();
    assert!(missing.contains("case `c0`") || missing.contains("label `nodule` is 0"), "{missing}");
    for (more, says) in [
        (&["--task", "bal"][..], "--task bal: expected one of ball"),
        (&["--fold", "3"], "--fold 3: the tasks have 3, counted from 0"),
        (&["--predictions", "mine"], "expected NAME=FILE.csv"),
        (&["--predictions", "linear=x.csv"], "`linear` is there twice"),
    ] {
        let (code, err) = folder.run("out", more);
        assert!(code == 2 && err.contains(says), "{more:?}: {code} {err}");
    }
}
