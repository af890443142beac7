//! Studies, series and stacks: what belongs together, what is left out, what is chosen.

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;

use anymc3d_dicom::{
    ErrorKind, Exclusion, Limits, Orientation, Request, Scan, SequenceHint, SeriesSelector, Volume, choose,
    digest, fit, read_volume, scan,
};
use common::{DataSet, MR_CLASS, ct_slice, fixtures, folder};
use sha2::{Digest, Sha256};

fn scanned(files: &[DataSet]) -> (tempfile::TempDir, Scan) {
    let folder = folder(files);
    let found = scan(folder.path(), &Limits::default()).unwrap();
    (folder, found)
}

fn volume(found: &Scan, stack: usize) -> Volume {
    read_volume(found, &found.studies[0].series[0], stack, &Limits::default()).unwrap()
}

fn ct(n: u16) -> Vec<DataSet> {
    (0..n).map(|i| ct_slice(i, f64::from(i) * 2.5)).collect()
}

#[test]
fn slices_are_ordered_by_position_whatever_their_names_and_numbers() {
    let mut files = ct(6);
    for (i, file) in files.iter_mut().enumerate() {
        *file = file.clone().set(0x0020_0013, "IS", format!("{}", 60 - i)).set(0x0018_0050, "DS", "9");
    }
    files.reverse();
    let (_folder, found) = scanned(&files);
    let volume = volume(&found, 0);
    assert_eq!(volume.dims, [4, 3, 6]);
    assert_eq!(volume.spacing_mm, [0.7, 0.5, 2.5]);
    let firsts: Vec<f32> = volume.voxels.chunks(12).map(|s| s[0] + 1024.0).collect();
    assert_eq!(firsts, [0.0, 100.0, 200.0, 300.0, 400.0, 500.0]);
    // LPS (−10, −20, 0) is RAS (10, 20, 0).
    assert_eq!(volume.affine.apply([0.0; 3]), [10.0, 20.0, 0.0]);
    assert_eq!(volume.affine.apply([1.0, 2.0, 3.0]), [9.3, 19.0, 7.5]);
    let series = &found.studies[0].series[0];
    assert!(
        series.oddities.iter().any(|o| o == "slices 9.00 mm thick every 2.50 mm"),
        "{:?}",
        series.oddities
    );
}

#[test]
fn every_kind_of_object_that_is_no_volume_is_left_out_by_name() {
    let class = |uid: &str| ct_slice(9, 0.0).set(0x0008_0016, "UI", format!("1.2.840.10008.5.1.4.1.1.{uid}"));
    let kinds = [
        (ct_slice(9, 0.0).set(0x0008_0008, "CS", "ORIGINAL\\PRIMARY\\LOCALIZER"), Exclusion::Localizer),
        (class("88.67"), Exclusion::DoseReport),
        (class("7"), Exclusion::SecondaryCapture),
        (class("7.2"), Exclusion::SecondaryCapture),
        (class("88.33"), Exclusion::StructuredReport),
        (class("66.4"), Exclusion::Segmentation),
        (class("30"), Exclusion::ParametricMap),
        (class("67"), Exclusion::RealWorldValueMap),
        (class("66"), Exclusion::RawData),
        (class("11.1"), Exclusion::PresentationState),
        (class("88.59"), Exclusion::KeyObjectSelection),
        (class("104.1"), Exclusion::EncapsulatedDocument),
        (class("481.3"), Exclusion::Radiotherapy),
        (class("9.1.1"), Exclusion::Waveform),
        (class("66.1"), Exclusion::Registration),
        (ct_slice(9, 0.0).u16(0x0028_0002, 3), Exclusion::Colour),
        (
            ct_slice(9, 0.0).set(0x0008_0008, "CS", "DERIVED\\SECONDARY\\AXIAL\\MIP"),
            Exclusion::ProjectionImage,
        ),
        (ct_slice(9, 0.0).set(0x0008_0070, "LO", "AnyMC3D"), Exclusion::OwnResult),
        (ct_slice(9, 0.0).set(0x0008_0008, "CS", "ORIGINAL\\PRIMARY\\M\\ND\\MOSAIC"), Exclusion::Mosaic),
        (class("1.1"), Exclusion::NotCrossSectional),
        (class("6.1"), Exclusion::NotCrossSectional),
        (ct_slice(9, 0.0).without(0x7FE0_0010), Exclusion::NoPixelData),
    ];
    for (set, kind) in kinds {
        let (_folder, found) = scanned(&[set.set(0x0008_0018, "UI", "2.25.77")]);
        let left_out = &found.studies[0].left_out;
        assert_eq!(left_out.len(), 1);
        assert_eq!(left_out[0].kind, kind);
        assert!(found.studies[0].series.is_empty());
    }
}

