//! An engine in a child process that keeps running whatever its plugins do. If a plugin ends the process, the session
//! starts it again, names the plugin, leaves it out for the rest of the run and runs the others.
//!
//! Plugins share a process (and so a backbone, slices and frozen blocks) as long as no process ends. The plugin that was
//! running when a process ended is only a suspect, because a thread of another plugin may have caused the end. The
//! session runs the suspect again in a separate process, and leaves it out if that process ends too, or, where the limits
//! allow a plugin several faults, once it has ended so many in a row without an answer between them.

use super::process::{ExitReason, Process, SpawnWorker};
use super::wire::{ChosenLibrary, Event, OpenRequest, Request};
use crate::engine::{Case, Holdings, Stage};
use crate::output::ResultWriter;
use crate::run::events::{Events, Notice};
use crate::run::failure::{Blame, CaseFailure};
use crate::run::identity::{ReferenceSummary, TaskIdentity};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a plugin may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For being opened, and for its turn at a case.
    pub time: Duration,
    /// How many cases in a row, with no answer between them, may end its process before it is left out for the rest of the
    /// session; 1 leaves it out after the first.
    pub faults: u32,
}

/// How long opening the backbone may take; no plugin's code runs meanwhile.
const BACKBONE: Duration = Duration::from_secs(600);
/// How often a plugin that is alone in its process may end it between two cases before it is left out.
const STRIKES: u32 = 3;

/// A task's answer as text, or why it has none.
pub type Answer = Result<String, CaseFailure>;

/// Plugins that share a process.
pub(super) struct Group {
    pub(super) plugins: Vec<ChosenLibrary>,
    pub(super) process: Option<Process>,
}

impl Group {
    pub(super) fn new(plugins: Vec<ChosenLibrary>) -> Self {
        Self { plugins, process: None }
    }

    pub(super) fn leave_out(&mut self, task: usize) {
        self.plugins.retain(|p| p.task != task);
    }
}

/// An engine whose plugins are in processes of their own: one for all of them, and one for each suspect.
pub struct IsolatedEngine {
    /// For every process; its own plugins are filled in.
    opening: OpenRequest,
    names: BTreeMap<usize, String>,
    /// What the process said of each plugin that it opened.
    pub(super) identities: BTreeMap<usize, (TaskIdentity, Option<ReferenceSummary>)>,
    limits: Limits,
    spawn: Arc<SpawnWorker>,
    pub(super) groups: Vec<Group>,
    /// Why a plugin is left out, by its index.
    pub(super) quarantined: BTreeMap<usize, String>,
    /// How often a plugin's own process ended for no visible fault of it.
    pub(super) strikes: BTreeMap<usize, u32>,
    /// How many cases in a row a plugin ended its process at.
    pub(super) faults: BTreeMap<usize, u32>,
    /// Where the memory of the process went that was started last.
    pub(super) holdings: Vec<Holdings>,
}

/// How opening went for one plugin: refused, with the reason.
pub type Refusal = (usize, String);

/// Where a process was when nothing more came: whose turn, and how far that had come.
pub(super) type At = Option<(usize, Stage)>;

impl IsolatedEngine {
    /// Opens the plugins in a child process. Refused plugins are reported and left out.
    ///
    /// # Errors
    /// When no engine can be opened: the backbone or the system refuses.
    pub fn open(
        mut opening: OpenRequest,
        names: BTreeMap<usize, String>,
        limits: Limits,
        spawn: Arc<SpawnWorker>,
    ) -> Result<(Self, Vec<Refusal>), String> {
        let groups = vec![Group::new(std::mem::take(&mut opening.plugins))];
        let mut engine = Self {
            opening,
            names,
            identities: BTreeMap::new(),
            limits,
            spawn,
            groups,
            quarantined: BTreeMap::new(),
            strikes: BTreeMap::new(),
            faults: BTreeMap::new(),
            holdings: Vec::new(),
        };
        let refused = engine.start(0)?;
        Ok((engine, refused))
    }

    /// Starts a group's process, as often as plugins end it while they are opened. None is left of a group whose plugins
    /// are all refused.
    pub(super) fn start(&mut self, group: usize) -> Result<Vec<Refusal>, String> {
        let mut refused = Vec::new();
        while !self.groups[group].plugins.is_empty() {
            let mut process = Process::start(&*self.spawn)?;
            let plugins = self.groups[group].plugins.clone();
            process.send(&Request::Open(OpenRequest { plugins, ..self.opening.clone() }));
            let (mut current, mut backbone) = (None, String::new());
            let mut until = Instant::now() + BACKBONE;
            let end = loop {
                match process.receive::<Event>(until) {
                    Ok(Event::Backbone(name)) => {
                        (current, backbone) = (None, name);
                        until = Instant::now() + BACKBONE;
                    }
                    Ok(Event::TaskOpening(task)) => {
                        current = Some(task);
                        until = Instant::now() + self.limits.time;
                    }
                    Ok(Event::Opened { task, identity, reference }) => {
                        self.identities.insert(task, (identity, reference));
                        current = None;
                    }
                    Ok(Event::Refused { task, error }) => {
                        current = None;
                        self.groups[group].leave_out(task);
                        refused.push((task, error));
                    }
                    Ok(Event::Ready(holdings)) => {
                        self.holdings = holdings;
                        self.groups[group].process = Some(process);
                        return Ok(refused);
                    }
                    Ok(Event::Fatal(error)) => return Err(error),
                    Ok(_) => {}
                    Err(end) => break end,
                }
            };
            let Some(task) = current else {
                let room = self.opening.max_memory.map_or(String::new(), |bytes| {
                    format!("; does its limit of {} MiB leave it room? (--max-memory)", bytes >> 20)
                });
                let how = without_blame(&end);
                return Err(match backbone.is_empty() {
                    true => format!("the engine's process {how} before any plugin was opened{room}"),
                    false => format!("the engine's process {how} while backbone {backbone} was opened{room}"),
                });
            };
            self.groups[group].leave_out(task);
            refused.push((task, format!("plugin {}: while it was opened, it {end}", self.name(task))));
        }
        Ok(refused)
    }

