//! Slices that were cut elsewhere: a file with `pixels` `[S, 3, H, W]` in the place of a view's scan.
//!
//! The pixels are a view's own, normalised for the backbone (`(v − mean) / std` per channel): what this host cuts of a scan, and
//! what `host embed` takes. Where they lay in the patient is not known. For heatmaps they are a scan of S axial slices of H × W
//! voxels of a millimetre, hung as radiologists do, so that a heatmap's voxels are the slices' pixels.

use crate::backbone::BackboneInfo;
use crate::device::one_line;
use crate::fs::{hex, repeated_tensor, write_atomically};
use crate::memory::MemoryBudget;
use crate::scan::{Affine, Scan, SliceStack, Target, Volume, slices_of_target};
use anymc3d_manifest::{Axis, Background, Fit, Intensity, View};
use candle_core::{DType, Device, Tensor};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::Path;

/// The tensor's name.
const PIXELS: &str = "pixels";
/// Most slices of a view.
const MOST_SLICES: usize = 4096;
/// Told with every result.
const WARNING: &str = "the slices were cut elsewhere: positions and distances in millimetres are not known, and those that are told \
                       here count slices and pixels";

/// Whether a case's file holds slices instead of a scan.
pub(super) fn is_cut(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "safetensors")
}

/// Writes slices as a file that a case may name as a view's.
///
/// # Errors
/// One line, when the shape is not that of the pixels, or the file cannot be written.
pub fn write_pixels(path: &Path, pixels: Vec<f32>, shape: [usize; 4]) -> Result<(), String> {
    let tensor = Tensor::from_vec(pixels, shape.to_vec(), &Device::Cpu).map_err(|e| one_line(&e))?;
    let bytes = safetensors::serialize([(PIXELS, &tensor)], None).map_err(|e| e.to_string())?;
    write_atomically(path, &bytes).map_err(|e| format!("{}: cannot be written ({e})", path.display()))
}

/// A view's slices from a file.
pub(super) struct CutSlices {
    /// The scan that stands for them, and its volume.
    pub scan: (Scan, Volume),
    /// As they were before they were normalised.
    pub stack: SliceStack,
    /// `[S, 3, H, W]` on the processor.
    pub pixels: Tensor,
}

/// Reads a view's slices.
///
/// # Errors
/// One line that names the file: what was found, what was expected.
pub(super) fn cut_slices(
    path: &Path,
    view: &View,
    backbone: &BackboneInfo,
    room: MemoryBudget,
) -> Result<CutSlices, String> {
    let refuse = |what: String| format!("{}: view `{}`: {what}", path.display(), view.name);
    if view.background == Background::Drop || !view.mask_features.is_empty() {
        return Err(refuse(
            "found slices that were cut elsewhere, expected a scan: the view looks at more than pixels"
                .into(),
        ));
    }
    let bytes = std::fs::read(path).map_err(|e| refuse(format!("cannot be read ({e})")))?;
    if repeated_tensor(&bytes).is_some() {
        return Err(refuse("a tensor twice; expected `pixels` [S, 3, H, W]".into()));
    }
    let tensors: HashMap<String, Tensor> =
        candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|e| refuse(one_line(&e)))?;
    let pixels = tensors.get(PIXELS).ok_or_else(|| refuse("no tensor `pixels`".into()))?;
    let size = view.size.map(|n| n.max(1).next_multiple_of(backbone.patch_size.max(1)));
    let &[s, 3, h, w] = pixels.dims() else {
        return Err(refuse(format!(
            "found pixels {:?}, expected [S, 3, {}, {}]",
            pixels.dims(),
            size[0],
            size[1]
        )));
    };
    let slices = view.slices.map_or_else(|| format!("1 to {MOST_SLICES}"), |n| n.to_string());
    let fits = view.slices.is_none_or(|n| n == s) && (1..=MOST_SLICES).contains(&s) && [h, w] == size;
    if !fits || pixels.dtype() != DType::F32 {
        let found = format!("found {:?} pixels {:?}", pixels.dtype(), pixels.dims());
        return Err(refuse(format!("{found}, expected F32 [{slices}, 3, {}, {}]", size[0], size[1])));
    }
    let values: Vec<f32> =
        pixels.flatten_all().and_then(|p| p.to_vec1()).map_err(|e| refuse(one_line(&e)))?;
    if values.iter().any(|v| !v.is_finite()) || values.iter().all(|v| *v == values[0]) {
        return Err(refuse("pixels that are all the same, NaN or infinite".into()));
    }
    let shown = shown(&values, h * w, backbone);
    // The first channel; heatmaps and pictures need a scan.
    let voxels = shown.chunks_exact(3 * h * w).flat_map(|slice| slice[..h * w].iter().copied()).collect();
    let hung =
        Affine([[-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]);
    let mut scan = Scan::from_voxels(path, voxels, [w, h, s], hung).map_err(|e| e.to_string())?;
    scan.sha256 = hex(&Sha256::digest(&bytes));
    (scan.modality_guess, scan.warnings) = (None, vec![WARNING.to_owned()]);
    let (scan, volume) = scan.into_canonical();
    let whole = View {
        fit: Fit::Stretch,
        intensity: Intensity::Window { windows: vec![[0.0, 1.0]] },
        ..View::new(view.name.clone(), Axis::Axial, s, [h, w])
    };
    let cut = slices_of_target(&volume, &whole, backbone.patch_size, room, Target::default());
    let cut = cut.map_err(|e| e.to_string())?;
    let stack = SliceStack { pixels: shown, shape: [s, 3, h, w], warnings: Vec::new(), ..cut };
    Ok(CutSlices { scan: (scan, volume), stack, pixels: pixels.clone() })
}

