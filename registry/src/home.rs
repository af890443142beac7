//! `$ANYMC3D_HOME`: the folder of installed packages, trusted keys and downloads. Files there change completely or not
//! at all.
//!
//! ```text
//! plugins/<name>/<version>/     an installed package: its files, package.json, its signature, receipt.json
//! registry/trust.json           keys that are trusted
//! registry/seen.json            highest revision seen of every registry
//! registry/withdrawn.json       what the indexes say of versions that are installed
//! registry/downloads/           archives on their way, by digest
//! registry/lock                 held while any of the above changes
//! ```

use crate::error::{RegistryError, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Name prefix of folders that are being made or taken away; never looked into.
pub(crate) const UNFINISHED: &str = ".unfinished-";

/// The home folder.
#[derive(Debug, Clone)]
pub struct Home {
    root: PathBuf,
}

/// Held while the home changes; let go when dropped, or when the process ends in whatever way.
pub struct HomeLock {
    _file: File,
}

impl Home {
    /// The folder, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Of all installed packages.
    pub fn plugins(&self) -> PathBuf {
        self.root.join("plugins")
    }

    /// Of one installed package.
    pub fn package(&self, name: &str, version: &semver::Version) -> PathBuf {
        self.plugins().join(name).join(version.to_string())
    }

    /// The folder store that is used when no other is named.
    pub fn default_store(&self) -> PathBuf {
        self.state("store")
    }

    pub(crate) fn state(&self, name: &str) -> PathBuf {
        self.root.join("registry").join(name)
    }

    pub(crate) fn downloads(&self) -> PathBuf {
        self.state("downloads")
    }

    /// Locks the home: waits until no other process changes it, and makes others wait.
    ///
    /// # Errors
    /// When the home cannot be written to.
    pub fn lock(&self) -> Result<HomeLock> {
        lock(&self.state("lock"))
    }

    /// Reads a JSON file of the home; the default where there is none.
    pub(crate) fn read<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T> {
        let path = self.state(name);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| RegistryError::form(path.display(), e)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(T::default()),
            Err(e) => Err(RegistryError::io(&path, "cannot be read")(e)),
        }
    }

    /// Writes a JSON file of the home; its place holds the old or the new content, whatever happens.
    pub(crate) fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let path = self.state(name);
        let mut json =
            serde_json::to_vec_pretty(value).map_err(|e| RegistryError::form(path.display(), e))?;
        json.push(b'\n');
        write_atomically(&path, &json)
    }
}

/// An exclusive lock on a file, which is made where it is missing.
pub(crate) fn lock(path: &Path) -> Result<HomeLock> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(RegistryError::io(folder, "cannot be made"))?;
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(RegistryError::io(path, "cannot be opened"))?;
    file.lock().map_err(RegistryError::io(path, "cannot be locked"))?;
    Ok(HomeLock { _file: file })
}

/// To a temporary file beside, to the disk, then renamed.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(RegistryError::io(folder, "cannot be made"))?;
    let write = || -> std::io::Result<()> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(UNFINISHED);
        readable(&mut builder);
        let mut file = builder.tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        sync_folder(folder)
    };
    write().map_err(RegistryError::io(path, "cannot be written"))
}

/// The permissions that any other program would give (the umask applies), not those of a secret.
fn readable(builder: &mut tempfile::Builder<'_, '_>) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    #[cfg(not(unix))]
    let _ = builder;
}

/// A folder that is being made beside its later place; taken away unless it is moved there.
pub(crate) fn unfinished_folder(beside: &Path) -> Result<tempfile::TempDir> {
    std::fs::create_dir_all(beside).map_err(RegistryError::io(beside, "cannot be made"))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(UNFINISHED);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o777));
    }
    builder.tempdir_in(beside).map_err(RegistryError::io(beside, "no folder can be made in it"))
}

/// Names in a folder reach the disk with the folder, not with the files.
pub(crate) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Takes away what a killed process left half made. Only under the home's lock.
pub(crate) fn sweep(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            let path = entry.path();
            let gone =
                if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            if let Err(e) = gone {
                tracing::debug!("{}: left over, and cannot be removed ({e})", path.display());
            }
        }
    }
}
