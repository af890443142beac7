//! `host run`: reads scans and prints every plugin's prediction.

use super::cases::{self, ViewFile};
use super::console::Console;
use super::dicom::{DicomOptions, Studies, Unanswered};
use super::options::{self, BackboneOptions, GeometryOption, PrecisionOption};
use super::outcome::{CommandError, EXIT_CODES, Outcome};
use super::report;
use super::tasks::tell_refused;
use super::watch::{self, Before};
#[cfg(unix)]
use super::worker;
use anymc3d_host::engine::result::{CaseResult, FailedCase, FailedInput, SCHEMA};
use anymc3d_host::engine::{Case, MemoryCap};
use anymc3d_host::memory;
use anymc3d_host::output::{OutputFolder, Writers};
use anymc3d_host::plugin::find::Choice;
use anymc3d_host::run::{Blame, CaseFailure, CaseOutput, Selection, Session, SessionOptions, Wanted};
#[cfg(unix)]
use anymc3d_host::run::{Isolation, isolate::Limits};
use anymc3d_host::scan::dicom::{self, DicomInput};
use anymc3d_host::scan::source::stem_of;
use anymc3d_manifest::Manifest;
use clap::Args;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  host run --plugin lung_nodule scan.nii.gz
  host run --plugin lung_nodule scans/ --out results        DIR/<case>/<plugin>/result.json, …
  host run --plugin lung_nodule table.csv --json > results.jsonl
  host run --plugin lung_nodule exam.zip --out results      DICOM: the series that fits is chosen
  host run --plugin lung_nodule exam/ --series 4            the series that you name
  host run --plugin lung_nodule@0.1 scan.nii.gz             an installed version; see `host registry`
  host run --plugin lung_nodule --segmentation scan.nii.gz --out results
  host run --plugin lung_nodule --weights run1/weights.safetensors scan.nii.gz
  host run --plugin knee --view sagittal=a.nii.gz --view coronal=b.nii.gz
  host run --plugin untried --plugin lung_nodule --isolate scans/ --out results
  host run --plugin libmine.so --watch scan.nii.gz          predicts again after every build
  host run --plugin lung_nodule --watch inbox/ --out results     predicts for scans as they arrive";

/// Predict: run scans through one or more plugins
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, after_help = EXIT_CODES)]
pub(super) struct Run {
    /// Scans (.nii, .nii.gz, .hdr/.img), DICOM (folders to any depth, zips, DICOMDIR, files; PATH#series=4 names one series),
    /// folders of scans, or data tables (.csv)
    #[arg(required_unless_present_any = ["view", "explain_plan"])]
    input: Vec<PathBuf>,
    /// Plugin, by name or path; repeat the option for more plugins
    #[arg(long, short, value_name = "P", required = true)]
    plugin: Vec<String>,
    /// Folder for results: DIR/<case>/<plugin>. The file name or the table names the case. If the same scan runs again,
    /// its result is replaced. A result of another scan is never replaced: a second scan of the same name goes to
    /// DIR/<case>-<first 8 digits of its sha256>, with a warning
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Also replace results that earlier calls wrote for other scans of the same name
    #[arg(long, requires = "out")]
    overwrite: bool,
    /// Write heatmap and preview beside each result [default: true with --out]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    heatmap: Option<bool>,
    /// Run the plugin's segmentation decoder and print the volume it segments; with --out also write segmentation.nii.gz
    /// on the scan's grid: 1 where the probability is 0.5 or more. With several views the decoder segments the first that
    /// has a file. A plugin without a decoder gives a warning and no mask
    #[arg(long)]
    segmentation: bool,
    /// Print one line of JSON per case and plugin
    #[arg(long)]
    json: bool,
    /// Build one case from several files: the scan of view NAME
    #[arg(long, value_name = "NAME=FILE")]
    view: Vec<ViewFile>,
    /// Trained weights, if one plugin is given [default: the file beside the library, else the installed one]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Print what the tasks share and what each computes alone; run nothing
    #[arg(long, conflicts_with_all = ["isolate", "watch"])]
    explain_plan: bool,
    /// Number format of the matrix products; auto is bf16 where the device supports it, else f32
    #[arg(long, value_enum, default_value_t = PrecisionOption::Auto)]
    precision: PrecisionOption,
    /// Lock file that says which installed version runs [default: anymc3d.lock, if it exists]
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Run an installed version that its publisher withdrew for safety
    #[arg(long)]
    allow_yanked: bool,
    /// Run the plugins in a child process. If a plugin crashes, exits or never returns, only the child ends: the host
    /// names the plugin, leaves it out from then on, and restarts the child for the other plugins
    #[arg(long)]
    isolate: bool,
    /// Longest time a plugin may take to open, and per case [default: 300]
    #[arg(long, value_name = "SECONDS", requires = "isolate", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    time_limit: Option<u64>,
    /// Most memory for the process, for example 2G: the host reads scans one after the other and refuses a scan that would
    /// need more. With --isolate it limits the address space of the plugins' process, which ends if a plugin asks for more
    /// [default: the lowest of 80 % of the machine's memory, the control group's limit and RLIMIT_AS; see `host doctor`]
    #[arg(long, value_name = "SIZE", value_parser = options::size)]
    max_memory: Option<usize>,
    /// Keep running after the last case. When a plugin's library or weights change, the host opens them again and
    /// predicts for the scans given by name once more; if it refuses the new build, the old build keeps running. The
    /// host predicts for scans that arrive or change in a folder as soon as they are complete. It reads tables once. It
    /// ends with Ctrl-C, or when its output is closed
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    dicom: DicomOptions,
    #[command(flatten)]
    geometry: GeometryOption,
    #[command(flatten)]
    backbone: BackboneOptions,
}

