//! The process that plugins are in, from the inside: an engine that answers on a socket, or a probe.

use super::wire::{Answered, ChosenLibrary, Event, OpenRequest, ProbeRequest, Request, receive, send};
use crate::backbone::{Backbone, Precision};
use crate::check;
use crate::device::{DeviceChoice, gpus};
use crate::engine::{
    Case, Engine, MemoryCap, Passes, PrecisionChoice, Prediction, Stage, open_backbone_on, provenance,
};
use crate::output::{self, MakeWriter, ResultWriter, WriterSpec, need_evidence, standard_writer};
use crate::plugin::inspect;
use crate::run::identity::{ReferenceSummary, TaskIdentity};
use crate::run::{CaseFailure, use_threads};
use crate::scan::allow_micro_ct;
use crate::task::{InferenceOptions, LoadedTask};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a worker could not serve.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Standard input is no socket: nobody started this process as a worker.
    #[error("standard input is no socket; a worker is started by a session, never by hand")]
    NotAWorker,
    /// The session is gone.
    #[error("{0}")]
    Lost(#[from] io::Error),
}

/// Serves a session as its child process until the session closes the connection. The process should then end. Core
/// dumps are off, and on Linux the process dies with its parent.
///
/// # Errors
/// When standard input is no socket, or breaks.
pub fn serve() -> Result<(), WorkerError> {
    serve_with(&|_| None)
}

/// As [`serve`], for a program with [writers](ResultWriter) of its own: `make` makes them from their specs.
///
/// # Errors
/// As [`serve`].
pub fn serve_with(make: &MakeWriter) -> Result<(), WorkerError> {
    let stream = io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from);
    let stream = stream.ok().filter(|s| s.local_addr().is_ok());
    let mut stream = stream.ok_or(WorkerError::NotAWorker)?;
    #[cfg(target_os = "linux")]
    {
        // Whoever waits for the answers is gone: a plugin in an endless loop must not outlive the run.
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    }
    // What a crash would leave on the disk holds the scan.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = setrlimit(Resource::Core, none);
    match receive(&mut stream)? {
        Some(Request::Open(opening)) => engine(stream, opening, make)?,
        Some(Request::Probe(order)) => probe(stream, &order)?,
        Some(Request::Case { .. }) | None => {}
    }
    Ok(())
}

/// The most address space that this process may take: an allocation beyond it fails. Where a GPU's driver reserves more of it
/// than there is memory, only what can be written to counts.
fn limit_memory(bytes: Option<u64>, on_gpu: bool) {
    let Some(bytes) = bytes else { return };
    let what = if on_gpu { Resource::Data } else { Resource::As };
    // A limit that the system does not know leaves the process as it is, which is no reason not to run.
    if let Err(e) = setrlimit(what, Rlimit { current: Some(bytes), maximum: Some(bytes) }) {
        tracing::warn!("--max-memory: the system refuses the limit ({e}); it is not kept");
    }
}

fn engine(mut stream: UnixStream, opening: OpenRequest, make: &MakeWriter) -> io::Result<()> {
    if let Some(Err(e)) = opening.threads.map(use_threads) {
        return send(&mut stream, &Event::Fatal(e));
    }
    let Some(choice) = PrecisionChoice::named(&opening.precision) else {
        return send(&mut stream, &Event::Fatal(format!("no precision is called {}", opening.precision)));
    };
    let device = opening.device.parse().unwrap_or(DeviceChoice::Cpu);
    limit_memory(opening.max_memory, device != DeviceChoice::Cpu && gpus().is_ok());
    allow_micro_ct(opening.micro_ct);
    provenance::record(opening.record.0, opening.record.1);
    let mut parts: Vec<Part> = Vec::new();
    for group in by_backbone(&opening.plugins) {
        let name = &group[0].backbone;
        send(&mut stream, &Event::Backbone(name.clone()))?;
        let precision = choice.resolve_on(device, name);
        let backbone = match open_backbone_on(Some(name), precision, (device, opening.device_memory)) {
            Ok(backbone) => backbone,
            // Without its only backbone a process has nothing to do; of several the others serve.
            Err(e) if group.len() == opening.plugins.len() => {
                return send(&mut stream, &Event::Fatal(e.to_string()));
            }
            Err(e) => {
                for chosen in group {
                    send(&mut stream, &Event::Refused { task: chosen.task, error: e.to_string() })?;
                }
                continue;
            }
        };
        let (mut tasks, mut indices) = (Vec::new(), Vec::new());
        for ChosenLibrary { task, path, sha256, .. } in group {
            send(&mut stream, &Event::TaskOpening(*task))?;
            let library = inspect(path).and_then(|library| library.is_still(sha256));
            let how = InferenceOptions { segmentation: opening.segmentation, merge: opening.merge };
            let opened =
                library.and_then(|library| LoadedTask::open_all(library, &opening.weights, &backbone, how));
            match opened {
                Ok(loaded) => {
                    let identity = TaskIdentity::of(&loaded, &backbone, precision);
                    let reference = ReferenceSummary::of(&loaded);
                    tasks.push(loaded);
                    indices.push(*task);
                    send(&mut stream, &Event::Opened { task: *task, identity, reference })?;
                }
                Err(e) => send(&mut stream, &Event::Refused { task: *task, error: e.to_string() })?,
            }
        }
        parts.push((backbone, precision, tasks, indices));
    }
    // What the process holds before its first case is measured here, where every backbone is open.
    let cap = MemoryCap::of_process().ok();
    let engines = parts
        .into_iter()
        .map(|(backbone, precision, tasks, indices)| (Engine::new(backbone, precision, tasks), indices));
    let mut engines: Vec<(Engine, Vec<usize>)> = engines.collect();
    send(&mut stream, &Event::Ready(engines.iter().map(|(engine, _)| engine.holds()).collect()))?;
    while let Some(ask) = receive(&mut stream)? {
        if let Request::Case { case, tasks, writers, folder } = ask {
            let (writers, written) = (all_of(&writers, make), folder.is_some());
            let evidence = written && writers.as_ref().is_ok_and(|writers| need_evidence(writers));
            if let Some(cap) = cap {
                let most = writers.iter().flatten().map(|w| w.bytes_per_voxel()).max().unwrap_or(0);
                let most = if written { most } else { 0 };
                let cap = cap.writing(evidence, opening.segmentation && written).writing_of_a_voxel(most);
                engines.iter_mut().for_each(|(engine, _)| engine.cap(cap));
            }
            let writing = Writing { writers, evidence, folder };
            let mut passes = Passes::default();
            for (engine, indices) in &engines {
                passes += case_of(&mut stream, engine, indices, &case, &tasks, &writing)?;
            }
            send(&mut stream, &Event::CaseDone(passes))?;
        }
    }
    Ok(())
}

