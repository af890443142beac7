//! `anymc3d.lock`: exactly which packages answer in a project, by digest. To be kept under version control.

use crate::error::{RegistryError, Result};
use crate::home::write_atomically;
use crate::index::Release;
use crate::resolve::{Request, Wanted};
use semver::Version;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Its name, where none is given.
pub const LOCK_FILE: &str = "anymc3d.lock";
const HEAD: &str =
    "# Which packages answer here, by digest. Written by `host registry install|update --lock`.\n";

/// One locked package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locked {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// Architecture and system.
    pub target: String,
    /// Digest of the archive.
    pub sha256: String,
    /// Who publishes it.
    pub publisher: String,
    /// The registry's name.
    pub registry: String,
    /// Whether exactly this version was asked for: updates leave it. Hosts that do not know the key refuse the file
    /// rather than move the version.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    schema: u32,
    #[serde(default, rename = "package")]
    packages: Vec<Locked>,
}

/// A lock file, for this target.
#[derive(Debug, Clone)]
pub struct LockFile {
    path: PathBuf,
    target: String,
    packages: Vec<Locked>,
}

impl LockFile {
    /// Reads a lock file; `None` if the file does not exist.
    ///
    /// # Errors
    /// When the file cannot be read, or is malformed.
    pub fn open(path: &Path, target: &str) -> Result<Option<Self>> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(RegistryError::io(path, "cannot be read")(e)),
        };
        let refuse = |reason: String| RegistryError::Lock { path: path.to_owned(), reason };
        let document: Document =
            toml::from_str(&text).map_err(|e| refuse(e.message().replace('\n', "; ")))?;
        if document.schema != 1 {
            return Err(refuse(format!("schema {}, this host reads 1; upgrade the host", document.schema)));
        }
        Ok(Some(Self { path: path.to_owned(), target: target.to_owned(), packages: document.packages }))
    }

    /// An empty one, not written yet.
    pub fn new(path: &Path, target: &str) -> Self {
        Self { path: path.to_owned(), target: target.to_owned(), packages: Vec::new() }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is locked for this target.
    pub fn packages(&self) -> impl Iterator<Item = &Locked> {
        self.packages.iter().filter(|p| p.target == self.target)
    }

    /// A package by name, for this target.
    pub fn find(&self, name: &str) -> Option<&Locked> {
        self.packages().find(|p| p.name == name)
    }

    /// The pinned package for a request: a bare name, or a range that contains the pinned version, keeps the pin. `None` if
    /// the name is not pinned, or if the request is an exact version, which replaces the pin.
    ///
    /// # Errors
    /// When the requested range does not contain the pinned version.
    pub fn pinned(&self, request: &Request) -> Result<Option<&Locked>> {
        let pinned = self.find(&request.name).filter(|entry| entry.pinned && !request.versions.is_exact());
        let Some(entry) = pinned else { return Ok(None) };
        match &request.versions {
            Wanted::Range(range) if !range.matches(&entry.version) => {
                let reason = format!(
                    "pins {} {}, and {request} was asked for; --unpin lets it go, {}@VERSION pins another",
                    entry.name, entry.version, entry.name
                );
                Err(RegistryError::Lock { path: self.path.clone(), reason })
            }
            _ => Ok(Some(entry)),
        }
    }

    /// Locks a release; `pinned`: until another version is asked for, or it is unpinned.
    pub fn set(&mut self, release: &Release, registry: &str, pinned: bool) {
        self.packages.retain(|p| (&p.name, &p.target) != (&release.name, &release.target));
        self.packages.push(Locked {
            name: release.name.clone(),
            version: release.version.clone(),
            target: release.target.clone(),
            sha256: release.sha256.clone(),
            publisher: release.publisher.clone(),
            registry: registry.to_owned(),
            pinned,
        });
        self.packages.sort_by(|a, b| (&a.name, &a.target).cmp(&(&b.name, &b.target)));
    }

    /// Writes the lock file; the path always holds either the old or the new file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self) -> Result<()> {
        let document = Document { schema: 1, packages: self.packages.clone() };
        let text = toml::to_string(&document).map_err(|e| RegistryError::form(self.path.display(), e))?;
        write_atomically(&self.path, format!("{HEAD}{text}").as_bytes())
    }
}
