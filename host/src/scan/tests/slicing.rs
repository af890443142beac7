//! From a scan to pixels: orientation, fit, spacing, order.

use super::super::{SliceStack, slices};
use super::*;

fn cut(scan: &Scan, view: &View) -> SliceStack {
    slices(&scan.canonical(), view, 1).unwrap()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn all_48_orientations_give_the_same_slices_of_every_axis_fit_and_region() {
    let mut voxels = noise(9 * 7 * 5);
    voxels[0] = -2000.0; // away from a body of 0 and more
    let affine = Affine::aligned([1.0, 1.5, 4.0], [-5.0, 3.0, 40.0]);
    let scan = Scan::from_voxels("x", voxels, [9, 7, 5], affine).unwrap();
    let mut views = vec![view(Axis::Native, 3, [6, 8], Fit::Square)];
    for axis in [Axis::Axial, Axis::Coronal, Axis::Sagittal] {
        views.push(view(axis, 4, [8, 6], Fit::Square));
        views.push(view(axis, 7, [8, 6], Fit::Stretch));
        views.push(View {
            spacing_mm: Some(0.8),
            region: Region::Body,
            crop: Some([[0.3, 0.95], [0.1, 0.9], [0.0, 0.8]]),
            modality: Modality::CT,
            ..view(axis, 7, [8, 6], Fit::Spacing)
        });
    }
    let expected: Vec<SliceStack> = views.iter().map(|v| cut(&scan, v)).collect();
    for (order, flip) in orientations() {
        let turned = stored_as(&scan, order, flip);
        for (view, expected) in views.iter().zip(&expected) {
            let found = cut(&turned, view);
            assert_eq!(found.shape, expected.shape);
            let worst = largest_difference(&found.pixels, &expected.pixels);
            assert!(worst < 1e-6, "{order:?} {flip:?} {:?}: {worst}", view.axis);
            for s in 0..found.grid.slices() {
                assert!((found.grid.position_mm(s) - expected.grid.position_mm(s)).abs() < 1e-9);
            }
        }
    }
}

#[test]
fn slices_hang_as_the_manifest_says() {
    // One bright voxel to the left (x = 0), anterior (y = 3), superior (z = 4).
    let mut voxels = vec![0.0; 3 * 4 * 5];
    voxels[(4 * 4 + 3) * 3] = 1000.0;
    let scan = Scan::from_voxels("x", voxels, [3, 4, 5], Affine::aligned([1.0; 3], [0.0; 3])).unwrap();
    let bright = |axis, s, h, w| {
        let stack = cut(&scan, &view(axis, s, [h, w], Fit::Stretch));
        let at = stack.pixels.iter().position(|p| *p == 1.0).unwrap();
        [at / (h * w), at / w % h, at % w]
    };
    // Axial: last slice, top row (anterior), last column (left). Coronal: last slice, top, last column.
    assert_eq!(bright(Axis::Axial, 5, 4, 3), [4, 0, 2]);
    assert_eq!(bright(Axis::Coronal, 4, 5, 3), [3, 0, 2]);
    // Sagittal: first slice (left), top row (superior), first column (anterior).
    assert_eq!(bright(Axis::Sagittal, 3, 5, 4), [0, 0, 0]);
}

#[test]
fn a_square_puts_the_odd_voxel_at_the_end_and_pads_with_the_minimum() {
    // 2 columns of 1 mm, 5 rows of 1 mm: three columns of padding, one before and two after.
    let scan = Scan::from_voxels(
        "x",
        vec![500.0; 9].into_iter().chain([100.0]).collect(),
        [2, 5, 1],
        Affine::aligned([1.0; 3], [0.0; 3]),
    )
    .unwrap();
    let stack = cut(&scan, &view(Axis::Axial, 1, [5, 5], Fit::Square));
    assert_eq!(&stack.pixels[5..10], [0.1, 0.5, 0.5, 0.1, 0.1]);
    assert_eq!(stack.grid.pixel_size_mm(), [1.0, 1.0]);
}

#[test]
fn spacing_crops_and_pads_around_the_centre() {
    let scan = Scan::from_voxels("x", noise(20 * 6), [20, 6, 1], Affine::aligned([0.5, 1.0, 1.0], [0.0; 3]))
        .unwrap();
    let of = |size| cut(&scan, &View { spacing_mm: Some(1.0), ..view(Axis::Axial, 1, size, Fit::Spacing) });
    let (whole, part) = (of([6, 10]), of([9, 5]));
    // Rows: 6 in 9, one before and two after. Columns: 10 in 5, two cut before and three after.
    for row in 0..6 {
        assert_eq!(part.pixels[(row + 1) * 5..(row + 2) * 5], whole.pixels[row * 10 + 2..row * 10 + 7]);
    }
    let minimum = scan.range()[0] / 1000.0;
    assert!(part.pixels[..5].iter().chain(&part.pixels[35..]).all(|p| (p - minimum).abs() < 1e-6));
    assert_eq!(part.grid.pixel_size_mm(), [1.0, 1.0]);
}

#[test]
fn the_distance_between_slices_sets_their_number() {
    let scan =
        Scan::from_voxels("x", noise(4 * 4 * 30), [4, 4, 30], Affine::aligned([1.0, 1.0, 1.5], [0.0; 3]))
            .unwrap();
    let stack = cut(
        &scan,
        &View { slices: None, slice_spacing_mm: Some(5.0), ..view(Axis::Axial, 1, [4, 4], Fit::Square) },
    );
    assert_eq!((stack.shape[0], stack.grid.slice_distance_mm()), (9, 5.0));
}

#[test]
fn native_is_the_axis_with_the_largest_spacing_and_axial_among_equals() {
    let shape = |spacing: [f64; 3]| {
        let scan = Scan::from_voxels("x", noise(60), [3, 4, 5], Affine::aligned(spacing, [0.0; 3])).unwrap();
        let view =
            View { slices: None, slice_spacing_mm: Some(1.0), ..view(Axis::Native, 1, [2, 2], Fit::Square) };
        cut(&scan, &view).shape[0]
    };
    assert_eq!(shape([4.0, 1.0, 1.0]), 12);
    assert_eq!(shape([1.0, 4.0, 1.0]), 16);
    assert_eq!(shape([1.0, 1.0, 1.000001]), 5);
    assert_eq!(shape([1.000001, 1.0, 1.0]), 5);
}

#[test]
fn a_size_that_is_no_multiple_of_the_patch_is_rounded_up_with_a_notice() {
    let scan = Scan::from_voxels("x", noise(60), [3, 4, 5], Affine::aligned([1.0; 3], [0.0; 3])).unwrap();
    let stack = slices(&scan.canonical(), &view(Axis::Axial, 2, [28, 30], Fit::Square), 14).unwrap();
    assert_eq!(stack.shape, [2, 1, 28, 42]);
    assert!(stack.warnings[0].contains("28 × 30 rounded up to 28 × 42"), "{:?}", stack.warnings);
}

#[test]
fn three_windows_are_three_channels_and_grey_is_repeated() {
    let scan = Scan::from_voxels(
        "x",
        vec![250.0; 7].into_iter().chain([0.0]).collect(),
        [2, 2, 2],
        Affine::aligned([1.0; 3], [0.0; 3]),
    )
    .unwrap();
    let windows = vec![[0.0, 1000.0], [200.0, 300.0], [300.0, 400.0]];
    let rgb = cut(
        &scan,
        &View { intensity: Intensity::Window { windows }, ..view(Axis::Axial, 2, [2, 2], Fit::Square) },
    );
    assert_eq!(rgb.shape, [2, 3, 2, 2]);
    assert_eq!([rgb.pixels[0], rgb.pixels[4], rgb.pixels[8]], [0.25, 0.5, 0.0]);
    let grey = cut(&scan, &view(Axis::Axial, 2, [2, 2], Fit::Square))
        .normalised([0.0, 0.25, 0.5], [1.0, 0.5, 0.25])
        .unwrap();
    assert_eq!((grey.len(), grey[0], grey[4], grey[8]), (24, 0.25, 0.0, -1.0));
    assert_eq!(rgb.normalised([0.0, 0.25, 0.5], [1.0, 0.5, 0.25]).unwrap()[..12][8], -2.0);
}

#[test]
fn percentiles_leave_out_zeros_only_when_asked() {
    let voxels: Vec<f32> = (0..1000).map(|i| if i < 500 { 0.0 } else { i as f32 }).collect();
    let scan = Scan::from_voxels("x", voxels, [10; 3], Affine::aligned([1.0; 3], [0.0; 3])).unwrap();
    let brightest = |nonzero| {
        let intensity = Intensity::Percentile { low: 0.0, high: 50.0, nonzero };
        cut(&scan, &View { intensity, ..view(Axis::Axial, 10, [10, 10], Fit::Square) })
            .pixels
            .iter()
            .filter(|p| **p == 1.0)
            .count()
    };
    assert_eq!((brightest(true), brightest(false)), (250, 500));
    let empty =
        Scan::from_voxels("zero.nii", vec![0.0; 8], [2; 3], Affine::aligned([1.0; 3], [0.0; 3])).unwrap();
    let intensity = Intensity::Percentile { low: 0.0, high: 50.0, nonzero: true };
    let error =
        slices(&empty.canonical(), &View { intensity, ..view(Axis::Axial, 1, [2, 2], Fit::Square) }, 1)
            .unwrap_err();
    assert!(error.to_string().starts_with("zero.nii: view `v`: found no voxel other than 0"), "{error}");
}

#[test]
fn more_pixels_than_memory_could_hold_are_refused() {
    let scan = Scan::from_voxels("x", noise(8), [2; 3], Affine::aligned([1.0; 3], [0.0; 3])).unwrap();
    assert!(slices(&scan.canonical(), &view(Axis::Axial, 4096, [4096, 4096], Fit::Square), 14).is_err());
}

#[test]
fn one_slice_used_many_times_and_few_slices_used_several_times_are_told() {
    let told = |slices: usize, made: usize, axis| {
        let affine = Affine::aligned([1.0; 3], [0.0; 3]);
        let scan = Scan::from_voxels("x", noise(8 * 8 * slices), [8, 8, slices], affine).unwrap();
        cut(&scan, &view(axis, made, [8, 8], Fit::Square)).warnings.join("; ")
    };
    let one = told(1, 40, Axis::Axial);
    assert!(one.contains("the prediction comes from this slice, used 40 times"), "{one}");
    assert!(told(6, 40, Axis::Axial).contains("6 slices along this axis and the view 40"));
    assert!(told(1, 8, Axis::Coronal).contains("they show a line"));
    assert_eq!(told(10, 40, Axis::Axial) + &told(1, 1, Axis::Axial), "");
}

#[test]
fn slices_farther_apart_than_half_the_smallest_finding_are_told() {
    let told = |mm: f64| {
        let affine = Affine::aligned([0.7, 0.7, mm], [0.0; 3]);
        Scan::from_voxels("x", noise(8), [2; 3], affine).unwrap().thick_slices(8.0)
    };
    assert_eq!((told(1.0), told(4.0)), (None, None));
    assert!(
        told(5.0).unwrap().contains("slices lie 5.0 mm apart, the smallest findings of the task are 8 mm")
    );
}
