//! What was done to a view's scan, in words.

use super::page::row;
use crate::engine::ViewEvidence;
use crate::scan::dicom::series_of;
use anymc3d_manifest::{Background, Extent, Fit, Intensity, Region, View};

/// Rows of a table: series, axes, region, slices, size, intensities.
pub(super) fn rows(evidence: &ViewEvidence) -> String {
    let (view, scan, stack) = (&evidence.view, &evidence.read.scan, &evidence.stack);
    let grid = &stack.grid;
    let axis = format!("{:?}", grid.axis()).to_lowercase();
    let [high, wide] = grid.pixel_size_mm();
    let size = grid.image_size();
    let mut rows = Vec::new();
    if let Some(series) = series_of(&scan.path, view) {
        rows.push(row("Series", &series));
    }
    let turned = if scan.orientation == "RAS" {
        "none: stored as RAS".to_owned()
    } else {
        format!("from {} to RAS; no value changed", scan.orientation)
    };
    rows.push(row("Axes", &turned));
    rows.push(row("Region", &region(view)));
    let between =
        if view.through_plane.is_average() { "" } else { ", planes with nothing of what lies between them" };
    rows.push(row(
        "Slices",
        &format!("{} {axis} slices, {:.2} mm apart{between}", grid.slices(), grid.slice_distance_mm()),
    ));
    rows.push(row(
        "Pixels",
        &format!("{} × {} of {wide:.2} × {high:.2} mm; {}", size[1], size[0], fit(view)),
    ));
    rows.push(row("Window", &intensity(&view.intensity)));
    if view.background == Background::Drop {
        rows.push(row(
            "Background",
            "patches that show only the room around the body, or padding, were left out",
        ));
    }
    rows.concat()
}

fn region(view: &View) -> String {
    let mm = |extent: &Extent| {
        let [x, y, z] = extent.mm();
        format!("{x} × {y} × {z} mm")
    };
    let region = match (view.region, &view.size_mm, view.margin_mm) {
        (Region::Full, ..) => "all of the scan".to_owned(),
        (Region::Body, ..) => "the box around the body".to_owned(),
        (Region::Lungs, ..) => "the box around the lungs, or around the body where there are none".to_owned(),
        (Region::Mask, Some(size), _) => format!("{} around the middle of the mask", mm(size)),
        (Region::Mask, None, margin) => format!("the box around the mask and {} mm", margin.unwrap_or(0.0)),
        (Region::Point, Some(size), _) => format!("{} around the point", mm(size)),
        (Region::Point, None, _) => "around the point".to_owned(),
    };
    match view.crop {
        None => region,
        Some(crop) => {
            let part = |[from, to]: [f64; 2]| format!("{:.0}–{:.0} %", 100.0 * from, 100.0 * to);
            let [x, y, z] = crop.map(part);
            format!("{region}, of it {x} from left, {y} from posterior, {z} from inferior")
        }
    }
}

fn fit(view: &View) -> String {
    match (view.fit, view.spacing_mm) {
        (Fit::Square, _) => "padded to a square first".to_owned(),
        (Fit::Stretch, _) => "each axis by itself".to_owned(),
        (Fit::Spacing, Some(mm)) => format!("resampled to {mm} mm, cropped or padded around the centre"),
        (Fit::Spacing, None) => "resampled, cropped or padded around the centre".to_owned(),
    }
}

fn intensity(intensity: &Intensity) -> String {
    match intensity {
        Intensity::Window { windows } => {
            let all: Vec<String> = windows.iter().map(|[low, high]| format!("{low} to {high}")).collect();
            format!("{} in the scan's units became 0 to 1", all.join("; "))
        }
        Intensity::Percentile { low, high, nonzero } => {
            let of = if *nonzero { "of the voxels that are not 0" } else { "of all voxels" };
            format!("percentile {low} to percentile {high} {of} became 0 to 1")
        }
    }
}
