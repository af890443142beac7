//! An OCI registry (Harbor, Zot, Docker's, a cloud's): each file is an artifact of a type of our own, found by a tag.
//!
//! A tag can be overwritten by anybody who may push, and there is no exchange of a tag under a condition: two who
//! publish at the same moment are only noticed where the second one reads what the first one wrote.

use super::runtime::runtime;
use super::{Sink, Store, within};
use crate::digest::{sha256, sha256_of_file};
use crate::error::{RegistryError, Result};
use crate::index::ROOT;
use bytes::Bytes;
use futures_util::StreamExt;
use oci_client::client::{BlobResponse, Client, ClientConfig, ClientProtocol, SizedStream};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::manifest::{OciDescriptor, OciImageManifest, OciManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, RegistryOperation};
use std::path::Path;
use std::time::Duration;
use tokio::runtime::Runtime;

const PACKAGE: &str = "application/vnd.anymc3d.package.v1";
const INDEX: &str = "application/vnd.anymc3d.index.v1";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const TITLE: &str = "org.opencontainers.image.title";

pub(super) struct Oci {
    address: String,
    host: String,
    repository: String,
    auth: RegistryAuth,
    client: Client,
    runtime: Runtime,
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
        let auth = match (variable("ANYMC3D_STORE_USER"), variable("ANYMC3D_STORE_PASSWORD")) {
            (Some(user), Some(password)) => RegistryAuth::Basic(user, password),
            _ => RegistryAuth::Anonymous,
        };
        let runtime = runtime(address)?;
        let config = ClientConfig {
            protocol: if tls { ClientProtocol::Https } else { ClientProtocol::Http },
            connect_timeout: Some(Duration::from_secs(20)),
            read_timeout: Some(Duration::from_secs(60)),
            ..ClientConfig::default()
        };
        let client = Client::new(config);
        let (address, host, repository) = (address.to_owned(), host.to_owned(), repository.to_owned());
        Ok(Self { address, host, repository, auth, client, runtime })
    }

    fn reference(&self, name: &str) -> Reference {
        Reference::with_tag(self.host.clone(), self.repository.clone(), tag(name))
    }

    fn failed(&self, name: &str, e: impl std::fmt::Display) -> RegistryError {
        RegistryError::store(&self.address, format!("{name}: {e}"))
    }

    /// The one layer of a file's manifest.
    fn layer(&self, name: &str, image: &Reference) -> Result<Option<OciDescriptor>> {
        let pulled = self.runtime.block_on(self.client.pull_manifest(image, &self.auth));
        let manifest = match pulled {
            Ok((manifest, _)) => manifest,
            Err(e) if is_missing(&e) => return Ok(None),
            Err(e) => return Err(self.failed(name, e)),
        };
        let OciManifest::Image(manifest) = manifest else {
            return Err(self.failed(name, "an image index; expected an artifact of AnyMC3D"));
        };
        match (manifest.artifact_type.as_deref(), <[OciDescriptor; 1]>::try_from(manifest.layers)) {
            (Some(PACKAGE | INDEX), Ok([layer])) => Ok(Some(layer)),
            (found, _) => {
                Err(self.failed(name, format!("an artifact of type {found:?}; expected one of AnyMC3D")))
            }
        }
    }

    fn push(&self, name: &str, content: Bytes, digest: &str) -> Result<()> {
        let image = self.reference(name);
        let kind = if name.starts_with("packages/") { PACKAGE } else { INDEX };
        let size = |n: usize| i64::try_from(n).map_err(|e| self.failed(name, e));
        let layer = OciDescriptor {
            media_type: if kind == PACKAGE { format!("{PACKAGE}.tar+zstd") } else { INDEX.to_owned() },
            digest: format!("sha256:{digest}"),
            size: size(content.len())?,
            annotations: Some([(TITLE.to_owned(), name.to_owned())].into()),
            ..OciDescriptor::default()
        };
        let nothing = Bytes::from_static(b"{}");
        let config = OciDescriptor {
            media_type: EMPTY.to_owned(),
            digest: format!("sha256:{}", sha256(&nothing)),
            size: 2,
            ..OciDescriptor::default()
        };
        let manifest = OciImageManifest {
            artifact_type: Some(kind.to_owned()),
            config: config.clone(),
            layers: vec![layer.clone()],
            ..OciImageManifest::default()
        };
        let pushed = self.runtime.block_on(async {
            self.client.auth(&image, &self.auth, RegistryOperation::Push).await?;
            self.client.push_blob(&image, nothing, &config.digest).await?;
            self.client.push_blob(&image, content, &layer.digest).await?;
            self.client.push_manifest(&image, &OciManifest::Image(manifest)).await
        });
        pushed.map(drop).map_err(|e| self.failed(name, e))
    }

    fn stream(
        &self,
        name: &str,
        stream: SizedStream,
        take: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut stream = stream.stream;
        loop {
            match self.runtime.block_on(stream.next()) {
                None => return Ok(()),
                Some(Ok(bytes)) => take(&bytes)?,
                Some(Err(e)) => return Err(self.failed(name, format!("the connection broke ({e})"))),
            }
        }
    }
}

