//! A plugin at work in the test host, called through the same tables as in a real one.

use super::adapter::TaskAdapter;
use super::call::{called, check_shape, entry, named, within};
use super::context::Context;
use super::host::TestHost;
use super::state::Lent;
use crate::TaskPlugin;
use crate::abi::objects::{HeadObject, SegmentationObject, TaskObject};
use crate::abi::owned::{Call, Owned};
use crate::abi::shims::task_object;
use crate::abi::types::{Entry, NamedHandle};
use crate::adapter::Site;
use crate::build::BackboneInfo;
use crate::error::{Error, Result};
use crate::geometry::{GeometrySource, SliceGeometry};
use crate::head::{HeadOutput, ViewFeatures};
use crate::loss::Targets;
use crate::mask_features::{MASK_DETAILS, MASK_SCALARS, MaskFeatures};
use crate::tensor::Tensor;
use abi_stable::std_types::RVec;
use anymc3d_manifest::{Manifest, MaskFeature};
use std::collections::BTreeMap;

/// A plugin's parts in a [`Context`] of their own.
pub struct Task {
    // Dropped in this order: parts before the task that made them, the context last.
    head: Owned<HeadObject>,
    segmentation: Option<Owned<SegmentationObject>>,
    adapters: Vec<TaskAdapter>,
    owner: Owned<TaskObject>,
    settings: Vec<Entry>,
    manifest: Manifest,
    backbone: BackboneInfo,
    context: Context,
}

impl Task {
    pub(crate) fn new<P: TaskPlugin>(host: &TestHost, plugin: P, manifest: Manifest) -> Result<Self> {
        let (backbone, need) = (&host.backbone, &manifest.backbone);
        if !need.takes_family(&backbone.family) || backbone.embed_dim < need.min_embed_dim {
            return Err(Error::msg(format!(
                "the manifest wants a backbone of {} and a width of {} or more, this is {} of {}",
                need.families.join(" or "),
                need.min_embed_dim,
                backbone.family,
                backbone.embed_dim
            )));
        }
        let context = Context::new(host.seed);
        let settings = host.settings(&manifest);
        let owner = Owned::<TaskObject>::new(task_object(plugin));
        let id = context.id();
        let mut adapters = Vec::new();
        for view in &manifest.views {
            let mut settings = settings.clone();
            settings.push(entry("view", &view.name));
            let (declared, custom) = owner.adapter(called(id, &settings)).map_err(within("adapter"))?;
            let prefix = match manifest.views.len() {
                1 => "adapter".to_owned(),
                _ => format!("adapter.{}", view.name),
            };
            let adapter = TaskAdapter::new(&context, backbone, &prefix, settings, &declared, custom);
            adapters.push(adapter.map_err(within("adapter"))?);
        }
        let head = owner.head(called(id, &settings)).map_err(within("head"))?;
        let segmentation = owner.segmentation(called(id, &settings)).map_err(within("segmentation"))?;
        let backbone = backbone.clone();
        Ok(Self { head, segmentation, adapters, owner, settings, manifest, backbone, context })
    }

    /// Where its tensors and parameters are.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The shape of the backbone it was built for.
    pub fn backbone(&self) -> &BackboneInfo {
        &self.backbone
    }

    /// Whether it has a segmentation branch.
    pub fn has_segmentation(&self) -> bool {
        self.segmentation.is_some()
    }

    /// Numbers of parameters: adapter, head, segmentation branch, by the first word of their names.
    pub fn parameter_counts(&self) -> (usize, usize, usize) {
        let mut counts = (0, 0, 0);
        for (name, parameter) in self.context.parameters() {
            let n = parameter.values.len();
            match name.split('.').next() {
                Some("adapter") => counts.0 += n,
                Some("segmentation") => counts.2 += n,
                _ => counts.1 += n,
            }
        }
        counts
    }

    /// Random features of every view, class tokens `[slices, d]` and patch tokens `[slices, h·w, d]`: a case. The same
    /// for the same `name`. Slices lie 5 mm apart and pixels are 1 mm wide; [`ViewFeatures::with_geometry`] says otherwise.
    ///
    /// # Errors
    /// When the shape is absurd.
    pub fn views(&self, slices: usize, grid: [usize; 2], name: &str) -> Result<Vec<ViewFeatures>> {
        let d = self.backbone.embed_dim;
        let view = |view: &anymc3d_manifest::View| {
            let random = |part: &str, dims: &[usize]| {
                self.context.random(&format!("{name}/{}/{part}", view.name), dims)
            };
            let class_tokens = random("class", &[slices, d])?;
            let patch_tokens = random("patch", &[slices, grid[0] * grid[1], d])?;
            let features = ViewFeatures::new(view.name.as_str(), class_tokens, patch_tokens, grid);
            let mask = self.mask_features(view, slices, grid, name)?;
            Ok(features.with_geometry(self.geometry(slices)).with_mask(mask))
        };
        self.manifest.views.iter().map(view).collect()
    }

