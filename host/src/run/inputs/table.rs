//! The cases of a data table, with the files of every task's views.

use super::InputError;
use super::unanswered::Unanswered;
use crate::data::table::{Row, Table};
use crate::engine::Case;
use crate::scan::dicom;
use crate::scan::npz::ArchiveSplit;
use anymc3d_manifest::Manifest;
use std::path::Path;

/// Whether an input is a data table by its name: a `.csv`, or a split of a NumPy archive, `FILE.npz:SPLIT`.
pub fn is_table(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv")) || ArchiveSplit::parse(path).is_some()
}

/// The cases of a table. A file that cannot be used for a task is told to `unanswered`.
pub(super) fn cases(
    table: &Path,
    tasks: &[Manifest],
    unanswered: &mut Unanswered,
) -> Result<Vec<Case>, InputError> {
    let mut cases: Vec<Case> = Vec::new();
    for (manifest, table) in tasks.iter().zip(Table::open_unlabelled(table, tasks)?) {
        if cases.is_empty() {
            let named = |row: &Row| Case { name: row.case.clone(), region: row.region(), ..Case::default() };
            cases = table.rows.iter().map(named).collect();
        }
        // The rows of one sheet, whichever task's columns are looked at.
        for (case, row) in cases.iter_mut().zip(table.rows) {
            for (view, path) in row.images {
                let Some(rules) = manifest.views.iter().find(|v| v.name == view) else { continue };
                match dicom::resolve(&path, rules) {
                    Ok(found) if found == path => drop(case.views.insert(view, path)),
                    Ok(found) => drop(case.views.insert(Case::own(&manifest.plugin.name, &view), found)),
                    Err(e) => unanswered.fail(&case.name, &manifest.plugin.name, format!("view {view}: {e}")),
                }
            }
        }
    }
    Ok(cases)
}
