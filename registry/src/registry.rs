//! A registry as a client sees it: its index, believed only after signature, revision and expiry were checked.

use crate::digest::sha256;
use crate::error::{RegistryError, Result};
use crate::home::Home;
use crate::index::ROOT_LIMIT;
use crate::index::{Event, Listed, ROOT, Release, Root, SignedRoot, parse_lines};
use crate::key::PublicKey;
use crate::resolve::{Platform, Request, resolve};
use crate::store::Store;
use crate::trust::{Claim, Role, Trust};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A registry that was opened.
pub struct Registry<'a> {
    pub(crate) home: &'a Home,
    pub(crate) store: &'a dyn Store,
    pub(crate) root: Root,
    pub(crate) root_bytes: Vec<u8>,
    pub(crate) first_use: bool,
    learned: Vec<String>,
}

/// The highest revision of a registry's index that was believed, and its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    revision: u64,
    sha256: String,
}

const SEEN: &str = "seen.json";
/// A package with a thousand releases takes about a megabyte.
const LINES_LIMIT: u64 = 64 << 20;

impl<'a> Registry<'a> {
    /// Reads and verifies the index. With `first_use`, an unknown registry and unknown publishers are trusted now, by the
    /// keys that they show.
    ///
    /// # Errors
    /// When the index is missing, unsigned, signed by an untrusted key, changed, older than an index seen before, or
    /// expired.
    pub fn open(home: &'a Home, store: &'a dyn Store, first_use: bool, now: Timestamp) -> Result<Self> {
        let at = store.address();
        let root_bytes = store.read(ROOT, ROOT_LIMIT)?;
        let root_bytes = root_bytes.ok_or_else(|| {
            RegistryError::store(
                at,
                format!("no registry is there (no {ROOT}); make one with `host registry init`"),
            )
        })?;
        let signed = SignedRoot::split(at, &root_bytes)?;
        let root = signed.unverified(at)?;
        let _alone = home.lock()?;
        let mut trust = Trust::open(home)?;
        let before = trust.clone();
        // Each rotation is signed by the key that it replaces: it needs no trust in this index.
        let mut learned = trust.follow(&root.registry, &root.rotations)?;
        if first_use && !trust.knows(Role::Registry, &root.registry) && root.key.id() == signed.key_id {
            trust.add(Role::Registry, &root.registry, &root.key, "first use")?;
            learned.push(format!(
                "{}: its key {} is trusted from now on, on first use",
                root.registry,
                root.key.id()
            ));
        }
        let advice = advice(&trust, Role::Registry, &root.registry, Some(&root.key));
        let what = format!("{at}: index");
        let claim = Claim {
            what: &what,
            role: Role::Registry,
            name: &root.registry,
            key: &signed.key_id,
            registry: &root.registry,
            revision: root.revision,
        };
        let key = trust.check(&claim, advice)?;
        signed.verify(at, key)?;

        let mut all: BTreeMap<String, Seen> = home.read(SEEN)?;
        let this = Seen { revision: root.revision, sha256: signed.payload_sha256() };
        let (store_name, registry) = (at.to_owned(), root.registry.clone());
        match all.get(&registry) {
            Some(seen) if seen.revision > this.revision => {
                let (found, seen) = (this.revision, seen.revision);
                return Err(RegistryError::Replayed { store: store_name, registry, found, seen });
            }
            Some(seen) if seen.revision == this.revision && seen.sha256 != this.sha256 => {
                return Err(RegistryError::TwoFaced { store: store_name, registry, revision: this.revision });
            }
            _ => {}
        }
        if root.expires <= now {
            let (expired, now) = (day(root.expires), day(now));
            return Err(RegistryError::Expired { store: store_name, registry, expired, now });
        }
        if all.get(&registry) != Some(&this) {
            all.insert(registry, this);
            home.write(SEEN, &all)?;
        }
        if trust.keys() != before.keys() {
            trust.save(home)?;
        }
        Ok(Self { home, store, root, root_bytes, first_use, learned })
    }

    /// Keys that came to be trusted by opening it: one line each, to be told.
    pub fn learned(&self) -> &[String] {
        &self.learned
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.root.registry
    }

    /// Revision of its index.
    pub fn revision(&self) -> u64 {
        self.root.revision
    }

    /// When its index is not believed any more.
    pub fn expires(&self) -> Timestamp {
        self.root.expires
    }

