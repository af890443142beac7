//! Scored cases: any model's predictions for cases with known labels.
//!
//! CSV with a header: `case`, optionally `patient`, `group` (scanner or site) and `fold` (whose model scored the case), then for each label a column `LABEL` (0, 1 or empty for unknown) and
//! a column `p_LABEL` (probability). A label with numbers has a column `LABEL` with the true value (or nothing) and a column
//! `v_LABEL` with the predicted one. A multi-class label has a column `LABEL` with the class's name and a column
//! `p_LABEL.CLASS` per class. Other columns are ignored, unless they hold 0 and 1 like a label.

mod columns;
mod logits;
mod mean;
mod read;
#[cfg(test)]
mod tests;

pub use columns::ColumnNames;

use crate::data::table::{CLASS_COLUMN, Problem, Row, Table, TableError};
use crate::eval::metrics::argmax;
use anymc3d_manifest::TaskKind;
use std::path::{Path, PathBuf};

/// One case of a predictions file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScoredCase {
    /// Unique name.
    pub case: String,
    /// Whose case it is.
    pub patient: Option<String>,
    /// Fold of a cross-validation whose model scored it; all cases have one, or none has.
    pub fold: Option<String>,
    /// Scanner or site that it comes from.
    pub group: Option<String>,
    /// Line of the file, the header's being 1; 0 for a case that was never read.
    pub line: u64,
}

/// A label with what is known and what was said of each case.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredLabel {
    /// Name of its column.
    pub name: String,
    /// In the order of the cases.
    pub scores: Scores,
}

/// Truth and probabilities; an unknown truth is `None`.
#[derive(Debug, Clone, PartialEq)]
pub enum Scores {
    /// Yes or no.
    Binary {
        /// `[n]`
        truth: Vec<Option<bool>>,
        /// `[n]`, 0 to 1.
        probabilities: Vec<f64>,
    },
    /// A number on a scale.
    Values {
        /// `[n]`
        truth: Vec<Option<f64>>,
        /// `[n]`
        predicted: Vec<f64>,
    },
    /// One class of several.
    Classes {
        /// Their names.
        classes: Vec<String>,
        /// `[n]`, indices of classes.
        truth: Vec<Option<usize>>,
        /// `[n][classes]`, 0 to 1.
        probabilities: Vec<Vec<f64>>,
    },
}

/// Cases with labels and scores that make sense: every problem was found when they were read.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions {
    /// Where they were read from; empty for what a model just said.
    pub path: PathBuf,
    /// The cases, in the file's order.
    pub cases: Vec<ScoredCase>,
    /// The labels, in the order of their columns.
    pub labels: Vec<ScoredLabel>,
    /// Columns that were left alone.
    pub ignored: Vec<String>,
    /// What was understood that the file does not say, for a reader to confirm: one sentence each.
    pub notes: Vec<String>,
}

/// One yes-or-no question with its known cases: a label, or a class against the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// `LABEL` or `LABEL.CLASS`.
    pub name: String,
    /// Positive is `p >= threshold`; `None` for a class, where the most probable one is positive.
    pub threshold: Option<f64>,
    /// Indices of the cases whose truth is known, `[n]`; what follows is of these.
    pub cases: Vec<usize>,
    /// `[n]`
    pub truth: Vec<bool>,
    /// `[n]`
    pub probabilities: Vec<f64>,
    /// The decisions, `[n]`.
    pub positive: Vec<bool>,
    /// Index of each case's fold, `[n]`; empty where one model scored all cases.
    pub folds: Vec<usize>,
}

impl Scores {
    /// Cases whose truth is known.
    pub fn known(&self) -> usize {
        match self {
            Self::Binary { truth, .. } => truth.iter().flatten().count(),
            Self::Classes { truth, .. } => truth.iter().flatten().count(),
            Self::Values { truth, .. } => truth.iter().flatten().count(),
        }
    }
}

