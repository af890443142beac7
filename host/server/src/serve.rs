//! Puts everything together, serves until it is told to end, and ends in peace.

use crate::access::{NamedHosts, TokenError, Tokens};
use crate::app::{App, router};
use crate::audit::Audit;
use crate::dicomweb::{AnswerByJobs, ObjectKind, RulesFile, Service, ServiceOptions};
use crate::handlers::reload::reload_changed;
use crate::jobs::{Jobs, OpenJobsError};
use crate::listen::{self, asked_to_end};
use crate::log;
use crate::metrics::Metrics;
use crate::models::Models;
use crate::options::ServerOptions;
use crate::runner::{Runner, Shared};
use crate::tls::{Tls, TlsError};
use crate::work::WorkQueue;
use anymc3d_host::run::{RefusedPlugin, Selection, SessionError, SessionOptions};
use jiff::Timestamp;
use serde_json::json;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;

/// How often changed files are looked for, and old jobs.
const PACE: Duration = Duration::from_secs(2);
/// Of these, how many pass between two looks for old jobs.
const TIDY: u32 = 30;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Another address than loopback, without what protects it.
    #[error("{listen} is reached from other machines; expected a certificate with its key, and tokens")]
    Unprotected {
        /// The address.
        listen: SocketAddr,
    },
    /// The address cannot be listened to.
    #[error("{listen}: cannot be listened to ({source})")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A folder or file of the server.
    #[error("{}: cannot be used ({source})", path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The jobs.
    #[error(transparent)]
    Jobs(#[from] OpenJobsError),
    /// The tokens.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// The certificate or its key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The session.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Plugins that are refused: a server without one of them would be noticed late.
    #[error("{} plugins are refused; nothing is served", .0.len())]
    Refused(Vec<RefusedPlugin>),
    /// Rules, archive, ledger or receiver.
    #[error("{0}")]
    Studies(String),
    /// The system.
    #[error("the server cannot be started ({0})")]
    System(io::Error),
}

/// A server that listens; what it needs is open.
pub struct Server {
    app: Arc<App>,
    listener: std::net::TcpListener,
    tls: Option<Arc<Tls>>,
    options: ServerOptions,
    runner: JoinHandle<()>,
}

/// Tells a server to end.
#[derive(Clone)]
pub struct Stop(watch::Sender<bool>);

impl Stop {
    /// The server ends: it takes nothing new, and what runs may go on for its time of grace.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// A folder of the server, made where it is missing, closed to other accounts.
fn made(folder: &Path) -> Result<(), ServeError> {
    let make = || {
        std::fs::create_dir_all(folder)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
        }
        Ok(())
    };
    make().map_err(|source| ServeError::File { path: folder.to_owned(), source })
}

