//! A selection of a registry on a stick: the signed index as it is, and the archives that were chosen. It needs no key
//! of its own, and is believed no more than any store.

use crate::digest::sha256_of_file;
use crate::download;
use crate::error::{RegistryError, Result};
use crate::home::lock;
use crate::index::{Event, ROOT, ROOT_LIMIT, Release, SignedRoot};
use crate::registry::Registry;
use crate::resolve::{Request, Wanted, yanked};
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};

/// What was copied.
pub struct Mirrored {
    /// The releases, copied now or there before.
    pub releases: Vec<Release>,
    /// Bytes that were copied.
    pub bytes: u64,
}

impl Registry<'_> {
    /// Copies the requested packages: for a bare name the newest version of every target, for a range all versions that
    /// match. `target` leaves other targets out. The events of packages that were mirrored before are updated too.
    ///
    /// # Errors
    /// When a request matches nothing, an archive is refused, or either store fails.
    pub fn mirror(
        &self,
        requests: &[Request],
        target: Option<&str>,
        to: &dyn Store,
        progress: &dyn Fn(u64, u64),
    ) -> Result<Mirrored> {
        let mut chosen: BTreeMap<String, Release> = BTreeMap::new();
        let mut names: BTreeSet<String> = BTreeSet::new();
        for request in requests {
            let events = self.events(&request.name)?;
            let selection = select(request, &events, target);
            if selection.is_empty() {
                let left_out = vec![format!(
                    "  nothing of it is here{}",
                    target.map(|t| format!(" for {t}")).unwrap_or_default()
                )];
                return Err(RegistryError::NothingFits { request: request.to_string(), left_out });
            }
            chosen.extend(selection.into_iter().map(|r| (r.archive(), r.clone())));
            names.insert(request.name.clone());
        }
        let old = to.read(ROOT, ROOT_LIMIT)?;
        if let Some(old) = &old {
            let before = SignedRoot::split(to.address(), old)?.unverified(to.address())?;
            if before.registry != self.root.registry {
                return Err(RegistryError::Usage(format!(
                    "{}: is a mirror of {}, not of {}",
                    to.address(),
                    before.registry,
                    self.root.registry
                )));
            }
            for (name, listed) in &before.packages {
                if self.root.packages.contains_key(name)
                    && to.read(&listed.place(name), u64::MAX - 1)?.is_some()
                {
                    names.insert(name.clone());
                }
            }
        }
        let mut bytes = 0;
        for release in chosen.values() {
            let _alone = lock(&self.home.state(&format!("installing-{}.lock", release.name)))?;
            let archive = download::fetch(self.store, release, &self.home.downloads(), &|at| {
                progress(at, release.bytes)
            })?;
            to.put(&release.archive(), &archive)?;
            bytes += release.bytes;
            let _ = std::fs::remove_file(&archive);
        }
        for name in names {
            let listed = self.listed(&name)?;
            let lines = self.store.read(&listed.place(&name), u64::MAX - 1)?;
            let missing =
                || RegistryError::store(self.store.address(), format!("{name}: its lines are missing"));
            let scratch = tempfile::NamedTempFile::new()
                .map_err(RegistryError::io(&std::env::temp_dir(), "cannot be written"))?;
            std::fs::write(scratch.path(), lines.ok_or_else(missing)?)
                .map_err(RegistryError::io(scratch.path(), "cannot be written"))?;
            let (found, size) = sha256_of_file(scratch.path())?;
            if found != listed.sha256 {
                let what = format!("{}: index of {name}", self.store.address());
                return Err(RegistryError::Digest { what, found, expected: listed.sha256.clone() });
            }
            to.put(&listed.place(&name), scratch.path())?;
            bytes += size;
        }
        // The root last: before it, the mirror is what it was.
        if old.as_deref() != Some(&self.root_bytes[..]) {
            to.exchange(ROOT, old.as_deref(), &self.root_bytes)?;
        }
        Ok(Mirrored { releases: chosen.into_values().collect(), bytes })
    }
}

fn select<'a>(request: &Request, events: &'a [Event], target: Option<&str>) -> Vec<&'a Release> {
    let mut newest: BTreeMap<&str, &Release> = BTreeMap::new();
    let mut all = Vec::new();
    for event in events {
        let Event::Release(release) = event else { continue };
        let standing = yanked(events, &release.version).is_none() || request.versions.is_exact();
        if !standing
            || request.versions.refuses(&release.version).is_some()
            || target.is_some_and(|t| t != release.target)
        {
            continue;
        }
        all.push(&**release);
        let best = newest.entry(&release.target).or_insert(release);
        if best.version < release.version {
            *best = release;
        }
    }
    if request.versions == Wanted::Any { newest.into_values().collect() } else { all }
}
