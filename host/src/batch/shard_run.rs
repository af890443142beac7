//! Runs what is left of a shard, case by case, until all is done or somebody asks it to stop.

use super::folder::BatchFolder;
use super::journal::{FailureKind, Journal, JournalEntry, Outcome};
use super::manifest::{Manifest, WorkItem};
use super::resume::{Resume, State, made_by};
use super::scan_files::{FetchError, ScanFiles};
use super::shard::{Shard, partition};
use super::shard_case::{Asked, Pending, Took, failed_case, kind_of};
use super::shard_outcome::{BatchEvents, Left, ShardOutcome, Why};
use super::upstream::Upstream;
use super::usage;
use crate::engine::result::Provenance;
use crate::engine::{Case, Stage};
use crate::output::{OutputFolder, ResultWriter};
use crate::run::inputs::NoAnswer;
use crate::run::{
    Blame, CaseFailure, CaseOutput, CaseRequest, Events, Notice, Session, TaskIdentity, Wanted,
};
use std::borrow::Borrow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Instant;

/// After how many cases the names that were given are forgotten.
const NAMES: usize = 256;
/// How much is written to see whether a disk is full.
const PROBE: usize = 1 << 20;

/// Which part of the work, and how.
pub struct ShardOptions<'a> {
    /// The part.
    pub shard: Shard,
    /// What writes files beside each result.
    pub writers: &'a [Arc<dyn ResultWriter>],
    /// [`super::digest_of_options`].
    pub options_sha256: &'a str,
    /// Whether cases that failed before are tried again.
    pub retry_failed: bool,
    /// After how many failed cases the process gives up.
    pub max_failures: Option<usize>,
    /// Once true, the process stops after the case at hand.
    pub stop: &'a AtomicBool,
    /// Whether the plugins run in processes of their own, so that this process's memory says nothing.
    pub isolated: bool,
    /// Where the scans lie.
    pub scans: ScanFiles<'a>,
    /// Where the records go from the batch's folder.
    pub upstream: Option<&'a dyn Upstream>,
}

/// Runs what is left of a shard. `reopen` opens a session as the first one was, after a plugin's process was given up.
///
/// # Errors
/// One line: journals or the folder cannot be used, or the session cannot be opened again.
pub fn run_shard(
    folder: &BatchFolder,
    manifest: &Manifest,
    session: Session,
    reopen: &mut dyn FnMut() -> Result<Session, String>,
    options: &ShardOptions<'_>,
    events: &dyn BatchEvents,
) -> Result<ShardOutcome, String> {
    let identities = session.identities();
    let (pending, left) = {
        let (manifests, options_sha256) = (session.manifests(), options.options_sha256);
        let resume = Resume::of_batch(folder, &identities, &manifests, options_sha256, options.scans)?;
        pending(manifest, &resume, identities.len(), options)
    };
    events.begin(&left);
    let out = OutputFolder::overwriting(folder.root(), true)?.with_options(options.options_sha256.to_owned());
    let journal = folder.begin_journal(options.shard)?;
    let run = Run {
        folder,
        out: &out,
        made_by: identities.iter().map(|i| made_by(i, options.options_sha256)).collect(),
        identities: &identities,
        host: usage::host_name(),
        quarantined: Cell::new(false),
        options,
        events,
    };
    let mut at = Position { next: 0, done: 0, failed: 0, why: None, journal, not_fetched: HashMap::new() };
    let mut session = Some(session);
    while at.next < pending.len() && at.why.is_none() {
        let mut open = match session.take() {
            Some(session) => session,
            None => reopen()?,
        };
        if open.identities() != identities {
            return Err(
                "a plugin could not be opened again as it was; the batch ends here and can be resumed"
                    .to_owned(),
            );
        }
        run.until_interrupted(&mut open, &pending, &mut at);
        // A plugin that was left out for one case's sake gets the next case again.
        match run.quarantined.take() {
            true => open.close(&Forward { run: &run }),
            false => session = Some(open),
        }
    }
    if let Some(session) = session {
        session.close(&Forward { run: &run });
    }
    let why = at.why.unwrap_or(Why::Finished);
    Ok(ShardOutcome { why, done: at.done, failed: at.failed + left.failed, left: pending.len() - at.next })
}

