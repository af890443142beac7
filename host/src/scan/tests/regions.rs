//! Regions around a mask or a point: the same pixels however a scan is stored, in millimetres, and the way back.

use anymc3d_manifest::Extent;

use super::super::{SliceStack, Target, Volume, mask_scalars, slices_of_target};
use super::*;
use crate::memory::MemoryBudget;

const SHAPE: [usize; 3] = [11, 9, 7];

/// A finding of odd shape, off the centre.
fn finding() -> Vec<f32> {
    let inside = |i: usize| {
        let (x, y, z) = (i % SHAPE[0], i / SHAPE[0] % SHAPE[1], i / (SHAPE[0] * SHAPE[1]));
        (3..7).contains(&x) && (2..5).contains(&y) && (3..6).contains(&z) && (x + y * z) % 5 != 0
    };
    (0..SHAPE.iter().product()).map(|i| f32::from(u8::from(inside(i)))).collect()
}

fn made(voxels: Vec<f32>) -> Scan {
    // Oblique by a few degrees, as scans are.
    let mut affine = Affine::aligned([0.7, 0.9, 2.5], [-31.7, 12.3, 88.1]);
    (affine.0[0][1], affine.0[1][0], affine.0[2][1]) = (0.05, -0.04, 0.03);
    Scan::from_voxels("x", voxels, SHAPE, affine).unwrap()
}

fn cut(volume: &Volume, view: &View, target: Target<'_>) -> Result<SliceStack, VolumeError> {
    slices_of_target(volume, view, 1, MemoryBudget::of(1 << 28), target)
}

fn views() -> Vec<View> {
    let mut all = Vec::new();
    for axis in [Axis::Axial, Axis::Coronal, Axis::Sagittal, Axis::Native] {
        for fit in [Fit::Square, Fit::Stretch, Fit::Spacing] {
            let spacing_mm = (fit == Fit::Spacing).then_some(0.4);
            let plain = View { spacing_mm, ..view(axis, 5, [12, 10], fit) };
            let (cube, flat) = (Extent::Cube(6.3), Extent::Box([5.0, 8.0, 4.1]));
            all.push(View { region: Region::Mask, margin_mm: Some(1.0), ..plain.clone() });
            all.push(View { region: Region::Mask, size_mm: Some(cube), ..plain.clone() });
            all.push(View { region: Region::Point, size_mm: Some(flat), ..plain.clone() });
            let spaced = View { slices: None, slice_spacing_mm: Some(1.1), ..plain };
            all.push(View { region: Region::Point, size_mm: Some(cube), ..spaced });
        }
    }
    all
}

#[test]
fn all_48_orientations_give_the_same_pixels_of_regions_by_mask_and_by_point() {
    let (scan, mask) = (made(noise(SHAPE.iter().product())), made(finding()));
    let point_mm = Some(scan.affine.apply([4.3, 3.1, 3.7]));
    let (volume, drawn) = (scan.canonical(), mask.canonical());
    let views = views();
    let target = Target { mask: Some(&drawn), point_mm };
    let expected: Vec<SliceStack> = views.iter().map(|v| cut(&volume, v, target).unwrap()).collect();
    let scalars = mask_scalars(&volume, &drawn).unwrap();
    for (order, flip) in orientations() {
        let (turned, drawn) =
            (stored_as(&scan, order, flip).canonical(), stored_as(&mask, order, flip).canonical());
        for (view, expected) in views.iter().zip(&expected) {
            let found = cut(&turned, view, Target { mask: Some(&drawn), point_mm }).unwrap();
            assert_eq!(found.shape, expected.shape);
            assert!(found.pixels == expected.pixels, "{order:?} {flip:?} {view:?}");
            let covered = |stack: &SliceStack, mask: &Volume| stack.grid.mask_to_slices(mask).unwrap();
            assert!(covered(&found, &drawn) == covered(expected, &mask.canonical()));
            for s in 0..found.grid.slices() {
                assert!((found.grid.position_mm(s) - expected.grid.position_mm(s)).abs() < 1e-9);
            }
        }
        let found = mask_scalars(&turned, &drawn).unwrap();
        assert!(found.iter().zip(scalars).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}");
    }
}

#[test]
fn a_region_of_a_fixed_size_has_that_size_and_its_centre_whatever_the_scans_spacing() {
    for spacing in [[0.5, 0.5, 1.0], [0.98, 0.7, 2.5]] {
        let shape = [40, 38, 30];
        let affine = Affine::aligned(spacing, [-10.0, 5.0, 30.0]);
        let scan = Scan::from_voxels("x", noise(shape.iter().product()), shape, affine).unwrap().canonical();
        let point = affine.apply([17.25, 20.5, 11.125]);
        let view = View {
            region: Region::Point,
            size_mm: Some(Extent::Box([9.0, 9.0, 12.0])),
            ..view(Axis::Axial, 6, [18, 18], Fit::Square)
        };
        let grid = cut(&scan, &view, Target { mask: None, point_mm: Some(point) }).unwrap().grid;
        assert!((grid.slice_distance_mm() - 2.0).abs() < 1e-12);
        assert!(grid.pixel_size_mm().iter().all(|mm| (mm - 0.5).abs() < 1e-12));
        let middle = [0.5 * (grid.position_mm(2) + grid.position_mm(3)), point[2]];
        assert!((middle[0] - middle[1]).abs() < 1e-9, "{middle:?}");
        let centre = grid.patch_centre_mm(0, 0.5, 0.5);
        assert!((centre[0] - point[0]).abs() < 1e-9 && (centre[1] - point[1]).abs() < 1e-9, "{centre:?}");
    }
}

