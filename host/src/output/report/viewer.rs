//! The viewer's section and its data: each scan once, with the heat of its views and the mask.

use super::base64::base64;
use super::page::escaped;
use super::volume::{ReportGrid, pack_scan, pack_shares};
use crate::engine::ViewEvidence;
use crate::engine::result::CaseResult;
use crate::output::evidence::{heat_of, part};
use crate::output::writer::ResultParts;
use crate::output::{Heatmap, ViewHeat};
use anymc3d_manifest::{Axis, Intensity, Modality};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::Arc;

pub(super) struct Viewer {
    pub section: String,
    /// Elements with the packed numbers, for the end of the page.
    pub data: String,
}

/// The views of each scan, by index, in the order of the views.
pub(super) fn scans(parts: &ResultParts<'_>) -> Vec<Vec<usize>> {
    let mut scans: Vec<Vec<usize>> = Vec::new();
    for (index, view) in parts.evidence.iter().enumerate() {
        let known = scans.iter_mut().find(|views| Arc::ptr_eq(&parts.evidence[views[0]].read, &view.read));
        match known {
            Some(views) => views.push(index),
            None => scans.push(vec![index]),
        }
    }
    scans
}

/// The axis of a canonical volume that slices of a view lie along, its letter, and the plane that shows them.
pub(super) fn slice_axis(axis: Axis) -> (usize, char, &'static str) {
    match axis {
        Axis::Sagittal => (0, 'R', "sagittal"),
        Axis::Coronal => (1, 'A', "coronal"),
        Axis::Axial | Axis::Native => (2, 'S', "axial"),
    }
}

pub(super) fn viewer(parts: &ResultParts<'_>, result: &CaseResult) -> Result<Viewer, String> {
    let scans = scans(parts);
    let (mut data, mut told, mut names) = (String::new(), Vec::new(), Vec::new());
    let mut any_mask = false;
    for (index, views) in scans.iter().enumerate() {
        let (mut about, has_mask) = scan(parts, views, index, &mut data)?;
        let of: Vec<&str> = views.iter().map(|v| result.views[*v].name.as_str()).collect();
        names.push(of.join(", "));
        let axes = views.iter().map(|v| slice_axis(parts.evidence[*v].stack.grid.axis()).0);
        let told_views = of.iter().zip(axes).map(|(name, axis)| json!({ "name": name, "axis": axis }));
        about["views"] = told_views.collect();
        any_mask |= has_mask;
        told.push(about);
    }
    // `<` would end the element.
    let text = json!({ "scans": told }).to_string().replace('<', "\\u003c");
    let _ = writeln!(data, "<script type=\"application/json\" id=\"report-data\">{text}</script>");
    let section = if scans.is_empty() { String::new() } else { section(&names, any_mask) };
    Ok(Viewer { section, data })
}

/// What the viewer is told of a scan, and whether a mask lies on it; its numbers are added to `data`.
fn scan(
    parts: &ResultParts<'_>,
    views: &[usize],
    index: usize,
    data: &mut String,
) -> Result<(Value, bool), String> {
    let failed = |e: std::io::Error| format!("report: the scan cannot be packed ({e})");
    let first = &parts.evidence[views[0]];
    let volume = &first.read.volume;
    let grid = ReportGrid::of(volume);
    let values = grid.scan(volume);
    let packed = pack_scan(&values, grid.shape[0]).map_err(failed)?;
    let mut put = |kind: &str, bytes: &[u8]| {
        let _ =
            writeln!(data, "<script type=\"text/plain\" id=\"{kind}-{index}\">{}</script>", base64(bytes));
    };
    put("scan", &packed.bytes);
    let heats: Vec<Vec<f32>> = views.iter().map(|v| heat_of(&parts.evidence[*v])).collect();
    let heat_parts: Vec<ViewHeat<'_>> =
        views.iter().zip(&heats).map(|(v, heat)| part(&parts.evidence[*v], heat)).collect();
    if let Some(heatmap) = Heatmap::of(&heat_parts) {
        let heat = grid.heat(volume, &heatmap);
        let most = heat.iter().copied().fold(0.0, f32::max);
        put("heat", &pack_shares(&heat, most).map_err(failed)?);
    }
    let mask = parts.mask.filter(|mask| Arc::ptr_eq(&mask.read, &first.read));
    if let Some(mask) = mask {
        put("mask", &pack_shares(&grid.mask(volume, &mask.voxels), 1.0).map_err(failed)?);
    }
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let told = json!({
        "shape": grid.shape,
        "affine": &grid.affine.0[..3],
        "spacing": grid.affine.spacing(),
        "low": packed.low,
        "high": high,
        "scale": packed.scale,
        "presets": presets(first, volume.modality, &values),
    });
    Ok((told, mask.is_some()))
}

