//! Studies of an archive and of C-STORE, answered as they come: what a server starts, asks and ends.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use anymc3d_host::output::salt_of_folder;

use super::answer::Answer;
use super::client::Archive;
use super::config::RulesFile;
use super::json::is_uid;
use super::ledger::{Ledger, LedgerError, NamedStudy, StudyState};
use super::status::ServiceStatus;
use super::steps::Steps;
use super::workers::{Agenda, Shared, locked};
use crate::dimse::{Incoming, Receiver};

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
    threads: Mutex<Vec<JoinHandle<()>>>,
    receiver: Mutex<Option<Receiver>>,
}

/// Why a webhook's word is not taken.
#[derive(Debug, thiserror::Error)]
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
    /// It could not be written down.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
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
        let unusable = |e: io::Error| format!("{}: cannot be used ({e})", folder.display());
        let archive = match options.archive {
            None => None,
            Some(url) => {
                let credentials = rules.credentials(options.rules)?;
                Some(Archive::new(url, &rules.archive, rules.limits.studies, credentials, beside)?)
            }
        };
        check_ways(&rules, archive.is_some()).map_err(|e| format!("{}: {e}", options.rules.display()))?;
        std::fs::create_dir_all(&folder).map_err(unusable)?;
        private(&folder).map_err(unusable)?;
        let salt = salt_of_folder(options.data).map_err(unusable)?;
        let file = folder.join("ledger.redb");
        let ledger = Ledger::open(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        let now = Instant::now();
        let open = ledger.list(|record| !record.state.is_final()).map_err(|e| e.to_string())?;
        let named = ledger.named().map_err(|e| e.to_string())?.into();
        let agenda: Agenda = open.into_iter().map(|(key, _)| (key, now)).collect();
        let incoming = match &rules.receiver {
            None => None,
            Some(receiver) => {
                let place = folder.join("incoming");
                Some(Arc::new(Incoming::open(&place, &salt, receiver.waiting_gb << 30).map_err(unusable)?))
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
            named: Mutex::new(named),
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
        Ok(Self { shared, threads: Mutex::new(threads), receiver: Mutex::new(receiver) })
    }

    /// A webhook's word: this study is new or has changed. With `again` a study that failed for good is taken up once more.
    /// On the disk when the call returns.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn name(&self, study_uid: &str, again: bool) -> Result<(), NameError> {
        if !is_uid(study_uid) {
            return Err(NameError::NoUid);
        }
        let steps = &self.shared.steps;
        if steps.archive.is_none() && !again {
            return Err(NameError::NoArchive);
        }
        if locked(&self.shared.named).len() >= MOST_NAMED {
            return Err(NameError::Full);
        }
        let named = NamedStudy { uid: study_uid.to_owned(), again };
        steps.ledger.name(&steps.key(study_uid), &named)?;
        locked(&self.shared.named).push_back(named);
        Ok(())
    }

    /// Takes up every study that failed for good; returns how many.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn take_up_failed(&self) -> Result<usize, NameError> {
        let failed = self.shared.steps.ledger.list(|record| record.state == StudyState::Failed)?;
        let uids: Vec<String> = failed.into_iter().filter_map(|(_, record)| record.study_uid).collect();
        uids.iter().try_for_each(|uid| self.name(uid, true))?;
        Ok(uids.len())
    }

    /// What it is doing.
    ///
    /// # Errors
    /// Of the ledger.
    pub fn status(&self) -> Result<ServiceStatus, LedgerError> {
        self.shared.status()
    }

    /// Where the C-STORE receiver listens.
    pub fn receiver(&self) -> Option<std::net::SocketAddr> {
        locked(&self.receiver).as_ref().map(Receiver::address)
    }

    /// Begins nothing new. What is open goes on after the next start, and a step that is cut by the end of the process is
    /// done again then.
    pub fn end(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.wake.notify_all();
        drop(locked(&self.receiver).take());
    }

    /// Whether no step is being done any more.
    pub fn has_ended(&self) -> bool {
        locked(&self.threads).iter().all(JoinHandle::is_finished)
    }

    /// Ends, and waits for the steps that are being done.
    pub fn stop(self) {
        self.end();
        for thread in locked(&self.threads).drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end();
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
