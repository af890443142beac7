//! A plugin's manifest, read from the library's own section without loading it.

use super::error::PluginError;
use anymc3d_manifest::Manifest;
use object::{Object, ObjectSection};
use serde::Deserialize;
use std::path::Path;

/// Sections that may hold the manifest: ELF, Mach-O, PE.
const SECTIONS: [&str; 3] = [".plugin_manifest", "__plg_manifest", ".plgmeta"];

/// What the build of a plugin wrote after its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct BuildFacts {
    /// ABI version, `major.minor`.
    pub abi: String,
    /// Architecture and system, for example `x86_64-linux`.
    pub target: String,
}

/// A manifest as found in a library.
#[derive(Debug, Clone)]
pub struct Embedded {
    /// The manifest.
    pub manifest: Manifest,
    /// Keys of a newer schema that were ignored.
    pub unknown_keys: Vec<String>,
    /// How the library was built.
    pub build: BuildFacts,
}

impl Embedded {
    /// The first unknown key that says how scans become pixels, or what the task is: ignored, it would be another task.
    pub fn needs_newer_host(&self) -> Option<&str> {
        let matters = |key: &&String| key.starts_with("view") || key.starts_with("task");
        self.unknown_keys.iter().find(matters).map(String::as_str)
    }
}

/// The platform of this host, as plugins name theirs.
pub fn this_target() -> String {
    format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)
}

/// Reads the manifest out of a library's bytes. No code of the library runs.
///
/// # Errors
/// When the bytes are no library, hold no manifest, or hold one that cannot be used.
pub fn read(path: &Path, bytes: &[u8]) -> Result<Embedded, PluginError> {
    let file = object::File::parse(bytes).map_err(|_| PluginError::NotALibrary {
        path: path.to_owned(),
        found: looks_like(bytes),
        expected: format!("a dynamic library for {}", this_target()),
    })?;
    let section = SECTIONS.iter().find_map(|name| file.section_by_name(name));
    let data = section.and_then(|s| s.data().ok());
    let text = data.and_then(anymc3d_plugin_api::manifest_text);
    let text = text.ok_or_else(|| PluginError::NoManifest { path: path.to_owned() })?;
    let refuse = |reason: String| PluginError::Manifest { path: path.to_owned(), reason };

    #[derive(Deserialize)]
    struct WithBuild {
        build: BuildFacts,
    }
    let build =
        toml::from_str::<WithBuild>(text).map_err(|e| refuse(format!("[build]: {}", e.message())))?.build;
    let mut parsed = Manifest::parse(text).map_err(|e| refuse(e.to_string()))?;
    parsed.unknown_keys.retain(|key| key != "build");
    Ok(Embedded { manifest: parsed.manifest, unknown_keys: parsed.unknown_keys, build })
}

fn looks_like(bytes: &[u8]) -> String {
    match bytes {
        [] => "an empty file".to_owned(),
        [0x1f, 0x8b, ..] => "gzip data".to_owned(),
        _ if bytes.iter().take(512).all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) => {
            "text".to_owned()
        }
        [0x7f, b'E', b'L', b'F', ..] => "a truncated ELF file".to_owned(),
        _ => format!("{} bytes of something else", bytes.len()),
    }
}
