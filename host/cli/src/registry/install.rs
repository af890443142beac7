//! `host registry install`: verifies, tries and installs packages from a registry into `$ANYMC3D_HOME`.

use super::machine::Machine;
use super::options::{FirstUse, LockOption, StoreOption, home};
use super::probe;
use crate::console::Console;
use crate::outcome::{CommandError, Outcome};
use anymc3d_host::engine::backbone_store::accept_licences;
use anymc3d_registry::package::Limits;
use anymc3d_registry::{Candidate, Done, Home, Installation, LockFile, Locked, Registry, Request, Wanted};
use clap::Args;

const EXAMPLES: &str = "\
Examples:
  host registry install lung_nodule                newest version that fits this machine
  host registry install lung_nodule@^1.2           newest 1.x from 1.2 on
  host registry install lung_nodule@0.1.0 --lock   exactly this version; anymc3d.lock records its digest and pins it
  host registry install lung_nodule --lock --unpin the newest again; removes the pin
  host registry install                            everything in anymc3d.lock, by digest";

/// Install packages: verify them, run their golden cases, then move them into place
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Install {
    /// Packages: NAME, NAME@RANGE or NAME@VERSION [default: everything in the lock file]
    #[arg(value_name = "PACKAGE")]
    packages: Vec<Request>,
    /// Accept the licences of the backbones that the packages' weights derive from
    #[arg(long)]
    accept_licence: bool,
    #[command(flatten)]
    lock: LockOption,
    #[command(flatten)]
    store: StoreOption,
    #[command(flatten)]
    first_use: FirstUse,
}

impl Install {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        if self.accept_licence {
            accept_licences();
        }
        let home = home()?;
        let target = anymc3d_host::plugin::section::this_target();
        let mut lock = self.lock.open(&target)?;
        let requests = self.requests(lock.as_ref())?;
        let store = self.store.open()?;
        let registry = self.first_use.open(&home, &*store, console)?;
        let machine = Machine::look(console)?;
        let mut outcome = Outcome::Done;
        for (request, locked) in &requests {
            match one(&registry, request, locked.as_ref(), &machine, console) {
                Ok(done) => {
                    tell(&done, &home, console);
                    if let Some(lock) = &mut lock {
                        let kept = locked.as_ref().is_some_and(|l| l.pinned);
                        let typed = !self.packages.is_empty() && request.versions.is_exact();
                        if kept && !typed && !self.packages.is_empty() && !self.lock.unpin {
                            let at = lock.path().display();
                            let label = done.release.label();
                            console.note(format!("{label}: pinned in {at}; --unpin lets it go"));
                        }
                        lock.set(&done.release, registry.name(), (kept || typed) && !self.lock.unpin);
                        lock.save()?;
                    }
                }
                Err(e) => {
                    console.error(&e.message);
                    outcome = outcome.or(e.outcome);
                }
            }
        }
        Ok(outcome)
    }

    /// The requested packages; for a bare name that is locked, the locked version.
    fn requests(&self, lock: Option<&LockFile>) -> Result<Vec<(Request, Option<Locked>)>, CommandError> {
        if self.packages.is_empty() {
            let all = lock.map(|l| l.packages().cloned().collect::<Vec<_>>()).unwrap_or_default();
            if all.is_empty() {
                return Err(CommandError::usage(
                    "name a package, or stand beside an anymc3d.lock that names some",
                ));
            }
            let request =
                |l: &Locked| Request { name: l.name.clone(), versions: Wanted::Exact(l.version.clone()) };
            return Ok(all.into_iter().map(|l| (request(&l), Some(l))).collect());
        }
        let with_lock = |request: &Request| {
            if let Some(pinned) = self.lock.pinned(lock, request)? {
                return Ok((request.clone(), Some(pinned)));
            }
            let locked = lock.and_then(|l| l.find(&request.name)).cloned();
            // Another version that was asked for explicitly takes the locked one's place, and so does the newest one of
            // a name whose pin is let go.
            let locked = locked.filter(|l| match &request.versions {
                Wanted::Any => !(self.lock.unpin && l.pinned),
                Wanted::Exact(version) => *version == l.version,
                Wanted::Range(_) => false,
            });
            Ok((request.clone(), locked))
        };
        self.packages.iter().map(with_lock).collect()
    }
}

/// Installs one package.
pub(super) fn one(
    registry: &Registry<'_>,
    request: &Request,
    locked: Option<&Locked>,
    machine: &Machine,
    console: &Console,
) -> Result<Done, CommandError> {
    let probe = |c: &Candidate<'_>| probe::candidate(machine, c);
    let bar = console.progress(100, "downloading");
    let progress = |at: u64, of: u64| bar.set_position(at * 100 / of.max(1));
    let how = Installation {
        platform: &machine.platform,
        probe: &probe,
        limits: Limits::default(),
        progress: &progress,
    };
    let done = registry.install(request, locked, &how);
    bar.finish_and_clear();
    Ok(done?)
}

/// One line per package on stdout.
pub(super) fn tell(done: &Done, home: &Home, console: &Console) {
    done.notes.iter().for_each(|note| console.warning(note));
    let label = done.release.label();
    let shown = done.folder.strip_prefix(home.root()).unwrap_or(&done.folder).display();
    if done.new {
        console.result(format!("installed {label} by {} into $ANYMC3D_HOME/{shown}", done.release.publisher));
    } else {
        console.result(format!("{label} is installed already, as it was signed"));
    }
}
