//! `dicom/`: the answer as DICOM objects (report, heatmap, mask, picture) that refer to the series it was computed from.
//!
//! The patient's identity is carried over from the series into these objects, as DICOM wants it, and into nothing else.

use super::evidence::{heat_of, part, preview};
use super::mask::SegmentationMask;
use super::preview::picture_of;
use super::writer::{ResultParts, ResultWriter, WriterSpec};
use super::{ViewHeat, on_scan};
use crate::engine::result::{CaseResult, LabelPrediction};
use crate::engine::{ReadScan, ViewEvidence};
use crate::scan::dicom::ResultSource;
use crate::scan::dicom::write::{
    Algorithm, Code, Finding, Moment, OWN_SCHEME, Object, ParametricMap, Picture, Provenance, Report,
    Segment, Segmentation, SegmentationEncoding, Software, SourceSeries, TellingSlice, Uids, parametric_map,
    secondary_capture, segmentation, structured_report,
};
use std::path::Path;
use std::sync::Arc;

/// The folder of the objects, beside `result.json`.
const FOLDER: &str = "dicom";
/// SeriesNumber of the first object: above what scanners count.
const FIRST_SERIES: u32 = 9001;
/// Slices per view that a report refers to.
const TELLING: usize = 3;

/// A series that some views were read from.
struct Read {
    scan: Arc<ReadScan>,
    source: ResultSource,
    /// Indices of its views.
    views: Vec<usize>,
}

/// Bytes of a voxel: the heatmap on the scan and on the frames, as an element and as a file. All stand in memory before the
/// first object is written.
const OF_A_VOXEL: usize = 20;

/// Writes `dicom/`. Where no view came from DICOM it writes nothing; every view that the objects leave out is a warning.
#[derive(Debug, Clone, Copy, Default)]
pub struct DicomWriter;

impl ResultWriter for DicomWriter {
    fn spec(&self) -> WriterSpec {
        WriterSpec::named("dicom")
    }

    fn needs_evidence(&self) -> bool {
        true
    }

    fn bytes_per_voxel(&self) -> usize {
        OF_A_VOXEL
    }

    fn write(&self, parts: &ResultParts<'_>, result: &mut CaseResult, folder: &Path) -> Result<(), String> {
        let reads = reads(result, parts.evidence)?;
        if reads.is_empty() {
            return Ok(());
        }
        let objects = objects(result, parts.evidence, parts.mask, &reads)?;
        std::fs::create_dir(folder.join(FOLDER)).map_err(|e| format!("{FOLDER} cannot be made ({e})"))?;
        for (name, object) in objects {
            let name = format!("{FOLDER}/{name}.dcm");
            std::fs::write(folder.join(&name), object.bytes)
                .map_err(|e| format!("{name} cannot be written ({e})"))?;
            result.files.dicom.push(name);
        }
        Ok(())
    }
}

/// The series of the views, each once, all of one study.
fn reads(result: &mut CaseResult, views: &[ViewEvidence]) -> Result<Vec<Read>, String> {
    let mut reads: Vec<Read> = Vec::new();
    for (index, view) in views.iter().enumerate() {
        if let Some(known) = reads.iter_mut().find(|r| Arc::ptr_eq(&r.scan, &view.read)) {
            known.views.push(index);
            continue;
        }
        let name = result.views.get(index).map_or("", |v| v.name.as_str());
        let refused = |e: crate::scan::VolumeError| format!("DICOM objects of view {name}: {e}");
        let Some(source) = ResultSource::of(&view.read.scan.path).map_err(refused)? else {
            result.warnings.push(format!(
                "no DICOM objects of view {name}: its scan does not come from a DICOM series, and results in DICOM must refer to \
                 one"
            ));
            continue;
        };
        let study = |s: &ResultSource| s.series.study_uid.clone();
        if reads.first().is_some_and(|first| study(&first.source) != study(&source)) {
            result.warnings.push(format!(
                "no DICOM objects of view {name}: its series belongs to another study than the first view's"
            ));
            continue;
        }
        result.warnings.extend(source.series.warnings.iter().cloned());
        reads.push(Read { scan: view.read.clone(), source, views: vec![index] });
    }
    Ok(reads)
}

