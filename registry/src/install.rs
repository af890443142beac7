//! Installs packages: resolve, download, verify, unpack into a temporary folder, probe, and only then move into place.
//!
//! A rename makes a version's folder appear completely or not at all. Versions lie side by side, so an update never
//! changes what runs.

use crate::digest::sha256_of_file;
use crate::download;
use crate::error::{RegistryError, Result};
use crate::home::{Home, lock, sweep, sync_folder, unfinished_folder};
use crate::index::{Event, Release};
use crate::installed::{self, GoldenReport, InstalledPackage, RECEIPT_SCHEMA, Receipt, Withdrawals};
use crate::key::signer;
use crate::lockfile::Locked;
use crate::package::{FileRole, Limits, MANIFEST, PackageManifest, content, unpack};
use crate::registry::Registry;
use crate::resolve::{Platform, Request, Wanted, resolve, yanked};
use crate::trust::Trust;
use jiff::Timestamp;
use semver::Version;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Where an installed package came from, beside its files.
pub(crate) const RECEIPT: &str = "receipt.json";

/// A package that was unpacked and verified, and is not installed yet.
pub struct Candidate<'a> {
    /// Its folder.
    pub folder: &'a Path,
    /// What it says of itself.
    pub manifest: &'a PackageManifest,
}

impl Candidate<'_> {
    /// The file of a role.
    ///
    /// # Errors
    /// When the manifest names none.
    pub fn file(&self, role: FileRole) -> Result<PathBuf> {
        Ok(self.folder.join(&self.manifest.file(role)?.path))
    }

    /// The folder of golden cases.
    pub fn golden(&self) -> PathBuf {
        self.folder.join("golden")
    }
}

/// Looks at a candidate as only the host can: does the library say what `plugin.toml` says, do the golden cases give
/// what they should? The reason, where not.
pub type Probe<'a> = dyn Fn(&Candidate<'_>) -> Result<GoldenReport, String> + 'a;

/// How an installation is done.
pub struct Installation<'a> {
    /// What this machine has.
    pub platform: &'a Platform,
    /// The host's look at it.
    pub probe: &'a Probe<'a>,
    /// What an archive may cost.
    pub limits: Limits,
    /// Hears of bytes so far, and of how many there will be.
    pub progress: &'a dyn Fn(u64, u64),
}

/// What became of a request.
pub struct Done {
    /// The release.
    pub release: Release,
    /// Its folder.
    pub folder: PathBuf,
    /// `false`: it was there.
    pub new: bool,
    /// What to tell.
    pub notes: Vec<String>,
}

