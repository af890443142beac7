//! `host registry trust`: whose signatures count here.

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
Compare a key with what its owner says in another place (a letter, a phone call, a web page) before you add it.";

/// Whose signatures count: of packages (publishers) and of indexes (registries)
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Trust {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Trust a key from now on
    #[command(before_help = EXAMPLES)]
    Add {
        /// The publisher's name as its packages say it, or the registry's as its index does
        name: String,
        /// A .pub file, or the line that begins with RW
        key: String,
        /// The key of a registry's index, not of a publisher
        #[arg(long)]
        registry: bool,
    },
    /// Trusted keys
    List {
        /// One JSON object per key, one per line
        #[arg(long)]
        json: bool,
    },
    /// Trust no longer; packages signed with the key do not run any more
    Remove {
        /// A publisher's or registry's name, or a key's id
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
