//! A plugin's parts as they cross the boundary: an opaque pointer and a table of functions over it.
//!
//! The plugin makes an object; the host calls it and finally drops it, always through the table, so that the allocator
//! that gave the memory also frees it. Each table is a prefix type and grows only at its end.

use super::table::{Answer, HostOps_Ref};
use super::types::*;
use abi_stable::StableAbi;
use abi_stable::library::RootModule;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::{ROption, RSlice, RStr, RVec};

/// The ABI version of this build: `major << 16 | minor`.
pub const ABI_VERSION: u32 = 1 << 16 | 1;
/// The same for people.
pub const ABI_VERSION_TEXT: &str = "1.1";
/// Symbol under which a plugin's header is found.
pub const HEADER_SYMBOL: &str = "ANYMC3D_PLUGIN_HEADER";

/// What the plugin's functions get as `self`.
pub type Data = *mut ();

/// Root module of a plugin.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
#[sabi(kind(Prefix(prefix_ref = PluginModule_Ref)))]
#[sabi(missing_field(option))]
pub struct PluginModule {
    /// The ABI version the plugin was built with.
    pub abi_version: u32,
    /// The manifest section, as embedded.
    pub manifest: RStr<'static>,
    /// Makes the task.
    #[sabi(last_prefix_field)]
    pub instantiate: extern "C" fn() -> Answer<TaskObject>,
}

impl RootModule for PluginModule_Ref {
    abi_stable::declare_root_module_statics! {PluginModule_Ref}
    const BASE_NAME: &'static str = "anymc3d_plugin";
    const NAME: &'static str = "anymc3d_plugin";
    const VERSION_STRINGS: VersionStrings = VersionStrings::new("1.0.0");
}

macro_rules! object {
    ($(#[$doc:meta])* $name:ident, $table:ident) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(StableAbi, Clone, Copy)]
        pub struct $name {
            /// Owned by whoever holds the object, until `drop` of the table.
            pub data: Data,
            /// Its functions.
            pub table: $table,
        }
    };
}

object! {
    /// A [`crate::TaskPlugin`] as it crosses the boundary.
    TaskObject, TaskTable_Ref
}
object! {
    /// A [`crate::Head`] as it crosses the boundary.
    HeadObject, HeadTable_Ref
}
object! {
    /// A [`crate::Segmentation`] as it crosses the boundary.
    SegmentationObject, SegmentationTable_Ref
}
object! {
    /// A [`crate::SiteAdapter`] as it crosses the boundary.
    AdapterObject, AdapterTable_Ref
}

/// An adapter: settings for what is declared, an object for what is code.
#[repr(C)]
#[derive(StableAbi)]
pub struct RawAdapter {
    /// `kind` = `none`, `lora` (with `rank`, `alpha`, `first_block`, `patch_embed`, `qkv`, `output`) or `custom`
    /// (with `first_block`).
    pub settings: RVec<Entry>,
    /// The code of a custom adapter.
    pub custom: ROption<AdapterObject>,
}

/// Functions of a task.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
#[sabi(kind(Prefix(prefix_ref = TaskTable_Ref)))]
#[sabi(missing_field(option))]
pub struct TaskTable {
    /// Frees the object.
    pub drop: unsafe extern "C" fn(Data) -> Answer<()>,
    /// The adapter of one view.
    pub adapter: unsafe extern "C" fn(Data, HostOps_Ref, ContextId, RSlice<'_, Entry>) -> Answer<RawAdapter>,
    /// The head.
    pub head: unsafe extern "C" fn(Data, HostOps_Ref, ContextId, RSlice<'_, Entry>) -> Answer<HeadObject>,
    /// The segmentation branch, if the task has one.
    pub segmentation: unsafe extern "C" fn(
        Data,
        HostOps_Ref,
        ContextId,
        RSlice<'_, Entry>,
    ) -> Answer<ROption<SegmentationObject>>,
    /// The classification loss from `logits`, `targets` and `known`.
    #[sabi(last_prefix_field)]
    pub loss: unsafe extern "C" fn(
        Data,
        HostOps_Ref,
        ContextId,
        RSlice<'_, Entry>,
        RVec<NamedHandle>,
    ) -> Answer<Handle>,
}

/// Functions of a head.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
#[sabi(kind(Prefix(prefix_ref = HeadTable_Ref)))]
#[sabi(missing_field(option))]
pub struct HeadTable {
    /// Frees the object.
    pub drop: unsafe extern "C" fn(Data) -> Answer<()>,
    /// From `VIEW/class_tokens` and `VIEW/patch_tokens` (with `grid.VIEW` = `h,w` in the settings, and `view_id.VIEW` if the
    /// host knows slice positions; since 1.1 `VIEW/mask_scalars` and `VIEW/mask_cover` where the manifest asks for them) to `logits`, `slice_weights/I`, `patch_weights/I`, `view_weights` and `embedding`; a host ignores
    /// names that it does not know.
    #[sabi(last_prefix_field)]
    pub forward: unsafe extern "C" fn(
        Data,
        HostOps_Ref,
        ContextId,
        RSlice<'_, Entry>,
        RVec<NamedHandle>,
    ) -> Answer<RVec<NamedHandle>>,
}

/// Functions of a segmentation branch.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
#[sabi(kind(Prefix(prefix_ref = SegmentationTable_Ref)))]
#[sabi(missing_field(option))]
pub struct SegmentationTable {
    /// Frees the object.
    pub drop: unsafe extern "C" fn(Data) -> Answer<()>,
    /// Logits of one view.
    pub logits: unsafe extern "C" fn(
        Data,
        HostOps_Ref,
        ContextId,
        RSlice<'_, Entry>,
        RVec<NamedHandle>,
    ) -> Answer<Handle>,
    /// Loss of one view against `mask`.
    #[sabi(last_prefix_field)]
    pub loss: unsafe extern "C" fn(
        Data,
        HostOps_Ref,
        ContextId,
        RSlice<'_, Entry>,
        RVec<NamedHandle>,
    ) -> Answer<Handle>,
}

/// Functions of a custom adapter.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
#[sabi(kind(Prefix(prefix_ref = AdapterTable_Ref)))]
#[sabi(missing_field(option))]
pub struct AdapterTable {
    /// Frees the object.
    pub drop: unsafe extern "C" fn(Data) -> Answer<()>,
    /// Site (0 patch embedding, 1 qkv, 2 attention output), block, `input` and `output` to the new output. The settings
    /// name the `view`; like all settings they may come to hold more.
    #[sabi(last_prefix_field)]
    pub apply: unsafe extern "C" fn(
        Data,
        HostOps_Ref,
        ContextId,
        u32,
        u64,
        RSlice<'_, Entry>,
        RVec<NamedHandle>,
    ) -> Answer<Handle>,
}