#[test]
fn a_colour_capture_inside_a_ct_series_is_left_out_and_told() {
    let mut files = ct(3);
    files.push(ct_slice(9, 40.0).u16(0x0028_0002, 3).set(0x0008_0018, "UI", "2.25.9"));
    let (_folder, found) = scanned(&files);
    let study = &found.studies[0];
    assert_eq!(study.series[0].stacks[0].slices(), 3);
    assert_eq!(study.left_out[0].kind, Exclusion::Colour);
    assert!(study.series[0].oddities.iter().any(|o| o.contains("colour capture")));
}

#[test]
fn echoes_and_time_points_become_stacks_and_a_choice_is_asked_for() {
    let mr = |n: u16, z: u16, te: &str| {
        ct_slice(n, f64::from(z) * 3.0)
            .set(0x0008_0016, "UI", MR_CLASS)
            .set(0x0008_0060, "CS", "MR")
            .set(0x0018_0081, "DS", te)
            .set(0x0008_0018, "UI", format!("2.25.5.{n}"))
    };
    let files: Vec<DataSet> = (0..8).map(|n| mr(n, n % 4, if n < 4 { "12" } else { "90" })).collect();
    let (_folder, found) = scanned(&files);
    let series = &found.studies[0].series[0];
    let labels: Vec<&str> = series.stacks.iter().map(|s| s.label.as_str()).collect();
    assert_eq!(labels, ["echo time 12", "echo time 90"]);
    assert_eq!(volume(&found, 1).voxels[0], 400.0 - 1024.0);
    let error = choose(&found.studies[0], &Request::default()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::ChoiceNeeded);
    assert!(error.to_string().contains("echo time 90"), "{error}");
    let choice = choose(&found.studies[0], &Request { stack: Some(1), ..Request::default() }).unwrap();
    assert_eq!(choice.stack, 1);

    let files: Vec<DataSet> = (0..8).map(|n| mr(n, n / 2, "12")).collect();
    let (_folder, found) = scanned(&files);
    let series = &found.studies[0].series[0];
    assert_eq!(series.stacks[1].label, "time point 2 of 2");
    assert_eq!(volume(&found, 1).voxels[0], 100.0 - 1024.0);
}

#[test]
fn positions_that_repeat_here_and_there_are_refused() {
    let mut files = ct(4);
    files.push(ct_slice(8, 2.5).set(0x0008_0018, "UI", "2.25.88"));
    let (_folder, found) = scanned(&files);
    let stack = &found.studies[0].series[0].stacks[0];
    assert_eq!(stack.geometry.as_ref().unwrap_err().kind, ErrorKind::RepeatedPositions);
    let error = choose(&found.studies[0], &Request::default()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NothingFits);
}

#[test]
fn two_acquisitions_interleaved_are_two_stacks_and_not_one_of_half_the_spacing() {
    let files: Vec<DataSet> = (0..10)
        .map(|n| {
            let (acquisition, k) = (n / 5, n % 5);
            let z = f64::from(k) * 4.0 + f64::from(acquisition) * 1.3;
            ct_slice(n, z).set(0x0020_0012, "IS", acquisition.to_string())
        })
        .collect();
    let (_folder, found) = scanned(&files);
    let series = &found.studies[0].series[0];
    assert_eq!(series.stacks.len(), 2, "{:?}", series.oddities);
    assert_eq!(volume(&found, 1).spacing_mm[2], 4.0);
}

#[test]
fn one_acquisition_after_another_stays_one_stack() {
    let files: Vec<DataSet> = (0..10)
        .map(|n| ct_slice(n, f64::from(n) * 4.0).set(0x0020_0012, "IS", (n / 5).to_string()))
        .collect();
    let (_folder, found) = scanned(&files);
    assert_eq!(found.studies[0].series[0].stacks.len(), 1);
}