/// An INPUT after it was looked at.
pub(super) enum Work {
    Case(Case),
    /// An input that gives no case.
    Failed {
        path: PathBuf,
        error: String,
    },
}

/// Where results go: files, lines on the terminal.
pub(super) struct ResultSink<'a> {
    console: &'a Console,
    out: Option<OutputFolder>,
    writers: Writers,
    json: bool,
    /// Cases of DICOM that a plugin has no series for.
    unanswered: Unanswered,
}

impl Run {
    pub fn run(mut self, console: &Console) -> Result<Outcome, CommandError> {
        self.check()?;
        memory::give(self.max_memory);
        self.geometry.apply();
        self.backbone.most = self.max_memory;
        self.backbone.threads.apply()?;
        let mut options = self.session_options(console)?;
        let selection = Selection::new(&self.plugin, &options.choice)?;
        let refused = selection.refused.len();
        let mut outcome = tell_refused(&selection.refused, console);
        if selection.plugins.is_empty() {
            return Ok(outcome);
        }
        // An hour of computing must not end at a folder that cannot be written.
        let out = match self.open_out() {
            Ok(out) => out,
            Err(e) => {
                console.error(e);
                return Ok(outcome.or(Outcome::Failed));
            }
        };
        options.device_memory = self.max_memory;
        let mut session = selection.open(&options)?;
        outcome = outcome.or(tell_refused(&session.refused()[refused..], console));
        if session.plugins().is_empty() {
            return Ok(outcome);
        }
        self.check_views(&session.manifests())?;
        let heatmap = out.is_some() && self.heatmap.unwrap_or(true);
        if let Some(engine) = session.engine() {
            let cap = MemoryCap::of_process().map_err(CommandError::failed)?;
            engine.cap(cap.writing(heatmap, out.is_some() && self.segmentation));
        }
        if self.explain_plan {
            return Ok(outcome.or(self.explain(&mut session, console)?));
        }
        let (work, unanswered) = self.work(&session.manifests(), console);
        let writers = Writers::default().heatmap(heatmap);
        let sink = ResultSink { console, writers, out, json: self.json, unanswered };
        let before = self.watch.then(|| Before::of(&session, &work));
        let bar = console.progress(work.len(), "cases");
        let mut intended_use = BTreeSet::new();
        let cases: Vec<Option<&Case>> = work.iter().map(Work::case).collect();
        session.run_all(&cases, sink.wanted(), console, |session, i, answers| {
            outcome = outcome.or(sink.take(session, &work[i], answers, &mut intended_use));
            bar.inc(1);
        });
        if !self.json {
            intended_use.iter().for_each(|line| console.result(line));
        }
        if let Some(before) = before {
            bar.finish_and_clear();
            outcome = outcome.or(watch::watch(&self.input, &work, &mut session, &sink, before));
        }
        session.close(console);
        Ok(outcome)
    }

