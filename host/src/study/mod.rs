//! Which backbone for which task: tasks × backbones × methods as one table, with intervals, paired tests, parameters, and the
//! time and memory of a scan.
//!
//! A [`Study`] is read from a TOML file, and refused before the first number is computed where something that it names is not
//! there. [`Study::run`] trains a cell per task, backbone and method. It keeps what an earlier call did, does anew
//! what changed, and goes on where a cell fails. All cells of a backbone and a case share its frozen features on disk.
//! Several processes may share a study's folder. Methods of other programs join by their predictions files.

mod cell;
mod error;
mod file;
mod locks;
mod logistic;
mod measure;
mod method;
mod outside;
mod part;
mod report;
mod rows;
mod run;
mod scalars;
mod study_plan;
mod task_entry;

pub use error::StudyError;
pub(crate) use file::folder_name;
pub use measure::{Measuring, ScanCost};
pub use part::StudyPart;
pub use report::StudyTable;
pub(crate) use report::{Place, plain};
pub(crate) use rows::{CellOutcome, Outcome, asked, deviation, holm_corrected};
pub use rows::{OverallRow, StudyRow};
pub use run::{Report, StudyOptions, StudyProgress, write_files};
pub use study_plan::Study;
