//! The thread that owns the session: it takes one work after the other and runs it. Whatever a plugin does costs its case.

use crate::audit::Audit;
use crate::jobs::{Answer, Job, JobFailure, JobId, JobState, Jobs, LabelAnswer, Progress};
use crate::metrics::Metrics;
use crate::models::{Health, Models};
use crate::options::Outputs;
use crate::work::{AnsweredCase, WaitingCase, Work, WorkQueue};
use anymc3d_host::engine::{Case, Stage};
use anymc3d_host::output::{
    DicomWriter, HeatmapWriter, OutputFolder, ReportWriter, ResultWriter, standard_writers,
};
use anymc3d_host::run::inputs::{CaseEntry, InputOptions, NoAnswer, StudyNames, find_cases};
use anymc3d_host::run::{Blame, CaseFailure, CaseOutput, CaseRequest, Events, Notice, Session, Wanted};
use std::cell::RefCell;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// How often a job is begun: one that ends the whole server each time is not tried for ever.
const ATTEMPTS: u32 = 5;

/// What the runner and the handlers share.
pub(crate) struct Shared {
    pub data: PathBuf,
    pub jobs: Arc<Jobs>,
    pub queue: Arc<WorkQueue>,
    pub audit: Audit,
    pub metrics: Metrics,
    pub outputs: Outputs,
}

/// Runs works on a session.
pub(crate) struct Runner {
    pub session: Session,
    pub models: Arc<Models>,
    pub shared: Arc<Shared>,
}

/// What came of a job's cases.
#[derive(Default)]
struct Outcome {
    answers: Vec<Answer>,
    failures: Vec<JobFailure>,
    notices: Vec<String>,
}

/// Hears what the session tells of a job, and of the plugins.
struct Heard<'a> {
    runner: &'a Shared,
    models: &'a Models,
    job: Option<&'a JobId>,
    case: RefCell<String>,
    notices: RefCell<Vec<String>>,
    /// What messages call a folder of the server, which is nobody's business.
    folder: String,
}

impl Heard<'_> {
    fn without_folder(&self, text: &str) -> String {
        without_folder(text, &self.folder)
    }
}

/// A message without the paths of this machine.
fn without_folder(text: &str, folder: &str) -> String {
    text.replace(&format!("{folder}/"), "").replace(folder, "the scan")
}

impl Events for Heard<'_> {
    fn notice(&self, notice: &Notice) {
        match notice {
            Notice::Input(input) => {
                self.notices.borrow_mut().push(self.without_folder(&input.to_string()));
            }
            Notice::Fault { plugin, reason, faults, .. } => {
                self.runner.metrics.fault(plugin);
                let facts = serde_json::json!({ "plugin": plugin, "reason": reason, "in_a_row": faults });
                crate::log::line("warning", "plugin_fault", facts);
            }
            Notice::Quarantined { plugin, reason } | Notice::Refused { plugin, reason } => {
                self.runner.metrics.fault(plugin);
                if let Some((_, model)) = self.models.find(plugin) {
                    model.set_health(Health::Quarantined(self.without_folder(reason)));
                }
                let facts = serde_json::json!({ "plugin": plugin, "reason": reason });
                self.runner.audit.write("quarantine", std::slice::from_ref(&facts));
                crate::log::line("error", "plugin_quarantined", facts);
            }
            Notice::Separated { plugin, reason, .. } => {
                let facts = serde_json::json!({ "plugin": plugin, "reason": reason });
                crate::log::line("warning", "plugin_separated", facts);
            }
            other => tracing::warn!("{other}"),
        }
    }

    fn stage(&self, plugin: &str, stage: Stage) {
        let Some(job) = self.job else { return };
        let progress = Progress {
            state: JobState::Running,
            case: Some(self.case.borrow().clone()),
            plugin: Some(plugin.to_owned()),
            stage: Some(stage.to_string()),
        };
        self.runner.jobs.tell(job, progress);
    }
}

