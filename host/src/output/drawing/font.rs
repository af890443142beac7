//! Letters as outlines: Roboto Regular (Copyright 2011 Google Inc., Apache-2.0), cut down to Latin, Greek, Cyrillic and
//! some signs, so that a picture looks alike on every machine and needs no font of the system.

use std::sync::LazyLock;
use tiny_skia::{Path, PathBuilder};
use ttf_parser::{Face, GlyphId, OutlineBuilder};

static FACE: LazyLock<Option<Face<'static>>> =
    LazyLock::new(|| Face::parse(include_bytes!("font/roboto.ttf"), 0).ok());

/// Width of a text whose letters have `size`, pixels.
pub(crate) fn width(size: f32, text: &str) -> f32 {
    let Some(face) = FACE.as_ref() else { return 0.0 };
    let scale = size / f32::from(face.units_per_em());
    text.chars().map(|letter| f32::from(advance(face, glyph(face, letter))) * scale).sum()
}

/// As much of a text as fits into `room` pixels, with an ellipsis where it was cut.
pub(crate) fn fitted(size: f32, text: &str, room: f32) -> String {
    if width(size, text) <= room {
        return text.to_owned();
    }
    let mut kept = text.to_owned();
    while kept.pop().is_some() && width(size, &kept) + width(size, "…") > room {}
    format!("{}…", kept.trim_end())
}

/// The outline of a text that starts at `at` on its baseline, to the right or (`up`) upwards. A letter that the font
/// lacks is a hollow box. `None` where there is nothing to draw.
pub(crate) fn outline(at: [f32; 2], size: f32, up: bool, text: &str) -> Option<Path> {
    let face = FACE.as_ref()?;
    let scale = size / f32::from(face.units_per_em());
    let mut pen = Pen { path: PathBuilder::new(), at, along: 0.0, scale, up };
    for letter in text.chars() {
        let glyph = glyph(face, letter);
        // A letter without an outline is a space.
        let _ = face.outline_glyph(glyph, &mut pen);
        pen.along += f32::from(advance(face, glyph)) * scale;
    }
    pen.path.finish()
}

fn glyph(face: &Face<'_>, letter: char) -> GlyphId {
    face.glyph_index(letter).unwrap_or_default()
}

fn advance(face: &Face<'_>, glyph: GlyphId) -> u16 {
    face.glyph_hor_advance(glyph).unwrap_or_default()
}

struct Pen {
    path: PathBuilder,
    at: [f32; 2],
    along: f32,
    scale: f32,
    up: bool,
}

impl Pen {
    /// Font units (y up) to the picture's (y down).
    fn place(&self, x: f32, y: f32) -> (f32, f32) {
        let (along, above) = (self.along + x * self.scale, y * self.scale);
        let [left, base] = self.at;
        if self.up { (left - above, base - along) } else { (left + along, base - above) }
    }
}

impl OutlineBuilder for Pen {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.place(x, y);
        self.path.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.place(x, y);
        self.path.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.place(x1, y1), self.place(x, y));
        self.path.quad_to(x1, y1, x, y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2)) = (self.place(x1, y1), self.place(x2, y2));
        let (x, y) = self.place(x, y);
        self.path.cubic_to(x1, y1, x2, y2, x, y);
    }

    fn close(&mut self) {
        self.path.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_font_is_read_and_has_the_signs_that_pictures_use() {
        let face = FACE.as_ref().unwrap();
        for letter in "AUROC 0.9[](),%·–−≥…éßλЖ".chars() {
            assert!(face.glyph_index(letter).is_some(), "{letter}");
        }
        assert!(
            outline([0.0, 0.0], 12.0, false, "a").is_some()
                && outline([0.0, 0.0], 12.0, false, " ").is_none()
        );
    }

    #[test]
    fn text_is_cut_to_its_room() {
        assert_eq!(fitted(12.0, "nodule", 500.0), "nodule");
        let cut = fitted(12.0, "a very long label of a finding", 80.0);
        assert!(cut.ends_with('…') && width(12.0, &cut) <= 80.0, "{cut}");
    }
}
