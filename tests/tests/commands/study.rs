//! `host study`: the table, what is kept and what is done anew, cells that fail, and what is refused before anything runs.

use super::training::cases;
use anymc3d_tests::{host_binary, plugin_library, workspace};
use serde_json::Value;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// A folder with cases, a home and a study file.
struct StudyFolder(tempfile::TempDir);

struct Ran {
    code: i32,
    err: String,
}

const METHODS: &str = "[[method]]\nname = \"linear\"\nkind = \"linear_probe\"\nepochs = 2\nhead_lr = 1e-2\nseeds = [1, 2]\n\
    [[method]]\nname = \"attention\"\nkind = \"attention_probe\"\nepochs = 2\nhead_lr = 1e-2\n";
const LORA: &str = "[[method]]\nname = \"LoRA\"\nkind = \"lora\"\nepochs = 1\nrank = 2\n";

impl StudyFolder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        cases(folder.0.path(), 18);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Two tiny random backbones of two families; `any` says whether the second may be tried.
    fn file(&self, any: bool, methods: &str) {
        let fixtures = workspace().join("tests/fixtures");
        let fixture = |name: &str| fixtures.join(name).display().to_string();
        let text = format!(
            "[study]\nbaseline = {{ backbone = \"registers\", method = \"attention\" }}\ntimed_scans = 2\n\
             [[task]]\nname = \"ball\"\nplugin = \"{}\"\ntable = \"table.csv\"\nfolds = 3\nslices = 4\nsize = [56, 56]\n\
             any_backbone = {any}\n\
             [[backbone]]\nname = \"registers\"\nfolder = \"{}\"\n[[backbone]]\nname = \"rotary\"\nfolder = \"{}\"\n{methods}",
            plugin_library("lung_nodule").display(),
            fixture("dinov2_registers"),
            fixture("families/dinov3"),
        );
        fs::write(self.path("study.toml"), text).unwrap();
    }

    fn command(&self, out: &str) -> Command {
        let mut command = Command::new(host_binary());
        command.args(["study", "study.toml", "--out", out, "--threads", "1", "--precision", "f32"]);
        command.current_dir(self.0.path()).env("ANYMC3D_HOME", self.path("home"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, out: &str) -> Ran {
        let output = self.command(out).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        Ran { code: output.status.code().unwrap_or(-1), err }
    }

    fn rows(&self, out: &str) -> Vec<Value> {
        let text = fs::read(self.path(out).join("study.json")).unwrap();
        let study: Value = serde_json::from_slice(&text).unwrap();
        study["rows"].as_array().unwrap().clone()
    }

    fn changed(&self, name: &str, old: &str, new: &str) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(old), "{name} has no `{old}`");
        fs::write(self.path(name), text.replacen(old, new, 1)).unwrap();
    }
}

/// Files below a folder with a name's end, and when they were written.
fn files(folder: &Path, end: &str) -> HashMap<PathBuf, SystemTime> {
    let mut found = HashMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path, end)),
            path if path.to_string_lossy().ends_with(end) => {
                found.insert(path, entry.metadata().unwrap().modified().unwrap());
            }
            _ => {}
        }
    }
    found
}

/// The mean over folds of the share of pairs in which the positive has the higher mean probability of the seeds: by counting.
fn area_by_hand(cell: &Path, seeds: &[u32]) -> f64 {
    let mut of_folds = Vec::new();
    for fold in 1..=3 {
        let mut said: HashMap<String, (bool, f64)> = HashMap::new();
        for seed in seeds {
            let text = fs::read_to_string(cell.join(format!("seed-{seed}/fold-{fold}/test_predictions.csv")));
            for line in text.unwrap().lines().skip(1) {
                let cells: Vec<&str> = line.split(',').collect();
                let p: f64 = cells[2].parse().unwrap();
                said.entry(cells[0].to_owned()).or_insert((cells[1] == "1", 0.0)).1 += p / seeds.len() as f64;
            }
        }
        let of = |truth| said.values().filter(move |s| s.0 == truth).map(|s| s.1).collect::<Vec<f64>>();
        let (positives, negatives) = (of(true), of(false));
        let right = |p: f64, n: f64| {
            if p > n {
                1.0
            } else if p == n {
                0.5
            } else {
                0.0
            }
        };
        let sum: f64 = positives.iter().flat_map(|p| negatives.iter().map(move |n| right(*p, *n))).sum();
        of_folds.push(sum / (positives.len() * negatives.len()) as f64);
    }
    of_folds.iter().sum::<f64>() / 3.0
}

