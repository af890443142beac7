//! The backbone and the tasks of a command: all of them opened, or refused, before any scan is read.

use super::console::Console;
use super::options::BackboneOptions;
use super::outcome::{CommandError, Outcome};
use crate::backbone::Precision;
use crate::engine::{Engine, LoadedTask};
use crate::plugin::{PluginError, find, inspect};
use std::path::Path;

/// Plugins whose manifest was read; none of their code has run.
pub(super) struct Chosen {
    wanted: Vec<String>,
    outcome: Outcome,
    segmentation: bool,
}

/// Reads every plugin's manifest: what is refused here costs no opening of the backbone.
///
/// # Errors
/// When two of them have one name, or none is left.
pub(super) fn choose(plugins: &[String], console: &Console) -> Result<Chosen, CommandError> {
    let mut chosen = Chosen { wanted: Vec::new(), outcome: Outcome::Done, segmentation: false };
    let mut names: Vec<String> = Vec::new();
    for wanted in plugins {
        let name = || -> Result<String, PluginError> {
            Ok(inspect(&find::library(wanted)?)?.0.manifest.plugin.name)
        };
        match name() {
            Ok(name) if names.contains(&name) => {
                let message =
                    format!("--plugin {wanted}: a plugin called {name} is given already; give each once");
                return Err(CommandError::usage(message));
            }
            Ok(name) => {
                names.push(name);
                chosen.wanted.push(wanted.clone());
            }
            Err(e) => chosen.refuse(&e, console),
        }
    }
    Ok(chosen)
}

impl Chosen {
    fn refuse(&mut self, why: &PluginError, console: &Console) {
        console.error(why);
        self.outcome = Outcome::Refused;
    }

    /// Whether plugins keep their segmentation branch.
    #[must_use]
    pub fn segmentation(mut self, keep: bool) -> Self {
        self.segmentation = keep;
        self
    }

    /// Whether nothing is left to run.
    pub fn none(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Opens the backbone, and the plugins with their weights on it. [`Outcome::Refused`] when one is refused, an
    /// engine without tasks when all are.
    ///
    /// # Errors
    /// When the backbone is refused.
    pub fn open(
        mut self,
        weights: Option<&Path>,
        options: &BackboneOptions,
        precision: Precision,
        console: &Console,
    ) -> Result<(Engine, Outcome), CommandError> {
        let backbone = options.open(precision)?;
        let mut tasks = Vec::new();
        for wanted in std::mem::take(&mut self.wanted) {
            match LoadedTask::open_with(&wanted, weights, backbone.info(), self.segmentation) {
                Ok(task) => {
                    tracing::info!(
                        "{}: {} with {}",
                        task.name(),
                        task.library.display(),
                        task.weights.display()
                    );
                    tasks.push(task);
                }
                Err(e) => self.refuse(&e, console),
            }
        }
        Ok((Engine::new(backbone, precision, tasks), self.outcome))
    }

    /// Whether any was refused.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }
}
