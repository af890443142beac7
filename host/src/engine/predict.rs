//! One backbone, many plugins: a case in, one checked answer per task out. A task that fails is its own error;
//! the others still answer.

use super::backbones::precision_name;
use super::case::{Case, CaseError, Stage};
use super::case_data::{CaseData, Prepared, ReadScan, ms, slices_of, warnings};
use super::decoder::{self, ViewLogits};
use super::ensemble;
use super::memory::{Holdings, MemoryCap};
use super::prefetch::{Prefetcher, Preparer};
use super::result::*;
use super::sharing_plan::{Plan, depth, most};
use crate::backbone::{Backbone, BackboneError, Features, Precision, SiteAdapter};
use crate::device::device_name;
use crate::scan::SliceStack;
use crate::task::{HeadAnswer, LoadedTask, MaskTensors, TaskSiteAdapter, ViewTokens};
use anymc3d_manifest::{TaskKind, View};
use candle_core::Tensor;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// What a view of a prediction was made from: for heatmaps and pictures.
pub struct ViewEvidence {
    /// The scan.
    pub read: Arc<ReadScan>,
    /// Pixels and the way back.
    pub stack: SliceStack,
    /// `[S, h, w]`: the patch weights within each slice where the head tells them, else the class attention of the last
    /// block, mean over heads.
    pub attention: Vec<f32>,
    /// h, w
    pub grid: (usize, usize),
    /// Slice weights `[S]`; even when the head tells none.
    pub slice_weights: Vec<f32>,
    /// Weight of this view among the views; 1 with one view.
    pub view_weight: f32,
}

/// An answer and what it was made from.
pub struct Prediction {
    /// The record.
    pub result: CaseResult,
    /// One per view that was there.
    pub evidence: Vec<ViewEvidence>,
    /// What the segmentation branch said of the first view that was there, and the scan of that view; where the task
    /// was opened with its branch.
    pub segmentation: Option<(Arc<ReadScan>, ViewLogits)>,
}

/// OnStage of each step of a task's turn at a case.
type OnStage<'a> = &'a mut dyn FnMut(Stage);

/// One backbone and the tasks on it.
///
/// Tasks are shared: one that is replaced by another build stays whole until its last user lets go of it.
pub struct Engine {
    backbone: Backbone,
    precision: Precision,
    tasks: Vec<Arc<LoadedTask>>,
    prefetcher: Prefetcher,
    cap: Option<MemoryCap>,
    /// Name of where it computes, as results tell it.
    device: String,
}

impl Engine {
    /// Tasks must have been opened for this backbone.
    pub fn new(backbone: Backbone, precision: Precision, tasks: Vec<LoadedTask>) -> Self {
        let of = |t: &LoadedTask| {
            t.task.manifest().views.iter().map(|v| (t.name().to_owned(), v.clone())).collect()
        };
        let views = tasks.iter().flat_map(|t| -> Vec<_> { of(t) }).collect();
        let prefetcher =
            Prefetcher::new(Preparer::new(views, backbone.info().clone(), backbone.device().clone()));
        let device = device_name(backbone.device());
        Self {
            backbone,
            precision,
            tasks: tasks.into_iter().map(Arc::new).collect(),
            prefetcher,
            cap: MemoryCap::of_process().ok(),
            device,
        }
    }

    /// Keeps the process below another cap than its own: a case that would take more is its own error.
    pub fn cap(&mut self, cap: MemoryCap) {
        self.cap = Some(cap);
    }

    /// How a case is answered: what is shared, and what each task does by itself.
    pub fn plan(&self, case: &Case) -> Plan {
        Plan::of(self.tasks.iter().map(Arc::as_ref), case, self.backbone.info().blocks, false)
    }

    /// Where its memory goes that stays: the backbone, and each task.
    pub fn holds(&self) -> Holdings {
        let of_task = |t: &Arc<LoadedTask>| (t.name().to_owned(), t.parameter_bytes());
        Holdings {
            device: self.device.clone(),
            backbone_bytes: self.backbone.bytes(),
            task_bytes: self.tasks.iter().map(of_task).collect(),
            free_bytes: self.backbone.device_left(),
        }
    }

    /// How many cases are worth reading prefetcher: one where the processor computes as well, several where a GPU would wait.
    pub fn prefetch_depth(&self) -> usize {
        match self.backbone.device().is_cpu() {
            true => 1,
            false => (rayon::current_num_threads() / 2).clamp(1, 4),
        }
    }

