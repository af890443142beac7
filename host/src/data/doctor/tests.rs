//! Tables of tiny scans with one thing wrong each.

use super::*;
use crate::scan::{Affine, write_nifti_f32, write_nifti_u8};
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
modality = "any"
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
        let manifest = Manifest::parse(manifest).unwrap().manifest;
        let (table, problems) = Table::read_all(&path, &manifest);
        (problems, examine(&table, &manifest, &|| ()).findings)
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
    one(&findings.errors, 10, "the same scan as case `c0` on line 2, with the opposite label `nodule`");
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
            path: PathBuf::new(),
            line: i + 2,
            case: format!("c{i}"),
            view: "axial".into(),
            // Every third scan has many thin slices, the last of them the most.
            shape: [512, 512, if i % 3 == 0 { 40 + i as usize } else { 6 }],
            spacing_mm: [0.5, 0.5, 5.0],
            content: [i as u8; 32],
        })
        .collect();
    let mut all = Findings::default();
    outliers::outliers(&seen, &mut all);
    let [only] = all.warnings.as_slice() else { panic!("{:?}", all.warnings) };
    assert_eq!(
        only.what,
        "view `axial`: 20 of 60 scans are unlike the others; the worst: case `c57` (line 59): 97 voxels along an axis where \
         the table's median is 6; case `c54` (line 56): 94 voxels along an axis where the table's median is 6; case `c51` \
         (line 53): 91 voxels along an axis where the table's median is 6"
    );
}

#[test]
fn nan_in_a_mask_is_no_finding_and_is_told() {
    let folder = Folder::new();
    let mut values = vec![f32::NAN; 6 * 7 * 8];
    values[40..83].fill(1.0);
    let affine = Affine::aligned([1.0; 3], [0.0; 3]);
    write_nifti_f32(&folder.path("m1"), &values, [6, 7, 8], &affine).unwrap();
    values.fill(f32::NAN);
    values[0] = 0.0;
    write_nifti_f32(&folder.path("m3"), &values, [6, 7, 8], &affine).unwrap();
    let (_, findings) = folder.examine();
    one(&findings.warnings, 3, "293 of the mask's voxels are NaN or infinite: they count as 0, no finding");
    one(&findings.warnings, 5, "the mask of a positive case is empty");
    assert_eq!((findings.errors.len(), findings.warnings.len()), (0, 3));
    let mask = Scan::open_mask(&folder.path("m1")).unwrap();
    assert_eq!(mask.voxels.iter().filter(|v| **v > 0.5).count(), 43);
}

/// The scan `from` with its axes stored mirrored, as floats, not compressed.
fn copied_otherwise(folder: &Folder, from: &str, to: &str) {
    let scan = Scan::open(&folder.path(from)).unwrap();
    let copy = crate::scan::tests::stored_as(&scan, [2, 0, 1], [true, false, true]);
    let plain = folder.keep.path().join("copy.nii");
    write_nifti_f32(&plain, &copy.voxels, copy.shape, &copy.affine).unwrap();
    std::fs::rename(plain, folder.path(to)).unwrap();
}

#[test]
fn a_copy_stored_otherwise_is_the_same_scan() {
    let folder = Folder::new();
    copied_otherwise(&folder, "s2", "s4");
    let (_, findings) = folder.examine();
    one(&findings.errors, 6, "the same scan as case `c2` on line 4 of another patient");
}

#[test]
fn opposite_labels_on_one_scan_are_an_error_within_a_patient_too_and_an_unknown_label_is_none() {
    let mut folder = Folder::new();
    copied_otherwise(&folder, "s3", "s4");
    copied_otherwise(&folder, "s6", "s2");
    folder.lines[4] = "c4,s4.nii.gz,0,p3,,".into();
    folder.lines[2] = "c2,s2.nii.gz,,p6,,".into();
    let (_, findings) = folder.examine();
    one(&findings.errors, 6, "the same scan as case `c3` on line 5, with the opposite label `nodule`");
    assert_eq!(findings.errors.len(), 1, "{:?}", findings.errors);
}

#[test]
fn a_scan_that_trains_in_one_table_and_tests_in_another_is_found() {
    let folder = Folder::new();
    copied_otherwise(&folder, "s2", "copy");
    let manifest = Manifest::parse(MANIFEST).unwrap().manifest;
    let open = |name: &str, lines: &str| {
        let path = folder.keep.path().join(name);
        std::fs::write(&path, format!("case,image,nodule\n{lines}")).unwrap();
        Table::open(&path, &manifest).unwrap()
    };
    let train = open("train.csv", "a,s1.nii.gz,1\nb,s2.nii.gz,0\n");
    let test = open("test.csv", "x,s3.nii.gz,1\ny,copy.nii.gz,0\n");
    let examined = [&train, &test].map(|t| examine(t, &manifest, &|| ()));
    let found = shared_scans((&train, &examined[0]), &examined[1], |_| true);
    one(&found, 3, "case `y`: the same scan as case `b` on line 3 of");
    assert_eq!(found.len(), 1);
    assert!(shared_scans((&train, &examined[0]), &examined[1], |row| row.case != "b").is_empty());
}

#[test]
fn a_table_of_another_modality_is_one_warning_with_the_number_of_cases() {
    let folder = Folder::new();
    for i in 0..8 {
        // From 0 up and many values: an MR, or a CT without its intercept.
        let values: Vec<f32> = (0..6 * 7 * 8).map(|v| ((v * 7 + i) % 300) as f32).collect();
        let affine = Affine::aligned([1.0; 3], [0.0; 3]);
        write_nifti_f32(&folder.path(&format!("s{i}")), &values, [6, 7, 8], &affine).unwrap();
    }
    let ct = MANIFEST.replace("\"any\"", "\"CT\"").replace("intensity =", "region = \"lungs\"\nintensity =");
    let (_, findings) = folder.examine_as(&ct, "nodule");
    let told: Vec<&str> = findings.warnings.iter().map(|w| w.what.as_str()).collect();
    let count =
        |part: &str| told.iter().filter(|w| w.starts_with("8 of 8 cases") && w.contains(part)).count();
    assert_eq!(count("the scan looks like MR, the task was made for CT"), 1, "{told:?}");
    assert_eq!(count("no lung-sized air"), 1, "{told:?}");
    assert_eq!(told.len(), 2, "{told:?}");
}

#[test]
fn two_findings_of_one_scan_may_have_other_labels() {
    let mut folder = Folder::new();
    folder.lines[4] = "c4,s3.nii.gz,0,p3,m1.nii.gz,".into();
    let (_, findings) = folder.examine();
    one(&findings.errors, 6, "the same scan as case `c3` on line 5, with the opposite label `nodule`");
    folder.lines.retain(|line| line.contains(",m"));
    let around = MANIFEST.replace("intensity =", "region = \"mask\"\nmargin_mm = 1.0\nintensity =");
    let (problems, findings) = folder.examine_as(&around, "nodule");
    assert_eq!((problems, findings.errors), (Vec::new(), Vec::new()));
}
