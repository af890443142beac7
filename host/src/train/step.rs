//! One case in training: forward through adapter, head and losses, and the gradients of all of it.

use super::augment::Augmentation;
use super::cache::PrefixCache;
use super::error::TrainError;
use super::memory::slices_at_once;
use super::optimiser::AdamW;
use super::options::TrainOptions;
use super::sample::{CaseTargets, ViewSample, targets};
use crate::backbone::{Backbone, Features, HiddenStates, Precision, SiteAdapter, Wanted};
use crate::data::table::Row;
use crate::engine::CaseData;
use crate::scan::patch_means;
use crate::task::TaskSiteAdapter;
use crate::task::{HeadAnswer, MaskTensors, Task, TaskAdapter, TaskError, ViewTokens, reference_depth};
use anymc3d_manifest::{MaskFeature, View};
use anymc3d_plugin_api::SliceGeometry;
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use std::sync::Arc;

/// Everything a forward pass needs.
pub struct Trainer<'a> {
    /// The plugin at work.
    pub task: Task,
    /// Frozen.
    pub backbone: &'a Backbone,
    /// Of the backbone's large products.
    pub precision: Precision,
    /// Frozen prefixes.
    pub cache: &'a PrefixCache,
    /// What was chosen.
    pub options: &'a TrainOptions,
    /// Bytes that the tokens between the blocks of one case may take; beyond it slices go through in groups.
    pub token_bytes: usize,
}

/// What a case gave in a forward pass.
pub struct Step {
    /// `[1, C]`
    pub logits: Tensor,
    /// Classification loss, `[]`.
    pub loss: Tensor,
    /// Mean segmentation loss of its supervised views, `[]`.
    pub segmentation: Option<Tensor>,
}

/// What a case gave in a forward and a backward pass.
pub struct CaseGradients {
    /// Classification loss.
    pub loss: f64,
    /// Segmentation loss.
    pub segmentation: Option<f64>,
    /// Of the case's share of the step's loss.
    pub gradients: GradStore,
}

/// How many cases share a step: their losses are averaged, the segmentation loss over those that have a mask.
#[derive(Debug, Clone, Copy)]
pub struct Batch {
    /// Cases.
    pub cases: usize,
    /// Of these, with a mask.
    pub supervised: usize,
}

/// A view's name, after how many blocks its vector was taken, and the vector.
pub type ViewVector = (String, Option<usize>, Vec<f32>);

/// A view of a case up to its first adapted block.
struct LoadedView<'a> {
    view: &'a str,
    adapter: &'a TaskAdapter,
    hidden: HiddenStates,
    geometry: Arc<SliceGeometry>,
    mask: Option<Tensor>,
    features: MaskTensors,
    wanted: Wanted,
}