/// Windows by name, the first of them as the model saw the scan.
fn presets(view: &ViewEvidence, modality: Option<Modality>, values: &[f32]) -> Vec<(String, f64, f64)> {
    let mut presets = Vec::new();
    match &view.view.intensity {
        Intensity::Window { windows } => {
            for (i, [low, high]) in windows.iter().enumerate() {
                let name =
                    if i == 0 { "As the model saw it".to_owned() } else { format!("Its channel {}", i + 1) };
                presets.push((name, *low, *high));
            }
        }
        Intensity::Percentile { low, high, nonzero } => {
            let mut values: Vec<f32> = values.iter().copied().filter(|v| !nonzero || *v != 0.0).collect();
            if let Some(last) = values.len().checked_sub(1) {
                let mut at = |p: f64| {
                    let place = ((p / 100.0) * last as f64).round().clamp(0.0, last as f64) as usize;
                    f64::from(*values.select_nth_unstable_by(place, f32::total_cmp).1)
                };
                presets.push(("About as the model saw it".to_owned(), at(*low), at(*high)));
            }
        }
    }
    let range = values.iter().fold([f32::INFINITY, f32::NEG_INFINITY], |[l, h], v| [l.min(*v), h.max(*v)]);
    if modality == Some(Modality::CT) {
        let named = [("Lung", -1350.0, 150.0), ("Soft tissue", -160.0, 240.0), ("Bone", -450.0, 1050.0)];
        let more = [("Brain", 0.0, 80.0), ("Liver", 20.0, 170.0)];
        presets.extend(named.into_iter().chain(more).map(|(name, low, high)| (name.to_owned(), low, high)));
    }
    presets.push(("All values".to_owned(), f64::from(range[0]), f64::from(range[1])));
    presets
}

fn section(names: &[String], mask: bool) -> String {
    let mut html = "<section id=\"viewer\" aria-labelledby=\"viewer-title\">\n<h2 id=\"viewer-title\">Scan and heat</h2>\n\
         <p class=\"hint\">Click a picture to move the cross. With the focus on a picture, arrow keys, page keys and the wheel \
         scroll its slices.</p>\n<div class=\"controls\">\n"
        .to_owned();
    if names.len() > 1 {
        html += "<label>Scan of view <select id=\"scans\">";
        for (index, name) in names.iter().enumerate() {
            let _ = write!(html, "<option value=\"{index}\">{}</option>", escaped(name));
        }
        html += "</select></label>\n";
    }
    html += "<label>Window <select id=\"preset\"></select></label>\n\
         <label>Level <input type=\"range\" id=\"centre\"></label>\n\
         <label>Width <input type=\"range\" id=\"width\"></label>\n\
         <label>Heat over the scan <input type=\"range\" id=\"opacity\" min=\"0\" max=\"100\" value=\"72\"></label>\n";
    if mask {
        html += "<label><input type=\"checkbox\" id=\"mask\" checked> Segmentation</label>\n";
    }
    html += "<div><button type=\"button\" id=\"to-peak\">To the strongest heat</button></div>\n</div>\n<div class=\"planes\">\n";
    for plane in ["axial", "coronal", "sagittal"] {
        let title = format!("{}{}", plane[..1].to_uppercase(), &plane[1..]);
        let _ = writeln!(
            html,
            "<div class=\"plane\"><h3>{title} <span id=\"place-{plane}\"></span></h3><canvas id=\"plane-{plane}\" width=\"400\" \
             height=\"400\" tabindex=\"0\" role=\"img\" aria-label=\"{plane} plane\"></canvas><input type=\"range\" \
             id=\"slice-{plane}\" min=\"0\" max=\"0\" aria-label=\"{title} slice\"></div>"
        );
    }
    html + "</div>\n<p id=\"readout\" class=\"quiet\" aria-live=\"polite\"></p>\n<noscript><p>The viewer needs scripts; the pictures \
            below do not.</p></noscript>\n</section>\n"
}
