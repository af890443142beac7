//! An engine in a process of its own, kept running whatever its plugins do: the process is started again, the plugin
//! that ended it is named and left out for the rest of the run, the others answer.

use super::process::{End, Process};
use super::wire::{Ask, Opening, Said};
use crate::cli::console::Console;
use crate::engine::{Case, Stage};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// What a plugin may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For being opened, and for its turn at a case.
    pub time: Duration,
}

/// How long opening the backbone may take; no plugin's code runs meanwhile.
const BACKBONE: Duration = Duration::from_secs(600);
/// How often a process that ends between two turns, for no plugin's visible fault, is started again within a case.
const UNEXPLAINED: usize = 2;

/// A task's answer as text, or its fault.
pub type Answer = Result<String, Fault>;

/// Why a task has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// One line.
    pub message: String,
    /// The scan is why.
    pub scan: bool,
}

/// An engine in a process of its own.
pub struct Apart {
    opening: Opening,
    names: BTreeMap<usize, String>,
    limits: Limits,
    process: Option<Process>,
    /// Why a plugin is left out, by its index.
    quarantined: BTreeMap<usize, String>,
}

/// How opening went for one plugin: refused, with the reason.
pub type Refusal = (usize, String);

impl Apart {
    /// Opens the plugins in a process of their own. Those that are refused are told and left out.
    ///
    /// # Errors
    /// When no engine can be had at all: the backbone, the system.
    pub fn open(
        opening: Opening,
        names: BTreeMap<usize, String>,
        limits: Limits,
        console: &Console,
    ) -> Result<(Self, Vec<Refusal>), String> {
        let mut apart = Self { opening, names, limits, process: None, quarantined: BTreeMap::new() };
        let refused = apart.start(console)?;
        Ok((apart, refused))
    }

    /// Starts the process, as often as plugins end it while they are opened.
    fn start(&mut self, console: &Console) -> Result<Vec<Refusal>, String> {
        let mut refused = Vec::new();
        while !self.opening.plugins.is_empty() {
            let mut process = Process::start(console)?;
            process.send(&Ask::Open(self.opening.clone()));
            let mut current = None;
            let mut until = Instant::now() + BACKBONE;
            let end = loop {
                match process.receive::<Said>(until) {
                    Ok(Said::Opening(task)) => {
                        current = Some(task);
                        until = Instant::now() + self.limits.time;
                    }
                    Ok(Said::Opened(_)) => current = None,
                    Ok(Said::Refused { task, error }) => {
                        current = None;
                        self.leave_out(task);
                        refused.push((task, error));
                    }
                    Ok(Said::Ready) => {
                        self.process = Some(process);
                        return Ok(refused);
                    }
                    Ok(Said::Hopeless(error)) => return Err(error),
                    Ok(_) => {}
                    Err(end) => break end,
                }
            };
            let Some(task) = current else {
                return Err(format!("the engine's process {}", without_blame(&end)));
            };
            self.leave_out(task);
            refused.push((task, format!("plugin {}: while it was opened, it {end}", self.name(task))));
        }
        Ok(refused)
    }

    fn leave_out(&mut self, task: usize) {
        self.opening.plugins.retain(|(i, _)| *i != task);
    }

    fn name(&self, task: usize) -> &str {
        self.names.get(&task).map_or("?", String::as_str)
    }

    /// The plugins that answer or are quarantined, by index.
    pub fn tasks(&self) -> Vec<usize> {
        let mut tasks: Vec<usize> = self.opening.plugins.iter().map(|(i, _)| *i).collect();
        tasks.extend(self.quarantined.keys());
        tasks.sort_unstable();
        tasks
    }

