//! From CSV to scored cases, with every problem named at once.

use super::columns::{self, CASE, ColumnNames, FOLD, GROUP, PATIENT, PREFIX, VALUE, class_of};
use super::logits::{Scale, scale_of};
use super::{Predictions, ScoredCase, ScoredLabel, Scores};
use crate::batch::{FAILED, tells_novelty};
use crate::data::sheet::{Sheet, SheetRow};
use crate::data::table::{Problem, TableError};
use csv::StringRecord;
use std::collections::HashMap;
use std::path::Path;

/// How far the sum of a row's class probabilities may be from 1: programs round to three digits.
const SUM_TOLERANCE: f64 = 1e-3;

/// A label's columns.
struct Column {
    name: String,
    truth: usize,
    scores: Kind,
}

enum Kind {
    Binary { p: usize },
    Values { v: usize },
    Classes { classes: Vec<String>, p: Vec<usize> },
}

struct Columns {
    case: usize,
    patient: Option<usize>,
    fold: Option<usize>,
    group: Option<usize>,
    labels: Vec<Column>,
    /// Neither of these.
    others: Vec<usize>,
}

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn push(&mut self, line: impl Into<Option<u64>>, what: impl Into<String>) {
        self.0.push(Problem { line: line.into(), what: what.into() });
    }
}

pub(super) fn read(
    path: &Path,
    names: &ColumnNames,
    truth: Option<&Path>,
) -> Result<Predictions, TableError> {
    let mut problems = Problems::default();
    let read = predictions(path, names, truth, &mut problems);
    match read {
        Some(read) if problems.0.is_empty() => read.check_known().map(|()| read),
        _ => {
            problems.0.sort_by_key(|p| p.line);
            Err(TableError { path: path.to_owned(), problems: problems.0 })
        }
    }
}

fn predictions(
    path: &Path,
    names: &ColumnNames,
    truth: Option<&Path>,
    problems: &mut Problems,
) -> Option<Predictions> {
    let mut sheet = Sheet::open(path, &mut problems.0)?;
    let mut notes = Vec::new();
    names.apply(&mut sheet, &mut problems.0);
    let failed = leave_out_failed(&mut sheet);
    if failed > 0 {
        notes.push(format!("{failed} cases failed and are not measured"));
    }
    if let Some(data) = truth {
        let without = columns::join(&mut sheet, data, &mut problems.0);
        if without > 0 {
            notes.push(format!("{without} cases of {} have no score and are not measured", data.display()));
        }
    }
    let columns = find_columns(&sheet, problems)?;
    if sheet.rows.is_empty() && problems.0.is_empty() {
        problems.push(None, "no case; expected one line per case after the header");
    }
    let ignored = ignored(&sheet, &columns, problems);
    let cases = cases(&sheet.rows, &columns, problems);
    let labels = columns.labels.iter().map(|c| label(c, &cases, &sheet, &mut notes, problems)).collect();
    Some(Predictions { path: path.to_owned(), cases, labels, ignored, notes })
}

/// Leaves out cases that say in a column `failed` why they have no score, as `host merge` writes them; how many. A column that
/// is itself a label stays, and so does a case with all of its scores.
fn leave_out_failed(sheet: &mut Sheet) -> usize {
    let at = |name: &str| sheet.header.iter().position(|h| h == name);
    let (Some(failed), None) = (at(FAILED), at(&format!("{PREFIX}{FAILED}"))) else { return 0 };
    let scores: Vec<usize> = (0..sheet.header.len())
        .filter(|&i| sheet.header[i].starts_with(PREFIX) || sheet.header[i].starts_with(VALUE))
        .collect();
    let before = sheet.rows.len();
    sheet.rows.retain(|row| row.cells[failed].is_empty() || scores.iter().all(|&i| !row.cells[i].is_empty()));
    before - sheet.rows.len()
}

