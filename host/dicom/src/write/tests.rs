//! The objects, read back with the reader's own parser: real sources beside the tests, and small ones made here.

use std::path::{Path, PathBuf};

use super::attribute::*;
use super::encode::{DataSet, decimal, part10};
use super::*;
use crate::dataset::Dataset;
use crate::headers::{read_header, with_whole_file};
use crate::limits::Limits;
use crate::source::Source;
use crate::tags::{Tag, Vr};
use crate::{ErrorKind, Exclusion, read_file, read_volume, scan};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The first stack of the series with most slices.
fn source(path: &Path) -> SourceSeries {
    let limits = Limits::default();
    let found = scan(path, &limits).unwrap();
    let series = found.studies.iter().flat_map(|s| &s.series).max_by_key(|s| s.stacks[0].slices()).unwrap();
    SourceSeries::read(&found, series, 0, &limits).unwrap()
}

/// Three slices in a file each.
fn ct_slices() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for n in 1..4 {
        let name = format!("IMG000{n}.dcm");
        std::fs::copy(fixture("dcmqi").join(&name), folder.path().join(name)).unwrap();
    }
    folder
}

fn origin() -> Provenance {
    Provenance {
        software: Software { name: "test".into(), version: "1.2".into(), serial: String::new() },
        made: Moment { unix_seconds: 951_782_399, utc_offset_minutes: 60 },
        uids: Uids::seeded(None, [7; 32]).unwrap(),
        series_number: 900,
    }
}

fn report() -> Report {
    Report {
        findings: vec![Finding {
            tracking_identifier: "nodule".into(),
            finding: Code::new("4147007", "SCT", "Mass"),
            site: Some(Code::new("39607008", "SCT", "Lung")),
            probability: 1.0 / 3.0,
            threshold: Some(0.25),
            decision: Some(true),
            calibration: Some("Platt".into()),
            comment: Some("Research only".into()),
            telling: vec![TellingSlice { source: 0, frame: 2 }, TellingSlice { source: 0, frame: 0 }],
        }],
        algorithm: Algorithm {
            name: "net".into(),
            version: "3".into(),
            parameters: vec!["weights sha256 aa".into(), "slices 16".into()],
        },
        procedure: None,
        target_region: None,
        person: Some(Person { name: "Doe^Jane".into(), organization: None }),
        device_uid: None,
    }
}

fn mask<'a>(labels: &'a [u8], encoding: SegmentationEncoding) -> Segmentation<'a> {
    let segment = |label: &str| Segment {
        label: label.into(),
        category: Code::new("123037004", "SCT", "Anatomical Structure"),
        kind: Code::new("39607008", "SCT", "Lung"),
    };
    Segmentation {
        labels,
        segments: vec![segment("a"), segment("b")],
        title: "Mask".into(),
        algorithm: report().algorithm,
        encoding,
    }
}

fn map(values: &[f32]) -> ParametricMap<'_> {
    ParametricMap { values, title: "Heatmap".into(), unit: None, quantity: None }
}

fn saved(object: &Object) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("object.dcm");
    std::fs::write(&path, &object.bytes).unwrap();
    (folder, path)
}

fn with<T>(object: &Object, work: impl FnOnce(&Dataset) -> T) -> T {
    let (_folder, path) = saved(object);
    with_whole_file(&Source::File(path), &Limits::default(), |data, _, _| Ok(work(data))).unwrap()
}

fn tag(a: Attribute) -> Tag {
    let vr = if a.vr == *b"SQ" { Vr::Sequence } else { Vr::Text };
    Tag { number: a.tag, vr, name: "attribute" }
}

fn text(data: &Dataset, attribute: Attribute) -> String {
    data.text(tag(attribute)).unwrap_or_default()
}

fn item<'a>(data: &Dataset<'a>, sequence: Attribute) -> Dataset<'a> {
    data.item(tag(sequence)).unwrap().unwrap_or_default()
}

