//! A training case on its way to the adapted blocks: slices, augmented, through the frozen prefix, with its mask.

use super::augment::Augmentation;
use crate::backbone::{Backbone, BackboneError, HiddenStates, Slices};
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
    /// Numbers of the mask inside the scan, where the view's head asks for them: scalars, then details.
    pub scalars: Option<Vec<f64>>,
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
            if let Some(body) = &mut stack.body {
                augmentation.apply(&mut [], 0, Some(body), &stack.grid);
            }
        }
    };
    let cut = data.training_slices(path, view, &row.region(), backbone.info(), drawn.as_deref(), augment);
    let TrainingSlices { stack, pixels, kept, mask, scalars } = cut.map_err(unusable)?;
    let [s, _, h, w] = stack.shape;
    let tensor = |values: Vec<f32>| {
        Tensor::from_vec(values, (s, h, w), &Device::Cpu).map_err(|e| failed(e.to_string()))
    };
    let mask = mask.map(tensor).transpose()?;
    let hidden = backbone
        .hidden_states(Slices { pixels: &pixels, kept: kept.as_ref(), merge: 0 }, blocks)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::table::Row;

    const MANIFEST: &str = "schema = 1\n[plugin]\nname = \"toy\"\nversion = \"0.1.0\"\nsummary = \"A toy.\"\n\
        license = \"-\"\nintended_use = \"Tests.\"\n[task]\nkind = \"multilabel\"\nlabels = [\"a\", \"b\", \"c\"]\n\
        loss = { kind = \"bce\" }\n[backbone]\nfamilies = [\"dinov2\"]\n[[view]]\nname = \"axial\"\nmodality = \"CT\"\n\
        axis = \"axial\"\nslices = 2\nsize = [28, 28]\nintensity = { kind = \"window\", windows = [[0, 1]] }\n";

    /// `Σ k l / Σ k`, as a plugin's loss takes the mean, times the share.
    fn loss_of(targets: &CaseTargets, each: [f64; 3]) -> f64 {
        let known: Vec<f64> = targets
            .known
            .to_dtype(candle_core::DType::F64)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        let sum: f64 = known.iter().zip(each).map(|(k, l)| k * l).sum();
        targets.share * sum / known.iter().sum::<f64>().max(1e-12)
    }

    #[test]
    fn a_cells_weight_multiplies_its_loss_and_unknown_cells_count_nothing() {
        let manifest = Manifest::parse(MANIFEST).unwrap().manifest;
        let of = |labels: [Option<f32>; 3], weights: Vec<f32>| {
            let row = Row { labels: labels.to_vec(), weights, ..Row::named("c".to_owned()) };
            loss_of(&targets(&row, &manifest, &Device::Cpu).unwrap(), [1.0, 2.0, 4.0])
        };
        let all = [Some(1.0), Some(0.0), Some(0.5)];
        // Σ w l / n over the known cells.
        assert!((of(all, vec![]) - 7.0 / 3.0).abs() < 1e-6);
        assert!((of(all, vec![2.0, 0.5, 1.0]) - (2.0 + 1.0 + 4.0) / 3.0).abs() < 1e-6);
        assert!((of([Some(1.0), None, Some(1.0)], vec![2.0, 9.0, 1.0]) - (2.0 + 4.0) / 2.0).abs() < 1e-6);
        assert_eq!(of(all, vec![0.0; 3]), 0.0);
    }
}
