//! `export_plugin!`: from an author's type to a library a host can load.

use crate::abi::MANIFEST_MAGIC;

/// Length of the section for a manifest text.
#[doc(hidden)]
pub const fn section_length(text: &str, facts: &[&str]) -> usize {
    let mut n = MANIFEST_MAGIC.len() + 4 + text.len();
    let mut i = 0;
    while i < facts.len() {
        n += facts[i].len();
        i += 1;
    }
    n
}

/// The section's bytes: magic, length, text, and the facts of the build appended to the text.
///
/// `N` is [`section_length`] of the same arguments.
#[doc(hidden)]
pub const fn embedded_manifest<const N: usize>(text: &str, facts: &[&str]) -> [u8; N] {
    let mut out = [0u8; N];
    let mut at = 0;
    while at < MANIFEST_MAGIC.len() {
        out[at] = MANIFEST_MAGIC[at];
        at += 1;
    }
    let length = ((N - MANIFEST_MAGIC.len() - 4) as u32).to_le_bytes();
    let mut i = 0;
    while i < 4 {
        out[at] = length[i];
        at += 1;
        i += 1;
    }
    let mut part = 0;
    while part <= facts.len() {
        let bytes = if part == 0 { text.as_bytes() } else { facts[part - 1].as_bytes() };
        let mut j = 0;
        while j < bytes.len() {
            out[at] = bytes[j];
            at += 1;
            j += 1;
        }
        part += 1;
    }
    out
}

/// The manifest's text in a section's bytes, if they are one.
pub fn manifest_text(section: &[u8]) -> Option<&str> {
    let rest = section.strip_prefix(MANIFEST_MAGIC.as_slice())?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    std::str::from_utf8(rest.get(..length)?).ok()
}

/// Exports a task from a library.
///
/// The first argument is an expression that gives the task; the manifest's path is relative to the crate's
/// folder. The compiler checks the manifest: an unknown key or an invalid value is an error of the build. So is
/// `panic = "abort"`, with which a panic would end the host.
///
/// ```ignore
/// export_plugin!(LungNodule, manifest = "plugin.toml");
/// ```
#[macro_export]
macro_rules! export_plugin {
    ($task:expr, manifest = $path:literal $(,)?) => {
        #[cfg(panic = "abort")]
        ::core::compile_error!(
            "a plugin must be built with panic = \"unwind\": under \"abort\" its first panic would end the host"
        );

        #[doc(hidden)]
        #[allow(unsafe_code)]
        mod __anymc3d_export {
            use super::*;
            use $crate::abi;

            const TEXT: &str = $crate::__checked_manifest!($path);
            const FACTS: &[&str] = &[
                "\n[build]\nabi = \"",
                abi::objects::ABI_VERSION_TEXT,
                "\"\ntarget = \"",
                ::std::env::consts::ARCH,
                "-",
                ::std::env::consts::OS,
                "\"\n",
            ];
            const LENGTH: usize = $crate::__section_length(TEXT, FACTS);

            #[used]
            #[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__plg_manifest"))]
            #[cfg_attr(windows, unsafe(link_section = ".plgmeta"))]
            #[cfg_attr(not(any(windows, target_os = "macos")), unsafe(link_section = ".plugin_manifest"))]
            static MANIFEST: [u8; LENGTH] = $crate::embedded_manifest(TEXT, FACTS);

            extern "C" fn instantiate() -> abi::table::Answer<abi::objects::TaskObject> {
                abi::guard::guard_ffi("the task's constructor", || Ok(abi::shims::task_object($task)))
            }

            extern "C" fn module() -> abi::ModuleAnswer {
                // A reference from the module keeps the linker from collecting the section.
                let text = $crate::manifest_text(&MANIFEST).unwrap_or_default();
                abi::erase(abi::objects::PluginModule {
                    abi_version: abi::objects::ABI_VERSION,
                    manifest: text.into(),
                    instantiate,
                })
            }

            #[unsafe(no_mangle)]
            pub static ANYMC3D_PLUGIN_HEADER: abi::abi_stable::library::LibHeader = abi::header(module);
        }
    };
}
