//! A session: backbones and the plugins on them, opened once, then any number of cases.

use super::answer::{CaseOutput, Computed, Wanted};
use super::events::Events;
use super::executor::{Executor, LocalExecutor};
use super::failure::CaseFailure;
use super::identity::{ReferenceSummary, TaskIdentity};
use super::options::SessionOptions;
use super::placing::{Placed, place};
use crate::engine::{Beside, Case, Engine, FindBackboneError, Holdings};
use crate::output::naming::Names;
use crate::plugin::find::{self, Choice};
use crate::plugin::{Inspected, inspect};
use crate::task::Weights;
use anymc3d_manifest::Manifest;
use std::borrow::Borrow;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::thread::ScopedJoinHandle;

/// One of a session's plugins.
#[derive(Debug, Clone)]
pub struct SelectedPlugin {
    /// As it was asked for: a name or a path.
    pub wanted: String,
    /// Its library when it was chosen.
    pub library: PathBuf,
    /// Digest of the library that was chosen; no other is opened.
    pub sha256: String,
    /// What it says of itself.
    pub manifest: Manifest,
}

/// A plugin that a session does without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedPlugin {
    /// As it was asked for.
    pub wanted: String,
    /// One line.
    pub reason: String,
}

/// A case, and which of a session's plugins are asked, by index.
#[derive(Debug, Clone)]
pub struct CaseRequest<C> {
    /// The case.
    pub case: C,
    /// The plugins.
    pub tasks: Vec<usize>,
}

/// Why there is no session at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// Two plugins of one name.
    #[error("plugin {wanted}: a plugin called {name} is given already; give each once")]
    GivenTwice {
        /// As it was asked for.
        wanted: String,
        /// The name of both.
        name: String,
    },
    /// The backbone or the device is refused.
    #[error(transparent)]
    Backbone(#[from] FindBackboneError),
    /// The plugins' process cannot be had.
    #[error("{0}")]
    Process(String),
}

/// Plugins whose libraries were read; none of their code has run. What runs later is what was read here.
pub struct Selection {
    /// Those that can be opened.
    pub plugins: Vec<SelectedPlugin>,
    /// Of each of them, its library.
    pub(super) libraries: Vec<Inspected>,
    /// Those that cannot.
    pub refused: Vec<RefusedPlugin>,
}

impl Selection {
    /// Finds plugins and reads their manifests. It refuses plugins before the backbone is opened.
    ///
    /// # Errors
    /// [`SessionError::GivenTwice`].
    pub fn new<S: AsRef<str>>(wanted: &[S], choice: &Choice) -> Result<Self, SessionError> {
        let mut selection = Self { plugins: Vec::new(), libraries: Vec::new(), refused: Vec::new() };
        for wanted in wanted.iter().map(AsRef::as_ref) {
            match find::library_with(wanted, choice).and_then(|library| inspect(&library)) {
                Ok(library) => {
                    let new = SelectedPlugin {
                        wanted: wanted.to_owned(),
                        library: library.path.clone(),
                        sha256: library.sha256.clone(),
                        manifest: library.manifest().clone(),
                    };
                    let name = &new.manifest.plugin.name;
                    if selection.plugins.iter().any(|p| p.manifest.plugin.name == *name) {
                        return Err(SessionError::GivenTwice {
                            wanted: wanted.to_owned(),
                            name: name.clone(),
                        });
                    }
                    selection.plugins.push(new);
                    selection.libraries.push(library);
                }
                Err(e) => selection.refuse(wanted, &e),
            }
        }
        Ok(selection)
    }

    pub(super) fn refuse(&mut self, wanted: &str, why: &dyn std::fmt::Display) {
        self.refused.push(RefusedPlugin { wanted: wanted.to_owned(), reason: why.to_string() });
    }

    /// Opens backbone and plugins as a session.
    ///
    /// # Errors
    /// When the backbone is refused, or the child process cannot start.
    pub fn open(mut self, options: &SessionOptions) -> Result<Session, SessionError> {
        #[cfg(unix)]
        if let Some(isolation) = &options.isolation {
            let executor = Box::new(self.open_isolated(options, isolation)?);
            return Ok(Session::of(self, options, executor));
        }
        let engines = self.open_engines(options)?;
        let (weights, inference) = (options.weights.clone(), options.of_tasks());
        Ok(Session::of(
            self,
            options,
            Box::new(LocalExecutor { engines, weights, inference, names: Names::default() }),
        ))
    }
}

