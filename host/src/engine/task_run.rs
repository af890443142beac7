//! One task at one case: its views through the backbone, its head, its decoder, and the record of all that.

use super::backbones::precision_name;
use super::case::{Case, CaseError, Stage};
use super::case_data::{CaseData, Prepared, ReadScan, ms, slices_of, warnings};
use super::cut_slices::is_cut;
use super::decoder::{self, ViewLogits};
use super::ensemble;
use super::novelty;
use super::prediction::{Prediction, ViewEvidence};
use super::result::*;
use super::sharing_plan::{Plan, depth, most};
use crate::backbone::{Backbone, BackboneError, Features, Precision, SiteAdapter, Wanted};
use crate::scan::SliceStack;
use crate::scan::source::digest_of;
use crate::task::{HeadAnswer, LoadedTask, MaskTensors, TaskSiteAdapter, ViewTokens};
use anymc3d_manifest::View;
use candle_core::Tensor;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Hears of each step of a task at a case before it begins.
pub(super) type OnStage<'a> = &'a mut dyn FnMut(Stage);

/// What a task computes on.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub backbone: &'a Backbone,
    pub precision: Precision,
    /// As results name it.
    pub device: &'a str,
}

/// One task at one case.
pub(super) struct TaskRun<'a> {
    pub place: Place<'a>,
    pub loaded: &'a LoadedTask,
    pub case: &'a Case,
    /// Whether evidence for heatmaps is kept.
    pub attention: bool,
    /// What is shared with the tasks that follow.
    pub plan: &'a Plan,
}

/// A view after the backbone.
struct Seen<'a> {
    view: &'a View,
    path: &'a Path,
    read: Arc<ReadScan>,
    stack: SliceStack,
    /// One per member of the ensemble.
    features: Vec<Features>,
    mask: MaskTensors,
    /// Share of the patches that were computed, where some were dropped.
    kept_patches: Option<f64>,
    /// What is compared with the training cases.
    vector: Option<Vec<f32>>,
}

