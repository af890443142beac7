//! Packages that are installed: which there are, which one answers, and whether it is still what was installed.

use crate::digest::{sha256, sha256_of_file};
use crate::error::{RegistryError, Result};
use crate::home::{Home, UNFINISHED};
use crate::index::{Withdrawal, WithdrawalReason};
use crate::install::RECEIPT;
use crate::lockfile::LockFile;
use crate::package::{FileRole, MANIFEST, MANIFEST_LIMIT, PackageManifest, SIGNATURE};
use crate::resolve::{Request, Wanted};
use crate::trust::{Claim, Role, Trust};
use jiff::Timestamp;
use semver::Version;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(crate) const RECEIPT_SCHEMA: &str = "anymc3d/receipt/1";
const WITHDRAWN: &str = "withdrawn.json";

/// Where an installed package came from: `receipt.json` beside its files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    pub(crate) schema: String,
    /// Digest of the archive.
    pub archive_sha256: String,
    /// Digest of `package.json`.
    pub manifest_sha256: String,
    /// The registry's name.
    pub registry: String,
    /// Where it was reached.
    pub store: String,
    /// Revision of the index that listed it.
    pub revision: u64,
    /// Revision of the index that first had it.
    pub published_at: u64,
    /// Id of the publisher's key.
    pub key: String,
    /// When.
    pub installed: Timestamp,
    /// What the golden cases gave.
    pub golden: GoldenReport,
}

/// What golden cases gave on this machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GoldenReport {
    /// How many ran.
    pub cases: usize,
    /// Largest difference of a logit from the one that its author got.
    pub largest_difference: f64,
}

/// A package that is installed and whose signature was verified.
#[derive(Debug, Clone)]
pub struct InstalledPackage {
    /// Its folder.
    pub folder: PathBuf,
    /// What it says of itself.
    pub manifest: PackageManifest,
    /// Where it came from.
    pub receipt: Receipt,
}

/// Folders of a package's installed versions, newest first. Names alone are looked at.
pub fn versions(home: &Home, name: &str) -> Vec<(Version, PathBuf)> {
    let entries = std::fs::read_dir(home.plugins().join(name)).into_iter().flatten().flatten();
    let version = |path: &Path| Version::parse(path.file_name()?.to_str()?).ok();
    let folders = entries.map(|e| e.path()).filter(|p| p.join(MANIFEST).is_file());
    let mut all: Vec<(Version, PathBuf)> = folders.filter_map(|p| Some((version(&p)?, p))).collect();
    all.sort_by(|a, b| b.cmp(a));
    all
}

/// Names and versions of everything that is installed, by name, newest first.
pub fn all(home: &Home) -> Vec<(String, Version, PathBuf)> {
    let entries = std::fs::read_dir(home.plugins()).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    names.retain(|n| !n.starts_with(UNFINISHED));
    names.sort();
    let of = |name: String| versions(home, &name).into_iter().map(move |(v, path)| (name.clone(), v, path));
    names.into_iter().flat_map(of).collect()
}

