//! A plugin's objects as the host holds them: called through their tables, dropped through their tables.

use super::table::host_ops;
use anymc3d_plugin_api::abi::objects::*;
use anymc3d_plugin_api::abi::table::Answer;
use anymc3d_plugin_api::abi::types::*;
use anymc3d_plugin_api::{Error, Result};
use abi_stable::std_types::{RSlice, RVec};

fn plain<T>(answer: Answer<T>) -> Result<T> {
    answer.into_result().map_err(Error::from)
}

fn list(entries: &[Entry]) -> RSlice<'_, Entry> {
    RSlice::from_slice(entries)
}

macro_rules! owner {
    ($(#[$doc:meta])* $name:ident, $object:ident) => {
        $(#[$doc])*
        pub(super) struct $name($object);

        // SAFETY: what stands behind the data is Send + Sync by the trait bounds of plugin-api's shims, whose
        // layout was checked; the pointer itself is never handed out.
        unsafe impl Send for $name {}
        // SAFETY: as above.
        unsafe impl Sync for $name {}

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: the object is ours, is dropped here only, and its library is never closed.
                let dropped = plain(unsafe { (self.0.table.drop())(self.0.data) });
                if let Err(e) = dropped {
                    tracing::warn!("a plugin failed while it was dropped: {e}");
                }
            }
        }
    };
}

owner! {
    /// A task.
    TaskOwner, TaskObject
}
owner! {
    /// A head.
    HeadOwner, HeadObject
}
owner! {
    /// A segmentation branch.
    SegmentationOwner, SegmentationObject
}
owner! {
    /// A custom adapter.
    AdapterOwner, AdapterObject
}

/// What a task says of the adapter of a view.
pub(super) struct AdapterAnswer {
    pub settings: Vec<(String, String)>,
    pub custom: Option<AdapterOwner>,
}

impl TaskOwner {
    /// Runs the plugin's constructor.
    pub fn instantiate(module: PluginModule_Ref) -> Result<Self> {
        plain((module.instantiate())()).map(Self)
    }

    pub fn adapter(&self, context: ContextId, settings: &[Entry]) -> Result<AdapterAnswer> {
        // SAFETY: the data belongs to this table; both came as one object.
        let raw = plain(unsafe { (self.0.table.adapter())(self.0.data, host_ops(), context, list(settings)) })?;
        let pairs = raw.settings.iter().map(|e| (e.key.to_string(), e.value.to_string())).collect();
        Ok(AdapterAnswer { settings: pairs, custom: raw.custom.into_option().map(AdapterOwner) })
    }

    pub fn head(&self, context: ContextId, settings: &[Entry]) -> Result<HeadOwner> {
        // SAFETY: the data belongs to this table; both came as one object.
        plain(unsafe { (self.0.table.head())(self.0.data, host_ops(), context, list(settings)) }).map(HeadOwner)
    }

    pub fn segmentation(&self, context: ContextId, settings: &[Entry]) -> Result<Option<SegmentationOwner>> {
        // SAFETY: the data belongs to this table; both came as one object.
        let part = unsafe { (self.0.table.segmentation())(self.0.data, host_ops(), context, list(settings)) };
        Ok(plain(part)?.into_option().map(SegmentationOwner))
    }

    pub fn loss(&self, context: ContextId, settings: &[Entry], tensors: RVec<NamedHandle>) -> Result<Handle> {
        // SAFETY: the data belongs to this table; both came as one object.
        plain(unsafe { (self.0.table.loss())(self.0.data, host_ops(), context, list(settings), tensors) })
    }
}

impl HeadOwner {
    pub fn forward(
        &self,
        context: ContextId,
        settings: &[Entry],
        tensors: RVec<NamedHandle>,
    ) -> Result<RVec<NamedHandle>> {
        // SAFETY: the data belongs to this table; both came as one object.
        plain(unsafe { (self.0.table.forward())(self.0.data, host_ops(), context, list(settings), tensors) })
    }
}

impl SegmentationOwner {
    pub fn logits(&self, context: ContextId, settings: &[Entry], tensors: RVec<NamedHandle>) -> Result<Handle> {
        // SAFETY: the data belongs to this table; both came as one object.
        plain(unsafe { (self.0.table.logits())(self.0.data, host_ops(), context, list(settings), tensors) })
    }

    pub fn loss(&self, context: ContextId, settings: &[Entry], tensors: RVec<NamedHandle>) -> Result<Handle> {
        // SAFETY: the data belongs to this table; both came as one object.
        plain(unsafe { (self.0.table.loss())(self.0.data, host_ops(), context, list(settings), tensors) })
    }
}

impl AdapterOwner {
    pub fn apply(&self, context: ContextId, site: u32, block: u64, tensors: RVec<NamedHandle>) -> Result<Handle> {
        // SAFETY: the data belongs to this table; both came as one object.
        plain(unsafe { (self.0.table.apply())(self.0.data, host_ops(), context, site, block, tensors) })
    }
}
