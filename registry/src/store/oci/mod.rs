//! An OCI registry (Harbor, Zot, Docker's, a cloud's): each file is an artifact of this project's type, found by a tag.
//!
//! Anybody who may push can overwrite a tag, and a tag cannot be written conditionally. If two people publish at the
//! same time, the store notices it only if the second process reads what the first wrote.

mod client;

use super::{Sink, Store, drain, pour};
use crate::digest::{sha256, sha256_of_file};
use crate::error::{RegistryError, Result};
use crate::index::ROOT;
use client::{Access, Client, refusal, small};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use ureq::Body;
use ureq::http::{Method, Response, StatusCode};

const PACKAGE: &str = "application/vnd.anymc3d.package.v1";
const INDEX: &str = "application/vnd.anymc3d.index.v1";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const TITLE: &str = "org.opencontainers.image.title";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What a manifest says of a blob.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// An artifact's manifest.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u8,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

pub(super) struct Oci {
    address: String,
    client: Client,
}

impl Oci {
    /// `rest` is `host[:port]/path`.
    pub fn new(address: &str, rest: &str, tls: bool) -> Result<Self> {
        let rest = rest.trim_end_matches('/');
        let Some((host, repository)) = rest.split_once('/').filter(|(h, r)| !h.is_empty() && !r.is_empty())
        else {
            let expected = "expected a repository too, for example oci://registry.hospital.example/anymc3d";
            return Err(RegistryError::Usage(format!("--store {address}: {expected}")));
        };
        if host.contains('@') {
            let advice = "give the account as $ANYMC3D_STORE_USER and $ANYMC3D_STORE_PASSWORD";
            return Err(RegistryError::Usage(format!("--store oci://…: {advice}")));
        }
        let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let account = variable("ANYMC3D_STORE_USER").zip(variable("ANYMC3D_STORE_PASSWORD"));
        Ok(Self { address: address.to_owned(), client: Client::new(host, repository, tls, account) })
    }

    fn failed(&self, name: &str, e: impl std::fmt::Display) -> RegistryError {
        RegistryError::store(&self.address, format!("{name}: {e}"))
    }

    fn get(
        &self,
        name: &str,
        access: Access,
        rest: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response<Body>> {
        let sent = self.client.send(access, &Method::GET, &self.client.url(rest), headers, &[]);
        sent.map_err(|e| self.failed(name, e))
    }

    /// The one layer of a file's manifest.
    fn layer(&self, name: &str, access: Access) -> Result<Option<Descriptor>> {
        let rest = format!("manifests/{}", tag(name));
        let response = self.get(name, access, &rest, &[("Accept", MANIFEST)])?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(self.failed(name, refusal(response))),
        }
        let bytes = small(response).map_err(|e| self.failed(name, e))?;
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|e| self.failed(name, format!("a manifest that cannot be read ({e})")))?;
        match (manifest.artifact_type.as_deref(), <[Descriptor; 1]>::try_from(manifest.layers)) {
            (Some(PACKAGE | INDEX), Ok([layer])) => Ok(Some(layer)),
            (found, _) => {
                Err(self.failed(name, format!("an artifact of type {found:?}; expected one of AnyMC3D")))
            }
        }
    }

    /// Uploads a blob that the registry does not have yet.
    fn push_blob(&self, name: &str, content: &[u8], digest: &str) -> Result<()> {
        let failed = |e: String| self.failed(name, e);
        let at = self.client.url(&format!("blobs/{digest}"));
        let there = self.client.send(Access::Push, &Method::HEAD, &at, &[], &[]).map_err(failed)?;
        if there.status() == StatusCode::OK {
            return Ok(());
        }
        let begin = self.client.url("blobs/uploads/");
        let begun = self.client.send(Access::Push, &Method::POST, &begin, &[], &[]).map_err(failed)?;
        let location = begun.headers().get("location").and_then(|l| l.to_str().ok()).map(str::to_owned);
        let Some(location) = location.filter(|_| begun.status() == StatusCode::ACCEPTED) else {
            return Err(failed(refusal(begun)));
        };
        let location = self.client.absolute(&location).map_err(failed)?;
        let separator = if location.contains('?') { '&' } else { '?' };
        let place = format!("{location}{separator}digest={digest}");
        let headers = [("Content-Type", "application/octet-stream")];
        let put = self.client.send(Access::Push, &Method::PUT, &place, &headers, content).map_err(failed)?;
        if put.status() == StatusCode::CREATED { Ok(()) } else { Err(failed(refusal(put))) }
    }

    fn push(&self, name: &str, content: &[u8], digest: &str) -> Result<()> {
        let kind = if name.starts_with("packages/") { PACKAGE } else { INDEX };
        let layer = Descriptor {
            media_type: if kind == PACKAGE { format!("{PACKAGE}.tar+zstd") } else { INDEX.to_owned() },
            digest: format!("sha256:{digest}"),
            size: content.len() as u64,
            annotations: [(TITLE.to_owned(), name.to_owned())].into(),
        };
        let nothing = b"{}";
        let config = Descriptor {
            media_type: EMPTY.to_owned(),
            digest: format!("sha256:{}", sha256(nothing)),
            size: nothing.len() as u64,
            annotations: BTreeMap::new(),
        };
        self.push_blob(name, nothing, &config.digest)?;
        self.push_blob(name, content, &layer.digest)?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(MANIFEST.to_owned()),
            artifact_type: Some(kind.to_owned()),
            config: Some(config),
            layers: vec![layer],
        };
        let text = serde_json::to_vec(&manifest).map_err(|e| self.failed(name, e))?;
        let place = self.client.url(&format!("manifests/{}", tag(name)));
        let put = self.client.send(Access::Push, &Method::PUT, &place, &[("Content-Type", MANIFEST)], &text);
        let put = put.map_err(|e| self.failed(name, e))?;
        if put.status() == StatusCode::CREATED { Ok(()) } else { Err(self.failed(name, refusal(put))) }
    }
}