impl Server {
    /// Opens jobs, plugins and the address. Nothing is served yet.
    ///
    /// # Errors
    /// [`ServeError`].
    pub fn open(
        selection: Selection,
        session: SessionOptions,
        mut options: ServerOptions,
    ) -> Result<Self, ServeError> {
        let listen = options.listen;
        if !listen.ip().is_loopback()
            && !options.insecure
            && (options.tls.is_none() || options.tokens.is_none())
        {
            return Err(ServeError::Unprotected { listen });
        }
        if !selection.refused.is_empty() {
            return Err(ServeError::Refused(selection.refused));
        }
        made(&options.data)?;
        let unusable = |source| ServeError::File { path: options.data.clone(), source };
        options.data = std::fs::canonicalize(&options.data).map_err(unusable)?;
        let requests = options.data.join("requests");
        // Of requests that a killed process was at.
        let _ = std::fs::remove_dir_all(&requests);
        made(&requests)?;
        let tokens = options.tokens.as_deref().map(Tokens::open).transpose()?.map(Arc::new);
        let tls = options.tls.clone().map(Tls::open).transpose()?.map(Arc::new);
        let file = options.data.join("audit.jsonl");
        let audit = Audit::open(&file).map_err(|source| ServeError::File { path: file, source })?;
        let queue = Arc::new(WorkQueue::default());
        let names = selection.plugins.iter().map(|p| p.manifest.plugin.name.clone()).collect();
        let jobs = Arc::new(Jobs::open(&options.data, names, queue.clone(), options.queue)?);
        let store = |source| OpenJobsError::Store { file: options.data.join("jobs.redb"), source };
        audit.recover(&jobs).map_err(store)?;
        let listening = |source| ServeError::Listen { listen, source };
        let listener = std::net::TcpListener::bind(listen).map_err(listening)?;
        listener.set_nonblocking(true).map_err(listening)?;
        let (data, outputs, window) = (options.data.clone(), options.outputs, options.window);
        let metrics = Metrics::default();
        let shared = Arc::new(Shared { data, jobs, queue: queue.clone(), audit, metrics, outputs, window });
        let names: Vec<String> = selection.plugins.iter().map(|p| p.manifest.plugin.name.clone()).collect();
        check_rules(&options, &names, session.segmentation)?;
        let (runner, models) = start(selection, session, shared.clone())?;
        let studies = studies(&options, &shared.jobs)?;
        let app = Arc::new(App {
            shared,
            models,
            tokens,
            hosts: NamedHosts::new(&options.hosts),
            limits: options.limits,
            queue: options.queue,
            requests,
            memory: Arc::new(Semaphore::new(
                usize::try_from(options.limits.infer_memory >> 20).unwrap_or(1).max(1),
            )),
            ending: AtomicBool::new(false),
            tls: tls.is_some(),
            studies,
        });
        Ok(Self { app, listener, tls, options, runner })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Its jobs, for a door of another kind.
    pub fn jobs(&self) -> Arc<Jobs> {
        self.app.shared.jobs.clone()
    }

    /// Serves until `stop` or SIGTERM or Ctrl-C says to end. What waits stays in the database; what runs may go on for its
    /// time of grace, and runs again at the next start where that is not enough.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn run(self, ready: impl FnOnce(Stop)) -> Result<(), ServeError> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().map_err(ServeError::System)?;
        let Self { app, listener, tls, options, runner } = self;
        let (sender, ending) = watch::channel(false);
        let address = listener.local_addr().map_err(ServeError::System)?;
        let served: Result<(), ServeError> = runtime.block_on(async {
            let listener = TcpListener::from_std(listener).map_err(ServeError::System)?;
            // Before anybody is told that it listens: a signal ends a process that does not listen for it.
            let [terminate, interrupt] = [SignalKind::terminate(), SignalKind::interrupt()].map(listen_for);
            tokio::spawn(signals(sender.clone(), terminate, interrupt));
            tokio::spawn(hangups(app.clone(), listen_for(SignalKind::hangup())));
            tokio::spawn(upkeep(app.clone(), tls.clone(), options.retention));
            tokio::spawn(close_queue(app.clone(), ending.clone()));
            let facts = json!({ "address": address.to_string(), "tls": tls.is_some() });
            log::line("info", "listening", facts);
            app.shared.audit.write("start", &[json!({ "version": env!("CARGO_PKG_VERSION") })]);
            ready(Stop(sender));
            let connections =
                listen::serve(listener, router(app.clone()), tls, options.limits, ending.clone());
            let _ = end_within(options.grace, ending, connections).await;
            Ok(())
        });
        served?;
        let until = std::time::Instant::now() + options.grace;
        let ended = || runner.is_finished() && app.studies.as_ref().is_none_or(|studies| studies.has_ended());
        while !ended() && std::time::Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        let finished = runner.is_finished();
        app.shared.audit.write("stop", &[json!({ "job_left": !finished })]);
        log::line("info", "stopped", json!({ "job_left": !finished }));
        // Until nobody holds the database any more; what hangs is left to the end of the process.
        runtime.shutdown_timeout(Duration::from_secs(5));
        Ok(())
    }
}

/// Rules that ask for a plugin that is not served, or for masks alone where none is made, would fail each of their studies.
fn check_rules(options: &ServerOptions, served: &[String], masks: bool) -> Result<(), ServeError> {
    let Some(wanted) = &options.studies else { return Ok(()) };
    let rules = RulesFile::read(&wanted.rules).map_err(ServeError::Studies)?;
    if let Some(plugin) = rules.plugins().into_iter().find(|plugin| !served.iter().any(|name| name == plugin))
    {
        let there = served.join(", ");
        let rules = wanted.rules.display();
        return Err(ServeError::Studies(format!(
            "{rules}: plugin {plugin} is not served; there is: {there}"
        )));
    }
    if !masks && rules.results.objects.iter().eq([&ObjectKind::Segmentation]) {
        return Err(ServeError::Studies(format!(
            "{}: [results] objects asks for masks alone, and this server makes none; give --segmentation, or name other objects",
            wanted.rules.display()
        )));
    }
    Ok(())
}

/// Begins to look for studies.
fn studies(options: &ServerOptions, jobs: &Arc<Jobs>) -> Result<Option<Arc<Service>>, ServeError> {
    let Some(wanted) = &options.studies else { return Ok(None) };
    let archive = wanted.archive.as_deref();
    let service = ServiceOptions { archive, rules: &wanted.rules, data: &options.data };
    let service =
        Service::start(&service, Arc::new(AnswerByJobs(jobs.clone()))).map_err(ServeError::Studies)?;
    Ok(Some(Arc::new(service)))
}

