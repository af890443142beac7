//! What a prediction was made from, as files: `heatmap.nii.gz` on the scan's own grid and `preview.png`.

use super::writer::{ResultParts, ResultWriter, WriterSpec};
use super::{Finding, Heatmap, Preview, PreviewError, ViewHeat, montage, slice_heat};
use crate::engine::ViewEvidence;
use crate::engine::result::CaseResult;
use crate::scan::{VolumeError, write_planes};
use std::path::Path;
use std::sync::Arc;

const HEATMAP: &str = "heatmap.nii.gz";
const PREVIEW: &str = "preview.png";
/// Slices that a preview shows.
const COLUMNS: usize = 5;

/// Writes `heatmap.nii.gz`, where the model looked, on the scan's own grid.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeatmapWriter;

/// Writes `preview.png`, the slices that weighed most with their heat.
#[derive(Debug, Clone, Copy, Default)]
pub struct PreviewWriter;

/// `[S, h, w]`
pub(super) fn heat_of(view: &ViewEvidence) -> Vec<f32> {
    slice_heat(&view.attention, &view.slice_weights)
}

/// A view's part of its scan's heatmap; `heat` is [`heat_of`] the view.
pub(super) fn part<'a>(view: &'a ViewEvidence, heat: &'a [f32]) -> ViewHeat<'a> {
    let patches = [view.grid.0, view.grid.1];
    ViewHeat { grid: &view.stack.grid, heat, patches, weight: view.view_weight }
}

impl ResultWriter for HeatmapWriter {
    fn spec(&self) -> WriterSpec {
        WriterSpec::named("heatmap")
    }

    fn needs_evidence(&self) -> bool {
        true
    }

    /// Adds a warning for every view that the heatmap leaves out.
    fn write(&self, parts: &ResultParts<'_>, result: &mut CaseResult, folder: &Path) -> Result<(), String> {
        let Some(first) = parts.evidence.first() else { return Ok(()) };
        // One grid per file: views of other scans are told, not resampled.
        let same_scan = |v: &ViewEvidence| Arc::ptr_eq(&v.read, &first.read);
        for (view, record) in parts.evidence.iter().zip(&result.views) {
            if !same_scan(view) {
                let name = &record.name;
                result
                    .warnings
                    .push(format!("view {name} comes from another scan and is not in the heatmap"));
            }
        }
        let shown: Vec<(&ViewEvidence, Vec<f32>)> =
            parts.evidence.iter().filter(|v| same_scan(v)).map(|v| (v, heat_of(v))).collect();
        let heats: Vec<ViewHeat<'_>> = shown.iter().map(|(v, heat)| part(v, heat)).collect();
        let heatmap = Heatmap::of(&heats).ok_or("heatmap: the slices do not fit their scan")?;
        let plane = |z: usize, values: &mut [f32]| heatmap.add(z, values);
        let (place, forms) = (folder.join(HEATMAP), &first.read.scan.forms);
        let written = write_planes(&place, heatmap.shape(), forms, heatmap.most(), plane);
        written.map_err(|e| match e {
            VolumeError::Write { source, .. } => format!("{HEATMAP} cannot be written ({source})"),
            other => other.to_string(),
        })?;
        result.files.heatmap = Some(HEATMAP.to_owned());
        Ok(())
    }
}

impl ResultWriter for PreviewWriter {
    fn spec(&self) -> WriterSpec {
        WriterSpec::named("preview")
    }

    fn needs_evidence(&self) -> bool {
        true
    }

    fn write(&self, parts: &ResultParts<'_>, result: &mut CaseResult, folder: &Path) -> Result<(), String> {
        if parts.evidence.is_empty() {
            return Ok(());
        }
        let png = preview(result, parts.evidence, &result.case, montage)?;
        std::fs::write(folder.join(PREVIEW), png)
            .map_err(|e| format!("{PREVIEW} cannot be written ({e})"))?;
        result.files.preview = Some(PREVIEW.to_owned());
        Ok(())
    }
}

/// Draws the preview of the heaviest view; `case` is the name that the picture shows.
///
/// # Errors
/// One line without the folder's name.
pub(super) fn preview<T>(
    result: &CaseResult,
    views: &[ViewEvidence],
    case: &str,
    draw: impl FnOnce(&Preview) -> Result<T, PreviewError>,
) -> Result<T, String> {
    // Views come in the manifest's order; of equals the first is shown.
    let heaviest =
        views.iter().enumerate().rev().max_by(|(_, a), (_, b)| a.view_weight.total_cmp(&b.view_weight));
    let (index, view) = heaviest.ok_or("preview: there is no view to draw")?;
    let heat = &heat_of(view);
    let grid = &view.stack.grid;
    let slices = 0..grid.slices();
    let findings: Vec<Finding> = result
        .predictions
        .iter()
        .map(|p| Finding {
            label: p.label.clone(),
            probability: p.probability,
            threshold: p.threshold,
            positive: p.positive,
        })
        .collect();
    let picture = Preview {
        title: &format!("{} {}", result.plugin.name, result.plugin.version),
        case,
        view: result.views.get(index).map_or("", |v| v.name.as_str()),
        axis: grid.axis(),
        pixels: &view.stack.pixels,
        shape: view.stack.shape,
        pixel_mm: grid.pixel_size_mm(),
        heat,
        patches: [view.grid.0, view.grid.1],
        weights: &view.slice_weights,
        positions_mm: &slices.clone().map(|s| grid.position_mm(s)).collect::<Vec<_>>(),
        indices: &slices.map(|s| grid.index_in_scan(s)).collect::<Vec<_>>(),
        findings: &findings,
        intended_use: &result.intended_use,
        columns: COLUMNS,
    };
    draw(&picture).map_err(|e| e.to_string())
}
