//! From CSV to rows, with every problem named at once.

use super::cells::{class, label, point, value, weights};
use super::columns::{Columns, Problems};
use super::{CLASS_COLUMN, Part, Problem, Row, Table, TableError, archive};
use crate::data::sheet::{Sheet, SheetRow};
use crate::scan::dicom;
use crate::scan::npz::ArchiveSplit;
use anymc3d_manifest::{Manifest, TaskKind, View};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

pub(super) fn read_all(path: &Path, manifest: &Manifest) -> (Table, Vec<Problem>) {
    if let Some(split) = ArchiveSplit::parse(path) {
        return archive::read_all(path, &split, manifest, true);
    }
    let mut problems = Problems::default();
    let sheet = Sheet::open(path, &mut problems.0);
    table(path, sheet.as_ref(), manifest, true, problems)
}

/// One table per task, of one reading of the file.
pub(super) fn read_unlabelled(path: &Path, tasks: &[Manifest]) -> Result<Vec<Table>, TableError> {
    if let Some(split) = ArchiveSplit::parse(path) {
        let tables = tasks.iter().map(|manifest| match archive::read_all(path, &split, manifest, false) {
            (table, problems) if problems.is_empty() => Ok(table),
            (_, problems) => Err(TableError { path: path.to_owned(), problems }),
        });
        return tables.collect();
    }
    let mut problems = Vec::new();
    let sheet = Sheet::open(path, &mut problems);
    let tables = tasks.iter().map(|manifest| {
        match table(path, sheet.as_ref(), manifest, false, Problems(problems.clone())) {
            (table, problems) if problems.is_empty() => Ok(table),
            (_, problems) => Err(TableError { path: path.to_owned(), problems }),
        }
    });
    tables.collect()
}

/// What a task finds in a sheet; `problems` are those of the sheet so far.
fn table(
    path: &Path,
    sheet: Option<&Sheet>,
    manifest: &Manifest,
    labelled: bool,
    mut problems: Problems,
) -> (Table, Vec<Problem>) {
    let rows = sheet.map(|sheet| rows(sheet, path, manifest, labelled, &mut problems)).unwrap_or_default();
    problems.0.sort_by_key(|p| p.line);
    let labels = manifest.task.labels.clone();
    let (kind, range) = (manifest.task.kind, manifest.task.range);
    (Table { path: path.to_owned(), kind, labels, range, rows }, problems.0)
}

fn rows(
    sheet: &Sheet,
    path: &Path,
    manifest: &Manifest,
    labelled: bool,
    problems: &mut Problems,
) -> Vec<Row> {
    let Some(columns) = columns(sheet, manifest, labelled, problems) else { return Vec::new() };
    let folder = path.parent().unwrap_or(Path::new(""));
    let rows: Vec<Row> =
        sheet.rows.iter().map(|r| row(sheet, r, &columns, manifest, folder, problems)).collect();
    if rows.is_empty() && problems.0.is_empty() {
        problems.push(None, "no case; expected one line per case after the header");
    }
    across_rows(&rows, problems);
    rows
}

/// What is wrong where one column `image` would serve views of different scans.
fn shared_image(at: &HashMap<&str, usize>, manifest: &Manifest) -> Option<String> {
    at.get("image")?;
    let own = |view: &View| at.contains_key(format!("image.{}", view.name).as_str());
    let shared = manifest.views_of_other_scans(|view| !own(view));
    let names =
        |prefix: &str| shared.iter().map(|v| format!("{prefix}{}", v.name)).collect::<Vec<_>>().join(", ");
    (!shared.is_empty()).then(|| {
        format!(
            "column `image` would be the views {} of {}, which are different sequences; expected a column for each \
             instead: {} (empty where a case lacks it)",
            names(""),
            manifest.plugin.name,
            names("image.")
        )
    })
}

fn columns(sheet: &Sheet, manifest: &Manifest, labelled: bool, problems: &mut Problems) -> Option<Columns> {
    let before = problems.0.len();
    let (header, header_line) = (&sheet.header, sheet.header_line);
    let mut at: HashMap<&str, usize> = HashMap::new();
    for (i, name) in header.iter().enumerate() {
        if !name.is_empty() && at.insert(name, i).is_some() {
            problems.push(header_line, format!("two columns are called `{name}`"));
        }
    }
    let found = sheet.found();
    let case = at.get("case").copied();
    if case.is_none() {
        problems.push(header_line, format!("no column `case`; found {found}"));
    }
    for name in header.iter().filter_map(|n| n.strip_prefix("image.")) {
        // To predict, a table may serve several plugins.
        if labelled && !manifest.views.iter().any(|v| v.name == name) {
            let views = manifest.views.iter().map(|v| v.name.as_str()).collect::<Vec<_>>().join(", ");
            problems.push(
                header_line,
                format!("column `image.{name}`, but {} has the views: {views}", manifest.plugin.name),
            );
        }
    }
    let mut views = Vec::new();
    for view in &manifest.views {
        let column = at.get(format!("image.{}", view.name).as_str()).or_else(|| at.get("image")).copied();
        if column.is_none() && view.required {
            problems.push(header_line, format!("no column `image` or `image.{}`; found {found}", view.name));
        }
        views.push((view.name.clone(), column));
    }
    if let Some(what) = shared_image(&at, manifest) {
        problems.push(header_line, what);
    }
    let wanted: Vec<&str> = match manifest.task.kind {
        TaskKind::Multiclass => vec![CLASS_COLUMN],
        _ => manifest.task.labels.iter().map(String::as_str).collect(),
    };
    let (mut labels, mut weights) = (Vec::new(), Vec::new());
    for name in header.iter().filter_map(|n| n.strip_prefix("weight.")) {
        // To predict, a table may serve several plugins.
        if labelled && !wanted.contains(&name) && !at.contains_key(name) {
            problems.push(
                header_line,
                format!(
                    "column `weight.{name}`, but there is no label `{name}`; expected one of {}",
                    wanted.join(", ")
                ),
            );
        }
    }
    for name in wanted {
        let column = at.get(name).copied();
        weights.push(at.get(format!("weight.{name}").as_str()).copied());
        if column.is_none() && labelled {
            problems.push(header_line, format!("no column `{name}` for the label; found {found}"));
        }
        labels.push(column);
    }
    let get = |name: &str| at.get(name).copied();
    for view in &manifest.views {
        if let Some(what) = view.lacks(get("mask").is_some(), get("point").is_some()) {
            let (view, plugin) = (&view.name, &manifest.plugin.name);
            let columns = if what == "a mask" { "column `mask`" } else { "column `point` or `mask`" };
            problems.push(
                header_line,
                format!(
                    "no {columns}, but view `{view}` of {plugin} needs {what} of every case; found {found}"
                ),
            );
        }
    }
    (problems.0.len() == before).then(|| Columns {
        case: case.unwrap_or_default(),
        // To predict, a case without its image is that case's failure; the others are still done.
        required: manifest.views.iter().map(|v| v.required && labelled).collect(),
        labelled,
        views,
        labels,
        weights,
        patient: get("patient"),
        group: get("group"),
        mask: get("mask"),
        point: get("point"),
        split: get("split"),
    })
}

