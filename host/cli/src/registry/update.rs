//! `host registry update`: installs newer versions beside the old versions.

use super::install::{one, tell};
use super::machine::Machine;
use super::options::{FirstUse, LockOption, StoreOption, home};
use crate::console::Console;
use crate::outcome::{CommandError, Outcome};
use anymc3d_registry::{LockFile, Locked, Registry, Request, Wanted, installed};
use clap::Args;
use std::collections::BTreeSet;

const EXAMPLES: &str = "\
Examples:
  host registry update                     everything that is installed
  host registry update lung_nodule@^0.1    stay below 0.2
  host registry update lung_nodule --unpin removes the pin that `install NAME@VERSION` made
An older version stays where it is; `host run --plugin lung_nodule@0.1.0` still runs it.";

/// Install newer versions, update the lock file, and learn which versions were withdrawn
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Update {
    /// Packages: NAME or NAME@RANGE [default: everything that is installed from this registry]
    #[arg(value_name = "PACKAGE")]
    packages: Vec<Request>,
    #[command(flatten)]
    lock: LockOption,
    #[command(flatten)]
    store: StoreOption,
    #[command(flatten)]
    first_use: FirstUse,
}

impl Update {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        let home = home()?;
        let mut lock = self.lock.open(&anymc3d_host::plugin::section::this_target())?;
        let store = self.store.open()?;
        let registry = self.first_use.open(&home, &*store, console)?;
        let there: BTreeSet<String> = installed::all(&home).into_iter().map(|(name, _, _)| name).collect();
        let mut requests = self.packages.clone();
        if requests.is_empty() {
            let named = |name: String| Request { name, versions: Wanted::Any };
            // What came from elsewhere is left to where it came from.
            requests = there.iter().filter(|n| registry.listed(n).is_ok()).cloned().map(named).collect();
            for name in there.iter().filter(|n| registry.listed(n).is_err()) {
                console.note(format!("{name}: is not in {}, and was left as it is", registry.name()));
            }
        }
        if let Some(missing) = requests.iter().find(|r| !there.contains(&r.name)) {
            return Err(CommandError::usage(format!(
                "{}: is not installed; `host registry install {missing}`",
                missing.name
            )));
        }
        if requests.is_empty() {
            console.note("nothing is installed from this registry");
            return Ok(Outcome::Done);
        }
        let machine = Machine::look(console)?;
        let mut outcome = Outcome::Done;
        for request in &requests {
            let mut updated = || -> Result<(), CommandError> {
                for line in registry.heed(&request.name, &registry.events(&request.name)?)? {
                    console.warning(line);
                }
                if let Some(pinned) = self.lock.pinned(lock.as_ref(), request)? {
                    console.result(kept(&registry, request, &pinned, &machine, lock.as_ref()));
                    return Ok(());
                }
                let done = one(&registry, request, None, &machine, console)?;
                tell(&done, &home, console);
                if let Some(lock) = &mut lock
                    && (self.lock.asked() || lock.find(&request.name).is_some())
                {
                    lock.set(&done.release, registry.name(), request.versions.is_exact());
                    lock.save()?;
                }
                Ok(())
            };
            if let Err(e) = updated() {
                console.error(&e.message);
                outcome = outcome.or(e.outcome);
            }
        }
        Ok(outcome)
    }
}

/// Says which version stays, why, and which newer version fits.
fn kept(
    registry: &Registry<'_>,
    request: &Request,
    pinned: &Locked,
    machine: &Machine,
    lock: Option<&LockFile>,
) -> String {
    let Locked { name, version, .. } = pinned;
    let place = lock.map(|l| l.path().display().to_string()).unwrap_or_default();
    let newest = match registry.resolve(request, &machine.platform) {
        Ok(release) if release.version != *version => {
            format!("{} would fit: `host registry update {name} --unpin`", release.version)
        }
        Ok(_) => "it is the newest that fits".to_owned(),
        Err(_) => "nothing else fits this machine".to_owned(),
    };
    format!("{name} {version}: kept, pinned in {place}; {newest}")
}
