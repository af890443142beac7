//! `host run`: reads scans and prints every plugin's prediction.

mod answers;
mod sink;
mod table;

use super::advice::with_remedy;
use super::allocator::keep_free_memory;
use super::console::Console;
use super::count::CaseCount;
use super::dicom::DicomOptions;
use super::options::ViewFile;
use super::outcome::{CommandError, EXIT_CODES, Outcome};
use super::region::RegionOptions;
use super::session_options::{SessionArgs, WriterOptions};
use super::tasks::tell_refused;
use anymc3d_host::batch::digest_of_options;
use anymc3d_host::engine::Case;
use anymc3d_host::output::OutputFolder;
use anymc3d_host::run::inputs::{CaseEntry, CaseList, case_of_views, find_cases, is_table};
use anymc3d_host::run::watch::{PACE, Watch};
use anymc3d_host::run::{Selection, Session};
use anymc3d_host::scan::dicom::{DicomInput, is_dicom};
use anymc3d_manifest::Manifest;
use clap::Args;
use sink::ResultSink;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

const EXAMPLES: &str = "\
Examples:
  host run --plugin lung_nodule scan.nii.gz
  host run --plugin lung_nodule scans/ --out results        DIR/<case>/<plugin>/result.json, …
  host run --plugin lung_nodule table.csv --json > results.jsonl
  host run --plugin lung_nodule exam.zip --out results      DICOM: the series that fits is chosen
  host run --plugin lung_nodule exam/ --series 4            the series that you name
  host run --plugin lung_nodule exam/ --out results --dicom-out   results as DICOM objects too
  host run --plugin lung_nodule scan.nii.gz --out results --report     and a page for people
  host run --plugin lung_nodule@0.1 scan.nii.gz             an installed version; see `host registry`
  host run --plugin lung_nodule --segmentation scan.nii.gz --out results
  host run --plugin nodule_malignancy scan.nii.gz --mask nodule.nii.gz     what is in the mask
  host run --plugin lung_nodule --weights run1/lung_nodule.safetensors scan.nii.gz
  host run --plugin lung_nodule --weights f1.safetensors,f2.safetensors scan.nii.gz     an ensemble of folds
  host run --plugin knee --view sagittal=a.nii.gz --view coronal=b.nii.gz
  host run --plugin untried --plugin lung_nodule --isolate scans/ --out results
  host run --plugin libmine.so --watch scan.nii.gz          predicts again after every build
  host run --plugin lung_nodule --watch inbox/ --out results     predicts for scans as they arrive
  host run --plugin lung_nodule --recursive archive/ --out results";

/// Predict: run scans through one or more plugins
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, after_help = EXIT_CODES)]
pub(super) struct Run {
    /// Scans (.nii, .nii.gz, .hdr/.img, .nrrd, .nhdr, .mha, .mhd), DICOM (folders to any depth, zips, DICOMDIR, files;
    /// PATH#series=4 names one series), folders of scans, or data tables (.csv; FILE.npz:SPLIT is a split of a NumPy archive)
    #[arg(required_unless_present_any = ["view", "explain_plan"])]
    input: Vec<PathBuf>,
    /// Folder for results: DIR/<case>/<plugin>. The file name or the table names the case. If the same scan runs again,
    /// its result is replaced. A result of another scan is never replaced: a second scan of the same name goes to
    /// DIR/<case>-<first 8 digits of its sha256>, with a warning
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Also replace results that earlier calls wrote for other scans of the same name
    #[arg(long, requires = "out")]
    overwrite: bool,
    /// Skip cases whose result in --out was made from the same scan with the same plugin, weights, backbone and options
    #[arg(long, requires = "out", conflicts_with = "watch")]
    skip_existing: bool,
    /// Also write a table of all answers, a row for each case, failed ones with their reason: the predictions.csv of `host merge`
    #[arg(long, value_name = "FILE", conflicts_with = "watch")]
    csv: Option<PathBuf>,
    /// Print one line of JSON per case and plugin
    #[arg(long)]
    json: bool,
    /// Build one case from several files: the scan of view NAME
    #[arg(long, value_name = "NAME=FILE")]
    view: Vec<ViewFile>,
    /// Print what the tasks share and what each computes alone; run nothing
    #[arg(long, conflicts_with_all = ["isolate", "watch"])]
    explain_plan: bool,
    /// Keep running after the last case. When a plugin's library or weights change, the host opens them again and
    /// predicts for the scans given by name once more; if it refuses the new build, the old build keeps running. The
    /// host predicts for scans that arrive or change in a folder as soon as they are complete. It reads tables once. It
    /// ends with Ctrl-C, or when its output is closed
    #[arg(long)]
    watch: bool,
    /// Look into the folders below each folder too, with --watch into those that come later as well
    #[arg(long)]
    recursive: bool,
    #[command(flatten)]
    region: RegionOptions,
    #[command(flatten)]
    dicom: DicomOptions,
    #[command(flatten)]
    writers: WriterOptions,
    #[command(flatten)]
    session: SessionArgs,
}

