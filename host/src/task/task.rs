//! A plugin at work on a backbone: its adapters, its head, its branch for training, and their parameters.

use super::adapter::{TaskAdapter, adapter};
use super::error::TaskError;
use super::variant::Variant;
use crate::backbone::Wanted;
use crate::plugin::Library;
use crate::plugin::PluginError;
use crate::plugin::context::{Context, LentView, Parameter, ParameterSource};
use crate::plugin::object::{HeadOwner, SegmentationOwner, TaskOwner};
use abi_stable::std_types::RVec;
use anymc3d_manifest::{LossKind, Manifest, Tokens, View};
use anymc3d_plugin_api::abi::types::{Entry, Handle, NamedHandle};
use anymc3d_plugin_api::{BackboneInfo, SliceGeometry};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the backbone saw in one view of a case.
pub struct ViewTokens<'a> {
    /// The view's name in the manifest.
    pub name: &'a str,
    /// `[S, d]`
    pub class_tokens: &'a Tensor,
    /// `[S, h·w, d]`
    pub patch_tokens: &'a Tensor,
    /// h, w
    pub grid: (usize, usize),
    /// Where the slices lie, for a plugin that asks; without it asking is that plugin's error.
    pub geometry: Option<Arc<SliceGeometry>>,
    /// What is known of the case's mask, where the manifest asks for it.
    pub mask: MaskTensors,
}

/// What a head is told of the case's mask in one view; nothing by default.
#[derive(Debug, Clone, Default)]
pub struct MaskTensors {
    /// `[n]`, see [`anymc3d_plugin_api::MASK_SCALARS`] and [`anymc3d_plugin_api::MASK_DETAILS`].
    pub scalars: Option<Tensor>,
    /// `[S, h·w]`, 0 to 1.
    pub cover: Option<Tensor>,
}

impl MaskTensors {
    /// From the mask's numbers, and its share of each patch with the number of patches of a slice.
    ///
    /// # Errors
    /// When the device has no memory for them.
    pub fn new(
        scalars: Option<Vec<f64>>,
        cover: Option<(Vec<f32>, usize)>,
        device: &Device,
    ) -> candle_core::Result<Self> {
        let scalars: Option<Vec<f32>> = scalars.map(|s| s.into_iter().map(|v| v as f32).collect());
        let scalars = scalars.map(|s| Tensor::new(&s[..], device)).transpose()?;
        let cover = cover.map(|(values, patches)| {
            let slices = values.len() / patches.max(1);
            Tensor::from_vec(values, (slices, patches), device)
        });
        Ok(Self { scalars, cover: cover.transpose()? })
    }
}

/// A plugin at work on a backbone.
pub struct Task {
    // Dropped in this order: parts before the task that made them.
    pub(super) head: HeadOwner,
    segmentation: Option<SegmentationOwner>,
    adapters: Vec<TaskAdapter>,
    owner: TaskOwner,
    pub(super) context: &'static Context,
    settings: Vec<Entry>,
    pub(super) manifest: Manifest,
    // Last: what the parts hold is given back by themselves as long as they can.
    retire: Retire,
}

