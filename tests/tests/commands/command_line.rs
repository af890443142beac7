//! The command line as a user types it: what is printed where, what is written, and the exit codes.

use anymc3d_host::data::table::Table;
use anymc3d_host::engine::result::{CaseResult, FailedCase};
use anymc3d_host::scan::{Affine, Scan, write_nifti_f32, write_nifti_i16};
use anymc3d_manifest::Manifest;
use anymc3d_tests::{
    backbone_folder, backbone_info, edited_library, fixtures, host_binary, plugin_library, random_weights,
    required, workspace,
};
use candle_core::{Device, Tensor};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

mod case_names;
mod peft;

const PLUGIN: &str = "lung_nodule";
const SHAPE: [usize; 3] = [24, 20, 10];

/// The built binary, and two plugins with random weights beside them.
struct Bench {
    host: PathBuf,
    library: PathBuf,
    second: PathBuf,
    _folder: tempfile::TempDir,
}

fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        let host = host_binary();
        let folder = tempfile::tempdir().unwrap();
        let (library, second) = (folder.path().join("task.so"), folder.path().join("second.so"));
        // Few and small slices: these tests are about the command line.
        let few = [("slices = 40", "slices =  4"), ("size = [168, 168]", "size = [ 56,  56]")];
        edited_library(&plugin_library(PLUGIN), &few, &library);
        edited_library(&library, &[("name = \"lung_nodule\"", "name = \"lung_second\"")], &second);
        random_weights(&library, &folder.path().join("lung_nodule.safetensors"), 1, |_, _| {});
        random_weights(&second, &folder.path().join("lung_second.safetensors"), 2, |_, _| {});
        Bench { host, library, second, _folder: folder }
    })
}

#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn errors(&self) -> Vec<&str> {
        self.err.lines().filter(|l| l.starts_with("error: ")).collect()
    }

    /// One clear line and this exit code; no panic, no second message.
    fn refused(&self, code: i32, says: &[&str]) {
        assert_eq!((self.code, self.err.trim_end().lines().count()), (code, 1), "{self:#?}");
        for words in says {
            assert!(self.err.contains(words), "`{words}` is missing: {self:#?}");
        }
        assert!(self.err.starts_with("error: ") && self.out.is_empty(), "{self:#?}");
    }
}

fn host<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ran {
    run(&bench().host, arguments)
}

