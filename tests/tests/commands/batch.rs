//! `host batch` and `host merge` as a user's engine starts them: shards, kills, signals, full disks, wrong input.
#![cfg(target_os = "linux")]

use anymc3d_host::scan::{Affine, write_nifti_i16};
use anymc3d_tests::{edited_library, host_binary, plugin_library, tiny_backbone, tiny_weights, workspace};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

mod resume;
mod wrong_input;

const SHAPE: [usize; 3] = [24, 20, 10];
const SMALL: [(&str, &str); 4] = [
    ("slices = 40", "slices = 5 "),
    ("size = [168, 168]", "size = [70 , 56 ]"),
    ("region = \"lungs\"", "region = \"body\" "),
    ("min_embed_dim = 384", "min_embed_dim = 48 "),
];

/// A small plugin with weights on a tiny backbone.
struct Bench {
    folder: tempfile::TempDir,
    plugin: PathBuf,
}

fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let plugin = folder.path().join("probe.so");
        edited_library(&plugin_library("mean_probe"), &SMALL, &plugin);
        tiny_weights(&plugin, &folder.path().join("mean_probe.safetensors"), 4);
        Bench { folder, plugin }
    })
}

fn voxels(seed: usize) -> Vec<i16> {
    (0..SHAPE.iter().product()).map(|i| (i * (seed + 3) * 7919 % 1300) as i16 - 1000).collect()
}

/// `n` scans `c000.nii`, …, of which every seventh is cut short.
fn cohort(n: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..n {
        let path = folder.path().join(format!("c{i:03}.nii"));
        write_nifti_i16(&path, &voxels(i), SHAPE, &Affine::aligned([9.0, 9.0, 12.0], [0.0; 3])).unwrap();
        if i % 7 == 5 {
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        }
    }
    folder
}

#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    /// One clear line and wrong usage.
    #[track_caller]
    fn refused(&self, says: &[&str]) {
        assert_eq!((self.code, self.err.trim_end().lines().count()), (Some(2), 1), "{self:#?}");
        assert!(self.err.starts_with("error: ") && self.out.is_empty(), "{self:#?}");
        says.iter().for_each(|words| assert!(self.err.contains(words), "`{words}` is missing: {self:#?}"));
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(host_binary());
    command
        .args(arguments)
        .current_dir(workspace())
        .env("ANYMC3D_HOME", workspace().join("target/no-such-home"));
    let of_an_engine =
        |name: &str| ["SLURM_", "SGE_", "PBS_", "LSB_", "JOB_COMPLETION"].iter().any(|p| name.starts_with(p));
    for (name, _) in std::env::vars().filter(|(name, _)| of_an_engine(name)) {
        command.env_remove(name);
    }
    command
}

fn ran(mut command: Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_str().unwrap().to_owned()
}

/// `host batch` with the small plugin and `more`.
fn batch(more: &[&str]) -> Command {
    let (plugin, backbone) = (text(&bench().plugin), text(tiny_backbone()));
    command(&[&["batch", "--plugin", &plugin, "--backbone", &backbone, "--threads", "1"], more].concat())
}

fn merge(folder: &Path, more: &[&str]) -> Ran {
    ran(command(&[&["merge", &text(folder)], more].concat()))
}

/// Starts a process and waits until `n` cases are done.
fn begun(mut command: Command, out: &Path, n: usize) -> Child {
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while journal(out).len() < n {
        assert!(Instant::now() < until, "{n} cases in a minute");
        std::thread::sleep(Duration::from_millis(2));
    }
    child
}

/// Lines of all journals.
fn journal(out: &Path) -> Vec<String> {
    let files = fs::read_dir(out.join(".batch/journal")).into_iter().flatten().flatten();
    let text: String = files.filter_map(|file| fs::read_to_string(file.path()).ok()).collect();
    text.lines().filter(|line| line.ends_with('}')).map(str::to_owned).collect()
}

