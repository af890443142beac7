//! A case as vectors: what a task's backbone and adapter make of each view, pooled over its slices.

use super::case::{Case, CaseError};
use super::case_data::CaseData;
use super::predict::Engine;
use crate::backbone::{Backbone, Features, NoAdapter};
use crate::task::{LoadedTask, MaskTensors, Task, TaskAdapter, TaskSiteAdapter, ViewTokens};
use anymc3d_manifest::View;
use anymc3d_plugin_api::SliceGeometry;
use candle_core::{DType, Tensor};
use std::path::Path;
use std::sync::Arc;

/// A view of a case, pooled over its slices.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewEmbedding {
    /// Name in the manifest.
    pub view: String,
    /// `[d]`: mean of the slices' class tokens.
    pub mean: Vec<f32>,
    /// `[d]`: the class tokens summed by the head's slice weights; of a head that tells none, the mean again.
    pub attention: Vec<f32>,
}

/// A view after the backbone.
struct Seen<'a> {
    view: &'a View,
    by_task: Features,
    /// Without the adapter, where that is wanted.
    frozen: Option<Features>,
    mask: MaskTensors,
    geometry: Arc<SliceGeometry>,
}

impl Engine {
    /// Every view of a case that has a file, pooled: `adapted` with the task's adapter, else as the frozen backbone sees it. The
    /// weights of `attention` are the head's in both cases. Scans may be in `data` already, as in [`Self::predict_from`].
    ///
    /// # Errors
    /// As a prediction's. The task of an ensemble is its first member.
    ///
    /// # Panics
    /// Where there is no task of that index.
    pub fn embed_case(
        &self,
        data: CaseData,
        case: &Case,
        task: usize,
        adapted: bool,
    ) -> Result<Vec<ViewEmbedding>, CaseError> {
        let loaded: &LoadedTask = &self.tasks()[task];
        let seen = see_all(self.backbone(), &loaded.task, data, case, adapted)?;
        let tokens: Vec<ViewTokens<'_>> = seen.iter().map(Seen::tokens).collect();
        let weights = loaded.task.head(&tokens)?.slice_weights;
        seen.iter().enumerate().map(|(i, seen)| Ok(seen.pooled(weights.get(i))?)).collect()
    }
}

/// A case as one vector: what the head's last layer reads, or of a head that does not tell it the mean class token of each view
/// of the manifest in order, zeros for a view without a file.
///
/// # Errors
/// As a prediction's.
pub fn case_embedding(
    backbone: &Backbone,
    task: &Task,
    data: CaseData,
    case: &Case,
) -> Result<Vec<f32>, CaseError> {
    let seen = see_all(backbone, task, data, case, true)?;
    let tokens: Vec<ViewTokens<'_>> = seen.iter().map(Seen::tokens).collect();
    if let Some(embedding) = task.head(&tokens)?.embedding {
        return Ok(embedding.to_dtype(DType::F32)?.to_vec1()?);
    }
    let mut all = Vec::new();
    for view in &task.manifest().views {
        match seen.iter().find(|seen| seen.view.name == view.name) {
            Some(seen) => all.extend(seen.pooled(None)?.mean),
            None => all.extend(vec![0.0; backbone.info().embed_dim]),
        }
    }
    Ok(all)
}

/// Every view of a case that has a file, after the backbone.
fn see_all<'a>(
    backbone: &Backbone,
    task: &'a Task,
    mut data: CaseData,
    case: &Case,
    adapted: bool,
) -> Result<Vec<Seen<'a>>, CaseError> {
    let (manifest, mut seen) = (task.manifest(), Vec::new());
    case.check_sequences(manifest)?;
    for (view, adapter) in manifest.views.iter().zip(task.adapters()) {
        match case.file(&manifest.plugin.name, &view.name) {
            Some(path) => seen.push(see(backbone, &mut data, case, (view, path), adapter, adapted)?),
            None if view.required => {
                let (plugin, view) = (manifest.plugin.name.clone(), view.name.clone());
                return Err(CaseError::MissingView { plugin, view });
            }
            None => {}
        }
    }
    match seen.is_empty() {
        true => Err(CaseError::Scan(format!("case {}: no view has a file", case.name))),
        false => Ok(seen),
    }
}

fn see<'a>(
    backbone: &Backbone,
    data: &mut CaseData,
    case: &Case,
    (view, path): (&'a View, &Path),
    adapter: &TaskAdapter,
    adapted: bool,
) -> Result<Seen<'a>, CaseError> {
    let prepared = data
        .slices(path, view, &case.region, backbone.info(), 0)
        .map_err(|e| CaseError::Scan(e.to_string()))?;
    let by_task = backbone.forward(prepared.slices(), &TaskSiteAdapter::new(adapter), false)?;
    let frozen = match adapted {
        true => None,
        false => Some(backbone.forward(prepared.slices(), &NoAdapter, false)?),
    };
    let mask = prepared.mask_tensors(view, by_task.grid, backbone.device())?;
    let geometry = Arc::new(prepared.stack.grid.geometry(by_task.grid));
    Ok(Seen { view, by_task, frozen, mask, geometry })
}

impl Seen<'_> {
    fn tokens(&self) -> ViewTokens<'_> {
        ViewTokens {
            name: &self.view.name,
            class_tokens: &self.by_task.class_tokens,
            patch_tokens: &self.by_task.patch_tokens,
            grid: self.by_task.grid,
            geometry: Some(self.geometry.clone()),
            mask: self.mask.clone(),
        }
    }

    /// With the head's weights of the slices `[S]`, if it tells them.
    fn pooled(&self, weights: Option<&Tensor>) -> candle_core::Result<ViewEmbedding> {
        let class_tokens = &self.frozen.as_ref().unwrap_or(&self.by_task).class_tokens;
        let class_tokens = class_tokens.to_dtype(DType::F32)?;
        let mean = class_tokens.mean(0)?.to_vec1()?;
        let attention = match weights {
            Some(weights) => {
                let weights = weights.to_dtype(DType::F32)?.unsqueeze(1)?;
                class_tokens.broadcast_mul(&weights)?.sum(0)?.to_vec1()?
            }
            None => mean.clone(),
        };
        Ok(ViewEmbedding { view: self.view.name.clone(), mean, attention })
    }
}
