//! What a preview shows, by its pixels.

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

/// Where the upper left corners of the first column's tiles are, of `p`.
fn tiles(p: &Preview, high: usize) -> ([usize; 2], [usize; 2]) {
    let plain = header::height(p) + SIDES + 6;
    ([EDGE, plain], [EDGE, plain + high + SIDES + 6])
}

#[test]
fn a_slice_keeps_its_physical_shape_and_the_heaviest_comes_first() {
    let mut pixels = vec![0.0; 192];
    pixels[64..128].fill(1.0);
    let mut heat = vec![0.0; 12];
    heat[4] = 1.0;
    let p = preview(&pixels, &heat, &[]);
    let picture = draw(&p).unwrap();
    // 16 × 32 mm: a tile of 300 × 150. The first is slice 1, white; the second slice 0, black.
    let ([x, plain], [_, below]) = tiles(&p, 150);
    assert_eq!(picture.pixel(x + 200, plain + 100), [255; 3]);
    assert_eq!(picture.pixel(x + 300 + GAP + 200, plain + 60), [0; 3]);
    assert_eq!(picture.pixel(x + 100, plain + 150 + 3), BACKGROUND);
    // Its hot corner is coloured below, its cold one is not.
    let hot = picture.pixel(x + 30, below + 20);
    assert!(hot[0] > hot[2] + 20, "{hot:?}");
    assert_eq!(picture.pixel(x + 250, below + 130), [255; 3]);
}

#[test]
fn no_letter_lies_on_a_slice() {
    let p = preview(&[0.5; 192], &[0.0; 12], &[]);
    let picture = draw(&p).unwrap();
    let ([x, plain], [_, below]) = tiles(&p, 150);
    let grey = [128; 3];
    // The ruler at the lower left is drawn on the first slice, for it belongs to its scale.
    for y in 0..110 {
        assert!((0..300).all(|column| picture.pixel(x + column, plain + y) == grey), "row {y}");
    }
    assert!((0..150).all(|y| (0..300).all(|column| picture.pixel(x + column, below + y) == grey)));
    let above = |from: usize| {
        (from..from + 14)
            .any(|column| (plain - SIDES..plain - 2).any(|y| picture.pixel(column, y) != BACKGROUND))
    };
    assert!(above(x) && above(x + 143) && above(x + 286), "R, A and L stand above it");
}

/// Heat of 3 slices of 8 × 8 patches.
fn spread(at: impl Fn(usize) -> f32) -> Vec<f32> {
    (0..192).map(at).collect()
}

#[test]
fn attention_that_is_spread_over_a_slice_does_not_glow_and_has_no_line() {
    let warmth = |heat: &[f32]| {
        let p = Preview { patches: [8, 8], ..preview(&[0.5; 192], heat, &[]) };
        let picture = draw(&p).unwrap();
        let (_, [x, y]) = tiles(&p, 150);
        let pixels = (0..150).flat_map(|r| (0..300).map(move |c| [x + c, y + r]));
        let pixels: Vec<Rgb> = pixels.map(|[x, y]| picture.pixel(x, y)).collect();
        let lined = pixels.iter().filter(|p| p.iter().all(|v| *v > 190)).count();
        (pixels.iter().map(|p| p[0].abs_diff(p[2])).max().unwrap(), lined)
    };
    // Patches of up to three times the mean, as noise is.
    let noise = spread(|i| [0.2, 0.4, 0.4, 3.0][i % 4]);
    let (noisy, lined) = warmth(&noise);
    assert!(noisy < 60 && lined == 0, "{noisy} {lined}");
    // One patch has what all 64 have elsewhere.
    let (focused, lined) = warmth(&spread(|i| if i == 64 + 27 { 1.0 } else { 1e-4 }));
    assert!(focused > 90 && lined > 50, "{focused} {lined}");
}

#[test]
fn the_scale_counts_in_mean_patches_of_the_heaviest_slice_and_never_ends_below_ten() {
    let even = vec![0.5; 12];
    let scale = HeatScale::of(&preview(&[0.5; 192], &even, &[]), &[1, 0]);
    assert!((scale.strength(0.5) - 0.1).abs() < 1e-6, "the mean is a tenth of the scale");
    let p = Preview { patches: [8, 8], ..preview(&[0.5; 192], &[], &[]) };
    let heat = spread(|i| if i == 64 { 32.0 } else { 0.0 });
    let scale = HeatScale::of(&Preview { heat: &heat, ..p }, &[1, 0]);
    assert!((scale.strength(32.0) - 1.0).abs() < 1e-6 && (scale.strength(8.0) - 0.25).abs() < 1e-6);
    assert!(scale.in_words().contains("never below 5×"));
    let none = HeatScale::of(&preview(&[0.5; 192], &[0.0; 12], &[]), &[1, 0]);
    assert!(none.strength(1.0) == 0.0);
}

#[test]
fn a_threshold_is_a_line_in_its_findings_bar() {
    let finding =
        |threshold| Finding { label: "nodule".into(), probability: 0.25, threshold, positive: false };
    let row = |findings: &[Finding]| -> Vec<Rgb> {
        let p = preview(&[0.5; 192], &[0.0; 12], findings);
        let picture = draw(&p).unwrap();
        (450..900 - EDGE).map(|x| picture.pixel(x, header::height(&p) / 2 - 7)).collect()
    };
    let at = |row: &[Rgb]| row.iter().filter(|p| **p == TEXT).count();
    assert_eq!(at(&row(&[finding(Some(0.75))])), 2, "two pixels above the bar");
    assert_eq!(at(&row(&[finding(None)])), 0);
    assert_eq!([0.0, 0.5, 0.75, 1.0, 2.0].map(header::along_bar), [0, 60, 90, 120, 120]);
}

#[test]
fn a_share_is_not_rounded_to_none_or_all() {
    let said = [0.0, 0.0001, 0.4567, 0.998, 0.9996, 1.0].map(percent);
    assert_eq!(said, ["0.0 %", "< 0.1 %", "45.7 %", "99.8 %", "> 99.9 %", "100.0 %"]);
}

#[test]
fn it_is_a_png_and_many_findings_are_counted() {
    let findings: Vec<Finding> = (0..18)
        .map(|i| Finding {
            label: format!("label {i} ü"),
            probability: i as f64 / 18.0,
            threshold: Some(0.5),
            positive: i > 9,
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
