//! A plugin on a table's cases: its figures, and what validation cases teach its weights.

use super::{FILES, host, metrics, names, text};
use anymc3d_host::engine::result::CaseResult;
use anymc3d_host::scan::{Affine, write_nifti_i16};
use anymc3d_host::task::{Calibration, FittedOn, Weights};
use anymc3d_tests::{edited_library, plugin_library, random_weights};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A plugin with few and small slices and random weights, in a folder that lives as long as the tests.
struct Bench {
    library: String,
    weights: PathBuf,
    folder: tempfile::TempDir,
}

fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("task.so");
        let few = [("slices = 40", "slices =  4"), ("size = [168, 168]", "size = [ 56,  56]")];
        edited_library(&plugin_library("lung_nodule"), &few, &library);
        let weights = folder.path().join("lung_nodule.safetensors");
        random_weights(&library, &weights, 1, |_, _| {});
        for i in 0..26 {
            scan(&folder.path().join(format!("s{i}.nii")), i);
        }
        Bench { library: text(library), weights, folder }
    })
}

/// Air around a body with two lungs, differently textured in each scan.
fn scan(path: &Path, seed: usize) {
    let shape = [24, 20, 10];
    let voxel = |i: usize| {
        let (x, y, z) = (i % 24, i / 24 % 20, i / 480);
        let inside = |x0, x1| (x0..x1).contains(&x) && (5..15).contains(&y) && (2..8).contains(&z);
        if inside(5, 10) || inside(14, 19) {
            -850 + (i * (7919 + seed * 101) % 160) as i16
        } else if (2..22).contains(&x) && (2..18).contains(&y) {
            30 + (i * (104_729 + seed * 13) % 40) as i16
        } else {
            -1000
        }
    };
    let voxels: Vec<i16> = (0..24 * 20 * 10).map(voxel).collect();
    write_nifti_i16(path, &voxels, shape, &Affine::aligned([12.0, 12.0, 20.0], [-140.0, -120.0, -100.0]))
        .unwrap();
}

/// A table of the bench's scans: `label` and `split` of each.
fn table(name: &str, n: usize, row: impl Fn(usize) -> (&'static str, &'static str)) -> String {
    let mut csv = String::from("case,image,nodule,patient,split\n");
    for i in 0..n {
        let (label, split) = row(i);
        writeln!(csv, "case{i},s{i}.nii,{label},p{i},{split}").unwrap();
    }
    let path = bench().folder.path().join(name);
    fs::write(&path, csv).unwrap();
    text(path)
}

