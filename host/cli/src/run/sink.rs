//! What `host run` does with answers: results on stdout as blocks or lines of JSON, failures on stderr.

use crate::advice::{with_option, with_remedy};
use crate::console::Console;
use crate::outcome::Outcome;
use crate::report;
use crate::run::table::{self, Row};
use anymc3d_host::batch::RunTable;
use anymc3d_host::engine::result::{CaseResult, FailedCase, FailedInput, Provenance, SCHEMA};
use anymc3d_host::output::{OutputFolder, ResultWriter};
use anymc3d_host::run::inputs::{CaseEntry, NoAnswer, Unanswered};
use anymc3d_host::run::{Blame, CaseFailure, CaseOutput, Session, Wanted};
use anymc3d_host::scan::source::stem_of;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Where results go: files, lines on the terminal.
pub(super) struct ResultSink<'a> {
    pub console: &'a Console,
    pub out: Option<OutputFolder>,
    pub writers: Vec<Arc<dyn ResultWriter>>,
    pub json: bool,
    /// What came out so far, for a table at the end; none once it was printed.
    pub rows: RefCell<Option<Vec<Row>>>,
    /// All answers, where a table of them is wanted.
    pub answers: RefCell<Option<RunTable>>,
    /// Plugins that do not answer some of the cases.
    pub unanswered: &'a Unanswered,
}

/// What became of a case.
pub(super) struct Taken {
    pub outcome: Outcome,
    /// Why some plugin has no answer, without the file's name.
    pub failure: Option<String>,
}

impl<'a> ResultSink<'a> {
    pub fn console(&self) -> &'a Console {
        self.console
    }

    /// What is wanted of each case.
    pub fn wanted(&self) -> Wanted<'_> {
        Wanted { output: self.out.as_ref(), writers: &self.writers }
    }

    /// Runs a case and prints what came out.
    pub fn process(
        &self,
        session: &mut Session,
        entry: &CaseEntry,
        intended_use: &mut BTreeSet<String>,
    ) -> Outcome {
        let case = entry.case();
        let answers = case.map(|case| session.run(case, self.wanted(), self.console)).unwrap_or_default();
        let all: Vec<usize> = (0..session.plugins().len()).collect();
        self.take(session, entry, (&all, answers), intended_use).outcome
    }

    /// Prints what came out of a case: the answers of some of the plugins, which are named by index.
    pub fn take(
        &self,
        session: &Session,
        entry: &CaseEntry,
        (tasks, answers): (&[usize], Vec<Result<CaseOutput, CaseFailure>>),
        intended_use: &mut BTreeSet<String>,
    ) -> Taken {
        let case = match entry {
            CaseEntry::Case(case) => case,
            CaseEntry::Failed { path, error } => {
                return self.fail(stem_of(path), path, None, with_option(error));
            }
        };
        // A fault of the scan is printed once, not once per plugin.
        if let Some(error) = same_fault(&answers) {
            return self.fail(case.name.clone(), case.any_file(), None, error);
        }
        let mut taken = Taken { outcome: Outcome::Done, failure: None };
        for (&index, answer) in tasks.iter().zip(answers) {
            let failed = match answer {
                Ok(output) => {
                    let result = &output.result;
                    intended_use.insert(format!("{}: {}", result.plugin.name, result.intended_use));
                    self.forget_failure(&case.name, &result.plugin.name);
                    if let Some(table) = self.answers.borrow_mut().as_mut() {
                        table.said(index, result);
                    }
                    self.tell(&output);
                    continue;
                }
                Err(failure) => {
                    let plugin = Some((index, session.name(index).to_owned()));
                    let message = match self.unanswered.of(&case.name, session.name(index)) {
                        Some(NoAnswer::NothingForIt) => continue,
                        Some(NoAnswer::Failed(reason)) => reason.clone(),
                        None => with_remedy(&failure.message, failure.remedy.as_ref()),
                    };
                    self.fail(case.name.clone(), case.any_file(), plugin, message)
                }
            };
            taken.outcome = taken.outcome.or(failed.outcome);
            taken.failure = taken.failure.or(failed.failure);
        }
        taken
    }

    fn tell(&self, CaseOutput { result, json, folder }: &CaseOutput) {
        if !self.json {
            if let Some(all) = self.rows.borrow_mut().as_mut() {
                all.extend(table::rows(result));
            }
            return self.console.result(report::block(result, folder.as_deref()) + "\n");
        }
        let CaseResult { case, warnings, .. } = result;
        warnings.iter().for_each(|w| self.console.warning(format!("{case}: {w}")));
        self.console.result(json);
    }

    /// Prints the table of several cases or plugins.
    pub fn tell_table(&self, answers: usize) {
        let rows = self.rows.borrow_mut().take().unwrap_or_default();
        if answers > 1 && !rows.is_empty() {
            self.console.result(table::table(&rows) + "\n");
        }
    }

    /// An earlier failure is no longer true.
    fn forget_failure(&self, case: &str, plugin: &str) {
        if let Some(out) = &self.out {
            out.remove_failure(case, plugin);
        }
    }

    /// `plugin`: its index and name.
    fn fail(&self, case: String, path: &Path, plugin: Option<(usize, String)>, error: String) -> Taken {
        if let Some(table) = self.answers.borrow_mut().as_mut() {
            table.failed(&case, plugin.as_ref().map(|(index, _)| *index), &error);
        }
        let plugin = plugin.map(|(_, name)| name);
        let at = path.display().to_string();
        // Most messages name the file already.
        if error.contains(&at) {
            self.console.error(&error);
        } else {
            self.console.error(format!("{at}: {error}"));
        }
        let reason = error.replace(&at, "").trim_start_matches([':', ' ']).to_owned();
        let (schema, provenance) = (SCHEMA.to_owned(), Provenance::now());
        let input = FailedInput { path: at };
        let failed = FailedCase { schema, case, input, plugin, error, kind: None, provenance };
        if let Some(Err(e)) = self.out.as_ref().map(|out| out.put_failure(&failed)) {
            self.console.error(e);
        }
        if self.json {
            match serde_json::to_string(&failed) {
                Ok(json) => self.console.result(json),
                Err(e) => self.console.error(format!("a result cannot be written as JSON: {e}")),
            }
        }
        Taken { outcome: Outcome::Failed, failure: Some(reason) }
    }
}

/// The one message of all tasks, where none could use the scan.
fn same_fault(answers: &[Result<CaseOutput, CaseFailure>]) -> Option<String> {
    let mut faults = answers.iter().map(|a| match a {
        Err(CaseFailure { message, blame: Blame::Scan, .. }) => Some(message),
        _ => None,
    });
    let first = faults.next()??;
    faults.all(|f| f == Some(first)).then(|| first.clone())
}
