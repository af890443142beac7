//! The threads: one looks for studies (the archive's list, the webhook, what C-STORE brought), others do what the ledger
//! says is next for each.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anymc3d_host::output::salt_of_folder;
use serde::Serialize;

use super::answer::Answer;
use super::client::{Archive, ListedStudy, Place};
use super::config::RulesFile;
use super::error::ArchiveError;
use super::json::is_uid;
use super::ledger::{Ledger, LedgerError, Order, Origin, StudyKey, StudyRecord, StudyState};
use super::orders::{leave_out_answered, orders_of};
use super::series::SeriesFacts;
use super::steps::{Next, Steps};
use super::watch::Candidates;
use crate::dimse::{Incoming, Receiver};

/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_millis(200);
/// Studies that a webhook named and that were not looked at yet.
const MOST_NAMED: usize = 10_000;

/// What a service is made of.
pub struct ServiceOptions<'a> {
    /// Base URL of the archive, as `https://pacs.hospital/dicom-web`.
    pub archive: Option<&'a str>,
    /// rules.toml.
    pub rules: &'a Path,
    /// The server's folder. Its secret of DICOM names is shared, so that a study is called as its case is; ledger and studies
    /// on their way lie in `dicomweb/` below it.
    pub data: &'a Path,
}

/// Studies that are answered as they come.
pub struct Service {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    receiver: Option<Receiver>,
}

struct Shared {
    steps: Steps,
    incoming: Option<Arc<Incoming>>,
    agenda: Mutex<Agenda>,
    wake: Condvar,
    named: Mutex<VecDeque<(String, bool)>>,
    waiting: AtomicU32,
    stop: AtomicBool,
}

/// When each study's next step is due; those whose step is being done are not in it.
type Agenda = BTreeMap<StudyKey, Instant>;

/// Why a webhook's word is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not numbers joined by dots, at most 64 characters.
    #[error("study: expected a StudyInstanceUID")]
    NoUid,
    /// There is no archive to fetch it from.
    #[error("this server was started without --dicomweb")]
    NoArchive,
    /// As many wait as may.
    #[error("too many studies wait to be looked at; try again later")]
    Full,
}

/// What the service is doing, without identity.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceStatus {
    /// Studies in the ledger by state.
    pub studies: BTreeMap<&'static str, usize>,
    /// New studies that are not complete yet: of the archive, and of C-STORE.
    pub awaited: usize,
    pub receiving: usize,
    /// How often in a row the archive was not available.
    pub archive_failures: u32,
    /// Studies that failed for good, newest first.
    pub failed: Vec<StudyStatus>,
    /// Studies that are repeated.
    pub repeated: Vec<StudyStatus>,
}

/// A study of the ledger.
#[derive(Debug, Clone, Serialize)]
pub struct StudyStatus {
    /// A hash.
    pub study: String,
    pub state: &'static str,
    pub rules: Vec<String>,
    pub plugins: Vec<String>,
    pub attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Seconds since 1970.
    pub seen: u64,
    pub changed: u64,
}