fn objects(
    result: &CaseResult,
    views: &[ViewEvidence],
    mask: Option<&SegmentationMask>,
    reads: &[Read],
) -> Result<Vec<(String, Object)>, String> {
    let failed = |e: anymc3d_dicom::DicomError| format!("DICOM objects: {}", e.without_file());
    let heats: Vec<Vec<f32>> = views.iter().map(heat_of).collect();
    let mut origin = Provenance {
        software: Software {
            name: "anymc3d-host".into(),
            version: result.host.clone(),
            serial: String::new(),
        },
        made: Moment::now(0),
        uids: Uids::new(None).map_err(failed)?,
        series_number: FIRST_SERIES,
    };
    let plugin = format!("{} {}", result.plugin.name, result.plugin.version);
    let mut maps = Vec::new();
    let mut telling: Vec<(f32, TellingSlice)> = Vec::new();
    for (at, read) in reads.iter().enumerate() {
        let parts: Vec<ViewHeat<'_>> = read.views.iter().map(|&v| part(&views[v], &heats[v])).collect();
        let heat = on_scan(&parts).ok_or("heatmap: the slices do not fit their scan")?;
        let values = read.source.onto_frames(&heat);
        drop(heat);
        for &view in &read.views {
            telling.extend(telling_slices(result, views, view, at, &read.source, &values));
        }
        let map = ParametricMap {
            values: &values,
            title: format!("Heatmap, {plugin}"),
            unit: None,
            quantity: None,
        };
        let name = match at {
            0 => "heatmap".to_owned(),
            _ => format!("heatmap_{}", plain(&result.views[read.views[0]].name)),
        };
        maps.push((name, parametric_map(&read.source.series, &map, &mut origin).map_err(failed)?));
    }
    telling.sort_by(|a, b| b.0.total_cmp(&a.0));
    let telling: Vec<TellingSlice> = telling.into_iter().map(|(_, slice)| slice).collect();
    let sources: Vec<&SourceSeries> = reads.iter().map(|r| &r.source.series).collect();
    let report = structured_report(&sources, &report(result, &telling), &mut origin).map_err(failed)?;
    let mut objects = vec![("sr".to_owned(), report)];
    objects.extend(maps);
    let of_mask = mask.and_then(|m| Some((m, reads.iter().find(|r| Arc::ptr_eq(&r.scan, &m.read))?)));
    if let Some((mask, read)) = of_mask {
        let voxels: Vec<f32> = mask.voxels.iter().map(|v| f32::from(*v)).collect();
        let labels: Vec<u8> =
            read.source.onto_frames(&voxels).into_iter().map(|v| u8::from(v >= 0.5)).collect();
        let object = segmentation(&read.source.series, &segments(result, &labels), &mut origin);
        objects.push(("segmentation".to_owned(), object.map_err(failed)?));
    }
    // Without the case's name: an object that says it has no text burned in must have none that tells whose it is.
    let picture = preview(result, views, "", picture_of)?;
    let rgb = picture.rgb();
    let picture = Picture { rgb: &rgb, rows: picture.height(), columns: picture.width() };
    let title = format!("Preview, {plugin}");
    let object = secondary_capture(&reads[0].source.series, &[picture], &title, &mut origin);
    objects.push(("preview".to_owned(), object.map_err(failed)?));
    Ok(objects)
}