    /// Begins to read and slice a case that will be asked for next, beside what is computed until then.
    pub fn prefetch(&self, case: &Case) {
        if !self.cap.is_some_and(|cap| cap.is_given()) {
            self.prefetcher.begin(case, self.cap);
        }
    }

    /// The tasks, in the order of their answers.
    pub fn tasks(&self) -> &[Arc<LoadedTask>] {
        &self.tasks
    }

    /// Puts another generation in a task's place; the old one. It must have been opened for this backbone.
    ///
    /// # Panics
    /// Where there is no task of that index.
    pub fn replace(&mut self, index: usize, task: LoadedTask) -> Arc<LoadedTask> {
        std::mem::replace(&mut self.tasks[index], Arc::new(task))
    }

    /// The backbone.
    pub fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    /// Every task's answer to a case, in the order of the tasks. `attention`: evidence for heatmaps too.
    pub fn predict(&self, case: &Case, attention: bool) -> Vec<Result<Prediction, CaseError>> {
        let all: Vec<usize> = (0..self.tasks.len()).collect();
        let mut answers = Vec::with_capacity(all.len());
        self.predict_each(case, attention, &all, |_, _| (), |_, answer| answers.push(answer));
        answers
    }

    /// The answers of some of the tasks, each handed over as soon as it is there; `told` hears of every step before it.
    pub fn predict_each(
        &self,
        case: &Case,
        attention: bool,
        tasks: &[usize],
        mut on_stage: impl FnMut(usize, Stage),
        mut each: impl FnMut(usize, Result<Prediction, CaseError>),
    ) {
        let mut data = self.prefetcher.take(case);
        data.cap = self.cap;
        if self.cap.is_some_and(|cap| cap.wants_all(case.files())) {
            self.prefetcher.let_go();
        }
        let asked = tasks.iter().map(|&i| self.tasks[i].as_ref());
        let plan = Plan::of(asked, case, self.backbone.info().blocks, attention);
        for &i in tasks {
            let on_stage: OnStage<'_> = &mut |stage| on_stage(i, stage);
            each(i, self.answer(&self.tasks[i], case, (attention, &plan), &mut data, on_stage));
        }
    }

    fn answer(
        &self,
        loaded: &LoadedTask,
        case: &Case,
        (attention, plan): (bool, &Plan),
        data: &mut CaseData,
        on_stage: OnStage<'_>,
    ) -> Result<Prediction, CaseError> {
        let start = Instant::now();
        let manifest = loaded.task.manifest();
        case.check_sequences(manifest)?;
        let mut timing = Timing::default();
        let mut seen: Vec<Seen<'_>> = Vec::new();
        let mut notes = loaded.notices.clone();
        for (i, view) in manifest.views.iter().enumerate() {
            let Some(path) = case.file(loaded.name(), &view.name) else {
                if view.required {
                    let (plugin, view) = (loaded.name().to_owned(), view.name.clone());
                    return Err(CaseError::MissingView { plugin, view });
                }
                notes.push(format!("view {}: no file; left out", view.name));
                continue;
            };
            on_stage(Stage::Scan);
            let kept = plan.kept(&slices_of(path, view, &case.region));
            let prepared = data
                .slices(path, view, &case.region, self.backbone.info(), kept.len())
                .map_err(|e| CaseError::Scan(e.to_string()))?;
            for warning in warnings(prepared, view) {
                if !notes.contains(&warning) {
                    notes.push(warning);
                }
            }
            let adapter = TaskSiteAdapter::new(&loaded.task.adapters()[i]);
            on_stage(if adapter.only_low_rank() { Stage::Backbone } else { Stage::Adapter });
            let began = Instant::now();
            let mut features = vec![self.features(prepared, kept, &adapter, attention)?];
            for member in &loaded.members {
                let adapter = TaskSiteAdapter::new(&member.task.adapters()[i]);
                features.push(self.features(prepared, kept, &adapter, attention)?);
            }
            timing.backbone += ms(began);
            let mask = prepared.mask_tensors(view, features[0].grid, self.backbone.device())?;
            seen.push(Seen {
                view,
                path,
                read: prepared.read.clone(),
                stack: prepared.stack.clone(),
                features,
                mask,
            });
        }
        let Some(first) = seen.first() else {
            return Err(CaseError::Scan(format!("case {}: no view has a file", case.name)));
        };
        let input = input_record(first, &seen);
        on_stage(Stage::Head);
        let began = Instant::now();
        let mut answers = Vec::new();
        for (m, member) in loaded.all().enumerate() {
            let tokens: Vec<ViewTokens<'_>> = seen.iter().map(|s| s.tokens(m)).collect();
            answers.push(member.task.head(&tokens)?);
        }
        timing.head = ms(began);
        let logits: Vec<Vec<f64>> = answers
            .iter()
            .map(|a| a.logits.to_dtype(candle_core::DType::F64)?.to_vec1())
            .collect::<candle_core::Result<_>>()?;
        let Some(answer) = ensemble::combined(answers)? else {
            return Err(CaseError::Tensor("an ensemble without members".to_owned()));
        };
        let mut segmentation = None;
        if loaded.task.has_segmentation() {
            on_stage(Stage::Segmentation);
            let began = Instant::now();
            let first = &seen[0];
            let logits = decoder::logits(&loaded.task, &first.tokens(0), &first.stack.grid)?;
            segmentation = Some((first.read.clone(), logits));
            timing.segmentation = Some(ms(began));
        }
        let (views, evidence) = told_of_views(seen, &answer, attention)?;
        // The first task's; for a case that was prepared ahead they passed before `start`.
        (timing.read, timing.preprocess) =
            (std::mem::take(&mut data.read_ms), std::mem::take(&mut data.preprocess_ms));
        timing.total = ms(start);
        let backbone = self.backbone.info();
        let predictions = ensemble::label_predictions(loaded, &logits);
        let result = CaseResult {
            schema: SCHEMA.to_owned(),
            case: case.name.clone(),
            input,
            plugin: PluginRecord {
                name: loaded.name().to_owned(),
                version: manifest.plugin.version.to_string(),
                sha256: loaded.library_sha256.clone(),
                weights_sha256: loaded.weights_sha256.clone(),
                further_weights_sha256: loaded.members.iter().map(|m| m.weights_sha256.clone()).collect(),
                package: loaded.package.clone(),
            },
            backbone: BackboneRecord {
                name: backbone.name.clone(),
                sha256: backbone.sha256.clone(),
                precision: precision_name(self.precision).to_owned(),
            },
            device: self.device.clone(),
            host: env!("CARGO_PKG_VERSION").to_owned(),
            values: ensemble::values(loaded, &predictions),
            predictions,
            views,
            segmentation: None,
            files: FilesRecord::default(),
            timing_ms: timing,
            warnings: notes,
            intended_use: manifest.plugin.intended_use.clone(),
        };
        Ok(Prediction { result, evidence, segmentation })
    }