impl Service {
    /// Reads rules and ledger, and begins. Where the ledger says that studies were on their way, they go on.
    ///
    /// # Errors
    /// One line, when rules, ledger or address cannot be had.
    pub fn start(options: &ServiceOptions<'_>, answer: Arc<dyn Answer>) -> Result<Self, String> {
        let rules = RulesFile::read(options.rules)?;
        let beside = options.rules.parent().unwrap_or(Path::new(""));
        let folder = options.data.join("dicomweb");
        let named = |e: io::Error| format!("{}: cannot be used ({e})", folder.display());
        let archive = match options.archive {
            None => None,
            Some(url) => {
                let credentials = rules.credentials(options.rules)?;
                Some(Archive::new(url, &rules.archive, rules.limits.studies, credentials, beside)?)
            }
        };
        check_ways(&rules, archive.is_some()).map_err(|e| format!("{}: {e}", options.rules.display()))?;
        std::fs::create_dir_all(&folder).map_err(named)?;
        private(&folder).map_err(named)?;
        let salt = salt_of_folder(options.data).map_err(named)?;
        let file = folder.join("ledger.redb");
        let ledger = Ledger::open(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        let now = Instant::now();
        let open = ledger.list(|record| !record.state.is_final()).map_err(|e| e.to_string())?;
        let agenda: Agenda = open.into_iter().map(|(key, _)| (key, now)).collect();
        let incoming = match &rules.receiver {
            None => None,
            Some(receiver) => {
                let place = folder.join("incoming");
                Some(Arc::new(Incoming::open(&place, &salt, receiver.waiting_gb << 30).map_err(named)?))
            }
        };
        let receiver = match (&rules.receiver, &incoming) {
            (Some(settings), Some(incoming)) => {
                let most = rules.limits.instance_mb << 20;
                let receiver = Receiver::start(settings.clone(), most, incoming.clone());
                Some(receiver.map_err(|e| format!("[receiver] listen = \"{}\": {e}", settings.listen))?)
            }
            _ => None,
        };
        let parallel = rules.limits.parallel;
        let unavailable = AtomicU32::new(0);
        let steps = Steps { archive, ledger, answer, rules, folder, salt, unavailable };
        let shared = Arc::new(Shared {
            steps,
            incoming,
            agenda: Mutex::new(agenda),
            wake: Condvar::new(),
            named: Mutex::default(),
            waiting: AtomicU32::new(0),
            stop: AtomicBool::new(false),
        });
        let mut threads = Vec::new();
        let spawn = |name: String, work: fn(&Shared)| {
            let shared = shared.clone();
            std::thread::Builder::new().name(name).spawn(move || work(&shared)).map_err(|e| e.to_string())
        };
        threads.push(spawn("studies".into(), Shared::watch)?);
        for number in 0..parallel {
            threads.push(spawn(format!("study-{number}"), Shared::work)?);
        }
        Ok(Self { shared, threads, receiver })
    }

    /// A webhook's word: this study is new or has changed. With `again` a study that failed for good is taken up once more.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn name(&self, study_uid: &str, again: bool) -> Result<(), NameError> {
        if !is_uid(study_uid) {
            return Err(NameError::NoUid);
        }
        if self.shared.steps.archive.is_none() {
            return Err(NameError::NoArchive);
        }
        let mut named = locked(&self.shared.named);
        if named.len() >= MOST_NAMED {
            return Err(NameError::Full);
        }
        named.push_back((study_uid.to_owned(), again));
        Ok(())
    }

    /// What it is doing.
    ///
    /// # Errors
    /// Of the ledger.
    pub fn status(&self) -> Result<ServiceStatus, LedgerError> {
        let shared = &self.shared;
        let all = shared.steps.ledger.list(|_| true)?;
        let mut studies = BTreeMap::new();
        all.iter().for_each(|(_, record)| *studies.entry(record.state.name()).or_default() += 1);
        let of = |wanted: &dyn Fn(&StudyRecord) -> bool| {
            let mut found: Vec<StudyStatus> =
                all.iter().filter(|(_, r)| wanted(r)).map(|(key, r)| StudyStatus::of(key, r)).collect();
            found.sort_by_key(|study| std::cmp::Reverse(study.changed));
            found.truncate(1000);
            found
        };
        Ok(ServiceStatus {
            studies,
            awaited: shared.waiting.load(Ordering::Relaxed) as usize,
            receiving: shared.incoming.as_ref().map_or(0, |i| i.len()),
            archive_failures: shared.steps.unavailable.load(Ordering::Relaxed),
            failed: of(&|r| r.state == StudyState::Failed),
            repeated: of(&|r| !r.state.is_final() && r.reason.is_some()),
        })
    }

    /// Where the C-STORE receiver listens.
    pub fn receiver(&self) -> Option<std::net::SocketAddr> {
        self.receiver.as_ref().map(Receiver::address)
    }

    /// Ends after the steps that are being done; what is open goes on after the next start.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.wake.notify_all();
        self.receiver = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end();
    }
}