/// What of a shard is to be run, in the order of the manifest.
fn pending<'a>(
    manifest: &'a Manifest,
    resume: &Resume<'_>,
    tasks: usize,
    options: &ShardOptions<'_>,
) -> (Vec<Pending<'a>>, Left) {
    let shards = partition(&manifest.items, options.shard.of());
    let own = manifest.items.iter().zip(shards).filter(|(_, shard)| *shard == options.shard.index());
    let (mut all, mut left) = (Vec::new(), Left::default());
    for (item, _) in own {
        left.cases += 1;
        let files = options.scans.hash(&item.case);
        let (mut open, mut failed) = (Vec::new(), false);
        for task in 0..tasks {
            match resume.state(item, task, files.as_deref()) {
                State::Done | State::NothingForIt => continue,
                State::Failed => {
                    failed = true;
                    if !options.retry_failed {
                        continue;
                    }
                }
                State::Outdated(what) => *left.outdated.entry(what).or_default() += 1,
                State::New => {}
            }
            open.push(task);
        }
        match (open.is_empty(), failed) {
            (true, true) => left.failed += 1,
            (true, false) => left.done += 1,
            (false, _) => all.push(Pending { item, tasks: open, files }),
        }
    }
    (all, left)
}

/// How far a process is.
struct Position {
    next: usize,
    done: usize,
    failed: usize,
    why: Option<Why>,
    journal: Journal,
    /// Cases, by their place in the list, whose scans did not come.
    not_fetched: HashMap<usize, FetchError>,
}

/// What does not change while a process works.
struct Run<'a> {
    folder: &'a BatchFolder,
    out: &'a OutputFolder,
    identities: &'a [TaskIdentity],
    made_by: Vec<String>,
    host: String,
    quarantined: Cell<bool>,
    options: &'a ShardOptions<'a>,
    events: &'a dyn BatchEvents,
}

/// Hands events on, and notes that a plugin was left out.
struct Forward<'a, 'b> {
    run: &'a Run<'b>,
}

impl Events for Forward<'_, '_> {
    fn notice(&self, notice: &Notice) {
        if matches!(notice, Notice::Quarantined { .. }) {
            self.run.quarantined.set(true);
        }
        self.run.events.notice(notice);
    }

    fn stage(&self, plugin: &str, stage: Stage) {
        self.run.events.stage(plugin, stage);
    }
}

