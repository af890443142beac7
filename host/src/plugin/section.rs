//! A plugin's manifest, read from the library's own section without loading it.

use super::error::PluginError;
use anymc3d_manifest::Manifest;
use anymc3d_plugin_api::abi::MANIFEST_MAGIC;
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
    /// The record's text, word for word: what the loaded module must say of itself too.
    pub text: String,
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
    let refuse = |reason: String| PluginError::Manifest { path: path.to_owned(), reason };
    // A library may hold several sections of the name: each counts.
    let named = file.sections().filter(|s| s.name().is_ok_and(|name| SECTIONS.contains(&name)));
    let mut texts = Vec::new();
    for data in named.filter_map(|s| s.data().ok()) {
        texts.extend(records(data).map_err(refuse)?);
    }
    let text = match &texts[..] {
        [] => return Err(PluginError::NoManifest { path: path.to_owned() }),
        [one] => *one,
        several => return Err(refuse(several_manifests(several))),
    };

    #[derive(Deserialize)]
    struct WithBuild {
        build: BuildFacts,
    }
    let build =
        toml::from_str::<WithBuild>(text).map_err(|e| refuse(format!("[build]: {}", e.message())))?.build;
    let mut parsed = Manifest::parse(text).map_err(|e| refuse(e.to_string()))?;
    parsed.unknown_keys.retain(|key| key != "build");
    Ok(Embedded {
        manifest: parsed.manifest,
        unknown_keys: parsed.unknown_keys,
        build,
        text: text.to_owned(),
    })
}

/// The texts of a section's records, in order. Linkers concatenate the records of all crates and may pad with zeros.
///
/// # Errors
/// When other bytes follow the first record: the code does not know what the linker did.
fn records(section: &[u8]) -> Result<Vec<&str>, String> {
    let mut texts = Vec::new();
    let mut rest = section;
    while let Some(text) = anymc3d_plugin_api::manifest_text(rest) {
        texts.push(text);
        rest = rest.get(MANIFEST_MAGIC.len() + 4 + text.len()..).unwrap_or_default();
        let padding = rest.iter().take_while(|b| **b == 0).count();
        rest = &rest[padding..];
    }
    if !texts.is_empty() && !rest.is_empty() {
        return Err(format!(
            "{} bytes follow its manifest that are no manifest; expected one record; build it anew",
            rest.len()
        ));
    }
    Ok(texts)
}

/// Which of several comes first depends on the linker and the LTO mode: none of them can be believed.
fn several_manifests(texts: &[&str]) -> String {
    let name = |text: &&str| match Manifest::parse(text) {
        Ok(parsed) => format!("{} {}", parsed.manifest.plugin.name, parsed.manifest.plugin.version),
        Err(_) => "one that cannot be read".to_owned(),
    };
    let names: Vec<String> = texts.iter().map(name).collect();
    format!(
        "holds {} manifests: {}; expected one. A plugin's crate that depends on another plugin's crate takes its \
         manifest in: move what both use into a crate without `export_plugin!`",
        names.len(),
        names.join(", ")
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A record as `export_plugin!` writes it.
    fn record(name: &str) -> Vec<u8> {
        let text = format!(
            r#"
            schema = 1
            [plugin]
            name = "{name}"
            version = "0.1.0"
            summary = "Is it there?"
            authors = ["A"]
            license = "Apache-2.0"
            intended_use = "Research only."
            [task]
            kind = "binary"
            labels = ["it"]
            loss = {{ kind = "bce" }}
            [backbone]
            families = ["dinov2"]
            min_embed_dim = 384
            [[view]]
            name = "axial"
            modality = "CT"
            axis = "axial"
            slices = 4
            size = [56, 56]
            fit = "square"
            region = "full"
            intensity = {{ kind = "window", windows = [[-1000, 400]] }}
            [build]
            abi = "1.0"
            target = "x86_64-linux"
            "#
        );
        let length = u32::try_from(text.len()).unwrap().to_le_bytes();
        [MANIFEST_MAGIC.as_slice(), &length, text.as_bytes()].concat()
    }

    /// A 64-bit ELF file with nothing but these sections, each called `.plugin_manifest`.
    fn elf(sections: &[Vec<u8>]) -> Vec<u8> {
        const NAMES: &[u8] = b"\0.plugin_manifest\0.shstrtab\0";
        let mut bytes = vec![0u8; 64];
        let mut headers = vec![[0u8; 64]];
        let mut add = |bytes: &mut Vec<u8>, name: u32, kind: u32, data: &[u8]| {
            let mut header = [0u8; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[4..8].copy_from_slice(&kind.to_le_bytes());
            header[24..32].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
            header[32..40].copy_from_slice(&(data.len() as u64).to_le_bytes());
            bytes.extend_from_slice(data);
            headers.push(header);
        };
        sections.iter().for_each(|data| add(&mut bytes, 1, 1, data));
        add(&mut bytes, 18, 3, NAMES);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let at = bytes.len() as u64;
        let count = headers.len() as u16;
        headers.iter().for_each(|h| bytes.extend_from_slice(h));
        // Identification, type (shared object), machine (x86-64), version, sections' place, sizes and count.
        bytes[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0]);
        bytes[16..24].copy_from_slice(&[3, 0, 62, 0, 1, 0, 0, 0]);
        bytes[40..48].copy_from_slice(&at.to_le_bytes());
        bytes[52..54].copy_from_slice(&64u16.to_le_bytes());
        bytes[58..60].copy_from_slice(&64u16.to_le_bytes());
        bytes[60..62].copy_from_slice(&count.to_le_bytes());
        bytes[62..64].copy_from_slice(&(count - 1).to_le_bytes());
        bytes
    }

    fn refused(sections: &[Vec<u8>]) -> String {
        read(Path::new("libboth.so"), &elf(sections)).unwrap_err().to_string()
    }

    #[test]
    fn one_record_is_read_with_zeros_after_it_or_without() {
        for padding in [0, 1, 512] {
            let section = [record("knee"), vec![0; padding]].concat();
            let embedded = read(Path::new("libknee.so"), &elf(&[section])).unwrap();
            assert_eq!(embedded.manifest.plugin.name, "knee");
            assert!(embedded.text.ends_with("x86_64-linux\"\n            "), "{}", embedded.text);
        }
        assert!(refused(&[]).contains("without an AnyMC3D manifest"));
    }

    #[test]
    fn two_manifests_in_one_library_are_refused_by_both_names_wherever_they_lie() {
        let (hip, knee) = (record("hip"), record("knee"));
        let zeros = vec![0u8; 12];
        for sections in [
            vec![[hip.clone(), knee.clone()].concat()],
            vec![[hip.clone(), zeros.clone(), knee.clone(), zeros].concat()],
            vec![hip.clone(), knee.clone()],
        ] {
            let message = refused(&sections);
            assert!(
                message.starts_with("libboth.so: holds 2 manifests: hip 0.1.0, knee 0.1.0; expected one"),
                "{message}"
            );
        }
        assert!(refused(&[[hip.clone(), hip.clone()].concat()]).contains("hip 0.1.0, hip 0.1.0"));
        let cut = &knee[..knee.len() - 1];
        assert!(
            refused(&[[&hip[..], cut].concat()]).contains("bytes follow its manifest that are no manifest")
        );
    }
}
