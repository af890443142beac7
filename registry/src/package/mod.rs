//! A package: one plugin, one version, one target, in one archive whose first two entries say what the others must be
//! and who says so.

pub(crate) mod archive;
pub(crate) mod content;
pub(crate) mod weights;

pub use archive::{Limits, Unpacked, pack, signed_by, unpack};
pub use content::Parts;
pub use weights::{WeightsFacts, read_weights};

use crate::digest::is_sha256;
use crate::error::{RegistryError, Result};
use semver::Version;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Schema of `package.json`.
pub const SCHEMA: &str = "anymc3d/package/1";
/// First entry of an archive.
pub const MANIFEST: &str = "package.json";
/// Second entry.
pub const SIGNATURE: &str = "package.json.minisig";
/// `package.json` is a few kilobytes.
pub(crate) const MANIFEST_LIMIT: u64 = 1 << 20;
/// A signature has four lines.
pub(crate) const SIGNATURE_LIMIT: u64 = 4 << 10;

/// `package.json`: what is signed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageManifest {
    /// [`SCHEMA`].
    pub schema: String,
    /// The plugin's name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// Architecture and system, for example `x86_64-linux`.
    pub target: String,
    /// ABI it was built for, `major.minor`.
    pub abi: Abi,
    /// Who publishes it.
    pub publisher: String,
    /// One sentence.
    pub summary: String,
    /// Labels or classes.
    pub labels: Vec<String>,
    /// Words that are shown wherever a result is read.
    pub intended_use: String,
    /// SPDX expression.
    pub license: String,
    /// The backbone its weights were trained on.
    pub backbone: Backbone,
    /// Every file of the archive but `package.json` and its signature, in the archive's order.
    pub files: Vec<PackageFile>,
}

/// A plugin-api version: `major.minor`. A host runs plugins of its own major version and of no newer minor one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Abi {
    /// Must be the host's.
    pub major: u32,
    /// At most the host's.
    pub minor: u32,
}

impl std::str::FromStr for Abi {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text
            .split_once('.')
            .and_then(|(major, minor)| Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? }));
        parsed.ok_or_else(|| format!("ABI `{text}`: expected major.minor, for example 1.0"))
    }
}

impl TryFrom<String> for Abi {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Abi> for String {
    fn from(abi: Abi) -> Self {
        abi.to_string()
    }
}

impl std::fmt::Display for Abi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The backbone that weights were trained on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backbone {
    /// Name, for people.
    pub name: String,
    /// Families that the plugin's adapter can live in.
    pub families: Vec<String>,
    /// Smallest width that fits the plugin.
    pub min_embed_dim: usize,
    /// Digest of weights, dims, patch size, mean and std: exactly this one.
    pub fingerprint: String,
}

/// A file of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageFile {
    /// Relative, with `/`.
    pub path: String,
    /// What it is.
    pub role: FileRole,
    /// Its size.
    pub bytes: u64,
    /// Of its content.
    pub sha256: String,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileRole {
    /// The dynamic library.
    Library,
    /// The trained weights.
    Weights,
    /// `plugin.toml`.
    PluginToml,
    /// The model card.
    ModelCard,
    /// The licence's text.
    License,
    /// Golden cases: an input and what the plugin answers to it.
    Golden,
}

impl FileRole {
    fn name(self) -> &'static str {
        match self {
            Self::Library => "library",
            Self::Weights => "weights",
            Self::PluginToml => "plugin.toml",
            Self::ModelCard => "model card",
            Self::License => "licence",
            Self::Golden => "golden case",
        }
    }
}

impl PackageManifest {
    /// Parses `package.json` and checks every rule that needs no other file.
    ///
    /// # Errors
    /// The error names the first broken rule.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let refuse = |reason: String| RegistryError::form(MANIFEST, reason);
        if bytes.len() as u64 > MANIFEST_LIMIT {
            return Err(refuse(format!("{} bytes, at most {MANIFEST_LIMIT} are read", bytes.len())));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(|e| refuse(e.to_string()))?;
        manifest.check().map_err(refuse)?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), String> {
        if self.schema != SCHEMA {
            return Err(format!("schema {}, this host reads {SCHEMA}; upgrade the host", self.schema));
        }
        check_name(&self.name)?;
        check_target(&self.target)?;
        check_party(&self.publisher)?;
        if !is_sha256(&self.backbone.fingerprint) {
            return Err("backbone.fingerprint: expected 64 hexadecimal digits".to_owned());
        }
        let mut seen =
            BTreeSet::from([MANIFEST.to_owned(), SIGNATURE.to_owned(), crate::install::RECEIPT.to_owned()]);
        for file in &self.files {
            check_path(&file.path)?;
            // Some file systems do not tell upper from lower case.
            if !seen.insert(file.path.to_lowercase()) {
                return Err(format!("file {}: named twice, or a name that is taken", file.path));
            }
            if !is_sha256(&file.sha256) {
                return Err(format!("file {}: sha256 is not 64 hexadecimal digits", file.path));
            }
        }
        // A file cannot be a folder of another one.
        let folders = self.files.iter().filter_map(|f| Some(f.path.rsplit_once('/')?.0.to_lowercase()));
        if let Some(folder) = folders.into_iter().find(|f| seen.contains(f)) {
            return Err(format!("file {folder}: is a folder of another file"));
        }
        use FileRole::{Library, License, ModelCard, PluginToml, Weights};
        for role in [Library, Weights, PluginToml, ModelCard, License] {
            match self.files.iter().filter(|f| f.role == role).count() {
                1 => {}
                n => return Err(format!("{n} files are the {}, expected one", role.name())),
            }
        }
        if !self.files.iter().any(|f| f.role == FileRole::Golden && f.path.ends_with(".json")) {
            return Err("no golden case; expected a .json among the files of role golden".to_owned());
        }
        self.unpacked().map(drop).ok_or_else(|| "the files' sizes do not add up".to_owned())
    }

