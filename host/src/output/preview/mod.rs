//! A picture for a person: the slices that weighed most, plain and with the heat over them.

mod header;
mod heat_scale;
mod tile;

use anymc3d_manifest::Axis;

use crate::output::colour::Rgb;
use crate::output::drawing::{Anchor, Raster, Shape, font};
use crate::output::heatmap::upsample;
use heat_scale::HeatScale;

const BACKGROUND: Rgb = [14, 17, 22];
const PANEL: Rgb = [24, 28, 36];
const LINE: Rgb = [52, 60, 74];
const TEXT: Rgb = [232, 236, 242];
const QUIET: Rgb = [148, 158, 174];
const ACCENT: Rgb = [255, 176, 32];
const DARK: Rgb = [26, 18, 0];

/// Longer side of a slice, pixels.
const TILE: usize = 300;
const GAP: usize = 14;
const EDGE: usize = 20;
/// Above a slice, for the letters that say which side is which: they must not lie on what is to be seen.
const SIDES: usize = 20;
const CAPTION: usize = 46;
const PROFILE: usize = 58;
/// Below the profile: where its ends are, and what the colours mean.
const LEGEND: usize = 48;
const FOOTER: usize = 52;
/// The colour bar and its numbers.
const BAR: usize = 92;
const NOTICE: &str = "RESEARCH USE ONLY – NOT FOR DIAGNOSIS";

/// One line of the result.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The label.
    pub label: String,
    /// 0..1.
    pub probability: f64,
    /// Positive from here on; none where the most probable class is the answer.
    pub threshold: Option<f64>,
    /// At or above its threshold.
    pub positive: bool,
}

/// Everything a preview shows.
#[derive(Debug, Clone, Copy)]
pub struct Preview<'a> {
    /// For example the plugin and its version.
    pub title: &'a str,
    /// The case; a file's stem. Empty where the picture must not say whose it is.
    pub case: &'a str,
    /// The view's name.
    pub view: &'a str,
    /// The axis that was cut, for the side markers ([`crate::scan::SliceGrid::axis`]).
    pub axis: Axis,
    /// `[S, C, H, W]` in 0..1; the first channel is shown.
    pub pixels: &'a [f32],
    /// S, C, H, W.
    pub shape: [usize; 4],
    /// Height and width of a pixel, mm.
    pub pixel_mm: [f64; 2],
    /// `[S, h, w]`, attention times slice weight ([`crate::output::slice_heat`]).
    pub heat: &'a [f32],
    /// h, w.
    pub patches: [usize; 2],
    /// One weight per slice.
    pub weights: &'a [f32],
    /// Where each slice is, RAS mm along the axis.
    pub positions_mm: &'a [f64],
    /// Index of each slice in the scan.
    pub indices: &'a [usize],
    /// In the manifest's order.
    pub findings: &'a [Finding],
    /// The manifest's words.
    pub intended_use: &'a str,
    /// How many slices to show.
    pub columns: usize,
}

/// A preview that cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    /// The parts do not belong together.
    #[error(
        "preview of `{case}`: found {found}, expected {expected}; draw it from one view's slices, heat and weights"
    )]
    Parts {
        /// The case.
        case: String,
        /// What was given.
        found: String,
        /// What its other parts ask for.
        expected: String,
    },
    /// The PNG encoder failed.
    #[error("preview of `{case}`: cannot be encoded as PNG ({source}); report this with the case's shape")]
    Png {
        /// The case.
        case: String,
        /// What the encoder said.
        source: png::EncodingError,
    },
}

/// The picture as a PNG file: title and findings, the top slices by weight (grey above, heat below), where they lie, notice.
///
/// # Errors
/// [`PreviewError`]: parts that do not belong together, or a PNG that cannot be encoded.
pub fn montage(p: &Preview) -> Result<Vec<u8>, PreviewError> {
    picture_of(p)?.png().map_err(|source| PreviewError::Png { case: p.case.into(), source })
}

/// [`montage`] before it becomes a file.
///
/// # Errors
/// [`PreviewError::Parts`].
pub(super) fn picture_of(p: &Preview) -> Result<Raster, PreviewError> {
    check(p)?;
    draw(p)
}

/// A share for a person: `99.8 %`. One that is neither 0 nor 1 is not rounded to it.
pub fn percent(share: f64) -> String {
    match share {
        _ if share > 0.0 && share < 0.0005 => "< 0.1 %".to_owned(),
        _ if share > 0.9995 && share < 1.0 => "> 99.9 %".to_owned(),
        _ => format!("{:.1} %", 100.0 * share),
    }
}

