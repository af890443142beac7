//! What a header says about position: sform, qform, units, shear.

use super::*;

fn has(scan: &Scan, words: &str) -> bool {
    scan.warnings.iter().any(|w| w.contains(words))
}

/// A quarter turn about z: first axis to anterior, second to the left; 2 × 3 × 4 mm, origin 10, 20, 30.
fn turned(file: File) -> File {
    let half = std::f32::consts::FRAC_1_SQRT_2;
    let file = file.i16_at(252, 1).f32_at(264, half).f32_at(268, 10.0).f32_at(272, 20.0).f32_at(276, 30.0);
    file.f32_at(80, 2.0).f32_at(84, 3.0).f32_at(88, 4.0)
}

#[test]
fn a_qform_alone_is_used_with_its_handedness() {
    let scan = turned(File::new()).i16_at(254, 0).open().unwrap();
    assert_eq!((scan.orientation.as_str(), scan.warnings.len()), ("ALS", 0));
    let at = scan.affine.apply([1.0, 1.0, 1.0]);
    for (found, expected) in at.iter().zip([7.0, 22.0, 34.0]) {
        assert!((found - expected).abs() < 1e-5, "{at:?}");
    }
    let left_handed = turned(File::new()).i16_at(254, 0).f32_at(76, -1.0).open().unwrap();
    assert_eq!(left_handed.orientation, "ALI");
}

#[test]
fn the_sform_wins_over_a_qform_that_disagrees_and_that_is_reported() {
    let scan = turned(File::new()).open().unwrap();
    assert_eq!(scan.affine, Affine::aligned([1.0; 3], [0.0; 3]));
    // The farthest corner, (1, 0, 3): (1, 0, 3) mm by one, (10, 22, 42) by the other.
    assert!(has(&scan, "sform and qform disagree by up to 45.7 mm"), "{:?}", scan.warnings);
}

#[test]
fn forms_that_agree_are_not_worth_a_word() {
    assert!(File::new().i16_at(252, 1).open().unwrap().warnings.is_empty());
}

#[test]
fn without_either_form_the_spacing_is_pixdims_and_left_and_right_are_unknown() {
    let scan = File::new().i16_at(254, 0).f32_at(80, 2.0).f32_at(88, 5.0).open().unwrap();
    assert_eq!((scan.spacing_mm, scan.orientation.as_str()), ([2.0, 1.0, 5.0], "LAS"));
    // As nibabel: the centre of the volume is the origin.
    assert_eq!(scan.affine.apply([0.5, 1.0, 1.5]), [0.0; 3]);
    assert!(has(&scan, "left/right unknown") && has(&scan, "front/back unknown"), "{:?}", scan.warnings);
}

#[test]
fn a_singular_affine_is_refused() {
    let message = refusal(File::new().f32_at(320, 0.0).open());
    assert!(message.contains("scan.nii") && message.contains("singular sform"), "{message}");
    assert!(refusal(File::new().f32_at(320, f32::NAN).open()).contains("singular"));
}

#[test]
fn a_sheared_sform_is_kept_and_reported() {
    let scan = File::new().f32_at(288, 0.3).open().unwrap();
    assert!(has(&scan, "sheared") && has(&scan, "16.7 degrees"), "{:?}", scan.warnings);
    assert_eq!(scan.affine.apply([0.0, 0.0, 2.0]), [2.0 * f64::from(0.3f32), 0.0, 2.0]);
}

#[test]
fn metres_and_micrometres_become_millimetres() {
    for (code, steps) in [(1u8, 0.001f32), (3, 1000.0)] {
        let mut file =
            File::new().f32_at(280, steps).f32_at(300, steps).f32_at(320, steps).f32_at(292, steps * 7.0);
        file = file.f32_at(80, steps).f32_at(84, steps).f32_at(88, steps);
        file.header[123] = code | 8; // and seconds
        let scan = file.open().unwrap();
        assert!(scan.spacing_mm.iter().all(|s| (s - 1.0).abs() < 1e-6), "{:?}", scan.spacing_mm);
        assert!((scan.affine.0[0][3] - 7.0).abs() < 1e-6 && has(&scan, "converted to mm"));
        assert_eq!(scan.warnings.len(), 1, "{:?}", scan.warnings);
    }
}

#[test]
fn a_voxel_size_that_is_rare_is_reported() {
    assert!(has(&File::new().f32_at(320, 90.0).open().unwrap(), "implausible voxel size"));
}

#[test]
fn a_shear_below_a_tenth_of_a_degree_is_reported_too() {
    let file = |shear: f64| File::new().f32_at(288, shear.to_radians().tan() as f32);
    assert!(has(&file(0.05).open().unwrap(), "0.05 degrees off a right angle"));
    assert!(file(0.001).open().unwrap().warnings.is_empty());
}

#[test]
fn voxel_sizes_told_two_ways_are_reported_with_both() {
    let scan = File::new().f32_at(80, 1.02).open().unwrap();
    assert!(
        has(&scan, "1.0000 × 1.0000 × 1.0000 mm by the sform and 1.0200 × 1.0000 × 1.0000 mm by pixdim"),
        "{:?}",
        scan.warnings
    );
    assert!(File::new().f32_at(80, 1.005).open().unwrap().warnings.is_empty());
    // A size that is left out is told by the sform alone.
    assert!(File::new().f32_at(80, 0.0).open().unwrap().warnings.is_empty());
}

#[test]
fn an_intercept_without_a_slope_is_not_applied_and_is_reported() {
    let scan = File::new().f32_at(116, 5.0).open().unwrap();
    assert_eq!(scan.voxels[23], 23.0);
    assert!(has(&scan, "ITK and NiiVue add 5"), "{:?}", scan.warnings);
}
