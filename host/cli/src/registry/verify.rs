//! `host registry verify`: compares everything that is installed with its signatures.

use super::machine::Machine;
use super::options::{FirstUse, StoreOption, home};
use super::probe;
use crate::console::Console;
use crate::outcome::{CommandError, Outcome};
use crate::text;
use anymc3d_registry::package::Limits;
use anymc3d_registry::{Candidate, Installation, InstalledPackage, installed, short};
use clap::Args;
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  host registry verify
  host registry verify --json > audit.jsonl
  host registry verify --repair --store https://plugins.example/anymc3d";

/// Hash every installed file again and verify every signature; exit code 3 if anything differs
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Verify {
    /// Download files that differ again
    #[arg(long)]
    repair: bool,
    /// Print one line of JSON per package
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreOption,
    #[command(flatten)]
    first_use: FirstUse,
}

impl Verify {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        let home = home()?;
        let mut rows = vec![["PACKAGE", "PUBLISHER", "KEY", "ARCHIVE", "STATE"].map(str::to_owned).to_vec()];
        let mut outcome = Outcome::Done;
        let mut broken: Vec<InstalledPackage> = Vec::new();
        for (name, version, folder) in installed::all(&home) {
            let label = format!("{name} {version}");
            let package = match installed::open(&home, &folder) {
                Ok(package) => package,
                Err(e) => {
                    console.error(format!("{label}: {e}"));
                    outcome = outcome.or(Outcome::Refused);
                    if self.json {
                        console.result(json!({ "name": name, "version": version, "wrong": [e.to_string()] }));
                    }
                    continue;
                }
            };
            let wrong: Vec<String> = package.audit().iter().map(ToString::to_string).collect();
            let gone = package.yanked()?;
            let state = match (&gone, wrong.len()) {
                (_, n @ 1..) => format!("{n} files differ"),
                (Some(w), _) => format!("as signed; withdrawn for {}", w.reason),
                (None, 0) => "as signed".to_owned(),
            };
            if self.json {
                console.result(json!({
                    "name": name, "version": version, "target": package.manifest.target, "wrong": wrong,
                    "publisher": package.manifest.publisher, "files": package.manifest.files,
                    "receipt": package.receipt, "withdrawn": gone,
                }));
            }
            let (publisher, receipt) = (package.manifest.publisher.clone(), &package.receipt);
            rows.push(vec![
                label,
                publisher,
                receipt.key.clone(),
                short(&receipt.archive_sha256).to_owned(),
                state,
            ]);
            if !wrong.is_empty() {
                wrong.iter().for_each(|w| console.error(w));
                broken.push(package);
            }
        }
        if rows.len() == 1 && outcome == Outcome::Done {
            console.note("no package is installed");
        } else if !self.json {
            console.result(text::table(&rows));
        }
        if broken.is_empty() {
            return Ok(outcome);
        }
        if !self.repair {
            return Ok(outcome.or(Outcome::Refused));
        }
        let store = self.store.open()?;
        let registry = self.first_use.open(&home, &*store, console)?;
        let machine = Machine::look(console)?;
        let probe = |c: &Candidate<'_>| probe::candidate(&machine, c);
        let progress = |_: u64, _: u64| {};
        let how = Installation {
            platform: &machine.platform,
            probe: &probe,
            limits: Limits::default(),
            progress: &progress,
        };
        for package in broken {
            let mended = registry.repair(&package, &how)?;
            let label = package.manifest.label();
            let left = package.audit();
            left.iter().for_each(|e| console.error(e));
            console.result(format!("{label}: {mended} files are as they were signed again"));
            outcome = outcome.or(if left.is_empty() { Outcome::Done } else { Outcome::Refused });
        }
        Ok(outcome)
    }
}
