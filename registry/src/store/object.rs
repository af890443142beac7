//! Amazon S3, Google Cloud Storage, Azure Blob Storage: accounts come from the environment, by the names that each
//! cloud's own tools use.

use super::runtime::runtime;
use super::{Sink, Store, within};
use crate::error::{RegistryError, Result};
use futures_util::StreamExt;
use object_store::path::Path as Key;
use object_store::{
    GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion,
};
use std::path::Path;
use tokio::runtime::Runtime;

pub(super) struct Objects {
    address: String,
    objects: Box<dyn ObjectStore>,
    prefix: Key,
    runtime: Runtime,
}

impl Objects {
    pub fn new(address: &str) -> Result<Self> {
        let usage = |e: &dyn std::fmt::Display| RegistryError::Usage(format!("--store {address}: {e}"));
        // `object+file` is for tests: the same code on a folder.
        let url = address.strip_prefix("object+").unwrap_or(address);
        let url = url.parse().map_err(|e| usage(&e))?;
        let environment = std::env::vars().map(|(name, value)| (name.to_ascii_lowercase(), value));
        let runtime = runtime(address)?;
        let (objects, prefix) = object_store::parse_url_opts(&url, environment).map_err(|e| usage(&e))?;
        Ok(Self { address: address.to_owned(), objects, prefix, runtime })
    }

    fn key(&self, name: &str) -> Key {
        Key::from_iter(self.prefix.parts().chain(name.split('/').map(Into::into)))
    }

    fn failed(&self, name: &str, e: impl std::fmt::Display) -> RegistryError {
        RegistryError::store(&self.address, format!("{name}: {e}"))
    }
}

fn is_missing(e: &object_store::Error) -> bool {
    matches!(e, object_store::Error::NotFound { .. })
}

impl Store for Objects {
    fn address(&self) -> &str {
        &self.address
    }

    fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let key = self.key(name);
        let got = match self.runtime.block_on(self.objects.get(&key)) {
            Ok(got) => got,
            Err(e) if is_missing(&e) => return Ok(None),
            Err(e) => return Err(self.failed(name, e)),
        };
        if got.meta.size > limit {
            return Err(self.failed(name, format!("{} bytes; at most {limit} are read", got.meta.size)));
        }
        let bytes = self.runtime.block_on(got.bytes()).map_err(|e| self.failed(name, e))?;
        within(&self.address, name, bytes.to_vec(), limit).map(Some)
    }

    fn fetch(&self, name: &str, from: u64, sink: &mut dyn Sink) -> Result<bool> {
        let key = self.key(name);
        let range = (from > 0).then_some(GetRange::Offset(from));
        let got =
            self.runtime.block_on(self.objects.get_opts(&key, GetOptions { range, ..GetOptions::default() }));
        let got = match got {
            Ok(got) => got,
            Err(e) if is_missing(&e) => return Ok(false),
            // Nothing is there at that offset.
            Err(_) if from > 0 => return self.fetch(name, 0, sink),
            Err(e) => return Err(self.failed(name, e)),
        };
        sink.begin(got.range.start).map_err(|e| self.failed(name, e))?;
        let mut stream = got.into_stream();
        while let Some(block) = self.runtime.block_on(stream.next()) {
            let block = block.map_err(|e| self.failed(name, format!("the connection broke ({e})")))?;
            sink.take(&block).map_err(|e| self.failed(name, e))?;
        }
        Ok(true)
    }

    fn put(&self, name: &str, file: &Path) -> Result<()> {
        let content = std::fs::read(file).map_err(RegistryError::io(file, "cannot be read"))?;
        let key = self.key(name);
        let put = self.objects.put(&key, PutPayload::from(content));
        self.runtime.block_on(put).map(drop).map_err(|e| self.failed(name, e))
    }

    fn exchange(&self, name: &str, old: Option<&[u8]>, new: &[u8]) -> Result<()> {
        let key = self.key(name);
        let raced = || RegistryError::Raced { store: self.address.clone() };
        let mode = match old {
            None => PutMode::Create,
            Some(old) => {
                let got = self.runtime.block_on(self.objects.get(&key)).map_err(|e| self.failed(name, e))?;
                let (e_tag, version) = (got.meta.e_tag.clone(), got.meta.version.clone());
                let now = self.runtime.block_on(got.bytes()).map_err(|e| self.failed(name, e))?;
                if now != old {
                    return Err(raced());
                }
                PutMode::Update(UpdateVersion { e_tag, version })
            }
        };
        let put = |mode: PutMode| {
            let payload = PutPayload::from(new.to_vec());
            self.runtime.block_on(self.objects.put_opts(
                &key,
                payload,
                PutOptions { mode, ..PutOptions::default() },
            ))
        };
        match put(mode) {
            Ok(_) => Ok(()),
            Err(object_store::Error::Precondition { .. } | object_store::Error::AlreadyExists { .. }) => {
                Err(raced())
            }
            // A store without conditions: what it was has just been compared.
            Err(object_store::Error::NotImplemented { .. }) => {
                put(PutMode::Overwrite).map(drop).map_err(|e| self.failed(name, e))
            }
            Err(e) => Err(self.failed(name, e)),
        }
    }
}