fn row(
    sheet: &Sheet,
    record: &SheetRow,
    columns: &Columns,
    manifest: &Manifest,
    folder: &Path,
    problems: &mut Problems,
) -> Row {
    let line = record.line;
    let field = |column: Option<usize>| column.and_then(|c| record.cells.get(c)).filter(|v| !v.is_empty());
    let case = field(Some(columns.case)).unwrap_or_default().to_owned();
    if case.is_empty() {
        problems.push(line, "no case name");
    } else if let Some(what) = super::fault_of_name(&case) {
        problems.push(line, format!("case `{case}`: {what}"));
    }
    let mut images = BTreeMap::new();
    for (((view, column), required), rules) in
        columns.views.iter().zip(&columns.required).zip(&manifest.views)
    {
        match field(*column) {
            // To predict, a study without a series for the view is that case's failure.
            Some(path) if !columns.labelled => {
                images.insert(view.clone(), folder.join(path));
            }
            Some(path) => match dicom::resolve(&folder.join(path), rules) {
                Ok(path) => {
                    images.insert(view.clone(), path);
                }
                Err(e) => problems.push(line, format!("case `{case}`: view `{view}`: {e}")),
            },
            None if *required => {
                problems.push(line, format!("case `{case}`: no image for the view `{view}`"))
            }
            None => {}
        }
    }
    if columns.labelled && images.is_empty() && columns.required.iter().all(|r| !r) {
        problems.push(line, format!("case `{case}`: no image at all"));
    }
    let labels = match manifest.task.kind {
        TaskKind::Multiclass => class(field(columns.labels[0]), manifest, &case, line, problems),
        TaskKind::Ordinal | TaskKind::Regression => {
            let named = columns.labels.iter().zip(&manifest.task.labels);
            let cells = named
                .map(|(column, name)| value(sheet, field(*column), name, manifest, &case, line, problems));
            cells.collect::<Vec<_>>().concat()
        }
        TaskKind::Binary | TaskKind::Multilabel => columns
            .labels
            .iter()
            .zip(&manifest.task.labels)
            .map(|(column, name)| label(sheet, field(*column)?, name, &case, line, problems))
            .collect(),
    };
    let weights = weights(sheet, record, columns, manifest, &case, problems);
    let split = field(columns.split).and_then(|name| {
        let part = [Part::Train, Part::Val, Part::Test].into_iter().find(|p| p.name() == name);
        if part.is_none() {
            problems
                .push(line, format!("case `{case}`: split `{name}`; expected train, val, test or nothing"));
        }
        part
    });
    let point_mm = field(columns.point).and_then(|text| point(sheet, text, &case, line, problems));
    let mask = field(columns.mask).map(|p| folder.join(p));
    for view in manifest.views.iter().filter(|v| columns.labelled && images.contains_key(&v.name)) {
        if let Some(what) = view.lacks(mask.is_some(), point_mm.is_some()) {
            problems
                .push(line, format!("case `{case}`: view `{}` needs {what}, and there is none", view.name));
        }
    }
    Row {
        line,
        images,
        labels,
        weights,
        group: field(columns.group).map(str::to_owned),
        patient: field(columns.patient).map(str::to_owned),
        mask,
        point_mm,
        split,
        case,
    }
}

/// What only several rows together can get wrong.
fn across_rows(rows: &[Row], problems: &mut Problems) {
    let mut cases: HashMap<&str, u64> = HashMap::new();
    let mut patients: HashMap<&str, (Part, &Row)> = HashMap::new();
    for row in rows {
        if let Some(first) = cases.get(row.case.as_str()) {
            if !row.case.is_empty() {
                problems.push(row.line, format!("case `{}` is already on line {first}", row.case));
            }
        } else {
            cases.insert(&row.case, row.line);
        }
        // A row without a split trains or is drawn: it is a part of its own beside `val` and `test`.
        if let Some(patient) = &row.patient {
            let part = row.split.unwrap_or(Part::Train);
            let (first, other) = *patients.entry(patient).or_insert((part, row));
            if first != part {
                problems.push(
                    row.line,
                    format!(
                        "patient `{patient}` is in {} here (case `{}`) and in {} on line {} (case `{}`); a patient belongs to one split",
                        part.name(), row.case, first.name(), other.line, other.case
                    ),
                );
            }
        }
    }
}
