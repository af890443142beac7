//! What is drawn, and where it puts what it moves: anatomy, not array axes.

use super::*;
use crate::scan::{Affine, Scan, SliceStack, slices};
use anymc3d_manifest::{Axis, Fit, Intensity, Modality, Region, View};

const SHAPE: [usize; 3] = [48, 48, 48];

/// A scan of 1.5 mm voxels with a bright ball at an RAS offset (mm) from its centre.
fn ball(offset: [f64; 3]) -> Scan {
    let centre = SHAPE.map(|n| (n as f64 - 1.0) / 2.0);
    let mut voxels = Vec::new();
    for k in 0..SHAPE[2] {
        for j in 0..SHAPE[1] {
            for i in 0..SHAPE[0] {
                let far: f64 = [i, j, k]
                    .iter()
                    .enumerate()
                    .map(|(a, &n)| ((n as f64 - centre[a]) * 1.5 - offset[a]).powi(2))
                    .sum();
                voxels.push(if far < 36.0 { 1000.0 } else { 0.0 });
            }
        }
    }
    Scan::from_voxels("ball", voxels, SHAPE, Affine::aligned([1.5; 3], [0.0; 3])).unwrap()
}

fn stack(scan: &Scan, axis: Axis, count: usize) -> SliceStack {
    let view = View {
        name: "v".into(),
        modality: Modality::Any,
        axis,
        slices: Some(count),
        slice_spacing_mm: None,
        size: [48, 48],
        fit: Fit::Square,
        spacing_mm: None,
        region: Region::Full,
        intensity: Intensity::Window { windows: vec![[0.0, 1000.0]] },
        ..View::new("v", Axis::Axial, 1, [1, 1])
    };
    slices(&scan.canonical(), &view, 1).unwrap()
}

/// RAS mm, from the scan's centre, of the centroid of the pixels.
fn centroid(values: &[f32], grid: &SliceGrid) -> [f64; 3] {
    let [h, w] = grid.image_size();
    let (mut sum, mut at) = (0.0, [0.0; 3]);
    for (n, &v) in values.iter().enumerate() {
        let (i, j, k) = (n / (h * w), n / w % h, n % w);
        let mm = grid.patch_centre_mm(i, (j as f64 + 0.5) / h as f64, (k as f64 + 0.5) / w as f64);
        sum += f64::from(v);
        (0..3).for_each(|a| at[a] += f64::from(v) * (mm[a] - 23.5 * 1.5));
    }
    at.map(|a| a / sum)
}

fn close(found: [f64; 3], expected: [f64; 3], mm: f64) {
    assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < mm), "{found:?}, expected {expected:?}");
}

#[test]
fn a_structure_goes_to_the_same_place_of_the_body_in_every_view() {
    let offset = [12.0, -6.0, 9.0];
    let scan = ball(offset);
    let (sin, cos) = 30f64.to_radians().sin_cos();
    let turned = [cos * offset[0] - sin * offset[1], sin * offset[0] + cos * offset[1], offset[2]];
    let identity = Augmentation::default();
    let cases = [
        (Augmentation { flip: [true, false, false], ..identity.clone() }, [-12.0, -6.0, 9.0]),
        (Augmentation { flip: [false, true, true], ..identity.clone() }, [12.0, 6.0, -9.0]),
        (Augmentation { rotation: [0.0, 0.0, 30.0], ..identity.clone() }, turned),
        (Augmentation { zoom: 0.75, ..identity.clone() }, offset.map(|o| 0.75 * o)),
        (Augmentation { shift: [4.0, 0.0, -6.0], ..identity.clone() }, [18.0, -6.0, 0.0]),
    ];
    for (axis, count) in [(Axis::Axial, 48), (Axis::Coronal, 24), (Axis::Sagittal, 36)] {
        for (augmentation, expected) in &cases {
            let mut stack = stack(&scan, axis, count);
            let mut mask = stack.pixels.clone();
            augmentation.apply(&mut stack.pixels, 1, Some(&mut mask), &stack.grid);
            close(centroid(&stack.pixels, &stack.grid), *expected, 0.4);
            assert_eq!(mask, stack.pixels, "the mask moves with its scan");
        }
    }
}

#[test]
fn zoom_scales_a_volume_by_its_cube() {
    let scan = ball([0.0; 3]);
    let sum = |zoom: f64| {
        let mut stack = stack(&scan, Axis::Axial, 48);
        Augmentation { zoom, ..Augmentation::default() }.apply(&mut stack.pixels, 1, None, &stack.grid);
        stack.pixels.iter().map(|&v| f64::from(v)).sum::<f64>()
    };
    let ratio = sum(1.4) / sum(1.0);
    assert!((ratio - 1.4f64.powi(3)).abs() < 0.1, "{ratio}");
}