fn run<S: AsRef<OsStr>>(binary: &Path, arguments: impl IntoIterator<Item = S>) -> Ran {
    let mut command = Command::new(binary);
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

/// `run --plugin TASK` and more.
fn predict(more: &[&str]) -> Ran {
    host([&["run", "--plugin", &text(&bench().library)], more].concat())
}

fn affine() -> Affine {
    Affine::aligned([12.0, 12.0, 20.0], [-140.0, -120.0, -100.0])
}

/// Air around a body with two lungs and some texture.
fn voxel(i: usize) -> i16 {
    let (x, y, z) = (i % SHAPE[0], i / SHAPE[0] % SHAPE[1], i / (SHAPE[0] * SHAPE[1]));
    let inside = |x0, x1| (x0..x1).contains(&x) && (5..15).contains(&y) && (2..8).contains(&z);
    if inside(5, 10) || inside(14, 19) {
        -850 + (i * 7919 % 60) as i16
    } else if (2..22).contains(&x) && (2..18).contains(&y) {
        30 + (i * 104_729 % 40) as i16
    } else {
        -1000
    }
}

fn chest(path: &Path) -> String {
    let voxels: Vec<i16> = (0..SHAPE.iter().product()).map(voxel).collect();
    write_nifti_i16(path, &voxels, SHAPE, &affine()).unwrap();
    text(path)
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                files.push(text(path.strip_prefix(folder).unwrap()));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn every_help_shows_examples_first() {
    for command in [
        "",
        "run",
        "batch",
        "merge",
        "embed",
        "train",
        "eval",
        "study",
        "benchmark",
        "phantom",
        "weights",
        "weights import",
        "weights export",
        "weights reference",
        "self-test",
        "completions",
        "man",
        "plugin",
        "plugin list",
        "plugin inspect",
        "backbone",
        "backbone list",
        "backbone import",
        "backbone pull",
        "backbone verify",
        "backbone remove",
    ] {
        let ran = host(command.split_whitespace().chain(["--help"]));
        assert!(ran.code == 0 && ran.err.is_empty(), "{command}: {ran:#?}");
        let first: Vec<&str> = ran.out.lines().take(2).collect();
        assert!(first[0] == "Examples:" && first[1].starts_with("  host "), "{command}: {ran:#?}");
    }
    let ran = host(["--version"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, concat!("host ", env!("CARGO_PKG_VERSION"), "\n")));
}

#[test]
fn shells_and_man_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = host(["completions", shell]);
        assert!(ran.code == 0 && ran.err.is_empty(), "{ran:#?}");
        assert!(
            ["self-test", "adopt-weights", "intended-use"].iter().all(|word| ran.out.contains(word)),
            "{shell}"
        );
        assert!(!ran.out.contains("worker"), "{shell}: a hidden command");
    }
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    let ran = host(["man", "--out", &text(&pages)]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    for (page, says) in
        [("host", "self\\-test"), ("host-plugin-new", "Examples:"), ("host-run", "\\-\\-segmentation")]
    {
        let page = std::fs::read_to_string(pages.join(format!("{page}.1"))).unwrap();
        assert!(page.starts_with(".ie") || page.contains(".TH "), "{page}");
        assert!(page.contains(says), "{says}: {page}");
    }
    assert!(!pages.join("host-worker.1").exists());
}

#[test]
fn wrong_usage_exits_with_2_and_runs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let scan = chest(&folder.path().join("scan.nii"));
    let (task, second) = (text(&bench().library), text(&bench().second));
    let wrong: &[&[&str]] = &[
        &[],
        &["predict"],
        &["run", &scan],
        &["run", "--plugin", &task],
        &["run", "--plugin", &task, "--colour", &scan],
        &["run", "--plugin", &task, "--heatmap", &scan],
        &["run", "--plugin", &task, "--heatmap=maybe", "--out", "x", &scan],
        &["run", "--plugin", &task, "--plugin", &second, "--weights", "w", &scan],
        &["run", "--plugin", &task, "--plugin", &task, &scan],
        &["run", "--plugin", &task, "--view", "axial", &scan],
        &["run", "--plugin", &task, "--view", &format!("coronal={scan}")],
        &["run", "--plugin", &task, "--view", &format!("axial={scan}"), &scan, &scan],
        &["run", "--plugin", &task, "--precision", "f8", &scan],
        &["run", "--plugin", &task, "--threads", "0", &scan],
        &["run", "-q", "-v", "--plugin", &task, &scan],
        &["embed", &scan],
        &["embed", &scan, "--out", "x", "--view", "axial"],
        &["phantom", "kidney", "--count", "1", "--out", "x"],
        &["phantom", "lung_nodule", "--count", "0", "--out", "x"],
        &["plugin", "inspect"],
    ];
    for arguments in wrong {
        let ran = host(*arguments);
        assert!(ran.code == 2 && ran.out.is_empty() && !ran.err.is_empty(), "{arguments:?}: {ran:#?}");
    }
}