/// How often each case was done, by runs.csv.
fn times_done(out: &Path) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for line in fs::read_to_string(out.join("runs.csv")).unwrap().lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        assert!(["done", "failed"].contains(&cells[2]), "{line}");
        *times.entry(cells[0].to_owned()).or_default() += 1;
    }
    times
}

fn predictions(out: &Path) -> String {
    fs::read_to_string(out.join("predictions.csv")).unwrap()
}

#[test]
fn shards_of_a_cohort_merge_to_the_table_of_one_process_and_eval_reads_it() {
    let (scans, out) = (cohort(21), tempfile::tempdir().unwrap());
    let (whole, parts) = (out.path().join("whole"), out.path().join("parts"));
    let one = ran(batch(&[&text(&scans), "--out", &text(&whole)]));
    assert_eq!(one.code, Some(1), "three scans are cut short: {one:#?}");
    assert_eq!(one.err.lines().filter(|l| l.starts_with("error: c")).count(), 3, "{one:#?}");
    assert_eq!(merge(&whole, &[]).code, Some(0));

    for shard in ["2/3", "0/3"] {
        let part = ran(batch(&[&text(&scans), "--out", &text(&parts), "--shard", shard, "--heatmap"]));
        assert!(part.code.is_some_and(|code| code < 2), "{part:#?}");
    }
    let early = merge(&parts, &[]);
    assert_eq!((early.code, parts.join("predictions.csv").exists()), (Some(1), false), "{early:#?}");
    assert!(early.err.contains("7 of 21 cases are missing (shard 1/3: 7)"), "{early:#?}");
    let partial = merge(&parts, &["--partial"]);
    assert_eq!((partial.code, predictions(&parts).lines().count()), (Some(0), 15), "{partial:#?}");

    let slurm = [("ID", "11"), ("MIN", "10"), ("MAX", "12"), ("STEP", "1")];
    let mut last = batch(&[&text(&scans), "--out", &text(&parts), "--shards", "3"]);
    last.envs(slurm.map(|(name, value)| (format!("SLURM_ARRAY_TASK_{name}"), value)));
    let last = ran(last);
    assert!(last.code.is_some_and(|code| code < 2), "{last:#?}");
    let summary = merge(&parts, &[]);
    assert!(summary.out.contains("21 cases: 18 answered, 3 failed, 0 missing"), "{summary:#?}");
    assert!(summary.out.contains("failed by scan: 3"), "{summary:#?}");
    assert_eq!(predictions(&parts), predictions(&whole));
    assert!(times_done(&parts).values().all(|n| *n == 1) && times_done(&parts).len() == 21);
    let failed: Vec<String> =
        predictions(&whole).lines().filter(|l| l.contains("mean_probe: ")).map(str::to_owned).collect();
    assert_eq!(failed.len(), 3, "{failed:?}");
    assert!(failed[0].starts_with("c005,,"), "{failed:?}");

    let truth = out.path().join("truth.csv");
    let label = predictions(&whole).lines().next().unwrap().split(',').nth(1).unwrap()[2..].to_owned();
    let rows: String = (0..21).map(|i| format!("c{i:03},{}\n", i % 2)).collect();
    fs::write(&truth, format!("case,{label}\n{rows}")).unwrap();
    let figures = out.path().join("figures");
    let table = text(parts.join("predictions.csv"));
    let eval =
        ran(command(&["eval", "--predictions", &table, "--data", &text(&truth), "--out", &text(&figures)]));
    assert_eq!(eval.code, Some(0), "{eval:#?}");
    assert!(eval.err.contains("3 cases failed and are not measured"), "{eval:#?}");
}

