//! Shapes and images as pixels.

use super::{Anchor, Shape, font};
use crate::output::colour::Rgb;
use tiny_skia::{
    Color, FillRule, LineCap, LineJoin, Paint, PathBuilder, Pixmap, Rect, Stroke, StrokeDash, Transform,
};

/// A picture in memory.
pub(crate) struct Raster {
    pixels: Pixmap,
    scale: Transform,
}

impl Raster {
    /// `scale` pixels per unit of the shapes; `None` where the picture has no area.
    pub fn new(size: [f32; 2], scale: f32, background: Rgb) -> Option<Self> {
        let [width, height] = size.map(|side| (side * scale).ceil() as u32);
        let mut pixels = Pixmap::new(width, height)?;
        let [r, g, b] = background;
        pixels.fill(Color::from_rgba8(r, g, b, 255));
        Some(Self { pixels, scale: Transform::from_scale(scale, scale) })
    }

    /// Draws a shape over what is there. What has no area or extent draws nothing.
    pub fn draw(&mut self, shape: &Shape) {
        draw(&mut self.pixels, shape, self.scale);
    }

    /// Puts an image of `width` columns with its first pixel at `[x, y]`, pixel by pixel; what lies outside is left out.
    pub fn image(&mut self, [x, y]: [usize; 2], width: usize, rgb: &[Rgb]) {
        let (wide, high) = (self.width(), self.height());
        let data = self.pixels.data_mut();
        for (row, colours) in rgb.chunks(width.max(1)).enumerate().take(high.saturating_sub(y)) {
            for (column, [r, g, b]) in colours.iter().enumerate().take(wide.saturating_sub(x)) {
                let at = 4 * ((y + row) * wide + x + column);
                data[at..at + 4].copy_from_slice(&[*r, *g, *b, 255]);
            }
        }
    }

    pub fn width(&self) -> usize {
        self.pixels.width() as usize
    }

    pub fn height(&self) -> usize {
        self.pixels.height() as usize
    }

    /// Its pixels, row by row.
    pub fn rgb(&self) -> Vec<u8> {
        // The background is opaque, so that no pixel is multiplied by an alpha.
        self.pixels.data().chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect()
    }

    /// The picture as a PNG file.
    ///
    /// # Errors
    /// When the encoder fails.
    pub fn png(&self) -> Result<Vec<u8>, png::EncodingError> {
        let rgb = self.rgb();
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, self.pixels.width(), self.pixels.height());
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&rgb)?;
        writer.finish()?;
        Ok(file)
    }

    #[cfg(test)]
    pub fn pixel(&self, x: usize, y: usize) -> Rgb {
        let p = self.pixels.pixel(x as u32, y as u32).unwrap();
        [p.red(), p.green(), p.blue()]
    }
}

fn paint([r, g, b]: Rgb) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(r, g, b, 255);
    paint.anti_alias = true;
    paint
}

fn draw(pixels: &mut Pixmap, shape: &Shape, scale: Transform) {
    match shape {
        Shape::Line { points, stroke } => {
            let mut path = PathBuilder::new();
            for (i, [x, y]) in points.iter().enumerate() {
                if i == 0 { path.move_to(*x, *y) } else { path.line_to(*x, *y) }
            }
            let look = Stroke {
                width: stroke.width,
                line_cap: LineCap::Butt,
                line_join: LineJoin::Round,
                dash: StrokeDash::new(stroke.dash.to_vec(), 0.0),
                ..Stroke::default()
            };
            if let Some(path) = path.finish() {
                pixels.stroke_path(&path, &paint(stroke.colour), &look, scale, None);
            }
        }
        Shape::Box { at: [x, y], size: [w, h], fill } => {
            if let Some(rect) = Rect::from_xywh(*x, *y, *w, *h) {
                pixels.fill_rect(rect, &paint(*fill), scale, None);
            }
        }
        Shape::Dot { at: [x, y], radius, fill } => {
            if let Some(path) = PathBuilder::from_circle(*x, *y, *radius) {
                pixels.fill_path(&path, &paint(*fill), FillRule::Winding, scale, None);
            }
        }
        Shape::Text { at, size, anchor, colour, up, text } => {
            let back = match anchor {
                Anchor::Start => 0.0,
                Anchor::Middle => 0.5 * font::width(*size, text),
                Anchor::End => font::width(*size, text),
            };
            let at = if *up { [at[0], at[1] + back] } else { [at[0] - back, at[1]] };
            if let Some(path) = font::outline(at, *size, *up, text) {
                pixels.fill_path(&path, &paint(*colour), FillRule::Winding, scale, None);
            }
        }
    }
}