    /// Every task's answer to a case, by index. Their files are in `folder`, in a folder each that is named by the index.
    pub fn answer(
        &mut self,
        case: &Case,
        heatmap: bool,
        folder: Option<&Path>,
        console: &Console,
    ) -> BTreeMap<usize, Answer> {
        let mut answers: BTreeMap<usize, Answer> = BTreeMap::new();
        for (task, why) in &self.quarantined {
            answers.insert(*task, Err(Fault { message: why.clone(), scan: false }));
        }
        let mut unexplained = 0;
        loop {
            let left: Vec<usize> =
                self.tasks().into_iter().filter(|task| !answers.contains_key(task)).collect();
            if left.is_empty() {
                return answers;
            }
            let fail_all = |answers: &mut BTreeMap<usize, Answer>, message: &str, scan: bool| {
                for task in &left {
                    answers.insert(*task, Err(Fault { message: message.to_owned(), scan }));
                }
            };
            if let Err(message) = self.running(console, &mut answers) {
                fail_all(&mut answers, &message, false);
                return answers;
            }
            let Some(mut process) = self.process.take() else { continue };
            if let Some(folder) = folder {
                // What an earlier process had begun.
                left.iter().for_each(|task| drop(std::fs::remove_dir_all(folder.join(task.to_string()))));
            }
            process.send(&Ask::Case {
                case: case.clone(),
                tasks: left.clone(),
                heatmap,
                folder: folder.map(Path::to_owned),
            });
            match self.turns(&mut process, &mut answers) {
                Ok(()) => self.process = Some(process),
                Err((end, None)) => {
                    unexplained += 1;
                    let message = format!(
                        "the engine's process {} between two plugins' turns; a thread that one of them left running may be why",
                        without_blame(&end)
                    );
                    console.warning(&message);
                    if unexplained >= UNEXPLAINED {
                        fail_all(&mut answers, &message, false);
                    }
                }
                Err((end, Some((_, Stage::Scan)))) => {
                    let while_reading =
                        format!("the engine's process {} while the scan was read", without_blame(&end));
                    fail_all(&mut answers, &while_reading, true);
                }
                Err((end, Some((task, stage)))) => {
                    let name = self.name(task).to_owned();
                    let message = if stage.is_plugins() {
                        let message = format!("plugin {name}: {stage}: {end}");
                        let case = &case.name;
                        let why =
                            format!("{message}, in case {case}; it is left out for the rest of the run");
                        console.warning(&why);
                        self.leave_out(task);
                        self.quarantined.insert(task, why);
                        message
                    } else {
                        format!(
                            "plugin {name}: the engine's process {} in {stage}, at this plugin's turn",
                            without_blame(&end)
                        )
                    };
                    answers.insert(task, Err(Fault { message, scan: false }));
                }
            }
        }
    }

    /// Makes sure that there is a process; plugins that cannot be opened any more are quarantined.
    fn running(&mut self, console: &Console, answers: &mut BTreeMap<usize, Answer>) -> Result<(), String> {
        if self.process.is_some() {
            return Ok(());
        }
        for (task, why) in self.start(console)? {
            console.warning(&why);
            answers.insert(task, Err(Fault { message: why.clone(), scan: false }));
            self.quarantined.insert(task, why);
        }
        Ok(())
    }

    /// Listens until the case is done, or the process is; then whose turn it was, and how far that had come.
    fn turns(
        &self,
        process: &mut Process,
        answers: &mut BTreeMap<usize, Answer>,
    ) -> Result<(), (End, Option<(usize, Stage)>)> {
        let mut at: Option<(usize, Stage)> = None;
        let mut until = Instant::now() + self.limits.time;
        loop {
            match process.receive::<Said>(until) {
                Ok(Said::At { task, stage }) => {
                    if at.is_none_or(|(before, _)| before != task) {
                        until = Instant::now() + self.limits.time;
                    }
                    at = Some((task, stage));
                }
                Ok(Said::Answered(answered)) => {
                    answers.insert(answered.task, Ok(answered.json));
                    at = None;
                }
                Ok(Said::Failed { task, error, scan }) => {
                    answers.insert(task, Err(Fault { message: error, scan }));
                    at = None;
                }
                Ok(Said::CaseDone) => return Ok(()),
                Ok(_) => {}
                Err(end) => return Err((end, at)),
            }
        }
    }

    /// Opens the plugins anew, one of them perhaps rebuilt: it gets another chance.
    ///
    /// # Errors
    /// One line, when it is refused. The others go on.
    pub fn reload(&mut self, task: usize, wanted: &str, console: &Console) -> Result<(), String> {
        self.close(console);
        self.quarantined.remove(&task);
        self.leave_out(task);
        self.opening.plugins.push((task, wanted.to_owned()));
        self.opening.plugins.sort_unstable();
        let mut outcome = Ok(());
        for (refused, why) in self.start(console)? {
            if refused == task {
                outcome = Err(why.clone());
            }
            self.quarantined.insert(refused, why);
        }
        outcome
    }

    /// Lets the process end; one that does not do so in peace is told, for all answers are there already.
    pub fn close(&mut self, console: &Console) {
        if let Some(how) = self.process.take().and_then(Process::end) {
            console.warning(format!(
                "the engine's process ended with its plugins let go of: {how}; all answers stand"
            ));
        }
    }
}

/// The same words where no plugin is the subject.
fn without_blame(end: &End) -> String {
    match end {
        End::TimedOut => "took longer than the time limit and was killed".to_owned(),
        End::Ended(how) => format!("ended ({how})"),
    }
}