impl Trainer<'_> {
    fn blocks_of(&self, adapter: &TaskAdapter) -> usize {
        let adapter = TaskSiteAdapter::new(adapter);
        if adapter.patch_embed() {
            0
        } else {
            adapter.first_block().min(adapter.depth(self.backbone.info().blocks))
        }
    }

    /// The views that the case has, augmented by draw `draw`.
    fn load_views(&self, row: &Row, draw: usize) -> Result<Vec<LoadedView<'_>>, TrainError> {
        let manifest = self.task.manifest();
        let sided = manifest.task.sided_labels;
        let drawn = Augmentation::draw(self.options.augment, self.options.seed, &row.case, draw, sided);
        // The mask is read in validation too, so that draw 0 is one file in the cache.
        let wants_mask = self.task.has_segmentation() && self.options.lambda > 0.0;
        // Views that read one scan, and the mask, read it once.
        let mut data = CaseData::with_decoded(self.cache.decoded());
        let mut views = Vec::new();
        for (view, adapter) in manifest.views.iter().zip(self.task.adapters()) {
            let blocks = self.blocks_of(adapter);
            let sample = self.cache.sample(
                &mut data,
                row,
                view,
                &drawn,
                blocks,
                self.backbone,
                self.precision,
                wants_mask,
            )?;
            if let Some(sample) = sample {
                let features = mask_tensors(&sample, view, self.backbone.device())?;
                let mask = sample.mask.map(|mask| mask.to_device(self.backbone.device())).transpose()?;
                let (hidden, geometry) = (sample.hidden, sample.geometry);
                let wanted = Task::wanted_in_training(view, mask.is_some());
                views.push(LoadedView {
                    view: &view.name,
                    adapter,
                    hidden,
                    geometry,
                    mask,
                    features,
                    wanted,
                });
            }
        }
        if views.is_empty() {
            return Err(TrainError::Data(format!("case {}: none of the task's views has a file", row.case)));
        }
        Ok(views)
    }

    /// Head and losses on what the backbone saw.
    fn head_and_losses(
        &self,
        row: &Row,
        views: &[LoadedView<'_>],
        features: &[Features],
        supervise: bool,
    ) -> Result<Step, TrainError> {
        let failed = |source: TaskError| TrainError::Task { case: row.case.clone(), source };
        let tokens = tokens_of(views, features);
        let logits = self.task.head(&tokens).map_err(failed)?.logits.unsqueeze(0)?;
        let CaseTargets { values, known, share } =
            targets(row, self.task.manifest(), self.backbone.device())?;
        let mut loss = self.task.loss(&logits, &values, &known).map_err(failed)?;
        if share != 1.0 {
            loss = (loss * share)?;
        }
        let mut segmentation: Option<Tensor> = None;
        if supervise && self.task.has_segmentation() && self.options.lambda > 0.0 {
            let supervised: Vec<_> =
                tokens.iter().zip(views).filter_map(|(t, v)| Some((t, v.mask.as_ref()?))).collect();
            for (view, mask) in &supervised {
                let one = self.task.segmentation_loss(view, mask).map_err(failed)?;
                let one = (one / supervised.len() as f64)?;
                segmentation = Some(match segmentation {
                    Some(sum) => (sum + one)?,
                    None => one,
                });
            }
        }
        Ok(Step { logits, loss, segmentation })
    }

    /// What the head answers to a case, not augmented and without gradients.
    ///
    /// # Errors
    /// When the case cannot be read, or the plugin's code fails.
    pub fn answer(&self, row: &Row) -> Result<HeadAnswer, TrainError> {
        let views = self.load_views(row, 0)?;
        let features = self.frozen(&views)?;
        let failed = |source: TaskError| TrainError::Task { case: row.case.clone(), source };
        self.task.head(&tokens_of(&views, &features)).map_err(failed)
    }

    /// Through the blocks that remain, without gradients.
    fn frozen(&self, views: &[LoadedView<'_>]) -> Result<Vec<Features>, TrainError> {
        let through = |v: &LoadedView<'_>| {
            Ok(self.backbone.forward_from(&v.hidden, &TaskSiteAdapter::detached(v.adapter), v.wanted)?)
        };
        views.iter().map(through).collect()
    }

    /// The mask's scalars of each view whose head asks for them, by the view's name.
    ///
    /// # Errors
    /// When the case cannot be read.
    pub fn scalars(&self, row: &Row) -> Result<Vec<(String, Vec<f64>)>, TrainError> {
        let mut all = Vec::new();
        for view in self.load_views(row, 0)? {
            if let Some(scalars) = &view.features.scalars {
                all.push((view.view.to_owned(), scalars.to_dtype(DType::F64)?.to_vec1()?));
            }
        }
        Ok(all)
    }

    /// What a reference is made of: each view's name, after how many blocks, and the vector. Not augmented.
    ///
    /// # Errors
    /// When the case cannot be read, or the plugin's code fails.
    pub fn vectors(&self, row: &Row) -> Result<Vec<ViewVector>, TrainError> {
        let vector = |v: LoadedView<'_>| {
            let adapter = TaskSiteAdapter::detached(v.adapter);
            let after_blocks = reference_depth(&adapter, self.backbone.info().blocks);
            let vector = match after_blocks {
                Some(_) => v.hidden.pooled()?,
                None => self.backbone.forward_from(&v.hidden, &adapter, v.wanted)?.pooled()?,
            };
            Ok((v.view.to_owned(), after_blocks, vector))
        };
        self.load_views(row, 0)?.into_iter().map(vector).collect()
    }

    /// A case as validation sees it: not augmented, without gradients, without the segmentation loss.
    ///
    /// # Errors
    /// When the case cannot be read, or the plugin's code fails.
    pub fn validate(&self, row: &Row) -> Result<Step, TrainError> {
        let views = self.load_views(row, 0)?;
        let features = self.frozen(&views)?;
        self.head_and_losses(row, &views, &features, false)
    }

    /// Losses and gradients of a case under draw `draw`; `None` where the loss is not a number.
    ///
    /// Where the tokens of all slices would not fit, slices go through the adapted blocks in groups: once without
    /// gradients for head and losses, whose gradient by the tokens is then carried back group by group. Slices do not
    /// see each other in the backbone, so that both ways give the same gradients, up to rounding.
    ///
    /// # Errors
    /// When the case cannot be read, or the plugin's code fails.
    pub fn train_case(
        &self,
        row: &Row,
        draw: usize,
        batch: Batch,
        optimiser: &AdamW,
    ) -> Result<Option<CaseGradients>, TrainError> {
        let views = self.load_views(row, draw)?;
        let whole = |v: &LoadedView<'_>| {
            let dims = v.hidden.tokens.dims();
            let blocks = self.backbone.info().blocks - v.hidden.block.min(self.backbone.info().blocks);
            let on_device = self.backbone.trained_slices(v.hidden.grid, blocks).unwrap_or(usize::MAX);
            (dims[0], slices_at_once(self.token_bytes, dims[1] * dims[2], blocks).min(on_device).min(dims[0]))
        };
        let sizes: Vec<(usize, usize)> = views.iter().map(whole).collect();
        // Code of the plugin's own may look across slices.
        let in_groups = sizes.iter().any(|(all, at_once)| at_once < all)
            && !views.iter().any(|v| matches!(v.adapter, TaskAdapter::Custom(_)));
        let mut features = Vec::new();
        for (v, &(all, at_once)) in views.iter().zip(&sizes) {
            features.push(if in_groups {
                leaves(self.without_gradients(v, all, at_once)?)?
            } else {
                self.backbone.forward_from(&v.hidden, &TaskSiteAdapter::new(v.adapter), v.wanted)?
            });
        }
        let step = self.head_and_losses(row, &views, &features, true)?;
        let loss = scalar(&step.loss)?;
        let segmentation = step.segmentation.as_ref().map(scalar).transpose()?;
        let mut total = (step.loss / batch.cases as f64)?;
        if let Some(segmentation) = step.segmentation {
            total = (total + (segmentation * (self.options.lambda / batch.supervised.max(1) as f64))?)?;
        }
        if !scalar(&total)?.is_finite() {
            return Ok(None);
        }
        let head = total.backward()?;
        if !in_groups {
            return Ok(Some(CaseGradients { loss, segmentation, gradients: head }));
        }
        let by_tokens: Vec<[Option<Tensor>; 2]> = features
            .iter()
            .map(|f| [head.get(&f.class_tokens).cloned(), head.get(&f.patch_tokens).cloned()])
            .collect();
        let mut sum = Some(head);
        for ((v, gradient), &(all, at_once)) in views.iter().zip(by_tokens).zip(&sizes) {
            if matches!(v.adapter, TaskAdapter::None | TaskAdapter::Cut(_)) {
                continue;
            }
            for (from, n) in groups(all, at_once) {
                let f = self.backbone.forward_from(
                    &v.hidden.narrow(from, n)?,
                    &TaskSiteAdapter::new(v.adapter),
                    v.wanted,
                )?;
                let mut carried: Option<Tensor> = None;
                for (tokens, gradient) in [&f.class_tokens, &f.patch_tokens].into_iter().zip(&gradient) {
                    let Some(gradient) = gradient else { continue };
                    let part = (tokens * gradient.narrow(0, from, n)?.detach())?.sum_all()?;
                    carried = Some(match carried {
                        Some(sum) => (sum + part)?,
                        None => part,
                    });
                }
                if let Some(carried) = carried {
                    optimiser.accumulate(&mut sum, carried.backward()?)?;
                }
            }
        }
        let gradients = sum.ok_or_else(|| TrainError::Tensor("no gradients".to_owned()))?;
        Ok(Some(CaseGradients { loss, segmentation, gradients }))
    }

    fn without_gradients(
        &self,
        v: &LoadedView<'_>,
        all: usize,
        at_once: usize,
    ) -> Result<Features, TrainError> {
        let (mut class, mut patch) = (Vec::new(), Vec::new());
        for (from, n) in groups(all, at_once) {
            let adapter = TaskSiteAdapter::detached(v.adapter);
            let f = self.backbone.forward_from(&v.hidden.narrow(from, n)?, &adapter, v.wanted)?;
            class.push(f.class_tokens);
            patch.push(f.patch_tokens);
        }
        Ok(Features {
            class_tokens: Tensor::cat(&class, 0)?,
            patch_tokens: Tensor::cat(&patch, 0)?,
            class_attention: None,
            grid: v.hidden.grid,
        })
    }
}

