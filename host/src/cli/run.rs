//! `host run`: scans in, every plugin's answer out.

use super::cases::{self, Names, ViewFile};
use super::console::Console;
use super::evidence;
use super::options::{BackboneOptions, PrecisionOption};
use super::outcome::{CommandError, Outcome};
use super::output::Output;
use super::report;
use super::segmentation;
use super::tasks;
use crate::engine::result::{CaseResult, FailedCase, FailedInput, SCHEMA};
use crate::engine::{Case, CaseError, Engine, MemoryCap, Prediction};
use clap::Args;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  host run --plugin lung_nodule scan.nii.gz
  host run --plugin lung_nodule scans/ --out results        DIR/<case>/<plugin>/result.json, …
  host run --plugin lung_nodule table.csv --json > results.jsonl
  host run --plugin lung_nodule --segmentation scan.nii.gz --out results
  host run --plugin lung_nodule --weights run1/weights.safetensors scan.nii.gz
  host run --plugin knee --view sagittal=a.nii.gz --view coronal=b.nii.gz";

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
    /// Where results are written: DIR/<case>/<plugin>
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
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
    /// Most memory for the whole process, for example 2G: scans are then read one after the other, and one that would
    /// take more is refused
    #[arg(long, value_name = "SIZE", value_parser = super::options::size)]
    max_memory: Option<usize>,
    /// Print what the tasks share and what each computes by itself, and run nothing
    #[arg(long)]
    explain_plan: bool,
    /// Numbers of the large products; auto is bf16 where the processor has it, else f32
    #[arg(long, value_enum, default_value_t = PrecisionOption::Auto)]
    precision: PrecisionOption,
    #[command(flatten)]
    backbone: BackboneOptions,
}

/// An INPUT after it was looked at.
enum Work {
    Case(Case),
    /// An input that gives no case.
    Failed {
        path: PathBuf,
        error: String,
    },
}

/// What is done with an answer.
struct Desk<'a> {
    console: &'a Console,
    out: Option<Output>,
    heatmap: bool,
    json: bool,
}

impl Run {
    pub fn carry_out(self, console: &Console) -> Result<Outcome, CommandError> {
        self.check()?;
        self.backbone.threads.apply()?;
        let chosen = tasks::choose(&self.plugin, console)?.segmentation(self.segmentation);
        if chosen.none() {
            return Ok(chosen.outcome());
        }
        // An hour of computing must not end at a folder that cannot be written.
        let out = match self.out.as_deref().map(Output::open).transpose() {
            Ok(out) => out,
            Err(e) => {
                console.error(e);
                return Ok(chosen.outcome().or(Outcome::Failed));
            }
        };
        let (weights, precision) = (self.weights.as_deref(), self.precision.resolve());
        let (mut engine, mut outcome) = chosen.open(weights, &self.backbone, precision, console)?;
        if engine.tasks().is_empty() {
            return Ok(outcome);
        }
        self.check_views(&engine)?;
        if let Some(cap) = self.max_memory {
            engine.cap(MemoryCap::new(cap).map_err(CommandError::failed)?);
        }
        if self.explain_plan {
            return self.explain(&engine, console);
        }
        let desk =
            Desk { console, heatmap: out.is_some() && self.heatmap.unwrap_or(true), out, json: self.json };
        let work = self.work(&engine, console);
        let bar = console.progress(work.len(), "cases");
        let mut words = BTreeSet::new();
        let mut work = work.into_iter().peekable();
        while let Some(work_now) = work.next() {
            if let Some(Work::Case(next)) = work.peek() {
                engine.expect(next);
            }
            let done = match work_now {
                Work::Case(case) => desk.answer(&engine, &case, &mut words),
                Work::Failed { path, error } => {
                    let case = cases::stem(&path);
                    desk.fail(case, &path, None, error)
                }
            };
            outcome = outcome.or(done);
            bar.inc(1);
        }
        if !self.json {
            words.iter().for_each(|words| console.result(words));
        }
        Ok(outcome)
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

    /// A view that no plugin has is a typing error, and would otherwise be left out silently.
    fn check_views(&self, engine: &Engine) -> Result<(), CommandError> {
        let views = engine.tasks().iter().flat_map(|t| &t.task.manifest().views).map(|v| v.name.as_str());
        let known: BTreeSet<&str> = views.collect();
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
    fn explain(&self, engine: &Engine, console: &Console) -> Result<Outcome, CommandError> {
        let first = self.work(engine, console).into_iter().find_map(|work| match work {
            Work::Case(case) => Some(case),
            Work::Failed { .. } => None,
        });
        let any = || Case { name: "scan".to_owned(), image: Some("SCAN".into()), views: Default::default() };
        let plan = engine.plan(&first.unwrap_or_else(any));
        let json = || serde_json::to_string(&plan).map_err(CommandError::failed);
        console.result(if self.json { json()? } else { plan.to_string() });
        Ok(Outcome::Done)
    }

    fn work(&self, engine: &Engine, console: &Console) -> Vec<Work> {
        let mut names = Names::default();
        if let Some(first) = self.view.first() {
            let views = self.view.iter().map(|v| (v.view.clone(), v.file.clone())).collect();
            let image = self.input.first().cloned();
            let name = names.unique(&cases::stem(image.as_ref().unwrap_or(&first.file)));
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
                        work.extend(files.iter().map(|f| Work::Case(cases::of_file(f, &mut names))));
                    }
                    Err(e) => work.push(failed(e)),
                }
            } else if cases::is_table(input) {
                match cases::in_table(input, engine, &mut names) {
                    Ok(cases) => work.extend(cases.into_iter().map(Work::Case)),
                    Err(e) => work.push(failed(e)),
                }
            } else {
                work.push(Work::Case(cases::of_file(input, &mut names)));
            }
        }
        work
    }
}

