//! A training case on its way to the adapted blocks: slices, augmented, through the frozen prefix, with its mask.

use super::augment::Augmentation;
use crate::backbone::{Backbone, BackboneError, HiddenStates};
use crate::data::table::Row;
use crate::engine::{CaseData, PrepareError, TrainingSlices};
use crate::scan::{SliceStack, Volume};
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
    /// Of the mask inside the scan, where the view's head asks for them.
    pub scalars: Option<[f64; 6]>,
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

/// Reads, slices, augments and sends a view of a case through the first `blocks` frozen blocks: as a prediction does, and
/// with `augmentation` and the mask between the slices and the backbone.
///
/// # Errors
/// When scan or mask cannot be read, or do not share a grid.
pub fn prepare(
    data: &mut CaseData,
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
    let unusable = |e: PrepareError| failed(e.to_string());
    let drawn = match &row.mask {
        Some(mask) if with_mask => Some(data.mask(mask).map_err(unusable)?),
        _ => None,
    };
    let read = data.scan(path).map_err(unusable)?;
    let fits = |mask: &Volume, of: &Path, scan: &Volume| mask.expect_grid(of, scan.shape, &scan.affine);
    let drawn = match drawn {
        Some(mask) => match fits(&mask, path, &read.volume) {
            Ok(()) => Some(mask),
            // A mask drawn on one sequence supervises the views on its grid.
            Err(e) => {
                let mut others = row.images.values().filter(|other| *other != path);
                let on_another =
                    others.any(|o| data.scan(o).is_ok_and(|other| fits(&mask, o, &other.volume).is_ok()));
                if !on_another {
                    return Err(failed(e.to_string()));
                }
                None
            }
        },
        None => None,
    };
    let augment = |stack: &mut SliceStack, mask: Option<&mut Vec<f32>>| {
        if *augmentation != Augmentation::default() {
            let channels = stack.shape[1];
            augmentation.apply(&mut stack.pixels, channels, mask, &stack.grid);
        }
    };
    let cut = data.training_slices(path, view, &row.region(), backbone.info(), drawn.as_deref(), augment);
    let TrainingSlices { stack, pixels, mask, scalars } = cut.map_err(unusable)?;
    let [s, _, h, w] = stack.shape;
    let tensor = |values: Vec<f32>| {
        Tensor::from_vec(values, (s, h, w), &Device::Cpu).map_err(|e| failed(e.to_string()))
    };
    let mask = mask.map(tensor).transpose()?;
    let hidden = backbone
        .hidden_states(&pixels, blocks)
        .map_err(|source| SampleError::Backbone { case: row.case.clone(), source })?;
    let geometry = Arc::new(stack.grid.geometry(hidden.grid));
    Ok(Some(ViewSample { hidden, geometry, mask, scalars }))
}

/// What a case's logits are compared with, on a device.
pub struct CaseTargets {
    /// `[1, C]`, 0 to 1.
    pub values: Tensor,
    /// `[1, C]`: weight of each known label, 0 where it is unknown.
    pub known: Tensor,
    /// Mean weight of the known labels. A loss is a mean over what it was given: with one case at a time the weights of
    /// `known` cancel but for their ratios, and this puts their size back.
    pub share: f64,
}

/// Targets and known labels of a case.
///
/// # Errors
/// When the device has no memory for them.
pub fn targets(row: &Row, manifest: &Manifest, device: &Device) -> candle_core::Result<CaseTargets> {
    let c = manifest.task.outputs();
    let values: Vec<f32> = row.labels.iter().map(|l| l.unwrap_or(0.0)).collect();
    let known: Vec<f32> = (0..row.labels.len()).map(|i| row.weight(i)).collect();
    let all = row.labels.iter().flatten().count();
    let share = if row.weights.is_empty() || all == 0 {
        1.0
    } else {
        known.iter().map(|w| f64::from(*w)).sum::<f64>() / all as f64
    };
    Ok(CaseTargets {
        values: Tensor::from_vec(values, (1, c), device)?,
        known: Tensor::from_vec(known, (1, c), device)?,
        share,
    })
}
