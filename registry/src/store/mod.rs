//! Where a registry lies: a folder, a static HTTP(S) server, an OCI registry, an object store. A store is not trusted
//! with anything: what comes out of it is verified by whoever asked.

mod folder;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "object-store")]
mod object;
#[cfg(feature = "oci")]
mod oci;
#[cfg(feature = "object-store")]
mod runtime;

use crate::error::{RegistryError, Result};
use std::io;
use std::path::Path;

/// Names are relative, with `/`, of letters, digits and `._-+`.
pub trait Store: Send + Sync {
    /// For messages; without credentials.
    fn address(&self) -> &str;

    /// Reads a small file; `None` if the file does not exist.
    ///
    /// # Errors
    /// When the store cannot be reached, or the file is larger than `limit`.
    fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>>;

    /// Reads a large file from byte `from` on, or from another start that it gives to the sink. `false` if the file does not
    /// exist.
    ///
    /// # Errors
    /// When the connection breaks (the sink has the bytes that arrived before), or the sink fails.
    fn fetch(&self, name: &str, from: u64, sink: &mut dyn Sink) -> Result<bool>;

    /// Writes a file under a name that is not in use or holds the same content.
    ///
    /// # Errors
    /// When the store cannot be written to.
    fn put(&self, name: &str, file: &Path) -> Result<()>;

    /// Replaces a small file atomically, if it still has the expected content.
    ///
    /// # Errors
    /// [`RegistryError::Raced`] when somebody else changed the file, if the store can detect that.
    fn exchange(&self, name: &str, old: Option<&[u8]>, new: &[u8]) -> Result<()>;
}

/// Takes what is fetched.
pub trait Sink {
    /// Receives the position of the next byte. A store that cannot start in the middle starts at 0.
    ///
    /// # Errors
    /// When the sink cannot seek to that position.
    fn begin(&mut self, at: u64) -> io::Result<()>;

    /// Receives the next bytes.
    ///
    /// # Errors
    /// When the bytes cannot be stored, or are more than expected.
    fn take(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// A store by its address: a folder, `http(s)://…`, `oci://host/path` (`oci+http://` without TLS), and with the feature
/// `object-store` `s3://`, `gs://`, `az://`.
///
/// # Errors
/// When this build does not know the form of the address.
pub fn open(address: &str) -> Result<Box<dyn Store>> {
    let unknown = |why: &str| Err(RegistryError::Usage(format!("--store {address}: {why}")));
    match address.split_once("://") {
        None => Ok(Box::new(folder::Folder::new(Path::new(address)))),
        Some(("file", path)) => Ok(Box::new(folder::Folder::new(Path::new(path)))),
        #[cfg(feature = "http")]
        Some(("http" | "https", _)) => Ok(Box::new(http::Http::new(address))),
        #[cfg(feature = "oci")]
        Some(("oci", rest)) => Ok(Box::new(oci::Oci::new(address, rest, true)?)),
        #[cfg(feature = "oci")]
        Some(("oci+http", rest)) => Ok(Box::new(oci::Oci::new(address, rest, false)?)),
        #[cfg(feature = "object-store")]
        Some(("s3" | "gs" | "az" | "memory" | "object+file", _)) => {
            Ok(Box::new(object::Objects::new(address)?))
        }
        #[cfg(not(feature = "object-store"))]
        Some(("s3" | "gs" | "az", _)) => {
            unknown("this build has no object stores; build the host with feature `object-store`")
        }
        Some((scheme, _)) => {
            unknown(&format!("`{scheme}` is no kind of store; expected a folder, https:// or oci://"))
        }
    }
}

/// Copies a reader into a sink.
pub(crate) fn pour(store: &str, name: &str, mut from: impl io::Read, sink: &mut dyn Sink) -> Result<()> {
    let failed = |e: io::Error| RegistryError::store(store, format!("{name}: the connection broke ({e})"));
    let mut block = vec![0u8; 1 << 16];
    loop {
        match from.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(n) => {
                sink.take(&block[..n]).map_err(|e| RegistryError::store(store, format!("{name}: {e}")))?
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(failed(e)),
        }
    }
}

/// A whole reader, of at most `limit` bytes.
pub(crate) fn drain(store: &str, name: &str, from: impl io::Read, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = io::Read::read_to_end(&mut io::Read::take(from, limit + 1), &mut bytes);
    read.map_err(|e| RegistryError::store(store, format!("{name}: cannot be read ({e})")))?;
    within(store, name, bytes, limit)
}

pub(crate) fn within(store: &str, name: &str, bytes: Vec<u8>, limit: u64) -> Result<Vec<u8>> {
    if bytes.len() as u64 > limit {
        return Err(RegistryError::store(
            store,
            format!("{name}: more than {limit} bytes; none was believed"),
        ));
    }
    Ok(bytes)
}