#[test]
fn a_plugin_is_measured_on_a_tables_cases_as_run_answers_them() {
    let bench = bench();
    let table = table("plain.csv", 6, |i| (["1", "0", ""][i % 3], if i < 4 { "test" } else { "train" }));
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let eval = |more: &[&str]| {
        let given = [
            "eval",
            "--plugin",
            &bench.library,
            "--data",
            &table,
            "--out",
            &text(&out),
            "--precision",
            "f32",
        ];
        host(&[&given, more].concat())
    };
    let ran = eval(&["--split", "test"]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert!(ran.out.contains("4 cases of 4 patients") && ran.out.contains("lung_nodule: "), "{ran:#?}");
    assert_eq!(names(&out), FILES);
    let found = metrics(&out);
    assert_eq!((found["cases"].as_u64(), found["source"]["split"].as_str()), (Some(4), Some("test")));
    assert_eq!(found["labels"]["nodule"]["n"], 3);

    let ran = eval(&[]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    let said = fs::read_to_string(out.join("predictions.csv")).unwrap();
    assert!(said.starts_with("case,patient,nodule,p_nodule\ncase0,p0,1,"), "{said}");
    let answered = host(&["run", "--plugin", &bench.library, &table, "--json", "--precision", "f32"]);
    for (line, said) in answered.out.lines().zip(said.lines().skip(1)) {
        let result: CaseResult = serde_json::from_str(line).unwrap();
        assert!(said.starts_with(&format!("{},", result.case)));
        assert!(said.ends_with(&format!(",{}", result.predictions[0].probability)), "{said}: {line}");
    }
    assert_eq!(answered.out.lines().count(), 6);

    eval(&["--split", "val"]).refused(1, &["plain.csv", "--split val", "no case"]);
    eval(&["--threshold", "fluid=0.5"]).refused(2, &["no label `fluid`", "nodule"]);
    let below = text(bench.weights.join("out"));
    host(&["eval", "--plugin", &bench.library, "--data", &table, "--out", &below, "--backbone", "unseen"])
        .refused(1, &["cannot be written"]);
    host(&["eval", "--plugin", "no_such_task", "--data", &table, "--out", "x"]).refused(3, &["no_such_task"]);
}

#[test]
fn a_scan_that_fails_is_named_and_the_others_are_measured() {
    let bench = bench();
    let path = bench.folder.path().join("missing.csv");
    fs::write(&path, "case,image,nodule\na,s0.nii,1\nb,gone.nii,0\nc,s1.nii,0\n").unwrap();
    let out = tempfile::tempdir().unwrap();
    let ran = host(&["eval", "--plugin", &bench.library, "--data", &text(path), "--out", &text(out.path())]);
    assert!(ran.code == 1 && ran.err.contains("gone.nii") && ran.out.contains("1 failed"), "{ran:#?}");
    let found = metrics(out.path());
    assert_eq!((found["cases"].as_u64(), found["failed"].as_u64()), (Some(2), Some(1)));
}

#[test]
fn stored_temperature_and_threshold_are_applied_and_what_cannot_be_is_refused() {
    let bench = bench();
    let weights = bench.folder.path().join("calibrated.safetensors");
    let write = |temperatures: Vec<Option<f64>>, thresholds: Vec<Option<f64>>| {
        random_weights(Path::new(&bench.library), &weights, 1, |_, info| {
            let fitted_on = FittedOn::of(["someone"]);
            info.calibration = Some(Calibration { temperatures, thresholds, fitted_on });
        });
    };
    let image = text(bench.folder.path().join("s0.nii"));
    let run = |weights: &Path| {
        let ran = host(&["run", "--plugin", &bench.library, "--weights", &text(weights), &image, "--json"]);
        assert_eq!(ran.code, 0, "{ran:#?}");
        serde_json::from_str::<CaseResult>(&ran.out).unwrap().predictions.remove(0)
    };
    write(vec![Some(0.25)], vec![Some(0.125)]);
    let (plain, fitted) = (run(&bench.weights), run(&weights));
    assert_eq!((plain.temperature, plain.threshold), (None, Some(0.5)));
    assert_eq!((fitted.temperature, fitted.threshold, fitted.logit), (Some(0.25), Some(0.125), plain.logit));
    assert!((fitted.probability - 1.0 / (1.0 + (-4.0 * plain.logit).exp())).abs() < 1e-12);
    assert_eq!(fitted.positive, fitted.probability >= 0.125);

    let table = table("stored.csv", 4, |i| (["1", "0"][i % 2], ""));
    let out = tempfile::tempdir().unwrap();
    let eval = || {
        let weights = text(&weights);
        let given = ["eval", "--plugin", &bench.library, "--weights", &weights, "--data", &table];
        host(&[&given[..], &["--out", &text(out.path()), "--bootstrap", "0"]].concat())
    };
    assert_eq!(eval().code, 0);
    assert_eq!(metrics(out.path())["labels"]["nodule"]["threshold"], 0.125);

    write(vec![Some(1.0), None], vec![None]);
    eval().refused(3, &["calibrated.safetensors", "2 temperatures", "expected 1"]);
    write(vec![Some(-1.0)], vec![None]);
    eval().refused(3, &["temperature -1"]);
}

#[test]
fn what_is_fitted_on_validation_cases_goes_into_a_copy_of_the_weights() {
    let bench = bench();
    let alike = table("val.csv", 20, |i| (["1", "0"][i % 2], ""));
    let folder = tempfile::tempdir().unwrap();
    let (out, copy) = (text(folder.path().join("out")), folder.path().join("fitted.safetensors"));
    let fit = |data: &str| {
        let given = ["eval", "--plugin", &bench.library, "--data", data, "--out", &out];
        host(&[&given[..], &["--bootstrap", "0", "--calibrate", &text(&copy)]].concat())
    };
    let ran = fit(&alike);
    assert!(ran.code == 0 && ran.err.contains("fitted on 20 cases; measure it on others"), "{ran:#?}");
    let info = Weights::open(&copy).unwrap().info;
    let fitted = info.calibration.unwrap();
    let cases: Vec<String> = (0..20).map(|i| format!("case{i}")).collect();
    assert_eq!(fitted.fitted_on, FittedOn::of(cases.iter().map(String::as_str)));
    let threshold = fitted.thresholds[0].unwrap();

    // Judged by the very cases it was fitted on, it says so.
    let ran = host(&[
        "eval",
        "--plugin",
        &bench.library,
        "--weights",
        &text(&copy),
        "--data",
        &alike,
        "--out",
        &out,
    ]);
    assert!(ran.code == 0 && ran.err.contains("fitted on these very cases"), "{ran:#?}");
    assert_eq!(metrics(Path::new(&out))["labels"]["nodule"]["threshold"].as_f64(), Some(threshold));

    let few = table("few.csv", 20, |i| (if i < 9 { "1" } else { "0" }, ""));
    fs::remove_file(&copy).unwrap();
    let ran = fit(&few);
    assert!(
        ran.code == 1 && ran.err.contains("nothing can be fitted on 20 cases") && !copy.exists(),
        "{ran:#?}"
    );
}

#[test]
fn training_stores_what_its_validation_cases_taught_and_nothing_from_too_few() {
    let bench = bench();
    let train = |name: &str, n: usize| {
        let table = table(name, n, |i| (["1", "0"][i % 2], if i < 4 { "train" } else { "val" }));
        let out = tempfile::tempdir().unwrap();
        let given = ["train", "--plugin", &bench.library, "--data", &table, "--out", &text(out.path())];
        let ran =
            host(&[&given[..], &["--epochs", "1", "--augment", "none", "--cache-size", "0", "-q"]].concat());
        assert_eq!(ran.code, 0, "{ran:#?}");
        ["lung_nodule", "last"]
            .map(|f| Weights::open(&out.path().join(format!("{f}.safetensors"))).unwrap().info.calibration)
    };
    let [best, last] = train("enough.csv", 24);
    let cases: Vec<String> = (4..24).map(|i| format!("case{i}")).collect();
    let fitted = best.unwrap();
    assert_eq!(fitted.fitted_on, FittedOn::of(cases.iter().map(String::as_str)));
    assert_eq!((fitted.temperatures.len(), fitted.thresholds.len()), (1, 1));
    assert_eq!(last, Some(fitted));
    assert_eq!(train("toofew.csv", 22), [None, None]);
}
