//! What a phantom promises: the same bits for ever, a label that only the nodules tell, and a true mask.

use super::draw::case_key;
use super::*;
use sha2::{Digest, Sha256};

const TASK: &str = "lung_nodule";

fn case(index: u64) -> PhantomCase {
    generate(TASK, 7, index).unwrap()
}

fn digest(case: &PhantomCase) -> String {
    let mut hash = Sha256::new();
    for voxel in &case.voxels {
        hash.update(voxel.to_le_bytes());
    }
    hash.update(&case.mask);
    for number in case.affine.iter().flatten() {
        hash.update(number.to_le_bytes());
    }
    for size in case.shape {
        hash.update((size as u64).to_le_bytes());
    }
    for nodule in &case.nodules {
        for number in nodule.centre_mm.iter().chain([&nodule.diameter_mm]) {
            hash.update(number.to_le_bytes());
        }
    }
    hash.update([u8::from(case.label)]);
    hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect()
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
    (0..case.voxels.len()).map(move |v| (v, ras(&case.affine, [v % nx, v / nx % ny, v / nx / ny])))
}

/// Stored models, reported results and other people's tables rest on these cases. A change that moves a
/// digest is a new task with a new version (`lung_nodule_2`), never an edit of this one.
#[test]
fn the_generator_is_frozen() {
    let found: Vec<(u64, u64, bool, String)> = [(7, 0), (7, 1), (1, 299), (u64::MAX, 1 << 40)]
        .into_iter()
        .map(|(seed, index)| {
            let case = generate(TASK, seed, index).unwrap();
            (seed, index, case.label, digest(&case))
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
fn an_unknown_phantom_is_refused_with_the_known_ones_named() {
    let error = generate("knee", 0, 0).unwrap_err().to_string();
    assert_eq!(error, "no phantom is called `knee`; there is: lung_nodule");
}

#[test]
fn half_of_the_cases_of_any_seed_have_nodules() {
    for seed in [0, 1, 7, 1 << 60] {
        let positives = (0..4000).filter(|i| label_of(case_key(TASK, seed, *i))).count();
        assert!((1880..=2120).contains(&positives), "seed {seed}: {positives} of 4000");
    }
}

#[test]
fn a_case_does_not_depend_on_which_cases_came_before() {
    let threads: Vec<_> = [3, 2].into_iter().map(|i| std::thread::spawn(move || (i, case(i)))).collect();
    let (two, three) = (case(2), case(3));
    for thread in threads {
        let (i, other) = thread.join().unwrap();
        assert_eq!(other, if i == 2 { two.clone() } else { three.clone() });
    }
    assert_ne!(two.voxels, three.voxels);
}

#[test]
fn mask_and_nodules_are_the_same_thing() {
    for case in (0..8).map(case) {
        assert_eq!(case.voxels.len(), case.shape.iter().product::<usize>());
        assert_eq!(case.mask.len(), case.voxels.len());
        assert_eq!(case.label, !case.nodules.is_empty(), "{}", case.name);
        assert!(case.nodules.len() <= 3);
        let spacing: Vec<f64> = (0..3).map(|i| (0..3).map(|a| case.affine[a][i].abs()).sum()).collect();
        let voxel_mm3: f64 = spacing.iter().product();
        let mut volumes = vec![0.0; case.nodules.len()];
        for (_, p) in places(&case).filter(|(v, _)| case.mask[*v] == 1) {
            let near = |n: &Nodule| distance(p, n.centre_mm) / n.diameter_mm;
            let (owner, share) =
                case.nodules.iter().map(near).enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
            assert!(share < 0.7, "{}: a mask voxel {share} diameters from every nodule's centre", case.name);
            volumes[owner] += voxel_mm3;
        }
        for (nodule, volume) in case.nodules.iter().zip(volumes) {
            assert!((8.0..=30.0).contains(&nodule.diameter_mm));
            let sphere = std::f64::consts::PI / 6.0 * nodule.diameter_mm.powi(3);
            assert!((0.6..1.35).contains(&(volume / sphere)), "{}: {volume} mm3 of {sphere}", case.name);
        }
    }
}

#[test]
fn a_positive_case_is_its_negative_twin_with_nodules_in_its_lungs() {
    for index in [0, 1, 2] {
        let key = case_key(TASK, 7, index);
        let (with, without) = (lung_nodule(String::new(), key, true), lung_nodule(String::new(), key, false));
        assert_eq!((with.shape, with.affine), (without.shape, without.affine));
        assert!(without.nodules.is_empty() && without.mask.iter().all(|m| *m == 0));
        let (mut air, mut inside) = (0, 0);
        for (v, p) in places(&with) {
            if with.voxels[v] != without.voxels[v] {
                let near = with.nodules.iter().any(|n| distance(p, n.centre_mm) < 0.7 * n.diameter_mm + 10.0);
                assert!(near, "voxel {v} differs far from every nodule");
            }
            if with.mask[v] == 1 {
                inside += 1;
                air += usize::from(without.voxels[v] < -500);
            }
        }
        assert!(air as f64 > 0.75 * inside as f64, "{air} of {inside} nodule voxels were lung");
    }
}

#[test]
fn sizes_stay_within_what_is_promised_and_orientations_vary() {
    let mut signs = std::collections::BTreeSet::new();
    for case in (0..8).map(case) {
        assert!(case.voxels.len() < 4_200_000, "{:?}", case.shape);
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