impl Runner {
    /// Runs works until the queue is closed, then lets the plugins go.
    pub fn run(mut self) {
        let shared = self.shared.clone();
        while let Some(work) = shared.queue.next() {
            let began = Instant::now();
            match work {
                Work::Job(id) => self.job(&id),
                Work::Case(waiting) => self.case(*waiting),
                Work::Reload { plugin, reply } => {
                    let _ = reply.send(self.reload(plugin));
                    continue;
                }
            }
            shared.metrics.took(began.elapsed().as_secs_f64());
        }
        let models = self.models.clone();
        self.session.close(&heard(&shared, &models, None, ""));
    }

    fn job(&mut self, id: &JobId) {
        let shared = self.shared.clone();
        let ended = match shared.jobs.begin(id) {
            Ok(Some(job)) => {
                let outcome = self.outcome(&job);
                // Counted before anybody hears of the end.
                shared.metrics.job(state(&outcome).name());
                shared.jobs.end(id, |job| {
                    job.state = state(&outcome);
                    job.answers = outcome.answers;
                    job.failures = outcome.failures;
                    job.notices = outcome.notices;
                })
            }
            other => other,
        };
        match ended {
            Ok(Some(job)) => {
                if shared.audit.job(&job)
                    && let Err(e) = shared.jobs.audited(id)
                {
                    tracing::error!("{e}");
                }
            }
            Ok(None) => {}
            // It stays what it was, and is tried again after a restart.
            Err(e) => tracing::error!("job {id}: {e}"),
        }
    }

    fn outcome(&mut self, job: &Job) -> Outcome {
        let failed = |message: String| Outcome {
            failures: vec![JobFailure { case: None, plugin: None, blame: "server".into(), message }],
            ..Outcome::default()
        };
        if job.attempts > ATTEMPTS {
            return failed(format!(
                "the server ended {ATTEMPTS} times while this job ran; it is not tried again"
            ));
        }
        // What an attempt before had begun.
        let _ = std::fs::remove_dir_all(self.shared.jobs.results_folder(&job.id));
        let outcome = catch_unwind(AssertUnwindSafe(|| self.cases(job)));
        outcome.unwrap_or_else(|_| {
            failed("the server's own code failed at this scan; its log says where".into())
        })
    }

    /// The cases of a job's scan, each through the plugins that are asked.
    fn cases(&mut self, job: &Job) -> Outcome {
        let shared = self.shared.clone();
        let models = self.models.clone();
        let folder = shared.jobs.job_folder(&job.id);
        let events = heard(&shared, &models, Some(&job.id), &folder.display().to_string());
        let asked: Vec<usize> = job.plugins.iter().filter_map(|name| Some(models.find(name)?.0)).collect();
        let manifests: Vec<_> = asked.iter().map(|i| models.all()[*i].manifest()).collect();
        let mut options = InputOptions::default();
        options.names = StudyNames::with_salt_of_folder(&shared.data);
        let mut outcome = Outcome::default();
        for name in job.plugins.iter().filter(|name| models.find(name).is_none()) {
            let message = format!("plugin {name} is not served any more");
            outcome.fail(None, Some(name), "plugin", message);
        }
        let mut list = find_cases(&[folder.join(&job.scan)], &manifests, &options, &events);
        for entry in &mut list.entries {
            let case = match entry {
                CaseEntry::Case(case) => case,
                CaseEntry::Failed { error, .. } => {
                    outcome.fail(None, None, "scan", events.without_folder(&error.to_string()));
                    continue;
                }
            };
            describe(case, job, &folder);
            *events.case.borrow_mut() = case.name.clone();
            let case: &Case = case;
            let wanted: Vec<usize> = asked
                .iter()
                .copied()
                .filter(|index| match list.unanswered.of(&case.name, &models.all()[*index].name) {
                    None => true,
                    Some(NoAnswer::NothingForIt) => false,
                    Some(NoAnswer::Failed(reason)) => {
                        let plugin = &models.all()[*index].name;
                        outcome.fail(Some(&case.name), Some(plugin), "scan", events.without_folder(reason));
                        false
                    }
                })
                .collect();
            let results = shared.jobs.results_folder(&job.id);
            let writers = writers(shared.outputs, case.image.is_none());
            let answers = self.ask(case, &wanted, &results, &writers, &events);
            self.take(&mut outcome, case, &wanted, answers, &results, &events);
        }
        outcome.notices = events.notices.into_inner();
        outcome
    }