#[test]
fn a_scan_becomes_a_result_a_heatmap_and_a_preview_and_is_replaced_whole() {
    let folder = tempfile::tempdir().unwrap();
    let scan = chest(&folder.path().join("scan.nii.gz"));
    let out = folder.path().join("new").join("out");
    let ran = predict(&[&scan, "--out", &text(&out)]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    for words in ["scan  lung_nodule 0.1.0", "nodule", "top slices:", "Research only. Not for diagnosis."] {
        assert!(ran.out.contains(words), "`{words}` is missing: {ran:#?}");
    }
    let place = |name: &str| format!("scan/lung_nodule/{name}");
    assert_eq!(files_below(&out), ["heatmap.nii.gz", "preview.png", "result.json"].map(place));

    let result: CaseResult =
        serde_json::from_slice(&fs::read(out.join(place("result.json"))).unwrap()).unwrap();
    assert_eq!((result.case.as_str(), result.input.path.as_str()), ("scan", scan.as_str()));
    assert_eq!((result.input.shape, result.predictions.len()), (SHAPE, 1));
    assert_eq!(result.files.heatmap.as_deref(), Some("heatmap.nii.gz"));
    let heatmap = Scan::open(&out.join(place("heatmap.nii.gz"))).unwrap();
    assert_eq!((heatmap.shape, heatmap.orientation.as_str()), (SHAPE, "RAS"));
    assert!(heatmap.range()[1] > 0.0);
    assert!(fs::read(out.join(place("preview.png"))).unwrap().starts_with(b"\x89PNG"));

    let ran = predict(&[&scan, "--out", &text(&out), "--heatmap=false"]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert_eq!(files_below(&out), [place("result.json")]);
}

#[test]
fn bad_scans_are_each_named_once_and_the_others_are_done() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let good = chest(&at("good.nii.gz"));
    let missing = text(at("missing.nii.gz"));
    let whole = fs::read(&good).unwrap();
    fs::write(at("cut.nii.gz"), &whole[..whole.len() / 2]).unwrap();
    fs::write(at("text.nii.gz"), "Dear doctor, please find the scan attached.\n").unwrap();
    fs::write(at("empty.nii"), "").unwrap();
    let voxels = SHAPE.iter().product();
    write_nifti_i16(&at("flat.nii"), &vec![40; voxels], SHAPE, &affine()).unwrap();
    let with_nan: Vec<f32> =
        (0..voxels).map(|i| if i % 50 == 0 { f32::NAN } else { f32::from(voxel(i)) }).collect();
    write_nifti_f32(&at("nan.nii.gz"), &with_nan, SHAPE, &affine()).unwrap();
    let names = ["cut.nii.gz", "text.nii.gz", "empty.nii", "flat.nii"];
    let bad: Vec<String> = names.iter().map(|n| text(at(n))).chain([missing]).collect();

    let (last, out) = (text(at("nan.nii.gz")), text(at("out")));
    let mut arguments: Vec<&str> = bad.iter().map(String::as_str).collect();
    arguments.insert(2, &good);
    arguments.extend([last.as_str(), "--json", "--out", &out, "--heatmap=false"]);
    let ran = predict(&arguments);
    assert_eq!((ran.code, ran.errors().len(), ran.out.lines().count()), (1, 5, 7), "{ran:#?}");
    for path in &bad {
        assert_eq!(ran.errors().iter().filter(|e| e.contains(path)).count(), 1, "{path}: {ran:#?}");
        let failed = ran.out.lines().filter_map(|l| serde_json::from_str::<FailedCase>(l).ok());
        assert_eq!(failed.filter(|f| f.input.path == *path).count(), 1, "{path}: {ran:#?}");
    }
    let done: Vec<CaseResult> = ran.out.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    assert_eq!(done.iter().map(|r| r.case.as_str()).collect::<Vec<_>>(), ["good", "nan"]);
    assert!(done[1].warnings.iter().any(|w| w.contains("NaN")), "{ran:#?}");
    assert!(ran.err.contains("warning: nan: "), "{ran:#?}");
    let records = ["cut", "empty", "flat", "missing", "text"].map(|c| format!("{c}.failed.json"));
    let answers = ["good", "nan"].map(|c| format!("{c}/lung_nodule/result.json"));
    let mut expected = [&records[..], &answers].concat();
    expected.sort();
    assert_eq!(files_below(&at("out")), expected);

    let ran = predict(&[&last]);
    assert!(ran.code == 0 && ran.out.contains("warning: ") && ran.out.contains("NaN"), "{ran:#?}");
}

#[test]
fn what_is_no_plugin_is_refused_with_3() {
    let folder = tempfile::tempdir().unwrap();
    let scan = chest(&folder.path().join("scan.nii"));
    let fake = folder.path().join("fake.so");
    fs::write(&fake, "not a library\n").unwrap();
    host(["run", "--plugin", &text(&fake), &scan])
        .refused(3, &["fake.so", "text", "expected a dynamic library"]);
    // The binary itself: a file of the right format, without a manifest.
    let binary = text(&bench().host);
    host(["run", "--plugin", &binary, &scan]).refused(3, &["without an AnyMC3D manifest"]);
    host(["run", "--plugin", "no_such_task", &scan]).refused(3, &["no_such_task", "not found", "looked for"]);
    host(["plugin", "inspect", &text(&fake)]).refused(3, &["fake.so"]);
    predict(&[&scan, "--backbone", "no-such-backbone"]).refused(3, &["no-such-backbone", "not found"]);
    let damaged = folder.path().join("damaged");
    fs::create_dir(&damaged).unwrap();
    for file in ["config.json", "preprocessor_config.json"] {
        fs::copy(backbone_folder().join(file), damaged.join(file)).unwrap();
    }
    fs::write(damaged.join("model.safetensors"), "cut").unwrap();
    predict(&[&scan, "--backbone", &text(&damaged)]).refused(3, &["model.safetensors", "damaged"]);
}

#[test]
fn weights_that_do_not_fit_are_refused_with_3() {
    let folder = tempfile::tempdir().unwrap();
    let scan = chest(&folder.path().join("scan.nii"));
    let library = &bench().library;
    let file = folder.path().join("w.safetensors");
    let refused = |says: &[&str]| predict(&[&scan, "--weights", &text(&file)]).refused(3, says);

    random_weights(library, &file, 1, |_, info| info.backbone_fingerprint = "0".repeat(64));
    refused(&["trained on backbone", "--backbone"]);
    random_weights(library, &file, 1, |_, info| info.plugin = "knee".into());
    refused(&["weights of plugin knee", "lung_nodule"]);
    let mut lost = String::new();
    random_weights(library, &file, 1, |tensors, _| lost = tensors.pop_first().unwrap().0);
    refused(&[&lost]);
    random_weights(library, &file, 1, |tensors, _| {
        tensors
            .insert("head.surplus".into(), Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap());
    });
    refused(&["head.surplus"]);
    fs::write(&file, "not tensors").unwrap();
    refused(&["w.safetensors", "safetensors"]);
    predict(&[&scan, "--weights", &text(folder.path().join("none"))]).refused(3, &["none", "cannot be read"]);
}

#[test]
fn a_task_without_weights_does_not_predict() {
    let folder = tempfile::tempdir().unwrap();
    let scan = chest(&folder.path().join("scan.nii"));
    // Outside of the checkout, whose own weights would be found.
    let at = |name: &str| folder.path().join(name);
    fs::copy(&bench().host, at("host")).unwrap();
    fs::copy(&bench().library, at("task.so")).unwrap();
    let backbone = text(backbone_folder());
    let ran = run(&at("host"), ["run", "--plugin", &text(at("task.so")), &scan, "--backbone", &backbone]);
    ran.refused(3, &["no weights; looked for", "host train", "--weights"]);
}

#[test]
fn an_unwritable_out_is_found_before_anything_is_computed() {
    let folder = tempfile::tempdir().unwrap();
    let scan = chest(&folder.path().join("scan.nii"));
    fs::write(folder.path().join("file"), "kept").unwrap();
    let below = text(folder.path().join("file").join("out"));
    // A backbone that does not exist would be refused with 3 if it were looked at.
    predict(&[&scan, "--out", &below, "--backbone", "unseen"])
        .refused(1, &["--out", &below, "cannot be written"]);
    host(["embed", &scan, "--out", &below, "--backbone", "unseen"]).refused(1, &["cannot be written"]);
    let ran = host(["phantom", "lung_nodule", "--count", "1", "--out", &below]);
    ran.refused(1, &["cannot be written"]);
    assert_eq!(files_below(folder.path()), ["file", "scan.nii"]);
}

#[test]
fn two_plugins_answer_in_one_call_and_a_refused_third_changes_only_the_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let scan = chest(&folder.path().join("scan.nii"));
    let (second, out) = (text(&bench().second), text(folder.path().join("out")));
    let ran = predict(&["--plugin", &second, "--plugin", &scan, "--json", "--out", &out, &scan]);
    assert_eq!((ran.code, ran.errors().len()), (3, 1), "{ran:#?}");
    let results: Vec<CaseResult> = ran.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(
        results.iter().map(|r| r.plugin.name.as_str()).collect::<Vec<_>>(),
        ["lung_nodule", "lung_second"]
    );
    assert_ne!(results[0].predictions[0].logit, results[1].predictions[0].logit);
    let place =
        |plugin: &str| ["heatmap.nii.gz", "preview.png", "result.json"].map(|f| format!("scan/{plugin}/{f}"));
    assert_eq!(files_below(Path::new(&out)), [place("lung_nodule"), place("lung_second")].concat());
}

