//! What a row's cells mean: labels, classes, values, weights and points.

use super::columns::{Columns, Problems};
use crate::data::sheet::{Sheet, SheetRow};
use anymc3d_manifest::{Manifest, TaskKind};

/// Three numbers in RAS mm, separated by blanks, semicolons or commas.
pub(super) fn point(
    sheet: &Sheet,
    text: &str,
    case: &str,
    line: u64,
    problems: &mut Problems,
) -> Option<[f64; 3]> {
    let blank = |c: char| c.is_whitespace() || c == ';';
    let parts: Vec<&str> = match text.contains(blank) {
        true => text.split(blank).filter(|p| !p.is_empty()).collect(),
        false => text.split(',').collect(),
    };
    let number = |p: &&str| sheet.number(p.trim().trim_end_matches(',')).filter(|v| v.is_finite());
    let found: Option<Vec<f64>> = parts.iter().map(number).collect();
    let found = found.and_then(|numbers| numbers.try_into().ok());
    if found.is_none() {
        let what =
            format!("case `{case}`: point `{text}`; expected x y z in RAS mm, for example 12.5 -40 88");
        problems.push(line, what);
    }
    found
}

pub(super) fn label(
    sheet: &Sheet,
    value: &str,
    name: &str,
    case: &str,
    line: u64,
    problems: &mut Problems,
) -> Option<f32> {
    match sheet.number(value) {
        Some(v) if (0.0..=1.0).contains(&v) => Some(v.abs() as f32),
        _ => {
            problems.push(
                line,
                format!(
                    "case `{case}`: label `{name}` is `{value}`; expected 0, 1, a share between them, or nothing (unknown)"
                ),
            );
            None
        }
    }
}

/// The targets of a value on the task's scale; unknown ones where the cell is empty.
#[allow(clippy::too_many_arguments)]
pub(super) fn value(
    sheet: &Sheet,
    cell: Option<&str>,
    name: &str,
    manifest: &Manifest,
    case: &str,
    line: u64,
    problems: &mut Problems,
) -> Vec<Option<f32>> {
    let task = &manifest.task;
    let unknown = vec![None; task.outputs_per_label()];
    let Some(cell) = cell else { return unknown };
    match sheet.number(cell).and_then(|value| task.targets_of(value)) {
        Some(targets) => targets.into_iter().map(Some).collect(),
        None => {
            let [low, high] = task.scale();
            let what = format!(
                "case `{case}`: label `{name}` is `{cell}`; expected a number from {low} to {high}, or nothing (unknown)"
            );
            problems.push(line, what);
            unknown
        }
    }
}

/// How much each label counts: a number of 0 or more, 1 where the cell is empty. A class has one weight.
pub(super) fn weights(
    sheet: &Sheet,
    record: &SheetRow,
    columns: &Columns,
    manifest: &Manifest,
    case: &str,
    problems: &mut Problems,
) -> Vec<f32> {
    if columns.weights.iter().all(Option::is_none) {
        return Vec::new();
    }
    let mut weight = |column: Option<usize>| {
        let cell = column.and_then(|c| record.cells.get(c)).filter(|v| !v.is_empty());
        let Some(cell) = cell else { return 1.0 };
        match sheet.number(cell).filter(|w| w.is_finite() && *w >= 0.0) {
            Some(weight) => weight as f32,
            None => {
                let what =
                    format!("case `{case}`: weight `{cell}`; expected a number of 0 or more, or nothing (1)");
                problems.push(record.line, what);
                1.0
            }
        }
    };
    match manifest.task.kind {
        TaskKind::Multiclass => vec![weight(columns.weights[0]); manifest.task.labels.len()],
        TaskKind::Ordinal => vec![weight(columns.weights[0]); manifest.task.outputs()],
        _ => columns.weights.iter().map(|c| weight(*c)).collect(),
    }
}

/// A class as one among zeros.
pub(super) fn class(
    value: Option<&str>,
    manifest: &Manifest,
    case: &str,
    line: u64,
    problems: &mut Problems,
) -> Vec<Option<f32>> {
    let classes = &manifest.task.labels;
    let Some(value) = value else { return vec![None; classes.len()] };
    if !classes.iter().any(|c| c == value) {
        problems
            .push(line, format!("case `{case}`: class `{value}`; expected one of {}", classes.join(", ")));
    }
    classes.iter().map(|c| Some(f32::from(u8::from(c == value)))).collect()
}
