//! `host registry yank`: a version is yanked, or comes back.

use super::options::{IndexKey, StoreOption};
use crate::console::Console;
use crate::outcome::{CommandError, Outcome};
use anymc3d_registry::index::WithdrawalReason;
use anymc3d_registry::publish::IndexSigner;
use anymc3d_registry::{Request, Wanted};
use clap::{Args, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  host registry yank lung_nodule@0.1.0 --reason accuracy --detail \"misses nodules at the pleura\" --index-key index.key
  host registry yank lung_nodule@0.1.0 --reason safety --detail \"mirrors left and right\" --index-key index.key
  host registry yank lung_nodule@0.1.0 --undo --index-key index.key

Nobody gets a withdrawn version who does not have it locked. Where it is installed it runs with a warning, and not at all
when the reason is safety, from the next `host registry update` on.";

/// Withdraw a version, for all targets
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Yank {
    /// NAME@VERSION
    #[arg(value_name = "PACKAGE")]
    package: Request,
    /// Why
    #[arg(long, value_enum, required_unless_present = "undo")]
    reason: Option<Reason>,
    /// For whoever runs it: what is wrong, what to do
    #[arg(long, required_unless_present = "undo")]
    detail: Option<String>,
    /// It is back
    #[arg(long, conflicts_with_all = ["reason", "detail"])]
    undo: bool,
    #[command(flatten)]
    index: IndexKey,
    #[command(flatten)]
    store: StoreOption,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Reason {
    /// It may harm: it runs no more
    Safety,
    /// It is worse than was thought
    Accuracy,
    /// It may not be used
    Licence,
}

impl Yank {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        let Wanted::Exact(version) = &self.package.versions else {
            return Err(CommandError::usage(format!(
                "`{}`: name the version, for example {}@0.1.0",
                self.package, self.package.name
            )));
        };
        let (store, key) = (self.store.open()?, self.index.read()?);
        let signer = IndexSigner { store: &*store, key: &key, valid: self.index.valid() };
        let name = &self.package.name;
        let (revision, what) = match (self.reason, self.detail.as_deref()) {
            (Some(reason), Some(detail)) if !detail.trim().is_empty() => {
                let reason = match reason {
                    Reason::Safety => WithdrawalReason::Safety,
                    Reason::Accuracy => WithdrawalReason::Accuracy,
                    Reason::Licence => WithdrawalReason::Licence,
                };
                (signer.withdraw(name, version, reason, detail.trim())?, format!("withdrawn for {reason}"))
            }
            (Some(_), _) => return Err(CommandError::usage("--detail: say in a sentence what is wrong")),
            (None, _) => (signer.restore(name, version)?, "back".to_owned()),
        };
        console.result(format!("{name} {version} is {what}, revision {revision}"));
        Ok(Outcome::Done)
    }
}
