//! Scans that a process has no memory for, and grids that no scanner makes, beside sound ones: each is named, the others
//! are answered, whatever sets the limit.
#![cfg(target_os = "linux")]

use anymc3d_host::scan::{Affine, write_nifti_i16};
use anymc3d_tests::{edited_library, host_binary, plugin_library, random_weights, workspace};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The binary, and a plugin with few small slices and random weights.
fn task(folder: &Path) -> (PathBuf, PathBuf) {
    let library = folder.join("task.so");
    let few = [("slices = 40", "slices =  4"), ("size = [168, 168]", "size = [ 56,  56]")];
    edited_library(&plugin_library("lung_nodule"), &few, &library);
    random_weights(&library, &folder.join("lung_nodule.safetensors"), 1, |_, _| {});
    (host_binary(), library)
}

fn small(path: &Path) {
    let shape = [24, 20, 10];
    let voxels: Vec<i16> = (0..24 * 20 * 10).map(|i| (i * 7919 % 900) as i16 - 850).collect();
    write_nifti_i16(path, &voxels, shape, &Affine::aligned([12.0, 12.0, 20.0], [0.0; 3])).unwrap();
}

/// 1000 × 1000 × 1000 bytes that take no place on the disk.
fn large(path: &Path) {
    small(path);
    let mut header = fs::read(path).unwrap()[..352].to_vec();
    for at in [42, 44, 46] {
        header[at..at + 2].copy_from_slice(&1000i16.to_le_bytes());
    }
    header[70..72].copy_from_slice(&2i16.to_le_bytes());
    header[72..74].copy_from_slice(&8i16.to_le_bytes());
    for at in [280, 300, 320, 80, 84, 88] {
        header[at..at + 4].copy_from_slice(&0.5f32.to_le_bytes());
    }
    fs::write(path, header).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_len(352 + 1_000_000_000).unwrap();
}

/// Exit code, output, and errors of the host with a limit of address space in KiB.
fn limited(kib: Option<usize>, host: &Path, arguments: &[&str]) -> (i32, String, String) {
    let limit = kib.map_or(String::new(), |kib| format!("ulimit -v {kib}; "));
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{limit}exec \"$0\" \"$@\"")).arg(host).args(arguments);
    command.env("ANYMC3D_HOME", workspace().join("target").join("no-such-home")).current_dir(workspace());
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

#[test]
fn a_scan_above_the_limit_of_address_space_is_named_and_the_small_ones_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (host, library) = task(folder.path());
    let scans = folder.path().join("scans");
    fs::create_dir(&scans).unwrap();
    small(&scans.join("a.nii.gz"));
    large(&scans.join("m.nii"));
    small(&scans.join("z.nii.gz"));
    let arguments =
        ["run", "--threads", "2", "--json", "--plugin", library.to_str().unwrap(), scans.to_str().unwrap()];
    let (code, out, err) = limited(Some(3_906_250), &host, &arguments);
    assert_eq!((code, out.lines().count()), (1, 3), "{out}{err}");
    let errors: Vec<&str> = err.lines().filter(|l| l.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{err}");
    for words in ["m.nii", "1000 × 1000 × 1000 voxels", "RLIMIT_AS"] {
        assert!(errors[0].contains(words), "`{words}` is missing: {err}");
    }
}

#[test]
fn a_grid_that_no_scanner_makes_is_one_cases_error_and_an_error_of_the_doctor() {
    let folder = tempfile::tempdir().unwrap();
    let (host, library) = task(folder.path());
    let scans = folder.path().join("scans");
    fs::create_dir(&scans).unwrap();
    for (n, step) in [None, Some(1e-12f32), Some(1e-20), Some(1e-7), None].into_iter().enumerate() {
        let path = scans.join(format!("{n}.nii"));
        small(&path);
        if let Some(step) = step {
            let mut bytes = fs::read(&path).unwrap();
            bytes[280..284].copy_from_slice(&step.to_le_bytes());
            fs::write(&path, bytes).unwrap();
        }
    }
    let plugin = library.to_str().unwrap();
    let (code, out, err) =
        limited(None, &host, &["run", "--json", "--plugin", plugin, scans.to_str().unwrap()]);
    assert_eq!((code, out.lines().count()), (1, 5), "{out}{err}");
    for n in 1..4 {
        let told = err
            .lines()
            .any(|l| l.contains(&format!("{n}.nii: found voxels of")) && l.contains("0.01 to 100 mm"));
        assert!(told, "{n}: {err}");
    }
    let table = folder.path().join("table.csv");
    let rows: String = (0..5).map(|n| format!("c{n},scans/{n}.nii,{}\n", n % 2)).collect();
    fs::write(&table, format!("case,image,nodule\n{rows}")).unwrap();
    let table = table.to_str().unwrap();
    let (code, out, _) = limited(None, &host, &["doctor", "--data", table]);
    assert_eq!((code, out.matches("0.01 to 100 mm").count()), (1, 3), "{out}");
    let run = folder.path().join("run");
    let train =
        ["train", "--plugin", plugin, "--data", table, "--out", run.to_str().unwrap(), "--epochs", "1"];
    let (code, _, err) = limited(None, &host, &train);
    assert!(code == 1 && err.contains("0.01 to 100 mm"), "{code} {err}");
    let sick = scans.join("1.nii");
    let features = folder.path().join("f.safetensors");
    let (code, _, err) =
        limited(None, &host, &["embed", sick.to_str().unwrap(), "--out", features.to_str().unwrap()]);
    assert!(code == 1 && err.contains("1.nii") && err.contains("0.01 to 100 mm"), "{code} {err}");
}

#[test]
fn the_doctor_says_which_limit_binds() {
    let host = host_binary();
    let (code, out, err) = limited(Some(2_000_000), &host, &["doctor"]);
    assert_eq!(code, 0, "{err}");
    let binding = out.lines().find(|l| l.contains("binds")).unwrap_or_default();
    assert!(binding.contains("1953 MiB") && binding.contains("RLIMIT_AS"), "{out}");
    let (_, out, _) = limited(Some(2_000_000), &host, &["doctor", "--json"]);
    assert!(out.contains("\"source\":\"address_space\""), "{out}");
}

#[test]
fn training_without_room_for_a_step_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let (host, library) = task(folder.path());
    for n in 0..4 {
        small(&folder.path().join(format!("{n}.nii")));
    }
    let table = folder.path().join("table.csv");
    let rows: String = (0..4).map(|n| format!("c{n},{n}.nii,{}\n", n % 2)).collect();
    fs::write(&table, format!("case,image,nodule\n{rows}")).unwrap();
    let run = folder.path().join("run");
    let [plugin, table, run] = [&library, &table, &run].map(|p| p.to_str().unwrap());
    let train =
        ["train", "--unchecked", "--plugin", plugin, "--data", table, "--out", run, "--max-memory", "150M"];
    let (code, _, err) = limited(None, &host, &train);
    assert!(
        code == 2 && err.contains("--max-memory 150 MiB") && err.contains("give at least"),
        "{code} {err}"
    );
}