#[test]
fn a_study_is_one_table_with_intervals_tests_parameters_time_and_memory() {
    let folder = StudyFolder::new();
    folder.file(true, &format!("{METHODS}{LORA}"));
    let ran = folder.run("out");
    assert_eq!(ran.code, 0, "{}", ran.err);
    let rows = folder.rows("out");
    assert_eq!(rows.len(), 6, "{rows:?}");
    let row = |backbone: &str, method: &str| {
        rows.iter().find(|r| r["backbone"] == backbone && r["method"] == method).unwrap()
    };
    for (backbone, method, seeds) in
        [("registers", "linear", &[1, 2][..]), ("rotary", "attention", &[0]), ("rotary", "LoRA", &[0])]
    {
        let cell = folder.path("out").join(format!("cells/ball/{backbone}/{method}"));
        let found = row(backbone, method)["auroc"].as_f64().unwrap();
        assert!((found - area_by_hand(&cell, seeds)).abs() < 1e-9, "{backbone} {method}: {found}");
    }
    for row in &rows {
        assert_eq!((&row["cases"], &row["positives"]), (&18.into(), &9.into()), "{row}");
        let ci = row["auroc_ci95"].as_array().unwrap();
        let area = row["auroc"].as_f64().unwrap();
        assert!(ci[0].as_f64().unwrap() <= area && area <= ci[1].as_f64().unwrap(), "{row}");
        assert_eq!(row["baseline"], row["backbone"] == "registers" && row["method"] == "attention");
        assert_eq!(row["p_value"].is_null(), row["baseline"] == true, "{row}");
        assert!(row["cost"]["milliseconds"].as_f64().unwrap() > 0.0 && row["cost"]["scans"] == 2, "{row}");
        if cfg!(target_os = "linux") {
            assert!(row["cost"]["peak_bytes"].as_u64().unwrap() > 1 << 20, "{row}");
            assert!(row["cost"]["processor_ms"].as_f64().unwrap() >= 0.0, "{row}");
        }
        assert_eq!(row["auroc_seed_sd"].is_null(), row["method"] != "linear", "{row}");
    }
    let parameters = |method| row("registers", method)["parameters"].as_u64().unwrap();
    assert!(parameters("linear") < parameters("attention") && parameters("attention") < parameters("LoRA"));
    let (area, base) = (row("rotary", "LoRA"), row("registers", "attention"));
    let difference = area["auroc"].as_f64().unwrap() - base["auroc"].as_f64().unwrap();
    assert!((area["difference"].as_f64().unwrap() - difference).abs() < 1e-12);
    let markdown = fs::read_to_string(folder.path("out/study.md")).unwrap();
    assert!(
        markdown.contains("## ball: 18 cases, 9 positive") && markdown.contains("| baseline |"),
        "{markdown}"
    );
    assert!(fs::read_to_string(folder.path("out/auroc_time.svg")).unwrap().contains(">LoRA<"));
    assert!(fs::read(folder.path("out/auroc_time.png")).unwrap().starts_with(b"\x89PNG"));
    assert_eq!(fs::read_to_string(folder.path("out/study.csv")).unwrap().lines().count(), 7);
}

#[test]
fn frozen_features_are_computed_once_per_backbone_and_case_whatever_reads_them() {
    let folder = StudyFolder::new();
    folder.file(true, METHODS);
    assert_eq!(folder.run("out").code, 0);
    // Two probes, three seeds of them, three folds.
    let cached = files(&folder.path("home/cache/prefix"), ".safetensors");
    assert_eq!(cached.len(), 2 * 18);
}

#[test]
fn what_is_done_is_kept_and_what_changed_is_done_anew() {
    let folder = StudyFolder::new();
    folder.file(true, METHODS);
    assert_eq!(folder.run("out").code, 0);
    let (before, rows) = (files(&folder.path("out"), "cell.json"), folder.rows("out"));
    assert_eq!(before.len(), 4);
    let again = folder.run("out");
    assert_eq!((again.code, again.err.matches("done by an earlier call").count()), (0, 4), "{}", again.err);
    assert_eq!(files(&folder.path("out"), "cell.json"), before);
    assert_eq!(folder.rows("out"), rows);
    folder.changed(
        "study.toml",
        "kind = \"attention_probe\"\nepochs = 2",
        "kind = \"attention_probe\"\nepochs = 3",
    );
    let changed = folder.run("out");
    assert_eq!(changed.err.matches("options.epochs was 2, now it is 3").count(), 2, "{}", changed.err);
    assert_eq!(changed.err.matches("done by an earlier call").count(), 2, "{}", changed.err);
    for (path, time) in files(&folder.path("out"), "cell.json") {
        assert_eq!(before[&path] == time, path.to_string_lossy().contains("linear"), "{path:?}");
    }
}

