//! A picture in memory: rectangles, smooth text, PNG.

use crate::output::colour::Rgb;

/// 8-bit RGB, row by row.
pub(crate) struct Canvas {
    pub width: usize,
    pub height: usize,
    rgb: Vec<u8>,
}

/// Width and height of a letter's cell before it is scaled.
const CELL: f32 = 8.0;
/// The bitmap's letters are as wide as high, drawn for a television; in print they are narrower.
const NARROW: f32 = 0.76;

impl Canvas {
    pub fn new(width: usize, height: usize, colour: Rgb) -> Self {
        Self { width, height, rgb: colour.repeat(width * height) }
    }

    /// Mixes `colour` into a pixel; `amount` 0..1. Outside the picture nothing happens.
    pub fn mix(&mut self, x: usize, y: usize, colour: Rgb, amount: f32) {
        if x >= self.width || y >= self.height {
            return;
        }
        let at = 3 * (y * self.width + x);
        for (v, c) in self.rgb[at..at + 3].iter_mut().zip(colour) {
            *v = (f32::from(*v) + (f32::from(c) - f32::from(*v)) * amount.clamp(0.0, 1.0)).round() as u8;
        }
    }

    pub fn fill(&mut self, [x, y]: [usize; 2], [w, h]: [usize; 2], colour: Rgb) {
        for y in y..(y + h).min(self.height) {
            for x in x..(x + w).min(self.width) {
                self.mix(x, y, colour, 1.0);
            }
        }
    }

    /// One-pixel frame around a rectangle, outside of it.
    pub fn frame(&mut self, [x, y]: [usize; 2], [w, h]: [usize; 2], colour: Rgb) {
        let (left, top) = (x.saturating_sub(1), y.saturating_sub(1));
        self.fill([left, top], [w + 2, 1], colour);
        self.fill([left, y + h], [w + 2, 1], colour);
        self.fill([left, top], [1, h + 2], colour);
        self.fill([x + w, top], [1, h + 2], colour);
    }

    /// Text with its top left corner at `at`, letters of `size` pixels. Letters that the font lacks become `?`.
    ///
    /// The 8×8 bitmap is interpolated smoothly and cut at one half, which rounds its steps.
    pub fn text(&mut self, [x, y]: [usize; 2], size: f32, text: &str, colour: Rgb) {
        let scale = size / CELL;
        for (i, letter) in text.chars().enumerate() {
            let glyph = glyph(letter);
            let origin = x as f32 + i as f32 * advance(size);
            let from = origin.floor() as usize;
            for py in 0..size.ceil() as usize + 1 {
                for px in from..(origin + size * NARROW).ceil() as usize {
                    let u = (px as f32 + 0.5 - origin) / (scale * NARROW) - 0.5;
                    let v = (py as f32 + 0.5) / scale - 0.5;
                    // An edge one pixel wide whatever the scale.
                    let cover = ((field(&glyph, u, v) - 0.42) * scale.max(1.0) + 0.5).clamp(0.0, 1.0);
                    if cover > 0.0 {
                        self.mix(px, y + py, colour, cover);
                    }
                }
            }
        }
    }

    /// Text that ends at `right`.
    pub fn text_right(&mut self, [right, y]: [usize; 2], size: f32, text: &str, colour: Rgb) {
        self.text([right.saturating_sub(width(size, text)), y], size, text, colour);
    }

    /// Text centred on `x`.
    pub fn text_centred(&mut self, [x, y]: [usize; 2], size: f32, text: &str, colour: Rgb) {
        self.text([x.saturating_sub(width(size, text) / 2), y], size, text, colour);
    }

    /// Its pixels, row by row.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The picture as a PNG file.
    pub fn png(&self) -> Result<Vec<u8>, png::EncodingError> {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_compression(png::Compression::Fast);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.rgb)?;
        writer.finish()?;
        Ok(file)
    }

    #[cfg(test)]
    pub fn pixel(&self, x: usize, y: usize) -> Rgb {
        let at = 3 * (y * self.width + x);
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
    }
}

/// From one letter to the next.
fn advance(size: f32) -> f32 {
    size * NARROW
}

/// Width of a text in pixels.
pub(crate) fn width(size: f32, text: &str) -> usize {
    (text.chars().count() as f32 * advance(size)).ceil() as usize
}

/// As much of a text as fits into `room` pixels, with dots where it was cut.
pub(crate) fn fitted(size: f32, text: &str, room: usize) -> String {
    if width(size, text) <= room {
        return text.to_string();
    }
    let letters = (room as f32 / advance(size)) as usize;
    let kept: String = text.chars().take(letters.saturating_sub(2)).collect();
    format!("{}..", kept.trim_end())
}

fn glyph(letter: char) -> [u8; 8] {
    let index = u32::from(letter) as usize;
    let letter = if (32..127).contains(&index) { index } else { usize::from(b'?') };
    font8x8::legacy::BASIC_LEGACY[letter]
}

/// The bitmap at a fractional place, linear between its dots, 0 outside.
fn field(glyph: &[u8; 8], u: f32, v: f32) -> f32 {
    let dot = |x: f32, y: f32| {
        let inside = (0.0..8.0).contains(&x) && (0.0..8.0).contains(&y);
        if inside { f32::from(glyph[y as usize] >> x as u8 & 1) } else { 0.0 }
    };
    let (x, y) = (u.floor(), v.floor());
    let (a, b) = (u - x, v - y);
    (dot(x, y) * (1.0 - a) + dot(x + 1.0, y) * a) * (1.0 - b)
        + (dot(x, y + 1.0) * (1.0 - a) + dot(x + 1.0, y + 1.0) * a) * b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_marks_its_own_place_only() {
        let mut c = Canvas::new(60, 30, [0, 0, 0]);
        c.text([10, 5], 16.0, "L", [255, 255, 255]);
        let lit: Vec<[usize; 2]> = (0..30)
            .flat_map(|y| (0..60).map(move |x| [x, y]))
            .filter(|&[x, y]| c.pixel(x, y)[0] > 128)
            .collect();
        assert!(
            lit.len() > 20 && lit.iter().all(|&[x, y]| (10..23).contains(&x) && (5..22).contains(&y)),
            "{lit:?}"
        );
    }

    #[test]
    fn what_does_not_fit_is_cut_with_dots() {
        assert_eq!(fitted(8.0, "nodule", 1000), "nodule");
        assert_eq!(fitted(8.0, "a very long label", 49), "a very..");
    }
}
