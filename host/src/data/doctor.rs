//! What is wrong with the scans of a data table, found before an hour of training is spent on them.
//!
//! The table itself is judged where it is read ([`Table::read_all`]); here every scan and mask it names is opened.

mod duplicates;
mod outliers;
mod remarks;

pub use duplicates::shared_scans;

use crate::data::table::{Problem, Row, Table};
use crate::memory::MemoryBudget;
use crate::scan::{
    ContentDigest, DecodedScans, Scan, Target, Volume, memory_of, modality_warning, region_warnings,
};
use anymc3d_manifest::{Manifest, Region, TaskKind};
use rayon::prelude::*;
use remarks::{Remark, gather};
use std::path::{Path, PathBuf};

/// Bytes that finding a region of a small scan may take, whatever the scan's size.
const LEAST_FOR_REGIONS: usize = 16 << 20;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// Training on it would fail, or learn something wrong.
    pub errors: Vec<Problem>,
    /// Worth a look.
    pub warnings: Vec<Problem>,
}

/// A table's scans and masks after all of them were opened.
pub struct Examination {
    /// What was found.
    pub findings: Findings,
    seen: Vec<Seen>,
}

impl Examination {
    /// What each scan shows, by its path.
    pub fn contents(&self) -> impl Iterator<Item = (&Path, &ContentDigest)> {
        self.seen.iter().map(|seen| (seen.path.as_path(), &seen.content))
    }
}

/// One scan as far as others are compared with it; its voxels are gone.
struct Seen {
    path: PathBuf,
    line: u64,
    case: String,
    view: String,
    shape: [usize; 3],
    spacing_mm: [f64; 3],
    content: ContentDigest,
}

#[derive(Default)]
struct OfRow {
    errors: Vec<Problem>,
    remarks: Vec<Remark>,
    seen: Vec<Seen>,
}

/// Opens every scan and mask of a table. `progress` is told of each row that is done.
pub fn examine(table: &Table, manifest: &Manifest, progress: &(dyn Fn() + Sync)) -> Examination {
    examine_and_keep(table, manifest, &DecodedScans::default(), progress)
}

/// As [`examine`]; what is in order is offered to `decoded`, for a training that begins next.
pub fn examine_and_keep(
    table: &Table,
    manifest: &Manifest,
    decoded: &DecodedScans,
    progress: &(dyn Fn() + Sync),
) -> Examination {
    let mut rows: Vec<OfRow> = Vec::with_capacity(table.rows.len());
    for together in groups(&table.rows, MemoryBudget::of_process().less(decoded.most()).bytes) {
        rows.par_extend(together.par_iter().map(|row| {
            let found = examine_row(row, manifest, decoded);
            progress();
            found
        }));
    }
    let mut all = Findings::default();
    let (mut seen, mut remarks) = (Vec::new(), Vec::new());
    for row in rows {
        all.errors.extend(row.errors);
        remarks.extend(row.remarks);
        seen.extend(row.seen);
    }
    all.warnings = gather(remarks, table.rows.len());
    outliers::outliers(&seen, &mut all);
    duplicates::duplicates(&seen, table, manifest, &mut all);
    labels(table, &mut all);
    all.errors.sort_by_key(|p| p.line);
    all.warnings.sort_by_key(|p| p.line);
    Examination { findings: all, seen }
}