#[test]
fn a_study_that_was_killed_goes_on_and_ends_with_the_same_figures() {
    let folder = StudyFolder::new();
    folder.file(true, &METHODS.replace("epochs = 2", "epochs = 30"));
    assert_eq!(folder.run("whole").code, 0);
    let mut child = folder.command("killed").spawn().unwrap();
    let begin = Instant::now();
    // The first cell is done, the second is under way.
    while files(&folder.path("killed"), "cell.json").is_empty()
        || files(&folder.path("killed/cells/ball/registers/attention"), "metrics.csv").is_empty()
    {
        assert!(begin.elapsed() < Duration::from_secs(120), "a cell takes minutes");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let done = files(&folder.path("killed"), "cell.json");
    assert!(done.len() < 4, "it was through before it was killed");
    let ran = folder.run("killed");
    assert_eq!(ran.code, 0, "{}", ran.err);
    let now = files(&folder.path("killed"), "cell.json");
    done.iter().for_each(|(path, time)| assert_eq!(now[path], *time));
    let figures = |out: &str| -> Vec<(Value, Value)> {
        folder.rows(out).into_iter().map(|r| (r["auroc"].clone(), r["p_value"].clone())).collect()
    };
    assert_eq!(figures("killed"), figures("whole"));
}

#[test]
fn a_cell_that_fails_has_a_row_with_its_reason_and_the_others_go_on() {
    let folder = StudyFolder::new();
    folder.file(false, METHODS);
    // Wide enough by the plugin's manifest is neither; the second is of another family too.
    let ran = folder.run("out");
    assert_eq!(ran.code, 1, "{}", ran.err);
    let rows = folder.rows("out");
    let reasons: Vec<&str> = rows.iter().map(|r| r["failed"].as_str().unwrap_or("")).collect();
    assert!(reasons[0].contains("needs an embedding of 384"), "{reasons:?}");
    assert!(reasons[2].contains("needs a backbone of dinov2, found dinov3"), "{reasons:?}");
    let markdown = fs::read_to_string(folder.path("out/study.md")).unwrap();
    assert!(markdown.contains("failed: "), "{markdown}");
    // What failed is tried again, and what is mended is done.
    folder.file(true, METHODS);
    fs::write(folder.path("0.nii"), b"no scan").unwrap();
    fs::remove_dir_all(folder.path("out/cells/ball/rotary")).unwrap();
    let ran = folder.run("out");
    assert!(ran.code == 1 && ran.err.contains("case c0"), "{}", ran.err);
    assert_eq!(folder.rows("out").len(), 4);
}

#[test]
fn what_a_study_names_and_is_not_there_is_refused_before_anything_runs() {
    let folder = StudyFolder::new();
    let library = plugin_library("lung_nodule").display().to_string();
    for (old, new, code, says) in [
        ("slices = 4", "slice = 4", 2, vec!["study.toml: line 9: unknown field `slice`"]),
        (library.as_str(), "lung_nodul", 3, vec!["task ball", "lung_nodul"]),
        (
            "[[backbone]]\nname = \"registers\"\nfolder",
            "[[backbone]]\nname = \"registers\"\n#",
            3,
            vec!["`registers`: not found"],
        ),
        ("table.csv", "tables.csv", 1, vec!["task ball", "tables.csv", "--data"]),
        ("folds = 3\n", "", 1, vec!["0 to test on", "`folds`"]),
        ("method = \"attention\"", "method = \"atention\"", 2, vec!["baseline: method `atention`"]),
    ] {
        folder.file(true, METHODS);
        folder.changed("study.toml", old, new);
        let ran = folder.run("out");
        assert_eq!((ran.code, ran.err.trim_end().lines().count()), (code, 1), "{new}: {}", ran.err);
        says.iter().for_each(|words| assert!(ran.err.contains(words), "`{words}` is missing: {}", ran.err));
        assert!(!folder.path("out").exists(), "{new}");
    }
    let bound = folder.path("bound");
    fs::create_dir(&bound).unwrap();
    for file in ["config.json", "model.safetensors", "preprocessor_config.json"] {
        fs::copy(workspace().join("tests/fixtures/dinov2_registers").join(file), bound.join(file)).unwrap();
    }
    fs::write(bound.join("LICENSE.md"), "Terms that bind.").unwrap();
    folder.file(true, METHODS);
    let fixture = workspace().join("tests/fixtures/dinov2_registers").display().to_string();
    folder.changed("study.toml", &fixture, "bound");
    let ran = folder.run("out");
    assert!(ran.code == 3 && ran.err.contains("--accept-licence"), "{}", ran.err);
}
