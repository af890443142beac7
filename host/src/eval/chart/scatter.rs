//! Areas under the ROC curve against what a scan costs: a square per task, a colour per backbone, a mark per method.

use super::axes::columns;
use super::{COLOURS, EDGE, FOOTER, GRID, INK, QUIET, TITLE};
use crate::eval::evaluation::RESEARCH_ONLY;
use crate::output::drawing::{Anchor, Drawing, Stroke, WHITE, font};

/// One row of a study.
#[derive(Debug, Clone, PartialEq)]
pub struct ScatterPoint {
    /// On the lying axis, which is logarithmic; above 0.
    pub cost: f64,
    /// On the upright axis.
    pub auroc: f64,
    /// Its interval.
    pub interval: Option<[f64; 2]>,
    /// Index of its colour's name.
    pub colour: usize,
    /// Index of its mark's name.
    pub mark: usize,
}

/// The points of one square.
#[derive(Debug, Clone, PartialEq)]
pub struct ScatterPanel {
    /// Above it.
    pub title: String,
    /// In it.
    pub points: Vec<ScatterPoint>,
}

const SIDE: [f32; 2] = [380.0, 280.0];
const LEFT: f32 = 56.0;
const BELOW: f32 = 62.0;
const ABOVE: f32 = 30.0;
const ENTRY: f32 = 22.0;
const GAP: f32 = 26.0;

/// Draws the panels with a common legend. `cost` names the lying axis.
pub fn scatter(
    title: &str,
    cost: &str,
    panels: &[ScatterPanel],
    colours: &[String],
    marks: &[String],
) -> Drawing {
    let beside = columns(panels.len());
    let below = panels.len().div_ceil(beside).max(1);
    let step = [LEFT + SIDE[0] + GAP, ABOVE + SIDE[1] + BELOW];
    let names = colours.iter().chain(marks);
    let legend = names.map(|name| font::width(13.0, name)).fold(90.0f32, f32::max).min(330.0) + 40.0;
    let lines = colours.len() + marks.len() + 2;
    let height = (below as f32 * step[1]).max(lines as f32 * ENTRY + 20.0);
    let size = [2.0 * EDGE + beside as f32 * step[0] + legend, TITLE + height + FOOTER];
    let mut drawing = Drawing::empty(size.map(f32::ceil));
    drawing.text([EDGE, EDGE + 12.0], 18.0, INK, title);
    drawing.text([EDGE, EDGE + 31.0], 12.0, QUIET, "lines: 95 % intervals");
    drawing.text([EDGE, drawing.size[1] - 14.0], 10.5, QUIET, RESEARCH_ONLY);
    for (n, panel) in panels.iter().enumerate() {
        let corner =
            [EDGE + LEFT + (n % beside) as f32 * step[0], TITLE + ABOVE + (n / beside) as f32 * step[1]];
        Plot::of(corner, panel).draw(&mut drawing, panel, cost);
    }
    let left = EDGE + beside as f32 * step[0] + 6.0;
    let mut top = TITLE + ABOVE + 8.0;
    for (i, name) in colours.iter().enumerate() {
        drawing.dot([left, top - 4.0], 5.0, COLOURS[i % COLOURS.len()]);
        drawing.text([left + 16.0, top], 13.0, INK, &font::fitted(13.0, name, legend - 20.0));
        top += ENTRY;
    }
    top += 0.6 * ENTRY;
    for (i, name) in marks.iter().enumerate() {
        mark(&mut drawing, [left, top - 4.0], i, QUIET);
        drawing.text([left + 16.0, top], 13.0, INK, &font::fitted(13.0, name, legend - 20.0));
        top += ENTRY;
    }
    drawing
}

/// The axes of a panel.
struct Plot {
    corner: [f32; 2],
    /// Logarithms of the ends.
    cost: [f64; 2],
    auroc: [f64; 2],
}

impl Plot {
    fn of(corner: [f32; 2], panel: &ScatterPanel) -> Self {
        let costs = panel.points.iter().map(|p| p.cost.ln());
        let (low, high) = costs.fold((f64::MAX, f64::MIN), |(l, h), c| (l.min(c), h.max(c)));
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        // A quarter of an octave on both sides, and no less than an octave in all.
        let room = (0.5 * (2f64.ln() - (high - low))).max(0.25 * 2f64.ln());
        let ends = panel.points.iter().flat_map(|p| p.interval.unwrap_or([p.auroc; 2]));
        let (least, most) = ends.fold((1.0f64, 0.0f64), |(l, h), a| (l.min(a), h.max(a)));
        let tenth = |v: f64| (v * 10.0 + 1e-9).floor() / 10.0;
        let least = tenth(least.min(0.9)).max(0.0);
        let most = (tenth(most - 1e-9) + 0.1).clamp(least + 0.1, 1.0);
        Self { corner, cost: [low - room, high + room], auroc: [least, most] }
    }

    fn x(&self, cost: f64) -> f32 {
        let share = (cost.ln() - self.cost[0]) / (self.cost[1] - self.cost[0]);
        self.corner[0] + share as f32 * SIDE[0]
    }

    fn y(&self, auroc: f64) -> f32 {
        let share = (auroc - self.auroc[0]) / (self.auroc[1] - self.auroc[0]);
        self.corner[1] + (1.0 - share as f32) * SIDE[1]
    }