impl Desk<'_> {
    fn answer(&self, engine: &Engine, case: &Case, words: &mut BTreeSet<String>) -> Outcome {
        let answers = engine.predict(case, self.heatmap);
        // What is wrong with the scan is told once, not once per plugin.
        if let Some(error) = same_fault(&answers) {
            return self.fail(case.name.clone(), case.any_file(), None, error);
        }
        let mut outcome = Outcome::Done;
        for (task, answer) in engine.tasks().iter().zip(answers) {
            let told = answer.map_err(|e| e.to_string()).and_then(|p| self.write(p));
            let done = match told {
                Ok((result, folder)) => {
                    words.insert(format!("{}: {}", result.plugin.name, result.intended_use));
                    self.tell(&result, folder.as_deref())
                }
                Err(error) => {
                    self.fail(case.name.clone(), case.any_file(), Some(task.name().to_owned()), error)
                }
            };
            outcome = outcome.or(done);
        }
        outcome
    }

    /// Writes what `--out` asks for; the record with its files named, and their folder.
    fn write(&self, prediction: Prediction) -> Result<(CaseResult, Option<PathBuf>), String> {
        let mut result = prediction.result;
        let mask = match &prediction.segmentation {
            Some((read, branch)) => Some(segmentation::measure(&mut result, read, branch)?),
            None => None,
        };
        let Some(out) = &self.out else { return Ok((result, None)) };
        let (case, plugin) = (result.case.clone(), result.plugin.name.clone());
        let folder = out.put(&case, &plugin, |folder| {
            if self.heatmap {
                result.files = evidence::write(folder, &mut result, &prediction.evidence)?;
            }
            if let Some(mask) = &mask {
                mask.write(folder, &mut result)?;
            }
            let json = serde_json::to_string_pretty(&result).map_err(|e| e.to_string())?;
            std::fs::write(folder.join("result.json"), json + "\n")
                .map_err(|e| format!("cannot be written ({e})"))
        })?;
        Ok((result, Some(folder)))
    }

    fn tell(&self, result: &CaseResult, folder: Option<&Path>) -> Outcome {
        if !self.json {
            self.console.result(report::block(result, folder) + "\n");
            return Outcome::Done;
        }
        for warning in &result.warnings {
            self.console.warning(format!("{}: {warning}", result.case));
        }
        self.line(result)
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
            self.line(&FailedCase { schema: SCHEMA.to_owned(), case, input, plugin, error });
        }
        Outcome::Failed
    }

    fn line(&self, record: &impl serde::Serialize) -> Outcome {
        match serde_json::to_string(record) {
            Ok(json) => {
                self.console.result(json);
                Outcome::Done
            }
            Err(e) => {
                self.console.error(format!("a result cannot be written as JSON: {e}"));
                Outcome::Failed
            }
        }
    }
}

/// The one message of all tasks, where none could use the scan.
fn same_fault(answers: &[Result<Prediction, CaseError>]) -> Option<String> {
    let mut faults = answers.iter().map(|a| match a {
        Err(CaseError::Scan(message)) => Some(message),
        _ => None,
    });
    let first = faults.next()??;
    faults.all(|f| f == Some(first)).then(|| first.clone())
}