impl Store for Oci {
    fn address(&self) -> &str {
        &self.address
    }

    fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(layer) = self.layer(name, Access::Pull)? else { return Ok(None) };
        if layer.size > limit {
            return Err(self.failed(name, format!("{} bytes; at most {limit} are read", layer.size)));
        }
        let response = self.get(name, Access::Pull, &format!("blobs/{}", layer.digest), &[])?;
        if response.status() != StatusCode::OK {
            return Err(self.failed(name, refusal(response)));
        }
        drain(&self.address, name, response.into_body().into_reader(), limit).map(Some)
    }

    fn fetch(&self, name: &str, from: u64, sink: &mut dyn Sink) -> Result<bool> {
        let Some(layer) = self.layer(name, Access::Pull)? else { return Ok(false) };
        let from = if from < layer.size { from } else { 0 };
        let rest = format!("blobs/{}", layer.digest);
        let range = format!("bytes={from}-");
        let headers: &[(&str, &str)] = if from > 0 { &[("Range", &range)] } else { &[] };
        let response = self.get(name, Access::Pull, &rest, headers)?;
        let at = match response.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT => from,
            _ => return Err(self.failed(name, refusal(response))),
        };
        sink.begin(at).map_err(|e| self.failed(name, e))?;
        pour(&self.address, name, response.into_body().into_reader(), sink)?;
        Ok(true)
    }

    fn put(&self, name: &str, file: &Path) -> Result<()> {
        let (digest, _) = sha256_of_file(file)?;
        let content = std::fs::read(file).map_err(RegistryError::io(file, "cannot be read"))?;
        self.push(name, &content, &digest)
    }

    fn exchange(&self, name: &str, old: Option<&[u8]>, new: &[u8]) -> Result<()> {
        let now = self.layer(name, Access::Push)?.map(|layer| layer.digest);
        if now != old.map(|old| format!("sha256:{}", sha256(old))) {
            return Err(RegistryError::Raced { store: self.address.clone() });
        }
        self.push(name, new, &sha256(new))
    }
}

/// A tag has letters, digits, `.`, `_`, `-`, and 128 characters.
fn tag(name: &str) -> String {
    if name == ROOT {
        return "index".to_owned();
    }
    let plain = name.strip_prefix("packages/").and_then(|n| n.split_once('/')).map_or_else(
        || name.trim_end_matches(".jsonl").replace('/', "."),
        |(_, file)| file.trim_end_matches(".tar.zst").to_owned(),
    );
    let tag: String =
        plain.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    // `1.0.0+a` and `1.0.0_a` must not share a tag, and neither must what is cut off.
    if tag == plain && tag.len() <= 128 {
        tag
    } else {
        format!("{:.100}.{:.12}", tag, sha256(name.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::tag;

    #[test]
    fn tags_are_legal_and_never_shared() {
        assert_eq!(tag("index.signed"), "index");
        assert_eq!(
            tag("packages/lung_nodule/lung_nodule-0.1.0-x86_64-linux.tar.zst"),
            "lung_nodule-0.1.0-x86_64-linux"
        );
        let file = format!("index/lung_nodule/{}.jsonl", "a".repeat(64));
        assert_eq!(tag(&file), format!("index.lung_nodule.{}", "a".repeat(64)));
        let plus = tag("packages/a1/a1-1.0.0+b-x86_64-linux.tar.zst");
        assert_ne!(plus, tag("packages/a1/a1-1.0.0_b-x86_64-linux.tar.zst"));
        let long = |end: char| tag(&format!("index/{}/{}{end}.jsonl", "n".repeat(64), "a".repeat(63)));
        assert!(long('b').len() <= 128 && long('b') != long('c'));
    }
}