fn check(p: &Preview) -> Result<(), PreviewError> {
    let [s, c, h, w] = p.shape;
    let wrong =
        |found: String, expected: String| Err(PreviewError::Parts { case: p.case.into(), found, expected });
    if p.shape.contains(&0) || p.columns == 0 || p.pixels.len() != s * c * h * w {
        return wrong(format!("{} pixel values", p.pixels.len()), format!("some slices, {:?}", p.shape));
    }
    if p.patches.contains(&0) || p.heat.len() != s * p.patches[0] * p.patches[1] {
        return wrong(
            format!("{} heat values", p.heat.len()),
            format!("{s} × {} × {}", p.patches[0], p.patches[1]),
        );
    }
    if [p.weights.len(), p.positions_mm.len(), p.indices.len()] != [s; 3] {
        let found = format!(
            "{} weights, {} positions, {} indices",
            p.weights.len(),
            p.positions_mm.len(),
            p.indices.len()
        );
        return wrong(found, format!("{s} of each"));
    }
    if !p.pixel_mm.iter().all(|mm| mm.is_finite() && *mm > 0.0) {
        return wrong(format!("pixels of {:?} mm", p.pixel_mm), "a size above 0".into());
    }
    Ok(())
}

/// A picture that grows by shapes.
struct Picture(Raster);

impl Picture {
    fn fill(&mut self, [x, y]: [usize; 2], [w, h]: [usize; 2], fill: Rgb) {
        let (at, size) = ([x as f32, y as f32], [w as f32, h as f32]);
        self.0.draw(&Shape::Box { at, size, fill });
    }

    /// One-pixel frame around a rectangle, outside of it.
    fn frame(&mut self, [x, y]: [usize; 2], [w, h]: [usize; 2], colour: Rgb) {
        let (left, top) = (x.saturating_sub(1), y.saturating_sub(1));
        self.fill([left, top], [w + 2, 1], colour);
        self.fill([left, y + h], [w + 2, 1], colour);
        self.fill([left, top], [1, h + 2], colour);
        self.fill([x + w, top], [1, h + 2], colour);
    }

    /// A text whose baseline is at `y`.
    fn text(&mut self, [x, y]: [usize; 2], size: f32, anchor: Anchor, colour: Rgb, text: &str) {
        let (at, text) = ([x as f32, y as f32], text.to_owned());
        self.0.draw(&Shape::Text { at, size, anchor, colour, up: false, text });
    }
}

fn draw(p: &Preview) -> Result<Raster, PreviewError> {
    let [s, _, h, w] = p.shape;
    let columns = p.columns.min(s);
    let mut order: Vec<usize> = (0..s).collect();
    order.sort_by(|&a, &b| p.weights[b].total_cmp(&p.weights[a]).then(a.cmp(&b)));
    order.truncate(columns);

    // The physical shape of a slice, its longer side TILE.
    let (mm_h, mm_w) = (h as f64 * p.pixel_mm[0], w as f64 * p.pixel_mm[1]);
    let scale = TILE as f64 / mm_h.max(mm_w);
    let size = [((mm_w * scale) as usize).max(96), ((mm_h * scale) as usize).max(96)];

    let header = header::height(p);
    let wide = (EDGE + columns * (size[0] + GAP) + BAR + EDGE).max(900);
    let plain_top = header + SIDES + 6;
    let heat_top = plain_top + size[1] + SIDES + 6;
    let rows_bottom = heat_top + size[1];
    let profile_top = rows_bottom + CAPTION + GAP;
    let high = profile_top + PROFILE + LEGEND + FOOTER;
    let empty = || PreviewError::Parts {
        case: p.case.into(),
        found: format!("a picture of {wide} × {high} pixels"),
        expected: "one that can be drawn".into(),
    };
    let raster = Raster::new([wide as f32, high as f32], 1.0, BACKGROUND).ok_or_else(empty)?;
    let mut picture = Picture(raster);

    header::draw(&mut picture, p, [wide, header]);
    let heats = HeatScale::of(p, &order);
    for (column, &i) in order.iter().enumerate() {
        let x = EDGE + column * (size[0] + GAP);
        let grey = tile::sampled(&p.pixels[i * p.shape[1] * h * w..][..h * w], [h, w], size);
        let strength: Vec<f32> = upsample(p.heat_of(i), p.patches, [size[1], size[0]])
            .iter()
            .map(|v| heats.strength(*v))
            .collect();
        tile::draw(&mut picture, [x, plain_top], size, &grey, None, p.axis);
        tile::draw(&mut picture, [x, heat_top], size, &grey, Some(&strength), p.axis);
        caption(&mut picture, [x, rows_bottom], size[0], p, i);
    }
    tile::ruler(&mut picture, [EDGE, plain_top], size, scale);
    let bar = [EDGE + columns * (size[0] + GAP) + 4, heat_top];
    heats.bar(&mut picture, bar, size[1]);
    profile(&mut picture, p, &order, [wide, profile_top]);
    let line = heats.in_words();
    picture.text([wide / 2, profile_top + PROFILE + 38], 12.0, Anchor::Middle, QUIET, &line);
    footer(&mut picture, p, [wide, high]);
    Ok(picture.0)
}

