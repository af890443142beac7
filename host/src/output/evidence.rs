//! What a prediction was made from, as files: `heatmap.nii.gz` on the scan's own grid and `preview.png`.

use super::{Finding, Heatmap, Preview, ViewHeat, montage, slice_heat};
use crate::engine::ViewEvidence;
use crate::engine::result::{CaseResult, FilesRecord};
use crate::scan::{VolumeError, write_planes};
use std::path::Path;
use std::sync::Arc;

const HEATMAP: &str = "heatmap.nii.gz";
const PREVIEW: &str = "preview.png";
/// Slices that a preview shows.
const COLUMNS: usize = 5;

/// Writes heatmap and preview into a folder; adds a warning to the result for every view that they leave out.
///
/// # Errors
/// One line without the folder's name.
pub(super) fn write(
    folder: &Path,
    result: &mut CaseResult,
    views: &[ViewEvidence],
) -> Result<FilesRecord, String> {
    let heats: Vec<Vec<f32>> = views.iter().map(|v| slice_heat(&v.attention, &v.slice_weights)).collect();
    let Some(first) = views.first() else { return Ok(FilesRecord::default()) };

    // One grid per file: views of other scans are told, not resampled.
    let same_scan = |v: &ViewEvidence| Arc::ptr_eq(&v.read, &first.read);
    let parts: Vec<ViewHeat<'_>> = views
        .iter()
        .zip(&heats)
        .filter(|(v, _)| same_scan(v))
        .map(|(v, heat)| ViewHeat {
            grid: &v.stack.grid,
            heat,
            patches: [v.grid.0, v.grid.1],
            weight: v.view_weight,
        })
        .collect();
    for (view, record) in views.iter().zip(&result.views) {
        if !same_scan(view) {
            let name = &record.name;
            result.warnings.push(format!("view {name} comes from another scan and is not in the heatmap"));
        }
    }
    let heatmap = Heatmap::of(&parts).ok_or("heatmap: the slices do not fit their scan")?;
    let plane = |z: usize, values: &mut [f32]| heatmap.add(z, values);
    let forms = &first.read.scan.forms;
    write_planes(&folder.join(HEATMAP), heatmap.shape(), forms, heatmap.most(), plane).map_err(
        |e| match e {
            VolumeError::Write { source, .. } => format!("{HEATMAP} cannot be written ({source})"),
            other => other.to_string(),
        },
    )?;

    // Views come in the manifest's order; of equals the first is shown.
    let heaviest =
        (0..views.len()).rev().max_by(|&a, &b| views[a].view_weight.total_cmp(&views[b].view_weight));
    let shown = heaviest.unwrap_or_default();
    let png = preview(result, shown, &views[shown], &heats[shown])?;
    std::fs::write(folder.join(PREVIEW), png).map_err(|e| format!("{PREVIEW} cannot be written ({e})"))?;
    let (heatmap, preview) = (Some(HEATMAP.to_owned()), Some(PREVIEW.to_owned()));
    Ok(FilesRecord { heatmap, preview, ..FilesRecord::default() })
}

fn preview(result: &CaseResult, index: usize, view: &ViewEvidence, heat: &[f32]) -> Result<Vec<u8>, String> {
    let grid = &view.stack.grid;
    let slices = 0..grid.slices();
    let findings: Vec<Finding> = result
        .predictions
        .iter()
        .map(|p| Finding { label: p.label.clone(), probability: p.probability, positive: p.positive })
        .collect();
    let picture = Preview {
        title: &format!("{} {}", result.plugin.name, result.plugin.version),
        case: &result.case,
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
    montage(&picture).map_err(|e| e.to_string())
}