    /// What the host tells of a made-up case's mask, where the view asks for it.
    pub(crate) fn mask_features(
        &self,
        view: &anymc3d_manifest::View,
        slices: usize,
        grid: [usize; 2],
        name: &str,
    ) -> Result<MaskFeatures> {
        let asks = |feature: MaskFeature| view.mask_features.contains(&feature);
        let random =
            |part: &str, dims: &[usize]| self.context.random(&format!("{name}/{}/{part}", view.name), dims);
        let of = |feature: MaskFeature, n: usize| if asks(feature) { n } else { 0 };
        let numbers =
            of(MaskFeature::Scalars, MASK_SCALARS.len()) + of(MaskFeature::Details, MASK_DETAILS.len());
        let scalars = match numbers {
            0 => None,
            n => Some(random("scalars", &[n])?),
        };
        let cover = match asks(MaskFeature::Cover) {
            true => Some(random("cover", &[slices, grid[0] * grid[1]])?.sigmoid()?.detach()?),
            false => None,
        };
        Ok(MaskFeatures::new(scalars, cover))
    }

    /// Where the slices of a made-up case lie: 5 mm apart, pixels of 1 mm.
    pub(crate) fn geometry(&self, slices: usize) -> SliceGeometry {
        let patch = self.backbone.patch_size as f64;
        SliceGeometry::evenly_spaced(slices, [5.0, patch, patch])
    }

    /// Features of every view from a stand-in for the backbone, with the task's adapters at its sites, for tests of an
    /// adapter. Gradients reach the adapters' parameters. The weights are random and frozen, and the stand-in has only
    /// attention layers.
    ///
    /// # Errors
    /// The adapter's error or panic, or an output of another shape.
    pub fn through_backbone(&self, slices: usize, grid: [usize; 2], name: &str) -> Result<Vec<ViewFeatures>> {
        (0..self.manifest.views.len())
            .map(|view| super::backbone::features(self, view, slices, grid, name))
            .collect()
    }

    fn call<'a>(&'a self, settings: &'a [Entry]) -> Call<'a> {
        called(self.context.id(), settings)
    }

    /// Settings and tensors of a call, and what answers its questions about the views while it runs.
    fn send(&self, views: &[&ViewFeatures]) -> Result<(Vec<Entry>, RVec<NamedHandle>, Vec<Lent>)> {
        let names: Vec<&str> = views.iter().map(|v| v.name.as_str()).collect();
        let mut settings = vec![entry("views", names.join(","))];
        let (mut tensors, mut lent) = (RVec::new(), Vec::new());
        for view in views {
            let [h, w] = view.grid;
            if let GeometrySource::Given(geometry) = &view.geometry {
                let view_id = self.context.lend(geometry);
                settings.push(entry(format!("view_id.{}", view.name), view_id.id()));
                lent.push(view_id);
            }
            settings.push(entry(format!("grid.{}", view.name), format!("{h},{w}")));
            for (part, tensor) in [("class_tokens", &view.class_tokens), ("patch_tokens", &view.patch_tokens)]
            {
                tensors.push(named(format!("{}/{part}", view.name), tensor)?);
            }
            for (part, tensor) in [("mask_scalars", &view.mask.scalars), ("mask_cover", &view.mask.cover)] {
                if let Some(tensor) = tensor {
                    tensors.push(named(format!("{}/{part}", view.name), tensor)?);
                }
            }
        }
        Ok((settings, tensors, lent))
    }

