//! A drawing as a PNG file.

use super::{Anchor, Drawing, Shape, font};
use crate::output::colour::Rgb;
use tiny_skia::{
    Color, FillRule, LineCap, LineJoin, Paint, PathBuilder, Pixmap, Rect, Stroke, StrokeDash, Transform,
};

/// `scale` pixels per unit of the drawing.
pub(super) fn write(drawing: &Drawing, scale: f32) -> Result<Vec<u8>, String> {
    let [width, height] = drawing.size.map(|side| (side * scale).ceil() as u32);
    let mut pixels = Pixmap::new(width, height).ok_or("a picture without area")?;
    pixels.fill(Color::WHITE);
    for shape in &drawing.shapes {
        draw(&mut pixels, shape, Transform::from_scale(scale, scale));
    }
    let rgb: Vec<u8> = pixels.data().chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
    encode(width, height, &rgb).map_err(|e| e.to_string())
}

fn encode(width: u32, height: u32, rgb: &[u8]) -> Result<Vec<u8>, png::EncodingError> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb)?;
    writer.finish()?;
    Ok(file)
}

fn paint([r, g, b]: Rgb) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(r, g, b, 255);
    paint.anti_alias = true;
    paint
}

/// What has no area or extent draws nothing.
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
