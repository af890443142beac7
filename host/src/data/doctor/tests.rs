//! Tables of tiny scans with one thing wrong each.

use super::*;
use crate::scan::{Affine, write_nifti_u8};
use anymc3d_manifest::Manifest;
use std::path::PathBuf;

const MANIFEST: &str = r#"
schema = 1
[plugin]
name = "toy"
version = "0.1.0"
summary = "A toy."
license = "Apache-2.0"
intended_use = "Tests."
[task]
kind = "binary"
labels = ["nodule"]
loss = { kind = "bce" }
[backbone]
families = ["dinov2"]
[[view]]
name = "axial"
modality = "CT"
axis = "axial"
slices = 8
size = [224, 224]
intensity = { kind = "window", windows = [[-1000, 400]] }
"#;

/// Eight good scans of 6×7×8 voxels, half of them positive with a mask.
struct Folder {
    keep: tempfile::TempDir,
    lines: Vec<String>,
}

impl Folder {
    fn new() -> Self {
        let mut folder = Self { keep: tempfile::tempdir().unwrap(), lines: Vec::new() };
        for i in 0..8u8 {
            folder.scan(&format!("s{i}"), [6, 7, 8], 1.0, i);
            let mask = if i % 2 == 1 {
                folder.scan(&format!("m{i}"), [6, 7, 8], 1.0, 255);
                format!("m{i}.nii.gz")
            } else {
                String::new()
            };
            folder.lines.push(format!("c{i},s{i}.nii.gz,{},p{i},{mask},", i % 2));
        }
        folder
    }

    /// Values 0 and 1 in a pattern that the seed decides.
    fn scan(&self, name: &str, shape: [usize; 3], mm: f64, seed: u8) {
        let n: usize = shape.iter().product();
        let values: Vec<u8> = (0..n).map(|i| u8::from((i * 7 + usize::from(seed) * 31) % 11 < 4)).collect();
        let affine = Affine::aligned([mm; 3], [0.0; 3]);
        write_nifti_u8(&self.path(name), &values, shape, &affine).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.keep.path().join(format!("{name}.nii.gz"))
    }

    fn examine(&self) -> (Vec<Problem>, Findings) {
        self.examine_as(MANIFEST, "nodule")
    }

    fn examine_as(&self, manifest: &str, label: &str) -> (Vec<Problem>, Findings) {
        let path = self.keep.path().join("table.csv");
        let text = format!("case,image,{label},patient,mask,split\n{}\n", self.lines.join("\n"));
        std::fs::write(&path, text).unwrap();
        let (table, problems) = Table::read_all(&path, &Manifest::parse(manifest).unwrap().manifest);
        (problems, examine(&table, &[], &|| ()))
    }
}

fn one(problems: &[Problem], line: u64, part: &str) {
    let found: Vec<_> = problems.iter().filter(|p| p.what.contains(part)).collect();
    assert!(found.len() == 1 && found[0].line == Some(line), "{part}: {problems:?}");
}

#[test]
fn a_good_table_has_no_findings() {
    let (problems, findings) = Folder::new().examine();
    assert_eq!((problems, findings), (Vec::new(), Findings::default()));
}

#[test]
fn a_corrupt_scan_a_wrong_label_a_patient_in_two_splits_and_a_mask_of_another_shape_are_all_named() {
    let mut folder = Folder::new();
    let whole = std::fs::read(folder.path("s0")).unwrap();
    std::fs::write(folder.path("s0"), &whole[..whole.len() / 2]).unwrap();
    folder.scan("m1", [6, 7, 9], 1.0, 255);
    folder.lines[2] = "c2,s2.nii.gz,2,p2,,".into();
    folder.lines[3] = "c3,s3.nii.gz,1,p3,m3.nii.gz,train".into();
    folder.lines[4] = "c4,s4.nii.gz,0,p3,,val".into();
    let (problems, findings) = folder.examine();
    one(&problems, 4, "label `nodule` is `2`");
    one(&problems, 6, "patient `p3` is in val here");
    one(&findings.errors, 2, "s0.nii.gz");
    one(
        &findings.errors,
        3,
        "found a mask of [6, 7, 9] voxels, expected the grid of its scan, [6, 7, 8] voxels",
    );
    assert_eq!((problems.len(), findings.errors.len()), (2, 2));
}