    pub(super) fn name(&self, task: usize) -> &str {
        self.names.get(&task).map_or("?", String::as_str)
    }

    /// The plugins that answer or are quarantined, by index.
    pub fn tasks(&self) -> Vec<usize> {
        let mut tasks: Vec<usize> = self.groups.iter().flat_map(|g| &g.plugins).map(|p| p.task).collect();
        tasks.extend(self.quarantined.keys());
        tasks.sort_unstable();
        tasks
    }

    /// The processes that run now.
    pub fn processes(&self) -> Vec<u32> {
        self.groups.iter().filter_map(|group| Some(group.process.as_ref()?.id())).collect()
    }

    /// Where the memory of the plugins' process went, by backbone.
    pub fn holdings(&self) -> &[Holdings] {
        &self.holdings
    }

    /// What computes a plugin's answers.
    ///
    /// # Panics
    /// Of a plugin that was never opened.
    pub fn identity(&self, task: usize) -> TaskIdentity {
        self.identities[&task].0.clone()
    }

    /// The training cases that a plugin's answers are compared with.
    pub fn reference(&self, task: usize) -> Option<ReferenceSummary> {
        self.identities.get(&task)?.1
    }

    /// The answers to a case of the tasks that are named by index. Their files are in `folder`, in a folder each that is
    /// named by the index.
    pub fn answer(
        &mut self,
        (case, asked): (&Case, &[usize]),
        writers: &[Arc<dyn ResultWriter>],
        folder: Option<&Path>,
        events: &dyn Events,
    ) -> BTreeMap<usize, Answer> {
        let mut answers: BTreeMap<usize, Answer> = BTreeMap::new();
        for (task, why) in &self.quarantined {
            answers.insert(*task, Err(CaseFailure::of_task(why.clone())));
        }
        // Groups may become more while this goes on.
        let mut group = 0;
        while group < self.groups.len() {
            let all = self.groups[group].plugins.iter().map(|p| p.task);
            let left: Vec<usize> =
                all.filter(|task| asked.contains(task) && !answers.contains_key(task)).collect();
            if left.is_empty() {
                group += 1;
                continue;
            }
            if let Err(message) = self.running(group, events, &mut answers) {
                for task in left {
                    answers.insert(task, Err(CaseFailure::of_task(message.clone())));
                }
                continue;
            }
            let Some(mut process) = self.groups[group].process.take() else { continue };
            if let Some(folder) = folder {
                // What an earlier process had begun.
                left.iter().for_each(|task| drop(std::fs::remove_dir_all(folder.join(task.to_string()))));
            }
            let folder = folder.map(Path::to_owned);
            let writers = writers.iter().map(|writer| writer.spec()).collect();
            process.send(&Request::Case { case: case.clone(), tasks: left, writers, folder });
            match self.turns(&mut process, &mut answers, events) {
                Ok(()) => self.groups[group].process = Some(process),
                Err((end, at)) => self.attribute_failure(group, &end, at, &case.name, &mut answers, events),
            }
        }
        self.faults.retain(|task, _| !answers.get(task).is_some_and(Result::is_ok));
        self.groups.retain(|g| !g.plugins.is_empty());
        // A scan that ends every process says nothing of the plugins.
        if self.groups.len() > 1
            && answers.values().all(|a| a.as_ref().is_err_and(|f| f.blame == Blame::Scan))
        {
            let plugins = self.groups.drain(..).flat_map(|g| g.plugins).collect();
            self.groups.push(Group::new(plugins));
        }
        answers
    }