#[test]
fn mixed_orientations_are_stacks_and_the_largest_is_chosen() {
    let mut files = ct(5);
    for n in 0..3_u16 {
        let sagittal = ct_slice(20 + n, 0.0)
            .set(0x0020_0032, "DS", format!("{}\\0\\0", n * 4))
            .set(0x0020_0037, "DS", "0\\1\\0\\0\\0\\-1")
            .set(0x0008_0018, "UI", format!("2.25.6.{n}"));
        files.push(sagittal);
    }
    let (_folder, found) = scanned(&files);
    let series = &found.studies[0].series[0];
    assert_eq!(series.stacks.len(), 2);
    let choice = choose(&found.studies[0], &Request::default()).unwrap();
    let geometry = series.stacks[choice.stack].geometry.as_ref().unwrap();
    assert_eq!((geometry.orientation, geometry.slices), (Orientation::Axial, 5));
}

#[test]
fn slices_that_an_anonymiser_gave_one_uid_are_all_kept() {
    let files: Vec<DataSet> = ct(4).into_iter().map(|f| f.set(0x0008_0018, "UI", "2.25.1")).collect();
    let (_folder, found) = scanned(&files);
    assert_eq!(found.studies[0].series[0].stacks[0].slices(), 4);
}

#[test]
fn a_modality_in_lower_case_is_that_modality() {
    let files: Vec<DataSet> = ct(3).into_iter().map(|file| file.set(0x0008_0060, "CS", "ct")).collect();
    let (_folder, found) = scanned(&files);
    assert_eq!(found.studies[0].series[0].modality, "CT");
    assert_eq!(volume(&found, 0).dims, [4, 3, 3]);
}

#[test]
fn the_same_instance_twice_counts_once() {
    let mut files = ct(4);
    files.push(files[2].clone());
    let (_folder, found) = scanned(&files);
    let series = &found.studies[0].series[0];
    assert_eq!(series.stacks[0].slices(), 4);
    assert!(series.oddities[0].contains("1 files repeat"));
}

/// A study with four series that differ in what rules ask for.
fn rich_study() -> (tempfile::TempDir, Scan) {
    let mut files = Vec::new();
    let series = [
        (1, "AX T1 pre", "1\\0\\0\\0\\1\\0", 3),
        (2, "SAG T2 FLAIR", "0\\1\\0\\0\\0\\-1", 4),
        (3, "AX T1 post Gd", "1\\0\\0\\0\\1\\0", 3),
        (4, "AX T2 TSE", "1\\0\\0\\0\\1\\0", 5),
    ];
    for (number, description, orientation, slices) in series {
        for n in 0..slices {
            let p = f64::from(n) * 5.0;
            let mut set = ct_slice(n, 0.0)
                .set(0x0008_0060, "CS", "MR")
                .set(0x0008_0018, "UI", format!("2.25.{number}.{n}"))
                .set(0x0020_000E, "UI", format!("2.25.300.{number}"))
                .set(0x0020_0011, "IS", number.to_string())
                .set(0x0018_0015, "CS", "BRAIN")
                .set(0x0008_103E, "LO", description)
                .set(0x0020_0032, "DS", format!("{p}\\0\\{p}"))
                .set(0x0020_0037, "DS", orientation);
            if number != 2 {
                set = set.set(0x0020_0032, "DS", format!("0\\0\\{p}"));
            }
            files.push(set);
        }
    }
    // The sagittal series moves along x only.
    for n in 0..4 {
        let at = files.iter().position(|_| true).unwrap() + 3 + n;
        files[at] = files[at].clone().set(0x0020_0032, "DS", format!("{}\\0\\0", n * 5));
    }
    scanned(&files)
}

#[test]
fn each_rule_chooses_the_series_it_names_and_says_why_in_one_line() {
    let (_folder, found) = rich_study();
    let study = &found.studies[0];
    let chosen = |request: Request| {
        let choice = choose(study, &request).unwrap();
        assert!(!choice.why.contains('\n'));
        (study.series[choice.series].number.unwrap(), choice.why)
    };
    let any = Request::default;
    assert_eq!(chosen(any()).0, 4, "the most slices");
    assert_eq!(chosen(Request { sequence: Some(SequenceHint::Flair), ..any() }).0, 2);
    assert_eq!(chosen(Request { orientation: Some(Orientation::Sagittal), ..any() }).0, 2);
    assert_eq!(chosen(Request { contrast: Some(true), ..any() }).0, 3);
    let request = Request { sequence: Some(SequenceHint::T1), contrast: Some(false), ..any() };
    let (number, why) = chosen(request);
    assert_eq!(number, 1);
    assert!(why.contains("sequence T1") && why.contains("contrast not given"), "{why}");
    assert_eq!(chosen(Request { description: Some("ax*post".into()), ..any() }).0, 3);
    let (_, why) = chosen(Request { modality: vec!["MR".into()], body_part: vec!["brain".into()], ..any() });
    assert_eq!(
        why,
        "series 4 (5 slices every 5.00 mm, axial): modality MR, body part BRAIN; 3 more fit (series 2, series 1, series 3)"
    );
}

