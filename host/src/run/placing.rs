//! A case's answers are put into their place: here, or on a thread beside the next case.

use super::events::{Events, Notice};
use super::executor::{CaseOutput, Wanted};
use super::failure::CaseFailure;
use crate::engine::result::CaseResult;
use crate::engine::{Case, Prediction};
use crate::output::naming::{Names, Scans};
use crate::output::{self, OutputFolder};
use std::cell::RefCell;
use std::path::{Path, PathBuf};

/// A case's answers, in the order of the plugins that were asked.
pub enum Computed {
    /// Their files are in place.
    Placed(Vec<Result<CaseOutput, CaseFailure>>),
    /// Nothing of them is written yet.
    Predicted(Vec<Result<Prediction, CaseFailure>>),
}

/// Answers whose files are in place, and what was to be told meanwhile.
pub(super) struct Placed {
    pub answers: Vec<Result<CaseOutput, CaseFailure>>,
    pub notices: Vec<Notice>,
}

/// Writes the files of a case's answers, on whatever thread it is called.
pub(super) fn place(
    case: &Case,
    predictions: Vec<Result<Prediction, CaseFailure>>,
    wanted: Wanted<'_>,
) -> Placed {
    #[derive(Default)]
    struct Kept(RefCell<Vec<Notice>>);
    impl Events for Kept {
        fn notice(&self, notice: &Notice) {
            self.0.borrow_mut().push(notice.clone());
        }
    }
    let (notices, mut names) = (Kept::default(), Names::default());
    let mut placing = Placing { case, wanted, names: &mut names, events: &notices };
    let answers = predictions.into_iter().map(|p| p.and_then(|p| placing.record(p))).collect();
    Placed { answers, notices: notices.0.into_inner() }
}

/// Where a case's answers go, and what they are called.
pub(super) struct Placing<'a> {
    pub case: &'a Case,
    pub wanted: Wanted<'a>,
    /// Of answers that are written nowhere.
    pub names: &'a mut Names,
    pub events: &'a dyn Events,
}

impl Placing<'_> {
    /// Puts the files that `fill` writes into their place, with the record named as its folder is.
    fn put(
        &self,
        out: &OutputFolder,
        plugin: &str,
        fill: impl FnOnce(&Path) -> Result<CaseResult, String>,
    ) -> Result<(CaseResult, Option<PathBuf>), String> {
        let fill = |folder: &Path| {
            let mut result = fill(folder)?;
            if let Some(options) = out.options() {
                result.options_sha256 = Some(options.to_owned());
                output::write_record(&result, folder)?;
            }
            let scans = Scans::of(&result);
            Ok((result, scans))
        };
        let rename = |result: &mut CaseResult, name: &str, folder: &Path| {
            if result.case == name {
                return Ok(());
            }
            result.case = name.to_owned();
            output::rename_in_report(folder, name)?;
            output::write_record(result, folder)
        };
        let put = out.put(self.case, plugin, fill, rename)?;
        if let Some(reason) = put.note {
            self.events.notice(&Notice::PlacedElsewhere { reason });
        }
        Ok((put.what, Some(put.place)))
    }

    /// Names a record that is written nowhere.
    fn name(&mut self, mut result: CaseResult) -> CaseResult {
        result.case = self.names.choose(&result.plugin.name, self.case, Scans::of(&result));
        result
    }

    /// A prediction of this process: its files are written aside and moved into place whole.
    pub fn record(&mut self, prediction: Prediction) -> Result<CaseOutput, CaseFailure> {
        let writers = self.wanted.writers;
        let written = match self.wanted.output {
            None => {
                output::record(prediction, self.case, None, writers).map(|result| (self.name(result), None))
            }
            Some(out) => {
                let plugin = prediction.result.plugin.name.clone();
                self.put(out, &plugin, |folder| output::record(prediction, self.case, Some(folder), writers))
            }
        };
        finished(written)
    }

    /// The record of another process, whose files are moved into place.
    #[cfg(unix)]
    pub fn take(&mut self, json: &str, files: Option<&Path>) -> Result<CaseOutput, CaseFailure> {
        let result: CaseResult = serde_json::from_str(json)
            .map_err(|e| CaseFailure::of_task(format!("the answer is no result: {e}")))?;
        let (Some(files), Some(out)) = (files, self.wanted.output) else {
            return finished(Ok((self.name(result), None)));
        };
        let plugin = result.plugin.name.clone();
        finished(self.put(out, &plugin, |into| {
            let move_all = || -> std::io::Result<()> {
                for entry in std::fs::read_dir(files)? {
                    let entry = entry?;
                    std::fs::rename(entry.path(), into.join(entry.file_name()))?;
                }
                Ok(())
            };
            move_all().map_err(|e| format!("cannot be written ({e})")).map(|()| result)
        }))
    }
}

fn finished(written: Result<(CaseResult, Option<PathBuf>), String>) -> Result<CaseOutput, CaseFailure> {
    let (result, folder) = written.map_err(CaseFailure::of_output)?;
    let json = serde_json::to_string(&result)
        .map_err(|e| CaseFailure::of_task(format!("a result cannot be written as JSON: {e}")))?;
    Ok(CaseOutput { result, json, folder })
}