/// A content item and what is below it, a line each: depth, relation, value type, concept, value.
fn rows(data: &Dataset, depth: usize, out: &mut Vec<String>) {
    let code = |d: &Dataset| {
        let value = text(d, CodeValue);
        if value.is_empty() {
            String::new()
        } else {
            format!("({value}, {})", text(d, CodingSchemeDesignator))
        }
    };
    let value = match text(data, ValueType).as_str() {
        "CODE" => code(&item(data, ConceptCodeSequence)),
        "TEXT" => text(data, TextValue),
        "PNAME" => text(data, PersonName),
        "UIDREF" => if text(data, UID).starts_with("2.25.") { "new UID" } else { "UID" }.to_owned(),
        "IMAGE" => format!("#{}", text(&item(data, ReferencedSOPSequence), ReferencedSOPInstanceUID)),
        "NUM" => {
            let measured = item(data, MeasuredValueSequence);
            let unit = code(&item(&measured, MeasurementUnitsCodeSequence));
            format!("{} {unit}", text(&measured, NumericValue))
        }
        _ => text(&item(data, ContentTemplateSequence), TemplateIdentifier),
    };
    let concept = code(&item(data, ConceptNameCodeSequence));
    let relation = text(data, RelationshipType);
    out.push(
        format!("{}{relation} {} {concept} {value}", ">".repeat(depth), text(data, ValueType))
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" "),
    );
    for child in data.items(tag(ContentSequence)).unwrap() {
        rows(&child, depth + 1, out);
    }
}

#[test]
fn the_content_tree_is_that_of_tid_1500_row_by_row() {
    let source = source(ct_slices().path());
    let object = structured_report(&[&source], &report(), &mut origin()).unwrap();
    let mut found = Vec::new();
    with(&object, |data| rows(data, 0, &mut found));
    let instance = |n: usize| format!("#{}", source.frames[n].sop_instance);
    let images: Vec<String> =
        (0..source.frames()).map(|n| format!(">>>CONTAINS IMAGE {}", instance(n))).collect();
    let best = |n| format!(">>>CONTAINS IMAGE (121080, DCM) {}", instance(n));
    // TID 1500 row 1; row 2 is TID 1204, row 3 TID 1001 (1002, 1003, 1004), row 4 the procedure.
    let mut expected: Vec<String> = [
        "CONTAINER (126000, DCM) 1500",
        ">HAS CONCEPT MOD CODE (121049, DCM) (en, RFC5646)",
        ">HAS OBS CONTEXT CODE (121005, DCM) (121006, DCM)",
        ">HAS OBS CONTEXT PNAME (121008, DCM) Doe^Jane",
        ">HAS OBS CONTEXT CODE (121005, DCM) (121007, DCM)",
        ">HAS OBS CONTEXT UIDREF (121012, DCM) new UID",
        ">HAS OBS CONTEXT TEXT (121013, DCM) test",
        ">HAS OBS CONTEXT TEXT (121014, DCM) AnyMC3D",
        ">HAS OBS CONTEXT TEXT (121015, DCM) test",
        ">HAS OBS CONTEXT TEXT (121016, DCM) 0",
        ">HAS CONCEPT MOD CODE (121058, DCM) (363679005, SCT)",
        // Row 5: TID 1600, its group's descriptors (TID 1602), its images (TID 1601).
        ">CONTAINS CONTAINER (111028, DCM) 1600",
        ">>CONTAINS CONTAINER (126200, DCM)",
        ">>>HAS ACQ CONTEXT CODE (121139, DCM) (CT, DCM)",
        ">>>HAS ACQ CONTEXT CODE (123014, DCM) (38266002, SCT)",
        ">>>HAS ACQ CONTEXT UIDREF (112227, DCM) UID",
        ">>>HAS ACQ CONTEXT NUM (110910, DCM) 38 ({pixels}, UCUM)",
        ">>>HAS ACQ CONTEXT NUM (110911, DCM) 23 ({pixels}, UCUM)",
    ]
    .map(str::to_owned)
    .to_vec();
    let [between_rows, between_columns] = source.frames[0].plane.spacing;
    for (concept, mm) in [
        ("111026", between_columns),
        ("111066", between_rows),
        ("112226", source.gap_mm),
        ("112225", source.thickness_mm),
    ] {
        expected.push(format!(">>>HAS ACQ CONTEXT NUM ({concept}, DCM) {} (mm, UCUM)", decimal(mm)));
    }
    expected.extend(images);
    // Row 6, and row 9: TID 1501 with TID 4019, TID 300 and qualitative evaluations.
    expected.extend(
        [
            ">CONTAINS CONTAINER (126010, DCM)",
            ">>CONTAINS CONTAINER (125007, DCM) 1501",
            ">>>HAS OBS CONTEXT TEXT (112039, DCM) nodule",
            ">>>HAS OBS CONTEXT UIDREF (112040, DCM) new UID",
            ">>>CONTAINS CODE (121071, DCM) (4147007, SCT)",
            ">>>HAS CONCEPT MOD CODE (363698007, SCT) (39607008, SCT)",
            ">>>HAS CONCEPT MOD TEXT (111001, DCM) net",
            ">>>HAS CONCEPT MOD TEXT (111003, DCM) 3",
            ">>>HAS CONCEPT MOD TEXT (111002, DCM) weights sha256 aa",
            ">>>HAS CONCEPT MOD TEXT (111002, DCM) slices 16",
            ">>>CONTAINS NUM (122157, DCM) 0.33333333333333 (1, UCUM)",
            ">>>CONTAINS NUM (122411, DCM) 0.25 (1, UCUM)",
            ">>>CONTAINS CODE (DECISION, 99ANYMC3D) (52101004, SCT)",
            ">>>CONTAINS TEXT (CALIBRATION, 99ANYMC3D) Platt",
            ">>>CONTAINS TEXT (121106, DCM) Research only",
        ]
        .map(str::to_owned),
    );
    expected.extend([best(2), best(0)]);
    assert_eq!(found, expected);
}