/// The frames of a source that weighed most for a view, with their weight. Slices of the view that are frames are named as
/// the result names them; else frames are ranked by the heat in them (`values`: [frames, rows, columns]).
fn telling_slices(
    result: &CaseResult,
    views: &[ViewEvidence],
    view: usize,
    source: usize,
    of: &ResultSource,
    values: &[f32],
) -> Vec<(f32, TellingSlice)> {
    let (evidence, record) = (&views[view], &result.views[view]);
    let slice = |frame| TellingSlice { source, frame };
    let mut found: Vec<(f32, TellingSlice)> = Vec::new();
    if of.is_straight() && evidence.stack.grid.stored_axis() == 2 {
        for top in &record.top_slices {
            if found.iter().all(|(_, known)| known.frame != top.index) {
                found.push((evidence.view_weight * top.weight, slice(top.index)));
            }
        }
    }
    if found.is_empty() {
        let frames = values.chunks_exact(of.frame_voxels().max(1));
        let sums: Vec<f32> = frames.map(|frame| frame.iter().sum()).collect();
        let all = sums.iter().sum::<f32>().max(f32::MIN_POSITIVE);
        found =
            sums.iter().enumerate().map(|(f, sum)| (evidence.view_weight * sum / all, slice(f))).collect();
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
    }
    found.truncate(TELLING);
    found
}

fn report(result: &CaseResult, telling: &[TellingSlice]) -> Report {
    let finding = |p: &LabelPrediction| Finding {
        tracking_identifier: format!("{} {}", result.plugin.name, p.label),
        finding: own_code(result, &p.label),
        site: None,
        probability: p.probability.clamp(0.0, 1.0),
        threshold: p.threshold,
        // Of classes the most probable one is positive, which is no decision at a threshold.
        decision: p.threshold.map(|_| p.positive),
        calibration: Some(match p.temperature {
            Some(t) => format!("temperature scaling: the logit was divided by {t}"),
            None => "none: sigmoid or softmax of the logit".to_owned(),
        }),
        comment: Some(comment(result, p)),
        telling: telling.to_vec(),
    };
    Report {
        findings: result.predictions.iter().map(finding).collect(),
        algorithm: algorithm(result),
        procedure: None,
        target_region: None,
        person: None,
        device_uid: None,
    }
}

fn comment(result: &CaseResult, p: &LabelPrediction) -> String {
    let most = if p.threshold.is_none() && p.positive { "The most probable class. " } else { "" };
    format!("{most}Research use only, not for diagnosis. {}", result.intended_use)
}

/// What ran: every file of weights has a line of its own.
pub(super) fn algorithm(result: &CaseResult) -> Algorithm {
    let (plugin, backbone) = (&result.plugin, &result.backbone);
    let quantised = backbone.quantised_sha256.iter().map(|sha256| format!(", quantised layers {sha256}"));
    let quantised: String = quantised.collect();
    let mut parameters = vec![format!("library sha256 {}", plugin.sha256)];
    parameters.extend(plugin.all_weights().map(|sha256| format!("weights sha256 {sha256}")));
    parameters.push(format!(
        "backbone {} sha256 {} ({}{quantised})",
        backbone.name, backbone.sha256, backbone.precision
    ));
    parameters.push(format!("host {}, device {}", result.host, result.device));
    Algorithm { name: plugin.name.clone(), version: plugin.version.clone(), parameters }
}

/// No public scheme knows the labels of plugins.
fn own_code(result: &CaseResult, label: &str) -> Code {
    let name = &result.plugin.name;
    Code::new(&format!("{}.{}", plain(name), plain(label)), OWN_SCHEME, label)
}

fn segments<'a>(result: &CaseResult, labels: &'a [u8]) -> Segmentation<'a> {
    let label = match result.predictions.as_slice() {
        [one] => one.label.clone(),
        _ => result.plugin.name.clone(),
    };
    Segmentation {
        labels,
        segments: vec![Segment {
            category: Code::new("49755003", "SCT", "Morphologically Abnormal Structure"),
            kind: own_code(result, &label),
            label,
        }],
        title: format!("Segmentation, {} {}", result.plugin.name, result.plugin.version),
        algorithm: algorithm(result),
        encoding: SegmentationEncoding::Binary,
    }
}

/// As file names and codes allow it.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}