    /// The head's output, checked as a host checks it.
    ///
    /// # Errors
    /// The plugin's error or panic; an output of a wrong shape; NaN or infinity.
    pub fn head(&self, views: &[ViewFeatures]) -> Result<HeadOutput> {
        let (settings, tensors, _lent) = self.send(&views.iter().collect::<Vec<_>>())?;
        let host = self.context.host();
        let answer = self.head.forward(self.call(&settings), tensors).map_err(within("forward"))?;
        let (mut slices, mut patches) = (BTreeMap::new(), BTreeMap::new());
        let (mut logits, mut view_weights, mut embedding) = (None, None, None);
        for NamedHandle { name, handle } in answer {
            let tensor = host.adopt(handle);
            let index = |part: &str| name.strip_prefix(part).and_then(|i| i.parse::<usize>().ok());
            match name.as_str() {
                "logits" => logits = Some(tensor),
                "view_weights" => view_weights = Some(tensor),
                "embedding" => embedding = Some(tensor),
                _ => {
                    if let Some(i) = index("slice_weights/") {
                        slices.insert(i, tensor);
                    } else if let Some(i) = index("patch_weights/") {
                        patches.insert(i, tensor);
                    }
                }
            }
        }
        let logits = logits.ok_or_else(|| Error::msg("forward: answered without logits"))?;
        let (slice_weights, patch_weights): (Vec<_>, Vec<_>) =
            (slices.into_values().collect(), patches.into_values().collect());
        check_shape("logits", &logits, &[self.manifest.task.outputs()])?;
        for (what, weights) in [("slice weights", &slice_weights), ("patch weights", &patch_weights)] {
            if !weights.is_empty() && weights.len() != views.len() {
                let (found, expected) = (weights.len(), views.len());
                return Err(Error::msg(format!(
                    "forward: {what} for {found} views, expected {expected} or none"
                )));
            }
        }
        for (i, view) in views.iter().enumerate() {
            let s = view.class_tokens.dims()?[0];
            if let Some(weights) = slice_weights.get(i) {
                check_shape("slice weights", weights, &[s])?;
            }
            if let Some(weights) = patch_weights.get(i) {
                check_shape("patch weights", weights, &[s, view.grid[0], view.grid[1]])?;
            }
        }
        if let Some(weights) = &view_weights {
            check_shape("view weights", weights, &[views.len()])?;
        }
        Ok(HeadOutput { logits, slice_weights, view_weights, patch_weights, embedding })
    }

    /// The classification loss (shape `[]`) of logits `[N, C]`.
    ///
    /// # Errors
    /// The plugin's error or panic.
    pub fn loss(&self, logits: &Tensor, targets: &Targets) -> Result<Tensor> {
        let tensors = [("logits", logits), ("targets", &targets.values), ("known", &targets.known)];
        let tensors = tensors.map(|(name, t)| named(name, t)).into_iter().collect::<Result<_>>()?;
        let loss = self.owner.loss(self.call(&self.settings), tensors).map_err(within("loss"))?;
        Ok(self.context.host().adopt(loss))
    }

    fn branch(&self) -> Result<&Owned<SegmentationObject>> {
        self.segmentation.as_ref().ok_or_else(|| Error::msg("the task has no segmentation branch"))
    }

    /// The segmentation decoder's logits of a view, `[S, a, b]`.
    ///
    /// # Errors
    /// The plugin's error or panic, or a task without a decoder.
    pub fn segmentation_logits(&self, view: &ViewFeatures) -> Result<Tensor> {
        let (settings, tensors, _lent) = self.send(&[view])?;
        let logits = self.branch()?.logits(self.call(&settings), tensors);
        Ok(self.context.host().adopt(logits.map_err(within("segmentation logits"))?))
    }

    /// The segmentation decoder's loss (shape `[]`) of a view against its mask `[S, H, W]`.
    ///
    /// # Errors
    /// The plugin's error or panic, or a task without a decoder.
    pub fn segmentation_loss(&self, view: &ViewFeatures, mask: &Tensor) -> Result<Tensor> {
        let (settings, mut tensors, _lent) = self.send(&[view])?;
        tensors.push(named("mask", mask)?);
        let loss = self.branch()?.loss(self.call(&settings), tensors);
        Ok(self.context.host().adopt(loss.map_err(within("segmentation loss"))?))
    }

    /// The first block that the adapter of a view changes; `None` where the backbone stays as it is.
    pub fn first_block(&self, view: usize) -> Option<usize> {
        self.adapters.get(view)?.first_block()
    }

    /// The output that a view's adapter gives for a site; see [`Site`] for the shapes. Sites before the adapter's first
    /// block do not change.
    ///
    /// # Errors
    /// The plugin's error or panic, or an output of another shape.
    pub fn apply(&self, view: usize, site: Site, input: &Tensor, output: Tensor) -> Result<Tensor> {
        let adapter = self.adapters.get(view);
        let adapter = adapter.ok_or_else(|| Error::msg(format!("the task has no view {view}")))?;
        adapter.apply(&self.context, site, input, output)
    }

    /// Drops the plugin's parts and reports a panic.
    ///
    /// # Errors
    /// The first part whose Drop panicked; the other parts are dropped too.
    pub fn close(self) -> Result<()> {
        let Self { head, segmentation, adapters, owner, context, .. } = self;
        let mut outcomes = vec![head.close()];
        outcomes.extend(segmentation.map(Owned::close));
        outcomes.extend(adapters.into_iter().map(TaskAdapter::close));
        outcomes.push(owner.close());
        let left = context.live_handles();
        outcomes.into_iter().collect::<Result<()>>()?;
        match left {
            0 => Ok(()),
            n => Err(Error::msg(format!("{n} handles were not given back when the task was dropped"))),
        }
    }
}