#[test]
fn a_report_lists_its_evidence_and_says_that_nobody_verified_it() {
    let source = source(ct_slices().path());
    let object = structured_report(&[&source, &source], &report(), &mut origin()).unwrap();
    with(&object, |data| {
        assert_eq!(text(data, VerificationFlag), "UNVERIFIED");
        assert_eq!(text(data, SeriesDescription), "Research only - findings");
        assert_eq!(text(data, SeriesNumber), "900");
        let study = item(data, CurrentRequestedProcedureEvidenceSequence);
        assert_eq!(text(&study, StudyInstanceUID), source.study_uid);
        assert_eq!(study.items(tag(ReferencedSeriesSequence)).unwrap().len(), 1);
        let series = item(&study, ReferencedSeriesSequence);
        assert_eq!(text(&series, SeriesInstanceUID), source.series_uid);
        assert_eq!(series.items(tag(ReferencedSOPSequence)).unwrap().len(), 3);
    });
}

#[test]
fn maps_and_masks_lie_on_the_frames_of_the_source() {
    let limits = Limits::default();
    for name in ["dcmqi", "dcm_qa_enh"] {
        let source = source(&fixture(name));
        let n = source.frames() * source.rows * source.columns;
        let values: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin()).collect();
        // The first frame has no pixel of segment 2.
        let size = source.rows * source.columns;
        let labels: Vec<u8> = (0..n).map(|i| if i < size { (i % 2) as u8 } else { (i % 3) as u8 }).collect();
        let pm = parametric_map(&source, &map(&values), &mut origin()).unwrap();
        let seg = segmentation(&source, &mask(&labels, SegmentationEncoding::Binary), &mut origin()).unwrap();
        let labelled =
            segmentation(&source, &mask(&labels, SegmentationEncoding::LabelMap), &mut origin()).unwrap();
        let (_keep, path) = saved(&pm);
        assert_eq!(read_file(&path, &limits).unwrap().values, values, "{name}");
        let header = read_header(&Source::File(path), &limits).unwrap();
        for (frame, placed) in header.frames.iter().zip(&source.frames) {
            let plane = frame.plane.as_ref().unwrap();
            for axis in 0..3 {
                assert!((plane.position[axis] - placed.plane.position[axis]).abs() < 1e-9);
            }
        }
        let (_keep, path) = saved(&seg);
        let bits = read_file(&path, &limits).unwrap();
        assert_eq!(bits.dims[0], 2 * source.frames() - 1, "the empty frame of segment 2 is left out");
        let of = |label: u8| labels.iter().map(move |l| f32::from(u8::from(*l == label)));
        let expected: Vec<f32> = of(1).chain(of(2).skip(size)).collect();
        assert_eq!(bits.values, expected);
        let (_keep, path) = saved(&labelled);
        let expected: Vec<f32> = labels.iter().map(|l| f32::from(*l)).collect();
        assert_eq!(read_file(&path, &limits).unwrap().values, expected);
    }
}

#[test]
fn an_empty_mask_keeps_all_frames() {
    let source = source(&fixture("dcmqi"));
    let labels = vec![0; source.frames() * source.rows * source.columns];
    let object = segmentation(&source, &mask(&labels, SegmentationEncoding::Binary), &mut origin()).unwrap();
    with(&object, |data| assert_eq!(text(data, NumberOfFrames), "6"));
}

