//! What real files and real use broke: each failing input, and what is said of it now.

use anymc3d_host::engine::result::{CaseResult, FailedCase};
use anymc3d_host::scan::{Affine, Scan, write_nifti_f32, write_nifti_i16};
use anymc3d_host::task::Weights;
use anymc3d_tests::{
    backbone_folder, edited_library, host_binary, plugin_library, random_weights, workspace,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const SHAPE: [usize; 3] = [24, 20, 10];

/// The built binary and `lung_nodule` on few and small slices, with random weights.
struct Bench {
    host: PathBuf,
    library: PathBuf,
    folder: tempfile::TempDir,
}

fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("task.so");
        let few = [("slices = 40", "slices =  4"), ("size = [168, 168]", "size = [ 56,  56]")];
        edited_library(&plugin_library("lung_nodule"), &few, &library);
        random_weights(&library, &folder.path().join("lung_nodule.safetensors"), 1, |_, _| {});
        Bench { host: host_binary(), library, folder }
    })
}

#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(&bench().host);
    command.args(arguments).current_dir(workspace()).env("ANYMC3D_HOME", bench().folder.path().join("home"));
    command
}

fn ran(mut command: Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn host(arguments: &[&str]) -> Ran {
    ran(command(arguments))
}

/// `run --plugin TASK` and more.
fn predict(more: &[&str]) -> Ran {
    host(&[&["run", "--plugin", text(&bench().library)], more].concat())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Air around a body with two lungs; `seed` changes its texture.
fn chest(path: &Path, seed: usize) {
    let voxel = |i: usize| {
        let (x, y, z) = (i % SHAPE[0], i / SHAPE[0] % SHAPE[1], i / (SHAPE[0] * SHAPE[1]));
        let inside = |x0, x1| (x0..x1).contains(&x) && (5..15).contains(&y) && (2..8).contains(&z);
        let texture = ((i + 31 * seed) * 7919 % 60) as i16;
        match (inside(5, 10) || inside(14, 19), (2..22).contains(&x) && (2..18).contains(&y)) {
            (true, _) => -850 + texture,
            (_, true) => 30 + texture,
            _ => -1000,
        }
    };
    let voxels: Vec<i16> = (0..SHAPE.iter().product()).map(voxel).collect();
    write_nifti_i16(path, &voxels, SHAPE, &affine()).unwrap();
}

fn affine() -> Affine {
    Affine::aligned([12.0, 12.0, 20.0], [-140.0, -120.0, -100.0])
}

/// The files right inside a folder, without hidden ones.
fn names(folder: &Path) -> Vec<String> {
    let entries =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = entries.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

#[test]
fn a_batch_with_failures_leaves_their_records_counts_what_it_left_out_and_sums_up() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("scans/deeper/still")).unwrap();
    chest(&at("scans/a.nii"), 1);
    chest(&at("scans/deeper/still/b.nii"), 2);
    fs::write(at("scans/c.nii"), "no scan at all").unwrap();
    for name in ["scans/x.mgz", "scans/y.mgz", "scans/notes.txt"] {
        fs::write(at(name), "").unwrap();
    }
    let (scans, out) = (at("scans"), at("out"));
    let shallow = predict(&[text(&scans), "--out", text(&out), "--heatmap=false"]);
    assert_eq!(shallow.code, 1, "{shallow:?}");
    assert!(shallow.err.contains("left out: 2 × .mgz, 1 × .txt, 1 × folder"), "{shallow:?}");
    assert!(shallow.err.contains("note: 1 cases answered, 1 failed: "), "{shallow:?}");
    assert_eq!(names(&out), ["a", "c.failed.json"]);
    let failed: FailedCase =
        serde_json::from_str(&fs::read_to_string(out.join("c.failed.json")).unwrap()).unwrap();
    assert!(failed.error.contains("c.nii") && failed.provenance.time.ends_with('Z'), "{failed:?}");

    // What failed is done anew, and the folders below are looked at.
    chest(&at("scans/c.nii"), 3);
    let deep =
        predict(&[text(&scans), "--recursive", "--out", text(&out), "--heatmap=false", "--record", "user"]);
    assert!(deep.code == 0 && deep.err.contains("note: 3 cases answered"), "{deep:?}");
    assert_eq!(names(&out), ["a", "b", "c"]);
    let json = fs::read_to_string(out.join("b/lung_nodule/result.json")).unwrap();
    let made = serde_json::from_str::<CaseResult>(&json).unwrap().provenance;
    let binary = fs::read(&bench().host).unwrap();
    assert_eq!(made.program_sha256, Some(anymc3d_registry::sha256(&binary)));
    assert_eq!(made.machine, None);
    let now = jiff::Timestamp::now().as_second();
    assert!((now - made.time.parse::<jiff::Timestamp>().unwrap().as_second()).abs() < 600, "{made:?}");
}

#[test]
fn a_two_dimensional_file_is_refused_and_one_slice_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let flat = folder.path().join("flat.nii");
    let values: Vec<f32> = (0..480).map(|i| -1000.0 + (i * 37 % 1100) as f32).collect();
    write_nifti_f32(&flat, &values, [24, 20, 1], &affine()).unwrap();
    let one = predict(&[text(&flat)]);
    assert!(
        one.code == 0 && one.out.contains("the prediction comes from this slice, used 4 times"),
        "{one:?}"
    );
    let mut bytes = fs::read(&flat).unwrap();
    bytes[40] = 2;
    fs::write(&flat, bytes).unwrap();
    let two = predict(&[text(&flat)]);
    assert!(
        two.code == 1 && two.err.contains("a 2D image, dimensions [24, 20], expected one 3D volume"),
        "{two:?}"
    );
}

