//! What a scan shows, as a digest: the same for every copy of it, however the copy is stored.

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::scan::Volume;

/// Voxels that one digest covers; the digest of these digests is the volume's.
const AT_A_TIME: usize = 1 << 20;

/// Digest of the voxels of a canonical volume and of its shape.
pub type ContentDigest = [u8; 32];

impl Volume {
    /// Digest of the values in canonical order. A copy that was compressed again, that has other text in its header, whose
    /// numbers are stored as another type, or whose axes are stored mirrored or in another order, has the same digest.
    ///
    /// Position and voxel size do not count: a copy with another header still shows the same.
    pub fn content_digest(&self) -> ContentDigest {
        let parts: Vec<[u8; 32]> = self
            .voxels
            .par_chunks(AT_A_TIME)
            .map(|voxels| {
                let mut hash = Sha256::new();
                let mut bytes = Vec::with_capacity(4 << 12);
                for chunk in voxels.chunks(1 << 12) {
                    bytes.clear();
                    // 0 and -0 are the same value.
                    bytes.extend(chunk.iter().flat_map(|v| (v + 0.0).to_le_bytes()));
                    hash.update(&bytes);
                }
                hash.finalize().into()
            })
            .collect();
        let mut hash = Sha256::new();
        hash.update(b"anymc3d/content/1");
        self.shape.iter().for_each(|n| hash.update((*n as u64).to_le_bytes()));
        parts.iter().for_each(|part| hash.update(part));
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use crate::scan::tests::{orientations, stored_as};
    use crate::scan::{Affine, Scan, write_nifti_f32, write_nifti_i16};

    fn scan(voxels: Vec<f32>) -> Scan {
        Scan::from_voxels("a", voxels, [5, 4, 3], Affine::aligned([1.0, 2.0, 3.0], [7.0; 3])).unwrap()
    }

    #[test]
    fn a_copy_in_any_storage_has_the_digest_of_the_scan() {
        let values: Vec<i16> = (0..60i16).map(|i| i * 37 % 101 - 50).collect();
        let original = scan(values.iter().map(|v| f32::from(*v)).collect());
        let digest = original.canonical().content_digest();
        for (order, flip) in orientations() {
            assert_eq!(stored_as(&original, order, flip).canonical().content_digest(), digest);
        }
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        write_nifti_i16(&at("i16.nii.gz"), &values, [5, 4, 3], &original.affine).unwrap();
        // A float copy, plain, with another position.
        let elsewhere = Affine::aligned([1.5; 3], [0.0; 3]);
        write_nifti_f32(&at("f32.nii"), &original.voxels, [5, 4, 3], &elsewhere).unwrap();
        let mut digests = Vec::new();
        for name in ["i16.nii.gz", "f32.nii"] {
            digests.push(Scan::open(&at(name)).unwrap().canonical().content_digest());
        }
        assert_eq!(digests, [digest, digest]);
    }

    #[test]
    fn one_other_voxel_or_another_shape_is_another_digest() {
        let values: Vec<f32> = (0..60).map(|i| i as f32).collect();
        let digest = scan(values.clone()).canonical().content_digest();
        let mut other = values.clone();
        other[59] = 58.5;
        assert_ne!(scan(other).canonical().content_digest(), digest);
        let affine = Affine::aligned([1.0; 3], [0.0; 3]);
        let longer = Scan::from_voxels("a", values, [4, 5, 3], affine).unwrap();
        assert_ne!(longer.canonical().content_digest(), digest);
    }
}