impl ScoredLabel {
    /// The question that a label asks, or one per class. `threshold` is of no use to classes.
    pub fn questions(&self, threshold: f64) -> Vec<Question> {
        match &self.scores {
            Scores::Binary { truth, probabilities } => {
                let known: Vec<(usize, bool)> =
                    truth.iter().enumerate().filter_map(|(i, t)| Some((i, (*t)?))).collect();
                let p: Vec<f64> = known.iter().map(|(i, _)| probabilities[*i]).collect();
                vec![Question {
                    name: self.name.clone(),
                    threshold: Some(threshold),
                    positive: p.iter().map(|p| *p >= threshold).collect(),
                    probabilities: p,
                    cases: known.iter().map(|k| k.0).collect(),
                    truth: known.iter().map(|k| k.1).collect(),
                    folds: Vec::new(),
                }]
            }
            // Numbers are no yes or no: see `evaluation::values`.
            Scores::Values { .. } => Vec::new(),
            Scores::Classes { classes, truth, probabilities } => {
                let known: Vec<(usize, usize)> =
                    truth.iter().enumerate().filter_map(|(i, t)| Some((i, (*t)?))).collect();
                let question = |class: usize| Question {
                    name: format!("{}.{}", self.name, classes[class]),
                    threshold: None,
                    cases: known.iter().map(|k| k.0).collect(),
                    truth: known.iter().map(|k| k.1 == class).collect(),
                    probabilities: known.iter().map(|k| probabilities[k.0][class]).collect(),
                    positive: known.iter().map(|k| argmax(&probabilities[k.0]) == class).collect(),
                    folds: Vec::new(),
                };
                (0..classes.len()).map(question).collect()
            }
        }
    }
}

