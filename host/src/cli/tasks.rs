//! The backbone and the tasks of a command: all of them opened, or refused, before any scan is read.

use super::console::Console;
#[cfg(unix)]
use super::isolate::{Apart, Limits, Opening};
use super::naming::Names;
use super::options::BackboneOptions;
use super::outcome::{CommandError, Outcome};
use super::seat::{Seat, Seated, Who};
use crate::backbone::Precision;
use crate::engine::{Engine, LoadedTask};
use crate::plugin::find::{self, Choice};
use crate::plugin::{PluginError, inspect};
use std::path::Path;

/// Plugins whose manifest was read; none of their code has run.
pub(super) struct Chosen {
    plugins: Vec<Seated>,
    choice: Choice,
    outcome: Outcome,
    segmentation: bool,
}

/// Reads every plugin's manifest: what is refused here costs no opening of the backbone.
///
/// # Errors
/// When two of them have one name, or none is left.
pub(super) fn choose(plugins: &[String], choice: Choice, console: &Console) -> Result<Chosen, CommandError> {
    let mut chosen = Chosen { plugins: Vec::new(), choice, outcome: Outcome::Done, segmentation: false };
    for wanted in plugins {
        let seated = || -> Result<Seated, PluginError> {
            let library = find::library_with(wanted, &chosen.choice)?;
            let manifest = inspect(&library)?.0.manifest;
            Ok(Seated { wanted: wanted.clone(), library, manifest })
        };
        match seated() {
            Ok(new) if chosen.plugins.iter().any(|p| p.manifest.plugin.name == new.manifest.plugin.name) => {
                let name = &new.manifest.plugin.name;
                let message =
                    format!("--plugin {wanted}: a plugin called {name} is given already; give each once");
                return Err(CommandError::usage(message));
            }
            Ok(new) => chosen.plugins.push(new),
            Err(e) => chosen.refuse(&e, console),
        }
    }
    Ok(chosen)
}

impl Chosen {
    fn refuse(&mut self, why: &dyn std::fmt::Display, console: &Console) {
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
        self.plugins.is_empty()
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
        for Seated { library, .. } in std::mem::take(&mut self.plugins) {
            match LoadedTask::open_found(&library, weights, &backbone, self.segmentation) {
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

    /// [`Self::open`], with what a run keeps of its plugins.
    ///
    /// # Errors
    /// As there.
    pub fn open_here(
        self,
        weights: Option<&Path>,
        options: &BackboneOptions,
        precision: Precision,
        console: &Console,
    ) -> Result<(Seat, Outcome), CommandError> {
        let (mut plugins, choice, segmentation) =
            (self.plugins.clone(), self.choice.clone(), self.segmentation);
        let (engine, outcome) = self.open(weights, options, precision, console)?;
        plugins.retain(|p| engine.tasks().iter().any(|t| t.name() == p.manifest.plugin.name));
        let weights = weights.map(Path::to_owned);
        let (names, who) = (Names::default(), Who::Here(Box::new(engine)));
        Ok((Seat { plugins, choice, weights, segmentation, names, who }, outcome))
    }

    /// The same in a process of their own: no code of a plugin runs in this one.
    ///
    /// # Errors
    /// When the backbone is refused, or there can be no such process.
    #[cfg(unix)]
    pub fn open_apart(
        mut self,
        weights: Option<&Path>,
        options: &BackboneOptions,
        precision: Precision,
        (limits, max_memory, micro_ct): (Limits, Option<u64>, bool),
        console: &Console,
    ) -> Result<(Seat, Outcome), CommandError> {
        let all = std::mem::take(&mut self.plugins);
        let opening = Opening {
            plugins: all.iter().map(|p| p.library.clone()).enumerate().collect(),
            weights: weights.map(Path::to_owned),
            backbone: options.backbone.clone(),
            device: options.device.to_string(),
            device_memory: options.most,
            bf16: precision == Precision::Bf16,
            threads: options.threads.number(),
            segmentation: self.segmentation,
            max_memory,
            micro_ct,
        };
        let names = all.iter().map(|p| p.manifest.plugin.name.clone()).enumerate().collect();
        let (apart, refused) = Apart::open(opening, names, limits, console).map_err(CommandError::refused)?;
        refused.iter().for_each(|(_, why)| self.refuse(why, console));
        let indices = apart.tasks();
        let plugins =
            all.into_iter().enumerate().filter(|(i, _)| indices.contains(i)).map(|(_, p)| p).collect();
        let who = Who::Apart(Box::new(apart), indices);
        let weights = weights.map(Path::to_owned);
        let Self { choice, segmentation, outcome, .. } = self;
        let names = Names::default();
        Ok((Seat { plugins, choice, weights, segmentation, names, who }, outcome))
    }

    /// Whether any was refused.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }
}
