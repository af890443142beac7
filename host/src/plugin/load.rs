//! From a library's path to a module whose layout is known to fit.
//!
//! Steps 1 and 2 (manifest and policy) run no code of the plugin; opening the library may run it.

use super::error::PluginError;
use super::layout;
use super::private_copy::private_copy;
use super::section::{self, Embedded};
use crate::fs::hex;
use abi_stable::library::{AbiHeaderRef, LibHeader, LibraryError};
use anymc3d_manifest::Manifest;
use anymc3d_plugin_api::abi::objects::{ABI_VERSION, ABI_VERSION_TEXT, HEADER_SYMBOL, PluginModule_Ref};
use anymc3d_registry::InstalledPackage;
use anymc3d_registry::package::FileRole;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A library that was checked and opened. It is never closed: its code may be referenced from anywhere.
pub struct Library {
    /// Where it was found.
    pub path: PathBuf,
    /// Digest of its bytes, hexadecimal.
    pub sha256: String,
    /// Its manifest and how it was built.
    pub embedded: Embedded,
    /// The installed package that it belongs to, if it does: verified before the library was opened.
    pub package: Option<InstalledPackage>,
    /// What the steps took.
    pub timing: LoadTiming,
    pub(crate) module: PluginModule_Ref,
}

/// How long each step of a load took.
#[derive(Debug, Clone, Copy)]
pub struct LoadTiming {
    /// Reading the file, its manifest, the policy and the digest.
    pub check: Duration,
    /// The private copy: made, or compared with the one that is there.
    pub copy: Duration,
    /// Opening the library.
    pub open: Duration,
    /// Layout check and root module.
    pub layout: Duration,
}

/// A library whose file was read and whose manifest was checked. None of its code has run; what is loaded later is what
/// was read here, whatever lies in the file by then.
pub struct Inspected {
    /// Where it was found.
    pub path: PathBuf,
    /// Digest of its bytes, hexadecimal.
    pub sha256: String,
    /// Its manifest and how it was built.
    pub embedded: Embedded,
    bytes: Vec<u8>,
    took: Duration,
}

/// Reads a library's manifest and digest, and applies the policy. No code of the library runs.
///
/// # Errors
/// When the file is unreadable, no library, without a manifest, or for another host.
pub fn inspect(path: &Path) -> Result<Inspected, PluginError> {
    let start = Instant::now();
    // Without its name: a plugin's path may name a project that is not everybody's. A test counts these lines.
    tracing::debug!("a library is read");
    let bytes = std::fs::read(path).map_err(|source| PluginError::Io {
        path: path.to_owned(),
        what: "cannot be read",
        source,
    })?;
    let embedded = section::read(path, &bytes)?;
    let refuse = |reason: String| Err(PluginError::Manifest { path: path.to_owned(), reason });
    let major = embedded.build.abi.split('.').next().and_then(|m| m.parse::<u32>().ok());
    if major != Some(ABI_VERSION >> 16) {
        let found = &embedded.build.abi;
        return refuse(format!(
            "built for ABI {found}, this host speaks {ABI_VERSION_TEXT}; rebuild the plugin"
        ));
    }
    if embedded.build.target != section::this_target() {
        let (found, ours) = (&embedded.build.target, section::this_target());
        return refuse(format!("built for {found}, this machine is {ours}"));
    }
    if let Some(key) = embedded.needs_newer_host() {
        return refuse(format!(
            "its manifest's `{key}` is unknown to this host, which would answer another question; upgrade the host"
        ));
    }
    let sha256 = hex(&Sha256::digest(&bytes));
    Ok(Inspected { path: path.to_owned(), sha256, embedded, bytes, took: start.elapsed() })
}

/// All five steps: manifest, policy, private copy, opening, layout.
///
/// # Errors
/// As [`inspect`] and [`Inspected::load`].
pub fn load(path: &Path) -> Result<Library, PluginError> {
    inspect(path)?.load()
}

