//! A folder, on a disk, a stick or a network drive; also what a static web server serves.

use super::{Sink, Store, drain, pour};
use crate::error::{RegistryError, Result};
use crate::home::{lock, unfinished_folder, write_atomically};
use std::fs::File;
use std::io::{ErrorKind, Seek, SeekFrom};
use std::path::{Path, PathBuf};

pub(super) struct Folder {
    root: PathBuf,
    address: String,
}

impl Folder {
    pub fn new(root: &Path) -> Self {
        // A receipt that says `store` would say nothing later.
        let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        Self { address: root.display().to_string(), root }
    }

    fn open(&self, name: &str) -> Result<Option<File>> {
        let path = self.root.join(name);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(RegistryError::io(&path, "cannot be read")(e)),
        }
    }
}

impl Store for Folder {
    fn address(&self) -> &str {
        &self.address
    }

    fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        self.open(name)?.map(|file| drain(&self.address, name, file, limit)).transpose()
    }

    fn fetch(&self, name: &str, from: u64, sink: &mut dyn Sink) -> Result<bool> {
        let Some(mut file) = self.open(name)? else { return Ok(false) };
        let failed = |e: std::io::Error| RegistryError::store(&self.address, format!("{name}: {e}"));
        let at = file.seek(SeekFrom::Start(from)).map_err(failed)?;
        sink.begin(at).map_err(failed)?;
        pour(&self.address, name, file, sink)?;
        Ok(true)
    }

    fn put(&self, name: &str, file: &Path) -> Result<()> {
        let to = self.root.join(name);
        let folder = to.parent().unwrap_or(&self.root);
        let io = |e| RegistryError::io(&to, "cannot be written")(e);
        let unfinished = unfinished_folder(folder)?;
        let copy = unfinished.path().join("file");
        std::fs::copy(file, &copy).map_err(io)?;
        File::options().write(true).open(&copy).and_then(|f| f.sync_all()).map_err(io)?;
        std::fs::rename(&copy, &to).map_err(io)?;
        crate::home::sync_folder(folder).map_err(io)
    }

    fn exchange(&self, name: &str, old: Option<&[u8]>, new: &[u8]) -> Result<()> {
        let _alone = lock(&self.root.join(".lock"))?;
        let now = self.read(name, u64::MAX - 1)?;
        if now.as_deref() != old {
            return Err(RegistryError::Raced { store: self.address.clone() });
        }
        write_atomically(&self.root.join(name), new)
    }
}
