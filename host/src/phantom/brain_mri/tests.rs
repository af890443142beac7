//! What the heads promise: the same bits for ever, one anatomy whatever the class, and signals as designed.

use super::super::draw::case_key;
use super::super::golden::assert_frozen;
use super::super::{class_of, generate};
use super::*;

const NAME: &str = "brain_mri";

fn made(index: u64) -> PhantomCase {
    generate(NAME, 7, index).unwrap()
}

#[test]
fn the_generator_is_frozen() {
    assert_frozen(NAME, FROZEN);
}

const FROZEN: [(u64, u64, usize, &str); 4] = [
    (7, 0, 1, "4a214dab9e01364b37c2f0b68cf7d2af"),
    (7, 1, 0, "15aeb3f4cdca0eaaa7c372869ed37f47"),
    (1, 149, 2, "508dc0dd91e09fbbca3455ad0090c1c5"),
    (u64::MAX, 1 << 40, 0, "c823dbfca0eb50472a915026d99287b0"),
];

#[test]
fn a_case_does_not_depend_on_which_cases_came_before() {
    let other = std::thread::spawn(|| made(3)).join().unwrap();
    let (two, three) = (made(2), made(3));
    assert_eq!(other, three);
    assert_ne!(two.images, three.images);
}

#[test]
fn a_fifth_of_the_cases_lack_exactly_one_sequence_whatever_their_class() {
    let mut lacking = [[0; 3]; 4];
    for index in 0..6000 {
        let key = case_key(NAME, 1, index);
        if let Some(sequence) = missing(key) {
            lacking[class_of(key, 4)][sequence] += 1;
        }
    }
    // 100 each are expected.
    assert!(lacking.iter().flatten().all(|n| (65..=140).contains(n)), "{lacking:?}");
    let case = (0..).map(made).find(|c| c.images.len() < 3).unwrap();
    let there: Vec<&str> = case.images.iter().filter_map(|i| i.sequence).collect();
    assert_eq!(there.len(), 2);
    assert!(there.iter().all(|s| TASK.sequences.contains(s)));
}

#[test]
fn every_class_is_the_same_head_with_another_lesion_of_the_same_shape() {
    let key = case_key(NAME, 7, 4);
    let [none, stroke, tumour, cyst] = [0, 1, 2, 3].map(|class| paint(key, class));
    assert!(none.placed.is_empty() && none.mask.iter().all(|m| *m == 0));
    for with in [&stroke, &tumour, &cyst] {
        assert_eq!(with.mask, stroke.mask);
        assert!(!with.placed.is_empty());
        let reach = |v: usize| {
            let p = with.picture.grid.centre_of(v);
            with.placed.iter().any(|o| {
                super::super::grid::length(super::super::grid::sub(p, o.centre)) < 1.4 * o.radius + 5.0
            })
        };
        for v in 0..with.mask.len() {
            assert!(
                with.picture.values[v] == none.picture.values[v] || reach(v),
                "voxel {v} differs far away"
            );
        }
    }
}

#[test]
fn lesions_lie_in_the_cerebrum_and_are_a_patch_wide() {
    for index in 0..6 {
        let painted = paint(case_key(NAME, 7, index), 1);
        let grid = &painted.picture.grid;
        let mut volume = 0.0;
        for (v, _) in painted.mask.iter().enumerate().filter(|(_, m)| **m == 1) {
            assert!(painted.picture.tissue[v] > 0.5);
            volume += grid.spacing.iter().product::<f32>();
        }
        let spheres: f32 = painted.placed.iter().map(|p| 4.18879 * p.radius * p.radius * p.radius).sum();
        assert!((0.5..1.3).contains(&(volume / spheres)), "case {index}: {volume} mm3 of {spheres}");
        assert!(painted.placed.iter().all(|p| (7.0..=14.0).contains(&p.radius)));
    }
}

/// Mean signal inside the lesions against the same voxels of the healthy twin.
fn contrast(index: u64, class: usize) -> [f32; 3] {
    let key = case_key(NAME, 7, index);
    let (with, without) = (paint(key, class), paint(key, 0));
    let mut sums = [[0.0f32; 2]; 3];
    for v in (0..with.mask.len()).filter(|v| with.mask[*v] == 1) {
        for (s, sum) in sums.iter_mut().enumerate() {
            sum[0] += with.picture.values[v][s];
            sum[1] += without.picture.values[v][s];
        }
    }
    sums.map(|[with, without]| with / without)
}

#[test]
fn each_class_has_the_contrast_it_was_designed_with_and_no_sequence_tells_all() {
    for index in 0..3 {
        let [stroke, tumour, cyst] = [1, 2, 3].map(|class| contrast(index, class));
        // T1: stroke and cyst alike and dark, a tumour not there at all.
        assert!(
            stroke[0] < 0.85 && stroke[0] == cyst[0] && tumour[0] == 1.0,
            "{stroke:?} {tumour:?} {cyst:?}"
        );
        // T2: all alike and bright.
        assert!(stroke[1] > 1.2 && stroke[1] == tumour[1] && stroke[1] == cyst[1]);
        // FLAIR: stroke and tumour alike and bright, a cyst dark.
        assert!(stroke[2] > 1.15 && stroke[2] == tumour[2] && cyst[2] < 0.85, "{stroke:?} {cyst:?}");
    }
}

#[test]
fn sizes_stay_within_what_is_promised_and_units_are_arbitrary() {
    let mut tops = Vec::new();
    for case in (0..4).map(made) {
        assert!(case.voxels() < 3_200_000, "{:?}", case.shape);
        for image in &case.images {
            assert_eq!(image.voxels.len(), case.voxels());
            assert!(image.voxels.iter().all(|v| *v >= 0));
            tops.push(*image.voxels.iter().max().unwrap());
        }
    }
    assert!(tops.iter().max().unwrap() > &(3 * tops.iter().min().unwrap()), "{tops:?}");
}

impl PhantomCase {
    fn voxels(&self) -> usize {
        self.shape.iter().product()
    }
}
