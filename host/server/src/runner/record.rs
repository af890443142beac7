//! From a job's scan to a case, and from its answers to the job's record.

use crate::jobs::{Answer, Job, LabelAnswer, NoveltyAnswer};
use crate::options::Outputs;
use anymc3d_host::engine::Case;
use anymc3d_host::output::{DicomWriter, ReportWriter, ResultWriter, standard_writers};
use anymc3d_host::run::{Blame, CaseOutput};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Says what is known of a case beside its files, and what those are called to others. A file that was uploaded tells its
/// case's name by its content: what the client calls it may be a patient's name.
pub(super) fn describe(case: &mut Case, job: &Job, folder: &Path) {
    if case.image.is_some() {
        let digest = job.upload_sha256.as_deref().unwrap_or(job.id.as_str());
        case.name = format!("scan-{}", digest.get(..12).unwrap_or(digest));
    }
    case.region.mask = job.region.mask.as_ref().map(|mask| folder.join(mask));
    case.region.point_mm = job.region.point_mm;
    for name in [Some(&job.scan), job.region.mask.as_ref()].into_iter().flatten() {
        case.copies.insert(folder.join(name), PathBuf::from(name));
    }
}

/// What is written of a case. `dicom`: its scan came as DICOM.
pub(super) fn writers(outputs: Outputs, dicom: bool) -> Vec<Arc<dyn ResultWriter>> {
    let mut writers = standard_writers(outputs.heatmap);
    if outputs.dicom && dicom {
        writers.push(Arc::new(DicomWriter));
    }
    if outputs.report {
        writers.push(Arc::new(ReportWriter::new(false)));
    }
    writers
}

pub(super) fn blame(blame: Blame) -> &'static str {
    match blame {
        Blame::Scan => "scan",
        Blame::Task => "plugin",
        Blame::Output => "writing",
    }
}

pub(super) fn answer_of(output: CaseOutput, results: &Path) -> Answer {
    let result = output.result;
    let files = &result.files;
    let named = [&files.heatmap, &files.preview, &files.segmentation, &files.report];
    let all = std::iter::once("result.json".to_owned())
        .chain(named.into_iter().flatten().cloned())
        .chain(files.dicom.iter().cloned())
        .collect();
    let folder = output.folder.as_deref().and_then(|folder| folder.strip_prefix(results).ok());
    let folder = folder.map_or_else(
        || format!("{}/{}", result.case, result.plugin.name),
        |folder| folder.to_string_lossy().into_owned(),
    );
    let predictions = result.predictions.iter().map(|p| LabelAnswer {
        label: p.label.clone(),
        probability: p.probability,
        positive: p.positive,
    });
    Answer {
        case: result.case,
        version: result.plugin.version,
        folder,
        files: all,
        predictions: predictions.collect(),
        novelty: result.novelty.map(|n| NoveltyAnswer {
            distance: n.distance,
            percentile: n.percentile,
            outside: n.outside,
            limit: n.limit,
        }),
        warnings: result.warnings,
        scan_sha256: result.input.sha256,
        library_sha256: result.plugin.sha256,
        weights_sha256: result.plugin.weights_sha256,
        plugin: result.plugin.name,
        backbone: result.backbone.name,
        backbone_sha256: result.backbone.sha256,
        milliseconds: result.timing_ms.total,
    }
}
