//! A result as text: probabilities, top slices, warnings.

use anymc3d_host::engine::result::{CaseResult, LabelPrediction, Novelty, ViewRecord};
use anymc3d_host::output::percent;
use std::fmt::Write as _;
use std::path::Path;

/// The block of one case and plugin, without a final line break. `folder`: where its files are.
pub(super) fn block(result: &CaseResult, folder: Option<&Path>) -> String {
    let mut text = format!("{}  {} {}\n", result.case, result.plugin.name, result.plugin.version);
    let width = result.predictions.iter().map(|p| p.label.chars().count()).max().unwrap_or(0);
    // Writing to a String cannot fail.
    for v in &result.values {
        let [low, high] = v.range;
        let level = v.level.map_or(String::new(), |level| format!(", level {level}"));
        let _ = writeln!(text, "  {:<width$}  {:>7.2}  of {low} to {high}{level}", v.label, v.value);
    }
    // What each output of a scale says is in the JSON.
    let yes_or_no = result.predictions.iter().filter(|_| result.values.is_empty());
    for p in yes_or_no {
        let spread = p.spread.as_ref().map(|s| {
            let [low, high] = s.probability.map(percent);
            format!("; {} members say {low} to {high}", s.members)
        });
        let spread = spread.unwrap_or_default();
        let _ =
            writeln!(text, "  {:<width$}  {:>7}  {}{spread}", p.label, percent(p.probability), decision(p));
    }
    for view in &result.views {
        let _ = writeln!(text, "  {}", slices(view));
    }
    // What is outside is told by a warning.
    if let Some(n) = result.novelty.as_ref().filter(|n| !n.outside) {
        let _ = writeln!(text, "  {}", novelty(n));
    }
    if let Some(s) = &result.segmentation {
        let _ = writeln!(text, "  segmented: {:.2} ml in {} voxels (view {})", s.volume_ml, s.voxels, s.view);
    }
    for warning in &result.warnings {
        let _ = writeln!(text, "  warning: {warning}");
    }
    let _ = writeln!(text, "  {}; {:.1} s", origin(result), result.timing_ms.total / 1000.0);
    if let Some(folder) = folder {
        let written = &result.files;
        let files = [&written.heatmap, &written.preview, &written.segmentation].map(Option::as_deref);
        let dicom = written.dicom.iter().map(String::as_str);
        let files: Vec<&str> =
            std::iter::once("result.json").chain(files.into_iter().flatten()).chain(dicom).collect();
        let _ = writeln!(text, "  in {}: {}", folder.display(), files.join(", "));
        if let Some(report) = &written.report {
            let _ = writeln!(text, "  report: {}", folder.join(report).display());
        }
    }
    text.truncate(text.trim_end().len());
    text
}

/// Who signed the plugin that predicted.
fn origin(result: &CaseResult) -> String {
    match &result.plugin.package {
        Some(p) if p.weights_replaced => {
            format!("library by {} (registry {}); weights of your own", p.publisher, p.registry)
        }
        Some(p) => format!("package by {} (registry {})", p.publisher, p.registry),
        None => "local files, not signed by anybody".to_owned(),
    }
}

fn decision(p: &LabelPrediction) -> String {
    let said = if p.positive { "positive" } else { "negative" };
    match p.threshold {
        Some(threshold) => format!("{said} (threshold {})", percent(threshold)),
        None if p.positive => "most probable".to_owned(),
        None => String::new(),
    }
}

fn slices(view: &ViewRecord) -> String {
    let tops: Vec<String> = view
        .top_slices
        .iter()
        .take(3)
        .map(|s| format!("{} at {:.1} mm ({})", s.index, s.position_mm, percent(f64::from(s.weight))))
        .collect();
    let among = format!("{} slices of view {}", view.slices, view.name);
    if tops.is_empty() { among } else { format!("top slices: {}; of {among}", tops.join(", ")) }
}

fn novelty(n: &Novelty) -> String {
    let view = n.view.as_ref().map_or(String::new(), |view| format!(" in view {view}"));
    format!(
        "like the {} training cases{view}: distance {:.1}, farther than {:.1} % of them",
        n.reference_cases, n.distance, n.percentile
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_from_the_training_cases_is_told_with_the_view_that_it_is_of() {
        let mut n = Novelty {
            view: None,
            distance: 23.14,
            percentile: 56.0,
            outside: false,
            limit: 37.9,
            reference_cases: 400,
        };
        assert_eq!(novelty(&n), "like the 400 training cases: distance 23.1, farther than 56.0 % of them");
        n.view = Some("flair".to_owned());
        assert!(novelty(&n).contains("training cases in view flair: distance"));
    }

    #[test]
    fn a_decision_says_its_threshold() {
        let mut p = LabelPrediction {
            label: "nodule".into(),
            probability: 0.934,
            logit: 2.65,
            temperature: None,
            spread: None,
            threshold: Some(0.5),
            positive: true,
        };
        assert_eq!(decision(&p), "positive (threshold 50.0 %)");
        p.threshold = None;
        assert_eq!(decision(&p), "most probable");
    }
}
