//! What the runner hears while a case is computed: progress for who watches, faults for the log.

use super::Shared;
use crate::jobs::{JobId, JobState, Progress};
use crate::models::{Health, Models};
use anymc3d_host::engine::{Passes, Stage};
use anymc3d_host::run::{Events, Notice};
use std::cell::RefCell;

/// Hears what the session tells of jobs, and of the plugins.
pub(super) struct Heard<'a> {
    runner: &'a Shared,
    models: &'a Models,
    jobs: &'a [JobId],
    /// The case that is computed.
    pub case: RefCell<String>,
    /// What was told of the scan.
    pub notices: RefCell<Vec<String>>,
    /// What messages call a folder of the server, which is nobody's business.
    folder: String,
}

impl<'a> Heard<'a> {
    /// `jobs`: those that are computed; `folder`: where their scan lies.
    pub fn new(runner: &'a Shared, models: &'a Models, jobs: &'a [JobId], folder: &str) -> Self {
        let (case, notices) = (RefCell::default(), RefCell::default());
        Self { runner, models, jobs, case, notices, folder: folder.to_owned() }
    }

    /// A message without the paths of this machine.
    pub fn without_folder(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.folder), "").replace(&self.folder, "the scan")
    }
}

impl Events for Heard<'_> {
    fn notice(&self, notice: &Notice) {
        match notice {
            Notice::Input(input) => {
                self.notices.borrow_mut().push(self.without_folder(&input.to_string()));
            }
            Notice::Fault { plugin, reason, faults, .. } => {
                self.runner.metrics.fault(plugin);
                let facts = serde_json::json!({ "plugin": plugin, "reason": reason, "in_a_row": faults });
                crate::log::line("warning", "plugin_fault", facts);
            }
            Notice::Quarantined { plugin, reason } | Notice::Refused { plugin, reason } => {
                self.runner.metrics.fault(plugin);
                if let Some((_, model)) = self.models.find(plugin) {
                    model.set_health(Health::Quarantined(self.without_folder(reason)));
                }
                let facts = serde_json::json!({ "plugin": plugin, "reason": reason });
                self.runner.audit.write("quarantine", std::slice::from_ref(&facts));
                crate::log::line("error", "plugin_quarantined", facts);
            }
            Notice::Separated { plugin, reason, .. } => {
                let facts = serde_json::json!({ "plugin": plugin, "reason": reason });
                crate::log::line("warning", "plugin_separated", facts);
            }
            other => tracing::warn!("{other}"),
        }
    }

    fn stage(&self, plugin: &str, stage: Stage) {
        if self.jobs.is_empty() {
            return;
        }
        let progress = Progress {
            state: JobState::Running,
            case: Some(self.case.borrow().clone()),
            plugin: Some(plugin.to_owned()),
            stage: Some(stage.to_string()),
        };
        self.jobs.iter().for_each(|job| self.runner.jobs.tell(job, progress.clone()));
    }

    fn passes(&self, passes: Passes) {
        self.runner.metrics.passes(passes);
    }
}
