//! What was true against what was answered, in cases and in shares of what was true. A part per label.

use super::axes::columns;
use super::{EDGE, FOOTER, GRID, INK, QUIET, TITLE, framed};
use crate::eval::evaluation::Evaluation;
use crate::eval::metrics::Operating;
use crate::eval::predictions::Question;
use crate::output::colour::Rgb;
use crate::output::drawing::{Anchor, Drawing, Stroke, WHITE, font};

const HEAD: f32 = 66.0;
/// Room for the names of what was true, least and most, and for the axis' own.
const NAMES: [f32; 2] = [52.0, 170.0];
const AXIS: f32 = 32.0;
const GAP: f32 = 34.0;
/// The full colour, of a whole row in one cell.
const FULL: Rgb = [24, 84, 160];

/// One label's counts.
struct Table {
    name: String,
    about: String,
    classes: Vec<String>,
    /// By true class (row) and answer (column).
    counts: Vec<Vec<usize>>,
}

/// Counts at each label's threshold, and the whole table of a multi-class label.
pub fn confusion(evaluation: &Evaluation, questions: &[Question]) -> Drawing {
    let tables = tables(evaluation, questions);
    let columns = columns(tables.len());
    let widest = tables.iter().map(|t| t.classes.len()).max().unwrap_or(2);
    let cell = if widest > 6 { 54.0 } else { 84.0 };
    let side = cell * widest as f32;
    let named = tables.iter().flat_map(|t| &t.classes).map(|name| font::width(11.0, name));
    let names = AXIS + named.fold(0.0f32, f32::max).clamp(NAMES[0], NAMES[1]);
    let part = [names + side + GAP, HEAD + side + GAP];
    let rows = tables.len().div_ceil(columns).max(1);
    let size = [(2.0 * EDGE + columns as f32 * part[0]).max(360.0), TITLE + rows as f32 * part[1] + FOOTER];
    let mut drawing = framed(size.map(f32::ceil), "Confusion", evaluation);
    for (i, table) in tables.iter().enumerate() {
        let left = EDGE + (i % columns) as f32 * part[0] + names;
        let top = TITLE + (i / columns) as f32 * part[1] + HEAD;
        panel(&mut drawing, [left, top], names, cell, table);
    }
    drawing
}

/// A table of two per label, one of all classes per multi-class label.
fn tables(evaluation: &Evaluation, questions: &[Question]) -> Vec<Table> {
    let binary = questions.iter().filter_map(|q| {
        let threshold = q.threshold?;
        let c = Operating::of(&q.truth, &q.positive);
        Some(Table {
            name: q.name.clone(),
            about: format!("threshold {threshold:.3}"),
            classes: ["positive", "negative"].map(str::to_owned).to_vec(),
            counts: vec![
                vec![c.true_positives, c.false_negatives],
                vec![c.false_positives, c.true_negatives],
            ],
        })
    });
    let classes = evaluation.multiclass.iter().map(|(name, report)| Table {
        name: name.clone(),
        about: report.accuracy.map_or("no case".to_owned(), |a| format!("accuracy {a:.3}")),
        classes: report.classes.clone(),
        counts: report.confusion.clone(),
    });
    binary.chain(classes).collect()
}

/// `names`: room left of the table.
fn panel(drawing: &mut Drawing, [left, top]: [f32; 2], names: f32, cell: f32, table: &Table) {
    let side = cell * table.classes.len() as f32;
    let start = left - names + 18.0;
    drawing.text([start, top - 48.0], 13.0, INK, &font::fitted(13.0, &table.name, names + side - 18.0));
    drawing.text([start, top - 33.0], 11.0, QUIET, &table.about);
    drawing.anchored([left + 0.5 * side, top - 24.0], 11.0, QUIET, Anchor::Middle, "answered");
    drawing.upwards([left - names + 12.0, top + 0.5 * side], 11.0, QUIET, "true");
    for (row, (name, counts)) in table.classes.iter().zip(&table.counts).enumerate() {
        let y = top + row as f32 * cell;
        let of_truth = counts.iter().sum::<usize>();
        let room = names - AXIS;
        let name_below = [left - 8.0, y + 0.5 * cell + 4.0];
        drawing.anchored(name_below, 11.0, INK, Anchor::End, &font::fitted(11.0, name, room));
        let above = [left + (row as f32 + 0.5) * cell, top - 8.0];
        drawing.anchored(above, 11.0, INK, Anchor::Middle, &font::fitted(11.0, name, cell - 4.0));
        for (column, count) in counts.iter().enumerate() {
            let share = *count as f32 / of_truth.max(1) as f32;
            let x = left + column as f32 * cell;
            drawing.fill([x, y], [cell, cell], shade(share));
            let colour = if share > 0.5 { WHITE } else { INK };
            let middle = [x + 0.5 * cell, y + 0.5 * cell];
            let size = if cell > 60.0 { 16.0 } else { 12.0 };
            drawing.anchored(middle, size, colour, Anchor::Middle, &count.to_string());
            if of_truth > 0 {
                let share = format!("{:.1} %", 100.0 * share);
                let below = [middle[0], middle[1] + size];
                drawing.anchored(below, 0.68 * size, colour, Anchor::Middle, &share);
            }
        }
    }
    for step in 0..=table.classes.len() {
        let d = step as f32 * cell;
        drawing.line(&[[left + d, top], [left + d, top + side]], Stroke::thin(GRID));
        drawing.line(&[[left, top + d], [left + side, top + d]], Stroke::thin(GRID));
    }
}

/// White to [`FULL`].
fn shade(share: f32) -> Rgb {
    let mix = |c: usize| {
        let (white, full) = (f32::from(WHITE[c]), f32::from(FULL[c]));
        (white + (full - white) * share).round() as u8
    };
    [mix(0), mix(1), mix(2)]
}