/// Which column is what; `None` after naming why that cannot be told.
fn find_columns(sheet: &Sheet, problems: &mut Problems) -> Option<Columns> {
    let before = problems.0.len();
    let (header, header_line) = (&sheet.header, sheet.header_line);
    let mut at: HashMap<&str, usize> = HashMap::new();
    for (i, name) in header.iter().enumerate() {
        if !name.is_empty() && at.insert(name, i).is_some() {
            problems.push(header_line, format!("two columns are called `{name}`"));
        }
    }
    let found = sheet.found();
    if !at.contains_key(CASE) {
        problems.push(header_line, format!("no column `{CASE}`; found {found}"));
    }
    let mut labels: Vec<Column> = Vec::new();
    for (i, name) in header.iter().enumerate() {
        // Only beside a column of that name: v_ may begin any other.
        if let Some(&truth) = name.strip_prefix(VALUE).and_then(|of| at.get(of)) {
            let name = name[VALUE.len()..].to_owned();
            labels.push(Column { name, truth, scores: Kind::Values { v: i } });
            continue;
        }
        let Some(of) = name.strip_prefix(PREFIX).filter(|of| !of.is_empty()) else { continue };
        if let Some(&truth) = at.get(of) {
            labels.push(Column { name: of.to_owned(), truth, scores: Kind::Binary { p: i } });
        } else if let Some((label, class)) = class_of(of, &at) {
            let there = labels.iter_mut().find(|l| l.name == label);
            match there.map(|l| &mut l.scores) {
                Some(Kind::Classes { classes, p }) => {
                    classes.push(class.to_owned());
                    p.push(i);
                }
                Some(Kind::Binary { .. } | Kind::Values { .. }) => {
                    problems.push(
                        header_line,
                        format!("`{PREFIX}{label}` and `{name}`: one label or several classes?"),
                    );
                }
                None => {
                    let scores = Kind::Classes { classes: vec![class.to_owned()], p: vec![i] };
                    labels.push(Column { name: label.to_owned(), truth: at[label], scores });
                }
            }
        } else if !at.contains_key(format!("{PREFIX}{name}").as_str()) {
            // A label may itself be called p_something; its own probability's column tells.
            problems.push(
                header_line,
                format!("column `{name}`, but no column `{of}` with its label; found {found}"),
            );
        }
    }
    for label in &labels {
        if let Kind::Classes { classes, p } = &label.scores
            && p.len() < 2
        {
            let (name, only) = (&label.name, &classes[0]);
            problems.push(header_line, format!("class `{only}` is the only one with a column `{PREFIX}{name}.CLASS`; expected two or more"));
        }
    }
    if labels.is_empty() && problems.0.len() == before {
        problems.push(header_line, format!("no column `{PREFIX}LABEL` with a probability; found {found}"));
    }
    labels.sort_by_key(|l| l.truth);
    let used = |i: usize| {
        labels.iter().any(|l| {
            l.truth == i
                || match &l.scores {
                    Kind::Binary { p } => *p == i,
                    Kind::Values { v } => *v == i,
                    Kind::Classes { p, .. } => p.contains(&i),
                }
        })
    };
    // A label may itself be called `fold` or `group`.
    let free = |name: &str| at.get(name).copied().filter(|&i| !used(i));
    let (fold, group) = (free(FOLD), free(GROUP));
    let (case, patient) = (at.get(CASE).copied(), at.get(PATIENT).copied());
    let named = [case, patient, fold, group];
    let others = (0..header.len()).filter(|&i| !used(i) && !named.contains(&Some(i))).collect();
    (problems.0.len() == before).then(|| Columns {
        case: case.unwrap_or_default(),
        patient,
        fold,
        group,
        labels,
        others,
    })
}

/// Names of the columns that are neither label nor probability. One that holds 0 and 1 alone is a label whose
/// probability was forgotten.
fn ignored(sheet: &Sheet, columns: &Columns, problems: &mut Problems) -> Vec<String> {
    let mut names = Vec::new();
    for &i in &columns.others {
        let name = &sheet.header[i];
        let mut filled = sheet.rows.iter().map(|r| &r.cells[i]).filter(|v| !v.is_empty()).peekable();
        if !name.is_empty()
            && !tells_novelty(name)
            && filled.peek().is_some()
            && filled.all(|v| truth(sheet, v).is_some())
        {
            problems.push(
                sheet.header_line,
                format!("column `{name}` holds 0 and 1, as a label does, but there is no column `{PREFIX}{name}`; give it, or leave `{name}` out"),
            );
        }
        names.push(name.to_owned());
    }
    names
}

fn cases(rows: &[SheetRow], columns: &Columns, problems: &mut Problems) -> Vec<ScoredCase> {
    let mut seen: HashMap<&str, u64> = HashMap::new();
    let mut cases = Vec::new();
    for SheetRow { line, cells: record } in rows {
        let line = *line;
        let case = &record[columns.case];
        if case.is_empty() {
            problems.push(line, format!("column `{CASE}` is empty; expected the case's name"));
        } else if let Some(first) = seen.insert(case, line) {
            problems.push(line, format!("case `{case}` is already on line {first}"));
        }
        let patient = columns.patient.map(|p| &record[p]).filter(|p| !p.is_empty()).map(str::to_owned);
        let fold = columns.fold.map(|f| &record[f]).filter(|f| !f.is_empty()).map(str::to_owned);
        let group = columns.group.map(|g| &record[g]).filter(|g| !g.is_empty()).map(str::to_owned);
        cases.push(ScoredCase { case: case.to_owned(), patient, fold, group, line });
    }
    if cases.iter().any(|c| c.fold.is_some()) {
        for case in cases.iter().filter(|c| c.fold.is_none()) {
            let what = format!(
                "case `{}`: column `{FOLD}` is empty; expected the fold of every case, or of none",
                case.case
            );
            problems.push(case.line, what);
        }
    }
    cases
}