    /// What the options say of the session.
    fn session_options(&self, console: &Console) -> Result<SessionOptions, CommandError> {
        // Not used where there are no other processes.
        let _ = console;
        let mut options = SessionOptions::default();
        options.backbone.clone_from(&self.backbone.backbone);
        options.device = self.backbone.device;
        options.precision = self.precision.choice();
        options.weights.clone_from(&self.weights);
        options.choice = Choice { lock: self.lock.clone(), allow_yanked: self.allow_yanked };
        options.segmentation = self.segmentation;
        #[cfg(unix)]
        if self.isolate {
            options.threads = self.backbone.threads.number();
            options.isolation = Some(Isolation {
                limits: Limits { time: std::time::Duration::from_secs(self.time_limit.unwrap_or(300)) },
                max_memory: options::memory_limit(self.max_memory),
                micro_ct: self.geometry.micro_ct,
                spawn: worker::spawn(console),
            });
        }
        #[cfg(not(unix))]
        if self.isolate {
            let message =
                "--isolate: this build has no processes to isolate in; it is there on Linux and macOS";
            return Err(CommandError::usage(message));
        }
        Ok(options)
    }

    fn open_out(&self) -> Result<Option<OutputFolder>, String> {
        let open = |root: &PathBuf| OutputFolder::overwriting(root, self.overwrite);
        let out = self.out.as_ref().map(open).transpose();
        out.map_err(|e| format!("--out {e}; choose another folder"))
    }

    /// What clap cannot see.
    fn check(&self) -> Result<(), CommandError> {
        let usage = |message: &str| Err(CommandError::usage(message));
        if self.weights.is_some() && self.plugin.len() > 1 {
            return usage("--weights belongs to one plugin; give one --plugin with it");
        }
        if self.heatmap == Some(true) && self.out.is_none() {
            return usage("--heatmap needs a place; give --out DIR with it");
        }
        if !self.view.is_empty() && self.input.len() > 1 {
            return usage("--view makes one case; give one INPUT at most with it (for the other views)");
        }
        if !self.view.is_empty() && self.input.iter().any(|i| i.is_dir() || cases::is_table(i)) {
            return usage("--view makes one case; a folder or a table cannot be given with it");
        }
        let mut seen = BTreeSet::new();
        match self.view.iter().find(|v| !seen.insert(&v.view)) {
            Some(twice) => Err(CommandError::usage(format!("--view {}: given twice", twice.view))),
            None => Ok(()),
        }
    }

    /// Refuses a view that no plugin has (otherwise a typing error would be ignored), and one scan given for several
    /// sequences. Reading a table finds both there.
    fn check_views(&self, tasks: &[Manifest]) -> Result<(), CommandError> {
        self.dicom.check(tasks).map_err(CommandError::usage)?;
        // The series of a DICOM study are views by themselves.
        let one_scan =
            |i: &&PathBuf| !cases::is_table(i) && !matches!(DicomInput::look(i), Ok(Some(_)) | Err(_));
        if let Some(scan) = self.input.iter().find(one_scan) {
            let views = self.view.iter().map(|v| (v.view.clone(), v.file.clone())).collect();
            let case = Case { name: String::new(), image: Some(scan.clone()), views };
            for manifest in tasks {
                case.check_sequences(manifest).map_err(|e| {
                    CommandError::usage(format!("{e}, or a table with the columns image.VIEW"))
                })?;
            }
        }
        let known: BTreeSet<&str> = tasks.iter().flat_map(|m| &m.views).map(|v| v.name.as_str()).collect();
        match self.view.iter().find(|v| !known.contains(v.view.as_str())) {
            Some(v) => {
                let known: Vec<&str> = known.into_iter().collect();
                let message = format!("--view {}: no such view; there is: {}", v.view, known.join(", "));
                Err(CommandError::usage(message))
            }
            None => Ok(()),
        }
    }

    /// The plan for the first case, or for any scan.
    fn explain(&self, session: &mut Session, console: &Console) -> Result<Outcome, CommandError> {
        let (work, _) = self.work(&session.manifests(), console);
        let Some(engine) = session.engine() else {
            return Err(CommandError::usage("--explain-plan: what is shared is known without --isolate"));
        };
        let first = work.into_iter().find_map(|work| match work {
            Work::Case(case) => Some(case),
            Work::Failed { .. } => None,
        });
        let any = || Case { name: "scan".to_owned(), image: Some("SCAN".into()), views: Default::default() };
        let plan = engine.plan(&first.unwrap_or_else(any));
        let holds = engine.holds();
        let json = || {
            serde_json::to_string(
                &serde_json::json!({ "blocks": plan.blocks, "stacks": plan.stacks, "memory": holds }),
            )
        };
        console.result(if self.json {
            json().map_err(CommandError::failed)?
        } else {
            format!("{plan}\n{holds}")
        });
        Ok(Outcome::Done)
    }