/// Frees a task's memory in the host when the task is gone, also one that was never whole.
struct Retire(&'static Context);

impl Drop for Retire {
    fn drop(&mut self) {
        self.0.retire();
    }
}

/// What may be chosen when a task is built, beside what its plugin says.
#[derive(Debug, Clone, Default)]
pub struct TaskOptions {
    /// The segmentation branch too (training, or a mask is asked for).
    pub segmentation: bool,
    /// What differs from what the plugin says.
    pub variant: Variant,
}

fn entry(key: impl Into<String>, value: impl ToString) -> Entry {
    Entry { key: key.into().into(), value: value.to_string().into() }
}

/// What every part of the task is told.
fn settings(manifest: &Manifest, backbone: &BackboneInfo) -> Vec<Entry> {
    let views: Vec<&str> = manifest.views.iter().map(|v| v.name.as_str()).collect();
    let loss = &manifest.task.loss;
    let kind = match loss.kind {
        LossKind::Focal => "focal",
        LossKind::Bce => "bce",
        LossKind::CrossEntropy => "cross_entropy",
        LossKind::Mse => "mse",
    };
    let weights: Vec<String> = loss.class_weights.iter().map(f64::to_string).collect();
    let mut settings = vec![
        entry("backbone.family", &backbone.family),
        entry("backbone.embed_dim", backbone.embed_dim),
        entry("backbone.blocks", backbone.blocks),
        entry("backbone.heads", backbone.heads),
        entry("backbone.patch_size", backbone.patch_size),
        entry("views", views.join(",")),
        entry("outputs", manifest.task.outputs()),
        entry("loss.kind", kind),
        entry("loss.gamma", loss.gamma),
        entry("loss.alpha", loss.alpha),
        entry("loss.class_weights", weights.join(",")),
    ];
    for (name, value) in &manifest.settings {
        settings.push(entry(format!("settings.{name}"), value));
    }
    for view in &manifest.views {
        settings.push(entry(format!("size.{}", view.name), format!("{},{}", view.size[0], view.size[1])));
    }
    for view in manifest.views.iter().filter(|v| !v.mask_features.is_empty()) {
        let names: Vec<&str> = view.mask_features.iter().map(|f| f.name()).collect();
        settings.push(entry(format!("mask_features.{}", view.name), names.join(",")));
    }
    settings
}

impl Task {
    /// Builds a plugin's parts on a backbone. `dtype` is f32 outside of gradient tests.
    ///
    /// # Errors
    /// When the backbone does not fit the manifest, the plugin's code fails, or a parameter has another shape than its
    /// weights. [`Task::mismatches`] lists missing and unused weights.
    pub fn build(
        library: &Library,
        backbone: &BackboneInfo,
        source: ParameterSource,
        dtype: DType,
        device: &Device,
        options: &TaskOptions,
    ) -> Result<Self, PluginError> {
        let variant = &options.variant;
        let name = library.embedded.manifest.plugin.name.clone();
        let manifest = variant.manifest(&library.embedded.manifest).map_err(|reason| PluginError::Setup {
            name: name.clone(),
            method: "views",
            reason,
        })?;
        if !variant.any_backbone {
            fits(&manifest, backbone)?;
        }
        variant.loss_fits(&manifest.task).map_err(|reason| PluginError::Setup {
            name: name.clone(),
            method: "loss",
            reason,
        })?;
        let failed = |method: &'static str| {
            let name = name.clone();
            move |e: anymc3d_plugin_api::Error| PluginError::Setup { name, method, reason: e.to_string() }
        };
        let context = Context::create(&name, dtype, device.clone(), source);
        let retire = Retire(context);
        let mut settings = settings(&manifest, backbone);
        settings.extend(variant.settings().map(|(key, value)| entry(key, value)));
        let owner = TaskOwner::instantiate(library.module, context.task()).map_err(failed("constructor"))?;
        let mut adapters = Vec::new();
        for view in &manifest.views {
            let mut settings = settings.clone();
            settings.push(entry("view", &view.name));
            let answer = owner.adapter(context.id(), &settings).map_err(failed("adapter"))?;
            let prefix = if manifest.views.len() > 1 {
                format!("adapter.{}", view.name)
            } else {
                "adapter".to_owned()
            };
            let declared: BTreeMap<String, String> = answer.settings.into_iter().collect();
            let adapter = adapter(context, backbone, &prefix, &settings, &declared, answer.custom, variant)
                .map_err(failed("adapter"))?;
            adapters.push(adapter);
        }
        let head = owner.head(context.id(), &settings).map_err(failed("head"))?;
        let refused = |method| {
            let name = name.clone();
            move |reason| PluginError::Setup { name, method, reason }
        };
        variant.check_head_variant(&context.parameters()).map_err(refused("head"))?;
        let segmentation = if options.segmentation {
            let branch = owner.segmentation(context.id(), &settings).map_err(failed("segmentation"))?;
            variant.check_segmentation_variant(&context.parameters()).map_err(refused("segmentation"))?;
            branch
        } else {
            None
        };
        context.seal();
        Ok(Self { head, segmentation, adapters, owner, context, settings, manifest, retire })
    }

    /// Drops the plugin's parts and reports a panic. Dropping the task does the same, and logs a panic.
    ///
    /// # Errors
    /// The first part whose Drop panicked; the other parts are dropped too.
    pub fn close(self) -> Result<(), TaskError> {
        let Self { head, segmentation, adapters, owner, manifest, retire, .. } = self;
        let mut outcomes = vec![head.close()];
        outcomes.extend(segmentation.map(SegmentationOwner::close));
        for adapter in adapters {
            if let TaskAdapter::Custom(custom) = adapter {
                outcomes.push(custom.close());
            }
        }
        outcomes.push(owner.close());
        drop(retire);
        let failed = |(method, e): (&'static str, anymc3d_plugin_api::Error)| TaskError {
            task: manifest.plugin.name,
            method,
            reason: e.to_string(),
        };
        outcomes.into_iter().collect::<Result<(), _>>().map_err(failed)
    }

    /// The manifest it was built from.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The adapter of each view, in the manifest's order.
    pub fn adapters(&self) -> &[TaskAdapter] {
        &self.adapters
    }

    /// Drops the segmentation branch, if there is one. What goes wrong in its Drop is logged.
    pub fn without_segmentation(mut self) -> Self {
        self.segmentation = None;
        self
    }

    /// Whether the plugin has a segmentation branch (and it was asked for).
    pub fn has_segmentation(&self) -> bool {
        self.segmentation.is_some()
    }

    /// Each block merges so many tokens away, whatever the views say.
    pub(super) fn merge_tokens(&mut self, each: usize) {
        self.manifest.views.iter_mut().for_each(|view| view.merge = each);
    }

    /// What the backbone computes for a view, with the last block's attention or without.
    pub fn wanted(&self, view: &View, attention: bool) -> Wanted {
        Wanted { attention, patches: view.tokens == Tokens::All || self.has_segmentation() }
    }

    /// What the backbone computes for a view to train: the decoder reads patch tokens only where a mask supervises it.
    pub fn wanted_in_training(view: &View, supervised: bool) -> Wanted {
        Wanted { attention: false, patches: view.tokens == Tokens::All || supervised }
    }

    /// Every parameter of the task by name.
    pub fn parameters(&self) -> BTreeMap<String, Parameter> {
        self.context.parameters()
    }

    /// Number of parameters: `(adapter, head, segmentation)`.
    pub fn parameter_counts(&self) -> (usize, usize, usize) {
        let mut counts = (0, 0, 0);
        for (name, parameter) in self.parameters() {
            let n = parameter.tensor().elem_count();
            match name.split('.').next() {
                Some("adapter") => counts.0 += n,
                Some("segmentation") => counts.2 += n,
                _ => counts.1 += n,
            }
        }
        counts
    }

    /// What is wrong with the weights it was built from.
    pub fn mismatches(&self) -> Vec<String> {
        self.context.mismatches()
    }

    /// Handles that the plugin holds at the moment.
    pub fn live_handles(&self) -> usize {
        self.context.live_handles()
    }

    /// A complaint about one of the plugin's methods.
    pub(crate) fn error(&self, method: &'static str, reason: impl ToString) -> TaskError {
        TaskError { task: self.manifest.plugin.name.clone(), method, reason: reason.to_string() }
    }

    /// Settings and tensors of a call, and what answers the plugin's questions about its views while it runs.
    pub(super) fn send(&self, views: &[ViewTokens<'_>]) -> (Vec<Entry>, RVec<NamedHandle>, Vec<LentView>) {
        let names: Vec<&str> = views.iter().map(|v| v.name).collect();
        let mut settings = vec![entry("views", names.join(","))];
        let (mut tensors, mut lent) = (RVec::new(), Vec::new());
        for view in views {
            let (h, w) = view.grid;
            if let Some(geometry) = &view.geometry {
                let view_id = self.context.lend(geometry.clone());
                settings.push(entry(format!("view_id.{}", view.name), view_id.id().0));
                lent.push(view_id);
            }
            settings.push(entry(format!("grid.{}", view.name), format!("{h},{w}")));
            for (part, tensor) in [("class_tokens", view.class_tokens), ("patch_tokens", view.patch_tokens)] {
                tensors.push(self.named(format!("{}/{part}", view.name), tensor));
            }
            for (part, tensor) in [("mask_scalars", &view.mask.scalars), ("mask_cover", &view.mask.cover)] {
                tensors.extend(tensor.iter().map(|t| self.named(format!("{}/{part}", view.name), t)));
            }
        }
        (settings, tensors, lent)
    }

    fn named(&self, name: impl Into<String>, tensor: &Tensor) -> NamedHandle {
        NamedHandle { name: name.into().into(), handle: self.context.put(tensor.clone()) }
    }

    fn receive(&self, method: &'static str, handle: Handle) -> Result<Tensor, TaskError> {
        self.context.take(handle).map_err(|e| self.error(method, e))
    }

    /// The classification loss (shape `[]`) of logits `[N, C]`, by the plugin's code.
    ///
    /// # Errors
    /// The plugin's own error or panic.
    pub fn loss(&self, logits: &Tensor, targets: &Tensor, known: &Tensor) -> Result<Tensor, TaskError> {
        let tensors = [("logits", logits), ("targets", targets), ("known", known)];
        let tensors = tensors.map(|(name, t)| self.named(name, t)).into_iter().collect();
        let loss = self.owner.loss(self.context.id(), &self.settings, tensors);
        self.receive("loss", loss.map_err(|e| self.error("loss", e))?)
    }

    /// The segmentation loss (shape `[]`) of a view against its mask `[S, H, W]`, by the plugin's code.
    ///
    /// # Errors
    /// The plugin's error or panic, or a task without a decoder.
    pub fn segmentation_loss(&self, view: &ViewTokens<'_>, mask: &Tensor) -> Result<Tensor, TaskError> {
        let method = "segmentation loss";
        let part =
            self.segmentation.as_ref().ok_or_else(|| self.error(method, "the task has no such branch"))?;
        let (settings, mut tensors, _lent) = self.send(std::slice::from_ref(view));
        tensors.push(self.named("mask", mask));
        let loss = part.loss(self.context.id(), &settings, tensors);
        self.receive(method, loss.map_err(|e| self.error(method, e))?)
    }

    /// The segmentation decoder's logits of a view.
    ///
    /// # Errors
    /// The plugin's error or panic, or a task without a decoder.
    pub fn segmentation_logits(&self, view: &ViewTokens<'_>) -> Result<Tensor, TaskError> {
        let method = "segmentation logits";
        let part =
            self.segmentation.as_ref().ok_or_else(|| self.error(method, "the task has no such branch"))?;
        let (settings, tensors, _lent) = self.send(std::slice::from_ref(view));
        let logits = part.logits(self.context.id(), &settings, tensors);
        self.receive(method, logits.map_err(|e| self.error(method, e))?)
    }
}

/// Refuses a backbone that the manifest does not name or that is too narrow.
fn fits(manifest: &Manifest, backbone: &BackboneInfo) -> Result<(), PluginError> {
    let need = &manifest.backbone;
    let refuse = |reason: String| Err(PluginError::Backbone { name: manifest.plugin.name.clone(), reason });
    if !need.takes_family(&backbone.family) {
        return refuse(format!(
            "needs a backbone of {}, found {}",
            need.families.join(" or "),
            backbone.family
        ));
    }
    if backbone.embed_dim < need.min_embed_dim {
        return refuse(format!(
            "needs an embedding of {} or more, found {}",
            need.min_embed_dim, backbone.embed_dim
        ));
    }
    Ok(())
}
