//! The tables of a training: checked before an hour is spent, and joined where validation or test have tables of their own.

use super::Train;
use crate::console::Console;
use crate::doctor::{ExaminedTable, examined};
use crate::labels::with_hint;
use crate::outcome::CommandError;
use anymc3d_host::data::doctor::shared_scans;
use anymc3d_host::data::table::{Part, Row, Table, TableError};
use anymc3d_host::scan::DecodedScans;
use anymc3d_host::train::Contents;
use anymc3d_manifest::Manifest;
use std::path::Path;

/// A table of thousands of rows may have the same warning in every row.
const WARNINGS_SHOWN: usize = 10;

impl Train {
    /// Refuses tables with errors in them or in their files, and scans that one table trains on and another judges by.
    /// What the scans show, by their paths, where they were opened.
    pub(super) fn check_tables(
        &self,
        manifest: &Manifest,
        decoded: &DecodedScans,
        console: &Console,
    ) -> Result<Option<Contents>, CommandError> {
        if self.unchecked {
            console.note(
                "--unchecked: the weights will not know their training cases again, so `host eval` cannot warn of them",
            );
            return Ok(None);
        }
        let mut before: Vec<ExaminedTable> = Vec::new();
        for data in [Some(&self.data), self.val.as_ref(), self.test.as_ref()].into_iter().flatten() {
            let now = self.checked(data, manifest, decoded, console)?;
            for known in &before {
                // A table's test cases are not used where others are given.
                let uses = |row: &Row| row.split != Some(Part::Test);
                let shared = shared_scans((&known.table, &known.examination), &now.examination, uses);
                if !shared.is_empty() {
                    return Err(CommandError::failed(TableError { path: data.clone(), problems: shared }));
                }
            }
            before.push(now);
        }
        let all = before.iter().flat_map(|table| table.examination.contents());
        Ok(Some(all.map(|(path, content)| (path.to_owned(), *content)).collect()))
    }

    /// Refuses a table with errors in it or in its files, and prints its warnings; what is in order is offered to `decoded`.
    fn checked(
        &self,
        data: &Path,
        manifest: &Manifest,
        decoded: &DecodedScans,
        console: &Console,
    ) -> Result<ExaminedTable, CommandError> {
        let examined = examined(data, manifest, &self.labels.columns(manifest)?, decoded, console);
        let findings = &examined.examination.findings;
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
            true => Ok(examined),
            false => {
                let problems = findings.errors.clone();
                let error = TableError { path: data.to_owned(), problems };
                Err(CommandError::failed(with_hint(error, data, manifest)))
            }
        }
    }
}

impl Train {
    /// A table, its labels called as the plugin calls them.
    pub(super) fn open_table(&self, data: &Path, manifest: &Manifest) -> Result<Table, CommandError> {
        let labels = self.labels.columns(manifest)?;
        labels.open(data, manifest).map_err(|e| CommandError::failed(with_hint(e, data, manifest)))
    }
}