    /// The cases of all inputs, and which plugins do not answer some of them.
    fn work(&self, tasks: &[Manifest], console: &Console) -> (Vec<Work>, Unanswered) {
        let mut studies = Studies::default();
        if !self.view.is_empty() {
            return (vec![self.case_of_views(tasks)], studies.unanswered);
        }
        let mut work = Vec::new();
        for input in &self.input {
            let failed = |error| Work::Failed { path: input.clone(), error };
            if cases::is_table(input) {
                match cases::in_table(input, tasks, &mut studies.unanswered) {
                    Ok(cases) => work.extend(cases.into_iter().map(Work::Case)),
                    Err(e) => work.push(failed(e)),
                }
                continue;
            }
            let dicom = DicomInput::look(input);
            if let Ok(Some(dicom)) = &dicom {
                match self.dicom.cases(dicom, tasks, self.out.as_deref(), &mut studies, console) {
                    Ok(cases) => work.extend(cases.into_iter().map(Work::Case)),
                    Err(e) => work.push(failed(e)),
                }
            }
            match dicom {
                Ok(Some(_)) if input.is_dir() => work.extend(self.beside(input, console)),
                Ok(Some(_)) => {}
                Err(e) if !input.is_dir() => work.push(failed(e.to_string())),
                other if input.is_dir() => match cases::in_folder(input) {
                    Ok((files, masks)) => {
                        tell_masks(input, masks, console);
                        work.extend(files.iter().map(|f| Work::Case(cases::of_file(f))));
                    }
                    // An inbox may be empty.
                    Err(e) if self.watch => console.note(e),
                    Err(e) => work.push(failed(other.err().map_or(e, |e| e.to_string()))),
                },
                _ => work.push(Work::Case(cases::of_file(input))),
            }
        }
        let any_case = work.iter().any(|w| w.case().is_some());
        if let Some((path, error)) = studies.tell_skipped(any_case, console) {
            work.push(Work::Failed { path, error });
        }
        (work, studies.unanswered)
    }

    /// The scans of other formats in a folder with DICOM, at any depth.
    fn beside(&self, folder: &Path, console: &Console) -> Vec<Work> {
        let mut work = Vec::new();
        for folder in cases::folders_below(folder) {
            if let Ok((files, masks)) = cases::in_folder(&folder) {
                tell_masks(&folder, masks, console);
                work.extend(files.iter().map(|f| Work::Case(cases::of_file(f))));
            }
        }
        work
    }

    /// `--view`: one case of several files.
    fn case_of_views(&self, tasks: &[Manifest]) -> Work {
        let first = &self.view[0];
        let image = self.input.first().cloned();
        let any = image.as_ref().unwrap_or(&first.file);
        let mut case = Case { name: cases::of_file(any).name, image, views: BTreeMap::new() };
        match self.fill_views(&mut case, tasks) {
            Ok(()) => Work::Case(case),
            Err(error) => Work::Failed { path: any_path(&case, &first.file), error },
        }
    }

    fn fill_views(&self, case: &mut Case, tasks: &[Manifest]) -> Result<(), String> {
        let out = self.out.as_deref();
        let mut name = None;
        let mut look = |path: &Path| -> Result<(), String> {
            let dicom = DicomInput::look(path).map_err(|e| e.to_string())?;
            if let (Some(dicom), None) = (dicom, &name) {
                let study = dicom.studies().first().copied();
                name = study.map(|study| self.dicom.name(&dicom, study, out)).transpose()?;
            }
            Ok(())
        };
        case.image.as_deref().map(&mut look).transpose()?;
        for given in &self.view {
            look(&given.file)?;
            case.views.insert(given.view.clone(), given.file.clone());
            // Of a folder of DICOM the series that fits the view.
            for manifest in tasks {
                let Some(view) = manifest.views.iter().find(|v| v.name == given.view) else { continue };
                let path = dicom::resolve(&given.file, view).map_err(|e| e.to_string())?;
                if path != given.file {
                    case.views.insert(Case::own(&manifest.plugin.name, &view.name), path);
                }
            }
        }
        if let Some(name) = name {
            case.name = name;
        }
        Ok(())
    }
}

