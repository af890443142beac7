//! What the abdomens promise: the same bits for ever, a label that only the injuries tell, true masks, and real
//! scans that are refused when they do not fit.

use super::super::draw::case_key;
use super::super::golden::assert_frozen;
use super::super::{class_of, generate};
use super::*;
use crate::scan::{Affine, Scan};

const NAME: &str = "liver_injury";

fn made(index: u64) -> PhantomCase {
    generate(NAME, 7, index).unwrap()
}

#[test]
fn the_generator_is_frozen() {
    assert_frozen(NAME, FROZEN);
}

const FROZEN: [(u64, u64, usize, &str); 4] = [
    (7, 0, 0, "3da296cd6613f9209df7024f692b07db"),
    (7, 1, 1, "64979d703ff14f491fb580aaef1ef0fc"),
    (1, 149, 0, "d2288c6fc2bc5d0d6894f2746f84e1ee"),
    (u64::MAX, 1 << 40, 1, "7d066b35c34e3976360b49e1a2d628eb"),
];

#[test]
fn a_case_does_not_depend_on_which_cases_came_before() {
    let other = std::thread::spawn(|| made(3)).join().unwrap();
    let (two, three) = (made(2), made(3));
    assert_eq!(other, three);
    assert_ne!(two.images, three.images);
}

#[test]
fn a_mask_exists_on_a_quarter_of_either_label_only() {
    let mut masks = [0; 2];
    for index in 0..20_000 {
        let key = case_key(NAME, 1, index);
        masks[class_of(key, 2)] += i32::from(masked(key));
    }
    assert!(masks.iter().all(|n| (2350..=2650).contains(n)), "{masks:?} of 10000 each");
    let (with, without) = (masked(case_key(NAME, 7, 0)), made(0).mask.is_some());
    assert_eq!(with, without);
}

/// HU at the injury against the same voxels of the healthy twin.
#[test]
fn an_injured_case_is_its_healthy_twin_made_15_to_40_hu_darker_inside_the_liver() {
    for index in 0..5 {
        let key = case_key(NAME, 7, index);
        let (with, without) = (paint(key, true), paint(key, false));
        assert!(without.placed.is_empty() && without.mask.iter().all(|m| *m == 0));
        assert!((1..=2).contains(&with.placed.len()));
        let (mut drop, mut count) = (0.0, 0);
        for v in 0..with.mask.len() {
            let less = without.canvas.hu[v] - with.canvas.hu[v];
            assert!(less == 0.0 || with.liver[v] > 0.0, "voxel {v} differs outside the liver");
            if with.mask[v] == 1 {
                assert!(with.liver[v] > 0.5);
                (drop, count) = (drop + less, count + 1);
            }
        }
        let mean = drop / count as f32;
        let volume = count as f32 * with.canvas.grid.spacing.iter().product::<f32>();
        assert!((9.0..=60.0).contains(&mean), "case {index}: {mean} HU");
        assert!(volume > 1500.0, "case {index}: {volume} mm3");
    }
}

#[test]
fn livers_are_as_large_as_livers() {
    for index in 0..5 {
        let painted = paint(case_key(NAME, 7, index), false);
        let litres =
            painted.liver.iter().sum::<f32>() * painted.canvas.grid.spacing.iter().product::<f32>() / 1e6;
        assert!((0.75..2.6).contains(&litres), "case {index}: {litres} litres");
        assert!(painted.liver.len() < 4_500_000, "{:?}", painted.canvas.grid.shape);
    }
}

#[test]
fn depth_is_zero_outside_and_grows_towards_the_middle() {
    let grid = grid::Grid { shape: [21, 21, 11], spacing: [1.0, 1.0, 2.0], origin: [0.0; 3] };
    let ball: Vec<f32> = (0..grid.len())
        .map(|v| {
            let p = grid.centre_of(v);
            f32::from(u8::from(grid::length(grid::sub(p, [10.0; 3])) < 8.0))
        })
        .collect();
    let depth = depth::depths(&grid, &ball);
    for (v, d) in depth.iter().enumerate() {
        let true_depth = (8.0 - grid::length(grid::sub(grid.centre_of(v), [10.0; 3]))).max(0.0);
        assert!((d - true_depth).abs() < 2.0, "{d} where {true_depth} mm is meant");
    }
}

fn scan(shape: [usize; 3], mm: f64, value: impl Fn(usize) -> f32) -> Scan {
    let voxels = (0..shape.iter().product()).map(value).collect();
    Scan::from_voxels("made.nii", voxels, shape, Affine::aligned([mm; 3], [0.0; 3])).unwrap()
}

#[test]
fn a_real_scans_organ_is_hurt_and_nothing_else_changes_by_more_than_noise() {
    let shape = [40, 40, 30];
    let organ = |v: usize| {
        let p = [v % 40, v / 40 % 40, v / 1600];
        p.iter().zip([(8, 32), (8, 32), (5, 25)]).all(|(&i, (a, b))| (a..b).contains(&i))
    };
    let air = |v: usize| v % 40 < 3;
    let base = scan(shape, 3.0, |v| if air(v) { -1000.0 } else { 100.0 + (v % 7) as f32 });
    let mask = scan(shape, 3.0, |v| f32::from(u8::from(organ(v))));
    let base = Base::new(&base, &mask).unwrap();
    let cases: Vec<PhantomCase> = (0..12).map(|i| base.generate(1, i)).collect();
    assert_eq!(cases[3], base.generate(1, 3));
    assert!(cases.iter().any(|c| c.class == 0) && cases.iter().any(|c| c.class == 1));
    for pair in cases.windows(2) {
        assert_ne!(pair[0].images, pair[1].images);
    }
    for case in &cases {
        assert_eq!((case.shape, case.affine), (shape, Affine::aligned([3.0; 3], [0.0; 3]).0));
        assert_eq!(case.findings.is_empty(), case.class == 0);
        for (v, m) in case.mask.iter().flatten().enumerate() {
            assert!(*m == 0 || organ(v));
        }
        let lowest =
            (0..40 * 40 * 30).filter(|v| !organ(*v) && !air(*v)).map(|v| case.images[0].voxels[v]).min();
        assert!(lowest.unwrap() > 50, "{lowest:?}");
    }
}

#[test]
fn a_mask_on_another_grid_or_of_nothing_and_a_scan_that_is_no_ct_are_refused_with_their_names() {
    let shape = [10, 10, 10];
    let ct = scan(shape, 3.0, |v| if v % 10 < 2 { -1000.0 } else { 50.0 + (v % 77) as f32 });
    let one = scan(shape, 3.0, |v| f32::from(u8::from(v == 555)));
    let refused = |base: &Scan, organ: &Scan| Base::new(base, organ).err().unwrap().to_string();
    let other = refused(&ct, &scan([10, 10, 9], 3.0, |_| 1.0));
    assert!(other.contains("not on the grid") && other.contains("[10, 10, 9]"), "{other}");
    let coarse = refused(&ct, &scan(shape, 3.1, |v| (v % 2) as f32));
    assert!(coarse.contains("corners") && coarse.contains("Resample"), "{coarse}");
    let empty = refused(&ct, &scan(shape, 3.0, |_| 0.0));
    assert!(empty.contains("no voxel is above 0.5"), "{empty}");
    let mr = refused(&scan(shape, 3.0, |v| (v % 500) as f32), &one);
    assert!(mr.contains("does not look like a CT"), "{mr}");
    assert!(Base::new(&ct, &one).is_ok());
}
