//! The objects below an address `s3://bucket/prefix`, through a client that waits.
//!
//! Account, region and endpoint come from the environment, by the names of Amazon's own tools: `AWS_ACCESS_KEY_ID`,
//! `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP`.

use crate::fs::write_atomically;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::path::Path as Key;
use object_store::{
    Error, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
    UpdateVersion, WriteMultipart,
};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// How many objects are asked for at a time.
const AT_A_TIME: usize = 16;
/// Files above this size go in parts.
const WHOLE: u64 = 64 << 20;
/// Bytes of a part.
const PART: usize = 16 << 20;
/// How long a request is tried again before the store counts as gone.
const PATIENCE: Duration = Duration::from_secs(20);
const TRIES: usize = 6;
/// Before a conditional request is sent again, for the first time.
const PAUSE: Duration = Duration::from_millis(300);

/// What an object is by now: another content has another tag.
pub type Tag = Option<String>;

/// An object in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Below the address, with `/`.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// What it is by now.
    pub tag: Tag,
}

/// On which condition an object is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// Always.
    Always,
    /// Nothing lies there.
    Absent,
    /// What lies there is still this.
    Still(Tag),
}

/// Why an object was not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutError {
    /// Its condition does not hold.
    Changed,
    /// One line that names it.
    Store(String),
}

/// The objects below an address.
pub struct Objects {
    address: String,
    store: Arc<dyn ObjectStore>,
    prefix: Key,
    runtime: Runtime,
}

