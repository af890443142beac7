//! Which backbone for which task: tasks × backbones × methods as one table, with intervals, paired tests, parameters, and the
//! time and memory of a scan.
//!
//! A [`Study`] is read from a TOML file, and refused before the first number is computed where something that it names is not
//! there. [`Study::run`] trains a cell per task, backbone and method. It keeps what an earlier call did, does anew
//! what changed, and goes on where a cell fails. All cells of a backbone and a case share its frozen features on disk.

mod cell;
mod error;
mod file;
mod measure;
mod report;
mod rows;
mod run;
mod study_plan;

pub use error::StudyError;
pub use measure::{Measuring, ScanCost};
pub use report::StudyTable;
pub use rows::{OverallRow, StudyRow};
pub use run::{StudyOptions, StudyProgress};
pub use study_plan::Study;
