//! `host registry yank`: withdraws a version, or undoes the withdrawal.

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

Only a lock file can still install a withdrawn version. After the next `host registry update`, an installed copy runs with a
warning; if the reason is safety, it does not run.";

/// Withdraw a version, for all targets
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Yank {
    /// Package: NAME@VERSION
    #[arg(value_name = "PACKAGE")]
    package: Request,
    /// Reason of the withdrawal
    #[arg(long, value_enum, required_unless_present = "undo")]
    reason: Option<Reason>,
    /// Message for people who run the version: what is wrong, what to do
    #[arg(long, required_unless_present = "undo")]
    detail: Option<String>,
    /// Undo the withdrawal
    #[arg(long, conflicts_with_all = ["reason", "detail"])]
    undo: bool,
    #[command(flatten)]
    index: IndexKey,
    #[command(flatten)]
    store: StoreOption,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Reason {
    /// The version may harm: it no longer runs
    Safety,
    /// The version is less accurate than was published
    Accuracy,
    /// The licence forbids its use
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
