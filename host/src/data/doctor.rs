//! What is wrong with the scans of a data table, found before an hour of training is spent on them.
//!
//! The table itself is judged where it is read ([`Table::read_all`]); here every scan and mask it names is opened.

use crate::data::table::{Problem, Row, Table};
use crate::memory::MemoryBudget;
use crate::scan::{DecodedScans, RegionOfInterest, Scan, Target, Volume, memory_of};
use anymc3d_manifest::{Region, TaskKind, View};
use rayon::prelude::*;
use std::collections::HashMap;
use std::path::Path;

/// A scan whose voxels are so many times larger or smaller than the table's median is named.
const SPACING_OUTLIER: f64 = 2.5;
/// A scan with so many times more or fewer voxels along an axis than the median is named.
const SHAPE_OUTLIER: f64 = 4.0;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// Training on it would fail, or learn something wrong.
    pub errors: Vec<Problem>,
    /// Worth a look.
    pub warnings: Vec<Problem>,
}

/// One scan as far as others are compared with it; its voxels are gone.
struct Seen {
    line: u64,
    case: String,
    view: String,
    shape: [usize; 3],
    spacing_mm: [f64; 3],
    sha256: String,
    /// Where in the scan the view looks, if that is the case's.
    region: RegionOfInterest,
}

#[derive(Default)]
struct OfRow {
    findings: Findings,
    seen: Vec<Seen>,
    /// What was noticed of its scans: the words alone, and with case and file.
    notes: Vec<(String, Problem)>,
}

/// Opens every scan and mask of a table, for a task of these views. `progress` is told of each row that is done.
pub fn examine(table: &Table, views: &[View], progress: &(dyn Fn() + Sync)) -> Findings {
    examine_and_keep(table, views, &DecodedScans::default(), progress)
}

/// As [`examine`]; what is in order is offered to `decoded`, for a training that begins next.
pub fn examine_and_keep(
    table: &Table,
    views: &[View],
    decoded: &DecodedScans,
    progress: &(dyn Fn() + Sync),
) -> Findings {
    let mut rows: Vec<OfRow> = Vec::with_capacity(table.rows.len());
    for together in groups(&table.rows, MemoryBudget::of_process().less(decoded.most()).bytes) {
        rows.par_extend(together.par_iter().map(|row| {
            let found = examine_row(row, table.kind, views, decoded);
            progress();
            found
        }));
    }
    let mut all = Findings::default();
    let (mut seen, mut notes) = (Vec::new(), Vec::new());
    for row in rows {
        notes.extend(row.notes);
        all.errors.extend(row.findings.errors);
        all.warnings.extend(row.findings.warnings);
        seen.extend(row.seen);
    }
    tell_notes(notes, &mut all);
    outliers(&seen, &mut all);
    duplicates(&seen, table, &mut all);
    labels(table, &mut all);
    all.errors.sort_by_key(|p| p.line);
    all.warnings.sort_by_key(|p| p.line);
    all
}

/// A warning for each note, or one for all scans of which the same was noticed.
fn tell_notes(notes: Vec<(String, Problem)>, all: &mut Findings) {
    let mut scans: HashMap<&str, usize> = HashMap::new();
    notes.iter().for_each(|(words, _)| *scans.entry(words).or_default() += 1);
    let mut told: Vec<&str> = Vec::new();
    for (words, problem) in &notes {
        match scans[words.as_str()] {
            n if n <= OUTLIERS_NAMED => all.warnings.push(problem.clone()),
            _ if told.contains(&words.as_str()) => {}
            n => {
                told.push(words);
                all.warnings.push(Problem { line: None, what: format!("{n} scans: {words}") });
            }
        }
    }
}

/// Rows whose scans may be in memory together, in their order: each may be alone, however large.
fn groups(rows: &[Row], room: usize) -> Vec<&[Row]> {
    let (mut all, mut begin, mut taken) = (Vec::new(), 0, 0usize);
    for (i, row) in rows.iter().enumerate() {
        // One after the other, and of each a canonical copy, which is counted.
        let largest = row.images.values().chain(&row.mask).filter_map(|path| memory_of(path)).max();
        let largest = largest.unwrap_or(0);
        if i > begin && taken.saturating_add(largest) > room {
            all.push(&rows[begin..i]);
            (begin, taken) = (i, 0);
        }
        taken = taken.saturating_add(largest);
    }
    all.push(&rows[begin..]);
    all
}