impl Predictions {
    /// Reads a predictions file.
    ///
    /// # Errors
    /// [`TableError`] naming, each with line and column: unreadable or ragged CSV, no column `case` or no `p_LABEL`, a
    /// label without its probability or the other way round, duplicate or missing case names, a label that is not 0, 1
    /// or empty (or not one of the classes), what is no probability, class probabilities whose sum is not 1 within 1e-3,
    /// no known label at all.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, TableError> {
        read::read(path.as_ref(), &ColumnNames::default(), None)
    }

    /// Reads the scores of any program: columns of other names, and where `truth` names a data table, the labels (and
    /// patients) of its cases. Values that are logits become probabilities, which [`Predictions::notes`] tells.
    ///
    /// # Errors
    /// As [`Predictions::open`], and where a named column or a case's row in the data table is missing, or both files
    /// name a truth and they differ.
    pub fn open_as(
        path: impl AsRef<Path>,
        names: &ColumnNames,
        truth: Option<&Path>,
    ) -> Result<Self, TableError> {
        read::read(path.as_ref(), names, truth)
    }

    /// A table's labels of `rows` beside a task's answers: `probabilities` `[rows][outputs]`.
    pub fn of(table: &Table, rows: &[&Row], probabilities: &[Vec<f64>]) -> Self {
        let cases = rows.iter().map(|r| ScoredCase {
            case: r.case.clone(),
            patient: r.patient.clone(),
            fold: None,
            group: r.group.clone(),
            line: r.line,
        });
        let labels = match table.kind {
            TaskKind::Multiclass => vec![ScoredLabel {
                name: CLASS_COLUMN.to_owned(),
                scores: Scores::Classes {
                    classes: table.labels.clone(),
                    truth: rows.iter().map(|r| r.labels.iter().position(|l| *l == Some(1.0))).collect(),
                    probabilities: probabilities.to_vec(),
                },
            }],
            TaskKind::Ordinal | TaskKind::Regression => {
                let per_label = if table.kind == TaskKind::Ordinal { usize::MAX } else { 1 };
                let truth: Vec<Vec<Option<f64>>> = rows.iter().map(|r| table.values_of(r)).collect();
                let said: Vec<Vec<f64>> = probabilities
                    .iter()
                    .map(|p| p.chunks(per_label).map(|p| table.value_of(p)).collect())
                    .collect();
                let label = |(i, name): (usize, &String)| ScoredLabel {
                    name: name.clone(),
                    scores: Scores::Values {
                        truth: truth.iter().map(|t| t.get(i).copied().flatten()).collect(),
                        predicted: said.iter().map(|s| s[i]).collect(),
                    },
                };
                table.labels.iter().enumerate().map(label).collect()
            }
            TaskKind::Binary | TaskKind::Multilabel => {
                let label = |(i, name): (usize, &String)| ScoredLabel {
                    name: name.clone(),
                    scores: Scores::Binary {
                        truth: rows.iter().map(|r| r.labels[i].map(|l| l >= 0.5)).collect(),
                        probabilities: probabilities.iter().map(|p| p[i]).collect(),
                    },
                };
                table.labels.iter().enumerate().map(label).collect()
            }
        };
        Self {
            path: table.path.clone(),
            cases: cases.collect(),
            labels,
            ignored: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds the cases of another file with the same labels; `None` where they differ.
    #[must_use]
    pub fn joined(mut self, more: Self) -> Option<Self> {
        if self.labels.len() != more.labels.len() {
            return None;
        }
        for (label, other) in self.labels.iter_mut().zip(more.labels) {
            match (&mut label.scores, other.scores) {
                (Scores::Binary { truth, probabilities }, Scores::Binary { truth: t, probabilities: p })
                    if label.name == other.name =>
                {
                    truth.extend(t);
                    probabilities.extend(p);
                }
                (
                    Scores::Classes { classes, truth, probabilities },
                    Scores::Classes { classes: c, truth: t, probabilities: p },
                ) if label.name == other.name && *classes == c => {
                    truth.extend(t);
                    probabilities.extend(p);
                }
                (Scores::Values { truth, predicted }, Scores::Values { truth: t, predicted: p })
                    if label.name == other.name =>
                {
                    truth.extend(t);
                    predicted.extend(p);
                }
                _ => return None,
            }
        }
        self.cases.extend(more.cases);
        Some(self)
    }

    /// Checks that any label is known.
    ///
    /// # Errors
    /// When no label of any case is known.
    pub fn check_known(&self) -> Result<(), TableError> {
        if self.labels.iter().any(|l| l.scores.known() > 0) {
            return Ok(());
        }
        let names: Vec<&str> = self.labels.iter().map(|l| l.name.as_str()).collect();
        let what = format!(
            "no known label in {} cases: nothing to measure against; expected 0 or 1 (or a class) for some of {}",
            self.cases.len(),
            names.join(", ")
        );
        Err(TableError { path: self.path.clone(), problems: vec![Problem { line: None, what }] })
    }

    /// For each case the index of its patient, counted from 0, and how many there are. A case without a patient is a
    /// patient of its own.
    pub fn patients(&self) -> (Vec<usize>, usize) {
        let mut known = std::collections::HashMap::new();
        let index = self.cases.iter().map(|c| {
            let key = c.patient.as_deref().map_or((false, c.case.as_str()), |p| (true, p));
            let next = known.len();
            *known.entry(key).or_insert(next)
        });
        let index: Vec<usize> = index.collect();
        (index, known.len())
    }

    /// For each case the index of its fold, counted from 0, where the cases were scored by the models of several folds.
    pub fn folds(&self) -> Option<Vec<usize>> {
        let mut known = std::collections::HashMap::new();
        let index: Option<Vec<usize>> = self
            .cases
            .iter()
            .map(|c| {
                let next = known.len();
                Some(*known.entry(c.fold.as_deref()?).or_insert(next))
            })
            .collect();
        index.filter(|_| known.len() > 1)
    }

    /// The file's bytes; every number reads back exactly.
    pub fn csv(&self) -> Vec<u8> {
        let patient = self.cases.iter().any(|c| c.patient.is_some());
        let mut header = vec!["case".to_owned()];
        header.extend(patient.then(|| "patient".to_owned()));
        let fold = self.cases.iter().any(|c| c.fold.is_some());
        header.extend(fold.then(|| "fold".to_owned()));
        let group = self.cases.iter().any(|c| c.group.is_some());
        header.extend(group.then(|| "group".to_owned()));
        header.extend(self.labels.iter().map(|l| l.name.clone()));
        for label in &self.labels {
            match &label.scores {
                Scores::Binary { .. } => header.push(format!("p_{}", label.name)),
                Scores::Values { .. } => header.push(format!("v_{}", label.name)),
                Scores::Classes { classes, .. } => {
                    header.extend(classes.iter().map(|c| format!("p_{}.{c}", label.name)))
                }
            }
        }
        let mut writer = csv::Writer::from_writer(Vec::new());
        // Writing to memory cannot fail, and every record is as long as the header.
        let _ = writer.write_record(&header);
        for (i, case) in self.cases.iter().enumerate() {
            let mut record = vec![case.case.clone()];
            record.extend(patient.then(|| case.patient.clone().unwrap_or_default()));
            record.extend(fold.then(|| case.fold.clone().unwrap_or_default()));
            record.extend(group.then(|| case.group.clone().unwrap_or_default()));
            record.extend(self.labels.iter().map(|l| match &l.scores {
                Scores::Values { truth, .. } => truth[i].map_or(String::new(), |t| t.to_string()),
                Scores::Binary { truth, .. } => truth[i].map_or("", |t| if t { "1" } else { "0" }).to_owned(),
                Scores::Classes { classes, truth, .. } => {
                    truth[i].map_or(String::new(), |class| classes[class].clone())
                }
            }));
            for label in &self.labels {
                match &label.scores {
                    // The shortest digits that read back as the same number.
                    Scores::Binary { probabilities, .. } => record.push(probabilities[i].to_string()),
                    Scores::Values { predicted, .. } => record.push(predicted[i].to_string()),
                    Scores::Classes { probabilities, .. } => {
                        record.extend(probabilities[i].iter().map(f64::to_string))
                    }
                }
            }
            let _ = writer.write_record(&record);
        }
        writer.into_inner().unwrap_or_default()
    }
}
