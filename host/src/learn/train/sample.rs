//! A training case on its way to the adapted blocks: slices, flipped, through the frozen prefix, with its mask.

use crate::backbone::{Backbone, BackboneError, Hidden};
use crate::engine::PrepareError;
use crate::learn::table::Row;
use crate::volume::{Scan, slices};
use anymc3d_manifest::{Manifest, View};
use candle_core::{Device, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use sha2::{Digest, Sha256};

/// Which image axes are mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flips {
    /// Top and bottom of a slice.
    pub rows: bool,
    /// Left and right of a slice.
    pub columns: bool,
}

impl Flips {
    /// Draw `draw` of a case: each axis with probability one half, depending on seed, case and draw only. Draw 0 is
    /// the case as it is.
    pub fn draw(seed: u64, case: &str, draw: usize, sided_labels: bool) -> Self {
        if draw == 0 {
            return Self::default();
        }
        let hash = Sha256::new()
            .chain_update(b"flips")
            .chain_update(seed.to_le_bytes())
            .chain_update((draw as u64).to_le_bytes())
            .chain_update(case.as_bytes())
            .finalize();
        let mut rng = ChaCha20Rng::from_seed(hash.into());
        // Rows of a coronal or sagittal slice and of an axial one never run left to right; columns may.
        Self { rows: rng.random(), columns: rng.random::<bool>() && !sided_labels }
    }

    /// Mirrors planes of `h` × `w` in place.
    pub fn apply(self, values: &mut [f32], h: usize, w: usize) {
        for plane in values.chunks_exact_mut(h * w) {
            if self.rows {
                for i in 0..h / 2 {
                    let (top, bottom) = plane.split_at_mut((h - 1 - i) * w);
                    top[i * w..(i + 1) * w].swap_with_slice(&mut bottom[..w]);
                }
            }
            if self.columns {
                plane.chunks_exact_mut(w).for_each(<[f32]>::reverse);
            }
        }
    }
}

/// One view of a case, ready for the adapted blocks.
pub struct ViewSample {
    /// Frozen so far.
    pub hidden: Hidden,
    /// `[S, H, W]` occupancy 0 to 1, if the case has a mask.
    pub mask: Option<Tensor>,
}

/// Why a case cannot be trained on.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// Its scan or mask.
    #[error("case {case}: {reason}")]
    Scan {
        /// Case.
        case: String,
        /// Why.
        reason: String,
    },
    /// The backbone.
    #[error("case {case}: {source}")]
    Backbone {
        /// Case.
        case: String,
        /// Why.
        source: BackboneError,
    },
}

/// Reads, slices, flips and sends a view of a case through the first `blocks` frozen blocks.
///
/// # Errors
/// When scan or mask cannot be read, or do not share a grid.
pub fn prepare(
    row: &Row,
    view: &View,
    flips: Flips,
    blocks: usize,
    backbone: &Backbone,
    with_mask: bool,
) -> Result<Option<ViewSample>, SampleError> {
    let failed = |reason: String| SampleError::Scan { case: row.case.clone(), reason };
    let Some(path) = row.images.get(&view.name) else {
        return if view.required {
            Err(failed(format!("view `{}` has no file", view.name)))
        } else {
            Ok(None)
        };
    };
    let info = backbone.info();
    let scan = Scan::open(path).map_err(|e| failed(e.to_string()))?;
    if scan.is_constant() {
        return Err(failed(PrepareError(format!("{}: every voxel is the same", path.display())).to_string()));
    }
    let stack = slices(&scan.canonical(), view, info.patch_size).map_err(|e| failed(e.to_string()))?;
    let [s, _, h, w] = stack.shape;
    let mut pixels = stack.normalised(info.mean, info.std);
    flips.apply(&mut pixels, h, w);
    let mask = match &row.mask {
        Some(mask) if with_mask => {
            let mask = Scan::open(mask).map_err(|e| failed(e.to_string()))?;
            let mut values =
                stack.grid.mask_to_slices(&mask.canonical()).map_err(|e| failed(e.to_string()))?;
            flips.apply(&mut values, h, w);
            Some(Tensor::from_vec(values, (s, h, w), &Device::Cpu).map_err(|e| failed(e.to_string()))?)
        }
        _ => None,
    };
    let pixels = Tensor::from_vec(pixels, (s, 3, h, w), &Device::Cpu).map_err(|e| failed(e.to_string()))?;
    let hidden = backbone
        .prefix(&pixels, blocks)
        .map_err(|source| SampleError::Backbone { case: row.case.clone(), source })?;
    Ok(Some(ViewSample { hidden, mask }))
}

/// Targets and known labels of a case, `[1, C]` each.
pub fn targets(row: &Row, manifest: &Manifest) -> candle_core::Result<(Tensor, Tensor)> {
    let c = manifest.task.outputs();
    let values: Vec<f32> = row.labels.iter().map(|l| l.unwrap_or(0.0)).collect();
    let known: Vec<f32> = row.labels.iter().map(|l| f32::from(u8::from(l.is_some()))).collect();
    Ok((Tensor::from_vec(values, (1, c), &Device::Cpu)?, Tensor::from_vec(known, (1, c), &Device::Cpu)?))
}

#[cfg(test)]
mod tests {
    use super::Flips;

    #[test]
    fn a_flip_mirrors_each_plane_and_twice_is_the_identity() {
        let start: Vec<f32> = (0..12).map(|v| v as f32).collect();
        let mut v = start.clone();
        Flips { rows: true, columns: false }.apply(&mut v, 2, 3);
        assert_eq!(v, [3., 4., 5., 0., 1., 2., 9., 10., 11., 6., 7., 8.]);
        Flips { rows: true, columns: true }.apply(&mut v, 2, 3);
        assert_eq!(v, [2., 1., 0., 5., 4., 3., 8., 7., 6., 11., 10., 9.]);
        Flips { rows: false, columns: true }.apply(&mut v, 2, 3);
        assert_eq!(v, start);
    }

    #[test]
    fn labels_that_name_a_side_are_never_mirrored_left_to_right() {
        let draws: Vec<Flips> = (0..64).map(|d| Flips::draw(3, "case", d, true)).collect();
        assert!(draws.iter().all(|f| !f.columns) && draws.iter().any(|f| f.rows));
        let free: Vec<Flips> = (1..200).map(|d| Flips::draw(3, "case", d, false)).collect();
        let columns = free.iter().filter(|f| f.columns).count();
        assert!((60..140).contains(&columns));
        assert_eq!(Flips::draw(3, "case", 0, false), Flips::default());
    }
}
