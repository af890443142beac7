//! `--skip-existing` and `--csv`: which cases are asked, and the table of all answers.

use super::Run;
use super::sink::ResultSink;
use crate::console::Console;
use crate::outcome::{CommandError, Outcome};
use anymc3d_host::batch::{PlannedTask, Resume, RunTable, digest_of_options};
use anymc3d_host::engine::Case;
use anymc3d_host::fs::write_atomically;
use anymc3d_host::run::inputs::{CaseEntry, CaseList};
use anymc3d_host::run::{CaseRequest, Session};
use std::cell::RefCell;

/// An entry, and which plugins are asked where it is a case.
pub(super) type AskedEntry<'a> = (&'a CaseEntry, Option<CaseRequest<&'a Case>>);

/// A table for a session's plugins.
pub(super) fn table(session: &Session) -> RunTable {
    let tasks = session.identities().into_iter().zip(session.manifests());
    RunTable::begin(tasks.map(|(identity, manifest)| PlannedTask::new(identity, &manifest.task)).collect())
}

impl Run {
    /// Of each entry which plugins are asked; with `--skip-existing` not those whose result is there, and entries without a
    /// plugin to ask are left out.
    pub(super) fn asks<'a>(
        &self,
        list: &'a CaseList,
        session: &Session,
        answers: &RefCell<Option<RunTable>>,
        console: &Console,
    ) -> Result<Vec<AskedEntry<'a>>, CommandError> {
        let (identities, manifests) = (session.identities(), session.manifests());
        let options = digest_of_options(&self.writers.result_options(&self.session, &self.dicom));
        let root = self.out.as_ref().filter(|_| self.skip_existing);
        let resume = root.map(|root| (root, Resume::of_results(root, &identities, &manifests, &options)));
        let (mut asks, mut skipped) = (Vec::with_capacity(list.entries.len()), 0);
        for entry in &list.entries {
            let Some(case) = entry.case() else {
                asks.push((entry, None));
                continue;
            };
            let mut tasks = Vec::new();
            for task in 0..identities.len() {
                let done =
                    resume.as_ref().and_then(|(root, resume)| Some((root, resume.done_as(case, task)?)));
                match (done, answers.borrow_mut().as_mut()) {
                    (None, _) => tasks.push(task),
                    (Some((root, name)), Some(table)) => {
                        table.said_before(root, &name, task).map_err(CommandError::failed)?;
                    }
                    (Some(_), None) => {}
                }
            }
            match tasks.is_empty() && !identities.is_empty() {
                true => skipped += 1,
                false => asks.push((entry, Some(CaseRequest { case, tasks }))),
            }
        }
        if skipped > 0 {
            console.note(format!("{skipped} of {} cases are done already and skipped", list.entries.len()));
        }
        Ok(asks)
    }

    /// Writes the table that was asked for.
    pub(super) fn write_csv(&self, sink: &ResultSink<'_>) -> Result<Outcome, CommandError> {
        let (Some(file), Some(table)) = (&self.csv, sink.answers.borrow_mut().take()) else {
            return Ok(Outcome::Done);
        };
        match write_atomically(file, &table.csv()) {
            Ok(()) => Ok(Outcome::Done),
            Err(e) => Err(CommandError::failed(format!("--csv {}: cannot be written ({e})", file.display()))),
        }
    }
}
