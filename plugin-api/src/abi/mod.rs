//! Everything that crosses the boundary between host and plugin. Hosts use this; authors of plugins do not need it.
//!
//! All `unsafe` of the crate is in this room, and in the statics that [`crate::export_plugin!`] writes.
#![allow(unsafe_code)]
// abi_stable names the reference to a prefix type `X_Ref`.
#![allow(non_camel_case_types)]

pub mod guard;
pub mod named;
pub mod objects;
pub mod ops;
#[cfg(feature = "testkit")]
pub(crate) mod owned;
pub mod shims;
pub mod table;
pub mod types;

pub use abi_stable;
use abi_stable::library::{CheckTypeLayout, LibHeader, RootModuleError};
use abi_stable::prefix_type::{PrefixRefTrait, PrefixTypeTrait};
use abi_stable::std_types::RResult;

/// Marks the start of the manifest section: eight bytes, then the length of the text as a little-endian `u32`.
pub const MANIFEST_MAGIC: &[u8; 8] = b"ANYMC3D\x01";

/// What a plugin's header constructor answers.
pub type ModuleAnswer =
    RResult<abi_stable::prefix_type::PrefixRef<abi_stable::marker_type::ErasedPrefix>, RootModuleError>;

/// Leaks a module into the form the header hands out.
pub fn erase(module: objects::PluginModule) -> ModuleAnswer {
    // SAFETY: the header built by `header` names `PluginModule_Ref` as its root module, so the host transmutes
    // the erased reference back into exactly this type.
    RResult::ROk(unsafe { module.leak_into_prefix().to_prefix_ref().cast() })
}

/// The header of a plugin.
pub const fn header(constructor: extern "C" fn() -> ModuleAnswer) -> LibHeader {
    // SAFETY: `erase` is the only maker of a `ModuleAnswer`, and it erases a `PluginModule_Ref`.
    unsafe { LibHeader::from_constructor::<objects::PluginModule_Ref>(constructor, CheckTypeLayout::Yes) }
}
