//! The index: what a registry has. One signed root with a revision and an expiry, which names the digest of one file
//! per package; in that file one line per event, and lines are only ever added.

mod line;
mod root;

pub use line::{Event, Release, Withdrawal, WithdrawalReason, parse_lines, write_lines};
pub(crate) use root::ROOT_LIMIT;
pub use root::{Listed, ROOT, Root, SignedRoot};