    /// The file of a role that occurs once.
    ///
    /// # Errors
    /// When there is none, which [`PackageManifest::parse`] refuses.
    pub fn file(&self, role: FileRole) -> Result<&PackageFile> {
        let missing = || RegistryError::form(MANIFEST, format!("no {}", role.name()));
        self.files.iter().find(|f| f.role == role).ok_or_else(missing)
    }

    /// Bytes of all files.
    pub fn unpacked(&self) -> Option<u64> {
        self.files.iter().try_fold(0u64, |sum, f| sum.checked_add(f.bytes))
    }

    /// `lung_nodule 0.1.0`
    pub fn label(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    /// `lung_nodule-0.1.0-x86_64-linux.tar.zst`
    pub fn archive_name(&self) -> String {
        archive_name(&self.name, &self.version, &self.target)
    }
}

/// `lung_nodule-0.1.0-x86_64-linux.tar.zst`
pub fn archive_name(name: &str, version: &Version, target: &str) -> String {
    format!("{name}-{version}-{target}.tar.zst")
}

/// A plugin's name, which becomes a folder's and part of an address.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let good =
        (2..=64).contains(&name.len()) && name.as_bytes()[0].is_ascii_lowercase() && name.bytes().all(rest);
    if good {
        Ok(())
    } else {
        Err(format!("name `{}`: expected ^[a-z][a-z0-9_]{{1,63}}$", name.escape_debug()))
    }
}

pub(crate) fn check_target(target: &str) -> Result<(), String> {
    let part = |p: &str| {
        !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    match target.split_once('-') {
        Some((arch, system)) if target.len() <= 64 && part(arch) && part(system) => Ok(()),
        _ => Err(format!("target `{}`: expected for example x86_64-linux", target.escape_debug())),
    }
}

/// A publisher's or registry's name: one line for people.
pub(crate) fn check_party(name: &str) -> Result<(), String> {
    let good = !name.trim().is_empty()
        && name.trim() == name
        && name.len() <= 100
        && !name.chars().any(char::is_control);
    if good {
        Ok(())
    } else {
        Err(format!(
            "name of a publisher or registry `{}`: expected 1 to 100 characters on one line",
            name.escape_debug()
        ))
    }
}

/// A path inside a package: relative, plain, at most three deep, and the same on every file system.
pub(crate) fn check_path(path: &str) -> Result<(), String> {
    let shown = path.escape_debug();
    if path.starts_with('/') || path.starts_with('\\') || path.as_bytes().get(1) == Some(&b':') {
        return Err(format!("file `{shown}`: an absolute path"));
    }
    let parts: Vec<&str> = path.split('/').collect();
    if parts.contains(&"..") {
        return Err(format!("file `{shown}`: `..` leads out of the package"));
    }
    let plain = |part: &&str| {
        !part.is_empty()
            && !part.starts_with('.')
            && !part.ends_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            && !is_reserved(part)
    };
    if path.len() > 100 || parts.len() > 3 || !parts.iter().all(plain) {
        return Err(format!(
            "file `{shown}`: expected letters, digits, `.`, `_`, `-` in at most three parts and 100 characters"
        ));
    }
    Ok(())
}

/// Names that are devices on Windows, with any ending.
fn is_reserved(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or(part).to_ascii_lowercase();
    let numbered = |prefix: &str| {
        stem.strip_prefix(prefix).is_some_and(|n| n.len() == 1 && n.bytes().all(|b| b.is_ascii_digit()))
    };
    ["con", "prn", "aux", "nul"].contains(&stem.as_str()) || numbered("com") || numbered("lpt")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_elsewhere_or_mean_different_files_on_different_systems_are_refused() {
        for good in ["liblung_nodule.so", "golden/chest.json", "a/b/c.nii.gz"] {
            assert_eq!(check_path(good), Ok(()), "{good}");
        }
        for bad in [
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "",
            ".",
            "./a",
            "a/.",
            "C:/x",
            "\\x",
            "a\\b",
            ".ssh",
            "a/b/c/d",
            "aux.txt",
            "lpt1",
            "a.",
            "é",
            "a\0b",
            "a\nb",
        ] {
            assert!(check_path(bad).is_err(), "{bad:?}");
        }
    }
}
