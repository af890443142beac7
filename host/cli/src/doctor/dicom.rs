//! `host doctor FOLDER`: every series of a DICOM input, what is odd about it, and for which plugins it fits.

use crate::console::Console;
use crate::outcome::{CommandError, Outcome};
use anymc3d_host::plugin::find::{self, Choice};
use anymc3d_host::plugin::inspect;
use anymc3d_host::scan::dicom::{DicomInput, Series, Study, fit, request};
use anymc3d_manifest::{Manifest, View};
use serde_json::{Value, json};
use std::path::Path;

/// Shows an input. `identity`: also descriptions, UIDs and PatientIDs.
pub(super) fn show(
    path: &Path,
    plugins: &[String],
    identity: bool,
    as_json: bool,
    console: &Console,
) -> Result<Outcome, CommandError> {
    let manifests = manifests(plugins, console)?;
    let input = DicomInput::look(path).map_err(CommandError::failed)?;
    let Some(input) = input else {
        let message = format!("{}: no DICOM in it; for a table give --data", path.display());
        return Err(CommandError::failed(message));
    };
    let found = input.headers();
    if as_json {
        let studies: Vec<Value> = found.studies.iter().map(|s| study_json(s, &manifests, identity)).collect();
        let unreadable: Vec<Value> = found
            .unreadable
            .iter()
            .map(|e| {
                let file = identity.then(|| e.file.clone()).flatten();
                json!({"kind": e.kind.name(), "what": e.without_file(), "file": file})
            })
            .collect();
        console.result(json!({
            "schema": "anymc3d/dicom/1", "path": input.root(), "instances": found.instances,
            "other_files": found.other_files, "unreadable": unreadable, "studies": studies,
        }));
        return Ok(Outcome::Done);
    }
    for (n, study) in found.studies.iter().enumerate() {
        let patient = study.patient_id.as_ref().map(|id| id.reveal()).filter(|_| identity);
        let who = patient.map_or(String::new(), |id| format!(": patient {id}, study {}", study.uid));
        console.result(format!("study {}{who}", n + 1));
        for (place, series) in study.series.iter().enumerate() {
            series_lines(place, series, identity, console);
            fit_lines(study, place, &manifests, console);
        }
        for left in &study.left_out {
            let number = left.series_number.map_or("without a number".to_owned(), |n| n.to_string());
            let (n, kind) = (left.instances, left.kind);
            console.result(format!("  series {number}: left out: {n} × {}: {}", kind.name(), kind.reason()));
        }
        choice_lines(&input, n, &manifests, console);
    }
    for (kind, n) in &found.other_files {
        console.result(format!("no DICOM: {n} × {kind}"));
    }
    for error in &found.unreadable {
        let file = error.file.as_deref().filter(|_| identity);
        let file = file.map_or(String::new(), |f| format!("{}: ", f.display()));
        console.result(format!("refused: {file}{} ({})", error.without_file(), error.kind));
    }
    console.result(format!(
        "{}: {} DICOM files in {} studies",
        input.root().display(),
        found.instances,
        found.studies.len()
    ));
    Ok(Outcome::Done)
}

/// Of the plugins that are named, else of all that are found.
fn manifests(plugins: &[String], console: &Console) -> Result<Vec<Manifest>, CommandError> {
    let mut manifests: Vec<Manifest> = Vec::new();
    for wanted in plugins {
        let library = find::library_with(wanted, &Choice::default()).map_err(CommandError::refused)?;
        manifests.push(inspect(&library).map_err(CommandError::refused)?.embedded.manifest);
    }
    if plugins.is_empty() {
        for library in find::all_libraries() {
            match inspect(&library) {
                Ok(library) => manifests.push(library.embedded.manifest),
                Err(e) => console.note(e),
            }
        }
    }
    Ok(manifests)
}