#[test]
fn weights_know_their_training_cases_under_another_name_and_stored_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut table = "case,image,blob,split\n".to_owned();
    for case in 0..6 {
        chest(&at(&format!("{case}.nii")), case);
        table += &format!("c{case},{case}.nii,{},{}\n", case % 2, if case < 4 { "train" } else { "val" });
    }
    fs::write(at("table.csv"), table).unwrap();
    let (data, run) = (at("table.csv"), at("run"));
    let library = text(&bench().library);
    let train = ["train", "--plugin", library, "--data", text(&data), "--out", text(&run), "--epochs", "1"];
    let without = host(&train);
    assert!(without.code == 1 && !run.exists(), "{without:?}");
    for words in ["no column `nodule`", "give --label nodule=blob", "`host plugin new blob --labels blob`"] {
        assert!(without.err.contains(words), "`{words}` is missing: {without:?}");
    }
    let use_text = "Research only. Trained on made-up chests.";
    let trained = host(&[&train[..], &["--label", "nodule=blob", "--intended-use", use_text]].concat());
    assert_eq!(trained.code, 0, "{trained:?}");
    assert!(trained.err.contains("2 validation cases choose the epoch"), "{trained:?}");
    assert!(
        trained.err.contains("`nodule` has 1 and 1: these probabilities will not be calibrated"),
        "{trained:?}"
    );
    assert!(trained.out.contains("nothing calibrated"), "{trained:?}");
    let weights = run.join("lung_nodule.safetensors");
    let cases = Weights::open(&weights).unwrap().info.cases.unwrap();
    assert_eq!((cases.training.len(), cases.validation.len()), (4, 2));

    // A float copy of a training scan, of a validation scan, and a new scan.
    let copy = |from: usize, to: &str| {
        let scan = Scan::open(&at(&format!("{from}.nii"))).unwrap();
        write_nifti_f32(&at(to), &scan.voxels, scan.shape, &scan.affine).unwrap();
    };
    copy(1, "other.nii.gz");
    copy(4, "chosen.nii.gz");
    chest(&at("new.nii"), 77);
    fs::write(at("test.csv"), "case,image,nodule\nx,other.nii.gz,1\ny,chosen.nii.gz,0\nz,new.nii,0\n")
        .unwrap();
    let (test, figures) = (at("test.csv"), at("figures"));
    let eval = [
        "eval",
        "--plugin",
        library,
        "--weights",
        text(&weights),
        "--data",
        text(&test),
        "--out",
        text(&figures),
    ];
    let evaluated = host(&eval);
    for words in ["that the weights were trained on", "validation cases that chose the weights' epoch"] {
        let line =
            evaluated.err.lines().find(|l| l.contains(words)).unwrap_or_else(|| panic!("{evaluated:?}"));
        assert!(line.ends_with("(1 of 3 cases)"), "{line}");
    }
    let told =
        |scan: &str| host(&["run", "--plugin", library, "--weights", text(&weights), text(&at(scan))]).out;
    let known = told("other.nii.gz");
    assert!(known.contains("were trained on") && known.contains(use_text), "{known}");
    assert!(!told("new.nii").contains("were trained on"));
}

