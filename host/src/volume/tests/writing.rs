//! What is written reads back, whole or not at all.

use super::super::{write_nifti_f32, write_nifti_i16, write_nifti_u8};
use super::*;

/// An oblique LPI grid of 0.9 × 1.2 × 3 mm.
fn oblique() -> Affine {
    let (s, c) = (0.3f64.sin(), 0.3f64.cos());
    Affine([
        [-0.9 * c, 1.2 * s, 0.0, 80.0],
        [-0.9 * s, -1.2 * c, 0.0, -20.5],
        [0.0, 0.0, -3.0, 1000.25],
        [0.0, 0.0, 0.0, 1.0],
    ])
}

#[test]
fn voxels_and_affine_read_back_plain_and_gzipped() {
    let folder = tempfile::tempdir().unwrap();
    let voxels: Vec<f32> = noise(60).iter().map(|v| v * 0.37 - 100.0).collect();
    for name in ["heat.nii", "heat.nii.gz"] {
        let path = folder.path().join(name);
        write_nifti_f32(&path, &voxels, [3, 4, 5], &oblique()).unwrap();
        let scan = Scan::open(&path).unwrap();
        assert_eq!(
            (scan.voxels.as_slice(), scan.shape, scan.warnings.len()),
            (voxels.as_slice(), [3, 4, 5], 0),
            "{:?}",
            scan.warnings
        );
        assert!(scan.affine.corner_distance(&oblique(), [3, 4, 5]) < 1e-4);
    }
    let path = folder.path().join("i16.nii.gz");
    write_nifti_i16(&path, &[-3, 4, 32000, -32768], [2, 2, 1], &oblique()).unwrap();
    assert_eq!(Scan::open(&path).unwrap().voxels, [-3.0, 4.0, 32000.0, -32768.0]);
    let path = folder.path().join("mask.nii.gz");
    write_nifti_u8(&path, &[0, 1, 255, 7], [2, 2, 1], &oblique()).unwrap();
    assert_eq!(Scan::open(&path).unwrap().voxels, [0.0, 1.0, 255.0, 7.0]);
}

#[test]
fn the_qform_says_the_same_as_the_sform_in_all_48_orientations() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.nii");
    let ras = Scan::from_voxels("x", noise(60), [3, 4, 5], Affine::aligned([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]))
        .unwrap();
    for (order, flip) in orientations() {
        let scan = stored_as(&ras, order, flip);
        write_nifti_f32(&path, &scan.voxels, scan.shape, &scan.affine).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[254..256].fill(0); // the qform alone
        let found = open("a.nii", &bytes).unwrap();
        assert!(
            found.affine.corner_distance(&scan.affine, scan.shape) < 1e-4,
            "{order:?} {flip:?}: {:?}",
            found.affine
        );
    }
}

#[test]
fn a_sheared_affine_is_written_as_sform_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.nii");
    let sheared =
        Affine([[1.0, 0.2, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]);
    write_nifti_u8(&path, &[1; 8], [2; 3], &sheared).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes[252..256], [0, 0, 1, 0]);
    assert!(Scan::open(&path).unwrap().affine.corner_distance(&sheared, [2; 3]) < 1e-6);
}

#[test]
fn a_failed_write_leaves_nothing_and_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent").join("a.nii.gz");
    let error = write_nifti_u8(&absent, &[1; 8], [2; 3], &oblique()).unwrap_err().to_string();
    assert!(error.contains("a.nii.gz: cannot be written"), "{error}");
    // A folder stands where the file should go.
    let taken = folder.path().join("taken.nii");
    std::fs::create_dir(&taken).unwrap();
    assert!(write_nifti_u8(&taken, &[1; 8], [2; 3], &oblique()).is_err());
    assert!(write_nifti_u8(&folder.path().join("b.nii"), &[1; 7], [2; 3], &oblique()).is_err());
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["taken.nii"]);
}

#[test]
fn writing_twice_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a.nii.gz", "b.nii.gz"].map(|n| folder.path().join(n));
    for path in [&a, &b] {
        write_nifti_f32(path, &noise(60), [3, 4, 5], &oblique()).unwrap();
    }
    assert_eq!(std::fs::read(a).unwrap(), std::fs::read(b).unwrap());
}