impl Registry<'_> {
    /// Installs the release that a request resolves to, or the locked release.
    ///
    /// # Errors
    /// When any step refuses the package; nothing is installed then.
    pub fn install(
        &self,
        request: &Request,
        locked: Option<&Locked>,
        how: &Installation<'_>,
    ) -> Result<Done> {
        let events = self.events(&request.name)?;
        self.heed(&request.name, &events)?;
        let mut notes = Vec::new();
        let release = match locked {
            Some(locked) => self.locked(locked, &events, &mut notes)?,
            None => resolve(request, &events, how.platform)?.clone(),
        };
        self.same_publisher(&release)?;
        let mut trust = Trust::open(self.home)?;
        let (_, learned) = self.publisher_key(&release, &mut trust)?;
        let place = self.home.package(&release.name, &release.version);
        // One at a time for one name: the second finds what the first one did, or takes its place.
        let _alone = lock(&self.home.state(&format!("installing-{}.lock", release.name)))?;
        sweep(&self.home.plugins().join(&release.name));
        if place.exists() {
            let there = installed::open(self.home, &place)?;
            if there.receipt.archive_sha256 != release.sha256 {
                let reason = format!(
                    "is installed with archive sha256 {}, the index has {}",
                    there.receipt.archive_sha256, release.sha256
                );
                return Err(RegistryError::package(release.label(), reason));
            }
            if let Some(wrong) = there.audit().into_iter().next() {
                return Err(wrong);
            }
            return Ok(Done { release, folder: place, new: false, notes });
        }
        let unfinished = self.unpacked(&release, &mut trust, how)?;
        // Before it can run: whoever ends here finds it not installed, and what is known of it stays.
        self.remember(&release.name, &events, Some(&release.version))?;
        // Trust that was given on first use is kept once something was installed with it.
        if let Some(learned) = learned {
            let _alone = self.home.lock()?;
            trust.save(self.home)?;
            notes.push(learned);
        }
        let parent = self.home.plugins().join(&release.name);
        std::fs::rename(unfinished.path(), &place).map_err(RegistryError::io(&place, "cannot be made"))?;
        sync_folder(&parent).map_err(RegistryError::io(&parent, "cannot be written to the disk"))?;
        Ok(Done { release, folder: place, new: true, notes })
    }

    /// Fetches, verifies, unpacks and probes a release, into a folder beside its later place.
    fn unpacked(
        &self,
        release: &Release,
        trust: &mut Trust,
        how: &Installation<'_>,
    ) -> Result<tempfile::TempDir> {
        let progress = |at: u64| (how.progress)(at, release.bytes);
        let archive = download::fetch(self.store, release, &self.home.downloads(), &progress)?;
        let file = File::open(&archive).map_err(RegistryError::io(&archive, "cannot be read"))?;
        let unfinished = unfinished_folder(&self.home.plugins().join(&release.name))?;
        let limits = Limits { unpacked: how.limits.unpacked.min(release.unpacked), ..how.limits };
        let mut accept = |json: &[u8], signature: &str| {
            let what = format!("package {}", release.label());
            let by = signer(&what, signature)?;
            if by != release.key {
                let reason = format!("signed by key {by}, the index says {}", release.key);
                return Err(RegistryError::package(release.label(), reason));
            }
            self.publisher_key(release, trust)?.0.verify(&what, json, signature)?;
            let manifest = PackageManifest::parse(json)?;
            release.check(&manifest, &crate::digest::sha256(json))?;
            Ok(manifest)
        };
        let unpacked = unpack(&release.archive(), file, unfinished.path(), limits, &mut accept)?;
        content::check(unfinished.path(), &unpacked.manifest)?;
        let candidate = Candidate { folder: unfinished.path(), manifest: &unpacked.manifest };
        let golden = (how.probe)(&candidate)
            .map_err(|reason| RegistryError::Probe { package: release.label(), reason })?;
        let receipt = Receipt {
            schema: RECEIPT_SCHEMA.to_owned(),
            archive_sha256: release.sha256.clone(),
            manifest_sha256: unpacked.manifest_sha256,
            registry: self.root.registry.clone(),
            store: self.store.address().to_owned(),
            revision: self.root.revision,
            published_at: release.revision,
            key: release.key.clone(),
            installed: Timestamp::now(),
            golden,
        };
        let mut json = serde_json::to_vec_pretty(&receipt).map_err(|e| RegistryError::form(RECEIPT, e))?;
        json.push(b'\n');
        crate::home::write_atomically(&unfinished.path().join(RECEIPT), &json)?;
        let _ = std::fs::remove_file(&archive);
        Ok(unfinished)
    }

    /// The release that a lock file names, withdrawn or not.
    fn locked(&self, locked: &Locked, events: &[Event], notes: &mut Vec<String>) -> Result<Release> {
        let label = format!("{} {}", locked.name, locked.version);
        let found = events.iter().find_map(|e| match e {
            Event::Release(r) if (&r.version, &r.target) == (&locked.version, &locked.target) => Some(r),
            _ => None,
        });
        let release = found.ok_or_else(|| {
            RegistryError::package(
                &label,
                format!("is locked, and {} does not have it for {}", self.store.address(), locked.target),
            )
        })?;
        if release.publisher != locked.publisher {
            return Err(RegistryError::OtherPublisher {
                name: locked.name.clone(),
                owner: locked.publisher.clone(),
                place: "in the lock file".to_owned(),
                found: release.publisher.clone(),
            });
        }
        if release.sha256 != locked.sha256 {
            let reason =
                format!("is locked with archive sha256 {}, the index has {}", locked.sha256, release.sha256);
            return Err(RegistryError::package(&label, reason));
        }
        if let Some(w) = yanked(events, &locked.version) {
            notes.push(format!(
                "{label} is withdrawn for {}: {}; it is locked, and was installed all the same",
                w.reason, w.detail
            ));
        }
        Ok((**release).clone())
    }

    /// A name that is installed from one publisher does not come from another one.
    fn same_publisher(&self, release: &Release) -> Result<()> {
        for (_, folder) in installed::versions(self.home, &release.name) {
            let there = installed::open(self.home, &folder)?;
            if there.manifest.publisher != release.publisher {
                return Err(RegistryError::OtherPublisher {
                    name: release.name.clone(),
                    owner: there.manifest.publisher,
                    place: "where it is installed".to_owned(),
                    found: format!("{} ({})", release.publisher, self.root.registry),
                });
            }
        }
        Ok(())
    }

    /// Stores which installed versions of this registry are withdrawn; returns lines for the user.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn heed(&self, name: &str, events: &[Event]) -> Result<Vec<String>> {
        self.remember(name, events, None)
    }

    fn remember(&self, name: &str, events: &[Event], coming: Option<&Version>) -> Result<Vec<String>> {
        let mut told = Vec::new();
        let mut there: Vec<Version> =
            installed::versions(self.home, name).into_iter().map(|(v, _)| v).collect();
        there.extend(coming.cloned());
        if there.is_empty() {
            return Ok(told);
        }
        let _alone = self.home.lock()?;
        let mut known = Withdrawals::open(self.home)?;
        let mut changed = false;
        for version in there {
            let now = yanked(events, &version);
            if let Some(w) = &now {
                told.push(format!("{name} {version} is withdrawn for {}: {}", w.reason, w.detail));
            }
            changed |= known.set(name, &version, now);
        }
        if changed {
            known.save(self.home)?;
        }
        Ok(told)
    }

    /// Downloads a package again and replaces every file that differs from its signed digest; returns their number.
    ///
    /// # Errors
    /// When the registry no longer has that archive, or a check refuses it.
    pub fn repair(&self, package: &InstalledPackage, how: &Installation<'_>) -> Result<usize> {
        let (name, version) = (&package.manifest.name, &package.manifest.version);
        let _alone = lock(&self.home.state(&format!("installing-{name}.lock")))?;
        let events = self.events(name)?;
        let same = |r: &Release| &r.version == version && r.sha256 == package.receipt.archive_sha256;
        let release = events.iter().find_map(|e| match e {
            Event::Release(r) if same(r) => Some(r),
            _ => None,
        });
        let missing = || {
            RegistryError::package(
                package.manifest.label(),
                format!("{} does not have its archive any more", self.store.address()),
            )
        };
        let release = release.ok_or_else(missing)?;
        let mut trust = Trust::open(self.home)?;
        let fresh = self.unpacked(release, &mut trust, how)?;
        let mut mended = 0;
        for file in &package.manifest.files {
            let to = package.folder.join(&file.path);
            if sha256_of_file(&to).is_ok_and(|(found, _)| found == file.sha256) {
                continue;
            }
            if let Some(folder) = to.parent() {
                std::fs::create_dir_all(folder).map_err(RegistryError::io(folder, "cannot be made"))?;
            }
            std::fs::rename(fresh.path().join(&file.path), &to)
                .map_err(RegistryError::io(&to, "cannot be written"))?;
            mended += 1;
        }
        Ok(mended)
    }
}

/// Removes an installed version: renames its folder first, then deletes it.
///
/// # Errors
/// When it is not installed, or cannot be removed.
pub fn remove(home: &Home, request: &Request) -> Result<PathBuf> {
    let Wanted::Exact(version) = &request.versions else {
        return Err(RegistryError::Usage(format!(
            "`{request}`: name the version, for example {}@0.1.0",
            request.name
        )));
    };
    let _alone = lock(&home.state(&format!("installing-{}.lock", request.name)))?;
    let place = home.package(&request.name, version);
    if !place.join(MANIFEST).is_file() {
        return Err(RegistryError::package(request, "is not installed"));
    }
    let beside = home.plugins().join(&request.name);
    let gone = unfinished_folder(&beside)?;
    let hidden = gone.path().join("removed");
    std::fs::rename(&place, &hidden).map_err(RegistryError::io(&place, "cannot be removed"))?;
    gone.close().map_err(RegistryError::io(&place, "cannot be removed"))?;
    Ok(place)
}
