//! `--gather`: the tables of folds or combinations that processes trained one by one.

use super::run_summary::RunSummary;
use super::sweep_runs::{POINT, SWEEP};
use super::{Train, folds, sweep};
use crate::console::Console;
use crate::outcome::{CommandError, Outcome};
use anymc3d_host::fs::write_atomically;
use anymc3d_host::train::TrainingRecord;
use std::path::Path;

impl Train {
    /// Writes into `folder` what one process would have written there.
    pub(super) fn gather(&self, folder: &Path, console: &Console) -> Result<Outcome, CommandError> {
        match (&self.sweep, self.folds) {
            (Some(grid), _) => points(folder, &sweep::combinations(grid)?, console)?,
            (None, Some(k)) => all_folds(folder, usize::from(k), console)?,
            (None, None) => {
                return Err(CommandError::usage(
                    "--gather: of what? give --folds K or --sweep F.toml with it",
                ));
            }
        }
        Ok(Outcome::Done)
    }
}

/// What lies in a run's folder; the run may still be missing.
fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    std::fs::read(path).map_err(|e| {
        CommandError::failed(format!("{}: cannot be read ({e}); is this run done?", path.display()))
    })
}

fn all_folds(out: &Path, k: usize, console: &Console) -> Result<(), CommandError> {
    let record = |n: usize| -> Result<TrainingRecord, CommandError> {
        let path = folds::folder(out, n).join("training.json");
        serde_json::from_slice(&read(&path)?).map_err(|e| {
            CommandError::failed(format!("{}: is no record of a training ({e})", path.display()))
        })
    };
    let records = (0..k).map(record).collect::<Result<Vec<_>, _>>()?;
    console.result(RunSummary::of(&records, None).sentence());
    console.result(folds::out_of_fold(out, k)?);
    if let Some(record) = records.first() {
        console.result(folds::ensemble(out, k, &record.name)?);
    }
    Ok(())
}

fn points(out: &Path, all: &[sweep::Combination], console: &Console) -> Result<(), CommandError> {
    let mut table = String::new();
    for combination in all {
        let path = out.join(sweep::name(combination)).join(POINT);
        let text = String::from_utf8_lossy(&read(&path)?).into_owned();
        let (header, row) = text.split_once('\n').ok_or_else(|| {
            CommandError::failed(format!("{}: expected a header and a line", path.display()))
        })?;
        if table.is_empty() {
            table = format!("{header}\n");
        }
        table += row;
    }
    let place = out.join(SWEEP);
    write_atomically(&place, table.as_bytes())
        .map_err(|e| CommandError::failed(format!("{}: cannot be written ({e})", place.display())))?;
    console.result(table.trim_end());
    Ok(())
}