/// The installed package that a request resolves to: the locked version if the lock file has the name, else the highest
/// version that fits and is not withdrawn. `None` if nothing is installed under that name.
///
/// # Errors
/// When versions are installed but none fits; when the locked version is missing or differs; when the package was
/// changed, or is withdrawn for safety and `allow_yanked` is not set.
pub fn choose(
    home: &Home,
    request: &Request,
    lock: Option<&LockFile>,
    allow_yanked: bool,
) -> Result<Option<InstalledPackage>> {
    let mut there = versions(home, &request.name);
    let locked = lock.and_then(|l| l.find(&request.name).map(|entry| (l, entry)));
    if let Some((lock, entry)) = locked {
        let refuse = |reason: String| RegistryError::Lock { path: lock.path().to_owned(), reason };
        // A range that nobody typed for this lock must not silently lose against it.
        if let Some(why) =
            request.versions.refuses(&entry.version).filter(|_| request.versions != Wanted::Any)
        {
            return Err(refuse(format!(
                "locks {} {}, and {request} was asked for: {why}",
                entry.name, entry.version
            )));
        }
        there.retain(|(v, _)| *v == entry.version);
        if there.is_empty() {
            return Err(refuse(format!(
                "locks {} {}, which is not installed; `host registry install`",
                entry.name, entry.version
            )));
        }
    }
    if there.is_empty() {
        return Ok(None);
    }
    let withdrawn = Withdrawals::open(home)?;
    let fits = |v: &Version| locked.is_some() || request.versions.refuses(v).is_none();
    let fitting: Vec<&(Version, PathBuf)> = there.iter().filter(|(v, _)| fits(v)).collect();
    let standing = fitting.iter().find(|(v, _)| withdrawn.find(&request.name, v).is_none());
    let Some((_, folder)) = standing.or(fitting.first()) else {
        let why = |(v, _): &(Version, PathBuf)| Some(format!("  {v}: {}", request.versions.refuses(v)?));
        let mut left_out: Vec<String> = there.iter().filter_map(why).collect();
        left_out.push("  these are installed; `host registry install` may bring another".to_owned());
        return Err(RegistryError::NothingFits { request: request.to_string(), left_out });
    };
    let package = open(home, folder)?;
    if let Some((lock, entry)) = locked
        && entry.sha256 != package.receipt.archive_sha256
    {
        let reason = format!(
            "locks {} with archive sha256 {}, installed is {}",
            package.manifest.label(),
            entry.sha256,
            package.receipt.archive_sha256
        );
        return Err(RegistryError::Lock { path: lock.path().to_owned(), reason });
    }
    package.may_run(allow_yanked)?;
    Ok(Some(package))
}

/// Reads an installed package and verifies its signature with the keys that are trusted now.
///
/// # Errors
/// When one of its files is missing or malformed, or its key is no longer trusted.
pub fn open(home: &Home, folder: &Path) -> Result<InstalledPackage> {
    let read = |name: &str| -> Result<Vec<u8>> {
        let path = folder.join(name);
        let tampered = |e: std::io::Error| RegistryError::Tampered {
            path: path.clone(),
            reason: format!("cannot be read ({e})"),
        };
        let bytes = std::fs::metadata(&path).map_err(tampered)?.len();
        if bytes > MANIFEST_LIMIT {
            return Err(RegistryError::Tampered {
                path,
                reason: format!("{bytes} bytes; expected a few kilobytes"),
            });
        }
        std::fs::read(&path).map_err(tampered)
    };
    let json = read(MANIFEST)?;
    let manifest = PackageManifest::parse(&json)?;
    let receipt = read(RECEIPT)?;
    let receipt: Receipt = serde_json::from_slice(&receipt)
        .map_err(|e| RegistryError::form(folder.join(RECEIPT).display(), e))?;
    if receipt.schema != RECEIPT_SCHEMA {
        return Err(RegistryError::form(
            folder.join(RECEIPT).display(),
            format!("schema {}, expected {RECEIPT_SCHEMA}", receipt.schema),
        ));
    }
    let signature = String::from_utf8(read(SIGNATURE)?).map_err(|e| RegistryError::form(SIGNATURE, e))?;
    let what = format!("installed package {}", manifest.label());
    let trust = Trust::open(home)?;
    let advice = format!(
        "its publisher was trusted when it was installed; `host registry trust add \"{}\" KEY` if that is to be so",
        manifest.publisher
    );
    let signer = crate::key::signer(&what, &signature)?;
    let claim = Claim {
        what: &what,
        role: Role::Publisher,
        name: &manifest.publisher,
        key: &signer,
        registry: &receipt.registry,
        revision: receipt.published_at,
    };
    let key = trust.check(&claim, advice)?;
    key.verify(&what, &json, &signature)?;
    let (name, version) = (folder.parent().and_then(Path::file_name), folder.file_name());
    let there = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    if (there(name), there(version)) != (manifest.name.clone(), manifest.version.to_string()) {
        return Err(RegistryError::Tampered {
            path: folder.to_owned(),
            reason: format!("holds {}", manifest.label()),
        });
    }
    if sha256(&json) != receipt.manifest_sha256 {
        return Err(RegistryError::Tampered {
            path: folder.join(RECEIPT),
            reason: format!("is of another {MANIFEST}"),
        });
    }
    Ok(InstalledPackage { folder: folder.to_owned(), manifest, receipt })
}