fn examine_row(row: &Row, kind: TaskKind, views: &[View], decoded: &DecodedScans) -> OfRow {
    let mut found = OfRow::default();
    let problem =
        |what: String| Problem { line: Some(row.line), what: format!("case `{}`: {what}", row.case) };
    // Grids of the scans: a mask is drawn on one of them.
    let mut grids: Vec<(&Path, Volume)> = Vec::new();
    // A column `image` may serve several views; its scan is opened once.
    let mut opened: Vec<&Path> = Vec::new();
    for (view, path) in &row.images {
        if opened.contains(&path.as_path()) {
            continue;
        }
        opened.push(path);
        let scan = match Scan::open(path) {
            Ok(scan) => scan,
            Err(e) => {
                found.findings.errors.push(problem(e.to_string()));
                continue;
            }
        };
        if scan.is_constant() {
            let (path, value) = (path.display(), scan.range()[0]);
            found.findings.errors.push(problem(format!("{path}: every voxel is {value}")));
        } else {
            let notes =
                scan.warnings.iter().map(|w| (w.clone(), problem(format!("{}: {w}", path.display()))));
            found.notes.extend(notes);
        }
        found.seen.push(Seen {
            line: row.line,
            case: row.case.clone(),
            view: view.clone(),
            shape: scan.shape,
            spacing_mm: scan.spacing_mm,
            sha256: scan.sha256.clone(),
            region: views
                .iter()
                .find(|v| v.name == *view)
                .map(|v| row.region().read_by(v))
                .unwrap_or_default(),
        });
        if row.mask.is_some() || row.point_mm.is_some() {
            match scan.try_canonical() {
                // Its place is compared, not its voxels.
                Ok(grid) => grids.push((path, Volume { voxels: Vec::new(), ..grid })),
                Err(e) => found.findings.errors.push(problem(e.to_string())),
            }
        }
        if !scan.is_constant() {
            decoded.offer(path, scan);
        }
    }
    if let Some(path) = &row.mask {
        match Scan::open(path).and_then(|mask| Ok((mask.try_canonical()?, mask))) {
            Err(e) => found.findings.errors.push(problem(e.to_string())),
            Ok((drawn, mask)) => {
                let on = |(scan, grid): &(&Path, Volume)| drawn.expect_grid(scan, grid.shape, &grid.affine);
                let on_any = grids.iter().any(|grid| on(grid).is_ok());
                if let Some(Err(e)) = grids.first().filter(|_| !on_any).map(on) {
                    found.findings.errors.push(problem(e.to_string()));
                }
                if !mask.voxels.iter().any(|v| *v > 0.5) {
                    let (errors, warnings) = of_empty_mask(path, &mask, row, kind, views);
                    found.findings.errors.extend(errors.into_iter().map(problem));
                    found.findings.warnings.extend(warnings.into_iter().map(problem));
                }
                decoded.offer(path, mask);
            }
        }
    }
    for view in views.iter().filter(|_| row.point_mm.is_some()) {
        let of = row
            .images
            .get(&view.name)
            .and_then(|path| grids.iter().find(|(scan, _)| *scan == path.as_path()));
        let target = Target { mask: None, point_mm: row.point_mm };
        let outside = of.filter(|_| view.region == Region::Point).map(|(_, grid)| target.centre(grid, view));
        if let Some(Err(e)) = outside {
            found.findings.errors.push(problem(e.to_string()));
        }
    }
    found
}

/// Errors and warnings of a mask that has nothing above 0.5.
fn of_empty_mask(
    path: &Path,
    mask: &Scan,
    row: &Row,
    kind: TaskKind,
    views: &[View],
) -> (Vec<String>, Vec<String>) {
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    let path = path.display();
    if views.iter().any(|v| v.needs_mask() || v.follows_region() && row.point_mm.is_none()) {
        errors.push(format!("{path}: the mask is empty, and it says where to look"));
    }
    let most = mask.voxels.iter().copied().fold(0.0, f32::max);
    if most > 0.0 {
        errors.push(format!(
            "{path}: the mask's largest value is {most}; expected 1 where the finding is, what is above 0.5 counts"
        ));
    }
    // A class may well be the one without a finding.
    if matches!(kind, TaskKind::Binary | TaskKind::Multilabel)
        && row.labels.iter().flatten().any(|l| *l > 0.5)
    {
        warnings.push(format!("{path}: the mask of a positive case is empty"));
    }
    (errors, warnings)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Scans unlike the others of their view. Axes are compared by size, since scans are stored in any order.
fn outliers(seen: &[Seen], all: &mut Findings) {
    let mut views: HashMap<&str, Vec<&Seen>> = HashMap::new();
    for s in seen {
        views.entry(&s.view).or_default().push(s);
    }
    for scans in views.values().filter(|v| v.len() >= 5) {
        let spacing = |s: &Seen| {
            let mut mm = s.spacing_mm;
            mm.sort_by(f64::total_cmp);
            mm
        };
        let shape = |s: &Seen| {
            let mut n = s.shape;
            n.sort_unstable();
            n.map(|n| n as f64)
        };
        let [mut spacings, mut shapes] = [Vec::new(), Vec::new()];
        let median_of = |value: &dyn Fn(&Seen) -> f64| median(scans.iter().map(|s| value(s)).collect());
        let medians =
            [0, 1, 2].map(|axis| (median_of(&|s| spacing(s)[axis]), median_of(&|s| shape(s)[axis])));
        for s in scans {
            // Of several axes the one that is farthest off.
            let farthest = |values: [f64; 3], middles: [f64; 3]| {
                let off = |axis: usize| (values[axis] / middles[axis]).ln().abs().exp();
                let axis = (0..3).max_by(|&a, &b| off(a).total_cmp(&off(b))).unwrap_or(0);
                (off(axis), values[axis], middles[axis])
            };
            let (off, mm, middle) = farthest(spacing(s), medians.map(|m| m.0));
            if off > SPACING_OUTLIER {
                spacings.push(Outlier {
                    off,
                    seen: s,
                    value: format!("{mm:.2} mm"),
                    middle: format!("{middle:.2} mm"),
                });
            }
            let (off, n, middle) = farthest(shape(s), medians.map(|m| m.1));
            if off > SHAPE_OUTLIER {
                shapes.push(Outlier { off, seen: s, value: n.to_string(), middle: middle.to_string() });
            }
        }
        tell_outliers(
            spacings,
            scans.len(),
            |o| format!("voxels of {} where the table's median is {}", o.value, o.middle),
            all,
        );
        let axis = |o: &Outlier<'_>| {
            format!("{} voxels along an axis where the table's median is {}", o.value, o.middle)
        };
        tell_outliers(shapes, scans.len(), axis, all);
    }
}

