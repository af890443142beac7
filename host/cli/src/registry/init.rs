//! `host registry init`: an empty registry in a store.

use super::options::{IndexKey, StoreOption};
use crate::console::Console;
use crate::outcome::{CommandError, Outcome};
use anymc3d_registry::publish::{IndexSigner, init};
use clap::Args;

const EXAMPLES: &str = "\
Examples:
  host registry init --name plugins.example --index-key index.key --store /srv/plugins
  host registry init --name plugins.example --index-key index.key --store oci://harbor.example/anymc3d";

/// Make an empty registry in a folder, an OCI registry or an object store
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Init {
    /// Name of the registry; clients trust its index key under this name
    #[arg(long)]
    name: String,
    #[command(flatten)]
    key: IndexKey,
    #[command(flatten)]
    store: StoreOption,
}

impl Init {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        let (store, key) = (self.store.open()?, self.key.read()?);
        init(&IndexSigner { store: &*store, key: &key, valid: self.key.valid() }, &self.name)?;
        console.result(format!(
            "{}: registry {}, index key {}",
            store.address(),
            self.name,
            key.public().as_str()
        ));
        Ok(Outcome::Done)
    }
}