#[test]
fn views_and_tables_name_their_scans() {
    let folder = tempfile::tempdir().unwrap();
    let scan = chest(&folder.path().join("scan.nii"));
    let ran = predict(&["--json", "--view", &format!("axial={scan}")]);
    let result: CaseResult = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, result.case.as_str()), (0, "scan"), "{ran:#?}");

    let table = folder.path().join("table.csv");
    fs::write(&table, "case,image,nodule\none,scan.nii,1\ntwo,scan.nii,\n").unwrap();
    let ran = predict(&["--json", &text(&table)]);
    let names = ran.out.lines().map(|l| serde_json::from_str::<CaseResult>(l).unwrap().case);
    assert_eq!((ran.code, names.collect::<Vec<_>>().join(" ").as_str()), (0, "one two"), "{ran:#?}");

    fs::write(&table, "name,image\n").unwrap();
    predict(&[&text(&table)]).refused(1, &["table.csv", "no column `case`"]);
}

#[test]
fn phantoms_come_with_a_table_and_their_truth_and_are_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("phantoms");
    let make = |more: &[&str]| {
        host(
            [&["phantom", "lung_nodule", "--count", "2", "--seed", "7", "--out", &text(&out)], more].concat(),
        )
    };
    assert_eq!(make(&["--start", "3"]).code, 0);
    let case = |i: usize| format!("lung_nodule_7_{i}");
    let files = files_below(&out);
    let expected =
        [3, 4].map(|i| [format!("{}.nii.gz", case(i)), format!("{}_mask.nii.gz", case(i))]).concat();
    assert_eq!(files, [expected, vec!["table.csv".to_owned(), "truth.json".to_owned()]].concat());
    let table = fs::read_to_string(out.join("table.csv")).unwrap();
    let truth: serde_json::Value =
        serde_json::from_slice(&fs::read(out.join("truth.json")).unwrap()).unwrap();
    for (i, line) in table.lines().skip(1).enumerate() {
        let positive = truth["cases"][i]["nodule"].as_bool().unwrap();
        let name = case(i + 3);
        assert_eq!(line, format!("{name},{name}.nii.gz,{},{name}_mask.nii.gz", u8::from(positive)));
        let mask = Scan::open(&out.join(format!("{name}_mask.nii.gz"))).unwrap();
        assert_eq!(mask.range()[1] > 0.0, positive);
        assert_eq!(truth["cases"][i]["nodules"].as_array().unwrap().is_empty(), !positive);
    }
    let first = fs::read(out.join(format!("{}.nii.gz", case(3)))).unwrap();
    make(&["--start", "3"]).refused(1, &["table.csv", "--force"]);
    assert_eq!(make(&["--start", "3", "--force"]).code, 0);
    assert!(fs::read(out.join(format!("{}.nii.gz", case(3)))).unwrap() == first);
}