/// As they were before they were normalised, 0 to 1, for pictures; `plane` pixels of a channel.
fn shown(pixels: &[f32], plane: usize, backbone: &BackboneInfo) -> Vec<f32> {
    let planes = pixels.chunks_exact(plane).enumerate();
    let back = |(n, plane): (usize, &[f32])| -> Vec<f32> {
        let (mean, std) = (backbone.mean[n % 3], backbone.std[n % 3]);
        plane.iter().map(|v| v * std + mean).collect()
    };
    planes.flat_map(back).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::CaseData;
    use crate::scan::RegionOfInterest;

    fn view() -> View {
        View {
            intensity: Intensity::Window { windows: vec![[0.0, 100.0]] },
            ..View::new("v", Axis::Axial, 4, [6, 8])
        }
    }

    fn of(path: &Path, view: &View) -> Result<(Vec<f32>, Vec<f32>), String> {
        let (mut data, region) = (CaseData::default(), RegionOfInterest::default());
        let prepared =
            data.slices(path, view, &region, &BackboneInfo::for_tests(), 0).map_err(|e| e.to_string())?;
        Ok((prepared.pixels.flatten_all().unwrap().to_vec1().unwrap(), prepared.stack.pixels.clone()))
    }

    #[test]
    fn slices_that_were_cut_elsewhere_are_the_views_own_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let (scan, cut) = (folder.path().join("scan.nii"), folder.path().join("cut.safetensors"));
        let voxels: Vec<i16> = (0..9 * 7 * 5).map(|i| (i * 37 % 101) as i16).collect();
        let affine =
            Affine([[2.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0], [0.0, 0.0, 0.0, 1.0]]);
        crate::scan::write_nifti_i16(&scan, &voxels, [9, 7, 5], &affine).unwrap();
        let (pixels, shown) = of(&scan, &view()).unwrap();
        write_pixels(&cut, pixels.clone(), [4, 3, 6, 8]).unwrap();
        let (again, shown_again) = of(&cut, &view()).unwrap();
        assert_eq!(again, pixels);
        // Of a grey slice three channels that differ by rounding alone.
        let grey = shown_again.chunks_exact(3 * 48).flat_map(|slice| &slice[..48]);
        assert!(grey.zip(&shown).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn a_pixel_of_a_slice_is_a_voxel_of_the_scan_that_stands_for_the_slices() {
        let folder = tempfile::tempdir().unwrap();
        let cut = folder.path().join("cut.safetensors");
        let mut pixels = vec![0.0; 4 * 3 * 48];
        pixels[2 * 3 * 48 + 8 + 3] = 1.0;
        write_pixels(&cut, pixels, [4, 3, 6, 8]).unwrap();
        let backbone = BackboneInfo::for_tests();
        let CutSlices { scan: (scan, volume), stack, .. } =
            cut_slices(&cut, &view(), &backbone, MemoryBudget::of_process()).unwrap();
        assert_eq!((scan.shape, stack.grid.index_in_scan(2)), ([8, 6, 4], 2));
        let brightest =
            (0..volume.voxels.len()).max_by(|a, b| volume.voxels[*a].total_cmp(&volume.voxels[*b]));
        // Column 3 of 8 from the patient's right, row 1 of 6 from the front: canonical axes run the other way.
        assert_eq!(brightest, Some((2 * 6 + 4) * 8 + 4));
        let grey: Vec<f32> =
            stack.pixels.chunks_exact(3 * 48).flat_map(|slice| slice[..48].to_vec()).collect();
        let whole =
            View { fit: Fit::Stretch, intensity: Intensity::Window { windows: vec![[0.0, 1.0]] }, ..view() };
        assert_eq!(crate::scan::slices(&volume, &whole, 2).unwrap().pixels, grey);
    }

    #[test]
    fn what_are_no_slices_of_the_view_is_refused_with_what_they_should_be() {
        let folder = tempfile::tempdir().unwrap();
        let cut = folder.path().join("cut.safetensors");
        let ramp = |n: usize| (0..n).map(|i| i as f32).collect::<Vec<f32>>();
        write_pixels(&cut, ramp(3 * 3 * 48), [3, 3, 6, 8]).unwrap();
        let e = of(&cut, &view()).unwrap_err();
        assert!(e.contains("found F32 pixels [3, 3, 6, 8], expected F32 [4, 3, 6, 8]"), "{e}");
        write_pixels(&cut, vec![0.5; 4 * 3 * 48], [4, 3, 6, 8]).unwrap();
        assert!(of(&cut, &view()).unwrap_err().contains("all the same"));
        let drop = View { background: Background::Drop, ..view() };
        assert!(of(&cut, &drop).unwrap_err().contains("expected a scan"));
        std::fs::write(&cut, b"no tensors").unwrap();
        assert!(of(&cut, &view()).is_err());
    }
}
