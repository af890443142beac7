//! What cases are called, and that no patient's result replaces another's.

use super::{SHAPE, affine, chest, files_below, predict, text, voxel};
use anymc3d_host::engine::result::CaseResult;
use anymc3d_host::scan::write_nifti_i16;
use std::fs;
use std::path::Path;

#[test]
fn a_folder_gives_its_scans_and_cases_of_one_name_are_told_apart_by_their_digests() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["a", "b", "empty"] {
        fs::create_dir(at(name)).unwrap();
    }
    chest(&at("a/scan.nii.gz"));
    chest(&at("b/scan.nii"));
    chest(&at("b/scan_mask.nii"));
    let (a, b, out) = (text(at("a")), text(at("b/scan.nii")), text(at("out")));
    let ran = predict(&[&a, &b, &text(at("b")), &text(at("empty")), "--out", &out, "--heatmap=false"]);
    assert_eq!((ran.code, ran.errors().len()), (1, 1), "{ran:#?}");
    assert!(ran.errors()[0].contains("no scan in this folder"), "{ran:#?}");
    // The scan of b was given twice, and is one.
    let second = format!("scan-{}", &digest(&at("b/scan.nii"))[..8]);
    let answer = |case: &str| format!("{case}/lung_nodule/result.json");
    assert_eq!(files_below(&at("out")), ["empty.failed.json".to_owned(), answer(&second), answer("scan")]);
}

fn digest(path: &Path) -> String {
    anymc3d_registry::sha256(&fs::read(path).unwrap())
}

/// Three patients' scans, each called `imaging.nii`, and their digests.
fn patients(folder: &Path) -> Vec<(String, String)> {
    let one = |p: usize| {
        let path = folder.join(format!("p{p}/imaging.nii"));
        fs::create_dir(path.parent().unwrap()).unwrap();
        let voxels: Vec<i16> = (0..SHAPE.iter().product()).map(|i| voxel(i) + p as i16).collect();
        write_nifti_i16(&path, &voxels, SHAPE, &affine()).unwrap();
        (text(&path), digest(&path))
    };
    (1..4).map(one).collect()
}

/// Case and digest of every result in a folder, each case named as its folder is.
fn results_in(folder: &Path) -> Vec<(String, String)> {
    let of = |file: &String| {
        let read = fs::read_to_string(folder.join(file)).unwrap();
        let result: CaseResult = serde_json::from_str(&read).unwrap();
        assert_eq!(file.split('/').next(), Some(result.case.as_str()));
        (result.case, result.input.sha256)
    };
    let mut all: Vec<_> = files_below(folder).iter().filter(|f| f.ends_with("result.json")).map(of).collect();
    all.sort();
    all
}

#[test]
fn no_patients_result_replaces_anothers_in_one_call_in_three_or_apart() {
    let folder = tempfile::tempdir().unwrap();
    let patients = patients(folder.path());
    let scans: Vec<&str> = patients.iter().map(|(path, _)| path.as_str()).collect();
    let mut expected: Vec<(String, String)> = patients
        .iter()
        .enumerate()
        .map(|(i, (_, digest))| match i {
            0 => ("imaging".to_owned(), digest.clone()),
            _ => (format!("imaging-{}", &digest[..8]), digest.clone()),
        })
        .collect();
    expected.sort();

    let (together, apart) = (folder.path().join("together"), folder.path().join("apart"));
    let (in_one, in_three) = (text(&together), text(&apart));
    let one = predict(&[&scans[..], &["--out", &in_one, "--heatmap=false"]].concat());
    assert_eq!((one.code, results_in(&together)), (0, expected.clone()), "{one:#?}");
    for (i, scan) in scans.iter().chain(&scans).enumerate() {
        let mut arguments = vec![*scan, "--out", &in_three, "--heatmap=false"];
        if i == 1 {
            arguments.push("--isolate");
        }
        let ran = predict(&arguments);
        assert_eq!(ran.code, 0, "{ran:#?}");
        let told =
            ran.err.contains("holds a result of another scan (sha256") && ran.err.contains("--overwrite");
        assert_eq!(told, i % 3 != 0, "{ran:#?}");
    }
    assert_eq!(results_in(&apart), expected);

    // Cases of a table are called as the table says, and their results are as safe.
    let table = |file: &str| {
        let path = folder.path().join("table.csv");
        fs::write(&path, format!("case,image\nimaging,{file}\n")).unwrap();
        text(&path)
    };
    let ran = predict(&[&table("p2/imaging.nii"), "--out", &in_three, "--heatmap=false", "--json"]);
    assert_eq!((ran.code, results_in(&apart)), (0, expected.clone()), "{ran:#?}");
    assert!(ran.out.contains(&format!("\"case\":\"imaging-{}\"", &patients[1].1[..8])), "{ran:#?}");

    // Nowhere written, they are told apart all the same.
    let ran = predict(&[&scans[..], &["--json"]].concat());
    let mut told: Vec<(String, String)> = ran
        .out
        .lines()
        .map(|l| serde_json::from_str::<CaseResult>(l).unwrap())
        .map(|r| (r.case, r.input.sha256))
        .collect();
    told.sort();
    assert_eq!(told, expected);

    // Who means it.
    let ran = predict(&[scans[2], "--out", &in_three, "--heatmap=false", "--overwrite"]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert!(results_in(&apart).contains(&("imaging".to_owned(), patients[2].1.clone())), "{ran:#?}");
}
