//! `host run`: scans in, every plugin's answer out.

use super::cases::{self, ViewFile};
use super::console::Console;
#[cfg(unix)]
use super::isolate::Limits;
use super::options::{self, BackboneOptions, GeometryOption, PrecisionOption};
use super::outcome::{CommandError, Outcome};
use super::output::Output;
use super::report;
use super::seat::{NoAnswer, Seat, Told, Who};
use super::tasks::{self, Chosen};
use super::watch::{self, Before};
use crate::engine::result::{CaseResult, FailedCase, FailedInput, SCHEMA};
use crate::engine::{Case, MemoryCap};
use crate::memory;
use crate::plugin::find::Choice;
use anymc3d_manifest::Manifest;
use clap::Args;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  host run --plugin lung_nodule scan.nii.gz
  host run --plugin lung_nodule scans/ --out results        DIR/<case>/<plugin>/result.json, …
  host run --plugin lung_nodule table.csv --json > results.jsonl
  host run --plugin lung_nodule@0.1 scan.nii.gz             an installed version, see `host registry`
  host run --plugin lung_nodule --segmentation scan.nii.gz --out results
  host run --plugin lung_nodule --weights run1/weights.safetensors scan.nii.gz
  host run --plugin knee --view sagittal=a.nii.gz --view coronal=b.nii.gz
  host run --plugin untried --plugin lung_nodule --isolate scans/ --out results
  host run --plugin libmine.so --watch scan.nii.gz          answers anew after every build
  host run --plugin lung_nodule --watch inbox/ --out results     answers scans as they arrive";

/// Predict: scans through one or more plugins
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Run {
    /// Scans (.nii, .nii.gz, .hdr/.img), folders of scans, or data tables (.csv)
    #[arg(required_unless_present_any = ["view", "explain_plan"])]
    input: Vec<PathBuf>,
    /// Plugin by name or path; may be given several times
    #[arg(long, short, value_name = "P", required = true)]
    plugin: Vec<String>,
    /// Where results are written: DIR/<case>/<plugin>. A case is called by its file, or by the table. The same scan once
    /// more replaces its own result; another scan's is never replaced: the second of a name goes to DIR/<case>-<the first
    /// 8 digits of its sha256>, with a warning
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace also what earlier calls wrote for other scans of the same name
    #[arg(long, requires = "out")]
    overwrite: bool,
    /// Heatmap and preview beside each result [default: with --out]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    heatmap: Option<bool>,
    /// Keep the plugin's segmentation branch: the volume it outlines, and with --out segmentation.nii.gz, 1 where the
    /// probability is 0.5 or more, on the scan's own grid. Of several views the first that has a file is outlined; a
    /// plugin without such a branch gives a warning and no mask
    #[arg(long)]
    segmentation: bool,
    /// One JSON object per case and plugin, one per line
    #[arg(long)]
    json: bool,
    /// One case of several files: the scan of each view
    #[arg(long, value_name = "NAME=FILE")]
    view: Vec<ViewFile>,
    /// Trained weights of the one plugin given [default: beside the library, then installed ones]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Print what the tasks share and what each computes by itself, and run nothing
    #[arg(long, conflicts_with_all = ["isolate", "watch"])]
    explain_plan: bool,
    /// Numbers of the large products; auto is bf16 where the device has it, else f32
    #[arg(long, value_enum, default_value_t = PrecisionOption::Auto)]
    precision: PrecisionOption,
    /// Lock file that says which installed version answers [default: anymc3d.lock, where there is one]
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Run an installed version even though its publisher withdrew it for safety
    #[arg(long)]
    allow_yanked: bool,
    /// Run the plugins in a process of their own: one that crashes, exits or never returns ends that process and not the
    /// run. It is started again, the plugin is named and left out from then on, the others answer
    #[arg(long)]
    isolate: bool,
    /// Longest time that a plugin may take to be opened, and for its turn at a case [default: 300]
    #[arg(long, value_name = "SECONDS", requires = "isolate", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    time_limit: Option<u64>,
    /// Most memory of the process, as in 2G: a scan that would take more is refused, and scans are read one after the
    /// other. With --isolate, address space of the plugins' process: a plugin that asks for more ends that process
    /// [default: the least of 80 % of the machine's, its control group's limit and RLIMIT_AS; `host doctor` tells which]
    #[arg(long, value_name = "SIZE", value_parser = options::size)]
    max_memory: Option<usize>,
    /// Stay after the last case. A plugin whose library or weights change on the disk is opened anew and answers from
    /// then on, the scans that were given by name once more (a build that is refused is told, and the earlier one goes
    /// on); of folders, scans that arrive or change are answered as soon as they are whole. Tables are read once. Ends
    /// with Ctrl-C, or when nobody reads the results any more
    #[arg(long)]
    watch: bool,
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

/// What is done with an answer.
pub(super) struct Desk<'a> {
    console: &'a Console,
    out: Option<Output>,
    heatmap: bool,
    json: bool,
}

