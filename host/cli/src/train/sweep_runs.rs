//! The runs of a sweep: all of its combinations, or one of them alone.

use super::run_summary::RunSummary;
use super::{Train, sweep};
use crate::console::{Console, Loudness};
use crate::outcome::{CommandError, Outcome};
use anymc3d_host::fs::write_atomically;
use anymc3d_host::scan::DecodedScans;
use anymc3d_host::task::open_library;
use clap::Parser;

/// The table of all runs.
pub(super) const SWEEP: &str = "sweep.csv";
/// The same table of one run, in its folder.
pub(super) const POINT: &str = "point.csv";

/// The command without its name, for the runs of a sweep.
#[derive(Debug, Parser)]
pub(super) struct Alone {
    #[command(flatten)]
    pub train: Train,
    #[command(flatten)]
    _loudness: Loudness,
}

impl Train {
    /// Runs every combination of the grid; if a run fails, the others still run.
    pub(super) fn sweep(
        &self,
        all: &[sweep::Combination],
        console: &Console,
    ) -> Result<Outcome, CommandError> {
        let _out = crate::options::out_folder(&self.out).map_err(CommandError::failed)?;
        let mut given: Vec<String> = std::env::args().collect();
        given.drain(..given.iter().position(|a| a == "train").unwrap_or(0));
        sweep::without(&mut given, &["--sweep", "--point"]);
        let mut outcome = Outcome::Done;
        let mut table = String::new();
        // An error in the last combination, or in the table, is reported before the first run.
        let runs = all.iter().map(|one| self.alone(&given, one)).collect::<Result<Vec<_>, _>>()?;
        let library = open_library(&self.plugin).map_err(CommandError::refused)?;
        let contents = self.check_tables(&library.embedded.manifest, &DecodedScans::default(), console)?;
        if let Some(point) = self.point.filter(|point| *point >= all.len()) {
            return Err(CommandError::usage(format!(
                "--point {point}: the grid has {} combinations, counted from 0",
                all.len()
            )));
        }
        let mine = |n: &usize| self.point.is_none_or(|point| point == *n);
        for (n, (combination, train)) in all.iter().zip(runs).enumerate().filter(|(n, _)| mine(n)) {
            console.note(format!("run {} of {}: {}", n + 1, all.len(), sweep::name(combination)));
            let ended = train.every_fold(contents.as_ref(), console);
            if table.is_empty() {
                let options = combination.iter().map(|(o, _)| o.as_str());
                table = options.chain(RunSummary::COLUMNS).collect::<Vec<_>>().join(",") + "\n";
            }
            let values = combination.iter().map(|(_, v)| v.clone());
            let cells: Vec<String> = match ended {
                Ok(ended) => values.chain(ended.cells()).collect(),
                Err(e) => {
                    console.error(&e.message);
                    outcome = outcome.or(e.outcome);
                    values.chain(RunSummary::COLUMNS.map(|_| String::new())).collect()
                }
            };
            table += &(cells.join(",") + "\n");
            // One combination alone leaves its line where it lies, for --gather.
            let place = match self.point {
                Some(_) if outcome != Outcome::Done => break,
                Some(_) => self.out.join(sweep::name(combination)).join(POINT),
                None => self.out.join(SWEEP),
            };
            write_atomically(&place, table.as_bytes())
                .map_err(|e| CommandError::failed(format!("{}: cannot be written ({e})", place.display())))?;
        }
        console.result(table.trim_end());
        Ok(outcome)
    }

    /// The command of one combination of a sweep. The sweep has checked the tables.
    fn alone(&self, given: &[String], combination: &sweep::Combination) -> Result<Self, CommandError> {
        let mut args = given.to_vec();
        args.extend(combination.iter().map(|(option, value)| format!("--{option}={value}")));
        args.extend(["--out".to_owned(), self.out.join(sweep::name(combination)).display().to_string()]);
        let mut train = Alone::try_parse_from(&args)
            .map_err(|e| {
                let (name, text) = (sweep::name(combination), e.to_string());
                CommandError::usage(format!("{name}: {}", text.lines().next().unwrap_or("")))
            })?
            .train;
        train.unchecked = true;
        Ok(train)
    }
}