    fn take(
        &self,
        outcome: &mut Outcome,
        case: &Case,
        asked: &[usize],
        answers: Vec<Result<CaseOutput, CaseFailure>>,
        results: &Path,
        events: &Heard<'_>,
    ) {
        for (index, answer) in asked.iter().zip(answers) {
            let plugin = &self.models.all()[*index].name;
            match answer {
                Ok(output) => {
                    self.shared.metrics.answer(plugin, "answered");
                    self.shared.metrics.stages(plugin, &output.result.timing_ms);
                    outcome.answers.push(answer_of(output, results));
                }
                Err(failure) => {
                    self.shared.metrics.answer(plugin, "failed");
                    let message = events.without_folder(&case.with_origins(failure.message.clone()));
                    outcome.fail(Some(&case.name), Some(plugin), blame(failure.blame), message);
                }
            }
        }
    }

    /// The answers of some plugins to a case, their files in place below `results`.
    fn ask(
        &mut self,
        case: &Case,
        plugins: &[usize],
        results: &Path,
        writers: &[Arc<dyn ResultWriter>],
        events: &Heard<'_>,
    ) -> Vec<Result<CaseOutput, CaseFailure>> {
        let output = match OutputFolder::open(results) {
            Ok(output) => output,
            Err(message) => {
                let failure = CaseFailure { message, blame: Blame::Output, remedy: None };
                return plugins.iter().map(|_| Err(failure.clone())).collect();
            }
        };
        let wanted = Wanted { output: Some(&output), writers };
        let mut answers = Vec::new();
        let asked = [Some(CaseRequest { case, tasks: plugins.to_vec() })];
        self.session.run_while(asked, wanted, events, |_, _, all| {
            answers = all;
            ControlFlow::Continue(())
        });
        answers
    }

    /// A request's case.
    fn case(&mut self, waiting: WaitingCase) {
        let WaitingCase { case, plugin, folder, heatmap, reply } = waiting;
        let shared = self.shared.clone();
        let models = self.models.clone();
        let events = heard(&shared, &models, None, &folder.path().display().to_string());
        let writers: Vec<Arc<dyn ResultWriter>> =
            if heatmap { vec![Arc::new(HeatmapWriter)] } else { Vec::new() };
        let results = folder.path().join("results");
        let asked =
            catch_unwind(AssertUnwindSafe(|| self.ask(&case, &[plugin], &results, &writers, &events)));
        let answer = asked.ok().and_then(|mut answers| answers.pop());
        let answer = answer.unwrap_or_else(|| {
            let message = "the server's own code failed at this scan; its log says where".to_owned();
            Err(CaseFailure { message, blame: Blame::Output, remedy: None })
        });
        let name = &models.all()[plugin].name;
        match &answer {
            Ok(output) => {
                shared.metrics.answer(name, "answered");
                shared.metrics.stages(name, &output.result.timing_ms);
            }
            Err(_) => shared.metrics.answer(name, "failed"),
        }
        let answer = answer.map_err(|failure| CaseFailure {
            message: events.without_folder(&case.with_origins(failure.message)),
            ..failure
        });
        // A client that left meanwhile gets nothing.
        let _ = reply.send(answer.map(|output| AnsweredCase { output, folder }));
    }

