//! Plugins in a process of their own: what each kind of misbehaviour comes to there and in the host's process, and that
//! nothing else changes.
#![cfg(target_os = "linux")]

use anymc3d_host::scan::{Affine, write_nifti_i16};
use anymc3d_host::task::{WeightsInfo, weights};
use anymc3d_tests::small::{SMALL, way_line};
use anymc3d_tests::{edited_library, host_binary, plugin_library, tiny_backbone, tiny_weights, workspace};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const SHAPE: [usize; 3] = [24, 20, 10];

/// Two scans, a good plugin, and a folder where bad ones find their weights.
struct Bench {
    folder: tempfile::TempDir,
    good: PathBuf,
    /// Another good one, with a branch.
    whole: PathBuf,
    scans: [PathBuf; 2],
}

fn bad(folder: &Path, way: &str, to: &str) -> PathBuf {
    let path = folder.join(to);
    let (good, bad) = (way_line("axial"), way_line(way));
    let mut edits = SMALL.to_vec();
    edits.push((&good, &bad));
    if way == "lying_abi" {
        edits.push(("abi = \"1.1\"", "abi = \"1.3\""));
    }
    edited_library(&plugin_library("misbehaves"), &edits, &path);
    path
}

fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let good = folder.path().join("good.so");
        edited_library(&plugin_library("mean_probe"), &SMALL, &good);
        tiny_weights(&good, &folder.path().join("mean_probe.safetensors"), 4);
        let way = bad(folder.path(), "whole", "misbehaves.so");
        tiny_weights(&way, &folder.path().join("misbehaves.safetensors"), 4);
        let careless = folder.path().join("careless.so");
        fs::copy(plugin_library("careless"), &careless).unwrap();
        tiny_weights(&careless, &folder.path().join("careless.safetensors"), 4);
        let scans = ["a", "b"].map(|name| {
            let path = folder.path().join(format!("{name}.nii"));
            let seed = usize::from(name.as_bytes()[0]);
            let voxel = |i: usize| {
                let (x, y) = (i % SHAPE[0], i / SHAPE[0] % SHAPE[1]);
                let inside = (3..20).contains(&x) && (2..17).contains(&y);
                if inside { (i * seed * 7919 % 300) as i16 - 60 } else { -1000 }
            };
            let voxels: Vec<i16> = (0..SHAPE.iter().product()).map(voxel).collect();
            write_nifti_i16(&path, &voxels, SHAPE, &Affine::aligned([9.0, 9.0, 12.0], [0.0; 3])).unwrap();
            path
        });
        Bench { folder, good, whole: careless, scans }
    })
}

struct Ran {
    status: Option<ExitStatus>,
    out: String,
    err: String,
}

/// The host on both scans; killed where it goes on for longer than `patience`.
fn run(plugins: &[&Path], more: &[&str], patience: Duration) -> Ran {
    let (bench, logs) = (bench(), tempfile::tempdir().unwrap());
    let [out, err] = ["out", "err"].map(|n| logs.path().join(n));
    let mut host = Command::new(host_binary());
    host.arg("run").args(&bench.scans).arg("--backbone").arg(tiny_backbone()).args([
        "--json",
        "--precision",
        "f32",
    ]);
    for plugin in plugins {
        host.arg("--plugin").arg(plugin);
    }
    host.args(more).current_dir(workspace()).env("ANYMC3D_HOME", workspace().join("target/no-such-home"));
    host.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap()).stdin(Stdio::null());
    let mut child = host.spawn().unwrap();
    let until = Instant::now() + patience;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if Instant::now() > until => {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    Ran { status, out: text(&out), err: text(&err) }
}

impl Ran {
    fn lines(&self) -> Vec<Value> {
        self.out.lines().filter_map(|l| serde_json::from_str(l).ok()).collect()
    }

    /// How often a plugin answered.
    fn answers(&self, plugin: &str) -> usize {
        self.lines().iter().filter(|l| l["plugin"]["name"] == plugin).count()
    }

