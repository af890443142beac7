//! What a phantom promises: the same bits for ever, a label that only the nodules tell, and a true mask.

use super::super::draw::case_key;
use super::super::golden::{hash, short};
use super::super::{class_of, generate};
use super::*;
use sha2::Digest;

const NAME: &str = "lung_nodule";

fn made(index: u64) -> PhantomCase {
    generate(NAME, 7, index).unwrap()
}

fn voxels(case: &PhantomCase) -> &[i16] {
    &case.images[0].voxels
}

fn mask(case: &PhantomCase) -> &[u8] {
    case.mask.as_deref().unwrap()
}

fn digest(case: &PhantomCase) -> String {
    short(hash(case).chain_update([case.class as u8]))
}

fn ras(affine: &[[f64; 4]; 4], voxel: [usize; 3]) -> [f64; 3] {
    std::array::from_fn(|a| affine[a][3] + (0..3).map(|i| affine[a][i] * voxel[i] as f64).sum::<f64>())
}

fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt()
}

/// (voxel, RAS mm) of every voxel in storage order.
fn places(case: &PhantomCase) -> impl Iterator<Item = (usize, [f64; 3])> + '_ {
    let [nx, ny, _] = case.shape;
    (0..voxels(case).len()).map(move |v| (v, ras(&case.affine, [v % nx, v / nx % ny, v / nx / ny])))
}

/// Stored models, reported results and other people's tables rest on these cases. A change that moves a
/// digest is a new task with a new version (`lung_nodule_2`), never an edit of this one.
#[test]
fn the_generator_is_frozen() {
    let found: Vec<(u64, u64, bool, String)> = [(7, 0), (7, 1), (1, 299), (u64::MAX, 1 << 40)]
        .into_iter()
        .map(|(seed, index)| {
            let case = generate(NAME, seed, index).unwrap();
            (seed, index, case.class == 1, digest(&case))
        })
        .collect();
    let expected = FROZEN.map(|(seed, index, label, digest)| (seed, index, label, digest.to_owned()));
    assert_eq!(found, expected);
}

const FROZEN: [(u64, u64, bool, &str); 4] = [
    (7, 0, false, "8573f8d52bed8d8938283df92d9364cd"),
    (7, 1, true, "a810f8ead0ccd16349ea88a8b38d83b9"),
    (1, 299, true, "f3d1d53f406c57d879359666e817028f"),
    (u64::MAX, 1 << 40, true, "a329b5132ac3036453d9e20f3bf3fb90"),
];

#[test]
fn half_of_the_cases_of_any_seed_have_nodules() {
    for seed in [0, 1, 7, 1 << 60] {
        let positives = (0..4000).filter(|i| class_of(case_key(NAME, seed, *i), 2) == 1).count();
        assert!((1880..=2120).contains(&positives), "seed {seed}: {positives} of 4000");
    }
}

#[test]
fn a_case_does_not_depend_on_which_cases_came_before() {
    let threads: Vec<_> = [3, 2].into_iter().map(|i| std::thread::spawn(move || (i, made(i)))).collect();
    let (two, three) = (made(2), made(3));
    for thread in threads {
        let (i, other) = thread.join().unwrap();
        assert_eq!(other, if i == 2 { two.clone() } else { three.clone() });
    }
    assert_ne!(two.images, three.images);
}

#[test]
fn mask_and_nodules_are_the_same_thing() {
    for case in (0..8).map(made) {
        assert_eq!(voxels(&case).len(), case.shape.iter().product::<usize>());
        assert_eq!(mask(&case).len(), voxels(&case).len());
        assert_eq!(case.class == 1, !case.findings.is_empty(), "{}", case.name);
        assert!(case.findings.len() <= 3);
        let spacing: Vec<f64> = (0..3).map(|i| (0..3).map(|a| case.affine[a][i].abs()).sum()).collect();
        let voxel_mm3: f64 = spacing.iter().product();
        let mut volumes = vec![0.0; case.findings.len()];
        for (_, p) in places(&case).filter(|(v, _)| mask(&case)[*v] == 1) {
            let near = |n: &Finding| distance(p, n.centre_mm) / n.diameter_mm;
            let (owner, share) =
                case.findings.iter().map(near).enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
            assert!(share < 0.7, "{}: a mask voxel {share} diameters from every nodule's centre", case.name);
            volumes[owner] += voxel_mm3;
        }
        for (nodule, volume) in case.findings.iter().zip(volumes) {
            assert!((8.0..=30.0).contains(&nodule.diameter_mm));
            let sphere = std::f64::consts::PI / 6.0 * nodule.diameter_mm.powi(3);
            assert!((0.6..1.35).contains(&(volume / sphere)), "{}: {volume} mm3 of {sphere}", case.name);
        }
    }
}

#[test]
fn a_positive_case_is_its_negative_twin_with_nodules_in_its_lungs() {
    for index in [0, 1, 2] {
        let key = case_key(NAME, 7, index);
        let (with, without) = (case(String::new(), key, true), case(String::new(), key, false));
        assert_eq!((with.shape, with.affine), (without.shape, without.affine));
        assert!(without.findings.is_empty() && mask(&without).iter().all(|m| *m == 0));
        let (mut air, mut inside) = (0, 0);
        for (v, p) in places(&with) {
            if voxels(&with)[v] != voxels(&without)[v] {
                let near =
                    with.findings.iter().any(|n| distance(p, n.centre_mm) < 0.7 * n.diameter_mm + 10.0);
                assert!(near, "voxel {v} differs far from every nodule");
            }
            if mask(&with)[v] == 1 {
                inside += 1;
                air += usize::from(voxels(&without)[v] < -500);
            }
        }
        assert!(air as f64 > 0.75 * inside as f64, "{air} of {inside} nodule voxels were lung");
    }
}

#[test]
fn sizes_stay_within_what_is_promised_and_orientations_vary() {
    let mut signs = std::collections::BTreeSet::new();
    for case in (0..8).map(made) {
        assert!(voxels(&case).len() < 4_200_000, "{:?}", case.shape);
        let mut axes = Vec::new();
        for i in 0..3 {
            let column: Vec<f64> = (0..3).map(|a| case.affine[a][i]).collect();
            let (axis, step) = column.iter().copied().enumerate().find(|(_, x)| *x != 0.0).unwrap();
            let limits = if axis == 2 { 1.499..3.001 } else { 1.299..2.201 };
            assert!(limits.contains(&step.abs()), "{step} mm");
            axes.push((axis, step > 0.0));
        }
        signs.insert(axes);
    }
    assert!(signs.len() >= 4, "{signs:?}");
}