#[test]
fn the_reader_leaves_our_own_objects_out_by_name() {
    let folder = ct_slices();
    let source = source(folder.path());
    let n = source.frames() * source.rows * source.columns;
    let picture = Picture { rgb: &[9; 27], rows: 3, columns: 3 };
    let (zeros, labels, origin) = (vec![0.5; n], vec![1; n], &mut origin());
    let objects = [
        structured_report(&[&source], &report(), origin).unwrap(),
        parametric_map(&source, &map(&zeros), origin).unwrap(),
        segmentation(&source, &mask(&labels, SegmentationEncoding::Binary), origin).unwrap(),
        secondary_capture(&source, &[picture], "", origin).unwrap(),
        secondary_capture(&source, &[picture; 2], "", origin).unwrap(),
    ];
    for (i, object) in objects.iter().enumerate() {
        std::fs::write(folder.path().join(format!("result{i}")), &object.bytes).unwrap();
    }
    let found = scan(folder.path(), &Limits::default()).unwrap();
    assert_eq!(found.studies.len(), 1, "results belong to the study of their source");
    assert_eq!(found.studies[0].series.len(), 1);
    assert_eq!(found.studies[0].left_out.len(), objects.len());
    assert!(found.studies[0].left_out.iter().all(|l| l.kind == Exclusion::OwnResult));
    let uids: std::collections::HashSet<_> = objects.iter().map(|o| &o.sop_instance).collect();
    assert_eq!(uids.len(), objects.len());
}

