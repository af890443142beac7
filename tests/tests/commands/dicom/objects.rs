//! `--dicom-out`: results as DICOM objects of the study that they were computed from.

use super::*;
use anymc3d_dicom::{Limits, read_file};
use anymc3d_host::scan::Affine;

/// A study of a patient whose name everybody would know again.
fn study() -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let export = place.path().join("export");
    write_series(&export, &CT);
    (place, export)
}

/// The only case's folder of the plugin.
fn result_folder(out: &Path) -> PathBuf {
    let cases: Vec<String> = names(out).into_iter().filter(|n| n != "id-salt").collect();
    assert_eq!(cases.len(), 1, "{cases:?}");
    out.join(&cases[0]).join("lung_nodule")
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|w| w == text.as_bytes())
}

#[test]
fn the_patients_identity_goes_into_the_dicom_objects_and_into_nothing_else() {
    let (place, export) = study();
    for (extra, out) in [(&["--json", "-v"][..], "here"), (&["--isolate", "-v"], "isolated")] {
        let out = place.path().join(out);
        let mut arguments = vec![text(&export), "--out", text(&out), "--dicom-out", "--segmentation"];
        arguments.extend(extra);
        let ran = run(&bench().ct, &arguments);
        assert_eq!(ran.code, 0, "{ran:#?}");
        let objects = result_folder(&out).join("dicom");
        assert_eq!(names(&objects), ["heatmap.dcm", "preview.dcm", "segmentation.dcm", "sr.dcm"]);
        for name in names(&objects) {
            let bytes = fs::read(objects.join(&name)).unwrap();
            for carried in ["ZEBRA^QUAGGA", "PID4711", "19330202", "QUAGGA^REFERRING", CT.study] {
                assert!(holds(&bytes, carried), "{name} lacks {carried}");
            }
            // Of the series itself nothing is carried over, nor are private elements.
            for left in ["KEEPOUT", "secretword", "ST ELSEWHERE"] {
                assert!(!holds(&bytes, left), "{name} has {left}");
            }
        }
        let result: Value =
            serde_json::from_slice(&fs::read(result_folder(&out).join("result.json")).unwrap()).unwrap();
        let named = ["dicom/sr.dcm", "dicom/heatmap.dcm", "dicom/segmentation.dcm", "dicom/preview.dcm"];
        assert_eq!(result["files"]["dicom"], Value::from(named.to_vec()), "{result}");
        fs::remove_dir_all(&objects).unwrap();
        assert_anonymous(&ran, &out);
    }
}

#[test]
fn the_dicom_heatmap_and_mask_lie_on_the_series_frames_with_the_niftis_values() {
    let (place, export) = study();
    let out = place.path().join("out");
    let ran = run(&bench().ct, &[text(&export), "--out", text(&out), "--dicom-out", "--segmentation"]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    let folder = result_folder(&out);
    let map = read_file(&folder.join("dicom/heatmap.dcm"), &Limits::default()).unwrap();
    let nifti = Scan::open(&folder.join("heatmap.nii.gz")).unwrap();
    assert_eq!(map.dims, [nifti.shape[2], nifti.shape[1], nifti.shape[0]]);
    let most = nifti.range()[1];
    assert!(most > 0.0);
    // The NIfTI file stores 16-bit steps of the largest value.
    let off = map.values.iter().zip(&nifti.voxels).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off <= most * 1e-4, "{off} of {most}");
    // The mask's frames without a voxel are left out; all others are there in full.
    let mask = Scan::open(&folder.join("segmentation.nii.gz")).unwrap();
    let inside = mask.voxels.iter().filter(|v| **v > 0.0).count();
    let object = read_file(&folder.join("dicom/segmentation.dcm"), &Limits::default()).unwrap();
    assert_eq!(object.values.iter().filter(|v| **v > 0.0).count(), inside);
    // What is written is not read as a scan again.
    let ran = run(&bench().ct, &[text(&folder.join("dicom")), "--json"]);
    assert_eq!(ran.code, 1, "{ran:#?}");
}

#[test]
fn without_a_dicom_series_dicom_out_is_refused_and_beside_one_it_is_a_warning() {
    let (place, export) = study();
    let nifti = place.path().join("beside.nii");
    let voxels: Vec<f32> = (0..24 * 24 * 8).map(|i| (i % 577) as f32 - 200.0).collect();
    let affine = Affine::aligned([2.0, 2.0, 4.0], [0.0; 3]);
    anymc3d_host::scan::write_nifti_f32(&nifti, &voxels, [24, 24, 8], &affine).unwrap();
    let out = place.path().join("out");
    let ran = run(&bench().ct, &[text(&nifti), "--out", text(&out), "--dicom-out"]);
    assert!(ran.code == 2 && !out.exists(), "{ran:#?}");
    assert!(ran.err.contains("beside.nii is no DICOM series"), "{ran:#?}");
    assert_eq!(ran.err.lines().filter(|l| l.starts_with("error")).count(), 1, "{ran:#?}");

    let arguments = [text(&nifti), text(&export), "--out", text(&out), "--dicom-out", "--json"];
    let results = run(&bench().ct, &arguments).results();
    let of = |case: &str| results.iter().find(|r| (r["case"] == "beside") == (case == "nifti")).unwrap();
    assert!(of("nifti")["files"]["dicom"].is_null(), "{results:#?}");
    assert!(of("nifti")["warnings"].to_string().contains("no DICOM objects of view axial"), "{results:#?}");
    assert_eq!(of("dicom")["files"]["dicom"].as_array().unwrap().len(), 3, "{results:#?}");
    assert_eq!(run(&bench().ct, &[text(&export), "--dicom-out"]).code, 2, "it needs a place");
}
