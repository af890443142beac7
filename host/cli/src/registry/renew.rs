//! `host registry renew`: signs the index again, with a later date or with a new key.

use super::options::{IndexKey, StoreOption, read};
use crate::console::Console;
use crate::outcome::{CommandError, Outcome};
use anymc3d_registry::Rotation;
use anymc3d_registry::publish::IndexSigner;
use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  host registry renew --index-key index.key --store /srv/plugins                          once a week, by a timer
  host registry renew --index-key index.key --rotation lab2.rotation --store …            a publisher's new key
  host registry renew --index-key index2.key --rotation index2.rotation --store …         the index's new key";

/// Sign the index again before it expires, or replace an old key by a new key
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Renew {
    /// Rotation file that `host registry keygen --rotate` wrote
    #[arg(long, value_name = "FILE")]
    rotation: Option<PathBuf>,
    #[command(flatten)]
    index: IndexKey,
    #[command(flatten)]
    store: StoreOption,
}

impl Renew {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        let (store, key) = (self.store.open()?, self.index.read()?);
        let rotation = match &self.rotation {
            Some(path) => {
                let wrong = |e: serde_json::Error| {
                    CommandError::refused(format!("{}: no rotation ({e})", path.display()))
                };
                Some(serde_json::from_str::<Rotation>(&read(path)?).map_err(wrong)?)
            }
            None => None,
        };
        let revision =
            IndexSigner { store: &*store, key: &key, valid: self.index.valid() }.renew(rotation)?;
        console.result(format!("{}: revision {revision}", store.address()));
        Ok(Outcome::Done)
    }
}
