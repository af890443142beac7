//! Where a batch lies: a folder, or a folder of this machine that stands for a store.

use crate::outcome::CommandError;
use anymc3d_host::batch::{
    BatchError, BatchFolder, Manifest, RemoteScans, Shard, ShardLock, Upstream, is_address,
};
use std::path::{Path, PathBuf};

#[cfg(feature = "object-store")]
use anymc3d_host::batch::objects::{ListedScans, Mirror, StoredScans};
#[cfg(feature = "object-store")]
use anymc3d_host::engine::Case;

/// Where a batch lies.
pub(crate) struct Place {
    given: PathBuf,
    #[cfg(feature = "object-store")]
    mirror: Option<Mirror>,
}

/// What a process has of a shard, until it is dropped.
pub(crate) struct Taken {
    _lock: ShardLock,
}

/// Refuses addresses that this build does not read or write, one of them named.
pub(crate) fn check_addresses<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Result<(), CommandError> {
    let s3 = |address: &str| cfg!(feature = "object-store") && address.starts_with("s3://");
    let addresses = paths.filter(|path| is_address(path)).map(|path| path.display().to_string());
    match addresses.into_iter().find(|address| !s3(address)) {
        None => Ok(()),
        Some(address) => Err(CommandError::usage(format!("{address}: {}", not_read()))),
    }
}

fn not_read() -> &'static str {
    match cfg!(feature = "object-store") {
        true => "expected a file or folder, or s3://bucket/prefix",
        false => {
            "this build reads and writes files alone: mount the store, or build the host with the feature `object-store` for \
             s3://"
        }
    }
}

impl Place {
    /// Opens the place of a batch; a store is asked for what lies there.
    pub fn open(out: &Path) -> Result<Self, BatchError> {
        Ok(Self {
            given: out.to_owned(),
            #[cfg(feature = "object-store")]
            mirror: match is_address(out) {
                true => Some(Mirror::open(&out.display().to_string())?),
                false => None,
            },
        })
    }

    /// The folder on this machine.
    pub fn folder(&self) -> &Path {
        #[cfg(feature = "object-store")]
        if let Some(mirror) = &self.mirror {
            return mirror.folder();
        }
        &self.given
    }

    /// Whether it is a folder of the user's.
    pub fn is_folder(&self) -> bool {
        !is_address(&self.given)
    }

    /// A message about the folder, about the place.
    pub fn shown(&self, text: &str) -> String {
        match self.is_folder() {
            true => text.to_owned(),
            false => text.replace(&self.folder().display().to_string(), &self.given.display().to_string()),
        }
    }

    /// Keeps a plan that was written into the folder. `false` where another process has written one meanwhile.
    pub fn publish(&mut self) -> Result<bool, BatchError> {
        #[cfg(feature = "object-store")]
        if let Some(mirror) = &mut self.mirror {
            return mirror.publish();
        }
        Ok(true)
    }

    /// Takes a shard, and reads what is recorded of it.
    pub fn take(&self, folder: &BatchFolder, manifest: &Manifest, shard: Shard) -> Result<Taken, BatchError> {
        let lock = folder.lock(shard)?;
        #[cfg(feature = "object-store")]
        if let Some(mirror) = &self.mirror {
            mirror.lock(shard)?;
            mirror.read_records(manifest, Some(shard))?;
        }
        let _ = manifest;
        Ok(Taken { _lock: lock })
    }

    /// Reads all records.
    pub fn read_all(&self) -> Result<(), BatchError> {
        #[cfg(feature = "object-store")]
        if let Some(mirror) = &self.mirror {
            let (_, manifest) = BatchFolder::open(mirror.folder())?;
            mirror.read_records(&manifest, None)?;
        }
        Ok(())
    }

    /// Where records go from the folder.
    pub fn upstream(&self) -> Option<&dyn Upstream> {
        #[cfg(feature = "object-store")]
        if let Some(mirror) = &self.mirror {
            return Some(mirror);
        }
        None
    }
}

/// Adds the scans of the inputs that are addresses to a list of cases; lines to tell.
#[cfg(feature = "object-store")]
pub(crate) fn list_addresses(inputs: &[PathBuf]) -> Result<(Vec<Case>, Vec<String>), BatchError> {
    let (mut cases, mut told) = (Vec::new(), Vec::new());
    for address in inputs.iter().filter(|input| is_address(input)) {
        let shown = address.display().to_string();
        let found = ListedScans::of(&shown).map_err(|reason| BatchError::Store { reason })?;
        if found.masks + found.left_out > 0 {
            told.push(format!(
                "{shown}: {} masks and {} other objects are no scans by their names and were left out",
                found.masks, found.left_out
            ));
        }
        cases.extend(found.cases());
    }
    Ok((cases, told))
}

/// The scans of a manifest that lie in a store.
pub(crate) struct Stored {
    #[cfg(feature = "object-store")]
    scans: Option<StoredScans>,
}

impl Stored {
    /// Looks at all objects that a manifest names.
    pub fn of(manifest: &Manifest) -> Result<Self, CommandError> {
        let mut files =
            manifest.items.iter().flat_map(|item| item.case.files()).filter(|file| is_address(file));
        let first = files.next().map(Path::to_owned);
        check_addresses(first.iter())?;
        Ok(Self {
            #[cfg(feature = "object-store")]
            scans: match first {
                Some(_) => Some(StoredScans::of(manifest).map_err(CommandError::failed)?),
                None => None,
            },
        })
    }

    /// As a batch takes them.
    pub fn remote(&self) -> Option<&dyn RemoteScans> {
        #[cfg(feature = "object-store")]
        if let Some(scans) = &self.scans {
            return Some(scans);
        }
        None
    }

    /// Sets the bytes of the cases that lie in a store.
    #[cfg(feature = "object-store")]
    pub fn weigh(manifest: &mut Manifest) -> Result<(), BatchError> {
        let scans = StoredScans::of(manifest).map_err(|reason| BatchError::Store { reason })?;
        for item in &mut manifest.items {
            let stored: u64 = item.case.files().filter_map(|file| scans.size(file)).sum();
            item.bytes = item.bytes.saturating_add(stored);
        }
        Ok(())
    }
}
