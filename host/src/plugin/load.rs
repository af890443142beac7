//! From a library's path to a module whose layout is known to fit.
//!
//! Steps 1 and 2 (manifest and policy) run no code of the plugin; from the opening on it may run.

use super::error::PluginError;
use super::layout;
use super::section::{self, Embedded};
use abi_stable::library::{AbiHeaderRef, RootModuleError};
use anymc3d_plugin_api::abi::objects::{ABI_VERSION, ABI_VERSION_TEXT, HEADER_SYMBOL, PluginModule_Ref};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A library that was checked and opened. It is never closed: its code may be referenced from anywhere.
pub struct Library {
    /// Where it was found.
    pub path: PathBuf,
    /// Digest of its bytes, hexadecimal.
    pub sha256: String,
    /// Its manifest and how it was built.
    pub embedded: Embedded,
    pub(super) module: PluginModule_Ref,
}

/// Reads a library's manifest and digest, and applies the policy that needs no code of it.
///
/// # Errors
/// When the file is unreadable, no library, without a manifest, or for another host.
pub fn inspect(path: &Path) -> Result<(Embedded, String, Vec<u8>), PluginError> {
    let bytes = std::fs::read(path)
        .map_err(|source| PluginError::Io { path: path.to_owned(), what: "cannot be read", source })?;
    let embedded = section::read(path, &bytes)?;
    let refuse = |reason: String| Err(PluginError::Manifest { path: path.to_owned(), reason });
    let major = embedded.build.abi.split('.').next().and_then(|m| m.parse::<u32>().ok());
    if major != Some(ABI_VERSION >> 16) {
        let found = &embedded.build.abi;
        return refuse(format!("built for ABI {found}, this host speaks {ABI_VERSION_TEXT}; rebuild the plugin"));
    }
    if embedded.build.target != section::this_target() {
        let (found, ours) = (&embedded.build.target, section::this_target());
        return refuse(format!("built for {found}, this machine is {ours}"));
    }
    let sha256 = hex(&Sha256::digest(&bytes));
    Ok((embedded, sha256, bytes))
}

/// All five steps: manifest, policy, private copy, opening, layout.
///
/// # Errors
/// As [`inspect`], and when the copy cannot be made, opened, or has another layout.
pub fn load(path: &Path) -> Result<Library, PluginError> {
    let (embedded, sha256, bytes) = inspect(path)?;
    let copy = private_copy(&sha256, &bytes)
        .map_err(|source| PluginError::Io { path: path.to_owned(), what: "cannot be copied for loading", source })?;
    let module = open(path, &copy)?;
    Ok(Library { path: path.to_owned(), sha256, embedded, module })
}

/// A copy that nobody overwrites: a library overwritten while it is open ends the process, and one renamed over
/// is silently not loaded anew. The name is the content's digest, so equal content is one library.
fn private_copy(sha256: &str, bytes: &[u8]) -> std::io::Result<PathBuf> {
    let home = crate::plugin::find::home().map(|h| h.join("cache").join("loaded"));
    let place = |folder: PathBuf| -> std::io::Result<PathBuf> {
        std::fs::create_dir_all(&folder)?;
        let target = folder.join(format!("{sha256}{}", std::env::consts::DLL_SUFFIX));
        // What lies there is compared, not trusted.
        if std::fs::read(&target).is_ok_and(|there| there == bytes) {
            return Ok(target);
        }
        let mut file = tempfile::NamedTempFile::new_in(&folder)?;
        file.write_all(bytes)?;
        file.persist(&target).map_err(|e| e.error)?;
        Ok(target)
    };
    match home.map(&place) {
        Some(Ok(path)) => Ok(path),
        // A read-only home must not keep a scan from being read.
        _ => place(std::env::temp_dir().join(format!("anymc3d-loaded-{}", std::process::id()))),
    }
}

fn open(path: &Path, copy: &Path) -> Result<PluginModule_Ref, PluginError> {
    let refuse = |reason: String| PluginError::Open { path: path.to_owned(), reason };
    // SAFETY: opening a library runs its initialisers. The manifest says it is a plugin, policy has been checked,
    // and its bytes are a private copy that cannot change under us; trust in its code is the user's decision.
    let library = unsafe { open_now(copy) }.map_err(|e| refuse(e.to_string()))?;
    let library = Box::leak(Box::new(library));
    // SAFETY: the symbol is written by `export_plugin!` as a static LibHeader, to which AbiHeaderRef is a
    // reference; the library is leaked, so the reference stays good. `upgrade` checks the magic before anything
    // behind it is believed.
    let header = unsafe { library.get::<AbiHeaderRef>(HEADER_SYMBOL.as_bytes()) }.map(|symbol| *symbol);
    let header = header.map_err(|_| refuse(format!("has no symbol {HEADER_SYMBOL}")))?;
    let header = header.upgrade().map_err(|_| PluginError::Layout {
        path: path.to_owned(),
        lines: vec!["  its abi_stable is not this host's 0.11; rebuild the plugin".to_owned()],
    })?;
    layout::check(header).map_err(|lines| PluginError::Layout { path: path.to_owned(), lines })?;
    // SAFETY: the layout check above found that one of the two layouts of the root module, with everything
    // reachable from it, is a prefix of the other; missing fields are read as None.
    let module = unsafe { header.init_root_module_with_unchecked_layout::<PluginModule_Ref>() };
    module.map_err(|e| refuse(module_error(&e.to_string())))
}

fn module_error(text: &str) -> String {
    let _ = std::marker::PhantomData::<RootModuleError>;
    text.lines().find(|l| !l.trim().is_empty()).unwrap_or("its module could not be made").trim().to_owned()
}

#[cfg(unix)]
unsafe fn open_now(copy: &Path) -> Result<libloading::Library, libloading::Error> {
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
    // SAFETY: passed on from the caller.
    unsafe { Library::open(Some(copy), RTLD_NOW | RTLD_LOCAL) }.map(Into::into)
}

#[cfg(not(unix))]
unsafe fn open_now(copy: &Path) -> Result<libloading::Library, libloading::Error> {
    // SAFETY: passed on from the caller.
    unsafe { libloading::Library::new(copy) }
}

/// Bytes as lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