    /// How often it failed.
    fn errors(&self, plugin: &str) -> Vec<String> {
        let failed = self.lines().into_iter().filter(|l| l["plugin"] == plugin);
        failed.map(|l| l["error"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// What came of a bad plugin beside the good one, in the words of the table.
    fn outcome(&self, bad: &str) -> String {
        let (good, answered, errors) = (self.answers("mean_probe"), self.answers(bad), self.errors(bad));
        let Some(status) = self.status else { return "holds the host".to_owned() };
        if let Some(signal) = status.signal() {
            let before = if good == 2 && answered == 2 { "answers, then " } else { "" };
            return format!("{before}ends the host, signal {signal}");
        }
        let code = status.code().unwrap();
        if good < 2 {
            return format!("ends the host, exit code {code}");
        }
        let what = match (answered, errors.len()) {
            (2, 0) => "answers",
            (0, 2) if errors[1].contains("left out for the rest of the run") => "left out",
            (0, 2) if errors.iter().all(|e| e.starts_with(&format!("plugin {bad}: "))) => "error",
            (0, 0) => "refused",
            _ => "something else",
        };
        format!("{what}, {code}")
    }
}

/// The rows of docs/misbehaviour.md: way, in the host's process, isolated.
fn rows() -> Vec<[String; 3]> {
    let text = fs::read_to_string(workspace().join("docs/misbehaviour.md")).unwrap();
    let cells = |line: &str| line.split('|').map(|c| c.trim().to_owned()).collect::<Vec<_>>();
    let rows = text.lines().filter(|l| l.starts_with("| `")).map(cells);
    rows.map(|c| [c[1].trim_matches('`').to_owned(), c[3].clone(), c[4].clone()]).collect()
}

fn library(way: &str) -> (PathBuf, &'static str) {
    let folder = bench().folder.path();
    match way {
        "constructor" => {
            let path = folder.join("constructor.so");
            edited_library(&plugin_library("constructor_panics"), &SMALL, &path);
            // Never looked into: it is refused for its panic.
            drawn_weights_of_another(&path, "constructor_panics");
            (path, "constructor_panics")
        }
        "lying_outputs" => (bad(folder, "two_outputs", "lying_outputs.so"), "misbehaves"),
        way => (bad(folder, way, &format!("{way}.so")), "misbehaves"),
    }
}

/// Weights under another plugin's name, for one that cannot be built.
fn drawn_weights_of_another(library: &Path, plugin: &str) {
    let good = weights::Weights::open(&bench().folder.path().join("mean_probe.safetensors")).unwrap();
    let info = WeightsInfo { plugin: plugin.to_owned(), ..good.info };
    weights::write(&library.with_file_name(format!("{plugin}.safetensors")), &good.tensors, &info).unwrap();
}

#[test]
fn every_kind_of_misbehaviour_comes_to_what_the_table_says() {
    let rows = rows();
    assert!(rows.len() > 40, "{} rows", rows.len());
    let mut wrong = Vec::new();
    for [way, here, apart] in &rows {
        let (library, name) = library(way);
        let plugins = [library.as_path(), bench().good.as_path()];
        let patience =
            |expected: &str| Duration::from_secs(if expected == "holds the host" { 4 } else { 120 });
        let limit = if apart.starts_with("answers") { "60" } else { "4" };
        let limits = ["--segmentation", "--isolate", "--time-limit", limit, "--max-memory", "3G"];
        for (expected, more) in [(here, &limits[..1]), (apart, &limits[..])] {
            let ran = run(&plugins, more, patience(expected));
            let outcome = ran.outcome(name);
            println!("{way:28} {:9} {outcome}", if more.len() > 1 { "isolated" } else { "" });
            if outcome != *expected {
                wrong.push(format!("{way} {more:?}: {outcome}, expected {expected}\n{}{}", ran.out, ran.err));
            }
            // Whoever is not let in, or is left out, is named.
            let named = [name, way.as_str()].iter().any(|n| ran.err.contains(n))
                || ran.errors(name).iter().any(|e| e.contains(name));
            let quiet = outcome.starts_with("answers") || outcome.contains("the host");
            assert!(named || quiet, "{way}: {}", ran.err);
            if more.len() > 1 {
                assert_eq!(
                    ran.lines().len(),
                    ran.out.lines().count(),
                    "{way}: results alone on stdout: {}",
                    ran.out
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_culprit_is_named_with_the_stage_and_the_case_and_both_scans_are_answered_by_the_other() {
    let (library, name) = library("segfault");
    let ran = run(&[&library, &bench().good], &["--isolate"], Duration::from_secs(120));
    let errors = ran.errors(name);
    assert_eq!(errors[0], "plugin misbehaves: forward: ended its process (signal 11, segmentation fault)");
    assert_eq!(
        errors[1],
        "plugin misbehaves: forward: ended its process (signal 11, segmentation fault), in case a; it is left out for \
         the rest of the run"
    );
    assert_eq!((ran.answers("mean_probe"), ran.status.unwrap().code()), (2, Some(1)));
    let late = run(
        &[&self::library("endless_loop").0],
        &["--isolate", "--time-limit", "2"],
        Duration::from_secs(120),
    );
    assert!(late.errors(name)[0].contains("forward: took longer than the time limit"), "{}", late.out);
}

#[test]
fn a_thread_that_a_plugin_leaves_behind_is_never_another_plugin_s_fault() {
    let (library, _) = library("thread_left_behind");
    for _ in 0..4 {
        let ran = run(&[&library, &bench().good], &["--isolate", "--segmentation"], Duration::from_secs(120));
        assert_eq!(ran.answers("mean_probe"), 2, "{}{}", ran.out, ran.err);
        assert!(ran.errors("mean_probe").is_empty(), "{}", ran.out);
        assert!(ran.status.unwrap().code().is_some_and(|code| code <= 1), "{}", ran.err);
    }
}

fn files_below(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut files, mut open) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                files.insert(path.strip_prefix(folder).unwrap().to_owned(), bytes);
            }
        }
    }
    files
}

/// A result without what differs from run to run.
fn timeless(json: &[u8]) -> Value {
    let mut value: Value = serde_json::from_slice(json).unwrap();
    // When it was and what it took differ.
    for key in ["timing_ms", "provenance"] {
        value.as_object_mut().unwrap().remove(key);
    }
    value
}

#[test]
fn results_heatmaps_previews_and_masks_are_the_same_to_the_bit() {
    let (bench, folder) = (bench(), tempfile::tempdir().unwrap());
    let [here, apart] = ["here", "apart"].map(|n| folder.path().join(n));
    let plugins = [bench.good.as_path(), bench.whole.as_path()];
    let patience = Duration::from_secs(300);
    let one = run(&plugins, &["--segmentation", "--out", here.to_str().unwrap()], patience);
    let two = run(&plugins, &["--segmentation", "--isolate", "--out", apart.to_str().unwrap()], patience);
    for ran in [&one, &two] {
        assert_eq!(ran.status.and_then(|s| s.code()), Some(0), "{}{}", ran.out, ran.err);
    }
    let lines = |ran: &Ran| ran.out.lines().map(|l| timeless(l.as_bytes())).collect::<Vec<_>>();
    assert_eq!((lines(&one).len(), lines(&one)), (4, lines(&two)));
    let (here, apart) = (files_below(&here), files_below(&apart));
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&here), names(&apart));
    assert!(names(&here).iter().any(|n| n.ends_with("careless/segmentation.nii.gz")), "{:?}", names(&here));
    for (name, bytes) in &here {
        if name.ends_with("result.json") {
            assert_eq!(timeless(bytes), timeless(&apart[name]), "{}", name.display());
        } else {
            assert!(*bytes == apart[name], "{} differs", name.display());
        }
    }
}

#[test]
fn a_scan_that_cannot_be_read_is_told_once_and_a_refused_plugin_leaves_the_others() {
    let (bench, folder) = (bench(), tempfile::tempdir().unwrap());
    let scan = folder.path().join("broken.nii");
    fs::write(&scan, "no scan").unwrap();
    let mut host = Command::new(host_binary());
    host.arg("run").arg(&scan).args(["--isolate", "--backbone"]).arg(tiny_backbone());
    host.arg("--plugin").arg(&bench.good).arg("--plugin").arg(&bench.whole).current_dir(workspace());
    let output = host.output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), err.lines().count()), (Some(1), 1), "{err}");
    assert!(err.starts_with("error: ") && err.contains("broken.nii"), "{err}");
    // By hand, the process of the plugins says what it is for.
    let worker = Command::new(host_binary()).arg("worker").stdin(Stdio::null()).output().unwrap();
    assert_eq!(worker.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&worker.stderr).contains("never by hand"));
}