fn series_lines(place: usize, series: &Series, identity: bool, console: &Console) {
    let stack = &series.stacks[series.largest_stack()];
    let number = series.number.map_or("without a number".to_owned(), |n| n.to_string());
    let mut line =
        format!("  series {number} (@{}): {}, {} slices", place + 1, series.modality, stack.slices());
    if let Ok(g) = &stack.geometry {
        let [x, y, _] = g.spacing_mm;
        line += &format!(
            " of {} × {} every {:.2} mm, {}, pixels of {x:.3} × {y:.3} mm",
            g.columns,
            g.rows,
            g.volume_gap_mm(),
            g.orientation.name()
        );
    }
    let facts = [
        series.body_part.clone(),
        series.sequence.map(|s| s.name().to_owned()),
        series.contrast.map(|c| if c { "contrast" } else { "no contrast" }.to_owned()),
        series.derived.then(|| "derived".to_owned()),
        series.description.clone().filter(|_| identity).map(|d| format!("`{d}`")),
        Some(series.uid.clone()).filter(|_| identity),
    ];
    for fact in facts.into_iter().flatten() {
        line += &format!(", {fact}");
    }
    console.result(line);
    if series.stacks.len() > 1 {
        for (n, stack) in series.stacks.iter().enumerate() {
            console.result(format!("    stack {n}: {} slices, {}", stack.slices(), stack.label));
        }
    }
    for odd in &series.oddities {
        console.result(format!("    odd: {odd}"));
    }
}

/// A line per plugin and view: why a series fits or not.
fn fit_lines(study: &Study, place: usize, manifests: &[Manifest], console: &Console) {
    for (plugin, view) in views(manifests) {
        let fit = fit(&study.series[place], &request(view));
        let what = match fit.fits() {
            true => format!("fits: {}", reasons(&fit.met, &fit.unknown)),
            false => format!("does not fit: {}", fit.broken.join(", ")),
        };
        console.result(format!("    {plugin}, view {}: {what}", view.name));
    }
}

fn choice_lines(input: &DicomInput, study: usize, manifests: &[Manifest], console: &Console) {
    for manifest in manifests {
        let plugin = &manifest.plugin.name;
        match input.fill(study, manifest, &[]) {
            Ok(fills) => {
                for fill in fills {
                    console.result(format!("  {plugin}, view {}: would take {}", fill.view, fill.why));
                }
            }
            Err(e) => console.result(format!("  {plugin}: skips this study: view {}: {}", e.view, e.reason)),
        }
    }
}

fn views(manifests: &[Manifest]) -> impl Iterator<Item = (&str, &View)> {
    manifests.iter().flat_map(|m| m.views.iter().map(|v| (m.plugin.name.as_str(), v)))
}

fn reasons(met: &[String], unknown: &[String]) -> String {
    let mut parts = met.to_vec();
    if !unknown.is_empty() {
        parts.push(format!("{} not stated", unknown.join(", ")));
    }
    if parts.is_empty() { "no rule".into() } else { parts.join(", ") }
}

fn study_json(study: &Study, manifests: &[Manifest], identity: bool) -> Value {
    let series = study.series.iter().enumerate().map(|(place, series)| {
        let stacks: Vec<Value> = series
            .stacks
            .iter()
            .map(|s| {
                let g = s.geometry.as_ref();
                json!({
                    "label": s.label, "slices": s.slices(), "refused": g.err().map(|e| e.without_file()),
                    "spacing_mm": g.ok().map(|g| g.spacing_mm), "straight": g.ok().map(|g| g.straight),
                    "tilt_degrees": g.ok().map(|g| g.tilt_degrees),
                })
            })
            .collect();
        let fits: Vec<Value> = views(manifests)
            .map(|(plugin, view)| {
                let fit = fit(series, &request(view));
                json!({"plugin": plugin, "view": view.name, "fits": fit.fits(), "met": fit.met,
                       "unknown": fit.unknown, "broken": fit.broken})
            })
            .collect();
        json!({
            "place": place + 1, "number": series.number, "modality": series.modality, "body_part": series.body_part,
            "orientation": series.orientation.map(|o| o.name()), "contrast": series.contrast,
            "sequence": series.sequence.map(|s| s.name()), "derived": series.derived, "stacks": stacks,
            "odd": series.oddities, "fits": fits, "uid": identity.then_some(&series.uid),
            "description": series.description.as_ref().filter(|_| identity),
        })
    });
    let left_out = study.left_out.iter().map(|l| {
        json!({"number": l.series_number, "kind": l.kind.name(), "reason": l.kind.reason(), "instances": l.instances})
    });
    json!({
        "uid": identity.then_some(&study.uid), "patient_id": study.patient_id.as_ref().map(|id| id.reveal()).filter(|_| identity),
        "series": series.collect::<Vec<_>>(), "left_out": left_out.collect::<Vec<_>>(),
    })
}
