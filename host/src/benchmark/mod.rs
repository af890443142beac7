//! Which method for which task: the cells of a study as a benchmark, with each method tested against every baseline.
//!
//! [`crate::study`] computes the cells; this room asks other questions of them. [`BenchmarkReport`] has a row per task, label and
//! method: area under the ROC curve, average precision and Brier score with intervals over draws of patients, paired tests
//! against each baseline, trained numbers, minutes of training and time of a case; and pictures of it.

mod pictures;
mod report;
mod rows;

pub use report::BenchmarkReport;
pub use rows::{BaselineTest, BenchmarkRow};