#[test]
fn heads_have_a_column_per_sequence_and_an_empty_cell_where_one_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("heads");
    let ran =
        host(["phantom", "brain_mri", "--count", "2", "--seed", "1", "--start", "6", "--out", &text(&out)]);
    assert!(ran.code == 0 && ran.out.contains("1 with stroke, 1 with tumour, 0 with cyst"), "{ran:#?}");
    let table = fs::read_to_string(out.join("table.csv")).unwrap();
    let (six, seven) = ("brain_mri_1_6", "brain_mri_1_7");
    let expected = [
        "case,image.t1,image.t2,image.flair,class,mask".to_owned(),
        format!("{six},{six}_t1.nii.gz,{six}_t2.nii.gz,,tumour,{six}_mask.nii.gz"),
        format!("{seven},{seven}_t1.nii.gz,,{seven}_flair.nii.gz,stroke,{seven}_mask.nii.gz"),
    ];
    assert_eq!(table.lines().collect::<Vec<_>>(), expected);
    assert_eq!(files_below(&out).len(), 2 * 3 + 2);
    // What is written is what the plugin of that name trains on.
    let manifest = fs::read_to_string(workspace().join("plugins/brain_mri/plugin.toml")).unwrap();
    let manifest = Manifest::parse(&manifest).unwrap().manifest;
    let table = Table::open(out.join("table.csv"), &manifest).unwrap();
    let views: Vec<Vec<&str>> =
        table.rows.iter().map(|r| r.images.keys().map(String::as_str).collect()).collect();
    assert_eq!(views, [["t1", "t2"], ["flair", "t1"]]);
    assert_eq!(table.rows[0].labels, [0.0, 0.0, 1.0, 0.0].map(Some));
}

