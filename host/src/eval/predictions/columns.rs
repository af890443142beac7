//! Scores whose columns have names of another program, and truth that stands in a data table.

use crate::data::sheet::Sheet;
use crate::data::table::Problem;
use csv::StringRecord;
use std::collections::HashMap;
use std::path::Path;
use std::str::FromStr;

pub(super) const CASE: &str = "case";
pub(super) const PATIENT: &str = "patient";
pub(super) const FOLD: &str = "fold";
pub(super) const GROUP: &str = "group";
/// What the name of a predicted value's column begins with.
pub(super) const VALUE: &str = "v_";
/// What the name of a probability's column begins with.
pub(super) const PREFIX: &str = "p_";

/// What the columns of a predictions file are called, where they are not called `case`, `patient`, `fold`, `LABEL` and
/// `p_LABEL`. As text: `case=ID,truth=y,score=p`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnNames {
    case: Option<String>,
    patient: Option<String>,
    fold: Option<String>,
    /// Its name is the label's.
    truth: Option<String>,
    score: Option<String>,
}

impl FromStr for ColumnNames {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut names = Self::default();
        for pair in text.split(',') {
            let place = match pair.split_once('=').map(|(role, name)| (role.trim(), name.trim())) {
                Some((role, name)) if !name.is_empty() => match role {
                    "case" => Some((&mut names.case, name)),
                    "patient" => Some((&mut names.patient, name)),
                    "fold" => Some((&mut names.fold, name)),
                    "truth" => Some((&mut names.truth, name)),
                    "score" => Some((&mut names.score, name)),
                    _ => None,
                },
                _ => None,
            };
            let Some((place, name)) = place else {
                return Err(format!(
                    "`{pair}`: expected ROLE=COLUMN with case, patient, fold, truth or score as ROLE"
                ));
            };
            if place.replace(name.to_owned()).is_some() {
                return Err(format!("`{pair}`: its role is given twice"));
            }
        }
        match (&names.truth, &names.score) {
            (Some(_), None) | (None, Some(_)) => {
                Err("truth and score belong together: the label's column and its score's".to_owned())
            }
            _ => Ok(names),
        }
    }
}

impl ColumnNames {
    /// Gives the sheet's columns the names that the reader knows. A column that had such a name is set aside.
    pub(super) fn apply(&self, sheet: &mut Sheet, problems: &mut Vec<Problem>) {
        let score = self.truth.as_ref().map(|truth| format!("{PREFIX}{truth}"));
        let renamed = [
            (&self.case, Some(CASE.to_owned())),
            (&self.patient, Some(PATIENT.to_owned())),
            (&self.fold, Some(FOLD.to_owned())),
            (&self.score, score),
        ];
        let mut header: Vec<String> = sheet.header.iter().map(str::to_owned).collect();
        for (given, name) in renamed {
            let (Some(given), Some(name)) = (given, name) else { continue };
            match sheet.header.iter().position(|h| h == given) {
                Some(at) => {
                    header.iter_mut().enumerate().filter(|(i, h)| *i != at && **h == name).for_each(
                        |(_, h)| {
                            h.push_str(" (set aside by --columns)");
                        },
                    );
                    header[at] = name;
                }
                None => problems.push(Problem {
                    line: Some(sheet.header_line),
                    what: format!("no column `{given}`, which --columns names; found {}", sheet.found()),
                }),
            }
        }
        sheet.header = StringRecord::from(header);
    }
}

/// Adds to scores the labels (and patients) of a data table, case by case. How many of the table's cases have no score.
pub(super) fn join(sheet: &mut Sheet, data: &Path, problems: &mut Vec<Problem>) -> usize {
    let at = data.display();
    let mut of_data = Vec::new();
    let table = Sheet::open(data, &mut of_data);
    problems.extend(of_data.into_iter().map(|p| {
        let line = p.line.map_or(String::new(), |line| format!("line {line}: "));
        Problem { line: None, what: format!("{at}: {line}{}", p.what) }
    }));
    let Some(table) = table else { return 0 };
    let columns: HashMap<&str, usize> = table.header.iter().enumerate().map(|(i, name)| (name, i)).collect();
    let Some(&case) = columns.get(CASE) else {
        problems
            .push(Problem { line: None, what: format!("{at}: no column `{CASE}`; found {}", table.found()) });
        return 0;
    };
    let Some(own_case) = sheet.header.iter().position(|h| h == CASE) else { return 0 };
    let rows: HashMap<&str, &StringRecord> = table.rows.iter().map(|r| (&r.cells[case], &r.cells)).collect();

    let mut wanted: Vec<&str> = Vec::new();
    for scored in
        sheet.header.iter().filter_map(|name| name.strip_prefix(PREFIX).or_else(|| name.strip_prefix(VALUE)))
    {
        let label = match columns.contains_key(scored) {
            true => columns.get_key_value(scored).map(|(name, _)| *name),
            false => {
                class_of(scored, &columns).and_then(|(l, _)| columns.get_key_value(l)).map(|(name, _)| *name)
            }
        };
        wanted.extend(label.filter(|l| !wanted.contains(l)));
    }
    let missing = |name: &&str| !sheet.header.iter().any(|h| h == *name) && columns.contains_key(*name);
    wanted.extend([PATIENT, GROUP].into_iter().filter(missing));
    let own: Vec<Option<usize>> = wanted.iter().map(|l| sheet.header.iter().position(|h| h == *l)).collect();
    let mut scored = 0;
    for row in &mut sheet.rows {
        let name = row.cells[own_case].to_owned();
        let theirs = rows.get(name.as_str()).copied();
        scored += usize::from(theirs.is_some());
        if theirs.is_none() && !name.is_empty() {
            problems.push(Problem { line: Some(row.line), what: format!("case `{name}` is not in {at}") });
        }
        for (label, own) in wanted.iter().zip(&own) {
            let value = theirs.map_or("", |cells| &cells[columns[label]]);
            match own {
                None => row.cells.push_field(value),
                Some(own) if theirs.is_some() && row.cells[*own] != *value => problems.push(Problem {
                    line: Some(row.line),
                    what: format!(
                        "case `{name}`: `{label}` is `{}` here and `{value}` in {at}",
                        &row.cells[*own]
                    ),
                }),
                Some(_) => {}
            }
        }
    }
    for (label, own) in wanted.iter().zip(&own) {
        if own.is_none() {
            sheet.header.push_field(label);
        }
    }
    rows.len().saturating_sub(scored)
}

/// `LABEL.CLASS` where `LABEL` is a column; both may have dots, the longest label is meant.
pub(super) fn class_of<'a>(name: &'a str, at: &HashMap<&str, usize>) -> Option<(&'a str, &'a str)> {
    let dots = name.rmatch_indices('.').map(|(i, _)| (&name[..i], &name[i + 1..]));
    dots.into_iter().find(|(label, class)| !class.is_empty() && at.contains_key(label))
}
