//! One shim per trait: the author's plain Rust behind the boundary's functions, each guarded, Drop included.

use super::guard::guard_ffi;
use super::objects::*;
use super::table::{Answer, HostOps_Ref};
use super::types::*;
use crate::TaskPlugin;
use crate::adapter::{Adapter, Site, SiteAdapter};
use crate::build::{Build, Settings};
use crate::error::{Error, Result};
use crate::geometry::GeometrySource;
use crate::head::{Head, HeadOutput, ViewFeatures};
use crate::loss::Targets;
use crate::mask_features::MaskFeatures;
use crate::segmentation::Segmentation;
use crate::tensor::{Host, Tensor};
use abi_stable::prefix_type::PrefixTypeTrait;
use abi_stable::std_types::{ROption, RSlice, RVec};

fn boxed<T>(value: T) -> Data {
    Box::into_raw(Box::new(value)).cast()
}

/// Frees a `Box<T>` made by [`boxed`].
///
/// # Safety
/// `data` comes from `boxed::<T>` and is not used afterwards.
unsafe extern "C" fn free<T>(data: Data) -> Answer<()> {
    guard_ffi("drop", || {
        // SAFETY: by this function's contract `data` is a live Box<T>, given up by the caller.
        drop(unsafe { Box::from_raw(data.cast::<T>()) });
        Ok(())
    })
}

/// # Safety
/// `data` comes from `boxed::<T>` and has not been freed.
unsafe fn borrow<'a, T>(data: Data) -> &'a T {
    // SAFETY: by this function's contract `data` points to a live T; every T here is Sync.
    unsafe { &*data.cast::<T>() }
}

fn host(ops: HostOps_Ref, context: ContextId) -> Host {
    Host::new(ops, context)
}

/// Takes named handles over, so that they are released whatever happens.
struct Received {
    host: Host,
    tensors: Vec<(String, Option<Tensor>)>,
}

impl Received {
    fn adopt(host: Host, named: RVec<NamedHandle>) -> Self {
        let tensors = named.into_iter().map(|n| (n.name.into_string(), Some(host.adopt(n.handle))));
        Self { host, tensors: tensors.collect() }
    }

    fn find(&mut self, name: &str) -> Option<Tensor> {
        self.tensors.iter_mut().find(|(n, t)| n == name && t.is_some()).and_then(|(_, t)| t.take())
    }

    fn take(&mut self, name: &str) -> Result<Tensor> {
        self.find(name).ok_or_else(|| Error::msg(format!("the host sent no `{name}`")))
    }

    fn views(&mut self, settings: &Settings) -> Result<Vec<ViewFeatures>> {
        let names = settings.find("views").unwrap_or_default().to_owned();
        names.split(',').filter(|n| !n.is_empty()).map(|name| self.view(name, settings)).collect()
    }

    fn view(&mut self, name: &str, settings: &Settings) -> Result<ViewFeatures> {
        let grid = settings.find(&format!("grid.{name}")).and_then(|g| g.split_once(','));
        let grid = grid.and_then(|(h, w)| Some([h.parse().ok()?, w.parse().ok()?]));
        let id = settings.find(&format!("view_id.{name}")).and_then(|id| id.parse().ok()).map(ViewId);
        Ok(ViewFeatures {
            name: name.to_owned(),
            class_tokens: self.take(&format!("{name}/class_tokens"))?,
            patch_tokens: self.take(&format!("{name}/patch_tokens"))?,
            grid: grid.ok_or_else(|| Error::msg(format!("the host sent no patch grid for view `{name}`")))?,
            mask: MaskFeatures::new(
                self.find(&format!("{name}/mask_scalars")),
                self.find(&format!("{name}/mask_cover")),
            ),
            geometry: GeometrySource::Host(self.host, id),
        })
    }
}

fn named(name: impl Into<String>, tensor: Tensor) -> NamedHandle {
    NamedHandle { name: name.into().into(), handle: tensor.into_handle() }
}

fn entry(key: &str, value: impl ToString) -> Entry {
    Entry { key: key.into(), value: value.to_string().into() }
}

