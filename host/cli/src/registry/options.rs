//! Options that the subcommands share: the home folder, the store, keys, how long an index is valid.

use crate::console::Console;
use crate::outcome::{CommandError, Outcome};
use anymc3d_host::plugin::find;
use anymc3d_registry::{
    Home, LOCK_FILE, LockFile, Locked, Registry, RegistryError, Request, SecretKey, store,
};
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use std::path::{Path, PathBuf};

impl From<RegistryError> for CommandError {
    fn from(e: RegistryError) -> Self {
        let outcome = match &e {
            RegistryError::Usage(_) => Outcome::Usage,
            _ if e.is_refusal() => Outcome::Refused,
            _ => Outcome::Failed,
        };
        Self { outcome, message: e.to_string() }
    }
}

/// The home folder. Every subcommand needs it except those of publishers.
pub(super) fn home() -> Result<Home, CommandError> {
    let home = find::home()
        .ok_or_else(|| CommandError::usage("no home folder on this machine; set ANYMC3D_HOME"))?;
    let home =
        std::path::absolute(&home).map_err(|e| CommandError::failed(format!("{}: {e}", home.display())))?;
    Ok(Home::new(home))
}

/// `--store`
#[derive(Debug, Args)]
pub(super) struct StoreOption {
    /// The registry: a folder, https://…, oci://host/path [default: $ANYMC3D_STORE, else a folder in $ANYMC3D_HOME]
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
}

impl StoreOption {
    pub fn open(&self) -> Result<Box<dyn store::Store>, CommandError> {
        let variable = || std::env::var("ANYMC3D_STORE").ok().filter(|v| !v.is_empty());
        let address = match self.store.clone().or_else(variable) {
            Some(address) => address,
            None => home()?.default_store().display().to_string(),
        };
        Ok(store::open(&address)?)
    }
}

/// Whether unknown keys are trusted.
#[derive(Debug, Args)]
pub(super) struct FirstUse {
    /// If no key of a registry or publisher is known, trust the key that it shows now
    #[arg(long)]
    trust_on_first_use: bool,
}

impl FirstUse {
    /// Opens a registry, and prints the keys that are trusted from now on.
    pub fn open<'a>(
        &self,
        home: &'a Home,
        store: &'a dyn store::Store,
        console: &Console,
    ) -> Result<Registry<'a>, CommandError> {
        let registry = Registry::open(home, store, self.trust_on_first_use, Timestamp::now())?;
        registry.learned().iter().for_each(|line| console.warning(line));
        Ok(registry)
    }
}

/// `--index-key`, and how long the signed index is valid.
#[derive(Debug, Args)]
pub(super) struct IndexKey {
    /// Secret key that signs the index
    #[arg(long, value_name = "FILE")]
    index_key: PathBuf,
    /// Days that the index is valid; sign it again before it expires with `host registry renew`
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=3650))]
    valid_days: u16,
}

impl IndexKey {
    pub fn read(&self) -> Result<SecretKey, CommandError> {
        secret_key(&self.index_key)
    }

    pub fn valid(&self) -> SignedDuration {
        SignedDuration::from_hours(24 * i64::from(self.valid_days))
    }
}

/// The password of encrypted keys, for programs.
pub(super) const PASSWORD: &str = "ANYMC3D_KEY_PASSWORD";

/// Opens a secret key; an encrypted one by `$ANYMC3D_KEY_PASSWORD`.
pub(super) fn secret_key(path: &Path) -> Result<SecretKey, CommandError> {
    let text = read(path)?;
    let what = path.display().to_string();
    let password = std::env::var(PASSWORD).ok().filter(|p| !p.is_empty());
    if let Ok(key) = SecretKey::parse(&what, &text, None) {
        return Ok(key);
    }
    SecretKey::parse(&what, &text, password.as_deref()).map_err(|e| {
        let hint = if password.is_none() {
            format!("; an encrypted key's password is read from ${PASSWORD}")
        } else {
            String::new()
        };
        CommandError::refused(format!("{e}{hint}"))
    })
}

/// A small text file that was given.
pub(super) fn read(path: &Path) -> Result<String, CommandError> {
    std::fs::read_to_string(path)
        .map_err(|e| CommandError::failed(format!("{}: cannot be read ({e})", path.display())))
}

/// `--lock` and `--unpin`
#[derive(Debug, Args)]
pub(super) struct LockOption {
    /// Record what is installed in a lock file, by digest [default file: anymc3d.lock]. The host reads and updates a lock
    /// file that exists even without this option
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = LOCK_FILE)]
    lock: Option<PathBuf>,
    /// Remove the lock file's pins of these packages. Without this option a package that was installed as NAME@VERSION
    /// stays at that version
    #[arg(long)]
    pub unpin: bool,
}

impl LockOption {
    /// The pinned package that matches a request, unless --unpin is given.
    pub fn pinned(&self, lock: Option<&LockFile>, request: &Request) -> Result<Option<Locked>, CommandError> {
        let Some(lock) = lock.filter(|_| !self.unpin) else { return Ok(None) };
        Ok(lock.pinned(request)?.cloned())
    }

    /// Whether a lock file was asked for.
    pub fn asked(&self) -> bool {
        self.lock.is_some()
    }

    /// The lock file to read and write; `None` if it does not exist and --lock was not given.
    pub fn open(&self, target: &str) -> Result<Option<LockFile>, CommandError> {
        let path = self.lock.as_deref().unwrap_or(Path::new(LOCK_FILE));
        let there = LockFile::open(path, target)?;
        Ok(there.or_else(|| self.lock.is_some().then(|| LockFile::new(path, target))))
    }
}
