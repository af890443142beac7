//! The strongest heat lies on the same anatomy in the NIfTI file, in the DICOM map and in the report.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anymc3d_dicom::{Limits, read_file};
use anymc3d_manifest::Axis;
use serde_json::Value;

use super::writer::{ResultParts, ResultWriter};
use super::{DicomWriter, HeatmapWriter, ReportWriter, peak};
use crate::engine::result::{
    BackboneRecord, CaseResult, FilesRecord, InputRecord, LabelPrediction, Novelty, PluginRecord, SCHEMA,
    Timing, TopSlice, ViewRecord,
};
use crate::engine::{Case, ReadScan, ViewEvidence};
use crate::scan::tests::view;
use crate::scan::{Affine, Scan, slices};

/// Columns, rows and slices of the made series, and the millimetres between them: all differ.
const SHAPE: [usize; 3] = [14, 11, 9];
const SPACING: [f64; 3] = [2.0, 2.5, 3.5];
const CORNER: [f64; 3] = [-31.0, 17.0, 55.0];

fn axis(n: usize, sign: f64) -> [f64; 3] {
    let mut v = [0.0; 3];
    v[n] = sign;
    v
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// Rows run along `row`, columns along `column` (LPS); slices follow each other along their normal or against it.
fn write_series(folder: &Path, row: [f64; 3], column: [f64; 3], against: bool) {
    let normal = cross(row, column);
    let text = |v: &[f64]| v.iter().map(f64::to_string).collect::<Vec<_>>().join("\\");
    for slice in 0..SHAPE[2] {
        let step = slice as f64 * SPACING[2] * if against { -1.0 } else { 1.0 };
        let position: Vec<f64> = (0..3).map(|i| CORNER[i] + normal[i] * step).collect();
        let mut file = vec![0u8; 128];
        file.extend(b"DICM");
        let mut put = |group: u16, element: u16, vr: &[u8; 2], value: &[u8]| {
            let mut value = value.to_vec();
            if value.len() % 2 == 1 {
                value.push(if vr == b"UI" { 0 } else { b' ' });
            }
            file.extend(group.to_le_bytes());
            file.extend(element.to_le_bytes());
            file.extend(vr);
            if vr == b"OW" {
                file.extend([0, 0]);
                file.extend((value.len() as u32).to_le_bytes());
            } else {
                file.extend((value.len() as u16).to_le_bytes());
            }
            file.extend(value);
        };
        put(2, 0x10, b"UI", b"1.2.840.10008.1.2.1");
        put(8, 0x16, b"UI", b"1.2.840.10008.5.1.4.1.1.4");
        put(8, 0x18, b"UI", format!("1.2.3.{}", slice + 10).as_bytes());
        put(8, 0x60, b"CS", b"MR");
        put(0x10, 0x10, b"PN", b"Doe<script>^Jane");
        put(0x20, 0x0D, b"UI", b"1.2.3.1");
        put(0x20, 0x0E, b"UI", b"1.2.3.2");
        put(0x20, 0x11, b"IS", b"4");
        put(0x20, 0x13, b"IS", (slice + 1).to_string().as_bytes());
        put(0x20, 0x32, b"DS", text(&position).as_bytes());
        put(0x20, 0x37, b"DS", text(&[row, column].concat()).as_bytes());
        put(0x20, 0x52, b"UI", b"1.2.3.3");
        for (element, value) in [(0x02, 1), (0x10, SHAPE[1]), (0x11, SHAPE[0])] {
            put(0x28, element, b"US", &(value as u16).to_le_bytes());
        }
        put(0x28, 0x04, b"CS", b"MONOCHROME2");
        put(0x28, 0x30, b"DS", text(&[SPACING[1], SPACING[0]]).as_bytes());
        for (element, value) in [(0x100, 16u16), (0x101, 16), (0x102, 15), (0x103, 0)] {
            put(0x28, element, b"US", &value.to_le_bytes());
        }
        let pixels = (0..SHAPE[0] * SHAPE[1]).flat_map(|i| ((i * 7 + slice * 13) as u16 % 900).to_le_bytes());
        put(0x7FE0, 0x10, b"OW", &pixels.collect::<Vec<_>>());
        std::fs::write(folder.join(format!("{slice}.dcm")), file).unwrap();
    }
}

fn evidence(read: &Arc<ReadScan>, axis: Axis) -> (ViewEvidence, [f64; 3]) {
    let view = view(axis, 6, [56, 56], anymc3d_manifest::Fit::Square);
    let stack = slices(&read.volume, &view, 14).unwrap();
    let mut attention = vec![0.001; 6 * 16];
    // Slice 4, row 1, column 2 of 4 × 4 patches.
    attention[4 * 16 + 4 + 2] = 1.0;
    let expected = stack.grid.patch_centre_mm(4, 1.5 / 4.0, 2.5 / 4.0);
    let slice_weights = vec![1.0 / 6.0; 6];
    let read = read.clone();
    (ViewEvidence { view, read, stack, attention, grid: (4, 4), slice_weights, view_weight: 1.0 }, expected)
}

fn result(evidence: &ViewEvidence) -> CaseResult {
    let scan = &evidence.read.scan;
    let label = |probability: f64| LabelPrediction {
        label: "a<b".into(),
        probability,
        logit: 0.3,
        temperature: Some(1.5),
        threshold: Some(0.5),
        positive: true,
        spread: None,
    };
    CaseResult {
        schema: SCHEMA.into(),
        case: "case<1>".into(),
        input: InputRecord {
            path: "exam".into(),
            sha256: scan.sha256.clone(),
            shape: scan.shape,
            spacing_mm: scan.spacing_mm,
            orientation: scan.orientation.clone(),
            modality: None,
            modality_guess: None,
            other_views: Vec::new(),
            mask_sha256: None,
            point_mm: None,
        },
        plugin: PluginRecord {
            name: "p".into(),
            version: "1".into(),
            summary: "Is <i>it</i> there?".into(),
            sha256: "0".repeat(64),
            weights_sha256: "1".repeat(64),
            further_weights_sha256: Vec::new(),
            package: None,
        },
        backbone: BackboneRecord {
            name: "b".into(),
            sha256: "2".repeat(64),
            precision: "f32".into(),
            quantised_sha256: None,
        },
        device: "cpu".into(),
        provenance: Default::default(),
        host: "0".into(),
        options_sha256: None,
        values: Vec::new(),
        predictions: vec![label(0.55)],
        novelty: None,
        views: vec![ViewRecord {
            name: "v".into(),
            slices: 6,
            kept_patches: None,
            merge: 0,
            weights: evidence.slice_weights.clone(),
            view_weight: None,
            heatmap_of: "class_attention".into(),
            top_slices: vec![TopSlice {
                index: evidence.stack.grid.index_in_scan(4),
                weight: 1.0 / 6.0,
                position_mm: evidence.stack.grid.position_mm(4),
            }],
        }],
        segmentation: None,
        files: FilesRecord::default(),
        timing_ms: Timing::default(),
        warnings: vec!["a <warning>".into()],
        intended_use: "Research & tests.".into(),
    }
}

/// RAS mm of the strongest pixel of a parametric map, by the positions that stand in the file.
fn peak_of_map(path: &Path) -> [f64; 3] {
    let bytes = std::fs::read(path).unwrap();
    let values = |element: u16, group: u16| -> Vec<Vec<f64>> {
        let tag = [group.to_le_bytes(), element.to_le_bytes(), *b"DS"].concat();
        let found = (0..bytes.len() - 8).filter(|at| bytes[*at..].starts_with(&tag));
        let value = |at: usize| {
            let length = usize::from(u16::from_le_bytes([bytes[at + 6], bytes[at + 7]]));
            let text = std::str::from_utf8(&bytes[at + 8..at + 8 + length]).unwrap();
            text.split('\\').map(|n| n.trim().parse().unwrap()).collect()
        };
        found.map(value).collect()
    };
    let (positions, orientation, spacing) =
        (values(0x32, 0x20), &values(0x37, 0x20)[0], &values(0x30, 0x28)[0]);
    let map = read_file(path, &Limits::default()).unwrap();
    assert_eq!(positions.len(), map.dims[0]);
    let at = (0..map.values.len()).max_by(|a, b| map.values[*a].total_cmp(&map.values[*b])).unwrap();
    let [_, rows, columns] = map.dims;
    let (frame, row, column) = (at / (rows * columns), (at / columns % rows) as f64, (at % columns) as f64);
    let lps = [0, 1, 2].map(|i| {
        positions[frame][i] + column * spacing[1] * orientation[i] + row * spacing[0] * orientation[3 + i]
    });
    [-lps[0], -lps[1], lps[2]]
}

fn element<'a>(page: &'a str, id: &str) -> &'a str {
    let from = page.find(&format!("id=\"{id}\">")).unwrap() + id.len() + 6;
    &page[from..from + page[from..].find('<').unwrap()]
}

