//! `host registry mirror`: copies packages of a registry, for a machine without network.

use super::options::{FirstUse, StoreOption, home};
use crate::console::Console;
use crate::outcome::{CommandError, Outcome};
use crate::text;
use anymc3d_registry::{Request, store};
use clap::Args;

const EXAMPLES: &str = "\
Examples:
  host registry mirror lung_nodule --store https://plugins.example/anymc3d --to /media/stick
  host registry mirror lung_nodule@^0.1 brain_mri --to oci://harbor.hospital.example/anymc3d
Then, on the machine without network: host registry install lung_nodule --store /media/stick";

/// Copy packages and the signed index to another store; copying needs no key, and clients verify the copy as usual
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Mirror {
    /// Packages: NAME (newest version), NAME@RANGE (all that match) or NAME@VERSION
    #[arg(value_name = "PACKAGE", required = true)]
    packages: Vec<Request>,
    /// Target store: a folder or oci://host/path
    #[arg(long, value_name = "STORE")]
    to: String,
    /// Only packages for this target, for example x86_64-linux [default: all]
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    #[command(flatten)]
    store: StoreOption,
    #[command(flatten)]
    first_use: FirstUse,
}

impl Mirror {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        let (home, from, to) = (home()?, self.store.open()?, store::open(&self.to)?);
        let registry = self.first_use.open(&home, &*from, console)?;
        let bar = console.progress(100, "copying");
        let progress = |at: u64, of: u64| bar.set_position(at * 100 / of.max(1));
        let done = registry.mirror(&self.packages, self.target.as_deref(), &*to, &progress)?;
        bar.finish_and_clear();
        for release in &done.releases {
            console.result(format!("{} for {}", release.label(), release.target));
        }
        let expires = registry.expires().strftime("%Y-%m-%d");
        console.note(format!("{} copied; the index is good until {expires}", text::size(done.bytes)));
        Ok(Outcome::Done)
    }
}