impl Run {
    pub fn carry_out(mut self, console: &Console) -> Result<Outcome, CommandError> {
        self.check()?;
        memory::give(self.max_memory);
        self.geometry.apply();
        self.backbone.most = self.max_memory;
        self.backbone.threads.apply()?;
        let choice = Choice { lock: self.lock.clone(), allow_withdrawn: self.allow_yanked };
        let chosen = tasks::choose(&self.plugin, choice, console)?.segmentation(self.segmentation);
        if chosen.none() {
            return Ok(chosen.outcome());
        }
        // An hour of computing must not end at a folder that cannot be written.
        let out = match self.open_out() {
            Ok(out) => out,
            Err(e) => {
                console.error(e);
                return Ok(chosen.outcome().or(Outcome::Failed));
            }
        };
        let (mut seat, mut outcome) = self.open(chosen, console)?;
        if seat.plugins.is_empty() {
            return Ok(outcome);
        }
        self.check_views(&seat.manifests())?;
        let heatmap = out.is_some() && self.heatmap.unwrap_or(true);
        if let Who::Here(engine) = &mut seat.who {
            let cap = MemoryCap::of_process().map_err(CommandError::failed)?;
            engine.cap(cap.writing(heatmap, out.is_some() && self.segmentation));
        }
        if self.explain_plan {
            return Ok(outcome.or(self.explain(&seat, console)?));
        }
        let desk = Desk { console, heatmap, out, json: self.json };
        let work = self.work(&seat.manifests(), console);
        let before = self.watch.then(|| Before::of(&seat, &work));
        let bar = console.progress(work.len(), "cases");
        let mut words = BTreeSet::new();
        let mut begun = 1;
        for (i, now) in work.iter().enumerate() {
            if let Who::Here(engine) = &seat.who {
                let until = (i + 1 + engine.reads_ahead()).min(work.len());
                while begun < until {
                    if let Work::Case(next) = &work[begun] {
                        engine.expect(next);
                    }
                    begun += 1;
                }
            }
            outcome = outcome.or(desk.take_on(&mut seat, now, &mut words));
            bar.inc(1);
        }
        if !self.json {
            words.iter().for_each(|words| console.result(words));
        }
        if let Some(before) = before {
            bar.finish_and_clear();
            outcome = outcome.or(watch::watch(&self.input, &work, &mut seat, &desk, before));
        }
        seat.close(console);
        Ok(outcome)
    }

    #[cfg(unix)]
    fn open(&self, chosen: Chosen, console: &Console) -> Result<(Seat, Outcome), CommandError> {
        let (weights, precision) = (self.weights.as_deref(), self.precision.resolve(self.backbone.device));
        if !self.isolate {
            return chosen.open_here(weights, &self.backbone, precision, console);
        }
        let limits = Limits { time: std::time::Duration::from_secs(self.time_limit.unwrap_or(300)) };
        let memory = options::memory_limit(self.max_memory);
        let micro_ct = self.geometry.micro_ct;
        chosen.open_apart(weights, &self.backbone, precision, (limits, memory, micro_ct), console)
    }

    #[cfg(not(unix))]
    fn open(&self, chosen: Chosen, console: &Console) -> Result<(Seat, Outcome), CommandError> {
        if self.isolate {
            let message =
                "--isolate: this build has no processes to isolate in; it is there on Linux and macOS";
            return Err(CommandError::usage(message));
        }
        chosen.open_here(
            self.weights.as_deref(),
            &self.backbone,
            self.precision.resolve(self.backbone.device),
            console,
        )
    }