    fn reload(&mut self, plugin: usize) -> Result<String, String> {
        let shared = self.shared.clone();
        let models = self.models.clone();
        let events = heard(&shared, &models, None, "");
        let said = self.session.reload(plugin, &events)?;
        let identity = self.session.identities().swap_remove(plugin);
        models.all()[plugin].replace(self.session.plugins()[plugin].manifest.clone(), identity);
        Ok(said)
    }
}

impl Outcome {
    fn fail(&mut self, case: Option<&str>, plugin: Option<&str>, blame: &str, message: String) {
        let (case, plugin) = (case.map(str::to_owned), plugin.map(str::to_owned));
        self.failures.push(JobFailure { case, plugin, blame: blame.to_owned(), message });
    }
}

fn heard<'a>(shared: &'a Shared, models: &'a Models, job: Option<&'a JobId>, folder: &str) -> Heard<'a> {
    Heard {
        runner: shared,
        models,
        job,
        case: RefCell::default(),
        notices: RefCell::default(),
        folder: folder.to_owned(),
    }
}

/// Says what is known of a case beside its files, and what those are called to others. A file that was uploaded tells its
/// case's name by its content: what the client calls it may be a patient's name.
fn describe(case: &mut Case, job: &Job, folder: &Path) {
    if case.image.is_some() {
        let digest = job.upload_sha256.as_deref().unwrap_or(job.id.as_str());
        case.name = format!("scan-{}", digest.get(..12).unwrap_or(digest));
    }
    case.region.mask = job.region.mask.as_ref().map(|mask| folder.join(mask));
    case.region.point_mm = job.region.point_mm;
    for name in [Some(&job.scan), job.region.mask.as_ref()].into_iter().flatten() {
        case.copies.insert(folder.join(name), PathBuf::from(name));
    }
}

/// What is written of a case. `dicom`: its scan came as DICOM.
fn writers(outputs: Outputs, dicom: bool) -> Vec<Arc<dyn ResultWriter>> {
    let mut writers = standard_writers(outputs.heatmap);
    if outputs.dicom && dicom {
        writers.push(Arc::new(DicomWriter));
    }
    if outputs.report {
        writers.push(Arc::new(ReportWriter::new(false)));
    }
    writers
}

fn state(outcome: &Outcome) -> JobState {
    match (outcome.answers.is_empty(), outcome.failures.is_empty()) {
        (_, true) => JobState::Done,
        (false, false) => JobState::PartlyFailed,
        (true, false) => JobState::Failed,
    }
}

fn blame(blame: Blame) -> &'static str {
    match blame {
        Blame::Scan => "scan",
        Blame::Task => "plugin",
        Blame::Output => "writing",
    }
}

fn answer_of(output: CaseOutput, results: &Path) -> Answer {
    let result = output.result;
    let files = &result.files;
    let named = [&files.heatmap, &files.preview, &files.segmentation, &files.report];
    let all = std::iter::once("result.json".to_owned())
        .chain(named.into_iter().flatten().cloned())
        .chain(files.dicom.iter().cloned())
        .collect();
    let folder = output.folder.as_deref().and_then(|folder| folder.strip_prefix(results).ok());
    let folder = folder.map_or_else(
        || format!("{}/{}", result.case, result.plugin.name),
        |folder| folder.to_string_lossy().into_owned(),
    );
    let predictions = result.predictions.iter().map(|p| LabelAnswer {
        label: p.label.clone(),
        probability: p.probability,
        positive: p.positive,
    });
    Answer {
        case: result.case,
        version: result.plugin.version,
        folder,
        files: all,
        predictions: predictions.collect(),
        warnings: result.warnings,
        scan_sha256: result.input.sha256,
        library_sha256: result.plugin.sha256,
        weights_sha256: result.plugin.weights_sha256,
        plugin: result.plugin.name,
        backbone: result.backbone.name,
        backbone_sha256: result.backbone.sha256,
        milliseconds: result.timing_ms.total,
    }
}