impl Store for Oci {
    fn address(&self) -> &str {
        &self.address
    }

    fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let image = self.reference(name);
        let Some(layer) = self.layer(name, &image)? else { return Ok(None) };
        if layer.size.max(0) as u64 > limit {
            return Err(self.failed(name, format!("{} bytes; at most {limit} are read", layer.size)));
        }
        let stream = self.runtime.block_on(self.client.pull_blob_stream(&image, &layer));
        let mut bytes = Vec::new();
        self.stream(name, stream.map_err(|e| self.failed(name, e))?, &mut |block| {
            bytes.extend_from_slice(block);
            bytes = within(&self.address, name, std::mem::take(&mut bytes), limit)?;
            Ok(())
        })?;
        Ok(Some(bytes))
    }

    fn fetch(&self, name: &str, from: u64, sink: &mut dyn Sink) -> Result<bool> {
        let image = self.reference(name);
        let Some(layer) = self.layer(name, &image)? else { return Ok(false) };
        let from = if from < layer.size.max(0) as u64 { from } else { 0 };
        let got = self.runtime.block_on(self.client.pull_blob_stream_partial(&image, &layer, from, None));
        let (at, stream) = match got.map_err(|e| self.failed(name, e))? {
            BlobResponse::Full(stream) => (0, stream),
            BlobResponse::Partial(stream) => (from, stream),
        };
        sink.begin(at).map_err(|e| self.failed(name, e))?;
        self.stream(name, stream, &mut |block| sink.take(block).map_err(|e| self.failed(name, e)))?;
        Ok(true)
    }

    fn put(&self, name: &str, file: &Path) -> Result<()> {
        let (digest, _) = sha256_of_file(file)?;
        let content = std::fs::read(file).map_err(RegistryError::io(file, "cannot be read"))?;
        self.push(name, content.into(), &digest)
    }

    fn exchange(&self, name: &str, old: Option<&[u8]>, new: &[u8]) -> Result<()> {
        let now = self.layer(name, &self.reference(name))?.map(|layer| layer.digest);
        if now != old.map(|old| format!("sha256:{}", sha256(old))) {
            return Err(RegistryError::Raced { store: self.address.clone() });
        }
        self.push(name, Bytes::copy_from_slice(new), &sha256(new))
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

fn is_missing(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::ImageManifestNotFoundError(_) => true,
        OciDistributionError::ServerError { code, .. } => *code == 404,
        OciDistributionError::RegistryError { envelope, .. } => envelope.errors.iter().any(|e| {
            matches!(
                e.code,
                OciErrorCode::ManifestUnknown | OciErrorCode::NameUnknown | OciErrorCode::NotFound
            )
        }),
        _ => false,
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
