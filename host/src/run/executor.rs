//! Who computes a session's answers: engines in this process, one per backbone, or engines in processes of their own.

use super::answer::{CaseOutput, Computed, Wanted};
use super::events::{Events, Notice};
use super::failure::CaseFailure;
use super::identity::{ReferenceSummary, TaskIdentity};
#[cfg(unix)]
use super::isolate::{ChosenLibrary, IsolatedEngine};
#[cfg(unix)]
use super::named_backbone::backbone_of;
use super::placing::Placing;
use crate::engine::{Case, Engine, Holdings, Prediction};
use crate::output::OutputFolder;
use crate::output::naming::Names;
use crate::plugin::Inspected;
use crate::task::{InferenceOptions, LoadedTask};
use std::path::PathBuf;
use std::sync::Arc;

/// Computes the answers of a session's plugins, in the order of the plugins.
pub trait Executor {
    /// The answers to a case of the plugins that `tasks` names by index, in that order.
    fn run(
        &mut self,
        case: &Case,
        tasks: &[usize],
        wanted: Wanted<'_>,
        events: &dyn Events,
    ) -> Vec<Result<CaseOutput, CaseFailure>>;

    /// As [`Self::run`], where files can be written later: what this gives writes them, on any thread.
    fn compute(&mut self, case: &Case, tasks: &[usize], wanted: Wanted<'_>, events: &dyn Events) -> Computed {
        Computed::Placed(self.run(case, tasks, wanted, events))
    }

    /// Begins to read and slice a case that will be asked for, beside what is computed until then.
    fn prefetch(&self, case: &Case) {
        let _ = case;
    }

    /// How many cases are worth prefetching.
    fn prefetch_depth(&self) -> usize {
        0
    }

    /// What computes each plugin's answers.
    fn identities(&self) -> Vec<TaskIdentity>;

    /// The training cases that each plugin's answers are compared with.
    fn references(&self) -> Vec<Option<ReferenceSummary>>;

    /// Replaces a plugin by another build.
    ///
    /// # Errors
    /// One line, when the build is refused.
    fn reload(&mut self, index: usize, library: Inspected, events: &dyn Events) -> Result<(), String>;

    /// Where memory goes that stays, an entry per backbone.
    fn holdings(&self) -> Vec<Holdings> {
        Vec::new()
    }

    /// The plugins' processes, where they are in processes of their own.
    fn processes(&self) -> Vec<u32> {
        Vec::new()
    }

    /// The engines, where they are in this process.
    fn engines(&mut self) -> &mut [Engine] {
        &mut []
    }

    /// Lets the plugins go.
    fn close(self: Box<Self>, events: &dyn Events);
}

/// The engines of a session, one per backbone.
pub struct Engines {
    /// In the order in which the plugins name their backbones.
    pub all: Vec<Engine>,
    /// Of each plugin its engine, and its task there.
    pub(super) places: Vec<(usize, usize)>,
}

impl Engines {
    /// The engine of a session's plugin, and the index of its task there.
    ///
    /// # Panics
    /// Where there is no plugin of that index.
    pub fn of_plugin(&self, index: usize) -> (&Engine, usize) {
        let (engine, task) = self.places[index];
        (&self.all[engine], task)
    }
}

/// Engines in this process.
pub struct LocalExecutor {
    pub(super) engines: Engines,
    pub(super) weights: Vec<PathBuf>,
    pub(super) inference: InferenceOptions,
    /// Of answers that are written nowhere.
    pub(super) names: Names,
}

impl Executor for LocalExecutor {
    fn run(
        &mut self,
        case: &Case,
        asked: &[usize],
        wanted: Wanted<'_>,
        events: &dyn Events,
    ) -> Vec<Result<CaseOutput, CaseFailure>> {
        let mut placing = Placing { case, wanted, names: &mut self.names, events };
        predict(&self.engines, case, asked, wanted, events, |prediction| placing.record(prediction))
    }

    fn compute(&mut self, case: &Case, asked: &[usize], wanted: Wanted<'_>, events: &dyn Events) -> Computed {
        // Beside another case there may be too little memory for what a case keeps until it is written.
        if wanted.output.is_none() || self.engines.all.iter().any(Engine::is_capped) {
            return Computed::Placed(self.run(case, asked, wanted, events));
        }
        Computed::Predicted(predict(&self.engines, case, asked, wanted, events, Ok))
    }

    fn prefetch(&self, case: &Case) {
        self.engines.all.iter().for_each(|engine| engine.prefetch(case));
    }

    fn prefetch_depth(&self) -> usize {
        self.engines.all.iter().map(Engine::prefetch_depth).min().unwrap_or(0)
    }

    fn identities(&self) -> Vec<TaskIdentity> {
        let of = |&(engine, task): &(usize, usize)| {
            let engine = &self.engines.all[engine];
            TaskIdentity::of(&engine.tasks()[task], engine.backbone(), engine.precision())
        };
        self.engines.places.iter().map(of).collect()
    }

    fn references(&self) -> Vec<Option<ReferenceSummary>> {
        let of =
            |&(engine, task): &(usize, usize)| ReferenceSummary::of(&self.engines.all[engine].tasks()[task]);
        self.engines.places.iter().map(of).collect()
    }

