//! One JSON line per event of a package: a release of one version for one target, a withdrawal, its undoing. A line
//! never changes once it is written.

use crate::digest::is_sha256;
use crate::error::{RegistryError, Result};
use crate::package::{Abi, Backbone, PackageManifest, check_name, check_party, check_target};
use jiff::Timestamp;
use semver::Version;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// A version for a target.
    Release(Box<Release>),
    /// A version is yanked, for all targets.
    Yank(Withdrawal),
    /// It is back.
    Restore {
        /// Which.
        version: Version,
        /// Since when.
        revision: u64,
    },
}

/// A version for a target: what has to be known before anything is downloaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// The package.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// Architecture and system.
    pub target: String,
    /// ABI it was built for.
    pub abi: Abi,
    /// Backbone its weights were trained on.
    pub backbone: Backbone,
    /// Who publishes it.
    pub publisher: String,
    /// Id of the key that signed it.
    pub key: String,
    /// Of the archive.
    pub sha256: String,
    /// Of the archive.
    pub bytes: u64,
    /// Bytes of its files.
    pub unpacked: u64,
    /// Of `package.json`.
    pub manifest_sha256: String,
    /// SPDX expression.
    pub license: String,
    /// Revision of the index that brought it.
    pub revision: u64,
    /// When.
    pub published: Timestamp,
}

/// Why a version is withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WithdrawalReason {
    /// It may harm: it runs no more, unless asked for explicitly.
    Safety,
    /// It is worse than was thought.
    Accuracy,
    /// It may not be used.
    Licence,
}

impl std::fmt::Display for WithdrawalReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Safety => "safety",
            Self::Accuracy => "accuracy",
            Self::Licence => "licence",
        })
    }
}

/// A version is withdrawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Withdrawal {
    /// Which.
    pub version: Version,
    /// Why.
    pub reason: WithdrawalReason,
    /// In the publisher's words.
    pub detail: String,
    /// Revision of the index that brought it.
    pub revision: u64,
    /// When.
    pub date: Timestamp,
}

impl Release {
    /// The line of a package that was just made.
    pub fn of(
        manifest: &PackageManifest,
        key: &str,
        manifest_sha256: &str,
        sha256: &str,
        bytes: u64,
        revision: u64,
    ) -> Self {
        Self {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            target: manifest.target.clone(),
            abi: manifest.abi,
            backbone: manifest.backbone.clone(),
            publisher: manifest.publisher.clone(),
            key: key.to_owned(),
            sha256: sha256.to_owned(),
            bytes,
            unpacked: manifest.unpacked().unwrap_or(u64::MAX),
            manifest_sha256: manifest_sha256.to_owned(),
            license: manifest.license.clone(),
            revision,
            published: Timestamp::now(),
        }
    }

    /// `lung_nodule 0.1.0`
    pub fn label(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    /// Its archive's name in a store.
    pub fn archive(&self) -> String {
        let file = crate::package::archive_name(&self.name, &self.version, &self.target);
        format!("packages/{}/{file}", self.name)
    }

    /// Checks that a package's manifest agrees with its line of the index.
    ///
    /// # Errors
    /// The error names what differs.
    pub fn check(&self, manifest: &PackageManifest, manifest_sha256: &str) -> Result<()> {
        let differs = |what: &str, found: &dyn std::fmt::Display, listed: &dyn std::fmt::Display| {
            Err(RegistryError::package(
                self.label(),
                format!(
                    "the archive holds {what} {found}, the index says {listed}; it was renamed or exchanged"
                ),
            ))
        };
        if manifest.name != self.name {
            return differs("plugin", &manifest.name, &self.name);
        }
        if manifest.version != self.version {
            return differs("version", &manifest.version, &self.version);
        }
        if manifest.target != self.target {
            return differs("target", &manifest.target, &self.target);
        }
        if manifest.publisher != self.publisher {
            return differs("publisher", &manifest.publisher, &self.publisher);
        }
        if manifest.abi != self.abi {
            return differs("ABI", &manifest.abi, &self.abi);
        }
        if manifest.backbone != self.backbone {
            return differs("backbone", &manifest.backbone.fingerprint, &self.backbone.fingerprint);
        }
        if manifest_sha256 != self.manifest_sha256 {
            return differs("package.json", &manifest_sha256, &self.manifest_sha256);
        }
        Ok(())
    }

    fn form(&self) -> Result<(), String> {
        check_name(&self.name)?;
        check_target(&self.target)?;
        check_party(&self.publisher)?;
        let digests = [&self.sha256, &self.manifest_sha256, &self.backbone.fingerprint];
        if digests.iter().all(|d| is_sha256(d)) {
            Ok(())
        } else {
            Err("a digest is not 64 hexadecimal digits".to_owned())
        }
    }
}

/// Parses the lines of a package's file.
///
/// # Errors
/// The error names the line: an unknown format, another package's release, a version twice for a target.
pub fn parse_lines(name: &str, bytes: &[u8]) -> Result<Vec<Event>> {
    let refuse =
        |n: usize, reason: String| RegistryError::form(format!("index of {name}, line {}", n + 1), reason);
    let text = std::str::from_utf8(bytes).map_err(|e| RegistryError::form(format!("index of {name}"), e))?;
    let mut seen = BTreeSet::new();
    let mut events = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let event: Event = serde_json::from_str(line).map_err(|e| refuse(n, e.to_string()))?;
        if let Event::Release(release) = &event {
            release.form().map_err(|e| refuse(n, e))?;
            if release.name != name {
                return Err(refuse(n, format!("is of {}", release.name)));
            }
            if !seen.insert((release.version.clone(), release.target.clone())) {
                return Err(refuse(n, format!("{} for {} is there twice", release.version, release.target)));
            }
        }
        events.push(event);
    }
    Ok(events)
}

/// The file of a package.
///
/// # Errors
/// Never in practice: the events are plain data.
pub fn write_lines(events: &[Event]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for event in events {
        serde_json::to_writer(&mut out, event).map_err(|e| RegistryError::form("index", e))?;
        out.push(b'\n');
    }
    Ok(out)
}
