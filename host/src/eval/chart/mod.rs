//! Charts of an evaluation: drawn once as shapes, written as SVG and as PNG.
//!
//! Every chart takes the evaluation and the questions that it answers. If a label's cases do not define a curve, the
//! legend names the label and the chart has no curve for it.

mod axes;
mod calibration;
mod confusion;
mod curves;
mod font;
mod raster;
mod svg;
#[cfg(test)]
mod tests;

pub use calibration::calibration;
pub use confusion::confusion;
pub use curves::{precision_recall, roc};

use crate::eval::evaluation::{Evaluation, RESEARCH_ONLY};
use crate::output::colour::Rgb;

const WHITE: Rgb = [255, 255, 255];
const INK: Rgb = [28, 33, 40];
const QUIET: Rgb = [96, 105, 118];
const GRID: Rgb = [226, 230, 235];
const BLUE: Rgb = [31, 90, 166];

/// One colour per label, then the same with other dashes: apart for readers who do not tell red from green, too (after
/// Okabe & Ito and Tableau 10).
const COLOURS: [Rgb; 8] = [
    BLUE,
    [213, 94, 0],
    [0, 135, 100],
    [180, 60, 140],
    [196, 144, 0],
    [60, 160, 214],
    [120, 80, 60],
    [90, 90, 90],
];
const DASHES: [&[f32]; 4] = [&[], &[7.0, 3.0], &[2.0, 2.5], &[9.0, 3.0, 2.0, 3.0]];

/// Space around everything, and below the title, pixels of the SVG.
const EDGE: f32 = 24.0;
const TITLE: f32 = 62.0;
const FOOTER: f32 = 34.0;

/// Where a text's `at` is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Anchor {
    Start,
    Middle,
    End,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stroke {
    colour: Rgb,
    width: f32,
    dash: &'static [f32],
}

impl Stroke {
    const fn thin(colour: Rgb) -> Self {
        Self { colour, width: 1.0, dash: &[] }
    }

    /// Of label `index` among several.
    fn of(index: usize) -> Self {
        let dash = DASHES[index / COLOURS.len() % DASHES.len()];
        Self { colour: COLOURS[index % COLOURS.len()], width: 2.0, dash }
    }
}

/// y grows downwards; a text's `at` is on its baseline.
#[derive(Debug, Clone, PartialEq)]
enum Shape {
    Line { points: Vec<[f32; 2]>, stroke: Stroke },
    Box { at: [f32; 2], size: [f32; 2], fill: Rgb },
    Dot { at: [f32; 2], radius: f32, fill: Rgb },
    Text { at: [f32; 2], size: f32, anchor: Anchor, colour: Rgb, up: bool, text: String },
}

/// A picture on white.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawing {
    size: [f32; 2],
    shapes: Vec<Shape>,
}

impl Drawing {
    /// With title, what it is of, and the notice that belongs to every figure.
    fn new(size: [f32; 2], title: &str, evaluation: &Evaluation) -> Self {
        let mut drawing = Self { size, shapes: Vec::new() };
        drawing.text([EDGE, EDGE + 12.0], 18.0, INK, title);
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let of = format!("{}, {}", count(evaluation.cases, "case"), count(evaluation.patients, "patient"));
        drawing.text([EDGE, EDGE + 31.0], 12.0, QUIET, &of);
        drawing.text([EDGE, size[1] - 14.0], 10.5, QUIET, RESEARCH_ONLY);
        drawing
    }

    fn line(&mut self, points: &[[f32; 2]], stroke: Stroke) {
        self.shapes.push(Shape::Line { points: points.to_vec(), stroke });
    }

    fn fill(&mut self, at: [f32; 2], size: [f32; 2], fill: Rgb) {
        self.shapes.push(Shape::Box { at, size, fill });
    }

    /// With a white rim, to stand out of the lines it lies on.
    fn dot(&mut self, at: [f32; 2], radius: f32, fill: Rgb) {
        self.shapes.push(Shape::Dot { at, radius: radius + 1.5, fill: WHITE });
        self.shapes.push(Shape::Dot { at, radius, fill });
    }

    fn text(&mut self, at: [f32; 2], size: f32, colour: Rgb, text: &str) {
        self.anchored(at, size, colour, Anchor::Start, text);
    }

    fn anchored(&mut self, at: [f32; 2], size: f32, colour: Rgb, anchor: Anchor, text: &str) {
        let text = text.to_owned();
        self.shapes.push(Shape::Text { at, size, anchor, colour, up: false, text });
    }

    /// Read from below upwards, its middle at `at`.
    fn upwards(&mut self, at: [f32; 2], size: f32, colour: Rgb, text: &str) {
        let (anchor, text) = (Anchor::Middle, text.to_owned());
        self.shapes.push(Shape::Text { at, size, anchor, colour, up: true, text });
    }

    /// The picture as an SVG file.
    pub fn svg(&self) -> String {
        svg::write(self)
    }

    /// The picture as a PNG file of twice as many pixels.
    ///
    /// # Errors
    /// When it has no area, or cannot be compressed.
    pub fn png(&self) -> Result<Vec<u8>, String> {
        raster::write(self, 2.0)
    }
}

/// `0.912 [0.870, 0.954]`, as much of it as is defined.
fn with_interval(value: Option<f64>, interval: Option<[f64; 2]>) -> String {
    match (value, interval) {
        (Some(value), Some([low, high])) => format!("{value:.3} [{low:.3}, {high:.3}]"),
        (Some(value), None) => format!("{value:.3}"),
        (None, _) => "not defined".to_owned(),
    }
}
