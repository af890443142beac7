//! The data table: which scans there are, what is known of each, and which serve to train.
//!
//! CSV with a header: `case`, `image` or one `image.VIEW` per view, one column per label, and optionally
//! `patient`, `group`, `mask`, `point`, `split`, `weight.LABEL`; other columns are left alone. A multi-class task has one column `class`
//! with the class's name instead. Paths are relative to the table. An empty label is unknown, an empty
//! mask is none.
//!
//! `FILE.npz:SPLIT` is a table too: a split of a NumPy archive, see `archive`.

mod archive;
mod cells;
mod columns;
mod labels;
mod read;
mod split;

pub use labels::LabelColumns;
pub use split::Split;

use crate::fs::hex;
use crate::scan::RegionOfInterest;
use crate::scan::npz::ArchiveSplit;
use anymc3d_manifest::{Manifest, TaskKind};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Name of the column that holds the class of a multi-class task.
pub const CLASS_COLUMN: &str = "class";

/// What a table's rows may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// `train`
    Train,
    /// `val`
    Val,
    /// `test`
    Test,
}

impl Part {
    /// As it is written in the `split` column.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

/// One case.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Unique name.
    pub case: String,
    /// Line of the table, the header's being 1; 0 for a row that was never read.
    pub line: u64,
    /// View to scan. A column `image` serves every view without a column of its own.
    pub images: BTreeMap<String, PathBuf>,
    /// One per output of the task, 0 to 1 (a class as one among zeros; a value as [`anymc3d_manifest::Task::targets_of`]
    /// has it); `None`: unknown.
    pub labels: Vec<Option<f32>>,
    /// One per label: how much it counts in the loss; empty: all 1.
    pub weights: Vec<f32>,
    /// Whose scan it is; cases of one patient stay in one split.
    pub patient: Option<String>,
    /// Where it comes from: scanner or site.
    pub group: Option<String>,
    /// Voxels of what is to be found.
    pub mask: Option<PathBuf>,
    /// RAS mm of a point in what is to be found.
    pub point_mm: Option<[f64; 3]>,
    /// Where the table itself assigns it.
    pub split: Option<Part>,
}

/// SHA-256 of a table's file, lower-case hex; of a split of an archive the archive's.
///
/// # Errors
/// When the file cannot be read.
pub fn digest_of(path: &Path) -> std::io::Result<String> {
    let file = ArchiveSplit::parse(path).map_or_else(|| path.to_owned(), |split| split.file);
    Ok(hex(&Sha256::digest(std::fs::read(file)?)))
}

impl Row {
    /// A case without anything known of it.
    pub fn named(case: String) -> Self {
        Self {
            case,
            line: 0,
            images: BTreeMap::new(),
            labels: Vec::new(),
            weights: Vec::new(),
            patient: None,
            group: None,
            mask: None,
            point_mm: None,
            split: None,
        }
    }

    /// What views with the region `mask` or `point` are cut around.
    pub fn region(&self) -> RegionOfInterest {
        RegionOfInterest { mask: self.mask.clone(), point_mm: self.point_mm }
    }

    /// How much label `index` counts in the loss; 0 where it is not known.
    pub fn weight(&self, index: usize) -> f32 {
        let known = self.labels.get(index).is_some_and(Option::is_some);
        if known { self.weights.get(index).copied().unwrap_or(1.0) } else { 0.0 }
    }
}

/// A data table that makes sense: every problem was found when it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Where it was read from, or is to be written to.
    pub path: PathBuf,
    /// Kind of task its labels are of.
    pub kind: TaskKind,
    /// Labels (of a multi-class task: classes), in the manifest's order.
    pub labels: Vec<String>,
    /// Of an ordinal or regression task: the ends of its scale.
    pub range: Option<[f64; 2]>,
    /// The cases, in the table's order.
    pub rows: Vec<Row>,
}

/// One thing wrong with a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line, the header's being 1; `None`: of the table as a whole.
    pub line: Option<u64>,
    /// What was found, what was expected.
    pub what: String,
}