/// RAS mm of the strongest cell of a report's heat.
fn peak_of_report(page: &str) -> [f64; 3] {
    let told: Value = serde_json::from_str(element(page, "report-data")).unwrap();
    let scan = &told["scans"][0];
    let number = |v: &Value| v.as_f64().unwrap();
    let shape: Vec<usize> = scan["shape"].as_array().unwrap().iter().map(|n| number(n) as usize).collect();
    let packed = unbase64(element(page, "heat-0"));
    let mut heat = Vec::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut heat).unwrap();
    assert_eq!(heat.len(), shape.iter().product::<usize>());
    // Of equals the first, as in the viewer.
    let at = (0..heat.len()).rev().max_by_key(|i| heat[*i]).unwrap();
    let index = [at % shape[0], at / shape[0] % shape[1], at / (shape[0] * shape[1])].map(|i| i as f64);
    let mut affine = [[0.0, 0.0, 0.0, 1.0]; 4];
    for (row, told) in affine.iter_mut().zip(scan["affine"].as_array().unwrap()) {
        row.iter_mut().zip(told.as_array().unwrap()).for_each(|(v, t)| *v = number(t));
    }
    Affine(affine).apply(index)
}

fn unbase64(text: &str) -> Vec<u8> {
    let digit = |b: u8| match b {
        b'A'..=b'Z' => b - b'A',
        b'a'..=b'z' => b - b'a' + 26,
        b'0'..=b'9' => b - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b'=').map(digit).collect();
    let mut bytes = Vec::new();
    for chunk in digits.chunks(4) {
        let word = chunk.iter().enumerate().fold(0u32, |w, (i, d)| w | u32::from(*d) << (18 - 6 * i));
        bytes.extend_from_slice(&word.to_be_bytes()[1..chunk.len()]);
    }
    bytes
}