// ---- task ----

/// The task object of an author's plugin.
pub fn task_object<P: TaskPlugin>(plugin: P) -> TaskObject {
    let table = TaskTable {
        drop: free::<P>,
        adapter: task_adapter::<P>,
        head: task_head::<P>,
        segmentation: task_segmentation::<P>,
        loss: task_loss::<P>,
    };
    TaskObject { data: boxed(plugin), table: table.leak_into_prefix() }
}

unsafe extern "C" fn task_adapter<P: TaskPlugin>(
    data: Data,
    ops: HostOps_Ref,
    context: ContextId,
    settings: RSlice<'_, Entry>,
) -> Answer<RawAdapter> {
    guard_ffi("adapter", || {
        // SAFETY: the host calls with the data of the object this table came with.
        let plugin = unsafe { borrow::<P>(data) };
        let build = Build::from_entries(host(ops, context), settings.as_slice())?;
        Ok(match plugin.adapter(&build)? {
            Adapter::None => {
                RawAdapter { settings: vec![entry("kind", "none")].into(), custom: ROption::RNone }
            }
            Adapter::Lora(lora) => {
                lora.check(build.backbone())?;
                let settings = vec![
                    entry("kind", "lora"),
                    entry("rank", lora.rank),
                    entry("alpha", lora.alpha),
                    entry("first_block", lora.first_block),
                    entry("patch_embed", lora.patch_embed),
                    entry("qkv", lora.qkv),
                    entry("output", lora.output),
                ];
                RawAdapter { settings: settings.into(), custom: ROption::RNone }
            }
            Adapter::Custom(code) => {
                let settings = vec![entry("kind", "custom"), entry("first_block", code.first_block())];
                let table = AdapterTable { drop: free::<Box<dyn SiteAdapter>>, apply: adapter_apply };
                let object = AdapterObject { data: boxed(code), table: table.leak_into_prefix() };
                RawAdapter { settings: settings.into(), custom: ROption::RSome(object) }
            }
        })
    })
}

unsafe extern "C" fn task_head<P: TaskPlugin>(
    data: Data,
    ops: HostOps_Ref,
    context: ContextId,
    settings: RSlice<'_, Entry>,
) -> Answer<HeadObject> {
    guard_ffi("head", || {
        // SAFETY: the host calls with the data of the object this table came with.
        let plugin = unsafe { borrow::<P>(data) };
        let head = plugin.head(&Build::from_entries(host(ops, context), settings.as_slice())?)?;
        let table = HeadTable { drop: free::<Box<dyn Head>>, forward: head_forward };
        Ok(HeadObject { data: boxed(head), table: table.leak_into_prefix() })
    })
}

unsafe extern "C" fn task_segmentation<P: TaskPlugin>(
    data: Data,
    ops: HostOps_Ref,
    context: ContextId,
    settings: RSlice<'_, Entry>,
) -> Answer<ROption<SegmentationObject>> {
    guard_ffi("segmentation", || {
        // SAFETY: the host calls with the data of the object this table came with.
        let plugin = unsafe { borrow::<P>(data) };
        let part = plugin.segmentation(&Build::from_entries(host(ops, context), settings.as_slice())?)?;
        Ok(part
            .map(|part| {
                let table = SegmentationTable {
                    drop: free::<Box<dyn Segmentation>>,
                    logits: segmentation_logits,
                    loss: segmentation_loss,
                };
                SegmentationObject { data: boxed(part), table: table.leak_into_prefix() }
            })
            .into())
    })
}

unsafe extern "C" fn task_loss<P: TaskPlugin>(
    data: Data,
    ops: HostOps_Ref,
    context: ContextId,
    settings: RSlice<'_, Entry>,
    tensors: RVec<NamedHandle>,
) -> Answer<Handle> {
    guard_ffi("loss", || {
        let mut received = Received::adopt(host(ops, context), tensors);
        // SAFETY: the host calls with the data of the object this table came with.
        let plugin = unsafe { borrow::<P>(data) };
        let build = Build::from_entries(host(ops, context), settings.as_slice())?;
        let targets = Targets::new(received.take("targets")?, received.take("known")?);
        Ok(plugin.loss(&build, &received.take("logits")?, &targets)?.into_handle())
    })
}

