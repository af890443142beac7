//! Shapes and text, drawn by one rasteriser with one font: the charts of an evaluation and the pictures of a prediction.

pub(crate) mod font;
mod raster;
mod svg;

pub(crate) use raster::Raster;

use crate::output::colour::Rgb;

/// Where a text's `at` is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Stroke {
    pub colour: Rgb,
    pub width: f32,
    pub dash: &'static [f32],
}

impl Stroke {
    pub const fn thin(colour: Rgb) -> Self {
        Self { colour, width: 1.0, dash: &[] }
    }
}

/// y grows downwards; a text's `at` is on its baseline.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    Line { points: Vec<[f32; 2]>, stroke: Stroke },
    Box { at: [f32; 2], size: [f32; 2], fill: Rgb },
    Dot { at: [f32; 2], radius: f32, fill: Rgb },
    Text { at: [f32; 2], size: f32, anchor: Anchor, colour: Rgb, up: bool, text: String },
}

/// A picture on white.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawing {
    pub(crate) size: [f32; 2],
    pub(crate) shapes: Vec<Shape>,
}

pub(crate) const WHITE: Rgb = [255, 255, 255];

impl Drawing {
    /// Nothing on it.
    pub(crate) fn empty(size: [f32; 2]) -> Self {
        Self { size, shapes: Vec::new() }
    }

    pub(crate) fn line(&mut self, points: &[[f32; 2]], stroke: Stroke) {
        self.shapes.push(Shape::Line { points: points.to_vec(), stroke });
    }

    pub(crate) fn fill(&mut self, at: [f32; 2], size: [f32; 2], fill: Rgb) {
        self.shapes.push(Shape::Box { at, size, fill });
    }

    /// With a white rim, to stand out of the lines it lies on.
    pub(crate) fn dot(&mut self, at: [f32; 2], radius: f32, fill: Rgb) {
        self.shapes.push(Shape::Dot { at, radius: radius + 1.5, fill: WHITE });
        self.shapes.push(Shape::Dot { at, radius, fill });
    }

    pub(crate) fn text(&mut self, at: [f32; 2], size: f32, colour: Rgb, text: &str) {
        self.anchored(at, size, colour, Anchor::Start, text);
    }

    pub(crate) fn anchored(&mut self, at: [f32; 2], size: f32, colour: Rgb, anchor: Anchor, text: &str) {
        let text = text.to_owned();
        self.shapes.push(Shape::Text { at, size, anchor, colour, up: false, text });
    }

    /// Read from below upwards, its middle at `at`.
    pub(crate) fn upwards(&mut self, at: [f32; 2], size: f32, colour: Rgb, text: &str) {
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
        let mut raster = Raster::new(self.size, 2.0, WHITE).ok_or("a picture without area")?;
        self.shapes.iter().for_each(|shape| raster.draw(shape));
        raster.png().map_err(|e| e.to_string())
    }
}
