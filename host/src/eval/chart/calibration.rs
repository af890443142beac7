//! Reliability diagrams: how often what was said with p came true, and in how many cases p was said. A part per label.

use super::axes::{BELOW, LEFT, Square, columns};
use super::{BLUE, EDGE, FOOTER, GRID, INK, QUIET, TITLE, framed, look_of};
use crate::eval::evaluation::{Evaluation, LabelReport};
use crate::eval::metrics::{Bin, ECE_BINS, reliability, wilson_interval};
use crate::eval::predictions::Question;
use crate::output::colour::Rgb;
use crate::output::drawing::{Anchor, Drawing, Stroke, font};

/// Name and figures above a square.
const HEAD: f32 = 44.0;
const GAP: f32 = 26.0;
const BARS: Rgb = [168, 194, 224];
const WHISKER: Stroke = Stroke { colour: [130, 160, 200], width: 1.4, dash: &[] };

/// Per label: mean probability against share of positives in each of the 15 bins of the calibration error, with Wilson
/// intervals, and the number of cases in each bin below.
pub fn calibration(evaluation: &Evaluation, questions: &[Question]) -> Drawing {
    let columns = columns(questions.len());
    let side = match columns {
        1 => 400.0,
        2 => 320.0,
        _ => 250.0,
    };
    let bars = 0.22 * side;
    let part = [LEFT + side + GAP, HEAD + side + 12.0 + bars + BELOW + GAP];
    let rows = questions.len().div_ceil(columns).max(1);
    let size = [2.0 * EDGE + columns as f32 * part[0], TITLE + rows as f32 * part[1] + FOOTER];
    let mut drawing = framed(size.map(f32::ceil), "Calibration", evaluation);
    for (i, (question, (_, report))) in questions.iter().zip(&evaluation.labels).enumerate() {
        let at =
            [EDGE + (i % columns) as f32 * part[0] + LEFT, TITLE + (i / columns) as f32 * part[1] + HEAD];
        panel(&mut drawing, Square { at, side }, bars, question, report);
    }
    drawing
}

fn panel(drawing: &mut Drawing, square: Square, bars: f32, question: &Question, report: &LabelReport) {
    let ([left, top], side) = (square.at, square.side);
    let m = &report.metrics;
    drawing.text([left, top - 26.0], 13.0, INK, &font::fitted(13.0, &question.name, side));
    let figure = |v: Option<f64>| v.map_or("not defined".to_owned(), |v| format!("{v:.3}"));
    let below = format!("ECE {}, Brier {}, n {}", figure(m.ece), figure(m.brier), m.n);
    drawing.text([left, top - 10.0], 11.0, QUIET, &below);

    square.grid(drawing, "share of positives");
    let perfect = Stroke { dash: &[4.0, 4.0], ..Stroke::thin(QUIET) };
    drawing.line(&square.places(&[[0.0, 0.0], [1.0, 1.0]]), perfect);
    let bins = reliability(&question.truth, &question.probabilities);
    let share = |b: &Bin| b.positives as f64 / b.cases as f64;
    for bin in &bins {
        let [low, high] = wilson_interval(bin.positives, bin.cases);
        drawing.line(&square.places(&[[bin.mean, low], [bin.mean, high]]), WHISKER);
    }
    let line: Vec<[f64; 2]> = bins.iter().map(|b| [b.mean, share(b)]).collect();
    drawing.line(&square.places(&line), look_of(0));
    line.iter().for_each(|p| drawing.dot(square.place(*p), 3.5, BLUE));
    counts(drawing, square, bars, &bins);
}

/// The histogram below a square, on the same axis.
fn counts(drawing: &mut Drawing, square: Square, height: f32, bins: &[Bin]) {
    let ([left, top], side) = (square.at, square.side);
    let bottom = top + side + 12.0 + height;
    let most = bins.iter().map(|b| b.cases).max().unwrap_or(1) as f32;
    let width = side / ECE_BINS as f32;
    let size = if side > 300.0 { 9.5 } else { 8.0 };
    for bin in bins {
        // Room for the number above the tallest bar.
        let tall = (height - size - 4.0) * bin.cases as f32 / most;
        let x = left + bin.index as f32 * width;
        drawing.fill([x + 1.0, bottom - tall], [width - 2.0, tall], BARS);
        let count = short(bin.cases);
        drawing.anchored([x + 0.5 * width, bottom - tall - 3.0], size, QUIET, Anchor::Middle, &count);
    }
    drawing.line(&[[left, bottom], [left + side, bottom]], Stroke::thin(QUIET));
    drawing.line(&[[left, bottom - height], [left, bottom]], Stroke::thin(GRID));
    drawing.upwards([left - 14.0, bottom - 0.5 * height], 11.0, QUIET, "cases");
    square.below(drawing, bottom, "mean probability");
}

/// `950`, `1.2k`, `15k`: as wide as a bar.
fn short(count: usize) -> String {
    match count as f64 / 1000.0 {
        k if k < 1.0 => count.to_string(),
        k if k < 9.95 => format!("{k:.1}k"),
        k => format!("{k:.0}k"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn counts_are_as_wide_as_a_bar() {
        assert_eq!([0, 999, 1240, 9960, 15_300].map(super::short), ["0", "999", "1.2k", "10k", "15k"]);
    }
}