#[test]
fn a_name_that_is_nearly_right_is_answered_with_the_right_one_and_no_folder_stays() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("results/today");
    let wrong = host(&["run", "--plugin", "lungnodule", "scan.nii", "--out", text(&out)]);
    assert!(wrong.code == 3 && wrong.err.contains("not found; did you mean `lung_nodule`?"), "{wrong:?}");
    let no_backbone = predict(&["scan.nii", "--out", text(&out), "--backbone", "none-of-this-name"]);
    assert!(no_backbone.code == 3 && names(folder.path()).is_empty(), "{no_backbone:?}");
}

#[test]
fn libraries_leave_no_copy_in_the_temporary_folder_where_the_home_folder_takes_none() {
    let folder = tempfile::tempdir().unwrap();
    let (temporary, scan) = (folder.path().join("tmp"), folder.path().join("scan.nii"));
    fs::create_dir(&temporary).unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    chest(&scan, 5);
    let mut run = command(&["run", "--plugin", text(&bench().library), text(&scan)]);
    run.env("ANYMC3D_HOME", folder.path().join("file/home")).env("TMPDIR", &temporary);
    let done = ran(run);
    assert_eq!((done.code, fs::read_dir(&temporary).unwrap().count()), (0, 0), "{done:?}");
}

#[test]
fn a_version_of_the_same_task_adopts_the_weights_and_another_task_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    edited_library(&bench().library, &[("version = \"0.1.0\"", "version = \"0.2.0\"")], &at("new.so"));
    edited_library(&at("new.so"), &[("labels = [\"nodule\"]", "labels = [\"masses\"]")], &at("other.so"));
    let (old, toml) = (bench().folder.path().join("lung_nodule.safetensors"), at("plugin.toml"));
    let original = fs::read_to_string(workspace().join("plugins/lung_nodule/plugin.toml")).unwrap();
    let few = original.replace("slices = 40", "slices = 4").replace("[168, 168]", "[56, 56]");
    fs::write(&toml, few).unwrap();
    let adopt = |library: &str, more: &[&str]| {
        let (library, out) = (at(library), at("adopted.safetensors"));
        let given = [
            "plugin",
            "adopt-weights",
            "--plugin",
            text(&library),
            "--weights",
            text(&old),
            "--out",
            text(&out),
        ];
        host(&[&given[..], &["--backbone", text(&backbone_folder())], more].concat())
    };
    let unknown = adopt("new.so", &[]);
    assert!(unknown.code == 3 && unknown.err.contains("--trained-with FILE"), "{unknown:?}");
    let done = adopt("new.so", &["--trained-with", text(&toml)]);
    assert_eq!(done.code, 0, "{done:?}");
    let info = Weights::open(&at("adopted.safetensors")).unwrap().info;
    assert_eq!(
        (info.plugin_version.as_str(), info.trained_for.unwrap().labels),
        ("0.2.0", vec!["nodule".into()])
    );
    let other = adopt("other.so", &["--trained-with", text(&toml)]);
    assert!(other.code == 3 && other.err.contains("`task.labels[0]` was \"nodule\""), "{other:?}");
}