/// Backbones and the plugins on them, opened for any number of cases.
///
/// ```no_run
/// use anymc3d_host::engine::Case;
/// use anymc3d_host::run::{Session, SessionOptions, Silent, Wanted};
///
/// let mut session = Session::open(&["lung_nodule"], &SessionOptions::default())?;
/// for answer in session.run(&Case::of_file("scan.nii.gz".as_ref()), Wanted::default(), &Silent) {
///     println!("{:?}", answer?.result.predictions);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Session {
    plugins: Vec<SelectedPlugin>,
    refused: Vec<RefusedPlugin>,
    choice: Choice,
    weights: Vec<PathBuf>,
    executor: Box<dyn Executor>,
}

impl Session {
    /// Opens a backbone and plugins, each by name or path. Refused plugins are in [`Self::refused`]; the others run.
    ///
    /// # Errors
    /// When two plugins have the same name, the backbone is refused, or the child process cannot start.
    pub fn open<S: AsRef<str>>(plugins: &[S], options: &SessionOptions) -> Result<Self, SessionError> {
        Selection::new(plugins, &options.choice)?.open(options)
    }

    fn of(selection: Selection, options: &SessionOptions, executor: Box<dyn Executor>) -> Self {
        let Selection { plugins, refused, .. } = selection;
        let (choice, weights) = (options.choice.clone(), options.weights.clone());
        Self { plugins, refused, choice, weights, executor }
    }

    /// The plugins that answer, in the order of their answers.
    pub fn plugins(&self) -> &[SelectedPlugin] {
        &self.plugins
    }

    /// The plugins that were refused.
    pub fn refused(&self) -> &[RefusedPlugin] {
        &self.refused
    }

    /// Name of a plugin.
    ///
    /// # Panics
    /// Where there is no plugin of that index.
    pub fn name(&self, index: usize) -> &str {
        &self.plugins[index].manifest.plugin.name
    }

    /// What the plugins say of themselves.
    pub fn manifests(&self) -> Vec<Manifest> {
        self.plugins.iter().map(|p| p.manifest.clone()).collect()
    }

    /// Where memory goes that stays, an entry per backbone: of this process, or of the plugins'.
    pub fn holdings(&self) -> Vec<Holdings> {
        self.executor.holdings()
    }

    /// The plugins' processes, where they are in processes of their own.
    pub fn processes(&self) -> Vec<u32> {
        self.executor.processes()
    }

    /// The engines, one per backbone, where they are in this process.
    pub fn engines(&mut self) -> &mut [Engine] {
        self.executor.engines()
    }

    /// Every plugin's answer to a case, in the order of the plugins. With an output folder, their files are in place.
    pub fn run(
        &mut self,
        case: &Case,
        wanted: Wanted<'_>,
        events: &dyn Events,
    ) -> Vec<Result<CaseOutput, CaseFailure>> {
        let all: Vec<usize> = (0..self.plugins.len()).collect();
        self.executor.run(case, &all, wanted, events)
    }

    /// What computes each plugin's answers, in the order of the plugins.
    pub fn identities(&self) -> Vec<TaskIdentity> {
        self.executor.identities()
    }

    /// The training cases that each plugin's answers are compared with, in the order of the plugins.
    pub fn references(&self) -> Vec<Option<ReferenceSummary>> {
        self.executor.references()
    }

    /// Answers cases one after the other and reads the next ones meanwhile. `done` is given each case's index and the
    /// plugins' answers; `None` stands for entries that are no case, which are handed over in their turn.
    pub fn run_all(
        &mut self,
        cases: &[Option<&Case>],
        wanted: Wanted<'_>,
        events: &dyn Events,
        mut done: impl FnMut(&mut Self, usize, Vec<Result<CaseOutput, CaseFailure>>),
    ) {
        let all: Vec<usize> = (0..self.plugins.len()).collect();
        let asked = cases.iter().map(|case| case.map(|case| CaseRequest { case, tasks: all.clone() }));
        let mut at = 0;
        self.run_while(asked, wanted, events, |session, _, answers| {
            done(session, at, answers);
            at += 1;
            ControlFlow::Continue(())
        });
    }