    fn reload(&mut self, index: usize, library: Inspected, events: &dyn Events) -> Result<(), String> {
        let (engine, task) = self.engines.places[index];
        let engine = &mut self.engines.all[engine];
        let next = LoadedTask::open_all(library, &self.weights, engine.backbone(), self.inference)
            .map_err(|e| e.to_string())?;
        let old = engine.replace(task, next);
        // The last user lets go of a generation: what its Drop says is told.
        if let Some(Err(e)) = Arc::into_inner(old).map(|old| old.task.close()) {
            events.notice(&Notice::CloseFailed { reason: e.to_string() });
        }
        Ok(())
    }

    fn holdings(&self) -> Vec<Holdings> {
        self.engines.all.iter().map(Engine::holds).collect()
    }

    fn engines(&mut self) -> &mut [Engine] {
        &mut self.engines.all
    }

    fn close(self: Box<Self>, _: &dyn Events) {}
}

/// What `each` makes of the answers to a case of the plugins that `asked` names, as soon as each is there.
fn predict<T>(
    engines: &Engines,
    case: &Case,
    asked: &[usize],
    wanted: Wanted<'_>,
    events: &dyn Events,
    mut each: impl FnMut(Prediction) -> Result<T, CaseFailure>,
) -> Vec<Result<T, CaseFailure>> {
    let places = &engines.places;
    let mut answers: Vec<Option<_>> = asked.iter().map(|_| None).collect();
    for (number, engine) in engines.all.iter().enumerate() {
        let tasks = engine.tasks();
        let here: Vec<usize> =
            asked.iter().map(|&i| places[i]).filter(|place| place.0 == number).map(|place| place.1).collect();
        if here.is_empty() {
            continue;
        }
        let mut answered = Vec::new();
        engine.predict_each(
            case,
            wanted.evidence(),
            &here,
            |task, stage| events.stage(tasks[task].name(), stage),
            |task, answer| {
                answered.extend(answer.is_ok().then_some(task));
                let answer = answer.map_err(CaseFailure::from).and_then(&mut each);
                if let Some(at) = asked.iter().position(|&i| places[i] == (number, task)) {
                    answers[at] = Some(answer);
                }
            },
        );
        events.passes(engine.passes(case, wanted.evidence(), &answered));
    }
    let lost = || Err(CaseFailure::of_task("no answer came"));
    answers.into_iter().map(|answer| answer.unwrap_or_else(lost)).collect()
}

/// Engines in processes of their own: one for all plugins, and one for each suspect.
#[cfg(unix)]
pub struct IsolatedExecutor {
    pub(super) engine: IsolatedEngine,
    /// Index of each of the session's plugins among those that were given to open.
    pub(super) tasks: Vec<usize>,
    /// Backbone of all plugins, where one was given.
    pub(super) backbone: Option<String>,
    pub(super) weights: Vec<PathBuf>,
    /// Of answers that are written nowhere.
    pub(super) names: Names,
}

#[cfg(unix)]
impl Executor for IsolatedExecutor {
    fn run(
        &mut self,
        case: &Case,
        asked: &[usize],
        wanted: Wanted<'_>,
        events: &dyn Events,
    ) -> Vec<Result<CaseOutput, CaseFailure>> {
        let asked: Vec<usize> = asked.iter().map(|i| self.tasks[*i]).collect();
        let scratch = match wanted.output.map(OutputFolder::scratch).transpose() {
            Ok(scratch) => scratch,
            Err(message) => {
                return asked.iter().map(|_| Err(CaseFailure::of_output(message.clone()))).collect();
            }
        };
        let folder = scratch.as_ref().map(|s| s.path().to_owned());
        let mut answers = self.engine.answer((case, &asked), wanted.writers, folder.as_deref(), events);
        let mut placing = Placing { case, wanted, names: &mut self.names, events };
        let took = |task: &usize| match answers.remove(task) {
            Some(Ok(json)) => {
                let files = folder.as_ref().map(|f| f.join(task.to_string()));
                placing.take(&json, files.as_deref())
            }
            Some(Err(failure)) => Err(failure),
            None => Err(CaseFailure::of_task("no answer came")),
        };
        asked.iter().map(took).collect()
    }

    fn identities(&self) -> Vec<TaskIdentity> {
        self.tasks.iter().map(|task| self.engine.identity(*task)).collect()
    }

    fn references(&self) -> Vec<Option<ReferenceSummary>> {
        self.tasks.iter().map(|task| self.engine.reference(*task)).collect()
    }

    fn reload(&mut self, index: usize, library: Inspected, events: &dyn Events) -> Result<(), String> {
        let backbone = backbone_of(&library, self.backbone.as_deref(), &self.weights);
        let manifest = library.manifest().clone();
        let Inspected { path, sha256, .. } = library;
        let library = ChosenLibrary { task: self.tasks[index], path, sha256, backbone };
        self.engine.reload(library, &manifest, events)
    }

    fn holdings(&self) -> Vec<Holdings> {
        self.engine.holdings().to_vec()
    }

    fn processes(&self) -> Vec<u32> {
        self.engine.processes()
    }

    fn close(mut self: Box<Self>, events: &dyn Events) {
        self.engine.close(events);
    }
}