#[test]
fn the_users_own_choice_wins_and_what_it_breaks_is_a_warning() {
    let (_folder, found) = rich_study();
    let study = &found.studies[0];
    let request =
        |series| Request { modality: vec!["CT".into()], series: Some(series), ..Request::default() };
    let choice = choose(study, &request(SeriesSelector::parse("1"))).unwrap();
    assert_eq!(study.series[choice.series].number, Some(1));
    assert_eq!(choice.warnings, ["modality is MR, asked for is CT"]);
    let choice = choose(study, &request(SeriesSelector::parse("2.25.300.3"))).unwrap();
    assert_eq!(study.series[choice.series].number, Some(3));
    let error = choose(study, &request(SeriesSelector::Number(9))).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NothingFits);
}

#[test]
fn where_nothing_fits_each_series_has_its_reason() {
    let (_folder, found) = rich_study();
    let study = &found.studies[0];
    let request = Request { modality: vec!["CT".into()], ..Request::default() };
    assert_eq!(fit(&study.series[0], &request).broken, ["modality is MR, asked for is CT"]);
    let error = choose(study, &request).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NothingFits);
    for n in 1..=4 {
        assert!(error.to_string().contains(&format!("series {n}: modality is MR")), "{error}");
    }
}

fn zip_of(files: &[(String, Vec<u8>)], path: &Path) {
    let mut zip = zip::ZipWriter::new(fs::File::create(path).unwrap());
    for (name, bytes) in files {
        zip.start_file(name.as_str(), zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

#[test]
fn a_zip_gives_the_volume_of_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut members: Vec<(String, Vec<u8>)> =
        ct(5).iter().enumerate().map(|(i, f)| (format!("a/{}/f{i}", i % 2), f.file())).collect();
    members.push(("../escape.txt".into(), b"text".to_vec()));
    members.push(("inner.zip".into(), b"PK\x03\x04".to_vec()));
    let path = folder.path().join("export.zip");
    zip_of(&members, &path);
    let found = scan(&path, &Limits::default()).unwrap();
    assert_eq!(found.other_files["zip"], 1);
    assert_eq!(found.other_files["text"], 1);
    let (_other, same) = scanned(&ct(5));
    let (a, b) = (volume(&found, 0), volume(&same, 0));
    assert_eq!((a.voxels, a.affine), (b.voxels, b.affine));
    assert!(a.frames[0].file.to_string_lossy().contains("export.zip!a/"));
    assert!(!folder.path().parent().unwrap().join("escape.txt").exists());
}

#[test]
fn reading_gives_the_digest_that_the_files_have_by_themselves() {
    let alone = |found: &Scan| digest(found, &found.studies[0].series[0], 0, &Limits::default()).unwrap();
    let (_folder, found) = scanned(&ct(5));
    let whole = volume(&found, 0).sha256;
    assert_eq!(whole, alone(&found));
    let mut files = ct(5);
    files.reverse();
    let (_folder, reversed) = scanned(&files);
    assert_eq!(volume(&reversed, 0).sha256, whole, "the order of the slices decides, not that of the files");
    files[1] = files[1].clone().set(0x0008_103E, "LO", "other");
    assert_ne!(volume(&scanned(&files).1, 0).sha256, whole);
    // What lies behind the pixels is part of the file, and of a single instance the digest is the file's.
    let (folder, one) = scanned(&[ct_slice(3, 0.0).set(0xFFFC_FFFC, "OB", [0; 40])]);
    let file = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let expected: String =
        Sha256::digest(fs::read(file).unwrap()).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!((volume(&one, 0).sha256, alone(&one)), (expected.clone(), expected));
}

#[test]
fn a_zip_bomb_and_too_many_members_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb.zip");
    zip_of(&[("zeros".into(), vec![0; 80 << 20])], &path);
    let error = scan(&path, &Limits::default()).err().unwrap();
    assert_eq!(error.kind, ErrorKind::RefusedArchive);
    zip_of(&[("a".into(), vec![0]), ("b".into(), vec![0])], &path);
    let limits = Limits { files: 1, ..Limits::default() };
    assert_eq!(scan(&path, &limits).err().unwrap().kind, ErrorKind::RefusedArchive);
    let limits = Limits { file_bytes: 1 << 20, ..Limits::default() };
    zip_of(&[("zeros".into(), vec![0; 2 << 20])], &path);
    assert_eq!(scan(&path, &limits).err().unwrap().kind, ErrorKind::RefusedArchive);
}

#[test]
fn a_dicomdir_names_its_files_and_none_outside_of_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("disc/IMAGES")).unwrap();
    let mut records = Vec::new();
    for (i, file) in ct(3).iter().enumerate() {
        file.write(&folder.path().join(format!("disc/IMAGES/IM{i}")));
        records.push(DataSet::default().set(0x0004_1500, "CS", format!("IMAGES\\IM{i}")));
    }
    ct_slice(9, 50.0).write(&folder.path().join("outside"));
    records.push(DataSet::default().set(0x0004_1500, "CS", "..\\outside"));
    let directory =
        DataSet::default().set(0x0008_0016, "UI", "1.2.840.10008.1.3.10").items(0x0004_1220, &records);
    let path = folder.path().join("disc/DICOMDIR");
    directory.write(&path);
    let found = scan(&path, &Limits::default()).unwrap();
    assert_eq!(found.instances, 3);
    assert_eq!(volume(&found, 0).dims, [4, 3, 3]);
    let walked = scan(&folder.path().join("disc"), &Limits::default()).unwrap();
    assert_eq!((walked.instances, walked.other_files["DICOMDIR"]), (3, 1));
}

