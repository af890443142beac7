//! From slices back to the scan's grid: a marker comes back where it was.

use super::super::slices;
use super::*;

fn strongest(values: &[f32]) -> usize {
    (0..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

#[test]
fn a_marker_voxel_comes_back_where_it_was_in_all_48_orientations() {
    let shape = [12, 10, 8];
    let mut voxels = vec![0.0; 12 * 10 * 8];
    voxels[(5 * 10 + 3) * 12 + 8] = 1000.0;
    let scan =
        Scan::from_voxels("x", voxels, shape, Affine::aligned([1.0, 1.5, 2.0], [-5.0, 3.0, 40.0])).unwrap();
    for (order, flip) in orientations() {
        let turned = stored_as(&scan, order, flip);
        let marker = strongest(&turned.voxels);
        for axis in [Axis::Axial, Axis::Coronal, Axis::Sagittal] {
            for (fit, spacing_mm) in [(Fit::Square, None), (Fit::Stretch, None), (Fit::Spacing, Some(0.5))] {
                let view = View { spacing_mm, ..view(axis, 24, [40, 48], fit) };
                let stack = slices(&turned.canonical(), &view, 1).unwrap();
                let back = stack.grid.to_scan(&stack.pixels, 40, 48);
                assert_eq!(back.len(), turned.voxels.len());
                assert_eq!(strongest(&back), marker, "{order:?} {flip:?} {axis:?} {fit:?}");

                // And where the strongest pixel says it is, in millimetres and by the stored index.
                let at = strongest(&stack.pixels);
                let (s, row, col) = (at / (40 * 48), at / 48 % 40, at % 48);
                let mm = stack.grid.patch_centre_mm(s, (row as f64 + 0.5) / 40.0, (col as f64 + 0.5) / 48.0);
                let marker_mm = scan.affine.apply([8.0, 3.0, 5.0]);
                for a in 0..3 {
                    assert!(
                        (mm[a] - marker_mm[a]).abs() <= 0.76,
                        "{axis:?} {fit:?}: {mm:?} is not {marker_mm:?}"
                    );
                }
                let [nx, ny, _] = turned.shape;
                let stored = [marker % nx, marker / nx % ny, marker / (nx * ny)];
                let ras = match axis {
                    Axis::Sagittal => 0,
                    Axis::Coronal => 1,
                    _ => 2,
                };
                let along = (0..3).find(|&a| order[a] == ras).unwrap();
                assert_eq!(stack.grid.index_in_scan(s), stored[along]);
                assert!((stack.grid.position_mm(s) - marker_mm[ras]).abs() <= 0.51);
            }
        }
    }
}

#[test]
fn a_linear_ramp_survives_the_way_there_and_back() {
    // x + 2y + 3z in mm; linear resampling keeps it away from the ends.
    let shape = [16, 12, 10];
    let mut voxels = Vec::new();
    for z in 0..10 {
        for y in 0..12 {
            voxels.extend((0..16).map(|x| (x + 2 * y + 3 * z) as f32));
        }
    }
    let scan = Scan::from_voxels("x", voxels, shape, Affine::aligned([1.0; 3], [0.0; 3])).unwrap();
    let mut v = view(Axis::Axial, 10, [24, 32], Fit::Square);
    v.intensity = Intensity::Window { windows: vec![[0.0, 100.0]] };
    let stack = slices(&scan.canonical(), &v, 1).unwrap();
    let back = stack.grid.to_scan(&stack.pixels, 24, 32);
    for z in 2..8 {
        for y in 2..10 {
            for x in 2..14 {
                let i = (z * 12 + y) * 16 + x;
                assert!((back[i] * 100.0 - scan.voxels[i]).abs() < 1e-3, "{x} {y} {z}: {}", back[i] * 100.0);
            }
        }
    }
}

#[test]
fn outside_the_stack_is_zero_and_inside_it_is_not() {
    let mut voxels = vec![-1000.0; 20 * 20 * 20];
    for z in 5..15 {
        for y in 4..16 {
            voxels[(z * 20 + y) * 20 + 3..(z * 20 + y) * 20 + 12].fill(50.0);
        }
    }
    let scan = Scan::from_voxels("x", voxels, [20; 3], Affine::aligned([1.0; 3], [0.0; 3])).unwrap();
    let v = View {
        region: Region::Body,
        modality: Modality::CT,
        ..view(Axis::Coronal, 3, [28, 28], Fit::Square)
    };
    let stack = slices(&scan.canonical(), &v, 14).unwrap();
    let back = stack.grid.to_scan(&[1.0; 3 * 2 * 2], 2, 2);
    for (i, v) in back.iter().enumerate() {
        let inside = scan.voxels[i] == 50.0;
        assert!((*v - if inside { 1.0 } else { 0.0 }).abs() < 1e-6, "{i}: {v}");
    }
    assert!(stack.grid.to_scan(&[1.0; 5], 2, 2).is_empty());
}

#[test]
fn a_mask_in_another_order_covers_the_same_pixels_and_another_grid_is_refused() {
    let shape = [12, 10, 8];
    let affine = Affine::aligned([1.0, 1.0, 2.0], [0.0; 3]);
    let scan = Scan::from_voxels("scan", noise(960), shape, affine).unwrap();
    let mut inside = vec![0.0; 960];
    for z in 2..6 {
        for y in 3..7 {
            inside[(z * 10 + y) * 12 + 4..(z * 10 + y) * 12 + 9].fill(3.0);
        }
    }
    let mask = Scan::from_voxels("mask", inside, shape, affine).unwrap();
    let stack = slices(&scan.canonical(), &view(Axis::Axial, 8, [24, 24], Fit::Square), 1).unwrap();
    let covered = stack.grid.mask_to_slices(&mask.canonical()).unwrap();
    assert_eq!(covered.len(), 8 * 24 * 24);
    // 4 slices of 4 × 5 voxels, 2 × 2 pixels each.
    let total: f32 = covered.iter().sum();
    assert!((total - 4.0 * 20.0 * 4.0).abs() < 1e-3, "{total}");
    let turned = stored_as(&mask, [2, 0, 1], [true, false, true]);
    assert_eq!(stack.grid.mask_to_slices(&turned.canonical()).unwrap(), covered);

    let moved =
        Scan::from_voxels("mask", vec![1.0; 960], shape, Affine::aligned([1.0, 1.0, 2.0], [3.0, 0.0, 0.0]))
            .unwrap();
    let error = stack.grid.mask_to_slices(&moved.canonical()).unwrap_err().to_string();
    assert!(error.contains("mask") && error.contains("3.0 mm away"), "{error}");
    let other = Scan::from_voxels("mask", vec![1.0; 8], [2; 3], affine).unwrap();
    assert!(stack.grid.mask_to_slices(&other.canonical()).is_err());
}

#[test]
fn a_sheared_scan_keeps_its_grid_and_its_marker() {
    let affine =
        Affine([[1.0, 0.0, 0.4, 3.0], [0.0, 1.0, 0.0, 4.0], [0.0, 0.0, 2.0, 5.0], [0.0, 0.0, 0.0, 1.0]]);
    let mut voxels = vec![0.0; 512];
    voxels[(6 * 8 + 2) * 8 + 5] = 1000.0;
    let scan = Scan::from_voxels("x", voxels, [8; 3], affine).unwrap();
    let stack = slices(&scan.canonical(), &view(Axis::Axial, 8, [8, 8], Fit::Square), 1).unwrap();
    assert_eq!(strongest(&stack.grid.to_scan(&stack.pixels, 8, 8)), (6 * 8 + 2) * 8 + 5);
    let mm = stack.grid.patch_centre_mm(6, 5.5 / 8.0, 2.5 / 8.0);
    for (found, expected) in mm.iter().zip(affine.apply([5.0, 2.0, 6.0])) {
        assert!((found - expected).abs() < 1e-9, "{mm:?}");
    }
}

#[test]
fn plugins_are_told_where_slices_lie_and_how_far_tokens_are_apart() {
    let affine =
        Affine([[1.0, 0.0, 0.4, 3.0], [0.0, 1.0, 0.0, 4.0], [0.0, 0.0, 2.0, 5.0], [0.0, 0.0, 0.0, 1.0]]);
    let scan = Scan::from_voxels("x", (0..512).map(|i| i as f32).collect(), [8; 3], affine).unwrap();
    for (axis, ras) in [(Axis::Sagittal, 0), (Axis::Coronal, 1), (Axis::Axial, 2)] {
        let stack = slices(&scan.canonical(), &view(axis, 4, [28, 14], Fit::Stretch), 14).unwrap();
        let geometry = stack.grid.geometry((2, 1));
        assert_eq!((geometry.positions_mm.len(), geometry.centres_mm.len()), (4, 4));
        for (s, (position, centre)) in geometry.positions_mm.iter().zip(&geometry.centres_mm).enumerate() {
            assert_eq!((*position, centre[ras]), (stack.grid.position_mm(s), stack.grid.position_mm(s)));
            assert_eq!(*centre, stack.grid.patch_centre_mm(s, 0.5, 0.5));
        }
        assert!(geometry.positions_mm.is_sorted());
        // Neighbouring slices and neighbouring tokens are as far apart as they say, also where the grid is sheared.
        let apart = |a: [f64; 3], b: [f64; 3]| -> f64 {
            a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
        };
        let [slices, rows, columns] = geometry.token_spacing_mm;
        assert!((apart(geometry.centres_mm[0], geometry.centres_mm[1]) - slices).abs() < 1e-9, "{axis:?}");
        let down = apart(stack.grid.patch_centre_mm(0, 0.25, 0.5), stack.grid.patch_centre_mm(0, 0.75, 0.5));
        assert!((down - rows).abs() < 1e-9, "{axis:?}: {down} and {rows}");
        let edges = apart(stack.grid.patch_centre_mm(0, 0.5, 0.0), stack.grid.patch_centre_mm(0, 0.5, 1.0));
        assert!((edges - columns).abs() < 1e-9, "{axis:?}: {edges} and {columns}");
    }
}