#[test]
fn injuries_go_into_a_real_scan_and_a_mask_that_does_not_fit_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let shape = [40, 40, 30];
    let organ = |v: usize| (8..32).contains(&(v % 40)) && (8..32).contains(&(v / 40 % 40));
    let voxels: Vec<i16> =
        (0..40 * 40 * 30).map(|v| if v % 40 < 3 { -1000 } else { 90 + (v % 80) as i16 }).collect();
    let mask: Vec<i16> = (0..40 * 40 * 30).map(|v| i16::from(organ(v))).collect();
    let grid = Affine::aligned([3.0; 3], [5.0, -7.0, 9.0]);
    write_nifti_i16(&path("ct.nii.gz"), &voxels, shape, &grid).unwrap();
    write_nifti_i16(&path("organ.nii.gz"), &mask, shape, &grid).unwrap();
    write_nifti_i16(&path("empty.nii.gz"), &vec![0; voxels.len()], shape, &grid).unwrap();
    write_nifti_i16(&path("other.nii.gz"), &mask[..40 * 40 * 29], [40, 40, 29], &grid).unwrap();
    let make = |task: &str, organ: &str| {
        let (base, organ, out) = (text(path("ct.nii.gz")), text(path(organ)), text(path("out")));
        host(["phantom", task, "--base", &base, "--organ", &organ, "--count", "8", "--out", &out])
    };
    make("liver_injury", "empty.nii.gz").refused(1, &["empty.nii.gz", "no voxel is above 0.5"]);
    make("liver_injury", "other.nii.gz").refused(1, &["other.nii.gz", "not on the grid of", "[40, 40, 29]"]);
    make("lung_nodule", "organ.nii.gz").refused(2, &["--base", "liver_injury takes a scan"]);
    assert!(!path("out").exists());
    let ran = make("liver_injury", "organ.nii.gz");
    assert_eq!(ran.code, 0, "{ran:#?}");
    let table = fs::read_to_string(path("out").join("table.csv")).unwrap();
    let mut masks = 0;
    for line in table.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let [case, image, _, mask] = cells[..] else { panic!("{line}") };
        assert!(case.starts_with("liver_injury_base_0_"));
        assert_eq!(Scan::open(&path("out").join(image)).unwrap().shape, shape);
        masks += usize::from(!mask.is_empty());
    }
    assert_eq!(files_below(&path("out")).len(), 8 + masks + 2);
}

#[test]
fn plugins_and_backbones_say_what_they_are() {
    let ran = host(["plugin", "inspect", &text(&bench().library), "--json"]);
    let said: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        (ran.code, said["name"].as_str(), said["abi"].as_str()),
        (0, Some(PLUGIN), Some("1.1")),
        "{ran:#?}"
    );
    assert_eq!(said["weights"]["info"]["training"]["seed"], 1);
    let ran = host(["plugin", "list"]);
    assert!(ran.code == 0 && ran.out.contains(PLUGIN), "{ran:#?}");
    let ran = host(["backbone", "inspect", "--json"]);
    let said: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, said["fingerprint"].as_str()), (0, Some(backbone_info().fingerprint.as_str())));
    let ran = host(["backbone", "list"]);
    assert!(ran.code == 0 && ran.out.contains("dinov2-small"), "{ran:#?}");
}

