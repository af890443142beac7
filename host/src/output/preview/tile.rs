//! One slice of a preview: its pixels, the heat over them, and which side is which.

use anymc3d_manifest::Axis;

use super::heat_scale::{OUTLINE, coloured, is_lined, mixed};
use super::{LINE, Picture, TEXT};
use crate::output::colour::Rgb;
use crate::output::drawing::Anchor;
use crate::output::heatmap::upsample;

const SIDE: Rgb = [255, 214, 92];

/// A grey slice at the size of a tile: bilinear where it grows, averaged over its footprint where it shrinks.
pub(super) fn sampled(grey: &[f32], [h, w]: [usize; 2], [tw, th]: [usize; 2]) -> Vec<f32> {
    let steps = |n: usize, t: usize| n.div_ceil(t).max(1);
    let (fine_h, fine_w) = (steps(h, th), steps(w, tw));
    let fine = upsample(grey, [h, w], [th * fine_h, tw * fine_w]);
    if fine_h * fine_w == 1 {
        return fine;
    }
    let mut out = vec![0.0; th * tw];
    for (i, v) in fine.iter().enumerate() {
        let (y, x) = (i / (tw * fine_w) / fine_h, i % (tw * fine_w) / fine_w);
        out[y * tw + x] += v / (fine_h * fine_w) as f32;
    }
    out
}

/// A slice with its first pixel at `[x, y]`; the letters of its sides stand above it, never on it.
pub(super) fn draw(
    picture: &mut Picture,
    [x, y]: [usize; 2],
    size: [usize; 2],
    grey: &[f32],
    heat: Option<&[f32]>,
    axis: Axis,
) {
    let [tw, th] = size;
    let colour = |at: usize| {
        let grey = [(grey[at].clamp(0.0, 1.0) * 255.0).round() as u8; 3];
        let Some(heat) = heat else { return grey };
        let colour = coloured(grey, heat[at]);
        // An edge the eye can follow on bone and on air alike.
        let (row, column) = (at / tw, at % tw);
        let (right, down) = ((column + 1).min(tw - 1), (row + 1).min(th - 1));
        let crosses = |other: usize| is_lined(heat[at]) != is_lined(heat[other]);
        match crosses(row * tw + right) || crosses(down * tw + column) {
            true => mixed(colour, OUTLINE, 0.9),
            false => colour,
        }
    };
    let pixels: Vec<Rgb> = (0..tw * th).map(colour).collect();
    picture.0.image([x, y], tw, &pixels);
    picture.frame([x, y], size, LINE);
    let [left, right, top] = match axis {
        Axis::Sagittal => ["A", "P", "S"],
        Axis::Coronal => ["R", "L", "S"],
        Axis::Axial | Axis::Native => ["R", "L", "A"],
    };
    let base = y - 5;
    picture.text([x + 2, base], 15.0, Anchor::Start, SIDE, left);
    picture.text([x + tw / 2, base], 15.0, Anchor::Middle, SIDE, top);
    picture.text([x + tw - 2, base], 15.0, Anchor::End, SIDE, right);
}

/// A length that a person can compare with a lesion: 1, 2, 5 or 10 cm.
pub(super) fn ruler(picture: &mut Picture, [x, y]: [usize; 2], tile: [usize; 2], pixels_per_mm: f64) {
    let fits = |mm: &&f64| **mm * pixels_per_mm <= 0.4 * tile[0] as f64;
    let Some(&mm) = [100.0, 50.0, 20.0, 10.0, 5.0].iter().find(fits) else { return };
    let length = (mm * pixels_per_mm).round() as usize;
    let (left, bottom) = (x + 10, y + tile[1] - 12);
    picture.fill([left - 1, bottom - 1], [length + 2, 5], [0, 0, 0]);
    picture.fill([left, bottom], [length, 3], TEXT);
    let label = if mm >= 10.0 { format!("{:.0} cm", mm / 10.0) } else { format!("{mm:.0} mm") };
    // A dark edge keeps it readable on bone.
    for [right, down] in [[0, 1], [2, 1], [1, 0], [1, 2]] {
        picture.text([left - 1 + right, bottom - 7 + down], 13.0, Anchor::Start, [0, 0, 0], &label);
    }
    picture.text([left, bottom - 6], 13.0, Anchor::Start, TEXT, &label);
}