#[test]
fn a_run_skips_what_is_there_and_writes_the_table_that_a_batch_merges_to() {
    let (scans, out) = (cohort(8), tempfile::tempdir().unwrap());
    let (cohort, run_out, csv) =
        (out.path().join("batch"), out.path().join("run"), out.path().join("run.csv"));
    let (plugin, backbone) = (text(&bench().plugin), text(tiny_backbone()));
    ran(batch(&[&text(&scans), "--out", &text(&cohort)]));
    merge(&cohort, &[]);
    let (at, to, table) = (text(&scans), text(&run_out), text(&csv));
    let call = [
        "run",
        "--plugin",
        &plugin,
        "--backbone",
        &backbone,
        &at,
        "--out",
        &to,
        "--csv",
        &table,
        "--skip-existing",
    ];
    let first = ran(command(&call));
    assert_eq!(first.code, Some(1), "{first:#?}");
    assert_eq!(fs::read_to_string(&csv).unwrap(), predictions(&cohort));
    let second = ran(command(&call));
    assert!(second.err.contains("7 of 8 cases are done already and skipped"), "{second:#?}");
    assert_eq!(fs::read_to_string(&csv).unwrap(), predictions(&cohort));
    // Other options are another result.
    let third = ran(command(&[&call[..], &["--heatmap=false"]].concat()));
    assert!(!third.err.contains("skipped"), "{third:#?}");
}

#[test]
fn a_run_skips_a_case_whose_mask_and_point_are_those_of_its_result() {
    let (scans, out) = (cohort(1), tempfile::tempdir().unwrap());
    let scan = text(scans.path().join("c000.nii"));
    let masks = ["a.nii", "b.nii"].map(|name| out.path().join(name));
    for (i, mask) in masks.iter().enumerate() {
        let voxels: Vec<i16> = (0..SHAPE.iter().product()).map(|v| i16::from(v % 97 == i)).collect();
        write_nifti_i16(mask, &voxels, SHAPE, &Affine::aligned([9.0, 9.0, 12.0], [0.0; 3])).unwrap();
    }
    let table = out.path().join("table.csv");
    let (plugin, backbone, to) = (text(&bench().plugin), text(tiny_backbone()), text(out.path().join("out")));
    let at = text(&table);
    let run = |columns: &str, values: &str| {
        fs::write(&table, format!("case,image{columns}\nx,{scan}{values}\n")).unwrap();
        let call =
            ["run", "--plugin", &plugin, "--backbone", &backbone, &at, "--out", &to, "--skip-existing"];
        let ran = ran(command(&call));
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        ran.err.contains("1 of 1 cases are done already and skipped")
    };
    let mask = |i: usize| format!(",{}", text(&masks[i]));
    assert!(!run(",mask", &mask(0)));
    assert!(run(",mask", &mask(0)), "the same mask");
    assert!(!run(",mask", &mask(1)), "another mask");
    assert!(!run("", ""), "none");
    assert!(!run(",point", ",9 18 24"), "a point");
    assert!(run(",point", ",9 18 24"), "the same point");
    assert!(!run(",point", ",9 18 25"), "another point");
}

#[test]
fn a_plugin_that_ends_its_process_fails_its_case_and_is_asked_again_for_the_next() {
    let folder = bench().folder.path().join("aborts");
    fs::create_dir_all(&folder).unwrap();
    let plugin = folder.join("misbehaves.so");
    let way = |way: &str| format!("{:<36}# the way", format!("name = \"{way}\""));
    let (good, bad) = (way("axial"), way("abort"));
    let mut edits = SMALL.to_vec();
    edits.push((&good, &bad));
    edited_library(&plugin_library("misbehaves"), &edits, &plugin);
    tiny_weights(&plugin, &folder.join("misbehaves.safetensors"), 4);
    let (scans, out) = (cohort(3), tempfile::tempdir().unwrap());
    let (backbone, to) = (text(tiny_backbone()), out.path().join("out"));
    let call = [
        "batch",
        "--isolate",
        "--plugin",
        &text(&plugin),
        "--backbone",
        &backbone,
        &text(&scans),
        "--out",
        &text(&to),
    ];
    let ran = ran(command(&call));
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    merge(&to, &[]);
    let table = predictions(&to);
    assert_eq!(table.lines().filter(|l| l.contains("signal 6, aborted")).count(), 3, "{table}");
    assert!(!table.contains("left out"), "{table}");
}