impl InstalledPackage {
    /// The withdrawal of this version, if this machine knows of it.
    ///
    /// # Errors
    /// When the stored withdrawals cannot be read.
    pub fn yanked(&self) -> Result<Option<Withdrawal>> {
        let home = self.folder.ancestors().nth(3).unwrap_or(Path::new(""));
        let all = Withdrawals::open(&Home::new(home))?;
        Ok(all.find(&self.manifest.name, &self.manifest.version).cloned())
    }

    /// Refuses a version that was withdrawn for safety, unless that is allowed.
    ///
    /// # Errors
    /// [`RegistryError::Yanked`].
    pub fn may_run(&self, allow_yanked: bool) -> Result<()> {
        match self.yanked()? {
            Some(w) if w.reason == WithdrawalReason::Safety && !allow_yanked => Err(RegistryError::Yanked {
                what: self.manifest.label(),
                reason: w.reason.to_string(),
                detail: w.detail,
                advice: "it does not run; `host registry update` brings another (--unpin where a lock file pins this one), --allow-yanked runs it all the same".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Its library.
    ///
    /// # Errors
    /// When the manifest names none, which is refused earlier.
    pub fn library(&self) -> Result<PathBuf> {
        Ok(self.folder.join(&self.manifest.file(FileRole::Library)?.path))
    }

    /// Its weights.
    ///
    /// # Errors
    /// As [`InstalledPackage::library`].
    pub fn weights(&self) -> Result<PathBuf> {
        Ok(self.folder.join(&self.manifest.file(FileRole::Weights)?.path))
    }

    /// Refuses a file whose digest is not the signed one.
    ///
    /// # Errors
    /// [`RegistryError::Tampered`].
    pub fn check(&self, role: FileRole, found: &str) -> Result<()> {
        let file = self.manifest.file(role)?;
        if file.sha256 == found {
            return Ok(());
        }
        let reason = format!("changed since it was installed (sha256 {found}, signed was {})", file.sha256);
        Err(RegistryError::Tampered { path: self.folder.join(&file.path), reason })
    }

    /// Hashes every file; everything that is not as it was signed, one error each.
    pub fn audit(&self) -> Vec<RegistryError> {
        let mut wrong = Vec::new();
        for file in &self.manifest.files {
            let path = self.folder.join(&file.path);
            match sha256_of_file(&path) {
                Ok((found, _)) if found == file.sha256 => {}
                Ok((found, _)) => {
                    let reason = format!(
                        "changed since it was installed (sha256 {found}, signed was {})",
                        file.sha256
                    );
                    wrong.push(RegistryError::Tampered { path, reason });
                }
                Err(e) => wrong.push(RegistryError::Tampered { path, reason: e.to_string() }),
            }
        }
        let mut there = Vec::new();
        files_below(&self.folder, "", &mut there);
        for extra in there {
            let known = [MANIFEST, SIGNATURE, RECEIPT].contains(&extra.as_str())
                || self.manifest.files.iter().any(|f| f.path == extra);
            if !known {
                wrong.push(RegistryError::Tampered {
                    path: self.folder.join(&extra),
                    reason: "was not installed with the package".to_owned(),
                });
            }
        }
        wrong
    }
}

fn files_below(folder: &Path, prefix: &str, out: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            files_below(&entry.path(), &format!("{name}/"), out);
        } else {
            out.push(name);
        }
    }
}

/// What the indexes say of versions that are installed, as last heard.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Withdrawals(BTreeMap<String, BTreeMap<String, Withdrawal>>);

impl Withdrawals {
    pub fn open(home: &Home) -> Result<Self> {
        home.read(WITHDRAWN)
    }

    pub fn find(&self, name: &str, version: &Version) -> Option<&Withdrawal> {
        self.0.get(name)?.get(&version.to_string())
    }

    /// Under the home's lock. Whether anything changed.
    pub fn set(&mut self, name: &str, version: &Version, withdrawal: Option<Withdrawal>) -> bool {
        if self.find(name, version) == withdrawal.as_ref() {
            return false;
        }
        let of = self.0.entry(name.to_owned()).or_default();
        match withdrawal {
            Some(w) => drop(of.insert(version.to_string(), w)),
            None => drop(of.remove(&version.to_string())),
        }
        true
    }

    pub fn save(&self, home: &Home) -> Result<()> {
        home.write(WITHDRAWN, self)
    }
}