impl StudyStatus {
    fn of(key: &StudyKey, record: &StudyRecord) -> Self {
        let mut plugins: Vec<String> = record.orders.iter().flat_map(|o| o.plugins.clone()).collect();
        plugins.dedup();
        Self {
            study: key.to_string(),
            state: record.state.name(),
            rules: record.orders.iter().flat_map(|o| o.rules.clone()).collect(),
            plugins,
            attempts: record.attempts,
            reason: record.reason.clone(),
            notes: record.notes.clone(),
            seen: record.seen,
            changed: record.changed,
        }
    }
}

/// Studies must come from somewhere, and results go somewhere.
fn check_ways(rules: &RulesFile, archive: bool) -> Result<(), String> {
    if !archive && rules.receiver.is_none() {
        return Err("studies come from nowhere: give --dicomweb URL, or a [receiver]".into());
    }
    if !archive && rules.results.store_to.is_none() {
        return Err("results go nowhere: give --dicomweb URL, or [results] store_to".into());
    }
    Ok(())
}

/// Scans of patients lie below it for a while.
fn private(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    }
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a look at a study did not end.
enum LookError {
    Archive(ArchiveError),
    Ledger(LedgerError),
}

impl From<ArchiveError> for LookError {
    fn from(e: ArchiveError) -> Self {
        Self::Archive(e)
    }
}

impl From<LedgerError> for LookError {
    fn from(e: LedgerError) -> Self {
        Self::Ledger(e)
    }
}

