//! A plugin's objects as the host holds them: called through their tables, dropped through their tables.

use super::table::host_ops;
use abi_stable::std_types::{RSlice, RVec};
use anymc3d_plugin_api::abi::objects::*;
use anymc3d_plugin_api::abi::table::Answer;
use anymc3d_plugin_api::abi::types::*;
use anymc3d_plugin_api::{Error, Result};
use std::mem::ManuallyDrop;

fn plain<T>(answer: Answer<T>) -> Result<T> {
    answer.into_result().map_err(Error::from)
}

fn list(entries: &[Entry]) -> RSlice<'_, Entry> {
    RSlice::from_slice(entries)
}

macro_rules! owner {
    ($(#[$doc:meta])* $name:ident, $object:ident, $part:literal) => {
        $(#[$doc])*
        pub(crate) struct $name {
            object: $object,
            /// Whose it is, for messages.
            plugin: &'static str,
        }

        impl $name {
            /// Drops the plugin's part and says how that went.
            pub fn close(self) -> Result<(), (&'static str, Error)> {
                let this = ManuallyDrop::new(self);
                // SAFETY: the object is ours, is given up here, and its library is never closed.
                plain(unsafe { (this.object.table.drop())(this.object.data) }).map_err(|e| (Self::PART, e))
            }

            const PART: &'static str = concat!("drop of ", $part);
        }

        // SAFETY: what stands behind the data is Send + Sync by the trait bounds of plugin-api's shims, whose
        // layout was checked; the pointer itself is never handed out.
        unsafe impl Send for $name {}
        // SAFETY: as above.
        unsafe impl Sync for $name {}

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: the object is ours, is dropped here only (`close` forgets it), and its library is never
                // closed.
                let dropped = plain(unsafe { (self.object.table.drop())(self.object.data) });
                if let Err(e) = dropped {
                    tracing::warn!("plugin {}: {}: {e}", self.plugin, Self::PART);
                }
            }
        }
    };
}

owner! {
    /// A task.
    TaskOwner, TaskObject, "the task"
}
owner! {
    /// A head.
    HeadOwner, HeadObject, "the head"
}
owner! {
    /// A segmentation branch.
    SegmentationOwner, SegmentationObject, "the segmentation branch"
}
owner! {
    /// A custom adapter.
    AdapterOwner, AdapterObject, "the adapter"
}

/// What a task says of the adapter of a view.
pub(crate) struct AdapterAnswer {
    pub settings: Vec<(String, String)>,
    pub custom: Option<AdapterOwner>,
}

impl TaskOwner {
    /// Runs the plugin's constructor.
    pub fn instantiate(module: PluginModule_Ref, plugin: &'static str) -> Result<Self> {
        plain((module.instantiate())()).map(|object| Self { object, plugin })
    }

    pub fn adapter(&self, context: ContextId, settings: &[Entry]) -> Result<AdapterAnswer> {
        // SAFETY: the data belongs to this table; both came as one object.
        let raw = plain(unsafe {
            (self.object.table.adapter())(self.object.data, host_ops(), context, list(settings))
        })?;
        let plugin = self.plugin;
        let custom = raw.custom.into_option().map(|object| AdapterOwner { object, plugin });
        let pairs = raw.settings.iter().map(|e| (e.key.to_string(), e.value.to_string())).collect();
        Ok(AdapterAnswer { settings: pairs, custom })
    }

    pub fn head(&self, context: ContextId, settings: &[Entry]) -> Result<HeadOwner> {
        // SAFETY: the data belongs to this table; both came as one object.
        plain(unsafe { (self.object.table.head())(self.object.data, host_ops(), context, list(settings)) })
            .map(|object| HeadOwner { object, plugin: self.plugin })
    }

    pub fn segmentation(&self, context: ContextId, settings: &[Entry]) -> Result<Option<SegmentationOwner>> {
        // SAFETY: the data belongs to this table; both came as one object.
        let part = unsafe {
            (self.object.table.segmentation())(self.object.data, host_ops(), context, list(settings))
        };
        Ok(plain(part)?.into_option().map(|object| SegmentationOwner { object, plugin: self.plugin }))
    }

    pub fn loss(&self, context: ContextId, settings: &[Entry], tensors: RVec<NamedHandle>) -> Result<Handle> {
        // SAFETY: the data belongs to this table; both came as one object.
        plain(unsafe {
            (self.object.table.loss())(self.object.data, host_ops(), context, list(settings), tensors)
        })
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
        plain(unsafe {
            (self.object.table.forward())(self.object.data, host_ops(), context, list(settings), tensors)
        })
    }
}

impl SegmentationOwner {
    pub fn logits(
        &self,
        context: ContextId,
        settings: &[Entry],
        tensors: RVec<NamedHandle>,
    ) -> Result<Handle> {
        // SAFETY: the data belongs to this table; both came as one object.
        plain(unsafe {
            (self.object.table.logits())(self.object.data, host_ops(), context, list(settings), tensors)
        })
    }

    pub fn loss(&self, context: ContextId, settings: &[Entry], tensors: RVec<NamedHandle>) -> Result<Handle> {
        // SAFETY: the data belongs to this table; both came as one object.
        plain(unsafe {
            (self.object.table.loss())(self.object.data, host_ops(), context, list(settings), tensors)
        })
    }
}

impl AdapterOwner {
    pub fn apply(
        &self,
        context: ContextId,
        site: u32,
        block: u64,
        settings: &[Entry],
        tensors: RVec<NamedHandle>,
    ) -> Result<Handle> {
        // SAFETY: the data belongs to this table; both came as one object.
        plain(unsafe {
            (self.object.table.apply())(
                self.object.data,
                host_ops(),
                context,
                site,
                block,
                list(settings),
                tensors,
            )
        })
    }
}
