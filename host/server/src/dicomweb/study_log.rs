//! What the server's log is told of studies: their hashes, never their UIDs.

use serde_json::json;

use super::ledger::StudyKey;
use crate::log;

pub(crate) const INFO: &str = "info";
pub(crate) const WARNING: &str = "warning";
pub(crate) const ERROR: &str = "error";

/// Of a study.
pub(crate) fn of_study(level: &str, key: &StudyKey, message: impl std::fmt::Display) {
    log::line(level, "study", json!({ "study": key.as_str(), "message": message.to_string() }));
}

/// Of the archive, the ledger or the receiver.
pub(crate) fn of_all(level: &str, message: impl std::fmt::Display) {
    log::line(level, "studies", json!({ "message": message.to_string() }));
}
