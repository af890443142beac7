//! The sections of a page, in the order in which a reader asks: whose, what, where, from what.

use super::page::{calibration_curve, digest_row, escaped, percent, probability_bar, row, weight_curve};
use super::preparation;
use crate::engine::result::{CaseResult, LabelPrediction};
use crate::output::writer::ResultParts;
use crate::scan::dicom::Patient;
use std::fmt::Write as _;

/// Slices that a table names.
const NAMED: usize = 5;

pub(super) struct Sections<'a> {
    pub parts: &'a ResultParts<'a>,
    pub result: &'a CaseResult,
    pub patient: Option<&'a Patient>,
}

impl Sections<'_> {
    /// Question, case and, where it is kept, the patient; `name` is what stands around the case's name.
    pub fn header(&self, name: [&str; 2]) -> String {
        let r = self.result;
        let question = match r.plugin.summary.as_str() {
            "" => r.plugin.name.as_str(),
            summary => summary,
        };
        let mut html = format!(
            "<header>\n<p class=\"notice\" role=\"note\">Research use only. Not for diagnosis.</p>\n<h1>{}</h1>\n\
             <p>Case {}{}{} <span class=\"quiet\">· {} {}</span></p>\n",
            escaped(question),
            name[0],
            escaped(&r.case),
            name[1],
            escaped(&r.plugin.name),
            escaped(&r.plugin.version)
        );
        if let Some(p) = self.patient {
            let of = |what: &str, text: &str| if text.is_empty() { String::new() } else { row(what, text) };
            let rows =
                [of("Patient", &p.name), of("Id", &p.id), of("Birth date", &p.birth_date), of("Sex", &p.sex)];
            let _ = write!(
                html,
                "<table class=\"facts\" id=\"patient\"><tbody>\n{}</tbody></table>\n",
                rows.concat()
            );
        }
        html + "</header>\n"
    }

    pub fn answer(&self) -> String {
        let predictions = &self.result.predictions;
        let mut html = "<section id=\"answer\" aria-labelledby=\"answer-title\">\n<h2 id=\"answer-title\">Answer</h2>\n\
             <div class=\"scroll\"><table class=\"answer\"><thead><tr><th scope=\"col\">Label</th><th scope=\"col\">Probability</th>\
             <th scope=\"col\">Threshold</th><th scope=\"col\">Decision</th><th scope=\"col\">Calibration</th></tr></thead><tbody>\n"
            .to_owned();
        for p in predictions {
            let threshold = p.threshold.map_or("–".to_owned(), percent);
            let class = if p.positive { " class=\"positive-text\"" } else { "" };
            let _ = writeln!(
                html,
                "<tr><th scope=\"row\">{}</th><td><b>{}</b>{}</td><td>{threshold}</td><td{class}>{}</td><td>{}</td></tr>",
                escaped(&p.label),
                percent(p.probability),
                probability_bar(p.probability, p.threshold, p.positive),
                decision(p),
                calibration(p)
            );
        }
        html += "</tbody></table></div>\n";
        html += &self.novelty();
        // Of several classes one curve would not do: each probability depends on all logits.
        let sigmoid = |p: &&LabelPrediction| p.threshold.is_some();
        let curves: Vec<String> = predictions
            .iter()
            .filter(sigmoid)
            .map(|p| {
                format!(
                    "<figure>{}<figcaption>{}: probability by logit{}; the dot is this case, the dashed line the threshold\
                     </figcaption></figure>",
                    calibration_curve(&p.label, p.logit, p.temperature.unwrap_or(1.0), p.threshold),
                    escaped(&p.label),
                    if p.temperature.is_some() { ", calibrated; dotted: before" } else { "" }
                )
            })
            .collect();
        if !curves.is_empty() {
            let _ = writeln!(
                html,
                "<details open><summary>Calibration curve</summary><div class=\"curves\">{}</div></details>",
                curves.concat()
            );
        }
        if let Some(s) = &self.result.segmentation {
            let _ = writeln!(
                html,
                "<p>Segmented: {:.2} ml in {} voxels, by view {}.</p>",
                s.volume_ml,
                s.voxels,
                escaped(&s.view)
            );
        }
        html + "</section>\n"
    }

    /// How far the scan is from the training cases; nothing where the weights do not tell.
    fn novelty(&self) -> String {
        let Some(n) = &self.result.novelty else { return String::new() };
        let view = n.view.as_ref().map_or(String::new(), |view| format!(" (view {})", escaped(view)));
        let told = format!(
            "Distance from the {} training cases{view}: {:.1}, farther than {:.1} % of them; 99.5 % are within {:.1}.",
            n.reference_cases, n.distance, n.percentile, n.limit
        );
        match n.outside {
            true => format!(
                "<p class=\"notice\" role=\"note\" id=\"novelty\">The scan is unlike those that the weights were trained on. {told} \
                 Nobody knows how well the answer works on it.</p>\n"
            ),
            false => format!("<p id=\"novelty\">{told}</p>\n"),
        }
    }

    /// What each slice weighed, view by view.
    pub fn slices(&self) -> String {
        let mut html =
            "<section aria-labelledby=\"slices-title\">\n<h2 id=\"slices-title\">Which slices counted</h2>\n"
                .to_owned();
        let scans = super::viewer::scans(self.parts);
        for (index, (view, evidence)) in self.result.views.iter().zip(self.parts.evidence).enumerate() {
            let name = &view.name;
            let weight =
                view.view_weight.map_or(String::new(), |w| format!(", weight {}", percent(f64::from(w))));
            let _ = writeln!(html, "<h3>View {}{weight}</h3>", escaped(name));
            if view.weights.is_empty() {
                html += "<p>The plugin's head tells no weights of slices.</p>\n";
                continue;
            }
            let grid = &evidence.stack.grid;
            let positions: Vec<f64> = (0..grid.slices()).map(|s| grid.position_mm(s)).collect();
            let (axis, letter, plane) = super::viewer::slice_axis(grid.axis());
            let scan = scans.iter().position(|views| views.contains(&index)).unwrap_or(0);
            let _ = writeln!(
                html,
                "<figure>{}<figcaption>Weight of each slice, by its place in mm along {letter}</figcaption></figure>\n\
                 <details open><summary>Heaviest slices</summary><div class=\"scroll\"><table><thead><tr>\
                 <th scope=\"col\">Slice of the scan</th><th scope=\"col\">Place</th><th scope=\"col\">Weight</th>\
                 <th scope=\"col\"><span class=\"quiet\">In the viewer</span></th></tr></thead><tbody>",
                weight_curve(name, &view.weights, &positions)
            );
            for top in view.top_slices.iter().take(NAMED) {
                let _ = writeln!(
                    html,
                    "<tr><th scope=\"row\">{}</th><td>{letter} {:+.1} mm</td><td>{}</td><td><button type=\"button\" \
                     data-scan=\"{scan}\" data-axis=\"{axis}\" data-plane=\"{plane}\" data-place=\"{}\">Show</button></td></tr>",
                    top.index,
                    top.position_mm,
                    percent(f64::from(top.weight)),
                    top.position_mm
                );
            }
            html += "</tbody></table></div></details>\n";
        }
        html + "</section>\n"
    }

    /// `preview.png` inside the page: for print, and for browsers without scripts.
    pub fn montage(&self, png: Option<&str>) -> String {
        let Some(png) = png else { return String::new() };
        format!(
            "<section aria-labelledby=\"montage-title\">\n<h2 id=\"montage-title\">The heaviest slices</h2>\n<figure class=\"montage\">\
             <img alt=\"The slices that weighed most, plain above and with the heat below; the table of the heaviest slices has \
             their places\" src=\"data:image/png;base64,{png}\"><figcaption>As the model saw them, above plain and below with the heat. \
             Heat shows where the model looked, in patches; it does not outline a finding.</figcaption></figure>\n</section>\n"
        )
    }

    pub fn warnings(&self) -> String {
        let items: Vec<String> =
            self.result.warnings.iter().map(|w| format!("<li>{}</li>\n", escaped(w))).collect();
        let list = match items.as_slice() {
            [] => "<p>None.</p>\n".to_owned(),
            items => format!("<ul>\n{}</ul>\n", items.concat()),
        };
        format!(
            "<section aria-labelledby=\"warnings-title\">\n<h2 id=\"warnings-title\">Warnings</h2>\n{list}\
             <h3>Intended use</h3>\n<p>{}</p>\n</section>\n",
            escaped(&self.result.intended_use)
        )
    }

    /// What was done to the scan before the model saw it.
    pub fn preparation(&self) -> String {
        let input = &self.result.input;
        let rows = [
            row("Scan", &input.path),
            row(
                "Stored as",
                &format!(
                    "{} × {} × {} voxels, {}",
                    input.shape[0], input.shape[1], input.shape[2], input.orientation
                ),
            ),
            row(
                "Voxels",
                &format!(
                    "{:.3} × {:.3} × {:.3} mm",
                    input.spacing_mm[0], input.spacing_mm[1], input.spacing_mm[2]
                ),
            ),
            row("Modality", &modality(self.result)),
        ];
        let mut html = format!(
            "<section aria-labelledby=\"preparation-title\">\n<h2 id=\"preparation-title\">What was done to the scan</h2>\n\
             <table class=\"facts\"><tbody>\n{}</tbody></table>\n",
            rows.concat()
        );
        for (view, evidence) in self.result.views.iter().zip(self.parts.evidence) {
            let _ = writeln!(
                html,
                "<h3>View {}</h3>\n<table class=\"facts\"><tbody>\n{}</tbody></table>",
                escaped(&view.name),
                preparation::rows(evidence)
            );
        }
        html + "</section>\n"
    }

    pub fn provenance(&self) -> String {
        let r = self.result;
        let signed = match &r.plugin.package {
            Some(p) if p.weights_replaced => {
                format!("library by {} (registry {}); weights of your own", p.publisher, p.registry)
            }
            Some(p) => format!("package by {} (registry {})", p.publisher, p.registry),
            None => "local files, not signed by anybody".to_owned(),
        };
        let mut rows = vec![
            row("Plugin", &format!("{} {}", r.plugin.name, r.plugin.version)),
            digest_row("Library, sha256", &r.plugin.sha256),
            digest_row("Weights, sha256", &r.plugin.weights_sha256),
            r.plugin
                .further_weights_sha256
                .iter()
                .map(|w| digest_row("Further weights, sha256", w))
                .collect(),
            row("Origin", &signed),
            row("Backbone", &format!("{}, {}", r.backbone.name, r.backbone.precision)),
            digest_row("Backbone, sha256", &r.backbone.sha256),
        ];
        rows.extend(
            r.backbone.quantised_sha256.iter().map(|sha256| digest_row("Quantised layers, sha256", sha256)),
        );
        rows.push(digest_row("Scan, sha256", &r.input.sha256));
        rows.extend(
            r.input.other_views.iter().map(|o| digest_row(&format!("Scan of {}, sha256", o.view), &o.sha256)),
        );
        rows.push(row("Host", &format!("{} on {}", r.host, r.device)));
        rows.push(row("Time", &format!("{:.1} s", r.timing_ms.total / 1000.0)));
        format!(
            "<section aria-labelledby=\"provenance-title\">\n<h2 id=\"provenance-title\">Versions and digests</h2>\n\
             <table class=\"facts\"><tbody>\n{}</tbody></table>\n</section>\n",
            rows.concat()
        )
    }

    pub fn footer(&self) -> String {
        "<footer><p>Research use only. Not for diagnosis. This page needs no network and sends nothing.</p></footer>\n".to_owned()
    }
}

fn decision(p: &LabelPrediction) -> &'static str {
    match (p.threshold, p.positive) {
        (Some(_), true) => "positive",
        (Some(_), false) => "negative",
        (None, true) => "most probable",
        (None, false) => "–",
    }
}

fn calibration(p: &LabelPrediction) -> String {
    match p.temperature {
        Some(t) => format!("temperature {t:.3}, fitted on validation cases"),
        None => "none".to_owned(),
    }
}

fn modality(result: &CaseResult) -> String {
    match (&result.input.modality, &result.input.modality_guess) {
        (Some(told), _) => format!("{told}, as the file says"),
        (None, Some(guess)) => format!("{guess}, by its intensities"),
        (None, None) => "unknown".to_owned(),
    }
}
