//! The tables of a training: checked before an hour is spent, and joined where validation or test have tables of their own.

use crate::console::Console;
use crate::doctor::table_findings;
use crate::outcome::CommandError;
use anymc3d_host::data::table::{Row, Table, TableError};
use anymc3d_host::scan::DecodedScans;
use anymc3d_manifest::Manifest;
use std::collections::BTreeSet;
use std::path::Path;

/// A table of thousands of rows may have the same warning in every row.
const WARNINGS_SHOWN: usize = 10;

/// Refuses a table with errors in it or in its files, and prints its warnings.
pub(super) fn checked(
    data: &Path,
    manifest: &Manifest,
    decoded: &DecodedScans,
    console: &Console,
) -> Result<(), CommandError> {
    let (findings, _) = table_findings(data, manifest, decoded, console);
    for warning in findings.warnings.iter().take(WARNINGS_SHOWN) {
        let line = warning.line.map_or(String::new(), |line| format!("line {line}: "));
        console.warning(format!("{}: {line}{}", data.display(), warning.what));
    }
    let more = findings.warnings.len().saturating_sub(WARNINGS_SHOWN);
    if more > 0 {
        let table = data.display();
        console.warning(format!("{table}: {more} more; `host doctor --data {table}` shows them all"));
    }
    match findings.errors.is_empty() {
        true => Ok(()),
        false => Err(CommandError::failed(TableError { path: data.to_owned(), problems: findings.errors })),
    }
}

/// Appends the cases of another table, none of whose patients may be in this one; their rows.
pub(super) fn append(
    table: &mut Table,
    more: &Path,
    manifest: &Manifest,
    either: &str,
) -> Result<Vec<usize>, CommandError> {
    let more = Table::open(more, manifest).map_err(CommandError::failed)?;
    let first = table.rows.len();
    let known = |of: &dyn Fn(&Row) -> Vec<String>| table.rows.iter().flat_map(of).collect::<BTreeSet<_>>();
    let whose = |r: &Row| vec![r.patient_or_case().to_owned(), r.case.clone()];
    let files = |r: &Row| r.images.values().map(|f| f.display().to_string()).collect();
    let (patients, scans) = (known(&whose), known(&files));
    for row in &more.rows {
        let again = whose(row).into_iter().find(|p| patients.contains(p));
        if let Some(again) = again.or_else(|| files(row).into_iter().find(|f| scans.contains(f))) {
            return Err(CommandError::failed(format!(
                "{}: line {}: {again} is in {} too; a patient {either}, never both",
                more.path.display(),
                row.line,
                table.path.display()
            )));
        }
    }
    table.rows.extend(more.rows);
    Ok((first..table.rows.len()).collect())
}
