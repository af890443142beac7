//! A plugin at work on a backbone: its adapters, its head, its branch for training, and their parameters.

use crate::backbone::{Site, SiteSpec};
use crate::plugin::Library;
use crate::plugin::PluginError;
use crate::plugin::context::{Context, LentView, Parameter, ParameterSource};
use crate::plugin::object::{AdapterOwner, HeadOwner, SegmentationOwner, TaskOwner};
use crate::task::variant::{AdapterChoice, Variant};
use abi_stable::std_types::RVec;
use anymc3d_manifest::{LossKind, Manifest};
use anymc3d_plugin_api::abi::types::{ContextId, Entry, Handle, InitSpec, NamedHandle};
use anymc3d_plugin_api::{BackboneInfo, Lora, SliceGeometry};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A task's code or answer failed on a case.
#[derive(Debug, Clone, thiserror::Error)]
#[error("plugin {task}: {method}: {reason}")]
pub struct TaskError {
    /// Plugin.
    pub task: String,
    /// Method that failed.
    pub method: &'static str,
    /// Why.
    pub reason: String,
}

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
    /// `[6]`, see [`anymc3d_plugin_api::MASK_SCALARS`].
    pub scalars: Option<Tensor>,
    /// `[S, h·w]`, 0 to 1.
    pub cover: Option<Tensor>,
}

impl MaskTensors {
    /// From the mask's scalars, and its share of each patch with the number of patches of a slice.
    ///
    /// # Errors
    /// When the device has no memory for them.
    pub fn new(
        scalars: Option<[f64; 6]>,
        cover: Option<(Vec<f32>, usize)>,
        device: &Device,
    ) -> candle_core::Result<Self> {
        let scalars = scalars.map(|s| Tensor::new(&s.map(|v| v as f32), device)).transpose()?;
        let cover = cover.map(|(values, patches)| {
            let slices = values.len() / patches.max(1);
            Tensor::from_vec(values, (slices, patches), device)
        });
        Ok(Self { scalars, cover: cover.transpose()? })
    }
}

/// What a head answered, checked.
pub struct HeadAnswer {
    /// `[C]`
    pub logits: Tensor,
    /// Per view that was given: `[S]`, if the head tells them.
    pub slice_weights: Vec<Tensor>,
    /// `[V]`, if the head fuses views.
    pub view_weights: Option<Tensor>,
    /// Per view that was given: `[S, h, w]`, if the head weighs patches.
    pub patch_weights: Vec<Tensor>,
}

/// One low-rank term of a declared adapter.
#[derive(Debug, Clone)]
pub struct LoraPair {
    /// `[r, d_in]`
    pub a: Tensor,
    /// `[d_out, r]`
    pub b: Tensor,
}

/// The adapter of one view.
pub enum TaskAdapter {
    /// The backbone as it is.
    None,
    /// Declared low-rank terms by site: `patch_embed`, `block.N.attention.qkv`, `block.N.attention.o_proj`.
    Lora {
        /// The declaration.
        lora: Lora,
        /// Terms by site.
        pairs: BTreeMap<String, LoraPair>,
    },
    /// The plugin's own code.
    Custom(CustomAdapter),
}

/// A plugin's code at the sites of the backbone.
pub struct CustomAdapter {
    owner: AdapterOwner,
    context: &'static Context,
    settings: Vec<Entry>,
    /// First block it changes.
    pub first_block: usize,
}

