//! Areas under the ROC curve with their intervals, a line per method: a forest plot.

use super::{BLUE, EDGE, FOOTER, GRID, INK, QUIET, TITLE, titled};
use crate::output::drawing::{Anchor, Drawing, Stroke, font};

/// A method in a forest plot.
#[derive(Debug, Clone, PartialEq)]
pub struct ForestRow {
    /// Left of the line.
    pub name: String,
    /// Where its mark stands; without it `note` says why.
    pub auroc: Option<f64>,
    /// The ends of its line.
    pub interval: Option<[f64; 2]>,
    /// Right of the line.
    pub note: String,
    /// Whether others are tested against it: drawn as a square, with a line through the panel.
    pub baseline: bool,
}

/// The methods on one question.
#[derive(Debug, Clone, PartialEq)]
pub struct ForestPanel {
    /// Above it.
    pub title: String,
    /// From above downwards.
    pub rows: Vec<ForestRow>,
}

const ROW: f32 = 20.0;
const PLOT: f32 = 260.0;
const ABOVE: f32 = 26.0;
const BELOW: f32 = 40.0;
const GAP: f32 = 26.0;
const NAMES: [f32; 2] = [90.0, 210.0];
const NOTES: f32 = 150.0;

/// Draws the panels below and beside each other.
pub fn forest(title: &str, panels: &[ForestPanel]) -> Drawing {
    let beside = match panels.len() {
        0..=2 => 1,
        3..=8 => 2,
        _ => 3,
    };
    let names = panels.iter().flat_map(|panel| &panel.rows).map(|row| font::width(12.0, &row.name));
    let names = names.fold(NAMES[0], f32::max).min(NAMES[1]);
    let step = names + 12.0 + PLOT + 12.0 + NOTES + GAP;
    let height = |panel: &ForestPanel| ABOVE + panel.rows.len() as f32 * ROW + BELOW;
    // Panels go where the column is shortest, so that long and short ones share the page.
    let mut columns = vec![TITLE; beside];
    let mut places = Vec::new();
    for panel in panels {
        let shortest = (0..beside).min_by(|a, b| columns[*a].total_cmp(&columns[*b])).unwrap_or(0);
        places.push([EDGE + shortest as f32 * step, columns[shortest]]);
        columns[shortest] += height(panel);
    }
    let bottom = columns.iter().copied().fold(TITLE + 40.0, f32::max);
    let size = [(2.0 * EDGE + beside as f32 * step - GAP).ceil(), (bottom + FOOTER).ceil()];
    let mut drawing = titled(size, title, "AUROC with 95 % intervals; squares and dashed lines: baselines");
    for (panel, at) in panels.iter().zip(places) {
        draw(&mut drawing, panel, at, names);
    }
    drawing
}

/// The ends of a panel's axis: whole tenths around everything in it.
fn ends(panel: &ForestPanel) -> [f64; 2] {
    let all = panel.rows.iter().flat_map(|row| row.interval.into_iter().flatten().chain(row.auroc));
    let (low, high) = all.fold((1.0f64, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
    if low > high {
        return [0.0, 1.0];
    }
    let least = (low * 10.0 + 1e-9).floor() / 10.0;
    let most = (high * 10.0 - 1e-9).ceil() / 10.0;
    [least.clamp(0.0, 0.9), most.clamp(least.clamp(0.0, 0.9) + 0.1, 1.0)]
}

fn draw(drawing: &mut Drawing, panel: &ForestPanel, [left, top]: [f32; 2], names: f32) {
    let whole = names + 12.0 + PLOT + NOTES;
    drawing.text([left, top + 14.0], 13.0, INK, &font::fitted(13.0, &panel.title, whole));
    let (plot, first) = (left + names + 12.0, top + ABOVE);
    let bottom = first + panel.rows.len() as f32 * ROW;
    let [low, high] = ends(panel);
    let x = |v: f64| plot + ((v - low) / (high - low)) as f32 * PLOT;
    let steps = ((high - low) * 10.0).round() as usize;
    for step in 0..=steps {
        let v = low + step as f64 / 10.0;
        drawing.line(&[[x(v), first], [x(v), bottom]], Stroke::thin(GRID));
        drawing.anchored([x(v), bottom + 16.0], 11.0, QUIET, Anchor::Middle, &format!("{v:.1}"));
    }
    for row in panel.rows.iter().filter(|row| row.baseline) {
        if let Some(auroc) = row.auroc {
            let look = Stroke { dash: &[3.0, 3.0], ..Stroke::thin(QUIET) };
            drawing.line(&[[x(auroc), first], [x(auroc), bottom]], look);
        }
    }
    drawing.line(&[[plot, bottom], [plot + PLOT, bottom]], Stroke::thin(QUIET));
    for (n, row) in panel.rows.iter().enumerate() {
        let middle = first + (n as f32 + 0.5) * ROW;
        let name = font::fitted(12.0, &row.name, names);
        drawing.anchored([left + names, middle + 4.0], 12.0, INK, Anchor::End, &name);
        if let Some([from, to]) = row.interval {
            drawing.line(&[[x(from), middle], [x(to), middle]], Stroke { width: 1.6, ..Stroke::thin(BLUE) });
        }
        match row.auroc {
            Some(auroc) if row.baseline => {
                drawing.fill([x(auroc) - 4.5, middle - 4.5], [9.0, 9.0], INK);
            }
            Some(auroc) => drawing.dot([x(auroc), middle], 4.0, BLUE),
            None => {}
        }
        let note = font::fitted(11.0, &row.note, NOTES);
        drawing.text([plot + PLOT + 12.0, middle + 4.0], 11.0, QUIET, &note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, auroc: Option<f64>, interval: Option<[f64; 2]>) -> ForestRow {
        ForestRow { name: name.into(), auroc, interval, note: "a note".into(), baseline: name == "base" }
    }

    #[test]
    fn every_method_has_a_line_and_the_axis_holds_every_interval() {
        let rows = vec![row("base", Some(0.7), Some([0.62, 0.78])), row("none", None, None)];
        let panel = ForestPanel { title: "one <task>".into(), rows };
        assert_eq!(ends(&panel), [0.6, 0.8]);
        let wide = ForestPanel { rows: vec![row("a", Some(1.0), Some([0.05, 1.0]))], ..panel.clone() };
        assert_eq!(ends(&wide), [0.0, 1.0]);
        assert_eq!(ends(&ForestPanel { rows: vec![row("a", None, None)], ..panel.clone() }), [0.0, 1.0]);
        let drawing = forest("Benchmark", &[panel.clone(), wide, panel]);
        let svg = drawing.svg();
        for text in [">one &lt;task&gt;<", ">base<", ">none<", ">a note<", ">0.6<"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        assert!(drawing.png().is_ok());
        assert!(forest("nothing", &[]).png().is_ok());
    }
}