fn any_path(case: &Case, first: &Path) -> PathBuf {
    case.image.clone().unwrap_or_else(|| first.to_path_buf())
}

fn tell_masks(folder: &Path, masks: usize, console: &Console) {
    if masks > 0 {
        console.note(format!("{}: {masks} masks left out (…_mask)", folder.display()));
    }
}

impl Work {
    /// The case, where the input gives one.
    pub fn case(&self) -> Option<&Case> {
        match self {
            Self::Case(case) => Some(case),
            Self::Failed { .. } => None,
        }
    }
}

impl<'a> ResultSink<'a> {
    pub fn console(&self) -> &'a Console {
        self.console
    }

    /// What is wanted of each case.
    pub fn wanted(&self) -> Wanted<'_> {
        Wanted { output: self.out.as_ref(), writers: self.writers }
    }

    /// Runs a case and prints what came out.
    pub fn process(
        &self,
        session: &mut Session,
        work: &Work,
        intended_use: &mut BTreeSet<String>,
    ) -> Outcome {
        let case = work.case();
        let answers = case.map(|case| session.run(case, self.wanted(), self.console)).unwrap_or_default();
        self.take(session, work, answers, intended_use)
    }

    /// Prints what came out of a case.
    pub fn take(
        &self,
        session: &Session,
        work: &Work,
        answers: Vec<Result<CaseOutput, CaseFailure>>,
        intended_use: &mut BTreeSet<String>,
    ) -> Outcome {
        let case = match work {
            Work::Case(case) => case,
            Work::Failed { path, error } => return self.fail(stem_of(path), path, None, error.clone()),
        };
        // A fault of the scan is printed once, not once per plugin.
        if let Some(error) = same_fault(&answers) {
            return self.fail(case.name.clone(), case.any_file(), None, error);
        }
        let mut outcome = Outcome::Done;
        for (index, answer) in answers.into_iter().enumerate() {
            let done = match answer {
                Ok(output) => {
                    let result = &output.result;
                    intended_use.insert(format!("{}: {}", result.plugin.name, result.intended_use));
                    self.tell(&output)
                }
                Err(failure) => {
                    let plugin = Some(session.name(index).to_owned());
                    let message = match self.unanswered.of(&case.name, session.name(index)) {
                        Some(None) => continue,
                        Some(Some(reason)) => reason.to_owned(),
                        None => failure.message,
                    };
                    self.fail(case.name.clone(), case.any_file(), plugin, message)
                }
            };
            outcome = outcome.or(done);
        }
        outcome
    }

    fn tell(&self, CaseOutput { result, json, folder }: &CaseOutput) -> Outcome {
        if !self.json {
            self.console.result(report::block(result, folder.as_deref()) + "\n");
            return Outcome::Done;
        }
        let CaseResult { case, warnings, .. } = result;
        warnings.iter().for_each(|w| self.console.warning(format!("{case}: {w}")));
        self.console.result(json);
        Outcome::Done
    }

    fn fail(&self, case: String, path: &Path, plugin: Option<String>, error: String) -> Outcome {
        let at = path.display().to_string();
        // Most messages name the file already.
        if error.contains(&at) {
            self.console.error(&error);
        } else {
            self.console.error(format!("{at}: {error}"));
        }
        if self.json {
            let input = FailedInput { path: at };
            let failed = FailedCase { schema: SCHEMA.to_owned(), case, input, plugin, error };
            match serde_json::to_string(&failed) {
                Ok(json) => self.console.result(json),
                Err(e) => self.console.error(format!("a result cannot be written as JSON: {e}")),
            }
        }
        Outcome::Failed
    }
}

/// The one message of all tasks, where none could use the scan.
fn same_fault(answers: &[Result<CaseOutput, CaseFailure>]) -> Option<String> {
    let mut faults = answers.iter().map(|a| match a {
        Err(CaseFailure { message, blame: Blame::Scan }) => Some(message),
        _ => None,
    });
    let first = faults.next()??;
    faults.all(|f| f == Some(first)).then(|| first.clone())
}