/// The tokens and attention of an embedding, numbered as transformers does.
fn embedded(arguments: &[&str]) -> (Tensor, Tensor) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.safetensors");
    let ran = host([&["embed"], arguments, &["--out", &text(&out)]].concat());
    assert_eq!(ran.code, 0, "{ran:#?}");
    let bytes = fs::read(&out).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let about = header.metadata().clone().unwrap();
    assert_eq!((about["backbone"].as_str(), about["precision"].as_str()), ("dinov2-small", "f32"));
    assert_eq!(
        (about["sha256"].as_str(), about["input"].as_str()),
        (backbone_info().sha256.as_str(), arguments[0])
    );
    let mut t = candle_core::safetensors::load(&out, &Device::Cpu).unwrap();
    let patches = t.remove("patches").unwrap().flatten(1, 2).unwrap();
    let class = t.remove("class").unwrap().unsqueeze(1).unwrap();
    (Tensor::cat(&[&class, &patches], 1).unwrap(), t.remove("class_attention").unwrap())
}

fn assert_close(what: &str, found: &Tensor, expected: &Tensor, tolerance: f32) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let difference = (found - expected).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
    let difference = difference.to_scalar::<f32>().unwrap();
    assert!(difference <= tolerance, "{what}: {difference} > {tolerance}");
}

#[test]
fn parity_embed_gives_pytorchs_tokens_with_and_without_a_peft_adapter() {
    let positions = Tensor::new(&[0u32, 1, 17, 128, 256], &Device::Cpu).unwrap();
    let Some(forward) = required(fixtures(), "forward.safetensors") else { return };
    let golden = candle_core::safetensors::load(&forward, &Device::Cpu).unwrap();
    let (tokens, attention) = embedded(&[&text(&forward)]);
    assert_close("tokens", &tokens.index_select(&positions, 1).unwrap(), &golden["tokens"], 2e-4);
    assert_close("attention", &attention, &golden["cls_attention"], 1e-5);

    let Some(lora) = required(fixtures(), "lora_forward.safetensors") else { return };
    let Some(adapter) = required(fixtures(), "peft_adapter") else { return };
    let golden = candle_core::safetensors::load(&lora, &Device::Cpu).unwrap();
    let (tokens, _) = embedded(&[&text(&lora), "--peft", &text(&adapter)]);
    assert_close("adapted tokens", &tokens.index_select(&positions, 1).unwrap(), &golden["tokens"], 2e-4);
}

#[test]
fn a_scan_is_embedded_by_the_default_view_or_by_a_plugins() {
    let folder = tempfile::tempdir().unwrap();
    let scan = chest(&folder.path().join("scan.nii"));
    let (tokens, attention) = embedded(&[&scan]);
    assert_eq!((tokens.dims(), attention.dims()), (&[32, 257, 384][..], &[32, 16, 16][..]));
    let (tokens, attention) = embedded(&[&scan, "--plugin", &text(&bench().library)]);
    assert_eq!((tokens.dims(), attention.dims()), (&[4, 17, 384][..], &[4, 4, 4][..]));
    let out = text(folder.path().join("out.safetensors"));
    host(["embed", &text(folder.path().join("missing.nii")), "--out", &out]).refused(1, &["missing.nii"]);
    host(["embed", &text(backbone_folder().join("model.safetensors")), "--out", &out])
        .refused(1, &["`pixels`"]);
}

#[test]
fn a_device_that_cannot_be_used_is_refused_and_what_there_is_computes() {
    let folder = tempfile::tempdir().unwrap();
    let scan = chest(&folder.path().join("chest.nii"));
    let typing_error = predict(&["--device", "gpu", &scan]);
    assert!(typing_error.code == 2 && typing_error.err.contains("`gpu` is no device"), "{typing_error:#?}");
    // No machine has so many.
    predict(&["--device", "cuda:63", &scan]).refused(3, &["--device cuda:63: "]);
    let plan = predict(&["--device", "cpu", "--explain-plan", &scan]);
    assert!(plan.out.contains("cpu: backbone "), "{plan:#?}");
    let machine = host(["doctor", "--json"]);
    let machine: serde_json::Value = serde_json::from_str(&machine.out).unwrap();
    assert_eq!(machine["devices"][0], "cpu");
    assert!(machine["devices"].as_array().unwrap().len() > 1 || machine["no_gpu"].is_string(), "{machine}");
}
