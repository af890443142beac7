//! The backbone and the tasks of a command: all of them opened, or refused, before any scan is read.

use super::console::Console;
use super::options::BackboneOptions;
use super::outcome::{CommandError, Outcome};
use crate::backbone::Precision;
use crate::engine::{Engine, LoadedTask};
use crate::plugin::find::{self, Choice};
use crate::plugin::{PluginError, inspect};
use std::path::{Path, PathBuf};

/// Plugins whose manifest was read; none of their code has run.
pub(super) struct Chosen {
    libraries: Vec<PathBuf>,
    outcome: Outcome,
    segmentation: bool,
}

/// Reads every plugin's manifest: what is refused here costs no opening of the backbone.
///
/// # Errors
/// When two of them have one name, or none is left.
pub(super) fn choose(plugins: &[String], console: &Console) -> Result<Chosen, CommandError> {
    choose_with(plugins, &Choice::default(), console)
}

/// The same, with a lock file of one's own, or withdrawn versions.
///
/// # Errors
/// As [`choose`].
pub(super) fn choose_with(
    plugins: &[String],
    choice: &Choice,
    console: &Console,
) -> Result<Chosen, CommandError> {
    let mut chosen = Chosen { libraries: Vec::new(), outcome: Outcome::Done, segmentation: false };
    let mut names: Vec<String> = Vec::new();
    for wanted in plugins {
        let name = || -> Result<(String, PathBuf), PluginError> {
            let library = find::library_with(wanted, choice)?;
            Ok((inspect(&library)?.0.manifest.plugin.name, library))
        };
        match name() {
            Ok((name, _)) if names.contains(&name) => {
                let message =
                    format!("--plugin {wanted}: a plugin called {name} is given already; give each once");
                return Err(CommandError::usage(message));
            }
            Ok((name, library)) => {
                names.push(name);
                chosen.libraries.push(library);
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
        self.libraries.is_empty()
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
        for library in std::mem::take(&mut self.libraries) {
            match LoadedTask::open_found(&library, weights, backbone.info(), self.segmentation) {
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
