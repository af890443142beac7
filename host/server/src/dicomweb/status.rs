//! What became of studies, for whoever looks after the server: no identity.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::ledger::{LedgerError, StudyKey, StudyRecord, StudyState};
use super::workers::Shared;

/// Studies that are listed by name.
const MOST: usize = 1000;

/// What the service is doing, without identity.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceStatus {
    /// Studies in the ledger by state.
    pub studies: BTreeMap<&'static str, usize>,
    /// New studies that are not complete yet: of the archive, and of C-STORE.
    pub awaited: usize,
    pub receiving: usize,
    /// How often in a row the archive was not available.
    pub archive_failures: u32,
    /// Studies that failed for good, newest first.
    pub failed: Vec<StudyStatus>,
    /// Studies that are repeated.
    pub repeated: Vec<StudyStatus>,
}

/// A study of the ledger.
#[derive(Debug, Clone, Serialize)]
pub struct StudyStatus {
    /// A hash.
    pub study: String,
    pub state: &'static str,
    pub rules: Vec<String>,
    pub plugins: Vec<String>,
    pub attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Seconds since 1970.
    pub seen: u64,
    pub changed: u64,
}

impl StudyStatus {
    fn of(key: &StudyKey, record: &StudyRecord) -> Self {
        let mut plugins: Vec<String> = record.orders.iter().flat_map(|o| o.plugins.clone()).collect();
        plugins.dedup();
        Self {
            study: key.to_string(),
            state: record.state.name(),
            rules: record.orders.iter().flat_map(|o| o.rules.clone()).collect(),
            plugins,
            attempts: record.attempts,
            reason: record.reason.clone(),
            notes: record.notes.clone(),
            seen: record.seen,
            changed: record.changed,
        }
    }
}

impl Shared {
    pub fn status(&self) -> Result<ServiceStatus, LedgerError> {
        let all = self.steps.ledger.list(|_| true)?;
        let mut studies = BTreeMap::new();
        all.iter().for_each(|(_, record)| *studies.entry(record.state.name()).or_default() += 1);
        let of = |wanted: &dyn Fn(&StudyRecord) -> bool| {
            let mut found: Vec<StudyStatus> =
                all.iter().filter(|(_, r)| wanted(r)).map(|(key, r)| StudyStatus::of(key, r)).collect();
            found.sort_by_key(|study| std::cmp::Reverse(study.changed));
            found.truncate(MOST);
            found
        };
        Ok(ServiceStatus {
            studies,
            awaited: self.waiting.load(Ordering::Relaxed) as usize,
            receiving: self.incoming.as_ref().map_or(0, |i| i.len()),
            archive_failures: self.steps.unavailable.load(Ordering::Relaxed),
            failed: of(&|r| r.state == StudyState::Failed),
            repeated: of(&|r| !r.state.is_final() && r.reason.is_some()),
        })
    }
}
