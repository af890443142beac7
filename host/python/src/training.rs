//! Training on a thread of its own: the calling thread hands what happens to Python and looks for Ctrl-C meanwhile.

use crate::backbone::Backbone;
use crate::errors;
use anymc3d_host::backbone;
use anymc3d_host::backbone::Precision;
use anymc3d_host::data::doctor::examine_and_keep;
use anymc3d_host::data::table::{Table, TableError};
use anymc3d_host::memory::{self, MemoryBudget};
use anymc3d_host::plugin::find;
use anymc3d_host::scan::DecodedScans;
use anymc3d_host::task::{Weights, open_library};
use anymc3d_host::train::{
    Contents, EpochRecord, MemoryPlan, PrefixCache, Progress, TrainContext, TrainError, TrainOptions,
    train as train_task,
};
use pyo3::prelude::*;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

/// How often the calling thread looks for Ctrl-C.
const PACE: Duration = Duration::from_millis(50);
/// How long it waits for the thread that trains after Ctrl-C: that ends with the case it is at.
const GRACE: Duration = Duration::from_millis(500);

/// Runs that were cancelled and still end: the next run waits for them.
static ENDING: Mutex<Vec<JoinHandle<RunOutcome>>> = Mutex::new(Vec::new());

/// The class of the exception and what it says.
type Failure = (&'static str, String);
type RunOutcome = Result<Value, Failure>;

/// All that a run needs, owned: its thread may outlive the call.
struct Work {
    plugin: String,
    table: PathBuf,
    out: PathBuf,
    backbone: Arc<backbone::Backbone>,
    precision: Precision,
    options: TrainOptions,
    start: Option<PathBuf>,
    resume: bool,
    checked: bool,
    cache: Option<PathBuf>,
    cache_gib: f64,
    intended_use: Option<String>,
}

/// What happens in a run, as JSON for the callback.
struct ProgressSender {
    to: Sender<Value>,
    cancelled: Arc<AtomicBool>,
}

impl ProgressSender {
    /// Nobody listens any more where the run was cancelled.
    fn say(&self, event: Value) {
        let _ = self.to.send(event);
    }
}

impl Progress for ProgressSender {
    fn begin(&mut self, cases: u64, done: u64) {
        self.say(json!({ "event": "begin", "cases": cases, "done": done }));
    }
    fn read(&mut self, done: u64, cases: u64) {
        self.say(json!({ "event": "read", "cases": cases, "done": done }));
    }
    fn case(&mut self, epoch: usize, loss: f64) {
        self.say(json!({ "event": "case", "epoch": epoch, "loss": loss }));
    }
    fn epoch(&mut self, record: &EpochRecord, best: bool) {
        let mut event = json!(record);
        event["event"] = json!("epoch");
        event["best"] = json!(best);
        self.say(event);
    }
    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// The defaults with what Python gave in their place; a key that is none is refused by name.
fn options(given: &str) -> Result<TrainOptions, String> {
    let given: serde_json::Map<String, Value> = serde_json::from_str(given).map_err(|e| e.to_string())?;
    let mut all = json!(TrainOptions::default());
    let known: Vec<String> = all.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect();
    for (key, value) in given {
        if !known.contains(&key) {
            return Err(format!("option `{key}` is unknown; expected one of {}", known.join(", ")));
        }
        all[key] = value;
    }
    let options: TrainOptions = serde_json::from_value(all).map_err(|e| format!("options: {e}"))?;
    if options.epochs == 0 || options.batch == 0 || options.draws == 0 {
        return Err("epochs, batch and draws: expected 1 or more".to_owned());
    }
    let positive = [options.lr, options.head_lr].into_iter().all(|v| v.is_finite() && v > 0.0);
    let share = options.val_fraction > 0.0 && options.val_fraction < 1.0;
    if !(positive && share) {
        return Err(
            "lr and head_lr: expected numbers above 0; val_fraction: a share between 0 and 1".to_owned()
        );
    }
    Ok(options)
}

impl Work {
    fn run(mut self, mut sender: ProgressSender) -> RunOutcome {
        let plugin = |e: &dyn ToString| ("PluginError", e.to_string());
        let data = |e: &dyn ToString| ("TrainError", e.to_string());
        let library = open_library(&self.plugin).map_err(|e| plugin(&e))?;
        let manifest = &library.embedded.manifest;
        let start = self.start.as_deref().map(Weights::open).transpose().map_err(|e| plugin(&e))?;
        if let Some(start) = &start {
            self.options.start_from(&start.info).map_err(|e| ("UsageError", e))?;
        }
        let table = Table::open(&self.table, manifest).map_err(|e| data(&e))?;
        let decoded = Arc::new(DecodedScans::up_to(MemoryBudget::of_process().bytes / 8));
        let contents = match self.checked {
            true => Some(self.examined(&table, manifest, &decoded)?),
            false => None,
        };
        if sender.cancelled() {
            return Err(failure(TrainError::Cancelled));
        }
        let split = table.split(self.options.val_fraction, self.options.seed);
        let memory = MemoryPlan::new(memory::limit(), memory::base()).map_err(|e| data(&e))?;
        let folder = self.cache.clone().or_else(|| find::home().map(|h| h.join("cache").join("prefix")));
        let folder = folder.filter(|_| self.cache_gib > 0.0);
        let cache =
            PrefixCache::open(folder.as_deref(), (self.cache_gib.max(0.0) * (1u64 << 30) as f64) as u64)
                .map_err(|e| data(&format!("the feature cache cannot be opened: {e}")))?;
        let cache = cache.with_decoded(decoded);
        let context = TrainContext {
            library: &library,
            backbone: &self.backbone,
            precision: self.precision,
            table: &table,
            split: &split,
            cache: &cache,
            memory,
            contents: contents.as_ref(),
            start: start.as_ref(),
            intended_use: self.intended_use.as_deref(),
        };
        let trained =
            train_task(context, &self.options, &self.out, self.resume, &mut sender).map_err(failure)?;
        Ok(json!({
            "weights": trained.weights,
            "record": trained.record,
            "epochs": trained.epochs,
            "calibration": trained.calibration,
        }))
    }

    /// Opens every scan of the table; errors are refused.
    fn examined(
        &self,
        table: &Table,
        manifest: &anymc3d_manifest::Manifest,
        decoded: &DecodedScans,
    ) -> Result<Contents, Failure> {
        let examination = examine_and_keep(table, manifest, decoded, &|| ());
        let problems = examination.findings.errors.clone();
        match problems.is_empty() {
            true => Ok(examination.contents().map(|(path, content)| (path.to_owned(), *content)).collect()),
            false => Err(("TrainError", TableError { path: self.table.clone(), problems }.to_string())),
        }
    }
}

fn failure(error: TrainError) -> Failure {
    let class = match &error {
        TrainError::Plugin(_) => "PluginError",
        TrainError::Task { .. } => "TaskError",
        TrainError::Sample(_) => "ScanError",
        TrainError::Backbone(_) => "BackboneError",
        TrainError::Io { .. } => "OutputError",
        TrainError::Cancelled => "Cancelled",
        _ => "TrainError",
    };
    (class, error.to_string())
}

/// Trains a plugin on a table; what came of it, as JSON. `progress` is called with JSON of each event.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
pub fn train(
    py: Python<'_>,
    plugin: String,
    table: PathBuf,
    out: PathBuf,
    backbone: &Backbone,
    options_json: &str,
    start: Option<PathBuf>,
    resume: bool,
    checked: bool,
    cache: Option<PathBuf>,
    cache_gib: f64,
    intended_use: Option<String>,
    progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let options = options(options_json).map_err(errors::of("UsageError"))?;
    let (shared, precision) = (backbone.shared.clone(), backbone.precision);
    let work = Work {
        plugin,
        table,
        out,
        backbone: shared,
        precision,
        options,
        start,
        resume,
        checked,
        cache,
        cache_gib,
        intended_use,
    };
    wait_for_cancelled(py)?;
    let cancelled = Arc::new(AtomicBool::new(false));
    let (to, from) = channel();
    let sender = ProgressSender { to, cancelled: cancelled.clone() };
    let thread = std::thread::Builder::new().name("training".to_owned()).spawn(move || work.run(sender));
    let thread = thread.map_err(errors::of("TrainError"))?;
    if let Err(error) = listen(py, from, progress.as_ref()) {
        cancelled.store(true, Ordering::Relaxed);
        py.detach(|| let_end(thread));
        return Err(error);
    }
    let ended = py.detach(|| thread.join());
    let ended = ended.map_err(|_| errors::raised("TrainError", "the thread that trains panicked"))?;
    ended.map(|value| value.to_string()).map_err(|(class, message)| errors::raised(class, message))
}

/// Hands every event to `progress` until the run has ended; an error of it, or Ctrl-C, ends the listening.
fn listen(py: Python<'_>, from: Receiver<Value>, progress: Option<&Py<PyAny>>) -> PyResult<()> {
    // Shared with the closure that runs without the interpreter's lock.
    let from = Mutex::new(from);
    let next = || from.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(PACE);
    loop {
        match py.detach(next) {
            Ok(event) => {
                if let Some(progress) = progress {
                    progress.call1(py, (event.to_string(),))?;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        py.check_signals()?;
    }
}

/// Waits a moment for a cancelled run; what then still ends is left to the next run.
fn let_end(thread: JoinHandle<RunOutcome>) {
    let begun = Instant::now();
    while !thread.is_finished() && begun.elapsed() < GRACE {
        sleep(PACE / 5);
    }
    if !thread.is_finished() {
        ENDING.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
    }
}

/// A run that was cancelled holds its folder until the case that it was at is done.
fn wait_for_cancelled(py: Python<'_>) -> PyResult<()> {
    let still = || {
        let mut ending = ENDING.lock().unwrap_or_else(PoisonError::into_inner);
        ending.retain(|thread| !thread.is_finished());
        !ending.is_empty()
    };
    while py.detach(still) {
        py.detach(|| sleep(PACE));
        py.check_signals()?;
    }
    Ok(())
}