impl std::fmt::Display for LookError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Archive(e) => e.fmt(f),
            Self::Ledger(e) => e.fmt(f),
        }
    }
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Takes the study whose step is due, does the step, and enters when the next one is.
    fn work(&self) {
        loop {
            let mut agenda = locked(&self.agenda);
            let key = loop {
                if self.stopped() {
                    return;
                }
                let now = Instant::now();
                let next = agenda.iter().min_by_key(|(_, at)| **at).map(|(key, at)| (key.clone(), *at));
                match next {
                    Some((key, at)) if at <= now => break key,
                    // A stop that is asked for between two waits must be seen as well.
                    other => {
                        let wait = other.map_or(TICK, |(_, at)| at.duration_since(now)).min(TICK * 5);
                        agenda = self.wake.wait_timeout(agenda, wait).unwrap_or_else(PoisonError::into_inner).0;
                    }
                }
            };
            agenda.remove(&key);
            drop(agenda);
            let next = self.steps.advance(&key);
            let at = match next {
                Next::End => continue,
                Next::Now => Instant::now(),
                Next::After(wait) => Instant::now() + wait,
            };
            locked(&self.agenda).insert(key, at);
            self.wake.notify_one();
        }
    }

    fn begin(&self, key: StudyKey) {
        locked(&self.agenda).insert(key, Instant::now());
        self.wake.notify_one();
    }

    /// Looks for new studies until the service ends.
    fn watch(&self) {
        let settings = &self.steps.rules.archive;
        let quiet = Duration::from_secs(settings.quiet_seconds);
        let mut candidates = Candidates::new(quiet, self.steps.rules.limits.studies);
        let mut next_list = Instant::now();
        let mut failures = 0;
        while !self.stopped() {
            if let Some(incoming) = &self.incoming {
                self.take_received(incoming);
            }
            if let Some(archive) = &self.steps.archive {
                let now = Instant::now();
                let mut result = self.take_named(archive, &mut candidates);
                let mut listed = false;
                if result.is_ok() && settings.poll_seconds > 0 && now >= next_list {
                    result = self.list(archive, &mut candidates);
                    listed = true;
                }
                if result.is_ok() {
                    result = self.look_at_due(archive, &mut candidates);
                }
                self.waiting.store(candidates.len() as u32, Ordering::Relaxed);
                match result {
                    Ok(()) => {
                        if listed {
                            next_list = now + Duration::from_secs(settings.poll_seconds);
                        }
                        failures = 0;
                    }
                    Err(e) => {
                        failures += 1;
                        let asked = match &e {
                            LookError::Archive(ArchiveError::Unavailable { wait, .. }) => wait.unwrap_or_default(),
                            _ => Duration::ZERO,
                        };
                        let wait = self.steps.backoff().wait(failures).max(asked);
                        tracing::warn!("{e}; again in {:.1} s", wait.as_secs_f64());
                        self.pause(wait);
                        continue;
                    }
                }
            }
            self.pause(TICK);
        }
    }

    /// Waits, and ends early when the service does. What C-STORE brings is taken meanwhile.
    fn pause(&self, wait: Duration) {
        let ends = Instant::now() + wait;
        while !self.stopped() {
            let left = ends.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(TICK));
            if let Some(incoming) = &self.incoming {
                self.take_received(incoming);
            }
        }
    }

    /// What the webhook named.
    fn take_named(&self, archive: &Archive, candidates: &mut Candidates) -> Result<(), LookError> {
        loop {
            let Some((uid, again)) = locked(&self.named).front().cloned() else { return Ok(()) };
            let key = self.steps.key(&uid);
            match self.steps.ledger.get(&key)? {
                Some(record) if again && record.state == StudyState::Failed => self.take_up(&key, record)?,
                Some(_) => {}
                None => match archive.study(&uid) {
                    Ok(Some(study)) => candidates.see(key, &study, Instant::now()),
                    Ok(None) => tracing::info!(study = %key, "named by the webhook, and not in the archive"),
                    // It is asked again: nothing that was named is lost while the archive is away.
                    Err(e @ ArchiveError::Unavailable { .. }) => return Err(e.into()),
                    Err(e) => tracing::warn!(study = %key, "named by the webhook: {e}"),
                },
            }
            locked(&self.named).pop_front();
        }
    }

    /// A failed study begins anew; objects that were sent keep their UIDs.
    fn take_up(&self, key: &StudyKey, record: StudyRecord) -> Result<(), LookError> {
        let Some(uid) = record.study_uid.clone() else { return Ok(()) };
        let Some(archive) = &self.steps.archive else { return Ok(()) };
        let series = archive.series(&uid)?;
        let orders = self.orders(archive, &uid, &series)?;
        if orders.is_empty() {
            return Ok(());
        }
        tracing::info!(study = %key, "taken up again");
        self.steps.ledger.put(key, &mut StudyRecord::new(&uid, Origin::Archive, orders))?;
        self.begin(key.clone());
        Ok(())
    }

    fn list(&self, archive: &Archive, candidates: &mut Candidates) -> Result<(), LookError> {
        let days = self.steps.rules.archive.window_days;
        let since = (days > 0).then(|| date_before(days));
        let studies = archive.studies(since.as_deref())?;
        let known = self.steps.ledger.keys()?;
        candidates.begin_list();
        let now = Instant::now();
        for study in &studies {
            let key = self.steps.key(&study.uid);
            if !known.contains(&key) {
                candidates.see(key, study, now);
            }
        }
        candidates.end_list();
        Ok(())
    }

    fn look_at_due(&self, archive: &Archive, candidates: &mut Candidates) -> Result<(), LookError> {
        for (key, study) in candidates.due(Instant::now()) {
            if self.stopped() {
                return Ok(());
            }
            match self.look(archive, &key, &study) {
                Ok(Look::Growing(now)) => candidates.see(key, &now, Instant::now()),
                Ok(Look::NoRule) => candidates.settle(&key),
                Ok(Look::Entered | Look::Gone) => candidates.forget(&key),
                // One study that cannot be listed must not keep the others.
                Err(LookError::Archive(e @ (ArchiveError::Refused(_) | ArchiveError::Interrupted(_)))) => {
                    tracing::warn!(study = %key, "it cannot be looked at: {e}; again when it changes");
                    candidates.settle(&key);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn look(&self, archive: &Archive, key: &StudyKey, study: &ListedStudy) -> Result<Look, LookError> {
        if self.steps.ledger.get(key)?.is_some() {
            return Ok(Look::Entered);
        }
        match archive.study(&study.uid)? {
            None => return Ok(Look::Gone),
            Some(now) if now.instances != study.instances => return Ok(Look::Growing(now)),
            Some(_) => {}
        }
        let series = archive.series(&study.uid)?;
        let mut orders = self.orders(archive, &study.uid, &series)?;
        if orders.is_empty() {
            return Ok(Look::NoRule);
        }
        let mut record = StudyRecord::new(&study.uid, Origin::Archive, Vec::new());
        if self.steps.rules.archive.skip_answered {
            let before = orders.clone();
            let answered = leave_out_answered(&mut orders, &series);
            if !answered.is_empty() {
                record.note(format!("results of {} lay in the archive already", answered.join(", ")));
            }
            record.orders = if orders.is_empty() { before } else { orders };
            if !answered.is_empty() && record.orders.iter().all(|o| o.plugins.iter().all(|p| answered.contains(p))) {
                record.end(StudyState::Skipped, Some("its results lay in the archive already".into()));
            }
        } else {
            record.orders = orders;
        }
        let state = record.state;
        if self.steps.ledger.enter(key, &record)? {
            tracing::info!(study = %key, state = state.name(), orders = record.orders.len(), "entered");
            if !state.is_final() {
                self.begin(key.clone());
            }
        }
        Ok(Look::Entered)
    }

    fn orders(&self, archive: &Archive, study: &str, series: &[SeriesFacts]) -> Result<Vec<Order>, LookError> {
        let own = |uid: &str| self.steps.ledger.is_own(uid).map_err(LookError::from);
        let usable: Vec<SeriesFacts> = series.iter().filter(|s| is_uid(&s.uid)).cloned().collect();
        orders_of(&self.steps.rules.rules, &usable, own, |series| {
            let instances = archive.instances(study, &series.uid)?;
            let Some(first) = instances.first().filter(|uid| is_uid(uid)) else { return Ok(SeriesFacts::default()) };
            Ok(archive.facts(Place { study, series: &series.uid, instance: Some(first) })?)
        })
    }

    /// Studies that C-STORE brought and that are complete.
    fn take_received(&self, incoming: &Incoming) {
        let quiet = self.steps.rules.receiver.as_ref().map_or(60, |r| r.quiet_seconds);
        for study in incoming.quiet(Duration::from_secs(quiet)) {
            if let Err(e) = self.take_study(incoming, &study) {
                tracing::error!(study, "what was received cannot be taken ({e})");
                return;
            }
        }
    }

    fn take_study(&self, incoming: &Incoming, name: &str) -> Result<(), String> {
        let text = |e: io::Error| e.to_string();
        let Some(study) = incoming.read(name).map_err(text)? else {
            return incoming.done(name).map_err(text);
        };
        let key = study.key.clone();
        let known = self.steps.ledger.get(&key).map_err(|e| e.to_string())?;
        if known.is_some() {
            tracing::info!(study = %key, "instances came after the study was taken; they are not answered");
            return incoming.done(name).map_err(text);
        }
        let own = |uid: &str| self.steps.ledger.is_own(uid);
        let rules = &self.steps.rules.rules;
        let orders = orders_of(rules, &study.series, own, |s| Ok(s.clone())).map_err(|e: LedgerError| e.to_string())?;
        if orders.is_empty() {
            tracing::info!(study = %key, "no rule fits what was received");
            return incoming.done(name).map_err(text);
        }
        for series in orders.iter().flat_map(|order| &order.series) {
            study.hand_over(series, &self.steps.series_folder(&key, series)).map_err(text)?;
        }
        // From here on the ledger has it; what is still in `incoming` after a kill is known by then, and goes.
        if self.steps.received(&study.uid, orders).map_err(|e| e.to_string())? {
            tracing::info!(study = %key, "received");
            self.begin(key);
        }
        incoming.done(name).map_err(text)
    }
}

/// What a look at a study came to.
enum Look {
    Entered,
    NoRule,
    Gone,
    Growing(ListedStudy),
}

/// So many days before today in UTC and one more, since hospitals are in other time zones: `20261122`.
fn date_before(days: u32) -> String {
    let now = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date();
    let then = now.saturating_sub(jiff::Span::new().days(i64::from(days) + 1));
    then.strftime("%Y%m%d").to_string()
}