/// A scan unlike the others of its view.
struct Outlier<'a> {
    /// How many times larger or smaller than the median.
    off: f64,
    seen: &'a Seen,
    value: String,
    middle: String,
}

/// How many outliers of one kind are named. More of them say that the table has two kinds of scans, not that a scan is
/// wrong.
const OUTLIERS_NAMED: usize = 3;

/// A warning for each outlier, or one for all with their number and the worst.
fn tell_outliers(
    mut outliers: Vec<Outlier<'_>>,
    scans: usize,
    describe: impl Fn(&Outlier<'_>) -> String,
    all: &mut Findings,
) {
    if outliers.len() <= OUTLIERS_NAMED {
        all.warnings.extend(outliers.iter().map(|o| Problem {
            line: Some(o.seen.line),
            what: format!("case `{}`: {}", o.seen.case, describe(o)),
        }));
        return;
    }
    outliers.sort_by(|a, b| b.off.total_cmp(&a.off));
    let worst: Vec<String> = outliers
        .iter()
        .take(OUTLIERS_NAMED)
        .map(|o| format!("case `{}` (line {}): {}", o.seen.case, o.seen.line, describe(o)))
        .collect();
    let (count, view) = (outliers.len(), &outliers[0].seen.view);
    let what = format!(
        "view `{view}`: {count} of {scans} scans are unlike the others; the worst: {}",
        worst.join("; ")
    );
    all.warnings.push(Problem { line: None, what });
}

/// The same bytes under two names: harmless within a patient, a leak between training and test otherwise.
fn duplicates(seen: &[Seen], table: &Table, all: &mut Findings) {
    let rows: HashMap<&str, &Row> = table.rows.iter().map(|r| (r.case.as_str(), r)).collect();
    let mut first: HashMap<&str, &Seen> = HashMap::new();
    for s in seen {
        let other = *first.entry(&s.sha256).or_insert(s);
        let (Some(a), Some(b)) = (rows.get(other.case.as_str()), rows.get(s.case.as_str())) else { continue };
        if a.case == b.case {
            continue;
        }
        let what = format!("case `{}`: the same scan as case `{}` on line {}", b.case, a.case, a.line);
        if a.labels != b.labels && other.region == s.region {
            all.errors.push(Problem { line: Some(s.line), what: what + ", with other labels" });
        } else if a.patient_or_case() != b.patient_or_case() {
            let what = what + " of another patient: it may train and judge; give both the same `patient`";
            all.errors.push(Problem { line: Some(s.line), what });
        }
    }
}

/// Labels that nothing can be learned of.
fn labels(table: &Table, all: &mut Findings) {
    if table.kind.has_values() {
        return values(table, all);
    }
    for (c, name) in table.labels.iter().enumerate() {
        let known: Vec<f32> = table.rows.iter().filter_map(|r| r.labels.get(c).copied().flatten()).collect();
        let positives = known.iter().filter(|v| **v > 0.5).count();
        if positives == 0 || positives == known.len() {
            let what = format!(
                "label `{name}`: {positives} of {} known cases are positive; both kinds are needed",
                known.len()
            );
            all.warnings.push(Problem { line: None, what });
        }
    }
}

/// Scales on which all cases are alike.
fn values(table: &Table, all: &mut Findings) {
    let rows: Vec<Vec<Option<f64>>> = table.rows.iter().map(|row| table.values_of(row)).collect();
    for (c, name) in table.labels.iter().enumerate() {
        let known: Vec<f64> = rows.iter().filter_map(|row| row.get(c).copied().flatten()).collect();
        if !known.is_empty() && known.iter().all(|v| *v == known[0]) {
            let what = format!(
                "label `{name}`: all {} known values are the same; different ones are needed",
                known.len()
            );
            all.warnings.push(Problem { line: None, what });
        }
    }
}

#[cfg(test)]
mod tests;