/// A plugin at work on a backbone.
pub struct Task {
    // Dropped in this order: parts before the task that made them.
    head: HeadOwner,
    segmentation: Option<SegmentationOwner>,
    adapters: Vec<TaskAdapter>,
    owner: TaskOwner,
    context: &'static Context,
    settings: Vec<Entry>,
    manifest: Manifest,
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
        fits(&manifest, backbone)?;
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
                outcomes.push(custom.owner.close());
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
    fn send(&self, views: &[ViewTokens<'_>]) -> (Vec<Entry>, RVec<NamedHandle>, Vec<LentView>) {
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

    /// Runs the head on the views of a case and checks its output.
    ///
    /// # Errors
    /// The plugin's error or panic; logits or weights of a wrong shape; NaN or infinity.
    pub fn head(&self, views: &[ViewTokens<'_>]) -> Result<HeadAnswer, TaskError> {
        let method = "forward";
        let before = self.context.live_handles();
        let (settings, tensors, _lent) = self.send(views);
        let answer = self.head.forward(self.context.id(), &settings, tensors);
        let mut logits = None;
        let mut weights: BTreeMap<usize, Tensor> = BTreeMap::new();
        let mut patches: BTreeMap<usize, Tensor> = BTreeMap::new();
        let mut view_weights = None;
        // Everything that came back is taken before anything is refused: no handle stays behind.
        let mut stale = None;
        for NamedHandle { name, handle } in answer.map_err(|e| self.error(method, e))? {
            let tensor = match self.context.take(handle) {
                Ok(tensor) => tensor,
                Err(e) => {
                    stale.get_or_insert_with(|| self.error(method, format!("`{name}`: {e}")));
                    continue;
                }
            };
            match name.as_str() {
                "logits" => logits = Some(tensor),
                "view_weights" => view_weights = Some(tensor),
                other => {
                    if let Some(i) = other.strip_prefix("slice_weights/").and_then(|i| i.parse().ok()) {
                        weights.insert(i, tensor);
                    } else if let Some(i) = other.strip_prefix("patch_weights/").and_then(|i| i.parse().ok())
                    {
                        patches.insert(i, tensor);
                    }
                }
            }
        }
        if let Some(error) = stale {
            return Err(error);
        }
        let kept = self.context.live_handles().saturating_sub(before);
        if kept > 0 {
            tracing::debug!(task = self.context.task(), kept, "the head kept handles beyond its call");
        }
        let outputs = self.manifest.task.outputs();
        let logits = logits.ok_or_else(|| self.error(method, "answered without logits"))?;
        self.check_shape(method, "logits", &logits, &[outputs])?;
        let slice_weights: Vec<Tensor> = weights.into_values().collect();
        if !slice_weights.is_empty() && slice_weights.len() != views.len() {
            let (found, expected) = (slice_weights.len(), views.len());
            return Err(
                self.error(method, format!("slice weights for {found} views, expected {expected} or none"))
            );
        }
        for (weights, view) in slice_weights.iter().zip(views) {
            let slices = view.class_tokens.dims()[0];
            self.check_shape(method, "slice weights", weights, &[slices])?;
        }
        if let Some(weights) = &view_weights {
            self.check_shape(method, "view weights", weights, &[views.len()])?;
        }
        let patch_weights: Vec<Tensor> = patches.into_values().collect();
        if !patch_weights.is_empty() && patch_weights.len() != views.len() {
            let (found, expected) = (patch_weights.len(), views.len());
            return Err(
                self.error(method, format!("patch weights for {found} views, expected {expected} or none"))
            );
        }
        for (weights, view) in patch_weights.iter().zip(views) {
            let dims = [view.class_tokens.dims()[0], view.grid.0, view.grid.1];
            self.check_shape(method, "patch weights", weights, &dims)?;
        }
        Ok(HeadAnswer { logits, slice_weights, view_weights, patch_weights })
    }

    fn check_shape(
        &self,
        method: &'static str,
        what: &str,
        t: &Tensor,
        dims: &[usize],
    ) -> Result<(), TaskError> {
        if t.dims() != dims {
            return Err(self.error(method, format!("{what} of shape {:?}, expected {dims:?}", t.dims())));
        }
        let values =
            crate::plugin::ops::read(t).map_err(|e| self.error(method, crate::device::one_line(&e)))?;
        match values.iter().find(|v| !v.is_finite()) {
            Some(bad) => Err(self.error(method, format!("{what} with {bad}"))),
            None => Ok(()),
        }
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

impl CustomAdapter {
    /// The tensor that the plugin returns for a site's output. Sites: 0 patch embedding, 1 qkv, 2 attention output.
    ///
    /// # Errors
    /// The plugin's error or panic, or an output of another shape.
    pub fn apply(
        &self,
        site: u32,
        block: usize,
        input: &Tensor,
        output: &Tensor,
    ) -> Result<Tensor, TaskError> {
        let error = |reason: String| TaskError {
            task: self.context.task().to_owned(),
            method: "adapter apply",
            reason,
        };
        let named =
            |name: &str, t: &Tensor| NamedHandle { name: name.into(), handle: self.context.put(t.clone()) };
        let tensors = [named("input", input), named("output", output)].into_iter().collect();
        let id: ContextId = self.context.id();
        let answer = self.owner.apply(id, site, block as u64, &self.settings, tensors);
        let answer = answer.map_err(|e| error(e.to_string()))?;
        let tensor = self.context.take(answer).map_err(|e| error(e.to_string()))?;
        if tensor.dims() != output.dims() {
            return Err(error(format!(
                "an output of shape {:?}, expected {:?}",
                tensor.dims(),
                output.dims()
            )));
        }
        Ok(tensor)
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

fn adapter(
    context: &'static Context,
    backbone: &BackboneInfo,
    prefix: &str,
    settings: &[Entry],
    declared: &BTreeMap<String, String>,
    custom: Option<AdapterOwner>,
    variant: &Variant,
) -> anymc3d_plugin_api::Result<TaskAdapter> {
    use anymc3d_plugin_api::Error;
    let text = |key: &str| {
        declared.get(key).map(String::as_str).ok_or_else(|| Error::msg(format!("declared without `{key}`")))
    };
    let number = |key: &str| -> anymc3d_plugin_api::Result<usize> {
        text(key)?.parse().map_err(|_| Error::msg(format!("`{key}` is not a number")))
    };
    let kind = text("kind")?;
    let lora = match kind {
        "lora" => {
            let alpha = text("alpha")?.parse().map_err(|_| Error::msg("`alpha` is not a number"))?;
            let on = |key: &str| Ok::<_, Error>(text(key)? == "true");
            let mut lora =
                Lora::new(number("rank")?, alpha).at(on("patch_embed")?, on("qkv")?, on("output")?);
            lora.first_block = number("first_block")?;
            Some(lora)
        }
        _ => None,
    };
    if let Some(lora) = variant.lora(lora, backbone).map_err(Error::msg)? {
        // The plugin's side checked it with the plugin's build of the check; this side allocates.
        lora.check(backbone)?;
        let pairs = lora_pairs(context, backbone, prefix, &lora)?;
        return Ok(TaskAdapter::Lora { lora, pairs });
    }
    match kind {
        _ if variant.adapter == Some(AdapterChoice::None) => Ok(TaskAdapter::None),
        "none" => Ok(TaskAdapter::None),
        "custom" => {
            let owner = custom.ok_or_else(|| Error::msg("declared as custom without code"))?;
            Ok(TaskAdapter::Custom(CustomAdapter {
                owner,
                context,
                settings: settings.to_vec(),
                first_block: number("first_block")?,
            }))
        }
        other => {
            Err(Error::msg(format!("an adapter of kind `{other}` is unknown to this host; upgrade the host")))
        }
    }
}

/// A like PEFT's (uniform within `± 1 / sqrt(d_in)`), B zero: the adapted backbone starts as the frozen one.
fn lora_pairs(
    context: &Context,
    backbone: &BackboneInfo,
    prefix: &str,
    lora: &Lora,
) -> anymc3d_plugin_api::Result<BTreeMap<String, LoraPair>> {
    let adapted = |s: &SiteSpec| match s.site {
        Site::PatchEmbed => lora.patch_embed,
        Site::Qkv(block) => lora.qkv && block >= lora.first_block,
        Site::AttentionOutput(block) => lora.output && block >= lora.first_block,
    };
    let sites = SiteSpec::of_vit(backbone.embed_dim, backbone.blocks, backbone.patch_size);
    let mut pairs = BTreeMap::new();
    for SiteSpec { site, d_in, d_out } in sites.into_iter().filter(adapted) {
        let site = site.name();
        let bound = 1.0 / (d_in as f64).sqrt();
        let uniform = InitSpec { kind: 3, a: -bound, b: bound };
        let zeros = InitSpec { kind: 0, a: 0.0, b: 0.0 };
        let a = context.parameter(&format!("{prefix}.{site}.lora_A"), &[lora.rank, d_in], uniform)?;
        let b = context.parameter(&format!("{prefix}.{site}.lora_B"), &[d_out, lora.rank], zeros)?;
        pairs.insert(site, LoraPair { a, b });
    }
    Ok(pairs)
}