    /// A group's process has ended: whose fault is it? Whoever is left without an answer is asked again.
    fn attribute_failure(
        &mut self,
        group: usize,
        end: &ExitReason,
        at: At,
        case: &str,
        answers: &mut BTreeMap<usize, Answer>,
        events: &dyn Events,
    ) {
        let first = self.groups[group].plugins.first().map(|p| p.task);
        let alone = self.groups[group].plugins.len() == 1;
        let slow = *end == ExitReason::TimedOut;
        match at {
            Some((task, stage)) if stage.is_plugins() && (alone || slow) => {
                let message = format!("plugin {}: {stage}: {end}", self.name(task));
                let faults = self.faults.entry(task).or_default();
                *faults += 1;
                let (faults, most) = (*faults, self.limits.faults);
                if faults >= most {
                    self.quarantine(task, &message, case, events);
                } else {
                    let (plugin, reason) = (self.name(task).to_owned(), message.clone());
                    events.notice(&Notice::Fault { plugin, reason, faults, most });
                    if !alone {
                        self.separate(group, Some(task));
                    }
                }
                answers.insert(task, Err(CaseFailure::of_task(message)));
            }
            Some((task, stage)) if stage.is_plugins() => {
                let name = self.name(task);
                let (plugin, reason) = (name.to_owned(), end.to_string());
                events.notice(&Notice::Separated { plugin, stage, reason });
                self.separate(group, Some(task));
            }
            _ if !alone && (!slow || at.is_none()) => self.separate(group, None),
            Some((task, Stage::Scan)) => {
                let message = format!("the engine's process {} while the scan was read", without_blame(end));
                answers.insert(task, Err(CaseFailure::of_scan(message)));
            }
            other => {
                let Some(task) = other.map(|(task, _)| task).or(first) else { return };
                let place = other.map_or("between two turns".to_owned(), |(_, stage)| format!("in {stage}"));
                let message = format!(
                    "plugin {}: its process {} {place}, where no code of it was called",
                    self.name(task),
                    without_blame(end)
                );
                // Before it was asked: it is started once more, a few times.
                let idle = other.is_none() && !slow;
                let strikes = self.strikes.entry(task).or_default();
                *strikes += u32::from(idle);
                let often = *strikes >= STRIKES;
                if idle && often {
                    self.quarantine(task, &message, case, events);
                }
                if !idle || often {
                    answers.insert(task, Err(CaseFailure::of_task(message)));
                }
            }
        }
    }

    fn quarantine(&mut self, task: usize, message: &str, case: &str, events: &dyn Events) {
        let why = format!("{message}, in case {case}; it is left out for the rest of the run");
        let (plugin, reason) = (self.name(task).to_owned(), why.clone());
        events.notice(&Notice::Quarantined { plugin, reason });
        self.groups.iter_mut().for_each(|g| g.leave_out(task));
        self.quarantined.insert(task, why);
    }

    /// Gives one plugin of a group a process of its own, or each.
    fn separate(&mut self, group: usize, task: Option<usize>) {
        let all = std::mem::take(&mut self.groups[group].plugins);
        let (apart, together): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|p| task.is_none_or(|task| task == p.task));
        self.groups[group].plugins = together;
        self.groups.extend(apart.into_iter().map(|plugin| Group::new(vec![plugin])));
    }

    /// Makes sure that there is a process; plugins that cannot be opened any more are quarantined.
    fn running(
        &mut self,
        group: usize,
        events: &dyn Events,
        answers: &mut BTreeMap<usize, Answer>,
    ) -> Result<(), String> {
        if self.groups[group].process.is_some() {
            return Ok(());
        }
        for (task, why) in self.start(group)? {
            let (plugin, reason) = (self.name(task).to_owned(), why.clone());
            events.notice(&Notice::Refused { plugin, reason });
            answers.insert(task, Err(CaseFailure::of_task(why.clone())));
            self.quarantined.insert(task, why);
        }
        Ok(())
    }

    /// Listens until the case is done, or the process is; then whose turn it was, and how far that had come.
    pub(super) fn turns(
        &self,
        process: &mut Process,
        answers: &mut BTreeMap<usize, Answer>,
        events: &dyn Events,
    ) -> Result<(), (ExitReason, At)> {
        let mut at: At = None;
        let mut until = Instant::now() + self.limits.time;
        loop {
            match process.receive::<Event>(until) {
                Ok(Event::At { task, stage }) => {
                    if at.is_none_or(|(before, _)| before != task) {
                        until = Instant::now() + self.limits.time;
                    }
                    events.stage(self.name(task), stage);
                    at = Some((task, stage));
                }
                Ok(Event::Answered(answered)) => {
                    answers.insert(answered.task, Ok(answered.json));
                    at = None;
                }
                Ok(Event::Failed { task, failure }) => {
                    answers.insert(task, Err(failure));
                    at = None;
                }
                Ok(Event::CaseDone(passes)) => {
                    events.passes(passes);
                    return Ok(());
                }
                Ok(_) => {}
                Err(end) => return Err((end, at)),
            }
        }
    }

    /// Lets the processes end; one that does not do so in peace is told, for all answers are there already.
    pub fn close(&mut self, events: &dyn Events) {
        for process in self.groups.iter_mut().filter_map(|g| g.process.take()) {
            if let Some(how) = process.end() {
                events.notice(&Notice::ProcessEnded { reason: how });
            }
        }
    }
}

/// The same words where no plugin is the subject.
fn without_blame(end: &ExitReason) -> String {
    match end {
        ExitReason::TimedOut => "took longer than the time limit and was killed".to_owned(),
        ExitReason::Exited(how) => format!("ended ({how})"),
    }
}