/// As the head takes them.
fn tokens_of<'a>(views: &'a [LoadedView<'a>], features: &'a [Features]) -> Vec<ViewTokens<'a>> {
    let of = |(v, f): (&'a LoadedView<'a>, &'a Features)| ViewTokens {
        name: v.view,
        class_tokens: &f.class_tokens,
        patch_tokens: &f.patch_tokens,
        grid: f.grid,
        geometry: Some(v.geometry.clone()),
        mask: v.features.clone(),
    };
    views.iter().zip(features).map(of).collect()
}

/// What the view's head is told of the case's mask. The mask moved with an augmentation; the scalars are the scan's.
fn mask_tensors(sample: &ViewSample, view: &View, device: &Device) -> Result<MaskTensors, TrainError> {
    let asks = |feature: MaskFeature| view.mask_features.contains(&feature);
    let (h, w) = sample.hidden.grid;
    let cover = match &sample.mask {
        Some(mask) if asks(MaskFeature::Cover) => {
            let (s, rows, columns) = mask.dims3()?;
            let slices: Vec<f32> = mask.flatten_all()?.to_vec1()?;
            Some((patch_means(&slices, [s, rows, columns], (h, w)), h * w))
        }
        _ => None,
    };
    Ok(MaskTensors::new(sample.scalars.clone(), cover, device)?)
}

/// The tokens as variables, so that a backward pass ends at them.
fn leaves(f: Features) -> candle_core::Result<Features> {
    let leaf = |t: &Tensor| Ok::<_, candle_core::Error>(Var::from_tensor(&t.detach())?.as_tensor().clone());
    Ok(Features { class_tokens: leaf(&f.class_tokens)?, patch_tokens: leaf(&f.patch_tokens)?, ..f })
}

fn groups(all: usize, at_once: usize) -> impl Iterator<Item = (usize, usize)> {
    let at_once = at_once.max(1);
    (0..all).step_by(at_once).map(move |from| (from, at_once.min(all - from)))
}

/// A tensor of one number.
///
/// # Errors
/// When it holds more or fewer.
pub fn scalar(t: &Tensor) -> Result<f64, TrainError> {
    if t.elem_count() != 1 {
        return Err(TrainError::Tensor(format!("a loss of shape {:?}, expected one number", t.dims())));
    }
    Ok(t.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?[0])
}
