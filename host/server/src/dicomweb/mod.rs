//! Studies of an archive, answered as they come: from its list (QIDO-RS) or a webhook, by rules, once each.
//!
//! [`Service`] looks for studies and does what is next for each. `rules`, `series` and `orders` say what is asked about
//! which series; `ledger` says how far each study is; `client` speaks DICOMweb; `fetch`, `outbox` and `deliver` move
//! instances in and results out. What was received by DIMSE ([`crate::dimse`]) goes the same way. Jobs are done by whoever
//! implements [`Answer`].
//!
//! Identity: UIDs are in the ledger as long as work needs them, in files of scans and results, and in requests to the
//! archive. Logs, folder names, job keys and the status have [`StudyKey`]s, which are keyed hashes.

mod answer;
mod answer_by_jobs;
mod backoff;
mod client;
mod config;
mod credentials;
mod deliver;
mod error;
mod fetch;
mod json;
mod ledger;
mod look;
mod multipart;
mod orders;
mod outbox;
mod rules;
mod series;
mod service;
mod status;
mod steps;
mod stow;
pub(crate) mod study_log;
#[cfg(test)]
pub(crate) mod tests;
mod watch;
mod workers;

pub use answer::{Answer, AnswerError, AnswerRequest, JobOutcome};
pub use answer_by_jobs::AnswerByJobs;
pub use config::{ObjectKind, Peer, ReceiverSettings, RulesFile};
pub use error::ArchiveError;
pub use ledger::{ObjectState, SentObject, StudyKey, StudyOrigin, StudyRecord, StudyState};
pub use series::SeriesFacts;
pub use service::{NameError, Service, ServiceOptions};
pub use status::{ServiceStatus, StudyStatus};
pub(crate) use steps::{link_files, remove_folder};