    /// 1, 2 and 5 times powers of ten between the ends; more of them where they are near each other.
    fn ticks(&self) -> Vec<f64> {
        let [low, high] = self.cost.map(f64::exp);
        let of = |steps: &[f64]| -> Vec<f64> {
            let powers = (-3..9).flat_map(|power| steps.iter().map(move |s| s * 10f64.powi(power)));
            powers.filter(|v| (low..=high).contains(v)).collect()
        };
        let few = of(&[1.0, 2.0, 5.0]);
        if few.len() > 8 {
            of(&[1.0])
        } else if few.len() >= 2 {
            few
        } else {
            of(&[1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0])
        }
    }

    fn draw(&self, drawing: &mut Drawing, panel: &ScatterPanel, cost: &str) {
        let [left, top] = self.corner;
        let (right, bottom) = (left + SIDE[0], top + SIDE[1]);
        drawing.text([left, top - 10.0], 13.0, INK, &font::fitted(13.0, &panel.title, SIDE[0]));
        let span = self.auroc[1] - self.auroc[0];
        let step = if span > 0.35 { 0.1 } else { 0.05 };
        for n in 0..=(span / step).round() as usize {
            let v = self.auroc[0] + n as f64 * step;
            let y = self.y(v);
            drawing.line(&[[left, y], [right, y]], Stroke::thin(GRID));
            drawing.anchored([left - 8.0, y + 4.0], 11.0, QUIET, Anchor::End, &format!("{v:.2}"));
        }
        for v in self.ticks() {
            let x = self.x(v);
            drawing.line(&[[x, top], [x, bottom]], Stroke::thin(GRID));
            drawing.anchored([x, bottom + 17.0], 11.0, QUIET, Anchor::Middle, &short(v));
        }
        drawing.line(&[[left, top], [left, bottom], [right, bottom]], Stroke::thin(QUIET));
        drawing.upwards([left - 42.0, top + 0.5 * SIDE[1]], 12.5, INK, "AUROC");
        drawing.anchored([left + 0.5 * SIDE[0], bottom + 38.0], 12.5, INK, Anchor::Middle, cost);
        if panel.points.is_empty() {
            let at = [left + 0.5 * SIDE[0], top + 0.5 * SIDE[1]];
            drawing.anchored(at, 12.0, QUIET, Anchor::Middle, "nothing measured");
        }
        for point in &panel.points {
            let (x, colour) = (self.x(point.cost), COLOURS[point.colour % COLOURS.len()]);
            if let Some([low, high]) = point.interval {
                drawing.line(
                    &[[x, self.y(low)], [x, self.y(high)]],
                    Stroke { width: 1.5, ..Stroke::thin(colour) },
                );
            }
        }
        for point in &panel.points {
            let at = [self.x(point.cost), self.y(point.auroc)];
            mark(drawing, at, point.mark, COLOURS[point.colour % COLOURS.len()]);
        }
    }
}

fn short(v: f64) -> String {
    for (unit, name) in [(1e6, "M"), (1e3, "k")] {
        if v >= 10.0 * unit || v >= 1e6 {
            return format!("{:.1}", v / unit).trim_end_matches(".0").to_owned() + name;
        }
    }
    let text = if v < 10.0 { format!("{v:.1}") } else { format!("{v:.0}") };
    text.trim_end_matches(".0").to_owned()
}

/// Dot, square, ring, frame; then the same again.
fn mark(drawing: &mut Drawing, at: [f32; 2], index: usize, colour: [u8; 3]) {
    let square = |drawing: &mut Drawing, half: f32, colour| {
        drawing.fill([at[0] - half, at[1] - half], [2.0 * half, 2.0 * half], colour);
    };
    match index % 4 {
        0 => drawing.dot(at, 5.0, colour),
        1 => {
            square(drawing, 6.0, WHITE);
            square(drawing, 4.5, colour);
        }
        2 => {
            drawing.dot(at, 5.5, colour);
            drawing.dot(at, 1.0, WHITE);
        }
        _ => {
            square(drawing, 6.5, WHITE);
            square(drawing, 5.0, colour);
            square(drawing, 2.5, WHITE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_a_mark_and_dearer_scans_stand_further_right() {
        let point = |cost, auroc, colour| ScatterPoint { cost, auroc, interval: None, colour, mark: colour };
        let points = vec![point(20.0, 0.7, 0), point(2000.0, 0.9, 1)];
        let plot = Plot::of([0.0; 2], &ScatterPanel { title: "a".into(), points: points.clone() });
        assert!(plot.x(20.0) > 0.0 && plot.x(20.0) < plot.x(200.0) && plot.x(2000.0) < SIDE[0]);
        // Equal factors are equal lengths.
        assert!((plot.x(200.0) - plot.x(20.0) - (plot.x(2000.0) - plot.x(200.0))).abs() < 1e-3);
        assert!(plot.y(0.9) < plot.y(0.7) && plot.y(0.9) >= 0.0 && plot.y(0.7) <= SIDE[1]);
        let panels = [
            ScatterPanel { title: "one <task>".into(), points },
            ScatterPanel { title: "none".into(), points: Vec::new() },
        ];
        let names = |all: [&str; 2]| all.map(str::to_owned).to_vec();
        let drawing = scatter("Study", "ms", &panels, &names(["small", "large"]), &names(["probe", "LoRA"]));
        let svg = drawing.svg();
        for text in [">one &lt;task&gt;<", ">nothing measured<", ">small<", ">LoRA<", ">0.90<", ">200<"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        assert!(drawing.png().is_ok());
    }
}
