//! Charts of an evaluation: drawn once as shapes, written as SVG and as PNG.
//!
//! Every chart takes the evaluation and the questions that it answers. If a label's cases do not define a curve, the
//! legend names the label and the chart has no curve for it.

mod axes;
mod calibration;
mod confusion;
mod curves;
mod forest;
mod scatter;
#[cfg(test)]
mod tests;

pub use calibration::calibration;
pub use confusion::confusion;
pub use curves::{MethodScores, precision_recall, roc, roc_of_methods};
pub use forest::{ForestPanel, ForestRow, forest};
pub use scatter::{ScatterPanel, ScatterPoint, scatter};

use crate::eval::evaluation::{Evaluation, RESEARCH_ONLY};
use crate::output::colour::Rgb;
pub use crate::output::drawing::Drawing;
use crate::output::drawing::Stroke;

const INK: Rgb = [28, 33, 40];
const QUIET: Rgb = [96, 105, 118];
const GRID: Rgb = [226, 230, 235];
const BLUE: Rgb = [31, 90, 166];

/// One colour per label, then the same with other dashes: apart for readers who do not tell red from green, too (after
/// Okabe & Ito and Tableau 10).
const COLOURS: [Rgb; 10] = [
    BLUE,
    [213, 94, 0],
    [0, 135, 100],
    [180, 60, 140],
    [196, 144, 0],
    [60, 160, 214],
    [120, 80, 60],
    [90, 90, 90],
    [222, 120, 160],
    [120, 134, 20],
];
const DASHES: [&[f32]; 4] = [&[], &[7.0, 3.0], &[2.0, 2.5], &[9.0, 3.0, 2.0, 3.0]];

/// Space around everything, and below the title, pixels of the SVG.
const EDGE: f32 = 24.0;
const TITLE: f32 = 62.0;
const FOOTER: f32 = 34.0;

/// The look of label `index` among several.
fn look_of(index: usize) -> Stroke {
    let dash = DASHES[index / COLOURS.len() % DASHES.len()];
    Stroke { colour: COLOURS[index % COLOURS.len()], width: 2.0, dash }
}

/// A picture with title, what it is of, and the notice that belongs to every figure.
fn titled(size: [f32; 2], title: &str, of: &str) -> Drawing {
    let mut drawing = Drawing::empty(size);
    drawing.text([EDGE, EDGE + 12.0], 18.0, INK, title);
    drawing.text([EDGE, EDGE + 31.0], 12.0, QUIET, of);
    drawing.text([EDGE, size[1] - 14.0], 10.5, QUIET, RESEARCH_ONLY);
    drawing
}

fn framed(size: [f32; 2], title: &str, evaluation: &Evaluation) -> Drawing {
    titled(size, title, &cases_of(evaluation))
}

/// How many cases an evaluation is of, and of how many patients.
fn cases_of(evaluation: &Evaluation) -> String {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let (labelled, all) = (evaluation.labelled_cases, evaluation.cases);
    let cases = match labelled == all {
        true => count(all, "case"),
        false => format!("{labelled} labelled of {}", count(all, "case")),
    };
    format!("{cases}, {}", count(evaluation.labelled_patients, "patient"))
}

/// `0.912 [0.870, 0.954]`, as much of it as is defined.
fn with_interval(value: Option<f64>, interval: Option<[f64; 2]>) -> String {
    match (value, interval) {
        (Some(value), Some([low, high])) => format!("{value:.3} [{low:.3}, {high:.3}]"),
        (Some(value), None) => format!("{value:.3}"),
        (None, _) => "not defined".to_owned(),
    }
}