/// A table that cannot be used, with everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct TableError {
    /// The table.
    pub path: PathBuf,
    /// At least one, in the order of the lines.
    pub problems: Vec<Problem>,
}

/// How many problems one message names.
const NAMED: usize = 12;

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        for (i, problem) in self.problems.iter().take(NAMED).enumerate() {
            let gap = if i > 0 { "; " } else { "" };
            match problem.line {
                Some(line) => write!(f, "{gap}line {line}: {}", problem.what)?,
                None => write!(f, "{gap}{}", problem.what)?,
            }
        }
        match self.problems.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl Table {
    /// Reads a table whose label columns must be there.
    ///
    /// # Errors
    /// [`TableError`] naming, each with its line: unreadable or ragged CSV, missing columns, views the plugin
    /// does not have, duplicate or unusable case names, missing images, labels that are not 0, 1 or empty (or
    /// not one of the classes), unknown splits, one patient in two splits, no case at all.
    pub fn open(path: impl AsRef<Path>, manifest: &Manifest) -> Result<Self, TableError> {
        match read::read_all(path.as_ref(), manifest) {
            (table, problems) if problems.is_empty() => Ok(table),
            (table, problems) => Err(TableError { path: table.path, problems }),
        }
    }

    /// Reads a table as [`Table::open`] does, but gives what could be read beside what is wrong.
    pub fn read_all(path: impl AsRef<Path>, manifest: &Manifest) -> (Self, Vec<Problem>) {
        read::read_all(path.as_ref(), manifest)
    }

    /// Reads a table whose label columns may be absent, for `host run`; an absent label is unknown. The file is read
    /// once: each task gets a table with the same rows in the same order, and the columns that it asks for.
    ///
    /// # Errors
    /// As [`Table::open`], less the label columns' absence; of several tasks the first that cannot use it.
    pub fn open_unlabelled(path: impl AsRef<Path>, tasks: &[Manifest]) -> Result<Vec<Self>, TableError> {
        read::read_unlabelled(path.as_ref(), tasks)
    }

    /// The value of each label of an ordinal or regression task; `None` where it is unknown.
    pub fn values_of(&self, row: &Row) -> Vec<Option<f64>> {
        let known =
            |of: &[Option<f32>]| -> Option<Vec<f64>> { of.iter().map(|l| Some(f64::from((*l)?))).collect() };
        let per_label = if self.kind == TaskKind::Ordinal { row.labels.len().max(1) } else { 1 };
        row.labels.chunks(per_label).map(|of| Some(self.value_of(&known(of)?))).collect()
    }

    /// The value on the scale of one label's targets or probabilities, as [`anymc3d_manifest::Task::value_of`].
    pub fn value_of(&self, shares: &[f64]) -> f64 {
        let [low, high] = self.range.unwrap_or([0.0, 1.0]);
        let sum = shares.iter().sum::<f64>();
        if self.kind == TaskKind::Ordinal {
            rounded(low + sum, 1.0)
        } else {
            rounded(low + sum * (high - low), high - low)
        }
    }

    /// Label columns whose cells do not all count as much: index and name.
    fn weighted(&self) -> Vec<(usize, &str)> {
        let names: Vec<&str> = match self.kind {
            TaskKind::Multiclass => vec![CLASS_COLUMN],
            _ => self.labels.iter().map(String::as_str).collect(),
        };
        let differs = |i: usize| self.rows.iter().any(|r| r.weights.get(i).is_some_and(|w| *w != 1.0));
        names.into_iter().enumerate().filter(|(i, _)| differs(*i)).collect()
    }

    /// Writes the table to its path; paths beneath its folder become relative. Columns no row fills are left out.
    ///
    /// # Errors
    /// [`TableError`] where the file cannot be written.
    pub fn write(&self) -> Result<(), TableError> {
        let bad = |e: &dyn fmt::Display| TableError {
            path: self.path.clone(),
            problems: vec![Problem { line: None, what: format!("cannot be written: {e}") }],
        };
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let place = |p: &Path| p.strip_prefix(folder).unwrap_or(p).to_string_lossy().replace('\\', "/");
        let views: Vec<&String> = self
            .rows
            .iter()
            .flat_map(|r| r.images.keys())
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        let single = views.len() == 1;
        let patient = self.rows.iter().any(|r| r.patient.is_some());
        let mask = self.rows.iter().any(|r| r.mask.is_some());
        let group = self.rows.iter().any(|r| r.group.is_some());
        let point = self.rows.iter().any(|r| r.point_mm.is_some());
        let split = self.rows.iter().any(|r| r.split.is_some());

        let mut writer = csv::Writer::from_path(&self.path).map_err(|e| bad(&e))?;
        let mut header = vec!["case".to_owned()];
        header.extend(views.iter().map(|v| if single { "image".to_owned() } else { format!("image.{v}") }));
        match self.kind {
            TaskKind::Multiclass => header.push(CLASS_COLUMN.to_owned()),
            _ => header.extend(self.labels.iter().cloned()),
        }
        let weighted = self.weighted();
        header.extend(weighted.iter().map(|(_, name)| format!("weight.{name}")));
        for (there, name) in
            [(patient, "patient"), (group, "group"), (mask, "mask"), (point, "point"), (split, "split")]
        {
            if there {
                header.push(name.to_owned());
            }
        }
        writer.write_record(&header).map_err(|e| bad(&e))?;
        for row in &self.rows {
            let mut record = vec![row.case.clone()];
            record.extend(views.iter().map(|v| row.images.get(*v).map_or(String::new(), |p| place(p))));
            match self.kind {
                TaskKind::Multiclass => {
                    let class = row.labels.iter().position(|l| *l == Some(1.0));
                    record.push(class.map_or(String::new(), |c| self.labels[c].clone()));
                }
                TaskKind::Ordinal | TaskKind::Regression => {
                    let values = self.values_of(row);
                    record.extend(values.into_iter().map(|v| v.map_or(String::new(), |v| v.to_string())));
                }
                TaskKind::Binary | TaskKind::Multilabel => {
                    record.extend(row.labels.iter().map(|l| l.map_or(String::new(), |l| l.to_string())));
                }
            }
            let weight = |i: usize| row.weights.get(i).map_or(String::new(), f32::to_string);
            record.extend(weighted.iter().map(|(i, _)| weight(*i)));
            if patient {
                record.push(row.patient.clone().unwrap_or_default());
            }
            if group {
                record.push(row.group.clone().unwrap_or_default());
            }
            if mask {
                record.push(row.mask.as_deref().map_or(String::new(), place));
            }
            if point {
                let text = |[x, y, z]: [f64; 3]| format!("{x} {y} {z}");
                record.push(row.point_mm.map_or(String::new(), text));
            }
            if split {
                record.push(row.split.map_or("", Part::name).to_owned());
            }
            writer.write_record(&record).map_err(|e| bad(&e))?;
        }
        writer.flush().map_err(|e| bad(&e))
    }
}

/// What is wrong with a case's name: its results go to a folder of that name, beside folders of the host's own, which begin with a
/// point.
pub(crate) fn fault_of_name(name: &str) -> Option<&'static str> {
    (name.contains(['/', '\\', '\0']) || name.starts_with('.'))
        .then_some("a name is that of a folder; expected no slash, no NUL and no point at its start")
}

/// A value to as many digits as shares in f32 of a scale so long can say, six behind the point at most: what a table said is what
/// comes back, so that it is on its side of a cut.
fn rounded(value: f64, length: f64) -> f64 {
    // An f32 is off by 3e-8 of the scale at most, a third of this unit or less.
    let digits = (-(length * 1e-7).log10().ceil() as i32).min(6);
    let unit = 10f64.powi(digits.abs());
    if digits >= 0 { (value * unit).round() / unit } else { (value / unit).round() * unit }
}

#[cfg(test)]
mod tests;