/// Two slices whose header holds these elements too.
fn made_up(elements: impl Fn(&mut DataSet)) -> tempfile::TempDir {
    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
    let folder = tempfile::tempdir().unwrap();
    for n in 0..2 {
        let uid = format!("1.2.3.{n}");
        let mut data = DataSet::default();
        data.text(SOPClassUID, CT)
            .text(SOPInstanceUID, &uid)
            .text(Modality, "CT")
            .text(StudyInstanceUID, "1.2.4")
            .text(SeriesInstanceUID, "1.2.5")
            .decimals(ImagePositionPatient, &[0.0, 0.0, f64::from(n)])
            .decimals(ImageOrientationPatient, &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
            .decimals(PixelSpacing, &[1.0, 1.0])
            .u16(SamplesPerPixel, 1)
            .text(PhotometricInterpretation, "MONOCHROME2")
            .u16(Rows, 2)
            .u16(Columns, 2)
            .u16(BitsAllocated, 8)
            .u16(BitsStored, 8)
            .u16(HighBit, 7)
            .u16(PixelRepresentation, 0)
            .bytes(PixelData, vec![n; 4]);
        elements(&mut data);
        std::fs::write(folder.path().join(&uid), part10(&data, CT, &uid, true).unwrap()).unwrap();
    }
    folder
}

#[test]
fn patient_and_study_are_carried_over_and_nothing_invalid_with_them() {
    let folder = made_up(|d| {
        d.text(SpecificCharacterSet, "ISO_IR 100")
            .bytes(PatientName, b"M\xFCller^J\xF6rg".to_vec())
            .text(PatientID, "  42")
            .text(PatientBirthDate, "1.1.1970")
            .text(PatientSex, "W")
            .text(StudyDate, "20200229")
            .text(TimezoneOffsetFromUTC, "-0800")
            .text(PatientIdentityRemoved, "YES")
            .item(ProcedureCodeSequence, Code::new("X1", "99LOCAL", "CT chest").item());
    });
    let object = parametric_map(&source(folder.path()), &map(&[0.0; 8]), &mut origin()).unwrap();
    with(&object, |data| {
        assert_eq!(text(data, SpecificCharacterSet), "ISO_IR 192");
        assert_eq!(text(data, PatientName), "Müller^Jörg");
        assert_eq!(text(data, PatientID), "42");
        assert_eq!(text(data, StudyDate), "20200229");
        assert_eq!(text(data, StudyInstanceUID), "1.2.4");
        for left_out in [PatientBirthDate, PatientSex] {
            let empty = data.elements.iter().find(|e| e.tag == left_out.tag).unwrap();
            assert!(empty.value.is_empty(), "type 2: present and empty");
        }
        assert_eq!(text(data, TimezoneOffsetFromUTC), "-0800");
        assert_eq!((text(data, ContentDate), text(data, ContentTime)), ("20000228".into(), "155959".into()));
        assert_eq!(text(&item(data, ProcedureCodeSequence), CodeValue), "X1");
        assert!(!text(data, DeidentificationMethod).is_empty());
    });
}

#[test]
fn text_in_other_character_sets_keeps_its_bytes() {
    let name = b"Yamada^Tarou=\x1B$B;3ED\x1B(B";
    let folder = made_up(|d| {
        d.texts(SpecificCharacterSet, &["", "ISO 2022 IR 87"]).bytes(PatientName, name.to_vec());
    });
    let source = source(folder.path());
    let mut german = report();
    german.findings[0].telling.clear();
    german.findings[0].comment = Some("für Forschung".into());
    let object = structured_report(&[&source], &german, &mut origin()).unwrap();
    with(&object, |data| {
        assert_eq!(text(data, SpecificCharacterSet), "\\ISO 2022 IR 87");
        let found = data.bytes(tag(PatientName)).unwrap();
        assert_eq!(&found[..name.len()], name);
        let mut lines = Vec::new();
        rows(data, 0, &mut lines);
        assert!(lines.iter().any(|l| l.ends_with("f?r Forschung")));
    });
}

#[test]
fn laterality_is_written_for_parts_that_may_be_paired_and_empty_where_nobody_said_the_side() {
    let find = |elements: &dyn Fn(&mut DataSet)| {
        let source = source(made_up(elements).path());
        let object = parametric_map(&source, &map(&[0.0; 8]), &mut origin()).unwrap();
        with(&object, |data| {
            let laterality = data.elements.iter().find(|e| e.tag == Laterality.tag);
            (text(data, BodyPartExamined), laterality.map(|e| e.value.to_vec()))
        })
    };
    let with_part = |part: &'static str, side: &'static str| {
        find(&move |d: &mut DataSet| {
            d.text(BodyPartExamined, part).text(ImageLaterality, side);
        })
    };
    assert_eq!(find(&|_| {}), (String::new(), Some(Vec::new())));
    assert_eq!(with_part("PARTIALBODY", ""), ("PARTIALBODY".into(), Some(Vec::new())));
    assert_eq!(with_part("KNEE", "L"), ("KNEE".into(), Some(b"L ".to_vec())));
    assert_eq!(with_part("CHEST", "L"), ("CHEST".into(), None));
}

#[test]
fn a_source_without_study_uid_gets_one_of_its_own_and_a_warning() {
    let folder = made_up(|d| {
        d.empty(StudyInstanceUID);
    });
    let (a, b) = (source(folder.path()), source(folder.path()));
    assert!(a.study_uid.starts_with("2.25."));
    assert_eq!(a.study_uid, b.study_uid);
    assert!(a.warnings[0].contains("StudyInstanceUID"));
}

#[test]
fn what_does_not_fit_is_refused_with_numbers() {
    let source = source(&fixture("dcmqi"));
    let n = source.frames() * source.rows * source.columns;
    let origin = &mut origin();
    let refused = |result: crate::error::Result<Object>| {
        let error = result.unwrap_err();
        assert_eq!(error.kind, ErrorKind::BadAttribute);
        error.without_file().to_owned()
    };
    assert!(refused(parametric_map(&source, &map(&[0.0; 5]), origin)).contains("5 values"));
    let mut values = vec![0.0; n];
    values[3] = f32::NAN;
    assert!(refused(parametric_map(&source, &map(&values), origin)).contains("value 3"));
    let labels = vec![3; n];
    let three = mask(&labels, SegmentationEncoding::Binary);
    assert!(refused(segmentation(&source, &three, origin)).contains("label 3"));
    let mut wrong = report();
    wrong.findings[0].probability = 33.0;
    assert!(refused(structured_report(&[&source], &wrong, origin)).contains("33"));
    let mut wrong = report();
    wrong.findings[0].telling = vec![TellingSlice { source: 0, frame: 3 }];
    assert!(refused(structured_report(&[&source], &wrong, origin)).contains("no frame 3"));
    assert!(refused(structured_report(&[], &report(), origin)).contains("source"));
    assert!(refused(secondary_capture(&source, &[], "", origin)).contains("no picture"));
    let picture = Picture { rgb: &[0; 5], rows: 1, columns: 2 };
    assert!(refused(secondary_capture(&source, &[picture], "", origin)).contains("5 bytes"));
}

#[test]
fn decimal_strings_have_sixteen_characters_at_most() {
    for value in
        [0.0, -0.0, 1.0 / 3.0, -1.0 / 3.0, 1e-17, -1.234_567_890_123e-301, 123_456_789.123_456_79, 4e20]
    {
        let text = decimal(value);
        let back: f64 = text.parse().unwrap();
        assert!(text.len() <= 16 && (back - value).abs() <= 1e-8 * value.abs(), "{value} {text}");
    }
}

#[test]
fn a_volume_and_its_source_have_the_same_frames() {
    let limits = Limits::default();
    let found = scan(&fixture("dcmqi"), &limits).unwrap();
    let series = &found.studies[0].series[0];
    let volume = read_volume(&found, series, 0, &limits).unwrap();
    let source = SourceSeries::read(&found, series, 0, &limits).unwrap();
    let uids = |i: usize| (&volume.frames[i].sop_instance, &source.frames[i].sop_instance);
    assert!((0..volume.frames.len()).all(|i| uids(i).0 == uids(i).1));
}