impl<'a> TaskRun<'a> {
    pub fn answer(self, data: &mut CaseData, on_stage: OnStage<'_>) -> Result<Prediction, CaseError> {
        let start = Instant::now();
        self.case.check_sequences(self.loaded.task.manifest())?;
        let mut timing = Timing::default();
        let mut notes = self.loaded.notices.clone();
        let seen = self.see(data, on_stage, &mut timing, &mut notes)?;
        let Some(first) = seen.first() else {
            return Err(CaseError::Scan(format!("case {}: no view has a file", self.case.name)));
        };
        let input = input_record(self.case, first, &seen);
        on_stage(Stage::Head);
        let began = Instant::now();
        let mut answers = Vec::new();
        for (m, member) in self.loaded.all().enumerate() {
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
        let segmentation = self.segment(first, on_stage, &mut timing)?;
        let novelty = self.novelty(&seen);
        notes.extend(novelty.as_ref().and_then(novelty::warning));
        let (views, evidence) = self.views(seen, &answer)?;
        // The first task's; what was done ahead passed before `start`.
        (timing.read, timing.preprocess) =
            (std::mem::take(&mut data.read_ms), std::mem::take(&mut data.preprocess_ms));
        let [ahead, waited] = data.ahead_ms.take().map_or([None; 2], |times| times.map(Some));
        (timing.ahead, timing.waited) = (ahead, waited);
        timing.total = ms(start) + waited.unwrap_or_default();
        let result = CaseResult { novelty, ..self.record(input, &logits, views, timing, notes) };
        Ok(Prediction { result, evidence, segmentation })
    }

    /// The case's views through the backbone with the task's adapter. Optional views without a file are noted.
    fn see(
        &self,
        data: &mut CaseData,
        on_stage: OnStage<'_>,
        timing: &mut Timing,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Seen<'a>>, CaseError> {
        let (loaded, backbone) = (self.loaded, self.place.backbone);
        let mut seen = Vec::new();
        for (i, view) in loaded.task.manifest().views.iter().enumerate() {
            let Some(path) = self.case.file(loaded.name(), &view.name) else {
                if view.required {
                    let (plugin, view) = (loaded.name().to_owned(), view.name.clone());
                    return Err(CaseError::MissingView { plugin, view });
                }
                notes.push(format!("view {}: no file; left out", view.name));
                continue;
            };
            on_stage(Stage::Scan);
            let kept = self.plan.kept(&slices_of(path, view, &self.case.region));
            let prepared = data
                .slices(path, view, &self.case.region, backbone.info(), kept.len())
                .map_err(|e| CaseError::Scan(e.to_string()))?;
            let cases = loaded.weights_info.cases.as_ref();
            let known = cases.and_then(|cases| cases.warning(prepared.read.content_digest()));
            let smallest_mm = loaded.task.manifest().task.smallest_mm;
            let all = warnings(prepared, view, smallest_mm).into_iter().chain(known.map(str::to_owned));
            for warning in all {
                if !notes.contains(&warning) {
                    notes.push(warning);
                }
            }
            let adapter = TaskSiteAdapter::new(&loaded.task.adapters()[i]);
            on_stage(if adapter.only_low_rank() { Stage::Backbone } else { Stage::Adapter });
            let began = Instant::now();
            let wanted = loaded.task.wanted(view, self.attention);
            let mut features = vec![self.features(prepared, kept, &adapter, wanted)?];
            for member in &loaded.members {
                let adapter = TaskSiteAdapter::new(&member.task.adapters()[i]);
                features.push(self.features(
                    prepared,
                    kept,
                    &adapter,
                    member.task.wanted(view, self.attention),
                )?);
            }
            timing.backbone += ms(began);
            let mask = prepared.mask_tensors(view, features[0].grid, backbone.device())?;
            let (read, stack) = (prepared.read.clone(), prepared.stack.clone());
            let kept_patches = prepared.kept.as_ref().map(|kept| kept.share());
            let vector = self.vector(view, prepared, &features[0])?;
            seen.push(Seen { view, path, read, stack, features, mask, kept_patches, vector });
        }
        Ok(seen)
    }

    /// Through the backbone. Tokens after the blocks `kept` are computed once, each from the one before, and kept for
    /// the tasks that follow.
    fn features(
        &self,
        prepared: &mut Prepared,
        kept: &[usize],
        adapter: &dyn SiteAdapter,
        wanted: Wanted,
    ) -> Result<Features, BackboneError> {
        let backbone = self.place.backbone;
        let most = most(adapter, backbone.info().blocks, wanted);
        let depth = depth(adapter, most).filter(|depth| kept.contains(depth));
        let Some(depth) = depth else {
            return backbone.forward(prepared.slices(), adapter, wanted);
        };
        for &next in kept.iter().take_while(|&&next| next <= depth) {
            if !prepared.prefixes.contains_key(&next) {
                let before = prepared.prefixes.range(..next).next_back();
                let hidden = match before {
                    Some((_, hidden)) => backbone.forward_blocks(hidden, next)?,
                    None => backbone.hidden_states(prepared.slices(), next)?,
                };
                prepared.prefixes.insert(next, hidden);
            }
        }
        match prepared.prefixes.get(&depth) {
            Some(hidden) => backbone.forward_from(hidden, adapter, wanted),
            None => backbone.forward(prepared.slices(), adapter, wanted),
        }
    }

    /// The view as it is compared with the training cases, where the weights have a reference of it.
    fn vector(
        &self,
        view: &View,
        prepared: &Prepared,
        features: &Features,
    ) -> Result<Option<Vec<f32>>, BackboneError> {
        let reference = self.loaded.weights_info.reference.as_ref().and_then(|r| r.of_view(&view.name));
        let Some(reference) = reference else { return Ok(None) };
        let Some(depth) = reference.after_blocks else { return Ok(Some(features.pooled()?)) };
        let hidden = match prepared.prefixes.get(&depth) {
            Some(hidden) => hidden,
            None => &self.place.backbone.hidden_states(prepared.slices(), depth)?,
        };
        Ok(Some(hidden.pooled()?))
    }

    /// The decoder's logits of the first view that was there, where the task was opened with its decoder.
    fn segment(
        &self,
        first: &Seen<'_>,
        on_stage: OnStage<'_>,
        timing: &mut Timing,
    ) -> Result<Option<(Arc<ReadScan>, ViewLogits)>, CaseError> {
        if !self.loaded.task.has_segmentation() {
            return Ok(None);
        }
        on_stage(Stage::Segmentation);
        let began = Instant::now();
        let logits = decoder::logits(&self.loaded.task, &first.tokens(0), &first.stack.grid)?;
        timing.segmentation = Some(ms(began));
        Ok(Some((first.read.clone(), logits)))
    }

    /// How far the case is from the training cases.
    fn novelty(&self, seen: &[Seen<'_>]) -> Option<Novelty> {
        let vectors = seen.iter().filter_map(|s| Some((s.view.name.clone(), s.vector.clone()?)));
        novelty::novelty(self.loaded.weights_info.reference.as_ref()?, &vectors.collect::<Vec<_>>())
    }

    /// What the head told of each view, and what heatmaps and pictures are made of.
    fn views(
        &self,
        seen: Vec<Seen<'_>>,
        answer: &HeadAnswer,
    ) -> Result<(Vec<ViewRecord>, Vec<ViewEvidence>), CaseError> {
        let view_weights: Option<Vec<f32>> = answer.view_weights.as_ref().map(Tensor::to_vec1).transpose()?;
        let (mut views, mut evidence) = (Vec::new(), Vec::new());
        for (i, s) in seen.into_iter().enumerate() {
            let told: Option<Vec<f32>> = answer.slice_weights.get(i).map(Tensor::to_vec1).transpose()?;
            let slices = s.stack.grid.slices();
            let view_weight = view_weights.as_ref().map(|w| w[i]);
            views.push(ViewRecord {
                name: s.view.name.clone(),
                slices,
                kept_patches: s.kept_patches,
                merge: s.view.merge,
                top_slices: told.as_deref().map(|w| top_slices(w, &s.stack)).unwrap_or_default(),
                weights: told.clone().unwrap_or_default(),
                view_weight,
                heatmap_of: if answer.patch_weights.len() > i { "patch_weights" } else { "class_attention" }
                    .to_owned(),
            });
            if self.attention {
                let slice_weights = told.unwrap_or_else(|| vec![1.0 / slices as f32; slices]);
                let attention = match answer.patch_weights.get(i) {
                    Some(patches) => within_slices(patches, &slice_weights)?,
                    None => {
                        let maps: Option<Vec<&Tensor>> =
                            s.features.iter().map(|f| f.class_attention.as_ref()).collect();
                        let map = maps.map(|maps| ensemble::mean(maps.into_iter())).transpose()?;
                        map.map(|m| m.flatten_all()?.to_vec1()).transpose()?.unwrap_or_default()
                    }
                };
                evidence.push(ViewEvidence {
                    view: s.view.clone(),
                    read: s.read,
                    attention,
                    grid: s.features[0].grid,
                    slice_weights,
                    view_weight: view_weight.unwrap_or(1.0),
                    stack: s.stack,
                });
            }
        }
        Ok((views, evidence))
    }

    fn record(
        &self,
        input: InputRecord,
        logits: &[Vec<f64>],
        views: Vec<ViewRecord>,
        timing_ms: Timing,
        warnings: Vec<String>,
    ) -> CaseResult {
        let (loaded, backbone) = (self.loaded, self.place.backbone.info());
        let manifest = loaded.task.manifest();
        let predictions = ensemble::label_predictions(loaded, logits);
        let warnings = warnings.into_iter().map(|warning| self.case.with_origins(warning)).collect();
        CaseResult {
            schema: SCHEMA.to_owned(),
            case: self.case.name.clone(),
            input,
            plugin: PluginRecord {
                name: loaded.name().to_owned(),
                version: manifest.plugin.version.to_string(),
                summary: manifest.plugin.summary.clone(),
                sha256: loaded.library_sha256.clone(),
                weights_sha256: loaded.weights_sha256.clone(),
                further_weights_sha256: loaded.further_files(),
                package: loaded.package.clone(),
            },
            backbone: BackboneRecord {
                name: backbone.name.clone(),
                sha256: backbone.sha256.clone(),
                precision: precision_name(self.place.precision).to_owned(),
                quantised_sha256: self.place.backbone.quantised_sha256().map(str::to_owned),
            },
            device: self.place.device.to_owned(),
            provenance: Provenance::now(),
            host: env!("CARGO_PKG_VERSION").to_owned(),
            options_sha256: None,
            values: ensemble::values(loaded, &predictions),
            predictions,
            novelty: None,
            views,
            segmentation: None,
            files: FilesRecord::default(),
            timing_ms,
            warnings,
            intended_use: loaded.intended_use().to_owned(),
        }
    }
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
            // Where slices that were cut elsewhere lay is not known.
            geometry: (!is_cut(self.path)).then(|| Arc::new(self.stack.grid.geometry(features.grid))),
            mask: self.mask.clone(),
        }
    }
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

fn input_record(case: &Case, first: &Seen<'_>, all: &[Seen<'_>]) -> InputRecord {
    let scan = &first.read.scan;
    let modality = |m: anymc3d_manifest::Modality| format!("{m:?}");
    InputRecord {
        path: case.with_origins(first.path.display().to_string()),
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
                path: case.with_origins(s.path.display().to_string()),
                sha256: s.read.scan.sha256.clone(),
            })
            .collect(),
        // One that cannot be read was not looked at: a view that needs it has failed before.
        mask_sha256: case.region.mask.as_deref().and_then(|mask| digest_of(mask).ok()),
        point_mm: case.region.point_mm,
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
