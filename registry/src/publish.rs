//! What changes a registry: its making, a package that comes in, a withdrawal, a renewed date, a rotated key. Each is a
//! new revision of the index, signed as a whole; what was there stays as it was.

use crate::digest::{sha256, sha256_of_file};
use crate::error::{RegistryError, Result};
use crate::index::{
    Event, Listed, ROOT, ROOT_LIMIT, Release, Root, SignedRoot, Withdrawal, WithdrawalReason, parse_lines,
    write_lines,
};
use crate::install::{Candidate, Probe};
use crate::key::{PublicKey, SecretKey, signer};
use crate::package::{Limits, PackageManifest, content, unpack};
use crate::resolve::{Request, yanked};
use crate::rotation::Rotation;
use crate::store::Store;
use crate::trust::Role;
use jiff::{SignedDuration, Timestamp};
use semver::Version;
use std::fs::File;
use std::path::Path;

/// A registry as who holds its index key sees it.
pub struct IndexSigner<'a> {
    /// Where it lies.
    pub store: &'a dyn Store,
    /// The index key.
    pub key: &'a SecretKey,
    /// How long the new revision is good for.
    pub valid: SignedDuration,
}

/// Makes an empty registry.
///
/// # Errors
/// When one is there already, or the store cannot be written to.
pub fn init(signer: &IndexSigner<'_>, name: &str) -> Result<()> {
    let at = signer.store.address();
    if signer.store.read(ROOT, ROOT_LIMIT)?.is_some() {
        return Err(RegistryError::Usage(format!("{at}: a registry is there already")));
    }
    let root = Root::new(name, signer.key.public(), signer.expires()?)?;
    signer.store.exchange(ROOT, None, &root.sign(signer.key)?)
}

/// What came of a publication.
pub struct Published {
    /// The line.
    pub release: Release,
    /// The new revision.
    pub revision: u64,
    /// `false`: the same archive was there already.
    pub new: bool,
}