#[test]
fn a_legacy_converted_object_gives_the_volume_of_its_slices() {
    let found = scan(&fixtures().join("dcmqi"), &Limits::default()).unwrap();
    let study = &found.studies[0];
    assert_eq!(study.left_out[0].kind, Exclusion::Segmentation);
    let read = |n: usize| read_volume(&found, &study.series[n], 0, &Limits::default()).unwrap();
    let (a, b) = (read(0), read(1));
    assert_eq!(a.dims, [23, 38, 3]);
    assert_eq!(a.voxels, b.voxels);
    assert_eq!(a.affine, b.affine);
    let frames = |v: &Volume| v.frames.iter().map(|f| f.frame_number).collect::<Vec<_>>();
    let mut numbers = [frames(&a), frames(&b)].concat();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 1, 1, 1, 2, 3]);
}

#[test]
fn no_identity_of_a_patient_reaches_a_fact_an_error_or_debug_output() {
    let planted = |set: DataSet| {
        set.set(0x0010_0010, "PN", "XSECRETNAME^JANE")
            .set(0x0010_0020, "LO", "XSECRETID")
            .set(0x0010_0030, "DA", "19700101")
            .set(0x0008_0080, "LO", "XSECRETHOSPITAL")
            .set(0x0009_0010, "LO", "XSECRETPRIVATE")
            .set(0x0009_1001, "LO", "XSECRETPRIVATE")
    };
    let mut files: Vec<DataSet> = ct(4).into_iter().map(planted).collect();
    // One of each that fails in its own way, with the name where a number belongs.
    files.push(planted(ct_slice(30, 70.0).set(0x0028_1053, "DS", "XSECRETNAME")));
    files.push(planted(ct_slice(31, 75.0).set(0x0020_0032, "DS", "XSECRETNAME\\1\\2")));
    files.push(planted(ct_slice(32, 80.0).set(0x0028_0010, "DS", "XSECRETNAME")));
    let (_folder, found) = scanned(&files);
    let mut text = format!("{:?} {:?}", found.studies, found.unreadable);
    for study in &found.studies {
        text += &format!("{:?}", choose(study, &Request::default()));
        for series in &study.series {
            for stack in 0..series.stacks.len() {
                match read_volume(&found, series, stack, &Limits::default()) {
                    Ok(v) => text += &format!("{:?} {:?} {:?}", v.warnings, v.frames, v.unit),
                    Err(e) => text += &format!("{e} {e:?}"),
                }
            }
        }
    }
    assert!(found.unreadable.len() == 1 && text.contains("bad-"));
    for secret in ["XSECRET", "19700101", "JANE"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}
