//! `host registry publish`: publishes a package in a registry.

use super::machine::Machine;
use super::options::{IndexKey, StoreOption, home};
use super::pack::PartOptions;
use super::probe;
use crate::console::Console;
use crate::outcome::{CommandError, Outcome};
use anymc3d_registry::publish::IndexSigner;
use anymc3d_registry::{Candidate, PublicKey, Role, Trust};
use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  host registry publish --plugin target/release/liblung_nodule.so --from plugins/lung_nodule --golden golden \\
      --publisher \"Example Lab\" --key lab.key --index-key index.key --store /srv/plugins
  host registry publish lung_nodule-0.1.0-x86_64-linux.tar.zst --index-key index.key     an archive that a publisher
      sent; trust its key first: host registry trust add \"Example Lab\" lab.pub";

/// Publish a package: pack and publish a plugin, or publish an archive that somebody packed
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Publish {
    /// Archive made by `host registry pack`
    #[arg(value_name = "ARCHIVE", conflicts_with_all = ["plugin", "from", "weights", "card", "license", "golden", "publisher", "key"])]
    archive: Option<PathBuf>,
    #[command(flatten)]
    parts: PartOptions,
    #[command(flatten)]
    index: IndexKey,
    #[command(flatten)]
    store: StoreOption,
}

impl Publish {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        let (store, index) = (self.store.open()?, self.index.read()?);
        let scratch =
            tempfile::tempdir().map_err(|e| CommandError::failed(format!("no temporary folder ({e})")))?;
        let (archive, keys) = match &self.archive {
            Some(archive) => (archive.clone(), self.trusted()?),
            None if self.parts.any() => {
                let packed = self.parts.pack(scratch.path(), console)?;
                (packed.archive, vec![packed.key.public().clone()])
            }
            None => return Err(CommandError::usage("give --plugin with its parts, or an ARCHIVE")),
        };
        let key = signer_of(&archive, &keys)?;
        let machine = Machine::look(console)?;
        // What was packed just now has been probed.
        let probed = self.archive.is_none();
        let probe =
            |c: &Candidate<'_>| if probed { Ok(Default::default()) } else { probe::candidate(&machine, c) };
        let signer = IndexSigner { store: &*store, key: &index, valid: self.index.valid() };
        let published = signer.publish(&archive, &key, &probe)?;
        let label = format!("{} for {}", published.release.label(), published.release.target);
        if published.new {
            console.result(format!("published {label}, revision {}", published.revision));
        } else {
            console.result(format!("{label} is published already, with the same content"));
        }
        Ok(Outcome::Done)
    }

    /// Keys of publishers that are trusted here.
    fn trusted(&self) -> Result<Vec<PublicKey>, CommandError> {
        let trust = Trust::open(&home()?)?;
        Ok(trust.keys().iter().filter(|k| k.role == Role::Publisher).map(|k| k.key.clone()).collect())
    }
}

/// The trusted key that an archive says it is signed by.
fn signer_of(archive: &std::path::Path, keys: &[PublicKey]) -> Result<PublicKey, CommandError> {
    let (who, id) = anymc3d_registry::package::signed_by(archive)?;
    keys.iter().find(|k| k.id() == id).cloned().ok_or_else(|| {
        let archive = archive.display();
        CommandError::refused(format!("{archive}: signed by key {id} of {who}, which is not trusted here; `host registry trust add \"{who}\" KEY`"))
    })
}
