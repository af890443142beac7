//! Plugins that do not answer a case, known before the case is run.

use std::collections::BTreeMap;

/// Why a plugin does not answer a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// The case has nothing for the plugin. It was told when the case was found, and is no failure.
    NothingForIt,
    /// A file that was named for the plugin cannot be used: why, in one line.
    Failed(String),
}

/// Plugins that do not answer a case, by the case's and the plugin's name.
#[derive(Debug, Default)]
pub struct Unanswered(BTreeMap<(String, String), NoAnswer>);

impl Unanswered {
    /// The study has no series for the plugin.
    pub(super) fn skip(&mut self, case: &str, plugin: &str) {
        self.0.insert((case.to_owned(), plugin.to_owned()), NoAnswer::NothingForIt);
    }

    /// The file that a table names cannot be used.
    pub(super) fn fail(&mut self, case: &str, plugin: &str, reason: String) {
        self.0.insert((case.to_owned(), plugin.to_owned()), NoAnswer::Failed(reason));
    }

    /// Why a plugin leaves a case out; `None` where it is to answer.
    pub fn of(&self, case: &str, plugin: &str) -> Option<&NoAnswer> {
        self.0.get(&(case.to_owned(), plugin.to_owned()))
    }
}