// ---- head ----

unsafe extern "C" fn head_forward(
    data: Data,
    ops: HostOps_Ref,
    context: ContextId,
    settings: RSlice<'_, Entry>,
    tensors: RVec<NamedHandle>,
) -> Answer<RVec<NamedHandle>> {
    guard_ffi("forward", || {
        let mut received = Received::adopt(host(ops, context), tensors);
        // SAFETY: the host calls with the data of the object this table came with.
        let head = unsafe { borrow::<Box<dyn Head>>(data) };
        let views = received.views(&Settings::new(settings.as_slice()))?;
        let HeadOutput { logits, slice_weights, view_weights, patch_weights, embedding } =
            head.forward(&views)?;
        let mut out = vec![named("logits", logits)];
        for (i, weights) in slice_weights.into_iter().enumerate() {
            out.push(named(format!("slice_weights/{i}"), weights));
        }
        for (i, weights) in patch_weights.into_iter().enumerate() {
            out.push(named(format!("patch_weights/{i}"), weights));
        }
        out.extend(view_weights.map(|w| named("view_weights", w)));
        out.extend(embedding.map(|e| named("embedding", e)));
        Ok(out.into())
    })
}

// ---- segmentation ----

unsafe extern "C" fn segmentation_logits(
    data: Data,
    ops: HostOps_Ref,
    context: ContextId,
    settings: RSlice<'_, Entry>,
    tensors: RVec<NamedHandle>,
) -> Answer<Handle> {
    guard_ffi("segmentation logits", || {
        let mut received = Received::adopt(host(ops, context), tensors);
        // SAFETY: the host calls with the data of the object this table came with.
        let part = unsafe { borrow::<Box<dyn Segmentation>>(data) };
        let views = received.views(&Settings::new(settings.as_slice()))?;
        let view = views.first().ok_or_else(|| Error::msg("segmentation was called without a view"))?;
        Ok(part.logits(view)?.into_handle())
    })
}

unsafe extern "C" fn segmentation_loss(
    data: Data,
    ops: HostOps_Ref,
    context: ContextId,
    settings: RSlice<'_, Entry>,
    tensors: RVec<NamedHandle>,
) -> Answer<Handle> {
    guard_ffi("segmentation loss", || {
        let mut received = Received::adopt(host(ops, context), tensors);
        // SAFETY: the host calls with the data of the object this table came with.
        let part = unsafe { borrow::<Box<dyn Segmentation>>(data) };
        let mask = received.take("mask")?;
        let views = received.views(&Settings::new(settings.as_slice()))?;
        let view = views.first().ok_or_else(|| Error::msg("segmentation was called without a view"))?;
        Ok(part.loss(view, &mask)?.into_handle())
    })
}

// ---- custom adapter ----

unsafe extern "C" fn adapter_apply(
    data: Data,
    ops: HostOps_Ref,
    context: ContextId,
    site: u32,
    block: u64,
    _settings: RSlice<'_, Entry>,
    tensors: RVec<NamedHandle>,
) -> Answer<Handle> {
    guard_ffi("adapter apply", || {
        let mut received = Received::adopt(host(ops, context), tensors);
        // SAFETY: the host calls with the data of the object this table came with.
        let adapter = unsafe { borrow::<Box<dyn SiteAdapter>>(data) };
        let block = usize::try_from(block).map_err(|_| Error::msg("a block beyond this machine"))?;
        let site = match site {
            0 => Site::PatchEmbed,
            1 => Site::Qkv(block),
            2 => Site::AttentionOutput(block),
            // A site of a later host: an adapter of this build leaves it as it is.
            _ => return Ok(received.take("output")?.into_handle()),
        };
        Ok(adapter.apply(site, &received.take("input")?, received.take("output")?)?.into_handle())
    })
}
