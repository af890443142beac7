//! What is told of a shard: what is left of it before the first case, each case, and how it ended.

use crate::run::Events;
use std::collections::BTreeMap;

/// Hears how a shard goes.
pub trait BatchEvents: Events {
    /// What is left of the shard, before the first case.
    fn begin(&self, plan: &Left);

    /// A case is done; `failures` names plugins and reasons.
    fn case_done(&self, case: &str, failures: &[(String, String)]);
}

/// What is left of a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// Cases of the shard.
    pub cases: usize,
    /// Are done already.
    pub done: usize,
    /// Failed before and are not tried again.
    pub failed: usize,
    /// Are done anew, by what is different.
    pub outdated: BTreeMap<String, usize>,
}

/// How a process's part ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardOutcome {
    /// Why.
    pub why: Why,
    /// Cases that this process did.
    pub done: usize,
    /// Of these, how many failed for some plugin; with those that failed before and were left.
    pub failed: usize,
    /// Cases of the shard that are left.
    pub left: usize,
}

/// Why it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// All is done.
    Finished,
    /// It was asked to stop.
    Stopped,
    /// As many cases failed as it was told to bear.
    TooManyFailures,
    /// The folder cannot be written to any more; one line.
    Unwritable(String),
    /// The store of the scans or of the records does not take or give them any more; one line.
    Store(String),
}