impl Run<'_> {
    fn until_interrupted(&self, session: &mut Session, pending: &[Pending<'_>], at: &mut Position) {
        if self.options.stop.load(Ordering::Relaxed) {
            at.why = Some(Why::Stopped);
            return;
        }
        let (first, rest) = (at.next, &pending[at.next..]);
        let wanted = Wanted { output: Some(self.out), writers: self.options.writers };
        let not_fetched = RefCell::new(std::mem::take(&mut at.not_fetched));
        std::thread::scope(|scope| {
            // One scan waits and one is on its way, whatever the session has read already.
            let (sender, fetched) = sync_channel(1);
            let to_fetch: Vec<&Case> =
                rest.iter().filter(|p| self.fetches(p)).map(|p| &p.item.case).collect();
            let scans = self.options.scans;
            if !to_fetch.is_empty() {
                // Where the session is interrupted nobody waits any more.
                scope.spawn(move || to_fetch.into_iter().all(|case| sender.send(scans.fetch(case)).is_ok()));
            }
            let asks = rest.iter().enumerate().map(|(i, p)| {
                let case = match self.fetches(p) {
                    true => match fetched.recv() {
                        Ok(Ok(fetched)) => Asked::Fetched(fetched),
                        Ok(Err(e)) => {
                            not_fetched.borrow_mut().insert(first + i, e);
                            return None;
                        }
                        Err(_) => return None,
                    },
                    false => Asked::Here(&p.item.case),
                };
                self.runs(p).then(|| CaseRequest { case, tasks: self.asked(p) })
            });
            let (mut begun, mut cpu) = (Instant::now(), usage::cpu_seconds());
            usage::reset_peak();
            session.run_while(asks, wanted, &Forward { run: self }, |_, ask, answers| {
                let took = Took {
                    seconds: begun.elapsed().as_secs_f64(),
                    cpu: usage::cpu_seconds().zip(cpu).map(|(now, before)| now - before),
                    peak: usage::peak_bytes(),
                };
                (begun, cpu) = (Instant::now(), usage::cpu_seconds());
                usage::reset_peak();
                at.not_fetched.extend(not_fetched.borrow_mut().drain());
                let case = ask.as_ref().map_or(&pending[at.next].item.case, |ask| ask.case.borrow());
                let flow = self.take(&pending[at.next], case, answers, &took, at);
                if at.done.is_multiple_of(NAMES) {
                    self.out.forget_names();
                }
                flow
            });
        });
        at.not_fetched.clear();
    }

    /// Whether there is anything to ask of a case.
    fn runs(&self, pending: &Pending<'_>) -> bool {
        pending.item.failed.is_none() && !self.asked(pending).is_empty()
    }

    fn fetches(&self, pending: &Pending<'_>) -> bool {
        self.runs(pending) && ScanFiles::is_remote(&pending.item.case)
    }

    /// The plugins that are really asked: not those whose file is known to be of no use.
    fn asked(&self, pending: &Pending<'_>) -> Vec<usize> {
        let useless = |task: &usize| pending.item.unanswered.contains_key(&self.identities[*task].plugin);
        pending.tasks.iter().copied().filter(|task| !useless(task)).collect()
    }

    /// Keeps what became of a case.
    fn take(
        &self,
        pending: &Pending<'_>,
        case: &Case,
        answers: Vec<Result<CaseOutput, CaseFailure>>,
        took: &Took,
        at: &mut Position,
    ) -> ControlFlow<()> {
        let stopped = self.options.stop.load(Ordering::Relaxed);
        let not_fetched = at.not_fetched.remove(&at.next);
        if let Some(FetchError::Store(e)) = not_fetched {
            at.why = Some(Why::Store(e));
            return ControlFlow::Break(());
        }
        let mut answers = answers.into_iter();
        let asked = self.asked(pending);
        let (mut entries, mut failures) = (Vec::new(), Vec::new());
        for &task in &pending.tasks {
            let plugin = &self.identities[task].plugin;
            let failure = match (&pending.item.failed, pending.item.unanswered.get(plugin)) {
                (Some(why), _) | (None, Some(NoAnswer::Failed(why))) => {
                    Some((FailureKind::Input, why.clone()))
                }
                _ if !asked.contains(&task) => None,
                _ => match (&not_fetched, answers.next()) {
                    (Some(FetchError::Scan(why) | FetchError::Store(why)), _) => {
                        Some((FailureKind::Scan, why.clone()))
                    }
                    (None, Some(Ok(output))) => match self.keep(pending.item, &output) {
                        Ok(refused) => refused.map(|why| (FailureKind::Scan, why)),
                        Err(why) => {
                            at.why = Some(Why::Store(why));
                            return ControlFlow::Break(());
                        }
                    },
                    // The processes of plugins get the same signal: what they fail at then is done again, also where one ended while
                    // it read the scan.
                    (None, Some(Err(_))) if stopped => {
                        at.why = Some(Why::Stopped);
                        return ControlFlow::Break(());
                    }
                    (None, Some(Err(failure))) => {
                        if failure.blame == Blame::Output
                            && let Err(why) = self.probe()
                        {
                            at.why = Some(Why::Unwritable(why));
                            return ControlFlow::Break(());
                        }
                        Some((kind_of(failure.blame), case.with_origins(failure.message)))
                    }
                    (None, None) => Some((FailureKind::Plugin, "no answer came".to_owned())),
                },
            };
            let first = entries.is_empty();
            let mut entry = self.entry(pending, task, first.then_some(took));
            let recorded = match failure {
                None => self.forget_failure(&pending.item.case.name, plugin),
                Some((kind, why)) => {
                    (entry.outcome, entry.kind) = (Outcome::Failed, Some(kind));
                    let recorded = self.put_failure(pending.item, plugin, kind, &why);
                    failures.push((plugin.clone(), why));
                    recorded
                }
            };
            if let Err(why) = recorded {
                at.why = Some(why);
                return ControlFlow::Break(());
            }
            entries.push(entry);
        }
        if let Err(why) = self.journal(at, &entries) {
            at.why = Some(why);
            return ControlFlow::Break(());
        }
        at.next += 1;
        at.done += 1;
        at.failed += usize::from(!failures.is_empty());
        self.events.case_done(&pending.item.case.name, &failures);
        if self.options.max_failures.is_some_and(|most| at.failed >= most) {
            at.why = Some(Why::TooManyFailures);
        } else if stopped {
            at.why = Some(Why::Stopped);
        }
        match at.why.is_some() || self.quarantined.get() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    /// Sends a result to where the batch's records go; why it does not count.
    fn keep(&self, item: &WorkItem, output: &CaseOutput) -> Result<Option<String>, String> {
        let refused = self.check_digest(item, output);
        if let (None, Some(upstream), Some(folder)) = (&refused, self.options.upstream, &output.folder) {
            upstream.put_result(folder)?;
        }
        Ok(refused)
    }

    fn forget_failure(&self, case: &str, plugin: &str) -> Result<(), Why> {
        self.out.remove_failure(case, plugin);
        self.options.upstream.map_or(Ok(()), |to| to.remove_failure(case, plugin)).map_err(Why::Store)
    }

    fn put_failure(&self, item: &WorkItem, plugin: &str, kind: FailureKind, why: &str) -> Result<(), Why> {
        let failed = failed_case(item, plugin, kind, why);
        self.out.put_failure(&failed).map_err(Why::Unwritable)?;
        let file = self.out.root().join(format!("{}.{plugin}.failed.json", failed.case));
        self.options.upstream.map_or(Ok(()), |to| to.put_file(&file)).map_err(Why::Store)
    }

    /// Appends to the journal. A store has no files that grow: there a journal is replaced whole, and another begun before
    /// it is long.
    fn journal(&self, at: &mut Position, entries: &[JournalEntry]) -> Result<(), Why> {
        at.journal.append(entries).map_err(Why::Unwritable)?;
        let Some(upstream) = self.options.upstream else { return Ok(()) };
        upstream.put_file(at.journal.path()).map_err(Why::Store)?;
        if (at.done + 1).is_multiple_of(NAMES) {
            at.journal = self.folder.begin_journal(self.options.shard).map_err(Why::Unwritable)?;
        }
        Ok(())
    }

    /// Refuses a result of another scan than the manifest says; it goes again.
    fn check_digest(&self, item: &WorkItem, output: &CaseOutput) -> Option<String> {
        let (expected, found) = (item.sha256.as_ref()?, &output.result.input.sha256);
        if expected == found {
            return None;
        }
        if let Some(folder) = &output.folder {
            // A result that cannot be removed is replaced when the case is done again.
            let _ = std::fs::remove_dir_all(folder);
        }
        let path = &output.result.input.path;
        Some(format!("{path}: its sha256 is {found}; the manifest says {expected}"))
    }

    fn entry(&self, pending: &Pending<'_>, task: usize, took: Option<&Took>) -> JournalEntry {
        let own = took.filter(|_| !self.options.isolated);
        JournalEntry {
            case: pending.item.case.name.clone(),
            plugin: self.identities[task].plugin.clone(),
            outcome: Outcome::Done,
            kind: None,
            files: pending.files.clone(),
            made_by: self.made_by[task].clone(),
            shard: self.options.shard.to_string(),
            host: self.host.clone(),
            process: std::process::id(),
            ended: Provenance::now().time,
            seconds: took.map(|t| t.seconds),
            cpu_seconds: own.and_then(|t| t.cpu),
            peak_bytes: own.and_then(|t| t.peak),
        }
    }

    /// Whether the folder takes files at all; the reason why not.
    fn probe(&self) -> Result<(), String> {
        let scratch = self.out.scratch()?;
        std::fs::write(scratch.path().join("probe"), vec![0u8; PROBE])
            .map_err(|e| format!("{}: cannot be written ({e})", self.out.root().display()))
    }
}