/// A backbone with the tasks on it, and their indices.
type Part = (Backbone, Precision, Vec<LoadedTask>, Vec<usize>);

/// The plugins of each backbone, in the order in which they name them.
fn by_backbone(plugins: &[ChosenLibrary]) -> Vec<Vec<&ChosenLibrary>> {
    let mut groups: Vec<Vec<&ChosenLibrary>> = Vec::new();
    for plugin in plugins {
        match groups.iter_mut().find(|group| group[0].backbone == plugin.backbone) {
            Some(group) => group.push(plugin),
            None => groups.push(vec![plugin]),
        }
    }
    groups
}

/// The writers of a case, or which of them this process cannot make.
fn all_of(specs: &[WriterSpec], make: &MakeWriter) -> Result<Vec<Arc<dyn ResultWriter>>, String> {
    let one = |spec: &WriterSpec| {
        let made = standard_writer(spec).or_else(|| make(spec));
        made.ok_or_else(|| format!("the plugins' process has no writer `{}`; see `serve_with`", spec.name))
    };
    specs.iter().map(one).collect()
}

/// What is written of a case.
struct Writing {
    writers: Result<Vec<Arc<dyn ResultWriter>>, String>,
    evidence: bool,
    folder: Option<PathBuf>,
}

impl Writing {
    /// The record of a plugin's prediction as JSON, its files in a folder of its own.
    fn record(&self, prediction: Prediction, case: &Case, task: usize) -> Result<String, String> {
        let writers = self.writers.as_ref().map_err(Clone::clone)?;
        let folder = self.folder.as_deref().map(|folder| own_folder(folder, task)).transpose()?;
        let result = output::record(prediction, case, folder.as_deref(), writers)?;
        serde_json::to_string(&result).map_err(|e| e.to_string())
    }
}

fn case_of(
    stream: &mut UnixStream,
    engine: &Engine,
    indices: &[usize],
    case: &Case,
    wanted: &[usize],
    writing: &Writing,
) -> io::Result<Passes> {
    let places: Vec<usize> =
        wanted.iter().filter_map(|task| indices.iter().position(|i| i == task)).collect();
    let stream = RefCell::new(stream);
    let say = |said: Event| send(&mut **stream.borrow_mut(), &said);
    let mut answered = Vec::new();
    let broken: RefCell<Option<io::Error>> = RefCell::new(None);
    let note = |sent: io::Result<()>| {
        if let Err(e) = sent {
            broken.borrow_mut().get_or_insert(e);
        }
    };
    engine.predict_each(
        case,
        writing.evidence,
        &places,
        |place, stage| note(say(Event::At { task: indices[place], stage })),
        |place, prediction| {
            let task = indices[place];
            answered.extend(prediction.is_ok().then_some(place));
            note(say(Event::At { task, stage: Stage::Record }));
            let answered = match prediction {
                Err(e) => Err(CaseFailure::from(e)),
                Ok(prediction) => writing.record(prediction, case, task).map_err(CaseFailure::of_output),
            };
            note(say(match answered {
                Ok(json) => Event::Answered(Answered { task, json }),
                Err(failure) => Event::Failed { task, failure },
            }));
        },
    );
    let passes = engine.passes(case, writing.evidence, &answered);
    broken.into_inner().map_or(Ok(passes), Err)
}

fn own_folder(folder: &Path, task: usize) -> Result<PathBuf, String> {
    let own = folder.join(task.to_string());
    std::fs::create_dir(&own).map_err(|e| format!("cannot be written ({e})"))?;
    Ok(own)
}

fn probe(mut stream: UnixStream, order: &ProbeRequest) -> io::Result<()> {
    limit_memory(order.max_memory, false);
    let mut subject = match check::PluginUnderTest::new(
        &order.library,
        order.weights.as_deref(),
        order.backbone.as_deref(),
    ) {
        Ok(subject) => subject,
        Err(e) => return send(&mut stream, &Event::Fatal(e)),
    };
    for name in &order.checks {
        send(&mut stream, &Event::Trying(name.clone()))?;
        let mut failed = false;
        for finding in subject.run(name) {
            failed |= finding.verdict == check::Verdict::Failed;
            send(&mut stream, &Event::Found(finding))?;
        }
        if failed && check::CHECKS[..check::FIRST].contains(&name.as_str()) {
            break;
        }
    }
    send(&mut stream, &Event::ProbeDone)
}
