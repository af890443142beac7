//! A training case on its way to the adapted blocks: slices, augmented, through the frozen prefix, with its mask.

use super::augment::Augmentation;
use crate::backbone::{Backbone, BackboneError, HiddenStates};
use crate::data::table::Row;
use crate::engine::PrepareError;
use crate::scan::{Scan, slices};
use anymc3d_manifest::{Manifest, View};
use anymc3d_plugin_api::SliceGeometry;
use candle_core::{Device, Tensor};
use std::path::Path;
use std::sync::Arc;

/// One view of a case, ready for the adapted blocks.
pub struct ViewSample {
    /// Frozen so far.
    pub hidden: HiddenStates,
    /// Where its slices lie. An augmentation moves what the slices show, not where they lie.
    pub geometry: Arc<SliceGeometry>,
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

/// Reads, slices, augments and sends a view of a case through the first `blocks` frozen blocks.
///
/// # Errors
/// When scan or mask cannot be read, or do not share a grid.
pub fn prepare(
    row: &Row,
    view: &View,
    augmentation: &Augmentation,
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
    let (_, volume) = scan.into_canonical();
    let mut stack = slices(&volume, view, info.patch_size).map_err(|e| failed(e.to_string()))?;
    drop(volume);
    let [s, channels, h, w] = stack.shape;
    let mut mask = match &row.mask {
        Some(mask) if with_mask => {
            let mask = Scan::open(mask).map_err(|e| failed(e.to_string()))?;
            let drawn = mask.try_canonical().map_err(|e| failed(e.to_string()))?;
            match stack.grid.mask_to_slices(&drawn) {
                Ok(mask) => Some(mask),
                // A mask drawn on one sequence supervises the views on its grid.
                Err(_) if another_fits(row, path, &mask) => None,
                Err(e) => return Err(failed(e.to_string())),
            }
        }
        _ => None,
    };
    if *augmentation != Augmentation::default() {
        augmentation.apply(&mut stack.pixels, channels, mask.as_mut(), &stack.grid);
    }
    let tensor = |values: Vec<f32>, shape: &[usize]| {
        Tensor::from_vec(values, shape, &Device::Cpu).map_err(|e| failed(e.to_string()))
    };
    let pixels = stack
        .normalised(info.mean, info.std)
        .map_err(|e| failed(format!("{}: {e} for its pixels", path.display())))?;
    let pixels = tensor(pixels, &[s, 3, h, w])?;
    let mask = mask.map(|values| tensor(values, &[s, h, w])).transpose()?;
    let hidden = backbone
        .hidden_states(&pixels, blocks)
        .map_err(|source| SampleError::Backbone { case: row.case.clone(), source })?;
    let geometry = Arc::new(stack.grid.geometry(hidden.grid));
    Ok(Some(ViewSample { hidden, geometry, mask }))
}

/// Whether a mask is on the grid of another of the case's scans than `path`.
fn another_fits(row: &Row, path: &Path, mask: &Scan) -> bool {
    let Ok(mask) = mask.try_canonical() else { return false };
    row.images.values().filter(|other| *other != path).any(|other| {
        let grid = Scan::open(other).map(|scan| scan.into_canonical().1);
        grid.is_ok_and(|grid| mask.expect_grid(other, grid.shape, &grid.affine).is_ok())
    })
}

/// Targets and known labels of a case, `[1, C]` each, on a device.
pub fn targets(row: &Row, manifest: &Manifest, device: &Device) -> candle_core::Result<(Tensor, Tensor)> {
    let c = manifest.task.outputs();
    let values: Vec<f32> = row.labels.iter().map(|l| l.unwrap_or(0.0)).collect();
    let known: Vec<f32> = row.labels.iter().map(|l| f32::from(u8::from(l.is_some()))).collect();
    Ok((Tensor::from_vec(values, (1, c), device)?, Tensor::from_vec(known, (1, c), device)?))
}