impl Inspected {
    /// What the plugin says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.embedded.manifest
    }

    /// Bytes of the library.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Refuses another library than the one that was chosen, which had the digest `chosen`.
    ///
    /// # Errors
    /// [`PluginError::Changed`].
    pub fn is_still(self, chosen: &str) -> Result<Self, PluginError> {
        match self.sha256 == chosen {
            true => Ok(self),
            false => Err(PluginError::Changed {
                path: self.path,
                chosen: chosen.get(..12).unwrap_or(chosen).to_owned(),
                found: self.sha256.get(..12).unwrap_or(&self.sha256).to_owned(),
            }),
        }
    }

    /// The steps that may run code of the library: private copy, opening, layout. The file is not read again.
    ///
    /// # Errors
    /// When the package that it belongs to has another digest, or the copy cannot be made, opened, has another layout, or
    /// is of another manifest.
    pub fn load(self) -> Result<Library, PluginError> {
        let Self { path, sha256, embedded, bytes, took } = self;
        let start = Instant::now();
        let package = super::find::package_of(&path)?;
        if let Some(package) = &package {
            package.check(FileRole::Library, &sha256)?;
        }
        let checked = Instant::now();
        let copy = private_copy(&sha256, &bytes).map_err(|source| PluginError::Io {
            path: path.clone(),
            what: "cannot be copied for loading",
            source,
        })?;
        let copied = Instant::now();
        let header = copy.opened_once(|copy| open(&path, copy))?;
        let opened = Instant::now();
        let module = fitting_module(&path, header)?;
        let (says, is) = (&embedded.build.abi, module.abi_version());
        let refuse = |reason: String| PluginError::Manifest { path: path.clone(), reason };
        if *says != format!("{}.{}", is >> 16, is & 0xffff) {
            return Err(refuse(format!(
                "its manifest says ABI {says}, its code ABI {}.{}; build it anew",
                is >> 16,
                is & 0xffff
            )));
        }
        own_manifest(&embedded.text, module.manifest().as_str()).map_err(refuse)?;
        let timing = LoadTiming {
            check: took + (checked - start),
            copy: copied - checked,
            open: opened - copied,
            layout: opened.elapsed(),
        };
        Ok(Library { path, sha256, embedded, package, timing, module })
    }
}

/// Compares the manifest in the section with the one that the code has of itself: where a linker took in two plugins,
/// the section may be one's and the code the other's.
fn own_manifest(section: &str, code: &str) -> Result<(), String> {
    if section == code {
        return Ok(());
    }
    let name = |text: &str| match anymc3d_manifest::Manifest::parse(text) {
        Ok(parsed) => format!("plugin {} {}", parsed.manifest.plugin.name, parsed.manifest.plugin.version),
        Err(_) => "a manifest that cannot be read".to_owned(),
    };
    let (of_section, of_code) = (name(section), name(code));
    let differs = if of_section == of_code { ", in other words" } else { "" };
    Err(format!(
        "its manifest section says {of_section}, its code says {of_code}{differs}; expected one and the same. Build it \
         anew, without another plugin's crate among its dependencies"
    ))
}

fn open(path: &Path, copy: &Path) -> Result<&'static LibHeader, PluginError> {
    let refuse = |reason: String| PluginError::Open { path: path.to_owned(), reason };
    // SAFETY: opening a library runs its initialisers. The manifest says it is a plugin, policy has been checked,
    // and its bytes are a private copy that cannot change under us; trust in its code is the user's decision.
    let library = unsafe { open_now(copy) }.map_err(|e| refuse(e.to_string()))?;
    let library = Box::leak(Box::new(library));
    // SAFETY: `export_plugin!` writes the symbol as a static LibHeader, to which AbiHeaderRef is a reference. The
    // library is leaked, so the reference stays valid. `upgrade` checks the magic before it reads anything behind
    // it.
    let header = unsafe { library.get::<AbiHeaderRef>(HEADER_SYMBOL.as_bytes()) }.map(|symbol| *symbol);
    let header = header.map_err(|_| refuse(format!("has no symbol {HEADER_SYMBOL}")))?;
    header.upgrade().map_err(|_| PluginError::Layout {
        path: path.to_owned(),
        lines: vec!["  its abi_stable is not this host's 0.11; rebuild the plugin".to_owned()],
    })
}

fn fitting_module(path: &Path, header: &'static LibHeader) -> Result<PluginModule_Ref, PluginError> {
    layout::check(header).map_err(|lines| PluginError::Layout { path: path.to_owned(), lines })?;
    // SAFETY: the layout check above found that one of the two layouts of the root module, with everything
    // reachable from it, is a prefix of the other; missing fields are read as None.
    let module = unsafe { header.init_root_module_with_unchecked_layout::<PluginModule_Ref>() };
    module.map_err(|e| PluginError::Open { path: path.to_owned(), reason: module_error(&e) })
}

fn module_error(error: &LibraryError) -> String {
    error
        .to_string()
        .lines()
        .find(|l| !l.trim().is_empty())
        .unwrap_or("its module could not be made")
        .trim()
        .to_owned()
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

#[cfg(test)]
mod tests {
    use super::own_manifest;

    #[test]
    fn code_whose_manifest_is_not_the_sections_is_refused_by_both_names() {
        let text = include_str!("../../../plugins/lung_nodule/plugin.toml");
        let liver = include_str!("../../../plugins/liver_injury/plugin.toml");
        assert_eq!(own_manifest(text, text), Ok(()));
        let message = own_manifest(text, liver).unwrap_err();
        assert!(
            message
                .contains("section says plugin lung_nodule 0.1.0, its code says plugin liver_injury 0.1.0;")
        );
        let message = own_manifest(text, &text.replace("threshold = 0.5", "threshold = 0.4")).unwrap_err();
        assert!(message.contains("its code says plugin lung_nodule 0.1.0, in other words"), "{message}");
        assert!(own_manifest(text, "").unwrap_err().contains("a manifest that cannot be read"));
    }
}
