//! Writes a made-up result of a DICOM folder as the objects that a PACS takes: a report, a heatmap, masks, pictures;
//! beside them `expected.json` and the values, for `tests/outside/dicom_out.py`.
//!
//! `write_results PATH FOLDER`

use std::path::Path;

use anymc3d_dicom::write::{
    Algorithm, Code, Finding, Moment, Object, ParametricMap, Picture, Provenance, Report, Segment,
    Segmentation, SegmentationEncoding, Software, SourceSeries, TellingSlice, Uids, parametric_map,
    secondary_capture, segmentation, structured_report,
};
use anymc3d_dicom::{Limits, Volume, read_volume, scan};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let [path, folder] = args.as_slice() else { return Err("write_results PATH FOLDER".into()) };
    let (limits, folder) = (Limits::default(), Path::new(folder));
    let found = scan(Path::new(path), &limits)?;
    let all = || found.studies.iter().flat_map(|s| &s.series);
    let largest = all().max_by_key(|s| s.stacks[s.largest_stack()].slices());
    let series = largest.ok_or("no series is a volume")?;
    let stack = series.largest_stack();
    let volume = read_volume(&found, series, stack, &limits)?;
    let source = SourceSeries::read(&found, series, stack, &limits)?;

    let heat = volume.onto_frames(&ball(&volume));
    let labels: Vec<u8> = heat.iter().map(|h| if *h > 0.8 { 2 } else { u8::from(*h > 0.5) }).collect();
    let mut origin = Provenance {
        software: Software { name: "made-up result".into(), version: "1.0".into(), serial: "example".into() },
        made: Moment::now(60),
        uids: Uids::new(None)?,
        series_number: 9001,
    };
    let algorithm = Algorithm {
        name: "example".into(),
        version: "1.0".into(),
        parameters: vec!["weights sha256 9f86d081884c7d65".into()],
    };
    let report = report(&algorithm, volume.frames.len());
    let map = ParametricMap { values: &heat, title: "Heatmap".into(), unit: None, quantity: None };
    let mask = |encoding| Segmentation {
        labels: &labels,
        segments: vec![segment("outer"), segment("inner")],
        title: "Mask".into(),
        algorithm: algorithm.clone(),
        encoding,
    };
    let pixels: Vec<u8> = (0..3 * 33 * 35).map(|i| (i % 251) as u8).collect();
    let picture = Picture { rgb: &pixels, rows: 33, columns: 35 };
    std::fs::create_dir_all(folder)?;
    let write = |name: &str, object: Object| std::fs::write(folder.join(name), object.bytes);
    write("sr.dcm", structured_report(&[&source], &report, &mut origin)?)?;
    write("pm.dcm", parametric_map(&source, &map, &mut origin)?)?;
    write("seg.dcm", segmentation(&source, &mask(SegmentationEncoding::Binary), &mut origin)?)?;
    write("labelmap.dcm", segmentation(&source, &mask(SegmentationEncoding::LabelMap), &mut origin)?)?;
    write("sc.dcm", secondary_capture(&source, &[picture], "Preview", &mut origin)?)?;
    write("sc_frames.dcm", secondary_capture(&source, &[picture, picture], "Preview", &mut origin)?)?;

    std::fs::write(folder.join("heat.f32"), heat.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())?;
    std::fs::write(folder.join("labels.u8"), &labels)?;
    std::fs::write(folder.join("picture.rgb"), &pixels)?;
    let expected = serde_json::json!({
        "frames": volume.frames.iter()
            .map(|f| serde_json::json!({"sop_instance": f.sop_instance, "frame": f.frame_number, "file": f.file}))
            .collect::<Vec<_>>(),
        "size": volume.frame_size(),
        "probability": report.findings[0].probability,
        "threshold": report.findings[0].threshold,
        "telling": report.findings[0].telling.iter().map(|t| t.frame).collect::<Vec<_>>(),
    });
    std::fs::write(folder.join("expected.json"), expected.to_string())?;
    Ok(())
}

/// Falls from 1 at a point off the middle to 0, [slices, rows, columns] of the volume.
fn ball(volume: &Volume) -> Vec<f32> {
    let [columns, rows, slices] = volume.dims;
    let radius = 0.4 * columns as f64 * volume.spacing_mm[0];
    let centre = [0.4, 0.55, 0.6];
    let mut heat = Vec::with_capacity(volume.voxels.len());
    for k in 0..slices {
        for j in 0..rows {
            for i in 0..columns {
                let at = [i, j, k].map(|x| x as f64);
                let squares = (0..3).map(|d| {
                    ((at[d] - centre[d] * (volume.dims[d] - 1) as f64) * volume.spacing_mm[d]).powi(2)
                });
                heat.push((1.0 - squares.sum::<f64>().sqrt() / radius).max(0.0) as f32);
            }
        }
    }
    heat
}

fn report(algorithm: &Algorithm, frames: usize) -> Report {
    Report {
        findings: vec![Finding {
            tracking_identifier: "mass".into(),
            finding: Code::new("4147007", "SCT", "Mass"),
            site: Some(Code::new("39607008", "SCT", "Lung")),
            probability: 1.0 / 3.0,
            threshold: Some(0.25),
            decision: Some(true),
            calibration: Some("none: raw sigmoid".into()),
            comment: Some("Made up. Research only, not for diagnosis.".into()),
            telling: vec![
                TellingSlice { source: 0, frame: frames / 2 },
                TellingSlice { source: 0, frame: frames - 1 },
            ],
        }],
        algorithm: algorithm.clone(),
        procedure: None,
        target_region: None,
        person: None,
        device_uid: None,
    }
}

fn segment(label: &str) -> Segment {
    Segment {
        label: label.into(),
        category: Code::new("49755003", "SCT", "Morphologically Abnormal Structure"),
        kind: Code::new("4147007", "SCT", "Mass"),
    }
}
