//! `host registry`: one file per subcommand; this one parses and dispatches.

mod init;
mod install;
mod keygen;
mod machine;
mod mirror;
mod options;
mod pack;
mod probe;
mod publish;
mod remove;
mod renew;
mod search;
mod trust;
mod update;
mod verify;
mod yank;

use super::console::Console;
use super::outcome::{CommandError, Outcome};
use clap::{Args, Subcommand};

const EXAMPLES: &str = "\
Examples for people who run plugins:
  host registry search nodule --store https://plugins.example/anymc3d
  host registry install lung_nodule --store … --lock       anymc3d.lock then says exactly what runs
  host registry verify                                     compares every file with its signature
  host registry mirror lung_nodule --store … --to /media/stick
For who publishes:
  host registry keygen --name \"Example Lab\" --out lab
  host registry publish --plugin lung_nodule --publisher \"Example Lab\" \\
      --key lab.key --index-key index.key --store …

--store is a folder, https://…, oci://host/path [default: $ANYMC3D_STORE, else in $ANYMC3D_HOME]";

/// Publish, find, install and verify signed packages of plugins
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Registry {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Search(search::Search),
    Install(install::Install),
    Update(update::Update),
    Verify(verify::Verify),
    Remove(remove::Remove),
    Mirror(mirror::Mirror),
    Trust(trust::Trust),
    Keygen(keygen::Keygen),
    Init(init::Init),
    Pack(Box<pack::Pack>),
    Publish(Box<publish::Publish>),
    Yank(yank::Yank),
    Renew(renew::Renew),
}

impl Registry {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        match self.action {
            Action::Search(command) => command.run(console),
            Action::Install(command) => command.run(console),
            Action::Update(command) => command.run(console),
            Action::Verify(command) => command.run(console),
            Action::Remove(command) => command.run(console),
            Action::Mirror(command) => command.run(console),
            Action::Trust(command) => command.run(console),
            Action::Keygen(command) => command.run(console),
            Action::Init(command) => command.run(console),
            Action::Pack(command) => command.run(console),
            Action::Publish(command) => command.run(console),
            Action::Yank(command) => command.run(console),
            Action::Renew(command) => command.run(console),
        }
    }
}