    /// Through the backbone. Tokens after the blocks `kept` are computed once, each from the one before, and kept for
    /// the tasks that follow.
    fn features(
        &self,
        prepared: &mut Prepared,
        kept: &[usize],
        adapter: &dyn SiteAdapter,
        attention: bool,
    ) -> Result<Features, BackboneError> {
        let most = most(self.backbone.info().blocks, attention);
        let depth = depth(adapter, most).filter(|depth| kept.contains(depth));
        let Some(depth) = depth else {
            return self.backbone.forward(&prepared.pixels, adapter, attention);
        };
        for &next in kept.iter().take_while(|&&next| next <= depth) {
            if !prepared.prefixes.contains_key(&next) {
                let before = prepared.prefixes.range(..next).next_back();
                let hidden = match before {
                    Some((_, hidden)) => self.backbone.forward_blocks(hidden, next)?,
                    None => self.backbone.hidden_states(&prepared.pixels, next)?,
                };
                prepared.prefixes.insert(next, hidden);
            }
        }
        match prepared.prefixes.get(&depth) {
            Some(hidden) => self.backbone.forward_from(hidden, adapter, attention),
            None => self.backbone.forward(&prepared.pixels, adapter, attention),
        }
    }
}

/// What a head told of each view, for the record; and for heatmaps, where `attention` is wanted.
fn told_of_views(
    seen: Vec<Seen<'_>>,
    answer: &HeadAnswer,
    attention: bool,
) -> Result<(Vec<ViewRecord>, Vec<ViewEvidence>), CaseError> {
    let view_weights: Option<Vec<f32>> = answer.view_weights.as_ref().map(Tensor::to_vec1).transpose()?;
    let mut views = Vec::new();
    let mut evidence = Vec::new();
    for (i, s) in seen.into_iter().enumerate() {
        let told: Option<Vec<f32>> = answer.slice_weights.get(i).map(Tensor::to_vec1).transpose()?;
        let slices = s.stack.grid.slices();
        let view_weight = view_weights.as_ref().map(|w| w[i]);
        views.push(ViewRecord {
            name: s.view.name.clone(),
            slices,
            top_slices: told.as_deref().map(|w| top_slices(w, &s.stack)).unwrap_or_default(),
            weights: told.clone().unwrap_or_default(),
            view_weight,
            heatmap_of: if answer.patch_weights.len() > i { "patch_weights" } else { "class_attention" }
                .to_owned(),
        });
        if attention {
            let slice_weights = told.unwrap_or_else(|| vec![1.0 / slices as f32; slices]);
            let map = match answer.patch_weights.get(i) {
                Some(patches) => within_slices(patches, &slice_weights)?,
                None => {
                    let maps: Option<Vec<&Tensor>> =
                        s.features.iter().map(|f| f.class_attention.as_ref()).collect();
                    let map = maps.map(|maps| ensemble::mean(maps.into_iter())).transpose()?;
                    map.map(|m| m.flatten_all()?.to_vec1()).transpose()?.unwrap_or_default()
                }
            };
            evidence.push(ViewEvidence {
                read: s.read,
                attention: map,
                grid: s.features[0].grid,
                slice_weights,
                view_weight: view_weight.unwrap_or(1.0),
                stack: s.stack,
            });
        }
    }
    Ok((views, evidence))
}