impl Objects {
    /// Of `s3://bucket/prefix`. Nothing is asked of the store yet.
    ///
    /// # Errors
    /// One line: the address or the environment's settings cannot be used.
    pub fn open(address: &str) -> Result<Self, String> {
        let failed = |e: &dyn std::fmt::Display| format!("{address}: {e}");
        let rest = address.strip_prefix("s3://").ok_or_else(|| failed(&"expected s3://bucket/prefix"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(failed(&"names no bucket; expected s3://bucket/prefix"));
        }
        let prefix = Key::parse(prefix.trim_end_matches('/')).map_err(|e| failed(&e))?;
        let retry = RetryConfig { max_retries: TRIES, retry_timeout: PATIENCE, ..RetryConfig::default() };
        // One provider of cryptography for all of TLS; a second call finds it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let store = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry).build();
        Self::of(address.trim_end_matches('/'), Arc::new(store.map_err(|e| failed(&e))?), prefix)
    }

    /// Of a store that is open.
    pub(super) fn of(address: &str, store: Arc<dyn ObjectStore>, prefix: Key) -> Result<Self, String> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| format!("{address}: {e}"))?;
        Ok(Self { address: address.to_owned(), store, prefix, runtime })
    }

    /// A client of its own for another thread.
    ///
    /// # Errors
    /// One line.
    pub(super) fn again(&self) -> Result<Self, String> {
        Self::of(&self.address, self.store.clone(), self.prefix.clone())
    }

    /// As it was given, without a slash at its end.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Names are taken as they are, as lists give them.
    fn key(&self, name: &str) -> Result<Key, String> {
        let between = if self.prefix.as_ref().is_empty() || name.is_empty() { "" } else { "/" };
        Key::parse(format!("{}{between}{name}", self.prefix)).map_err(|e| self.failed(name, e))
    }

    /// One line that names an object.
    pub(super) fn failed(&self, name: &str, e: impl std::fmt::Display) -> String {
        let slash = if name.is_empty() { "" } else { "/" };
        format!("{}{slash}{name}: {e}", self.address)
    }

    /// All objects whose names begin with the parts of `below`.
    ///
    /// # Errors
    /// One line.
    pub fn list(&self, below: &str) -> Result<Vec<Listed>, String> {
        let key = self.key(below)?;
        let cut = if self.prefix.as_ref().is_empty() { 0 } else { self.prefix.as_ref().len() + 1 };
        let all = self.store.list(Some(&key)).map_ok(|meta| Listed {
            name: meta.location.as_ref().get(cut..).unwrap_or_default().to_owned(),
            size: meta.size,
            tag: meta.e_tag,
        });
        self.runtime.block_on(all.try_collect()).map_err(|e| self.failed(below, e))
    }

    /// The object of this address itself; none where it is not there.
    ///
    /// # Errors
    /// One line.
    pub(super) fn itself(&self) -> Result<Option<Listed>, String> {
        if self.prefix.as_ref().is_empty() {
            return Ok(None);
        }
        match self.runtime.block_on(self.store.head(&self.prefix)) {
            Ok(meta) => Ok(Some(Listed { name: String::new(), size: meta.size, tag: meta.e_tag })),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.failed("", e)),
        }
    }

    /// A whole object and what it is by now; none where it is not there.
    ///
    /// # Errors
    /// One line.
    pub fn read(&self, name: &str) -> Result<Option<(Bytes, Tag)>, String> {
        self.runtime.block_on(self.get(name))
    }

    async fn get(&self, name: &str) -> Result<Option<(Bytes, Tag)>, String> {
        let got = match self.store.get_opts(&self.key(name)?, GetOptions::default()).await {
            Ok(got) => got,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(self.failed(name, e)),
        };
        let tag = got.meta.e_tag.clone();
        Ok(Some((got.bytes().await.map_err(|e| self.failed(name, e))?, tag)))
    }

    /// Copies objects into a folder under their names; what is gone meanwhile is passed over.
    ///
    /// # Errors
    /// One line.
    pub fn copy_to(&self, folder: &Path, names: &[String]) -> Result<(), String> {
        let one = |name: &String| {
            let name = name.clone();
            async move { self.get(&name).await.map(|got| (name, got)) }
        };
        let mut all = futures_util::stream::iter(names).map(one).buffer_unordered(AT_A_TIME);
        self.runtime.block_on(async {
            while let Some(got) = all.next().await {
                let (name, Some((bytes, _))) = got? else { continue };
                let place = folder.join(&name);
                let unwritable = |e: io::Error| format!("{}: cannot be written ({e})", place.display());
                std::fs::create_dir_all(place.parent().unwrap_or(folder)).map_err(unwritable)?;
                write_atomically(&place, &bytes).map_err(unwritable)?;
            }
            Ok(())
        })
    }

    /// Streams an object of `size` bytes into a file that is not there yet. `false` where the object is not there.
    ///
    /// # Errors
    /// One line; also where more bytes come.
    pub fn fetch(&self, name: &str, size: u64, file: &Path) -> Result<bool, String> {
        let unwritable = |e: io::Error| format!("{}: cannot be written ({e})", file.display());
        self.runtime.block_on(async {
            let got = match self.store.get_opts(&self.key(name)?, GetOptions::default()).await {
                Ok(got) => got,
                Err(Error::NotFound { .. }) => return Ok(false),
                Err(e) => return Err(self.failed(name, e)),
            };
            if got.meta.size > size {
                let found = got.meta.size;
                return Err(
                    self.failed(name, format!("has {found} bytes now; it had {size} when it was listed"))
                );
            }
            let (mut stream, mut come) = (got.into_stream(), 0);
            let mut out = File::create_new(file).map_err(unwritable)?;
            while let Some(block) = stream.next().await {
                let block = block.map_err(|e| self.failed(name, format!("the connection broke ({e})")))?;
                come += block.len() as u64;
                if come > size {
                    return Err(self.failed(name, format!("more than its {size} bytes came")));
                }
                out.write_all(&block).map_err(unwritable)?;
            }
            Ok(true)
        })
    }

    /// Writes an object whole, or leaves what lies there; what it is then.
    ///
    /// # Errors
    /// [`PutError`].
    pub fn put(&self, name: &str, bytes: impl Into<Bytes>, when: &When) -> Result<Tag, PutError> {
        let bytes: Bytes = bytes.into();
        let mode = match when {
            When::Always => PutMode::Overwrite,
            When::Absent => PutMode::Create,
            When::Still(tag) => PutMode::Update(UpdateVersion { e_tag: tag.clone(), version: None }),
        };
        let key = self.key(name).map_err(PutError::Store)?;
        let mut pause = PAUSE;
        loop {
            let options = PutOptions { mode: mode.clone(), ..PutOptions::default() };
            let put = self.store.put_opts(&key, PutPayload::from(bytes.clone()), options);
            match self.runtime.block_on(put) {
                Ok(put) => return Ok(put.e_tag),
                // A request that is sent again finds what the first has written.
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                    return match self.read(name) {
                        Ok(Some((theirs, tag))) if theirs == bytes => Ok(tag),
                        Ok(_) => Err(PutError::Changed),
                        Err(e) => Err(PutError::Store(e)),
                    };
                }
                // The client sends a conditional request once. With the condition a second one does no harm.
                Err(_) if *when != When::Always && pause < PATIENCE / 4 => {
                    std::thread::sleep(pause);
                    pause *= 2;
                }
                Err(e) => return Err(PutError::Store(self.failed(name, e))),
            }
        }
    }

    /// Writes a file as an object, whole: a large one in parts that become an object at the end.
    ///
    /// # Errors
    /// One line.
    pub fn put_file(&self, name: &str, file: &Path) -> Result<(), String> {
        let unreadable = |e: io::Error| format!("{}: cannot be read ({e})", file.display());
        if std::fs::metadata(file).map_err(unreadable)?.len() <= WHOLE {
            let bytes = std::fs::read(file).map_err(unreadable)?;
            return match self.put(name, bytes, &When::Always) {
                Ok(_) => Ok(()),
                Err(PutError::Store(e)) => Err(e),
                Err(PutError::Changed) => Err(self.failed(name, "another process has written it")),
            };
        }
        let key = self.key(name)?;
        let mut open = File::open(file).map_err(unreadable)?;
        self.runtime.block_on(async {
            let failed = |e: Error| self.failed(name, e);
            let upload = self.store.put_multipart(&key).await.map_err(failed)?;
            let mut parts = WriteMultipart::new_with_chunk_size(upload, PART);
            let mut block = vec![0; PART];
            loop {
                match open.read(&mut block) {
                    Ok(0) => break,
                    Ok(n) => {
                        parts.wait_for_capacity(2).await.map_err(failed)?;
                        parts.write(&block[..n]);
                    }
                    Err(e) => {
                        let _ = parts.abort().await;
                        return Err(unreadable(e));
                    }
                }
            }
            parts.finish().await.map(drop).map_err(failed)
        })
    }

    /// Removes an object; none there is as well.
    ///
    /// # Errors
    /// One line.
    pub fn remove(&self, name: &str) -> Result<(), String> {
        match self.runtime.block_on(self.store.delete(&self.key(name)?)) {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.failed(name, e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    fn objects() -> Objects {
        Objects::of("s3://b/p", Arc::new(InMemory::new()), Key::parse("p").unwrap()).unwrap()
    }

    #[test]
    fn an_object_is_written_only_where_its_condition_holds() {
        let objects = objects();
        let first = objects.put("a/r", "one", &When::Absent).unwrap();
        assert_eq!(objects.put("a/r", "two", &When::Absent), Err(PutError::Changed));
        // The same bytes are this process's own, of a request that was sent twice.
        assert_eq!(objects.put("a/r", "one", &When::Absent), Ok(first.clone()));
        let second = objects.put("a/r", "two", &When::Still(first.clone())).unwrap();
        assert_eq!(objects.put("a/r", "three", &When::Still(first)), Err(PutError::Changed));
        assert_eq!(objects.read("a/r").unwrap(), Some((Bytes::from("two"), second.clone())));
        objects.put("z #1%20.x", "name", &When::Absent).unwrap();
        let listed = objects.list("").unwrap();
        assert_eq!(listed.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["a/r", "z #1%20.x"]);
        assert_eq!((listed[0].size, &listed[0].tag), (3, &second));
        objects.remove("a/r").unwrap();
        objects.remove("a/r").unwrap();
        assert_eq!(objects.read("a/r").unwrap(), None);
    }

    #[test]
    fn a_scan_comes_whole_and_with_no_more_bytes_than_were_listed() {
        let (objects, folder) = (objects(), tempfile::tempdir().unwrap());
        let content = vec![7u8; 3 << 20];
        objects.put("c/scan.nii", content.clone(), &When::Absent).unwrap();
        let file = folder.path().join("scan.nii");
        assert_eq!(objects.fetch("c/scan.nii", content.len() as u64, &file), Ok(true));
        assert_eq!(std::fs::read(&file).unwrap(), content);
        assert_eq!(objects.fetch("c/none.nii", 9, &folder.path().join("none")), Ok(false));
        let refused = objects.fetch("c/scan.nii", 1000, &folder.path().join("other")).unwrap_err();
        assert_eq!(refused, "s3://b/p/c/scan.nii: has 3145728 bytes now; it had 1000 when it was listed");
        objects.copy_to(folder.path(), &["c/scan.nii".into(), "c/gone".into()]).unwrap();
        assert!(folder.path().join("c/scan.nii").exists() && !folder.path().join("c/gone").exists());
        assert!(Objects::open("s3:///x").err().unwrap().contains("names no bucket"));
    }
}