    fn open_out(&self) -> Result<Option<Output>, String> {
        self.out.as_deref().map(|root| Output::overwriting(root, self.overwrite)).transpose()
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

    /// A view that no plugin has is a typing error, and would otherwise be left out silently; and one scan is not
    /// taken for several sequences. Of tables that is found when they are read.
    fn check_views(&self, tasks: &[Manifest]) -> Result<(), CommandError> {
        if let Some(scan) = self.input.iter().find(|i| !cases::is_table(i)) {
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
    fn explain(&self, seat: &Seat, console: &Console) -> Result<Outcome, CommandError> {
        let Who::Here(engine) = &seat.who else {
            return Err(CommandError::usage("--explain-plan: what is shared is known without --isolate"));
        };
        let work = self.work(&seat.manifests(), console);
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

    fn work(&self, tasks: &[Manifest], console: &Console) -> Vec<Work> {
        if let Some(first) = self.view.first() {
            let views = self.view.iter().map(|v| (v.view.clone(), v.file.clone())).collect();
            let image = self.input.first().cloned();
            let name = cases::name(image.as_ref().unwrap_or(&first.file));
            return vec![Work::Case(Case { name, image, views })];
        }
        let mut work = Vec::new();
        for input in &self.input {
            let failed = |error| Work::Failed { path: input.clone(), error };
            if input.is_dir() {
                match cases::in_folder(input) {
                    Ok((files, masks)) => {
                        if masks > 0 {
                            console.note(format!("{}: {masks} masks left out (…_mask)", input.display()));
                        }
                        work.extend(files.iter().map(|f| Work::Case(cases::of_file(f))));
                    }
                    // An inbox may be empty.
                    Err(e) if self.watch => console.note(e),
                    Err(e) => work.push(failed(e)),
                }
            } else if cases::is_table(input) {
                match cases::in_table(input, tasks) {
                    Ok(cases) => work.extend(cases.into_iter().map(Work::Case)),
                    Err(e) => work.push(failed(e)),
                }
            } else {
                work.push(Work::Case(cases::of_file(input)));
            }
        }
        work
    }
}

impl<'a> Desk<'a> {
    pub fn console(&self) -> &'a Console {
        self.console
    }

    /// Answers a piece of work, and tells what came of it.
    pub fn take_on(&self, seat: &mut Seat, work: &Work, words: &mut BTreeSet<String>) -> Outcome {
        match work {
            Work::Case(case) => self.answer(seat, case, words),
            Work::Failed { path, error } => self.fail(cases::stem(path), path, None, error.clone()),
        }
    }

    fn answer(&self, seat: &mut Seat, case: &Case, words: &mut BTreeSet<String>) -> Outcome {
        let answers = seat.answer(case, self.out.as_ref(), self.heatmap, self.console);
        // What is wrong with the scan is told once, not once per plugin.
        if let Some(error) = same_fault(&answers) {
            return self.fail(case.name.clone(), case.any_file(), None, error);
        }
        let mut outcome = Outcome::Done;
        for (index, answer) in answers.into_iter().enumerate() {
            let done = match answer {
                Ok(told) => {
                    words.insert(format!("{}: {}", told.result.plugin.name, told.result.intended_use));
                    self.tell(&told)
                }
                Err(NoAnswer { message, .. }) => {
                    let plugin = Some(seat.name(index).to_owned());
                    self.fail(case.name.clone(), case.any_file(), plugin, message)
                }
            };
            outcome = outcome.or(done);
        }
        outcome
    }

    fn tell(&self, Told { result, json, folder }: &Told) -> Outcome {
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
fn same_fault(answers: &[Result<Told, NoAnswer>]) -> Option<String> {
    let mut faults = answers.iter().map(|a| match a {
        Err(NoAnswer { message, scan: true }) => Some(message),
        _ => None,
    });
    let first = faults.next()??;
    faults.all(|f| f == Some(first)).then(|| first.clone())
}