impl Preview<'_> {
    /// The heat of a slice, `[h, w]`.
    fn heat_of(&self, slice: usize) -> &[f32] {
        let n = self.patches[0] * self.patches[1];
        &self.heat[slice * n..(slice + 1) * n]
    }
}

fn caption(picture: &mut Picture, [x, y]: [usize; 2], room: usize, p: &Preview, i: usize) {
    let along = match p.axis {
        Axis::Sagittal => "R",
        Axis::Coronal => "A",
        Axis::Axial | Axis::Native => "S",
    };
    let (place, number) =
        (format!("{along} {:+.1} mm", p.positions_mm[i]), format!("slice {}", p.indices[i]));
    picture.text([x, y + 20], 14.0, Anchor::Start, TEXT, &font::fitted(14.0, &place, room as f32));
    if font::width(14.0, &place) + font::width(14.0, &number) + 12.0 <= room as f32 {
        picture.text([x + room, y + 20], 14.0, Anchor::End, QUIET, &number);
    }
    let weight = format!("weight {}", percent(f64::from(p.weights[i])));
    picture.text([x, y + 40], 14.0, Anchor::Start, QUIET, &font::fitted(14.0, &weight, room as f32));
}

/// All slices' weights along the axis; those shown are lit.
fn profile(picture: &mut Picture, p: &Preview, shown: &[usize], [wide, top]: [usize; 2]) {
    let s = p.shape[0];
    let (left, room) = (EDGE, wide - 2 * EDGE);
    picture.fill([left, top], [room, PROFILE], PANEL);
    let most = p.weights.iter().copied().fold(0.0, f32::max);
    for i in 0..s {
        let (from, to) = (left + i * room / s, left + (i + 1) * room / s);
        let t = if most > 0.0 { (p.weights[i] / most).clamp(0.0, 1.0) } else { 0.0 };
        let high = (((PROFILE - 8) as f32 * t).round() as usize).max(1);
        let colour = if shown.contains(&i) { ACCENT } else { [92, 104, 124] };
        let gap = usize::from(to - from > 3);
        picture.fill([from, top + PROFILE - high], [(to - from).max(1 + gap) - gap, high], colour);
    }
    let [from, to] = match p.axis {
        Axis::Sagittal => ["left", "right"],
        Axis::Coronal => ["posterior", "anterior"],
        Axis::Axial | Axis::Native => ["inferior", "superior"],
    };
    let y = top + PROFILE + 18;
    let ends = [p.positions_mm[0], p.positions_mm[s - 1]];
    picture.text([left, y], 12.0, Anchor::Start, QUIET, &format!("{from} {:+.0} mm", ends[0]));
    picture.text([left + room, y], 12.0, Anchor::End, QUIET, &format!("{:+.0} mm {to}", ends[1]));
    let middle = format!("weight of each of {s} slices");
    picture.text([left + room / 2, y], 12.0, Anchor::Middle, QUIET, &middle);
}

fn footer(picture: &mut Picture, p: &Preview, [wide, high]: [usize; 2]) {
    let top = high - FOOTER;
    picture.fill([0, top], [wide, 30], ACCENT);
    picture.text([wide / 2, top + 21], 16.0, Anchor::Middle, DARK, NOTICE);
    picture.fill([0, top + 30], [wide, FOOTER - 30], PANEL);
    let words: Vec<&str> = p.intended_use.split_whitespace().collect();
    let line = font::fitted(12.0, &words.join(" "), (wide - 2 * EDGE) as f32);
    picture.text([wide / 2, top + 45], 12.0, Anchor::Middle, QUIET, &line);
}

#[cfg(test)]
mod tests;
