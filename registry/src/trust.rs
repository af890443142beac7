//! Which keys are trusted, for what, and since when: `registry/trust.json` in the home.

use crate::error::{RegistryError, Result};
use crate::home::Home;
use crate::key::PublicKey;
use crate::rotation::Rotation;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a key may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Packages.
    Publisher,
    /// The index.
    Registry,
}

/// A trusted key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trusted {
    /// Whose it is: the publisher's or the registry's name, exactly as packages and index say it.
    pub name: String,
    /// What it may sign.
    pub role: Role,
    /// The key.
    pub key: PublicKey,
    /// `added`, `first use`, or `cross-signed by ID`.
    pub how: String,
    /// When.
    pub since: Timestamp,
    /// By registry, the revision of its index that replaced the key: what was published before is still good.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub retired: BTreeMap<String, u64>,
}

/// Something says that it is signed by somebody's key.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// What it is, for messages.
    pub what: &'a str,
    /// What the key would have to be trusted for.
    pub role: Role,
    /// Whose key it is said to be.
    pub name: &'a str,
    /// The key's id.
    pub key: &'a str,
    /// The registry that shows it.
    pub registry: &'a str,
    /// Revision of that registry's index in which it was published.
    pub revision: u64,
}

/// All trusted keys.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Trust {
    keys: Vec<Trusted>,
}

const FILE: &str = "trust.json";

impl Trust {
    /// Reads the trusted keys of a home; empty if nothing was ever trusted.
    ///
    /// # Errors
    /// When the file exists but cannot be used.
    pub fn open(home: &Home) -> Result<Self> {
        home.read(FILE)
    }

    /// Writes the keys into the home. The caller holds the home's lock.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, home: &Home) -> Result<()> {
        home.write(FILE, self)
    }

    /// All of them, in the order they came.
    pub fn keys(&self) -> &[Trusted] {
        &self.keys
    }

    /// Whether any key is trusted for this role under this name.
    pub fn knows(&self, role: Role, name: &str) -> bool {
        self.keys.iter().any(|k| k.role == role && k.name == name)
    }

    /// A key by role, name and id.
    pub fn find(&self, role: Role, name: &str, id: &str) -> Option<&Trusted> {
        self.keys.iter().find(|k| k.role == role && k.name == name && k.key.id() == id)
    }

    /// The trusted key that a claim names. `advice` says what to do if the key is not trusted.
    ///
    /// # Errors
    /// When the key is not trusted, or was replaced before.
    pub fn check(&self, claim: &Claim<'_>, advice: String) -> Result<&PublicKey> {
        let (what, key, who) = (claim.what.to_owned(), claim.key.to_owned(), claim.name.to_owned());
        let Some(trusted) = self.find(claim.role, claim.name, claim.key) else {
            return Err(RegistryError::Untrusted { what, key, who, advice });
        };
        match trusted.retired.get(claim.registry) {
            Some(&retired) if claim.revision >= retired => {
                Err(RegistryError::RetiredKey { what, key, who, retired, revision: claim.revision })
            }
            _ => Ok(&trusted.key),
        }
    }

    /// Adds a key; `false` if the key was trusted already.
    ///
    /// # Errors
    /// When the key is trusted under another name, because a key has a single owner.
    pub fn add(&mut self, role: Role, name: &str, key: &PublicKey, how: &str) -> Result<bool> {
        if let Some(other) = self.keys.iter().find(|k| k.role == role && &k.key == key) {
            if other.name == name {
                return Ok(false);
            }
            return Err(RegistryError::Usage(format!(
                "key {}: is trusted as {} already; remove it first",
                key.id(),
                other.name
            )));
        }
        let since = Timestamp::now();
        self.keys.push(Trusted {
            name: name.to_owned(),
            role,
            key: key.clone(),
            how: how.to_owned(),
            since,
            retired: BTreeMap::new(),
        });
        Ok(true)
    }

    /// Removes keys by name or id; those that went.
    pub fn remove(&mut self, name_or_id: &str) -> Vec<Trusted> {
        let (gone, kept) = self
            .keys
            .drain(..)
            .partition(|k| k.name == name_or_id || k.key.id().eq_ignore_ascii_case(name_or_id));
        self.keys = kept;
        gone
    }

    /// Follows a registry's cross-signed rotations from trusted keys to their successors; returns a line for each new key.
    ///
    /// # Errors
    /// When a rotation's signatures do not verify.
    pub fn follow(&mut self, registry: &str, rotations: &[Rotation]) -> Result<Vec<String>> {
        let mut learned = Vec::new();
        // In the order of revisions, so that a chain is followed in one pass.
        let mut ordered: Vec<&Rotation> = rotations.iter().collect();
        ordered.sort_by_key(|r| r.revision);
        for rotation in ordered {
            let statement = rotation.verified()?;
            let (role, name) = (statement.role, &statement.name);
            let Some(old) =
                self.keys.iter_mut().find(|k| k.role == role && &k.name == name && k.key == statement.old)
            else {
                continue;
            };
            if old.retired.contains_key(registry) {
                continue;
            }
            old.retired.insert(registry.to_owned(), rotation.revision);
            let how = format!("cross-signed by {}", statement.old.id());
            if self.add(role, name, &statement.new, &how)? {
                learned.push(format!(
                    "{name}: key {} took the place of {}, which signed for it",
                    statement.new.id(),
                    statement.old.id()
                ));
            }
        }
        Ok(learned)
    }
}