/// Waits for the connections; once `ending` is true no longer than the time of grace.
async fn end_within(grace: Duration, ending: watch::Receiver<bool>, connections: impl Future<Output = ()>) {
    let deadline = async {
        asked_to_end(ending).await;
        tokio::time::sleep(grace).await;
    };
    futures_util::future::select(std::pin::pin!(connections), std::pin::pin!(deadline)).await;
}

/// Opens the session in the thread that owns it.
fn start(
    selection: Selection,
    options: SessionOptions,
    shared: Arc<Shared>,
) -> Result<(JoinHandle<()>, Arc<Models>), ServeError> {
    let (sender, opened) = mpsc::channel();
    let run = move || {
        let session = match selection.open(&options) {
            Ok(session) if session.refused().is_empty() => session,
            Ok(session) => {
                let _ = sender.send(Err(ServeError::Refused(session.refused().to_vec())));
                return;
            }
            Err(e) => {
                let _ = sender.send(Err(e.into()));
                return;
            }
        };
        let (identities, references) = (session.identities(), session.references());
        let about = session.manifests().into_iter().zip(identities).zip(references);
        let models =
            Arc::new(Models::new(about.map(|((manifest, id), reference)| (manifest, id, reference))));
        let _ = sender.send(Ok(models.clone()));
        drop(sender);
        Runner::new(session, models, shared).run();
    };
    let thread = std::thread::Builder::new().name("engine".to_owned()).spawn(run);
    let thread = thread.map_err(ServeError::System)?;
    let ended = || ServeError::System(io::Error::other("the engine's thread ended"));
    let models = opened.recv().map_err(|_| ended())??;
    Ok((thread, models))
}

fn listen_for(kind: SignalKind) -> Option<Signal> {
    let listened = signal(kind);
    listened.inspect_err(|e| tracing::warn!("signal {} is not listened for ({e})", kind.as_raw_value())).ok()
}

async fn signals(sender: watch::Sender<bool>, terminate: Option<Signal>, interrupt: Option<Signal>) {
    let (Some(mut terminate), Some(mut interrupt)) = (terminate, interrupt) else { return };
    let told = std::pin::pin!(terminate.recv());
    futures_util::future::select(told, std::pin::pin!(interrupt.recv())).await;
    sender.send_replace(true);
}

/// SIGHUP: plugins whose files have changed are opened again, and those in quarantine.
async fn hangups(app: Arc<App>, hangup: Option<Signal>) {
    let Some(mut hangup) = hangup else { return };
    while hangup.recv().await.is_some() {
        reload_changed(&app).await;
    }
}

/// The server ends: nothing new is taken, and the engine ends after what it is at.
async fn close_queue(app: Arc<App>, ending: watch::Receiver<bool>) {
    asked_to_end(ending).await;
    app.ending.store(true, Ordering::Relaxed);
    app.shared.queue.close();
    if let Some(studies) = app.studies.clone() {
        // The receiver waits for its associations for a moment.
        let _ = spawn_blocking(move || studies.end()).await;
    }
}

/// Changed files are read again, and old jobs removed.
async fn upkeep(app: Arc<App>, tls: Option<Arc<Tls>>, retention: crate::jobs::Retention) {
    let mut turn = 0u32;
    loop {
        if turn.is_multiple_of(TIDY) {
            let jobs = app.shared.jobs.clone();
            let tidied = spawn_blocking(move || jobs.tidy(&retention, Timestamp::now())).await;
            match tidied {
                Ok(Ok(0)) | Err(_) => {}
                Ok(Ok(removed)) => log::line("info", "retention", json!({ "jobs_removed": removed })),
                Ok(Err(e)) => tracing::error!("{e}"),
            }
        }
        turn = turn.wrapping_add(1);
        tokio::time::sleep(PACE).await;
        let refreshed = [
            ("tokens", app.tokens.as_ref().map(|tokens| tokens.refresh().map_err(|e| e.to_string()))),
            ("tls", tls.as_ref().map(|tls| tls.refresh().map_err(|e| e.to_string()))),
        ];
        for (what, outcome) in refreshed {
            match outcome {
                Some(Ok(true)) => log::line("info", "reloaded", json!({ "what": what })),
                Some(Err(e)) => log::line("error", "not_reloaded", json!({ "what": what, "reason": e })),
                Some(Ok(false)) | None => {}
            }
        }
    }
}