/// Patch weights `[S, h, w]` as shares of their slice's weight, so that shares times slice weights are what the head
/// told.
fn within_slices(patches: &Tensor, slice_weights: &[f32]) -> Result<Vec<f32>, CaseError> {
    let mut values: Vec<f32> = patches.flatten_all()?.to_vec1()?;
    let per_slice = values.len() / slice_weights.len().max(1);
    for (slice, weight) in values.chunks_exact_mut(per_slice.max(1)).zip(slice_weights) {
        let scale = if *weight > 0.0 { 1.0 / weight } else { 0.0 };
        slice.iter_mut().for_each(|v| *v *= scale);
    }
    Ok(values)
}

struct Seen<'a> {
    view: &'a View,
    path: &'a Path,
    read: Arc<ReadScan>,
    stack: SliceStack,
    /// One per member of the ensemble.
    features: Vec<Features>,
    mask: MaskTensors,
}

impl Seen<'_> {
    /// As member `m` is given them.
    fn tokens(&self, m: usize) -> ViewTokens<'_> {
        let features = &self.features[m];
        ViewTokens {
            name: &self.view.name,
            class_tokens: &features.class_tokens,
            patch_tokens: &features.patch_tokens,
            grid: features.grid,
            geometry: Some(Arc::new(self.stack.grid.geometry(features.grid))),
            mask: self.mask.clone(),
        }
    }
}

fn input_record(first: &Seen<'_>, all: &[Seen<'_>]) -> InputRecord {
    let scan = &first.read.scan;
    let modality = |m: anymc3d_manifest::Modality| format!("{m:?}");
    InputRecord {
        path: first.path.display().to_string(),
        sha256: scan.sha256.clone(),
        shape: scan.shape,
        spacing_mm: scan.spacing_mm,
        orientation: scan.orientation.clone(),
        modality: scan.modality.map(modality),
        modality_guess: scan.modality_guess.map(modality),
        other_views: all
            .iter()
            .filter(|s| s.path != first.path)
            .map(|s| OtherView {
                view: s.view.name.clone(),
                path: s.path.display().to_string(),
                sha256: s.read.scan.sha256.clone(),
            })
            .collect(),
    }
}

/// [`probabilities`] of logits divided by their temperatures, one per logit; none is 1.
pub fn calibrated(kind: TaskKind, logits: &[f64], temperatures: &[Option<f64>]) -> Vec<f64> {
    let scaled: Vec<f64> = logits.iter().zip(temperatures).map(|(z, t)| z / t.unwrap_or(1.0)).collect();
    probabilities(kind, &scaled)
}

/// Softmax for a multi-class task, a sigmoid each otherwise.
pub fn probabilities(kind: TaskKind, logits: &[f64]) -> Vec<f64> {
    if kind == TaskKind::Multiclass {
        let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let e: Vec<f64> = logits.iter().map(|z| (z - top).exp()).collect();
        let sum: f64 = e.iter().sum();
        e.into_iter().map(|v| v / sum).collect()
    } else {
        logits.iter().map(|z| 1.0 / (1.0 + (-z).exp())).collect()
    }
}

fn top_slices(weights: &[f32], stack: &SliceStack) -> Vec<TopSlice> {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]).then(a.cmp(&b)));
    let place = |s: usize| TopSlice {
        index: stack.grid.index_in_scan(s),
        weight: weights[s],
        position_mm: stack.grid.position_mm(s),
    };
    order.into_iter().take(5).map(place).collect()
}