impl IndexSigner<'_> {
    fn expires(&self) -> Result<Timestamp> {
        Timestamp::now()
            .checked_add(self.valid)
            .map_err(|e| RegistryError::Usage(format!("--valid-days: {e}")))
    }

    /// The root, verified with the index key's own public half.
    fn read(&self) -> Result<(Root, Vec<u8>)> {
        let at = self.store.address();
        let bytes = self.store.read(ROOT, ROOT_LIMIT)?;
        let bytes = bytes.ok_or_else(|| {
            RegistryError::store(
                at,
                format!("no registry is there (no {ROOT}); make one with `host registry init`"),
            )
        })?;
        let signed = SignedRoot::split(at, &bytes)?;
        let root = signed.unverified(at)?;
        if signed.key_id != self.key.public().id() {
            return Err(RegistryError::Usage(format!(
                "{at}: the index is signed by key {}, the key that was given is {}; a new index key comes in with `host registry renew --rotation`",
                signed.key_id,
                self.key.public().id()
            )));
        }
        signed.verify(at, self.key.public())?;
        Ok((root, bytes))
    }

    fn write(&self, mut root: Root, old: &[u8]) -> Result<u64> {
        root.revision += 1;
        (root.signed, root.expires) = (Timestamp::now(), self.expires()?);
        root.key = self.key.public().clone();
        self.store.exchange(ROOT, Some(old), &root.sign(self.key)?)?;
        Ok(root.revision)
    }

    fn events(&self, name: &str, listed: &Listed) -> Result<Vec<Event>> {
        let (at, place) = (self.store.address(), listed.place(name));
        let bytes = self
            .store
            .read(&place, u64::MAX - 1)?
            .ok_or_else(|| RegistryError::store(at, format!("{place} is missing")))?;
        let found = sha256(&bytes);
        if found != listed.sha256 {
            return Err(RegistryError::Digest {
                what: format!("{at}: {place}"),
                found,
                expected: listed.sha256.clone(),
            });
        }
        parse_lines(name, &bytes)
    }

    fn put_events(&self, name: &str, listed: &mut Listed, events: &[Event]) -> Result<()> {
        let bytes = write_lines(events)?;
        (listed.sha256, listed.bytes) = (sha256(&bytes), bytes.len() as u64);
        let versions =
            events.iter().filter_map(|e| if let Event::Release(r) = e { Some(&r.version) } else { None });
        listed.newest = versions.filter(|v| yanked(events, v).is_none()).max().cloned();
        let scratch = tempfile::NamedTempFile::new()
            .map_err(RegistryError::io(&std::env::temp_dir(), "cannot be written"))?;
        std::fs::write(scratch.path(), &bytes)
            .map_err(RegistryError::io(scratch.path(), "cannot be written"))?;
        self.store.put(&listed.place(name), scratch.path())
    }

    /// Refuses a package of a name that belongs to another publisher or key.
    fn expect_owner(
        &self,
        root: &Root,
        listed: &Listed,
        manifest: &PackageManifest,
        publisher_key: &PublicKey,
    ) -> Result<()> {
        let retired = root
            .rotations
            .iter()
            .any(|r| r.verified().is_ok_and(|s| s.name == manifest.publisher && &s.old == publisher_key));
        if listed.publisher == manifest.publisher && listed.keys.contains(publisher_key) && !retired {
            return Ok(());
        }
        let found = format!(
            "{} with key {}{}",
            manifest.publisher,
            publisher_key.id(),
            if retired { ", which was replaced" } else { "" }
        );
        let ids: Vec<&str> = listed.keys.iter().map(PublicKey::id).collect();
        Err(RegistryError::OtherPublisher {
            name: manifest.name.clone(),
            owner: format!("{} with key {}", listed.publisher, ids.join(", ")),
            place: format!("in {}", self.store.address()),
            found,
        })
    }

    /// Publishes a package. `publisher_key` must have signed it; the caller trusts this key.
    ///
    /// # Errors
    /// When the package breaks a rule, the probe refuses it, the name belongs to another publisher, or the version was
    /// published with other content.
    pub fn publish(&self, archive: &Path, publisher_key: &PublicKey, probe: &Probe<'_>) -> Result<Published> {
        let (mut root, old) = self.read()?;
        let shown = archive.display().to_string();
        let scratch = tempfile::tempdir()
            .map_err(RegistryError::io(&std::env::temp_dir(), "no folder can be made in it"))?;
        let file = File::open(archive).map_err(RegistryError::io(archive, "cannot be read"))?;
        let mut accept = |json: &[u8], signature: &str| {
            let manifest = PackageManifest::parse(json)?;
            let by = signer(&shown, signature)?;
            if by != publisher_key.id() {
                let advice = format!("expected key {}", publisher_key.id());
                return Err(RegistryError::Untrusted {
                    what: shown.clone(),
                    key: by,
                    who: manifest.publisher,
                    advice,
                });
            }
            publisher_key.verify(&shown, json, signature)?;
            Ok(manifest)
        };
        let unpacked = unpack(&shown, file, scratch.path(), Limits::default(), &mut accept)?;
        let manifest = &unpacked.manifest;
        content::check(scratch.path(), manifest)?;
        let (digest, bytes) = sha256_of_file(archive)?;
        let revision = root.revision + 1;
        let release =
            Release::of(manifest, publisher_key.id(), &unpacked.manifest_sha256, &digest, bytes, revision);

        let mut listed = match root.packages.get(&manifest.name) {
            Some(listed) => listed.clone(),
            None => Listed {
                publisher: manifest.publisher.clone(),
                keys: keys_of(&root, &manifest.publisher, publisher_key),
                summary: String::new(),
                labels: Vec::new(),
                newest: None,
                sha256: String::new(),
                bytes: 0,
            },
        };
        self.expect_owner(&root, &listed, manifest, publisher_key)?;
        let mut events =
            if listed.sha256.is_empty() { Vec::new() } else { self.events(&manifest.name, &listed)? };
        let there = events.iter().find_map(|e| match e {
            Event::Release(r) if (&r.version, &r.target) == (&release.version, &release.target) => Some(r),
            _ => None,
        });
        match there {
            // Packed twice, the same parts have the same manifest and another signature.
            Some(there) if there.manifest_sha256 == release.manifest_sha256 => {
                return Ok(Published { release: (**there).clone(), revision: root.revision, new: false });
            }
            Some(_) => {
                return Err(RegistryError::Exists {
                    what: format!("{} for {}", release.label(), release.target),
                });
            }
            None => {}
        }
        let candidate = Candidate { folder: scratch.path(), manifest };
        probe(&candidate).map_err(|reason| RegistryError::Incomplete { reasons: vec![reason] })?;

        // The archive, then the line, then the root that names it: who reads in between sees the old registry.
        self.store.put(&release.archive(), archive)?;
        events.push(Event::Release(Box::new(release.clone())));
        if listed.newest.as_ref().is_none_or(|newest| *newest <= manifest.version) {
            (listed.summary, listed.labels) = (manifest.summary.clone(), manifest.labels.clone());
        }
        self.put_events(&manifest.name, &mut listed, &events)?;
        root.packages.insert(manifest.name.clone(), listed);
        let revision = self.write(root, &old)?;
        Ok(Published { release, revision, new: true })
    }

    /// Withdraws a version, for all targets. The archive stays; only lock files still install it.
    ///
    /// # Errors
    /// When there is no such version, or it is withdrawn for the same reason already.
    pub fn withdraw(
        &self,
        name: &str,
        version: &Version,
        reason: WithdrawalReason,
        detail: &str,
    ) -> Result<u64> {
        self.append(name, version, |events, revision| {
            if yanked(events, version).is_some_and(|w| w.reason == reason) {
                return Err(RegistryError::Usage(format!(
                    "{name} {version}: is withdrawn for {reason} already"
                )));
            }
            let (version, detail, date) = (version.clone(), detail.to_owned(), Timestamp::now());
            Ok(Event::Yank(Withdrawal { version, reason, detail, revision, date }))
        })
    }

    /// Undoes a withdrawal.
    ///
    /// # Errors
    /// When the version is not withdrawn.
    pub fn restore(&self, name: &str, version: &Version) -> Result<u64> {
        self.append(name, version, |events, revision| match yanked(events, version) {
            Some(_) => Ok(Event::Restore { version: version.clone(), revision }),
            None => Err(RegistryError::Usage(format!("{name} {version}: is not withdrawn"))),
        })
    }

    fn append(
        &self,
        name: &str,
        version: &Version,
        event: impl FnOnce(&[Event], u64) -> Result<Event>,
    ) -> Result<u64> {
        let (mut root, old) = self.read()?;
        let missing = || RegistryError::NoSuchPackage {
            name: name.to_owned(),
            store: self.store.address().to_owned(),
            nearest: None,
        };
        let mut listed = root.packages.get(name).cloned().ok_or_else(missing)?;
        let mut events = self.events(name, &listed)?;
        if !events.iter().any(|e| matches!(e, Event::Release(r) if &r.version == version)) {
            let request: Request = format!("{name}@{version}").parse()?;
            return Err(RegistryError::package(request, "was never published here"));
        }
        events.push(event(&events, root.revision + 1)?);
        self.put_events(name, &mut listed, &events)?;
        root.packages.insert(name.to_owned(), listed);
        self.write(root, &old)
    }

    /// Signs a new revision with a later date, optionally with keys that replace others. For a rotation of the index key the
    /// signer holds the new key.
    ///
    /// # Errors
    /// When a rotation's signatures do not verify, or the registry does not know its owner.
    pub fn renew(&self, rotation: Option<Rotation>) -> Result<u64> {
        let Some(mut rotation) = rotation else {
            let (root, old) = self.read()?;
            return self.write(root, &old);
        };
        let statement = rotation.verified()?;
        let (mut root, old) = match statement.role {
            Role::Publisher => self.read()?,
            Role::Registry => self.read_before_rotation(&statement.old, &statement.new)?,
        };
        let stranger = |who: &str| {
            RegistryError::Usage(format!("rotation of {who}: key {} signs nothing here", statement.old.id()))
        };
        match statement.role {
            Role::Registry if statement.name != root.registry => return Err(stranger(&statement.name)),
            Role::Registry => {}
            Role::Publisher => {
                let theirs =
                    |l: &&mut Listed| l.publisher == statement.name && l.keys.contains(&statement.old);
                let mut some = false;
                for listed in root.packages.values_mut().filter(theirs) {
                    some = true;
                    if !listed.keys.contains(&statement.new) {
                        listed.keys.push(statement.new.clone());
                    }
                }
                if !some {
                    return Err(stranger(&statement.name));
                }
            }
        }
        rotation.revision = root.revision + 1;
        root.rotations.push(rotation);
        self.write(root, &old)
    }

    fn read_before_rotation(&self, from: &PublicKey, to: &PublicKey) -> Result<(Root, Vec<u8>)> {
        let at = self.store.address();
        if self.key.public() != to {
            return Err(RegistryError::Usage(format!("the index key must be the new one, {}", to.id())));
        }
        let bytes = self
            .store
            .read(ROOT, ROOT_LIMIT)?
            .ok_or_else(|| RegistryError::store(at, "no registry is there"))?;
        let signed = SignedRoot::split(at, &bytes)?;
        let root = signed.unverified(at)?;
        signed.verify(at, from)?;
        Ok((root, bytes))
    }
}

/// The keys that a publisher signs with here already; the one that is shown where it is new. A name that is known with
/// other keys keeps those, so that nobody comes in under it.
fn keys_of(root: &Root, publisher: &str, key: &PublicKey) -> Vec<PublicKey> {
    let known = root.packages.values().find(|l| l.publisher == publisher);
    known.map_or_else(|| vec![key.clone()], |l| l.keys.clone())
}