    /// Packages whose name, summary, labels or publisher have all the words in them.
    pub fn search(&self, words: &[String]) -> Vec<(&str, &Listed)> {
        let words: Vec<String> = words.iter().map(|w| w.to_lowercase()).collect();
        let has = |name: &str, listed: &Listed| {
            let text = format!("{name} {} {} {}", listed.summary, listed.labels.join(" "), listed.publisher)
                .to_lowercase();
            words.iter().all(|w| text.contains(w))
        };
        let all = self.root.packages.iter().filter(|(name, listed)| has(name, listed));
        all.map(|(name, listed)| (name.as_str(), listed)).collect()
    }

    /// The index's entry of a package.
    ///
    /// # Errors
    /// When there is no entry; the error suggests a similar name.
    pub fn listed(&self, name: &str) -> Result<&Listed> {
        self.root.packages.get(name).ok_or_else(|| {
            let near = self.root.packages.keys().map(|n| (distance(n, name), n)).min();
            let nearest = near.filter(|(d, _)| *d <= 3).map(|(_, n)| n.clone());
            RegistryError::NoSuchPackage {
                name: name.to_owned(),
                store: self.store.address().to_owned(),
                nearest,
            }
        })
    }

    /// All events of a package.
    ///
    /// # Errors
    /// When its file is missing (a mirror holds a selection), or differs from the digest in the root.
    pub fn events(&self, name: &str) -> Result<Vec<Event>> {
        let listed = self.listed(name)?;
        let bytes = self.store.read(&listed.place(name), LINES_LIMIT)?.ok_or_else(|| {
            let reason = format!(
                "{name}: listed in the index, and its file is not in this store; does a mirror leave it out?"
            );
            RegistryError::store(self.store.address(), reason)
        })?;
        let found = sha256(&bytes);
        if found != listed.sha256 {
            let what = format!("{}: index of {name}", self.store.address());
            return Err(RegistryError::Digest { what, found, expected: listed.sha256.clone() });
        }
        parse_lines(name, &bytes)
    }

    /// The release that a request resolves to on this machine.
    ///
    /// # Errors
    /// When no release fits; the error lists every release with the reason.
    pub fn resolve(&self, request: &Request, platform: &Platform) -> Result<Release> {
        let events = self.events(&request.name)?;
        resolve(request, &events, platform).cloned()
    }

    /// The key that must have signed a release.
    ///
    /// # Errors
    /// When the name belongs to another publisher, or the key is not trusted.
    pub(crate) fn publisher_key(
        &self,
        release: &Release,
        trust: &mut Trust,
    ) -> Result<(PublicKey, Option<String>)> {
        let listed = self.listed(&release.name)?;
        if listed.publisher != release.publisher {
            return Err(RegistryError::OtherPublisher {
                name: release.name.clone(),
                owner: listed.publisher.clone(),
                place: format!("in {}", self.store.address()),
                found: release.publisher.clone(),
            });
        }
        let shown = listed.keys.iter().find(|k| k.id() == release.key);
        let mut learned = None;
        if let Some(key) = shown
            && self.first_use
            && !trust.knows(Role::Publisher, &release.publisher)
        {
            trust.add(Role::Publisher, &release.publisher, key, "first use")?;
            trust.follow(&self.root.registry, &self.root.rotations)?;
            learned = Some(format!(
                "{}: its key {} is trusted from now on, on first use",
                release.publisher,
                key.id()
            ));
        }
        let advice = advice(trust, Role::Publisher, &release.publisher, shown);
        let claim = Claim {
            what: &format!("package {}", release.label()),
            role: Role::Publisher,
            name: &release.publisher,
            key: &release.key,
            registry: &self.root.registry,
            revision: release.revision,
        };
        let key = trust.check(&claim, advice)?;
        Ok((key.clone(), learned))
    }
}

fn advice(trust: &Trust, role: Role, name: &str, shown: Option<&PublicKey>) -> String {
    if trust.knows(role, name) {
        return format!(
            "another key of {name} is, and did not sign for this one; ask {name} before you trust it"
        );
    }
    let flag = if role == Role::Registry { " --registry" } else { "" };
    let key = shown.map_or("KEY", PublicKey::as_str);
    format!(
        "after comparing it with what {name} says elsewhere: `host registry trust add{flag} \"{name}\" {key}`"
    )
}

pub(crate) fn day(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}

/// Letters to change, add or leave out between two names.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<u8> = b.bytes().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
