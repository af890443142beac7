//! `host registry search`: lists the packages of a registry.

use super::options::{FirstUse, StoreOption, home};
use crate::console::Console;
use crate::outcome::{CommandError, Outcome};
use crate::text;
use anymc3d_registry::index::Event;
use anymc3d_registry::{short, yanked};
use clap::Args;
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  host registry search
  host registry search lung CT
  host registry search lung_nodule --versions";

/// List packages whose name, summary, labels and publisher contain all search terms
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Search {
    /// Search terms; without them all packages are listed
    words: Vec<String>,
    /// List every version and target, with ABI, backbone and withdrawal
    #[arg(long)]
    versions: bool,
    /// Print one line of JSON per package (or version)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreOption,
    #[command(flatten)]
    first_use: FirstUse,
}

impl Search {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        let (home, store) = (home()?, self.store.open()?);
        let registry = self.first_use.open(&home, &*store, console)?;
        let found = registry.search(&self.words);
        if found.is_empty() {
            console.note(format!("no package in {} matches all search terms", registry.name()));
            return Ok(Outcome::Done);
        }
        let mut rows = Vec::new();
        if !self.versions {
            rows.push(["NAME", "NEWEST", "PUBLISHER", "LABELS", "SUMMARY"].map(str::to_owned).to_vec());
            for (name, listed) in found {
                let newest = listed.newest.as_ref().map_or("(withdrawn)".to_owned(), ToString::to_string);
                if self.json {
                    console.result(json!({
                        "name": name, "newest": listed.newest, "publisher": listed.publisher, "labels": listed.labels,
                        "summary": listed.summary, "registry": registry.name(), "revision": registry.revision(),
                    }));
                } else {
                    let labels = listed.labels.join(", ");
                    rows.push(vec![
                        name.to_owned(),
                        newest,
                        listed.publisher.clone(),
                        labels,
                        listed.summary.clone(),
                    ]);
                }
            }
        } else {
            rows.push(
                ["NAME", "VERSION", "TARGET", "ABI", "BACKBONE", "SIZE", "WITHDRAWN"]
                    .map(str::to_owned)
                    .to_vec(),
            );
            for (name, _) in found {
                let events = registry.events(name)?;
                for event in &events {
                    let Event::Release(r) = event else { continue };
                    let gone = yanked(&events, &r.version);
                    if self.json {
                        console.result(json!({ "release": r, "withdrawn": gone }));
                        continue;
                    }
                    let backbone = format!("{} ({})", r.backbone.name, short(&r.backbone.fingerprint));
                    let why = gone.map_or(String::new(), |w| format!("{}: {}", w.reason, w.detail));
                    let (version, target, abi) = (r.version.to_string(), r.target.clone(), r.abi.to_string());
                    rows.push(vec![r.name.clone(), version, target, abi, backbone, text::size(r.bytes), why]);
                }
            }
        }
        if !self.json {
            console.result(text::table(&rows));
        }
        Ok(Outcome::Done)
    }
}