#[test]
fn draw_0_is_the_case_as_it_is_and_every_draw_is_always_the_same() {
    let draw = |seed, case, n| Augmentation::draw(Recipe::Full, seed, case, n, false);
    assert_eq!(draw(1, "a", 0), Augmentation::default());
    assert_eq!(draw(1, "a", 3), draw(1, "a", 3));
    assert!(draw(1, "a", 3) != draw(2, "a", 3) && draw(1, "a", 3) != draw(1, "b", 3));
    assert_eq!(Augmentation::draw(Recipe::None, 1, "a", 3, false), Augmentation::default());
}

#[test]
fn labels_that_name_a_side_are_never_mirrored_left_to_right() {
    let draws = |sided| (1..300).map(move |n| Augmentation::draw(Recipe::Flips, 5, "case", n, sided).flip);
    assert!(draws(true).all(|f| !f[0]) && draws(true).any(|f| f[1]) && draws(true).any(|f| f[2]));
    let right = draws(false).filter(|f| f[0]).count();
    assert!((110..190).contains(&right), "{right}");
}

#[test]
fn each_change_happens_as_often_and_as_strongly_as_the_recipe_says() {
    let draws: Vec<_> = (1..4001).map(|n| Augmentation::draw(Recipe::Full, 9, "case", n, false)).collect();
    let share =
        |f: &dyn Fn(&Augmentation) -> bool| draws.iter().filter(|d| f(d)).count() as f64 / draws.len() as f64;
    type Happens<'a> = &'a dyn Fn(&Augmentation) -> bool;
    let expected: [(Happens<'_>, f64); 9] = [
        (&|d| d.rotation != [0.0; 3], 0.2),
        (&|d| d.zoom != 1.0, 0.2),
        (&|d| d.shift != [0.0; 3], 0.2),
        (&|d| d.noise.is_some(), 0.25),
        (&|d| d.blur.is_some(), 0.2),
        (&|d| d.brightness != 1.0, 0.15),
        (&|d| d.contrast != 1.0, 0.15),
        (&|d| d.resolution != 1.0, 0.2),
        (&|d| d.gamma != 1.0, 0.25),
    ];
    for (i, (happens, probability)) in expected.into_iter().enumerate() {
        let found = share(happens);
        // Four standard deviations of a share of 4000 draws.
        assert!((found - probability).abs() < 0.03, "{i}: {found}, expected {probability}");
    }
    let within = |v: f64, low: f64, high: f64| v == 1.0 || (low..=high).contains(&v);
    for d in &draws {
        assert!(d.rotation.iter().all(|r| r.abs() <= 30.0) && d.shift.iter().all(|s| s.abs() <= 10.0));
        assert!(within(d.zoom, 0.7, 1.4) && within(d.gamma, 0.7, 1.5) && within(d.resolution, 0.5, 1.0));
        assert!(within(d.brightness, 0.75, 1.25) && within(d.contrast, 0.75, 1.25));
        assert!(d.blur.is_none_or(|b| (0.5..=1.0).contains(&b)));
    }
}

#[test]
fn intensities_stay_within_0_and_1_and_noise_has_its_strength() {
    let scan = ball([0.0; 3]);
    let all = Augmentation {
        noise: Some((0.02, 3)),
        blur: Some(0.7),
        brightness: 1.25,
        contrast: 1.2,
        resolution: 0.6,
        gamma: 0.8,
        ..Augmentation::default()
    };
    let mut changed = stack(&scan, Axis::Axial, 48);
    all.apply(&mut changed.pixels, 1, None, &changed.grid);
    assert!(changed.pixels.iter().all(|v| (0.0..=1.0).contains(v)));

    let mut grey = vec![0.5f32; 100_000];
    add_noise(&mut grey, 0.02, 11);
    let mean = grey.iter().map(|&v| f64::from(v)).sum::<f64>() / 1e5;
    let variance = grey.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / 1e5;
    assert!((mean - 0.5).abs() < 4e-4 && (variance.sqrt() - 0.02).abs() < 4e-4);
}

#[test]
fn blur_and_lower_resolution_keep_a_constant_and_the_mean() {
    for taps in [gaussian(20, 0.8), coarse(20, 0.6), coarse(20, 1.0), mirrored(20)] {
        assert!(taps.iter().all(|t| (t.iter().map(|(_, w)| w).sum::<f32>() - 1.0).abs() < 1e-6));
    }
    let identity: Vec<f32> = (0..20).map(|v| v as f32).collect();
    assert_eq!(along(&identity, [1, 1, 20], 2, &coarse(20, 1.0)), identity);
}