#[test]
fn a_linear_scan_has_the_value_of_each_pixels_place_and_the_minimum_beyond_its_edges() {
    let shape = [20, 20, 12];
    let value = |x: usize, z: usize| 20.0 * x as f32 + 10.0 * z as f32;
    let voxels = (0..4800).map(|i| value(i % 20, i / 400)).collect();
    let affine = Affine::aligned([1.0, 1.0, 2.0], [0.0; 3]);
    let scan = Scan::from_voxels("x", voxels, shape, affine).unwrap().canonical();
    let view = View {
        region: Region::Point,
        size_mm: Some(Extent::Cube(6.0)),
        ..view(Axis::Axial, 3, [12, 12], Fit::Stretch)
    };
    let at = |point| cut(&scan, &view, Target { mask: None, point_mm: Some(point) }).unwrap();
    let stack = at([9.3, 10.0, 11.0]);
    for (i, pixel) in stack.pixels.iter().enumerate() {
        let (s, row, column) = (i / 144, i / 12 % 12, i % 12);
        let [x, _, z] =
            stack.grid.patch_centre_mm(s, (row as f64 + 0.5) / 12.0, (column as f64 + 0.5) / 12.0);
        let expected = (20.0 * x + 5.0 * z) / 1000.0;
        assert!((f64::from(*pixel) - expected).abs() < 1e-5, "{pixel} at {x} {z}, expected {expected}");
    }
    // At the corner half of every axis lies outside; columns run right to left, so that the outside comes last.
    let corner = at([0.0, 0.0, 0.0]);
    assert_eq!(corner.pixels[11], 0.0);
}

#[test]
fn a_mask_without_a_voxel_a_point_outside_and_a_missing_region_are_refused_by_name() {
    let (scan, mask) = (made(noise(SHAPE.iter().product())).canonical(), made(finding()).canonical());
    let by_mask =
        View { region: Region::Mask, margin_mm: Some(2.0), ..view(Axis::Axial, 2, [4, 4], Fit::Square) };
    let by_point = View {
        region: Region::Point,
        size_mm: Some(Extent::Cube(5.0)),
        ..view(Axis::Axial, 2, [4, 4], Fit::Square)
    };
    let refused = |view: &View, target: Target<'_>| cut(&scan, view, target).unwrap_err().to_string();
    assert!(refused(&by_mask, Target::default()).contains("found no mask, expected a mask"));
    assert!(refused(&by_point, Target::default()).contains("found no point or a mask"));
    let empty = Volume { voxels: vec![0.0; mask.voxels.len()], ..mask.clone() };
    for view in [&by_mask, &by_point] {
        let message = refused(view, Target { mask: Some(&empty), point_mm: None });
        assert!(message.contains("a mask with nothing above 0.5"), "{message}");
    }
    let message = refused(&by_point, Target { mask: None, point_mm: Some([500.0, 0.0, 0.0]) });
    assert!(message.contains("the point 500,0,0") && message.contains("inside the scan: x -31"), "{message}");
    let small = Scan::from_voxels("m", vec![1.0; 8], [2; 3], Affine::aligned([1.0; 3], [0.0; 3])).unwrap();
    let message = refused(&by_mask, Target { mask: Some(&small.canonical()), point_mm: None });
    assert!(message.contains("expected the grid of its scan"), "{message}");
}

#[test]
fn a_point_that_is_missing_is_the_masks_centroid() {
    let (scan, mask) = (made(noise(SHAPE.iter().product())).canonical(), made(finding()).canonical());
    let size_mm = Some(Extent::Cube(5.0));
    let by = |region| View { region, size_mm, ..view(Axis::Axial, 3, [6, 6], Fit::Square) };
    let target = Target { mask: Some(&mask), point_mm: None };
    let (a, b) = (cut(&scan, &by(Region::Mask), target), cut(&scan, &by(Region::Point), target));
    assert_eq!(a.unwrap().pixels, b.unwrap().pixels);
}

#[test]
fn patch_means_are_the_share_of_each_patch_that_is_covered() {
    let mut slices = vec![0.0; 2 * 4 * 6];
    slices[24..30].fill(1.0); // the first row of the second slice
    let means = crate::scan::patch_means(&slices, [2, 4, 6], (2, 3));
    assert_eq!(means, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 0.0, 0.0, 0.0]);
}