/// Rows whose scans may be in memory together, in their order: each may be alone, however large.
fn groups(rows: &[Row], room: usize) -> Vec<&[Row]> {
    let (mut all, mut begin, mut taken) = (Vec::new(), 0, 0usize);
    for (i, row) in rows.iter().enumerate() {
        // One after the other; what a region takes to be found is counted as a copy of the voxels.
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

/// A scan's place, without its voxels: a mask is drawn on one of them.
type Grid<'a> = (&'a Path, Volume);

fn examine_row(row: &Row, manifest: &Manifest, decoded: &DecodedScans) -> OfRow {
    let mut found = OfRow::default();
    let mut grids: Vec<Grid<'_>> = Vec::new();
    // A column `image` may serve several views; its scan is opened once.
    let mut opened: Vec<&PathBuf> = Vec::new();
    for path in row.images.values() {
        if !opened.contains(&path) {
            opened.push(path);
            grids.extend(examine_scan(path, row, manifest, decoded, &mut found));
        }
    }
    if let Some(path) = &row.mask {
        examine_mask(path, row, &grids, manifest, decoded, &mut found);
    }
    for view in manifest.views.iter().filter(|_| row.point_mm.is_some()) {
        let of = row
            .images
            .get(&view.name)
            .and_then(|path| grids.iter().find(|(scan, _)| *scan == path.as_path()));
        let target = Target { mask: None, point_mm: row.point_mm };
        let outside = of.filter(|_| view.region == Region::Point).map(|(_, grid)| target.centre(grid, view));
        if let Some(Err(e)) = outside {
            found.errors.push(problem(row, e.to_string()));
        }
    }
    found
}

fn problem(row: &Row, what: String) -> Problem {
    Problem { line: Some(row.line), what: format!("case `{}`: {what}", row.case) }
}

/// What is odd about a scan, for the views that read it; its grid, where it can be read.
fn examine_scan<'a>(
    path: &'a Path,
    row: &Row,
    manifest: &Manifest,
    decoded: &DecodedScans,
    found: &mut OfRow,
) -> Option<Grid<'a>> {
    let (scan, volume) = match Scan::open(path).and_then(|scan| Ok((scan.try_canonical()?, scan))) {
        Ok((volume, scan)) => (scan, volume),
        Err(e) => {
            found.errors.push(problem(row, e.to_string()));
            return None;
        }
    };
    let views = || {
        let reads = |name: &String| row.images.get(name).is_some_and(|file| file == path);
        manifest.views.iter().filter(move |view| reads(&view.name))
    };
    let mut remark = |kind: String, what: &str| {
        // The same is told once of a scan that several views read.
        if !found.remarks.iter().any(|r| r.kind == kind) {
            found.remarks.push(Remark::new(row, kind, format!("{}: {what}", path.display())));
        }
    };
    if scan.is_constant() {
        let what = format!("{}: every voxel is {}", path.display(), scan.range()[0]);
        found.errors.push(problem(row, what));
    } else {
        scan.warnings.iter().for_each(|warning| remark(warning.clone(), warning));
        if let Some(warning) = manifest.task.smallest_mm.and_then(|mm| scan.thick_slices(mm)) {
            remark("thick slices".to_owned(), &warning);
        }
        for view in views() {
            if let Some(warning) = modality_warning(&scan, view.modality) {
                remark(format!("modality of {}", view.name), &warning);
            }
            let room = MemoryBudget::of(size_of_val(volume.voxels.as_slice()).max(LEAST_FOR_REGIONS));
            region_warnings(&volume, view, room).iter().for_each(|warning| remark(warning.clone(), warning));
        }
    }
    found.seen.push(Seen {
        path: path.to_owned(),
        line: row.line,
        case: row.case.clone(),
        view: views().next().map(|view| view.name.clone()).unwrap_or_default(),
        shape: scan.shape,
        spacing_mm: scan.spacing_mm,
        content: volume.content_digest(),
    });
    if !scan.is_constant() {
        decoded.offer(path, scan);
    }
    Some((path, Volume { voxels: Vec::new(), ..volume }))
}

fn examine_mask(
    path: &Path,
    row: &Row,
    grids: &[Grid<'_>],
    manifest: &Manifest,
    decoded: &DecodedScans,
    found: &mut OfRow,
) {
    let read = Scan::open_mask(path).and_then(|mask| Ok((mask.try_canonical()?, mask)));
    let (drawn, mask): (Volume, Scan) = match read {
        Ok(read) => read,
        Err(e) => return found.errors.push(problem(row, e.to_string())),
    };
    let on = |(scan, grid): &Grid<'_>| drawn.expect_grid(scan, grid.shape, &grid.affine);
    let on_any = grids.iter().any(|grid| on(grid).is_ok());
    if let Some(Err(e)) = grids.first().filter(|_| !on_any).map(on) {
        found.errors.push(problem(row, e.to_string()));
    }
    for warning in &mask.warnings {
        found.remarks.push(Remark::new(row, warning, format!("{}: {warning}", path.display())));
    }
    let empty = !drawn.voxels.iter().any(|v| *v > 0.5);
    let views = &manifest.views;
    let followed = views.iter().any(|v| v.needs_mask() || v.follows_region() && row.point_mm.is_none());
    if empty && followed {
        let what = format!("{}: the mask is empty, and it says where to look", path.display());
        found.errors.push(problem(row, what));
    }
    let most = mask.range()[1];
    if empty && most > 0.0 {
        let what = format!(
            "{}: the mask's largest value is {most}; expected 1 where the finding is, what is above 0.5 counts",
            path.display()
        );
        found.errors.push(problem(row, what));
    }
    // A class may well be the one without a finding.
    let classifies = matches!(manifest.task.kind, TaskKind::Binary | TaskKind::Multilabel);
    if empty && classifies && row.labels.iter().flatten().any(|l| *l > 0.5) {
        let what = format!("{}: the mask of a positive case is empty", path.display());
        found.remarks.push(Remark::new(row, "empty mask", what));
    }
    decoded.offer(path, mask);
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
