//! `host registry trust`: lists, adds and removes trusted keys.

use super::options::{home, read};
use crate::console::Console;
use crate::outcome::{CommandError, Outcome};
use crate::text;
use anymc3d_registry::{PublicKey, Role, Trust as Store};
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::Path;

const EXAMPLES: &str = "\
Examples:
  host registry trust add \"Example Lab\" lab.pub
  host registry trust add --registry plugins.example RWQ…
  host registry trust list
  host registry trust remove \"Example Lab\"
Before you add a key, compare it with what its owner says elsewhere (a letter, a phone call, a web page).";

/// List, add and remove trusted keys: of publishers (packages) and of registries (indexes)
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Trust {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Trust a key
    #[command(before_help = EXAMPLES)]
    Add {
        /// Name of the publisher as its packages give it, or of the registry as its index gives it
        name: String,
        /// Key: a .pub file, or the line that begins with RW
        key: String,
        /// The key signs a registry's index, not packages
        #[arg(long)]
        registry: bool,
    },
    /// List trusted keys
    List {
        /// Print one line of JSON per key
        #[arg(long)]
        json: bool,
    },
    /// Remove a key; packages signed with it no longer run
    Remove {
        /// Name of a publisher or registry, or id of a key
        name: String,
    },
}

impl Trust {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        let home = home()?;
        match self.action {
            Action::Add { name, key, registry } => {
                let text = if Path::new(&key).is_file() { read(Path::new(&key))? } else { key.clone() };
                let public =
                    PublicKey::parse(&text).map_err(|e| CommandError::usage(format!("{key}: {e}")))?;
                let role = if registry { Role::Registry } else { Role::Publisher };
                let _alone = home.lock()?;
                let mut trust = Store::open(&home)?;
                let new = trust.add(role, &name, &public, "added")?;
                trust.save(&home)?;
                let id = public.id();
                console.result(if new {
                    format!("trusted: {name}, key {id}")
                } else {
                    format!("was trusted already: {name}, key {id}")
                });
            }
            Action::List { json } => {
                let trust = Store::open(&home)?;
                let mut rows =
                    vec![["NAME", "SIGNS", "KEY", "HOW", "SINCE", "REPLACED"].map(str::to_owned).to_vec()];
                for k in trust.keys() {
                    if json {
                        console.result(json!(k));
                        continue;
                    }
                    let signs = if k.role == Role::Publisher { "packages" } else { "index" };
                    let replaced: Vec<String> =
                        k.retired.iter().map(|(r, n)| format!("revision {n} of {r}")).collect();
                    let since = k.since.strftime("%Y-%m-%d").to_string();
                    let id = k.key.id().to_owned();
                    rows.push(vec![
                        k.name.clone(),
                        signs.to_owned(),
                        id,
                        k.how.clone(),
                        since,
                        replaced.join(", "),
                    ]);
                }
                match rows.len() {
                    _ if json => {}
                    1 => console.note("no key is trusted yet"),
                    _ => console.result(text::table(&rows)),
                }
            }
            Action::Remove { name } => {
                let _alone = home.lock()?;
                let mut trust = Store::open(&home)?;
                let gone = trust.remove(&name);
                if gone.is_empty() {
                    return Err(CommandError::usage(format!(
                        "{name}: no trusted key has this name or id; see `host registry trust list`"
                    )));
                }
                trust.save(&home)?;
                for k in gone {
                    console.result(format!("no longer trusted: {}, key {}", k.name, k.key.id()));
                }
            }
        }
        Ok(Outcome::Done)
    }
}