fn label(
    column: &Column,
    cases: &[ScoredCase],
    sheet: &Sheet,
    notes: &mut Vec<String>,
    problems: &mut Problems,
) -> ScoredLabel {
    let name = &column.name;
    if let Kind::Values { v } = column.scores {
        return values(column, v, cases, sheet, problems);
    }
    let rows = || cases.iter().zip(sheet.rows.iter().map(|r| &r.cells));
    let columns: Vec<usize> = match &column.scores {
        Kind::Binary { p } => vec![*p],
        Kind::Values { v } => vec![*v],
        Kind::Classes { p, .. } => p.clone(),
    };
    let scale = scale_of(sheet, &columns);
    notes.extend(scale.note(&format!("{PREFIX}{name}"), columns.len() > 1));
    let probability = |problems: &mut Problems, column: &str, value: &str, case: &ScoredCase| -> f64 {
        match sheet.number(value) {
            Some(p) if (0.0..=1.0).contains(&p) || matches!(scale, Scale::Logits { .. }) => p,
            _ => {
                let percent =
                    if scale == Scale::Percent { "; the column seems to be in percent" } else { "" };
                let what = if value.is_empty() { "empty".to_owned() } else { format!("`{value}`") };
                problems.push(
                    case.line,
                    format!(
                        "case `{}`: `{column}` is {what}; expected a probability, 0 to 1{percent}",
                        case.case
                    ),
                );
                0.0
            }
        }
    };
    let scores = match &column.scores {
        Kind::Binary { p } => {
            let title = format!("{PREFIX}{name}");
            let probabilities =
                rows().map(|(case, r)| scale.binary(probability(problems, &title, &r[*p], case))).collect();
            let truth = rows().map(|(case, r)| match &r[column.truth] {
                "" => None,
                value => truth(sheet, value).or_else(|| {
                    problems.push(
                        case.line,
                        format!(
                            "case `{}`: label `{name}` is `{value}`; expected 0, 1 or nothing (unknown)",
                            case.case
                        ),
                    );
                    None
                }),
            });
            Scores::Binary { truth: truth.collect(), probabilities }
        }
        Kind::Values { .. } => Scores::Values { truth: Vec::new(), predicted: Vec::new() },
        Kind::Classes { classes, p } => {
            let titles: Vec<String> = classes.iter().map(|c| format!("{PREFIX}{name}.{c}")).collect();
            let before = problems.0.len();
            let mut row = |(case, r): (&ScoredCase, &StringRecord)| -> Vec<f64> {
                let row = p.iter().zip(&titles).map(|(&p, title)| probability(problems, title, &r[p], case));
                scale.classes(row.collect())
            };
            let probabilities: Vec<Vec<f64>> = rows().map(&mut row).collect();
            // What is no probability counts as 0, so that its row's sum says nothing more.
            if problems.0.len() == before {
                check_sums(name, cases, &probabilities, problems);
            }
            let truth = rows().map(|(case, r)| match &r[column.truth] {
                "" => None,
                value => classes.iter().position(|c| c == value).or_else(|| {
                    let known = classes.join(", ");
                    problems.push(
                        case.line,
                        format!("case `{}`: class `{name}` is `{value}`; expected one of {known}, or nothing (unknown)", case.case),
                    );
                    None
                }),
            });
            Scores::Classes { classes: classes.clone(), truth: truth.collect(), probabilities }
        }
    };
    ScoredLabel { name: name.clone(), scores }
}

/// A label with numbers: what is true, or nothing, and what was predicted.
fn values(
    column: &Column,
    v: usize,
    cases: &[ScoredCase],
    sheet: &Sheet,
    problems: &mut Problems,
) -> ScoredLabel {
    let name = &column.name;
    let mut number = |case: &ScoredCase, title: String, cell: &str, or: &str| {
        let found = sheet.number(cell).filter(|v| v.is_finite());
        if found.is_none() {
            problems.push(
                case.line,
                format!("case `{}`: `{title}` is `{cell}`; expected a number{or}", case.case),
            );
        }
        found
    };
    let (mut truth, mut predicted) = (Vec::new(), Vec::new());
    for (case, row) in cases.iter().zip(&sheet.rows) {
        truth.push(match &row.cells[column.truth] {
            "" => None,
            cell => number(case, name.clone(), cell, ", or nothing (unknown)"),
        });
        predicted.push(number(case, format!("{VALUE}{name}"), &row.cells[v], "").unwrap_or(0.0));
    }
    ScoredLabel { name: name.clone(), scores: Scores::Values { truth, predicted } }
}

/// Refuses rows whose class probabilities are not those of one class among all.
fn check_sums(label: &str, cases: &[ScoredCase], probabilities: &[Vec<f64>], problems: &mut Problems) {
    for (case, row) in cases.iter().zip(probabilities) {
        let sum: f64 = row.iter().sum();
        if (sum - 1.0).abs() > SUM_TOLERANCE {
            problems.push(
                case.line,
                format!(
                    "case `{}`: the probabilities of the classes of `{label}` sum to {sum:.4}; expected 1 (within \
                     {SUM_TOLERANCE}), with a column `{PREFIX}{label}.CLASS` for each class",
                    case.case
                ),
            );
        }
    }
}

/// 0 or 1, also written as 0.0 and 1.0.
fn truth(sheet: &Sheet, value: &str) -> Option<bool> {
    match sheet.number(value) {
        Some(0.0) => Some(false),
        Some(1.0) => Some(true),
        _ => None,
    }
}
