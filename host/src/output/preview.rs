//! A picture for a person: the slices that weighed most, plain and with the heat over them.

use anymc3d_manifest::Axis;

use crate::output::canvas::{Canvas, fitted, width};
use crate::output::colour::{Rgb, inferno, opacity};
use crate::output::heatmap::upsample;

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
const CAPTION: usize = 46;
const PROFILE: usize = 58;
const FOOTER: usize = 52;
/// The colour bar and its numbers.
const BAR: usize = 84;
/// Most findings that are listed; the rest are counted.
const FINDINGS: usize = 5;
const NOTICE: &str = "RESEARCH USE ONLY - NOT FOR DIAGNOSIS";

/// One line of the result.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The label.
    pub label: String,
    /// 0..1.
    pub probability: f64,
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
pub(super) fn picture_of(p: &Preview) -> Result<Canvas, PreviewError> {
    check(p)?;
    Ok(draw(p))
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

fn draw(p: &Preview) -> Canvas {
    let [s, _, h, w] = p.shape;
    let columns = p.columns.min(s);
    let mut order: Vec<usize> = (0..s).collect();
    order.sort_by(|&a, &b| p.weights[b].total_cmp(&p.weights[a]).then(a.cmp(&b)));
    order.truncate(columns);

    // The physical shape of a slice, its longer side TILE.
    let (mm_h, mm_w) = (h as f64 * p.pixel_mm[0], w as f64 * p.pixel_mm[1]);
    let scale = TILE as f64 / mm_h.max(mm_w);
    let tile = [((mm_w * scale) as usize).max(96), ((mm_h * scale) as usize).max(96)];

    let listed = p.findings.len().min(FINDINGS) + usize::from(p.findings.len() > FINDINGS);
    let header = 84.max(28 + 24 * listed);
    let wide = (EDGE + columns * (tile[0] + GAP) + BAR + EDGE).max(820);
    let tiles_top = header + GAP;
    let rows_bottom = tiles_top + 2 * tile[1] + GAP;
    let profile_top = rows_bottom + CAPTION + GAP;
    let mut canvas = Canvas::new(wide, profile_top + PROFILE + 30 + FOOTER, BACKGROUND);

    title(&mut canvas, p, header);
    let strongest = order.iter().flat_map(|&i| slice(p.heat, i, s)).copied().fold(0.0, f32::max);
    for (column, &i) in order.iter().enumerate() {
        let x = EDGE + column * (tile[0] + GAP);
        let grey = sampled(&p.pixels[i * p.shape[1] * h * w..][..h * w], [h, w], tile);
        let heat = upsample(slice(p.heat, i, s), p.patches, [tile[1], tile[0]]);
        picture(&mut canvas, [x, tiles_top], tile, &grey, None, p.axis);
        let strength: Vec<f32> =
            heat.iter().map(|v| if strongest > 0.0 { v / strongest } else { 0.0 }).collect();
        let below = [x, tiles_top + tile[1] + GAP];
        picture(&mut canvas, below, tile, &grey, Some(&strength), p.axis);
        caption(&mut canvas, [x, rows_bottom + 10], tile[0], p, i);
    }
    scale_bar(&mut canvas, [EDGE, tiles_top], tile, scale);
    let bar = [EDGE + columns * (tile[0] + GAP) + 4, tiles_top + tile[1] + GAP];
    colour_bar(&mut canvas, bar, tile[1], strongest);
    profile(&mut canvas, p, &order, profile_top);
    footer(&mut canvas, p);
    canvas
}

fn slice(heat: &[f32], i: usize, slices: usize) -> &[f32] {
    let n = heat.len() / slices;
    &heat[i * n..(i + 1) * n]
}

/// A grey slice at the size of a tile: bilinear where it grows, averaged over its footprint where it shrinks.
fn sampled(grey: &[f32], [h, w]: [usize; 2], [tw, th]: [usize; 2]) -> Vec<f32> {
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

fn title(canvas: &mut Canvas, p: &Preview, header: usize) {
    let wide = canvas.width;
    canvas.fill([0, 0], [wide, header], PANEL);
    canvas.fill([0, header], [wide, 1], LINE);
    let half = wide * 11 / 20 - EDGE;
    canvas.text([EDGE, 18], 22.0, &fitted(22.0, p.title, half), TEXT);
    let cut = match p.axis {
        Axis::Axial => "axial",
        Axis::Coronal => "coronal",
        Axis::Sagittal => "sagittal",
        Axis::Native => "native",
    };
    let view = if p.view == cut { format!("{cut} view") } else { format!("view {} ({cut})", p.view) };
    let line = if p.case.is_empty() { view } else { format!("{}  -  {view}", p.case) };
    canvas.text([EDGE, 52], 14.0, &fitted(14.0, &line, half), QUIET);

    // The most probable first; a bar says what a number hides.
    let mut findings: Vec<&Finding> = p.findings.iter().collect();
    findings.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    let bar = 120;
    let right = wide - EDGE;
    let rows = findings.len().min(FINDINGS) + usize::from(findings.len() > FINDINGS);
    let top = (header.saturating_sub(24 * rows)) / 2 + 4;
    for (i, f) in findings.iter().take(FINDINGS).enumerate() {
        let y = top + 24 * i;
        let colour = if f.positive { ACCENT } else { QUIET };
        canvas.text_right(
            [right, y],
            16.0,
            &format!("{:.2}", f.probability),
            if f.positive { ACCENT } else { TEXT },
        );
        let x = right - 76 - bar;
        canvas.fill([x, y + 4], [bar, 8], LINE);
        canvas.fill([x, y + 4], [(bar as f64 * f.probability.clamp(0.0, 1.0)).round() as usize, 8], colour);
        let label = fitted(16.0, &f.label, (x - 14).saturating_sub(EDGE + half + 10));
        canvas.text_right([x - 14, y], 16.0, &label, if f.positive { ACCENT } else { TEXT });
    }
    if findings.len() > FINDINGS {
        let more = format!("and {} more in result.json", findings.len() - FINDINGS);
        canvas.text_right([right, top + 24 * FINDINGS], 12.0, &more, QUIET);
    }
}

fn picture(
    canvas: &mut Canvas,
    [x, y]: [usize; 2],
    tile: [usize; 2],
    grey: &[f32],
    heat: Option<&[f32]>,
    axis: Axis,
) {
    let [tw, th] = tile;
    for row in 0..th {
        for column in 0..tw {
            let at = row * tw + column;
            let v = (grey[at].clamp(0.0, 1.0) * 255.0).round() as u8;
            canvas.mix(x + column, y + row, [v; 3], 1.0);
            let Some(heat) = heat else { continue };
            canvas.mix(x + column, y + row, inferno(0.25 + 0.75 * heat[at]), opacity(heat[at]));
            // Where the heat is half its maximum, a line: an edge the eye can follow on bone and on air alike.
            let (right, down) = ((column + 1).min(tw - 1), (row + 1).min(th - 1));
            let crosses = |other: usize| (heat[at] >= 0.5) != (heat[other] >= 0.5);
            if crosses(row * tw + right) || crosses(down * tw + column) {
                canvas.mix(x + column, y + row, [255, 250, 220], 0.9);
            }
        }
    }
    canvas.frame([x, y], tile, LINE);
    let [left, right, top] = match axis {
        Axis::Sagittal => ["A", "P", "S"],
        Axis::Coronal => ["R", "L", "S"],
        Axis::Axial | Axis::Native => ["R", "L", "A"],
    };
    for (at, letter) in [
        ([x + 6, y + th / 2 - 8], left),
        ([x + tw - 22, y + th / 2 - 8], right),
        ([x + tw / 2 - 8, y + 6], top),
    ] {
        // A dark edge keeps the letter readable on bone.
        for shift in [[0, 1], [2, 1], [1, 0], [1, 2]] {
            canvas.text([at[0] + shift[0] - 1, at[1] + shift[1] - 1], 16.0, letter, [0, 0, 0]);
        }
        canvas.text(at, 16.0, letter, [255, 214, 92]);
    }
}

/// A length that a person can compare with a lesion: 1, 2, 5 or 10 cm.
fn scale_bar(canvas: &mut Canvas, [x, y]: [usize; 2], tile: [usize; 2], pixels_per_mm: f64) {
    let fits = |mm: &&f64| **mm * pixels_per_mm <= 0.4 * tile[0] as f64;
    let Some(&mm) = [100.0, 50.0, 20.0, 10.0, 5.0].iter().find(fits) else { return };
    let length = (mm * pixels_per_mm).round() as usize;
    let (left, bottom) = (x + 10, y + tile[1] - 12);
    canvas.fill([left - 1, bottom - 1], [length + 2, 5], [0, 0, 0]);
    canvas.fill([left, bottom], [length, 3], TEXT);
    let label = if mm >= 10.0 { format!("{:.0} cm", mm / 10.0) } else { format!("{mm:.0} mm") };
    for shift in [[0, 1], [2, 1], [1, 0], [1, 2]] {
        canvas.text([left - 1 + shift[0], bottom - 18 + shift[1]], 12.0, &label, [0, 0, 0]);
    }
    canvas.text([left, bottom - 17], 12.0, &label, TEXT);
}

fn caption(canvas: &mut Canvas, [x, y]: [usize; 2], room: usize, p: &Preview, i: usize) {
    let along = match p.axis {
        Axis::Sagittal => "R",
        Axis::Coronal => "A",
        Axis::Axial | Axis::Native => "S",
    };
    let place = format!("{along} {:+.1} mm", p.positions_mm[i]);
    canvas.text([x, y], 14.0, &fitted(14.0, &place, room), TEXT);
    let number = format!("slice {}", p.indices[i]);
    if width(14.0, &place) + width(14.0, &number) + 12 <= room {
        canvas.text_right([x + room, y], 14.0, &number, QUIET);
    }
    canvas.text([x, y + 22], 14.0, &fitted(14.0, &format!("weight {:.3}", p.weights[i]), room), QUIET);
}

fn colour_bar(canvas: &mut Canvas, [x, y]: [usize; 2], high: usize, strongest: f32) {
    for row in 0..high {
        let t = 1.0 - row as f32 / (high - 1) as f32;
        for column in 0..14 {
            // As it looks over mid grey, so that bar and picture agree.
            canvas.mix(x + column, y + row, [70; 3], 1.0);
            canvas.mix(x + column, y + row, inferno(0.25 + 0.75 * t), opacity(t).max(0.0));
        }
    }
    canvas.frame([x, y], [14, high], LINE);
    for (at, value) in [(y, strongest), (y + high / 2 - 5, 0.5 * strongest), (y + high - 11, 0.0)] {
        let number = if value == 0.0 { "0".to_string() } else { format!("{value:.1e}") };
        canvas.text([x + 22, at], 11.0, &number, QUIET);
    }
    canvas.fill([x, y + high / 2], [14, 1], [255, 250, 220]);
    canvas.text([x, y - 26], 11.0, "weighted", QUIET);
    canvas.text([x, y - 13], 11.0, "attention", QUIET);
}

/// All slices' weights along the axis; those shown are lit.
fn profile(canvas: &mut Canvas, p: &Preview, shown: &[usize], top: usize) {
    let s = p.shape[0];
    let (left, room) = (EDGE, canvas.width - 2 * EDGE);
    canvas.fill([left, top], [room, PROFILE], PANEL);
    let most = p.weights.iter().copied().fold(0.0, f32::max);
    for i in 0..s {
        let (from, to) = (left + i * room / s, left + (i + 1) * room / s);
        let t = if most > 0.0 { (p.weights[i] / most).clamp(0.0, 1.0) } else { 0.0 };
        let high = ((PROFILE - 8) as f32 * t).round() as usize;
        let colour = if shown.contains(&i) { ACCENT } else { [92, 104, 124] };
        let gap = usize::from(to - from > 3);
        canvas.fill(
            [from, top + PROFILE - high.max(1)],
            [(to - from).max(1 + gap) - gap, high.max(1)],
            colour,
        );
    }
    let [from, to] = match p.axis {
        Axis::Sagittal => ["left", "right"],
        Axis::Coronal => ["posterior", "anterior"],
        Axis::Axial | Axis::Native => ["inferior", "superior"],
    };
    let y = top + PROFILE + 8;
    let ends = [p.positions_mm[0], p.positions_mm[s - 1]];
    canvas.text([left, y], 12.0, &format!("{from} {:+.0} mm", ends[0]), QUIET);
    canvas.text_right([left + room, y], 12.0, &format!("{:+.0} mm {to}", ends[1]), QUIET);
    canvas.text_centred([left + room / 2, y], 12.0, &format!("weight of each of {s} slices"), QUIET);
}

fn footer(canvas: &mut Canvas, p: &Preview) {
    let (wide, top) = (canvas.width, canvas.height - FOOTER);
    canvas.fill([0, top], [wide, 30], ACCENT);
    canvas.text_centred([wide / 2, top + 7], 16.0, NOTICE, DARK);
    canvas.fill([0, top + 30], [wide, FOOTER - 30], PANEL);
    let words: Vec<&str> = p.intended_use.split_whitespace().collect();
    let line = fitted(11.0, &words.join(" "), wide - 2 * EDGE);
    canvas.text_centred([wide / 2, top + 36], 11.0, &line, QUIET);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preview<'a>(pixels: &'a [f32], heat: &'a [f32], findings: &'a [Finding]) -> Preview<'a> {
        Preview {
            title: "lung_nodule 0.1.0",
            case: "scan01",
            view: "axial",
            axis: Axis::Axial,
            pixels,
            shape: [3, 1, 8, 8],
            pixel_mm: [2.0, 4.0],
            heat,
            patches: [2, 2],
            weights: &[0.2, 0.7, 0.1],
            positions_mm: &[-10.0, 0.0, 10.0],
            indices: &[3, 9, 15],
            findings,
            intended_use: "Research only. Not for diagnosis.",
            columns: 2,
        }
    }

    #[test]
    fn a_slice_keeps_its_physical_shape_and_the_heaviest_comes_first() {
        let mut pixels = vec![0.0; 192];
        pixels[64..128].fill(1.0);
        let mut heat = vec![0.0; 12];
        heat[4] = 1.0;
        let canvas = draw(&preview(&pixels, &heat, &[]));
        let tiles_top = 84 + GAP;
        // 16 × 32 mm: a tile of 300 × 150. The first is slice 1, white; the second slice 0, black.
        assert_eq!(canvas.pixel(EDGE + 200, tiles_top + 120), [255; 3]);
        assert_eq!(canvas.pixel(EDGE + 300 + GAP + 200, tiles_top + 60), [0; 3]);
        assert_eq!(canvas.pixel(EDGE + 100, tiles_top + 150 + GAP / 2), BACKGROUND);
        // Its hot corner is coloured below, its cold one is not.
        let below = tiles_top + 150 + GAP;
        let hot = canvas.pixel(EDGE + 30, below + 20);
        assert!(hot[0] > hot[2] + 50, "{hot:?}");
        assert_eq!(canvas.pixel(EDGE + 250, below + 130), [255; 3]);
    }

    #[test]
    fn it_is_a_png_and_many_findings_are_counted() {
        let findings: Vec<Finding> = (0..18)
            .map(|i| Finding {
                label: format!("label {i} ü"), probability: i as f64 / 18.0, positive: i > 9
            })
            .collect();
        let file = montage(&preview(&[0.5; 192], &[0.0; 12], &findings)).unwrap();
        assert!(file.starts_with(b"\x89PNG"));
    }

    #[test]
    fn parts_that_do_not_belong_together_are_refused() {
        let error = montage(&preview(&[0.5; 100], &[0.0; 12], &[])).unwrap_err().to_string();
        assert!(error.contains("100 pixel values"), "{error}");
        let error = montage(&preview(&[0.5; 192], &[0.0; 5], &[])).unwrap_err().to_string();
        assert!(error.contains("5 heat values"), "{error}");
    }
}