/// Distance in the largest of the three directions.
fn apart(a: [f64; 3], b: [f64; 3]) -> f64 {
    (0..3).map(|i| (a[i] - b[i]).abs()).fold(0.0, f64::max)
}

#[test]
fn in_48_orientations_and_three_views_the_peak_lies_on_the_same_anatomy_in_nifti_dicom_and_report() {
    let place = tempfile::tempdir().unwrap();
    let mut seen = 0;
    let signs = [1.0, -1.0];
    let pairs = (0..3).flat_map(|a| (0..3).filter(move |b| *b != a).map(move |b| (a, b)));
    for (a, b) in pairs {
        for (row_sign, column_sign, against) in
            signs.iter().flat_map(|r| signs.iter().flat_map(move |c| [(*r, *c, false), (*r, *c, true)]))
        {
            let series = place.path().join(format!("series{seen}"));
            std::fs::create_dir(&series).unwrap();
            write_series(&series, axis(a, row_sign), axis(b, column_sign), against);
            let (scan, volume) = Scan::open(&series).unwrap().into_canonical();
            let (shape, affine) = (scan.shape, scan.affine);
            let read = Arc::new(ReadScan::new(scan, volume));
            for cut in [Axis::Axial, Axis::Coronal, Axis::Sagittal] {
                let (evidence, expected) = evidence(&read, cut);
                let mut result = result(&evidence);
                let folder = place.path().join(format!("out{seen}{cut:?}"));
                std::fs::create_dir(&folder).unwrap();
                let case = Case::of_file(&series);
                let views = [evidence];
                let parts = ResultParts { case: &case, evidence: &views, mask: None };
                let report = ReportWriter::new(false);
                let writers: [&dyn ResultWriter; 3] = [&HeatmapWriter, &DicomWriter, &report];
                for writer in writers {
                    writer.write(&parts, &mut result, &folder).unwrap();
                }
                let heatmap = Scan::open(&folder.join("heatmap.nii.gz")).unwrap();
                let nifti = peak(&heatmap.voxels, shape, &affine).unwrap().position_mm;
                let map = peak_of_map(&folder.join("dicom/heatmap.dcm"));
                let page = std::fs::read_to_string(folder.join("report.html")).unwrap();
                let shown = peak_of_report(&page);
                let what = format!(
                    "{cut:?} of rows along {a} {row_sign}, columns along {b} {column_sign}, {against}"
                );
                // A voxel's half, and what lies between the middles of patches.
                assert!(apart(nifti, expected) <= 3.5, "{what}: {nifti:?} is not at {expected:?}");
                // Equal voxels may lie beside each other; never further.
                assert!(apart(map, nifti) <= 3.51, "{what}: the map's {map:?} is not at {nifti:?}");
                assert!(apart(shown, nifti) <= 3.51, "{what}: the report's {shown:?} is not at {nifti:?}");
            }
            seen += 1;
        }
    }
    assert_eq!(seen, 48);
}

