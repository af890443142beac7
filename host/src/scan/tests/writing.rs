//! What is written reads back, whole or not at all.

use super::super::{write_mask, write_nifti_f32, write_nifti_i16, write_nifti_u8, write_planes};
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

/// A header whose forms differ in every field, with time beside space in its units.
fn forms_apart() -> File {
    let mut file = File::new().i16_at(252, 3).i16_at(254, 2).f32_at(76, -1.0).f32_at(80, 1.1).f32_at(92, 7.0);
    for (i, at) in (256..328).step_by(4).enumerate() {
        file = file.f32_at(at, 0.01 * i as f32);
    }
    file = file.f32_at(280, 1.0).f32_at(300, 1.0).f32_at(320, 1.0);
    file.header[123] = 2 | 8;
    file
}

/// Bytes of a header that place its voxels.
fn placing(header: &[u8]) -> [&[u8]; 3] {
    [&header[76..108], &header[123..124], &header[252..328]]
}

#[test]
fn what_is_written_beside_a_scan_has_the_scans_own_forms_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.nii");
    let neither = forms_apart().i16_at(252, 0).i16_at(254, 0);
    let qform = forms_apart().i16_at(254, 0);
    for file in [forms_apart(), forms_apart().i16_at(252, 4).i16_at(254, 1), qform, neither] {
        let scan = file.open().unwrap();
        write_mask(&path, &[1; 24], scan.shape, &scan.forms).unwrap();
        let mask = std::fs::read(&path).unwrap();
        assert_eq!(placing(&mask), placing(&file.header));
        write_planes(&path, scan.shape, &scan.forms, 2.0, |_, plane| plane.fill(1.0)).unwrap();
        let heat = std::fs::read(&path).unwrap();
        assert_eq!(placing(&heat), placing(&file.header));
        assert_eq!(Scan::open(&path).unwrap().affine, scan.affine);
    }
}

fn f32_of(header: &[u8], at: usize) -> f32 {
    f32::from_le_bytes(header[at..at + 4].try_into().unwrap())
}

#[test]
fn planes_come_back_within_a_131070th_of_the_most_and_zero_is_zero() {
    let folder = tempfile::tempdir().unwrap();
    let forms = File::new().open().unwrap().forms;
    for name in ["a.nii", "a.nii.gz"] {
        let path = folder.path().join(name);
        for most in [1e-9f32, 0.7565777, 3e4] {
            // Several blocks of planes, and one alone.
            for shape in [[50, 40, 900], [900, 800, 3]] {
                let size = shape[0] * shape[1];
                let value =
                    |i: usize| if i.is_multiple_of(3) { 0.0 } else { most * (i * 7 % 1001) as f32 / 1000.0 };
                write_planes(&path, shape, &forms, most, |z, plane| {
                    plane.iter_mut().enumerate().for_each(|(i, v)| *v += value(z * size + i));
                })
                .unwrap();
                let found = Scan::open(&path).unwrap().voxels;
                let bound = f64::from(most) * (1.0 / 131_070.0 + 1e-6);
                for (i, &v) in found.iter().enumerate() {
                    assert!((f64::from(v) - f64::from(value(i))).abs() <= bound, "{name} {most} {i}: {v}");
                    assert!(i % 3 != 0 || v == 0.0);
                }
            }
        }
    }
}

#[test]
fn a_heatmaps_window_and_scale_are_finite_whatever_the_heat() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.nii");
    let forms = File::new().open().unwrap().forms;
    let odd = [0.0, 1.0, f32::NAN, f32::INFINITY, -1.0, 0.5];
    for most in [0.0, 1.0, f32::NAN, f32::INFINITY, 1e-44] {
        write_planes(&path, [3, 2, 4], &forms, most, |_, plane| plane.copy_from_slice(&odd)).unwrap();
        let header = std::fs::read(&path).unwrap();
        let [slope, intercept, to, from] = [112, 116, 124, 128].map(|at| f32_of(&header, at));
        assert!(slope.is_finite() && slope > 0.0 && to.is_finite(), "{most}: {slope} {to}");
        assert_eq!((intercept, from), (0.0, 0.0));
        if most == 1.0 {
            assert_eq!(to, 1.0);
            assert!(header[352..].starts_with(&[0, 0, 255, 255, 0, 0, 255, 255, 0, 0]));
        }
    }
    write_mask(&path, &[0; 24], [2, 3, 4], &forms).unwrap();
    assert_eq!(f32_of(&std::fs::read(&path).unwrap(), 124), 1.0);
}
