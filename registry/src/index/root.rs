//! The root of the index: four lines of minisign signature, then the JSON that they sign. One file, so that signature
//! and content can never be of two revisions.

use crate::digest::{is_sha256, sha256};
use crate::error::{RegistryError, Result};
use crate::key::{PublicKey, SecretKey, signer};
use crate::package::{check_name, check_party};
use crate::rotation::Rotation;
use jiff::Timestamp;
use semver::Version;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Its name in a store.
pub const ROOT: &str = "index.signed";
/// Ten thousand packages take about 4 MB.
pub(crate) const ROOT_LIMIT: u64 = 64 << 20;
const SCHEMA: &str = "anymc3d/index/1";

/// What a registry has, at one revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Root {
    schema: String,
    /// The registry's name; its key is trusted under it.
    pub registry: String,
    /// The key that signs it: to be trusted on first use, and only when that was asked for.
    pub key: PublicKey,
    /// One more with every change.
    pub revision: u64,
    /// When it was signed.
    pub signed: Timestamp,
    /// Not believed any more from here on.
    pub expires: Timestamp,
    /// Keys that took others' places.
    #[serde(default)]
    pub rotations: Vec<Rotation>,
    /// Packages by name.
    pub packages: BTreeMap<String, Listed>,
}

/// A package as the root lists it: enough to search, and the digest of its file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// Whose name it is: the first to publish under it.
    pub publisher: String,
    /// The publisher's keys that may sign its packages. A key comes in with the first package or by rotation.
    pub keys: Vec<PublicKey>,
    /// Of the newest version.
    pub summary: String,
    /// Of the newest version.
    pub labels: Vec<String>,
    /// Highest version that is not withdrawn.
    pub newest: Option<Version>,
    /// Digest of the package's file.
    pub sha256: String,
    /// Size of the package's file.
    pub bytes: u64,
}

impl Listed {
    /// Where the package's file lies in a store: by digest, so that a reader of the old root still finds the old file.
    pub fn place(&self, name: &str) -> String {
        format!("index/{name}/{}.jsonl", self.sha256)
    }
}

/// A root as it came, before anything of it is believed.
pub struct SignedRoot<'a> {
    signature: &'a str,
    payload: &'a [u8],
    /// Who signed it, as it says itself.
    pub key_id: String,
}

impl Root {
    /// An empty registry at revision 1.
    ///
    /// # Errors
    /// When the name is none.
    pub fn new(registry: &str, key: &PublicKey, expires: Timestamp) -> Result<Self> {
        check_party(registry).map_err(RegistryError::Usage)?;
        Ok(Self {
            schema: SCHEMA.to_owned(),
            registry: registry.to_owned(),
            key: key.clone(),
            revision: 1,
            signed: Timestamp::now(),
            expires,
            rotations: Vec::new(),
            packages: BTreeMap::new(),
        })
    }

    /// The signed text, as a store holds it.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn sign(&self, key: &SecretKey) -> Result<Vec<u8>> {
        let payload = serde_json::to_vec(self).map_err(|e| RegistryError::form("index", e))?;
        let comment = format!("index of {}, revision {}", self.registry, self.revision);
        let mut signed = key.sign(&payload, &comment)?.trim_end().as_bytes().to_vec();
        signed.push(b'\n');
        signed.extend(payload);
        Ok(signed)
    }
}

impl<'a> SignedRoot<'a> {
    /// Splits a signed text into signature and content.
    ///
    /// # Errors
    /// When there is no signature, or no content.
    pub fn split(store: &str, bytes: &'a [u8]) -> Result<Self> {
        let what = || format!("{store}: index");
        if bytes.first() == Some(&b'{') {
            return Err(RegistryError::Unsigned { what: what() });
        }
        let ends: Vec<usize> =
            bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i).take(4).collect();
        let end = ends.get(3).ok_or_else(|| RegistryError::form(what(), "not a signed index"))? + 1;
        let (signature, payload) = bytes.split_at(end);
        let signature = std::str::from_utf8(signature).map_err(|e| RegistryError::form(what(), e))?;
        let key_id = signer(&what(), signature)?;
        Ok(Self { signature, payload, key_id })
    }

    /// Reads the unverified content (registry and rotations), to find the key that verifies it.
    ///
    /// # Errors
    /// When it is no index.
    pub fn unverified(&self, store: &str) -> Result<Root> {
        let refuse = |reason: String| RegistryError::form(format!("{store}: index"), reason);
        let root: Root = serde_json::from_slice(self.payload).map_err(|e| refuse(e.to_string()))?;
        if root.schema != SCHEMA {
            return Err(refuse(format!(
                "schema {}, this host reads {SCHEMA}; upgrade the host",
                root.schema
            )));
        }
        check_party(&root.registry).map_err(refuse)?;
        for (name, listed) in &root.packages {
            check_name(name).map_err(refuse)?;
            check_party(&listed.publisher).map_err(refuse)?;
            if !is_sha256(&listed.sha256) {
                return Err(refuse(format!("{name}: a digest is not 64 hexadecimal digits")));
            }
        }
        Ok(root)
    }

    /// Verifies the signature with this key.
    ///
    /// # Errors
    /// When the signature does not verify.
    pub fn verify(&self, store: &str, key: &PublicKey) -> Result<()> {
        key.verify(&format!("{store}: index"), self.payload, self.signature).map(drop)
    }

    /// Digest of what is signed.
    pub fn payload_sha256(&self) -> String {
        sha256(self.payload)
    }
}