impl Run {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        self.check()?;
        self.session.prepare()?;
        let options = self.session.options(console)?;
        let selection = Selection::new(&self.session.plugin, &options.choice)?;
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
        let mut session = selection.open(&options)?;
        keep_free_memory();
        outcome = outcome.or(tell_refused(&session.refused()[refused..], console));
        let holdings = session.holdings();
        if self.session.isolate && holdings.len() > 1 {
            holdings.iter().for_each(|held| console.note(format!("the plugins' process holds {held}")));
        }
        if session.plugins().is_empty() {
            return Ok(outcome);
        }
        self.check_views(&session.manifests())?;
        let writers = self.writers.writers(out.is_some(), &self.dicom);
        let heatmap = self.writers.heatmaps(out.is_some());
        self.session.cap(&mut session, &writers, heatmap, out.is_some())?;
        if self.explain_plan {
            return Ok(outcome.or(self.explain(&mut session, console)?));
        }
        let mut list = self.list(&session.manifests(), console);
        self.region
            .give(list.entries.iter_mut().filter_map(CaseEntry::case_mut))
            .map_err(CommandError::usage)?;
        if self.writers.dicom_out && !self.watch {
            check_dicom_out(&list)?;
        }
        let rows = RefCell::new((!self.json).then(Vec::new));
        let answers = RefCell::new(self.csv.is_some().then(|| answers::table(&session)));
        let asks = self.asks(&list, &session, &answers, console)?;
        let unanswered = &list.unanswered;
        let sink = ResultSink { console, writers, out, json: self.json, rows, answers, unanswered };
        let watch = self.watch.then(|| Watch::new(&self.input, self.recursive, &list.entries, &session));
        let bar = console.progress(asks.len(), "cases");
        let mut intended_use = BTreeSet::new();
        let mut count = CaseCount::begin(asks.len(), Instant::now());
        let mut entries = asks.iter();
        let cases = asks.iter().map(|(_, ask)| ask.clone());
        session.run_while(cases, sink.wanted(), console, |session, ask, answers| {
            let tasks = ask.map(|ask| ask.tasks).unwrap_or_default();
            let Some((entry, _)) = entries.next() else { return ControlFlow::Break(()) };
            let taken = sink.take(session, entry, (&tasks, answers), &mut intended_use);
            outcome = outcome.or(taken.outcome);
            bar.inc(1);
            if let Some(line) = count.case(taken.failure.as_deref(), Instant::now())
                && !std::io::stderr().is_terminal()
            {
                console.note(line);
            }
            ControlFlow::Continue(())
        });
        outcome = outcome.or(self.write_csv(&sink)?);
        if let Some(summary) = count.summary() {
            console.note(summary);
        }
        if !self.json {
            sink.tell_table(asks.len() * session.plugins().len());
            intended_use.iter().for_each(|line| console.result(line));
        }
        if let Some(watch) = watch {
            bar.finish_and_clear();
            outcome = outcome.or(keep_watching(watch, &list, &mut session, &sink));
        }
        session.close(console);
        Ok(outcome)
    }

    fn open_out(&self) -> Result<Option<OutputFolder>, String> {
        let options = digest_of_options(&self.writers.result_options(&self.session, &self.dicom));
        let open = |root: &PathBuf| {
            OutputFolder::overwriting(root, self.overwrite).map(|out| out.with_options(options.clone()))
        };
        let out = self.out.as_ref().map(open).transpose();
        out.map_err(|e| format!("--out {e}; choose another folder"))
    }

    /// What clap cannot see.
    fn check(&self) -> Result<(), CommandError> {
        let usage = |message: &str| Err(CommandError::usage(message));
        if self.writers.heatmap == Some(true) && self.out.is_none() {
            return usage("--heatmap needs a place; give --out DIR with it");
        }
        if !self.view.is_empty() && self.input.len() > 1 {
            return usage("--view makes one case; give one INPUT at most with it (for the other views)");
        }
        if !self.view.is_empty() && self.input.iter().any(|i| i.is_dir() || is_table(i)) {
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
        if !(self.view.is_empty() && self.input.iter().all(|i| is_table(i))) {
            self.region.check(tasks).map_err(CommandError::usage)?;
        }
        // The series of a DICOM study are views by themselves.
        let one_scan = |i: &&PathBuf| !is_table(i) && !matches!(DicomInput::look(i), Ok(Some(_)) | Err(_));
        if let Some(scan) = self.input.iter().find(one_scan) {
            let views = self.views().into_iter().collect();
            let case = Case { image: Some(scan.clone()), views, ..Case::default() };
            for manifest in tasks {
                case.check_sequences(manifest).map_err(|e| {
                    let advised = with_remedy(&e.to_string(), e.remedy().as_ref());
                    CommandError::usage(format!("{advised}, or a table with the columns image.VIEW"))
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
        let list = self.list(&session.manifests(), console);
        let engines = session.engines();
        if engines.is_empty() {
            return Err(CommandError::usage("--explain-plan: what is shared is known without --isolate"));
        }
        let first = list.entries.iter().find_map(CaseEntry::case).cloned();
        let any = || Case { name: "scan".to_owned(), image: Some("SCAN".into()), ..Case::default() };
        let case = first.unwrap_or_else(any);
        // A line or an object per backbone, in the order of the plugins that name them.
        for engine in engines {
            let (plan, holds) = (engine.plan(&case), engine.holds());
            let json = serde_json::json!({ "blocks": plan.blocks, "stacks": plan.stacks, "memory": holds });
            console.result(if self.json { json.to_string() } else { format!("{plan}\n{holds}") });
        }
        Ok(Outcome::Done)
    }

    /// The cases of all inputs, and which plugins do not answer some of them.
    fn list(&self, tasks: &[Manifest], console: &Console) -> CaseList {
        let mut options = self.dicom.input_options(self.out.as_deref());
        options.may_be_empty = self.watch;
        options.recursive = self.recursive;
        if self.view.is_empty() {
            return find_cases(&self.input, tasks, &options, console);
        }
        let image = self.input.first().map(PathBuf::as_path);
        let views = self.views();
        let entry = match case_of_views(image, &views, tasks, &options.names) {
            Ok(case) => CaseEntry::Case(case),
            Err(error) => CaseEntry::Failed { path: image.unwrap_or(&views[0].1).to_path_buf(), error },
        };
        CaseList { entries: vec![entry], ..CaseList::default() }
    }

    fn views(&self) -> Vec<(String, PathBuf)> {
        self.view.iter().map(|v| (v.view.clone(), v.file.clone())).collect()
    }
}

/// Refuses `--dicom-out` where no case comes from DICOM. One of another format among others has a warning in its result.
fn check_dicom_out(list: &CaseList) -> Result<(), CommandError> {
    let mut cases = list.entries.iter().filter_map(CaseEntry::case).peekable();
    let Some(first) = cases.peek().map(|case| case.any_file().display().to_string()) else { return Ok(()) };
    if cases.any(|case| case.files().any(is_dicom)) {
        return Ok(());
    }
    Err(CommandError::usage(format!(
        "--dicom-out: {first} is no DICOM series, and no other input is; results in DICOM refer to the series that they were \
         computed from: give the DICOM files, or leave out --dicom-out"
    )))
}

/// Runs again what builds and scans bring, until nobody reads the output any more.
fn keep_watching(mut watch: Watch, list: &CaseList, session: &mut Session, sink: &ResultSink<'_>) -> Outcome {
    let console = sink.console();
    let by_name: Vec<&CaseEntry> = list.entries.iter().filter(|entry| watch.is_by_name(entry)).collect();
    let mut outcome = Outcome::Done;
    let mut intended_use = BTreeSet::new();
    console.note("watching for newer builds and scans; Ctrl-C ends it");
    while !console.is_unread() {
        std::thread::sleep(PACE);
        let changes = watch.look();
        let mut reloaded = false;
        for index in changes.rebuilt {
            match session.reload(index, console) {
                Ok(told) => {
                    console.note(told);
                    reloaded = true;
                }
                Err(e) => {
                    console.error(e);
                    console.note(format!("{}: the earlier build goes on where it can", session.name(index)));
                }
            }
        }
        let again = by_name.iter().copied().filter(|_| reloaded);
        let arrived: Vec<CaseEntry> = changes.arrived.into_iter().map(CaseEntry::Case).collect();
        for entry in again.chain(&arrived) {
            outcome = outcome.or(sink.process(session, entry, &mut intended_use));
        }
    }
    outcome
}
