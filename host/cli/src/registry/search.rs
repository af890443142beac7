//! `host registry search`: what a registry has.

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

/// Packages whose name, summary, labels or publisher have all the words in them
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Search {
    /// Words; none lists everything
    words: Vec<String>,
    /// Every version and target, with ABI, backbone and whether it is withdrawn
    #[arg(long)]
    versions: bool,
    /// One JSON object per package (or version), one per line
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
            console.note(format!("nothing in {} has all of these words", registry.name()));
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
