//! A case of a shard: what is asked of it, and what became of it.

use super::journal::FailureKind;
use super::manifest::WorkItem;
use super::scan_files::FetchedCase;
use crate::engine::Case;
use crate::engine::result::{FailedCase, FailedInput, Provenance, SCHEMA};
use crate::run::Blame;
use std::borrow::Borrow;

/// A case that is to be run.
pub(super) struct Pending<'a> {
    pub item: &'a WorkItem,
    /// Plugins without a result.
    pub tasks: Vec<usize>,
    pub files: Option<String>,
}

/// A case as a session is given it.
pub(super) enum Asked<'a> {
    /// Its files lie on this machine.
    Here(&'a Case),
    /// They were copied from a store.
    Fetched(FetchedCase),
}

impl Borrow<Case> for Asked<'_> {
    fn borrow(&self) -> &Case {
        match self {
            Self::Here(case) => case,
            Self::Fetched(fetched) => &fetched.case,
        }
    }
}

/// What a case took.
pub(super) struct Took {
    pub seconds: f64,
    pub cpu: Option<f64>,
    pub peak: Option<u64>,
}

pub(super) fn kind_of(blame: Blame) -> FailureKind {
    match blame {
        Blame::Scan => FailureKind::Scan,
        Blame::Task => FailureKind::Plugin,
        Blame::Output => FailureKind::Writing,
    }
}

pub(super) fn failed_case(item: &WorkItem, plugin: &str, kind: FailureKind, why: &str) -> FailedCase {
    FailedCase {
        schema: SCHEMA.to_owned(),
        case: item.case.name.clone(),
        input: FailedInput { path: item.case.any_file().display().to_string() },
        plugin: Some(plugin.to_owned()),
        error: why.to_owned(),
        kind: Some(kind.name().to_owned()),
        provenance: Provenance::now(),
    }
}
