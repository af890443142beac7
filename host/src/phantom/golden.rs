//! Digests of cases, by which a generator is held to what it gave when models were trained on it.

use super::{PhantomCase, generate};
use sha2::{Digest, Sha256};

/// Everything of a case but its class: images, mask, grid, findings.
pub(super) fn hash(case: &PhantomCase) -> Sha256 {
    let mut hash = Sha256::new();
    for image in &case.images {
        hash.update(image.sequence.unwrap_or_default());
        for voxel in &image.voxels {
            hash.update(voxel.to_le_bytes());
        }
    }
    hash.update(case.mask.as_deref().unwrap_or_default());
    for number in case.affine.iter().flatten() {
        hash.update(number.to_le_bytes());
    }
    for size in case.shape {
        hash.update((size as u64).to_le_bytes());
    }
    for finding in &case.findings {
        for number in finding.centre_mm.iter().chain([&finding.diameter_mm]) {
            hash.update(number.to_le_bytes());
        }
    }
    hash
}

/// The first 16 bytes, hexadecimal.
pub(super) fn short(hash: Sha256) -> String {
    hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect()
}

/// Seed, index, class and digest of cases that must never change. A change that moves a digest is a new task with a new
/// name, never an edit of this one.
pub(super) fn assert_frozen<const N: usize>(task: &str, expected: [(u64, u64, usize, &str); N]) {
    let found = expected.map(|(seed, index, ..)| {
        let case = generate(task, seed, index).unwrap();
        (seed, index, case.class, short(hash(&case)))
    });
    assert_eq!(found, expected.map(|(seed, index, class, digest)| (seed, index, class, digest.to_owned())));
}
