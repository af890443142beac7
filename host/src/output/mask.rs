//! Segmentations: logits of slices to a binary mask on the scan's own grid.

use rayon::prelude::*;
use std::sync::Arc;

use crate::engine::result::{CaseResult, SegmentationRecord};
use crate::engine::{ReadScan, ViewLogits};
use crate::output::heatmap::upsample;
use crate::scan::{Affine, ScanPlanes, SliceGrid};

/// Logits `[S, a, b]` as a mask (0 or 1) on the stored grid of their scan, first axis fastest.
///
/// The logits are interpolated to pixels (linear), turned into probabilities and mapped back in mm (linear, 0 outside
/// the stack). A voxel is 1 if its probability is 0.5 or more. `None` if `logits` is not `S · a · b` long.
pub fn mask_on_scan(grid: &SliceGrid, logits: &[f32], size: [usize; 2]) -> Option<Vec<u8>> {
    if logits.is_empty() || logits.len() != grid.slices() * size[0] * size[1] {
        return None;
    }
    let [rows, columns] = grid.image_size();
    let mut pixels = upsample(logits, size, [rows, columns]);
    pixels.par_iter_mut().for_each(|z| *z = 1.0 / (1.0 + (-*z).exp()));
    let probabilities = ScanPlanes::of(grid, &pixels, rows, columns)?;
    let [nx, ny, nz] = probabilities.shape();
    let mut mask = vec![0u8; nx * ny * nz];
    mask.par_chunks_mut(nx * ny).enumerate().for_each(|(z, mask)| {
        let mut plane = vec![0f32; nx * ny];
        probabilities.add(z, 1.0, &mut plane);
        mask.iter_mut().zip(&plane).for_each(|(m, &p)| *m = u8::from(p >= 0.5));
    });
    Some(mask)
}

/// What a decoder segmented, on the grid of the scan.
pub struct SegmentationMask {
    /// The view that was decoded.
    pub view: String,
    /// The scan.
    pub read: Arc<ReadScan>,
    /// 0 or 1 for each voxel of the scan as it is stored, first axis fastest.
    pub voxels: Vec<u8>,
}

/// Makes the mask and stores its volume in the result.
///
/// # Errors
/// One line, when the logits do not fit their slices.
pub(super) fn measure(
    result: &mut CaseResult,
    read: Arc<ReadScan>,
    logits: &ViewLogits,
) -> Result<SegmentationMask, String> {
    let voxels = mask_on_scan(&logits.grid, &logits.logits, logits.size)
        .ok_or("segmentation: the logits do not fit their slices")?;
    let count = voxels.iter().filter(|&&v| v > 0).count();
    let volume_ml = volume_ml(count, &read.scan.affine);
    let view = logits.view.clone();
    result.segmentation = Some(SegmentationRecord { view: view.clone(), voxels: count, volume_ml });
    Ok(SegmentationMask { view, read, voxels })
}

/// Millilitres of so many voxels.
pub fn volume_ml(voxels: usize, affine: &Affine) -> f64 {
    voxels as f64 * affine.determinant().abs() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::tests::{orientations, stored_as, view};
    use crate::scan::{Scan, slices};
    use anymc3d_manifest::{Axis, Fit};

    const SHAPE: [usize; 3] = [22, 18, 15];

    /// An ellipsoid that no mirroring maps onto itself.
    fn lesion() -> Scan {
        let mut voxels = Vec::new();
        for z in 0..SHAPE[2] {
            for y in 0..SHAPE[1] {
                for x in 0..SHAPE[0] {
                    let at = [(x as f32 - 13.0) / 5.5, (y as f32 - 7.0) / 4.0, (z as f32 - 6.0) / 3.5];
                    voxels.push(f32::from(u8::from(at.iter().map(|v| v * v).sum::<f32>() <= 1.0)));
                }
            }
        }
        let affine = Affine::aligned([1.5, 2.0, 2.5], [-20.0, 12.0, 100.0]);
        Scan::from_voxels("lesion", voxels, SHAPE, affine).unwrap()
    }

    fn dice(mask: &[u8], truth: &[f32]) -> f64 {
        let both = mask.iter().zip(truth).filter(|(m, t)| **m == 1 && **t > 0.5).count();
        let sum = mask.iter().filter(|m| **m == 1).count() + truth.iter().filter(|t| **t > 0.5).count();
        2.0 * both as f64 / sum as f64
    }

    #[test]
    fn a_mask_on_the_slices_comes_back_onto_the_scan_in_all_48_orientations() {
        let lesion = lesion();
        for (order, flip) in orientations() {
            let turned = stored_as(&lesion, order, flip);
            for axis in [Axis::Axial, Axis::Coronal, Axis::Sagittal] {
                for (fit, spacing_mm) in
                    [(Fit::Square, None), (Fit::Stretch, None), (Fit::Spacing, Some(0.9))]
                {
                    let mut view = view(axis, 24, [56, 56], fit);
                    view.spacing_mm = spacing_mm;
                    let grid = slices(&turned.canonical(), &view, 14).unwrap().grid;
                    let occupied = grid.mask_to_slices(&turned.canonical()).unwrap();
                    let logits: Vec<f32> = occupied
                        .iter()
                        .map(|p| p.clamp(1e-4, 1.0 - 1e-4))
                        .map(|p| (p / (1.0 - p)).ln())
                        .collect();
                    let back = mask_on_scan(&grid, &logits, grid.image_size()).unwrap();
                    let found = dice(&back, &turned.voxels);
                    assert!(found >= 0.9, "{order:?} {flip:?} {axis:?} {fit:?}: Dice {found:.3}");
                }
            }
        }
    }

    #[test]
    fn coarse_logits_are_spread_over_the_pixels_and_nothing_lies_outside_the_stack() {
        let lesion = lesion();
        let grid =
            slices(&lesion.canonical(), &view(Axis::Axial, 15, [56, 56], Fit::Stretch), 14).unwrap().grid;
        let everywhere = mask_on_scan(&grid, &[9.0; 15 * 4 * 4], [4, 4]).unwrap();
        assert_eq!(everywhere.iter().filter(|v| **v == 1).count(), SHAPE.iter().product::<usize>());
        let nowhere = mask_on_scan(&grid, &[-9.0; 15 * 4 * 4], [4, 4]).unwrap();
        assert!(nowhere.iter().all(|v| *v == 0));
        assert!(mask_on_scan(&grid, &[0.0; 7], [4, 4]).is_none());
        // What the stack does not reach stays outside.
        let mut narrow = view(Axis::Axial, 5, [28, 28], Fit::Spacing);
        narrow.spacing_mm = Some(0.5);
        let grid = slices(&lesion.canonical(), &narrow, 14).unwrap().grid;
        let part = mask_on_scan(&grid, &[0.1; 5 * 2 * 2], [2, 2]).unwrap();
        let inside = part.iter().filter(|v| **v == 1).count();
        assert!(inside > 0 && inside < part.len() / 2, "{inside} of {}", part.len());
    }

    #[test]
    fn a_volume_is_in_millilitres_whatever_the_handedness() {
        let mut affine = Affine::aligned([2.0, 2.5, 4.0], [0.0; 3]);
        assert!((volume_ml(50, &affine) - 1.0).abs() < 1e-12);
        affine.0[0][0] = -2.0;
        assert!((volume_ml(50, &affine) - 1.0).abs() < 1e-12);
    }
}