#[test]
fn an_empty_mask_is_odd_where_there_is_a_finding_and_not_for_a_class_without_one() {
    let mut folder = Folder::new();
    let empty = vec![0u8; 6 * 7 * 8];
    write_nifti_u8(&folder.path("m1"), &empty, [6, 7, 8], &Affine::aligned([1.0; 3], [0.0; 3])).unwrap();
    let (_, findings) = folder.examine();
    one(&findings.warnings, 3, "the mask of a positive case is empty");
    let classes = MANIFEST
        .replace("binary", "multiclass")
        .replace("bce", "cross_entropy")
        .replace("[\"nodule\"]", "[\"none\", \"nodule\"]");
    folder.lines[1] = "c1,s1.nii.gz,none,p1,m1.nii.gz,".into();
    for line in folder.lines.iter_mut().filter(|l| !l.starts_with("c1")) {
        *line = line.replacen(",1,", ",nodule,", 1).replacen(",0,", ",none,", 1);
    }
    let (problems, findings) = folder.examine_as(&classes, "class");
    assert_eq!((problems, findings), (Vec::new(), Findings::default()));
}

#[test]
fn the_same_scan_of_two_patients_and_a_spacing_unlike_the_others_are_found() {
    let mut folder = Folder::new();
    std::fs::copy(folder.path("s2"), folder.path("s4")).unwrap();
    folder.scan("s6", [6, 7, 8], 9.0, 6);
    folder.scan("m7", [6, 7, 8], 1.5, 255);
    folder.lines.push("c8,s0.nii.gz,1,p0,,".into());
    let (_, findings) = folder.examine();
    one(&findings.errors, 6, "the same scan as case `c2` on line 4 of another patient");
    one(&findings.errors, 10, "the same scan as case `c0` on line 2, with other labels");
    one(&findings.errors, 9, "mm away, expected the grid of its scan");
    let far = findings.warnings.iter().filter(|w| w.what.contains("median is 1.00 mm")).count();
    // One line for a scan, whatever the number of its axes.
    assert_eq!((findings.errors.len(), far), (3, 1));
}

#[test]
fn a_label_that_is_always_the_same_teaches_nothing() {
    let mut folder = Folder::new();
    folder.lines.retain(|l| l.starts_with("c0") || l.starts_with("c2"));
    let (_, findings) = folder.examine();
    assert!(findings.warnings.iter().any(|w| w.what.contains("0 of 2 known cases are positive")));
}

#[test]
fn many_outliers_of_one_kind_are_one_line_with_the_worst_three() {
    let seen: Vec<Seen> = (0..60u64)
        .map(|i| Seen {
            line: i + 2,
            case: format!("c{i}"),
            view: "axial".into(),
            // Every third scan has many thin slices, the last of them the most.
            shape: [512, 512, if i % 3 == 0 { 40 + i as usize } else { 6 }],
            spacing_mm: [0.5, 0.5, 5.0],
            region: Default::default(),
            sha256: i.to_string(),
        })
        .collect();
    let mut all = Findings::default();
    outliers(&seen, &mut all);
    let [only] = all.warnings.as_slice() else { panic!("{:?}", all.warnings) };
    assert_eq!(
        only.what,
        "view `axial`: 20 of 60 scans are unlike the others; the worst: case `c57` (line 59): 97 voxels along an axis where \
         the table's median is 6; case `c54` (line 56): 94 voxels along an axis where the table's median is 6; case `c51` \
         (line 53): 91 voxels along an axis where the table's median is 6"
    );
}