    /// As [`Self::run_all`], of cases that come one after the other, each with the plugins that are asked, until `done`
    /// breaks. `done` is given each case again, and the answers of the plugins that were asked. Whether all cases were done.
    ///
    /// In this process the files of a case are written beside the next case's computing. `done` hears of a case once they are in
    /// place; where it breaks, nothing of the case after is written.
    pub fn run_while<C: Borrow<Case>>(
        &mut self,
        cases: impl IntoIterator<Item = Option<CaseRequest<C>>>,
        wanted: Wanted<'_>,
        events: &dyn Events,
        mut done: impl FnMut(
            &mut Self,
            Option<CaseRequest<C>>,
            Vec<Result<CaseOutput, CaseFailure>>,
        ) -> ControlFlow<()>,
    ) -> bool {
        let mut cases = cases.into_iter();
        let mut next: VecDeque<Option<CaseRequest<C>>> = cases.next().into_iter().collect();
        let beside = Beside::new();
        std::thread::scope(|scope| {
            // A case whose files are being written.
            let mut written: Option<(CaseRequest<C>, ScopedJoinHandle<'_, Placed>)> = None;
            loop {
                let ask = next.pop_front();
                while ask.is_some() && next.len() < self.executor.prefetch_depth() {
                    let Some(coming) = cases.next() else { break };
                    if let Some(ask) = &coming {
                        self.executor.prefetch(ask.case.borrow());
                    }
                    next.push_back(coming);
                }
                let computed = ask.as_ref().map(|ask| match ask {
                    Some(ask) => self.executor.compute(ask.case.borrow(), &ask.tasks, wanted, events),
                    None => Computed::Placed(Vec::new()),
                });
                if let Some((ask, placing)) = written.take() {
                    let Placed { answers, notices } = joined(placing);
                    notices.iter().for_each(|notice| events.notice(notice));
                    if done(self, Some(ask), answers).is_break() {
                        return false;
                    }
                }
                match (ask, computed) {
                    (Some(Some(ask)), Some(Computed::Predicted(predictions))) => {
                        let case = ask.case.borrow().clone();
                        // Of the last case nothing is computed meanwhile: all threads write it.
                        let beside = (!next.is_empty()).then_some(&beside);
                        let place = move || place(&case, predictions, wanted);
                        written = Some((
                            ask,
                            scope.spawn(move || match beside {
                                Some(beside) => beside.run(place),
                                None => place(),
                            }),
                        ));
                    }
                    (Some(ask), Some(Computed::Placed(answers))) => {
                        if done(self, ask, answers).is_break() {
                            return false;
                        }
                    }
                    _ => return true,
                }
                // Without prefetching the next case is only looked for now.
                if next.is_empty() {
                    next.extend(cases.next());
                }
            }
        })
    }

    /// The files that a plugin is opened from: its library, and every path where its weights may be.
    ///
    /// # Panics
    /// Where there is no plugin of that index.
    pub fn files_of(&self, index: usize) -> Vec<PathBuf> {
        let library = &self.plugins[index].library;
        let mut files = vec![library.clone()];
        match self.weights.is_empty() {
            false => files.extend(self.weights.iter().cloned()),
            // The first place that holds some is the one that is read; a new file before it counts too.
            true => files.extend(find::weights_places(library, self.name(index))),
        }
        files
    }

    /// Whether a plugin's library or weights are other bytes now than those that answer; also where they cannot be read.
    ///
    /// # Panics
    /// Where there is no plugin of that index.
    pub fn has_changed(&self, index: usize) -> bool {
        let identity = self.identities().swap_remove(index);
        let library = find::library_with(&self.plugins[index].wanted, &self.choice);
        let library = library.and_then(|path| inspect(&path));
        if !library.is_ok_and(|library| library.sha256 == identity.library_sha256) {
            return true;
        }
        let mut weights = self.files_of(index).split_off(1);
        if self.weights.is_empty() {
            weights.retain(|path| path.is_file());
            weights.truncate(1);
        }
        let mut now: Vec<Option<String>> =
            weights.iter().map(|path| Some(Weights::open(path).ok()?.sha256)).collect();
        now.dedup();
        now != identity.weights_sha256.into_iter().map(Some).collect::<Vec<_>>()
    }

    /// Replaces a plugin by its newest build; returns a line that says which build runs now.
    ///
    /// # Errors
    /// One line; the earlier build keeps running.
    pub fn reload(&mut self, index: usize, events: &dyn Events) -> Result<String, String> {
        let path =
            find::library_with(&self.plugins[index].wanted, &self.choice).map_err(|e| e.to_string())?;
        let library = inspect(&path).map_err(|e| e.to_string())?;
        let (manifest, sha256) = (library.manifest().clone(), library.sha256.clone());
        let found = self.name(index);
        if manifest.plugin.name != found {
            let name = &manifest.plugin.name;
            return Err(format!("{}: is plugin {name} now, expected {found}", path.display()));
        }
        self.executor.reload(index, library, events)?;
        let told = format!(
            "{} {} ({}…) answers from here on",
            manifest.plugin.name,
            manifest.plugin.version,
            &sha256[..12]
        );
        self.plugins[index] =
            SelectedPlugin { library: path, sha256, manifest, ..self.plugins[index].clone() };
        Ok(told)
    }

    /// Lets the plugins go.
    pub fn close(self, events: &dyn Events) {
        self.executor.close(events);
    }
}

/// Sets the size of this process's thread pool. Call it before the pool is used.
///
/// # Errors
/// When the pool is in use, or the system gives no threads.
pub fn use_threads(threads: u16) -> Result<(), String> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(usize::from(threads)).build_global();
    pool.map_err(|e| format!("{threads} threads: {e}"))
}

/// What a thread gave; where it panicked, this one does.
fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