/// An axial series in a new folder, and what a view of it tells.
fn series_in(place: &Path) -> (PathBuf, ViewEvidence) {
    let series = place.join("series");
    std::fs::create_dir(&series).unwrap();
    write_series(&series, axis(0, 1.0), axis(1, 1.0), false);
    let (scan, volume) = Scan::open(&series).unwrap().into_canonical();
    let (evidence, _) = evidence(&Arc::new(ReadScan::new(scan, volume)), Axis::Axial);
    (series, evidence)
}

#[test]
fn a_report_shows_a_name_with_markup_as_text_and_only_where_identity_is_kept() {
    let place = tempfile::tempdir().unwrap();
    let (series, evidence) = series_in(place.path());
    let case = Case::of_file(&series);
    let mut pages = Vec::new();
    let views = [evidence];
    for keep in [false, true] {
        let mut result = result(&views[0]);
        let parts = ResultParts { case: &case, evidence: &views, mask: None };
        ReportWriter::new(keep).write(&parts, &mut result, place.path()).unwrap();
        assert_eq!(result.files.report.as_deref(), Some("report.html"));
        pages.push(std::fs::read_to_string(place.path().join("report.html")).unwrap());
    }
    let (without, with) = (&pages[0], &pages[1]);
    // With what follows the letters: packed numbers as text hold any three of them.
    for part in ["Doe&lt;", "Doe<", "Jane<", " Jane"] {
        assert!(!without.contains(part), "{part}");
    }
    assert!(with.contains("Doe&lt;script&gt; Jane</td>"));
    for page in &pages {
        assert!(page.contains("Is &lt;i&gt;it&lt;/i&gt; there?") && page.contains("case&lt;1&gt;"));
        assert!(page.contains("a &lt;warning&gt;") && page.contains("Research &amp; tests."));
        assert_eq!(page.matches("<script>").count(), 1, "only the viewer runs");
        assert!(
            page.contains("Series</th><td>series 4 (9 slices every 3.50 mm, axial)"),
            "the choice is told"
        );
        for remote in ["http:", "https:", "src=\"//", "@import"] {
            assert!(!page.contains(remote), "{remote}");
        }
    }
}

#[test]
fn a_report_says_how_far_the_scan_is_from_the_training_cases_and_warns_where_it_is_outside() {
    let place = tempfile::tempdir().unwrap();
    let (series, evidence) = series_in(place.path());
    let (case, views) = (Case::of_file(&series), [evidence]);
    let page = |novelty: Option<Novelty>| {
        let mut result = CaseResult { novelty, ..result(&views[0]) };
        let parts = ResultParts { case: &case, evidence: &views, mask: None };
        ReportWriter::default().write(&parts, &mut result, place.path()).unwrap();
        std::fs::read_to_string(place.path().join("report.html")).unwrap()
    };
    let far = Novelty {
        view: Some("t<1>".into()),
        distance: 63.14,
        percentile: 100.0,
        outside: true,
        limit: 41.2,
        reference_cases: 400,
    };
    let near = Novelty { view: None, distance: 23.0, percentile: 56.5, outside: false, ..far.clone() };
    let told =
        "Distance from the 400 training cases: 23.0, farther than 56.5 % of them; 99.5 % are within 41.2.";
    assert!(page(Some(near)).contains(&format!("<p id=\"novelty\">{told}</p>")));
    let outside = page(Some(far));
    let warning = "<p class=\"notice\" role=\"note\" id=\"novelty\">The scan is unlike those that the weights were trained on.";
    assert!(
        outside.contains(warning) && outside.contains("cases (view t&lt;1&gt;): 63.1, farther than 100.0 %")
    );
    assert!(!page(None).contains("id=\"novelty\""), "weights that do not tell");
}

#[test]
fn dicom_objects_name_every_file_of_weights_that_answered() {
    let place = tempfile::tempdir().unwrap();
    let (_, evidence) = series_in(place.path());
    let mut result = result(&evidence);
    result.plugin.further_weights_sha256 = vec!["3".repeat(64), "4".repeat(64)];
    let named = super::dicom_objects::algorithm(&result).parameters;
    for digit in ["1", "3", "4"] {
        let line = format!("weights sha256 {}", digit.repeat(64));
        assert_eq!(named.iter().filter(|p| **p == line).count(), 1, "{named:?}");
    }
}
