//! `host batch`: a cohort in shards, resumable; the engine that starts the processes is the user's.

mod bar;
pub(crate) mod place;

use super::allocator::keep_free_memory;
use super::console::Console;
use super::dicom::DicomOptions;
use super::outcome::{CommandError, Outcome};
use super::session_options::{SessionArgs, WriterOptions};
use super::tasks::tell_refused;
use anymc3d_host::batch::{
    BatchError, BatchFolder, EngineError, Manifest, PlannedTask, ScanFiles, Shard, ShardOptions,
    ShardOutcome, Why, Wish, digest_of_options, is_address, run_shard, shard_of,
};
#[cfg(feature = "object-store")]
use anymc3d_host::run::inputs::CaseEntry;
use anymc3d_host::run::inputs::find_cases;
use anymc3d_host::run::{Selection, Session, SessionOptions};
use bar::{Bar, ProgressOption};
use clap::Args;
use place::{Place, Stored, check_addresses};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const EXAMPLES: &str = "\
Examples:
  host batch --plugin lung_nodule cohort/ --out results                  all of it; call it again to go on after a stop
  host batch --plugin lung_nodule cohort/ --out results --shard 0/8      the first of eight parts
  host batch --plugin lung_nodule cohort/ --out results --shards 8       the part that Slurm, Kubernetes, … says this task is
  host batch --plugin lung_nodule --plugin liver_injury table.csv --out results --heatmap=false
  host batch --plugin lung_nodule --manifest work.csv --out results      the cases of a list
  host batch --plugin lung_nodule cohort/ --out results --list           write the list of the work and end
  host batch --plugin lung_nodule cohort/ --out results --retry-failed
  host batch --plugin untried --isolate cohort/ --out results            a scan that kills the plugin is one failed case
  host merge results                                                     then: one table of all";

const CODES: &str = "\
Exit codes:
  0  all done
  1  at least one case failed, or something could not be written; all other cases are done
  2  wrong usage: an option or an input does not fit; nothing was computed
  3  a plugin, weights or a backbone was refused; nothing was computed with it
  75 stopped by SIGTERM after the case at hand; the same call does the rest";

/// Predict a cohort: resumable, in shards over any number of processes
///
/// DIR keeps work.csv (the list of the work, written once), batch.json (what it is of), and for each case and plugin what
/// `host run --out` writes. A case that is done with the same scan, library, weights, backbone and options is skipped.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, after_help = CODES)]
pub(super) struct Batch {
    /// Scans, folders of scans (with the folders below them), DICOM, data tables: as `host run` takes them; scans in S3,
    /// s3://bucket/prefix, in builds with the feature `object-store`
    #[arg(required_unless_present = "manifest")]
    input: Vec<PathBuf>,
    /// List of the work instead of INPUT: a table with the columns case and image (or image.VIEW), as work.csv is
    #[arg(long, value_name = "CSV", conflicts_with = "input")]
    manifest: Option<PathBuf>,
    /// Folder for the batch and its results, or s3://bucket/prefix; all processes of the batch share it
    #[arg(long, short, value_name = "DIR", required = true)]
    out: PathBuf,
    /// Do part I of N of the work, counted from 0, of about as many bytes as the others
    #[arg(long, value_name = "I/N", conflicts_with_all = ["shards", "first_index"])]
    shard: Option<String>,
    /// Divide the work into N parts and do the one that the environment names: arrays of Slurm, SGE, PBS and LSF, indexed
    /// jobs of Kubernetes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    shards: Option<u32>,
    /// Index of the array's task that is part 0 [default: its lowest, if it has as many tasks as there are shards]
    #[arg(long, value_name = "INDEX", requires = "shards")]
    first_index: Option<usize>,
    /// Write work.csv and batch.json and end
    #[arg(long)]
    list: bool,
    /// Try again what failed before
    #[arg(long)]
    retry_failed: bool,
    /// End after this many failed cases, those that failed before not counted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_failures: Option<u32>,
    /// Continue a batch in DIR that has other options or other work with these
    #[arg(long)]
    overwrite: bool,
    /// Progress: a bar on a terminal (else a line every half minute), lines of JSON on stdout, or none
    #[arg(long, value_enum, default_value_t = ProgressOption::Bar)]
    progress: ProgressOption,
    #[command(flatten)]
    dicom: DicomOptions,
    #[command(flatten)]
    writers: WriterOptions,
    #[command(flatten)]
    session: SessionArgs,
}

impl Batch {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        let stop = Arc::new(AtomicBool::new(false));
        #[cfg(unix)]
        signal_hook::flag::register(signal_hook::consts::SIGTERM, stop.clone())
            .map_err(|e| CommandError::failed(format!("SIGTERM cannot be listened to ({e})")))?;
        self.check()?;
        let shard = self.shard()?;
        self.session.prepare()?;
        let options = self.session.options(console)?;
        let session = self.open(&options, console)?;
        self.dicom.check(&session.manifests()).map_err(CommandError::usage)?;
        let mut place = Place::open(&self.out).map_err(advised)?;
        let told = |place: &Place, e: BatchError| {
            let error = advised(e);
            CommandError { message: place.shown(&error.message), ..error }
        };
        let (folder, manifest) = loop {
            let found = self.folder(&session, &place, console).map_err(|e| told(&place, e))?;
            if place.publish().map_err(advised)? {
                break found;
            }
        };
        let cases = manifest.items.len();
        if self.list {
            console.result(format!(
                "{}: {cases} cases, {} bytes",
                place.shown(&folder.root().join("work.csv").display().to_string()),
                manifest.bytes()
            ));
            session.close(console);
            return Ok(Outcome::Done);
        }
        let stored = Stored::of(&manifest)?;
        let _taken = place.take(&folder, &manifest, shard).map_err(|e| told(&place, e))?;
        let writers = self.writers.writers(true, &self.dicom);
        let options_sha256 = digest_of_options(&folder.plan.options);
        let run = ShardOptions {
            shard,
            writers: &writers,
            options_sha256: &options_sha256,
            retry_failed: self.retry_failed,
            max_failures: self.max_failures.map(|n| n as usize),
            stop: &stop,
            isolated: self.session.isolate,
            scans: ScanFiles { remote: stored.remote() },
            upstream: place.upstream(),
        };
        let bar = Bar::new(console, self.progress, shard);
        let mut reopen = || self.open(&options, console).map_err(|e| e.message);
        let ended = run_shard(&folder, &manifest, session, &mut reopen, &run, &bar);
        let ended = ended.map_err(|e| CommandError::failed(place.shown(&e)))?;
        bar.end(&ended);
        self.outcome(&ended, console)
    }

    /// An address would be taken for the name of a folder.
    fn check(&self) -> Result<(), CommandError> {
        check_addresses(self.input.iter().chain([&self.out]))?;
        match &self.manifest {
            Some(list) if is_address(list) => Err(CommandError::usage(format!(
                "--manifest {}: a list is read from a file; the scans that it names may be addresses",
                list.display()
            ))),
            _ => Ok(()),
        }
    }

    /// Which part of the work.
    fn shard(&self) -> Result<Shard, CommandError> {
        if let Some(text) = &self.shard {
            // Here and not while options are parsed: one message, without a hint beside it.
            return text.parse().map_err(|e: String| CommandError::usage(format!("--shard {text}: {e}")));
        }
        let Some(shards) = self.shards else { return Ok(Shard::WHOLE) };
        if self.list {
            return Ok(Shard::WHOLE);
        }
        let found = shard_of(&|name| std::env::var(name).ok(), shards as usize, self.first_index);
        found.map(|found| found.shard).map_err(|e| {
            let todo = match &e {
                EngineError::Ambiguous { .. } => {
                    "; give --first-index INDEX, the index of shard 0, or --shard I/N"
                }
                EngineError::None | EngineError::Several(..) => "; give --shard I/N",
                EngineError::NoShard(_) => "; --shards is the number of all tasks of the array",
            };
            CommandError::usage(format!("--shards {shards}: {e}{todo}"))
        })
    }

    /// All plugins, or nothing: a cohort without one of them would be half a cohort.
    fn open(&self, options: &SessionOptions, console: &Console) -> Result<Session, CommandError> {
        let selection = Selection::new(&self.session.plugin, &options.choice)?;
        let refused =
            |n: usize| CommandError::refused(format!("{n} plugins are refused; nothing was computed"));
        if !selection.refused.is_empty() {
            tell_refused(&selection.refused, console);
            return Err(refused(selection.refused.len()));
        }
        let mut session = selection.open(options)?;
        keep_free_memory();
        if !session.refused().is_empty() {
            tell_refused(session.refused(), console);
            return Err(refused(session.refused().len()));
        }
        let writers = self.writers.writers(true, &self.dicom);
        self.session.cap(&mut session, &writers, self.writers.heatmaps(true), true)?;
        Ok(session)
    }

    /// The batch's folder, with its manifest.
    fn folder(
        &self,
        session: &Session,
        place: &Place,
        console: &Console,
    ) -> Result<(BatchFolder, Manifest), BatchError> {
        let manifests = session.manifests();
        let tasks = session.identities().into_iter().zip(&manifests);
        let absolute = |path: &PathBuf| match is_address(path) {
            true => path.clone(),
            false => std::path::absolute(path).unwrap_or_else(|_| path.clone()),
        };
        let inputs = self.input.iter().chain(&self.manifest).map(|path| absolute(path).display().to_string());
        let wish = Wish {
            inputs: inputs.collect(),
            manifest: self.manifest.as_deref(),
            options: self.writers.result_options(&self.session, &self.dicom),
            tasks: tasks.map(|(identity, m)| PlannedTask::new(identity, &m.task)).collect(),
            overwrite: self.overwrite,
        };
        let find = || self.find(session, place, console);
        let (folder, manifest, told) = BatchFolder::prepare(place.folder(), wish, find)?;
        told.iter().for_each(|line| console.warning(line));
        Ok((folder, manifest))
    }

    /// The cases of the inputs.
    fn find(&self, session: &Session, place: &Place, console: &Console) -> Result<Manifest, BatchError> {
        let manifests = session.manifests();
        let names: Vec<&str> = manifests.iter().map(|m| m.plugin.name.as_str()).collect();
        // Of a batch in a store, the one process that lists the work names its studies.
        let salt_of = place.is_folder().then_some(self.out.as_path());
        let mut options = self.dicom.input_options(salt_of);
        options.recursive = true;
        let files: Vec<PathBuf> = self.input.iter().filter(|input| !is_address(input)).cloned().collect();
        #[cfg_attr(not(feature = "object-store"), allow(unused_mut))]
        let mut list = find_cases(&files, &manifests, &options, console);
        #[cfg(feature = "object-store")]
        {
            let (cases, told) = place::list_addresses(&self.input)?;
            told.iter().for_each(|line| console.note(line));
            list.entries.extend(cases.into_iter().map(CaseEntry::Case));
        }
        let nothing = list.entries.iter().all(|entry| entry.case().is_none());
        #[cfg_attr(not(feature = "object-store"), allow(unused_mut))]
        let (mut manifest, twice) = Manifest::of(list, &names);
        if twice > 0 {
            console.note(format!("{twice} cases were given twice and stand once in work.csv"));
        }
        if nothing {
            manifest.items.iter().filter_map(|item| item.failed.as_ref()).for_each(|why| console.error(why));
            return Err(BatchError::NoWork);
        }
        #[cfg(feature = "object-store")]
        Stored::weigh(&mut manifest)?;
        Ok(manifest)
    }

    fn outcome(&self, ended: &ShardOutcome, console: &Console) -> Result<Outcome, CommandError> {
        let out = self.out.display();
        match &ended.why {
            Why::Finished => Ok(if ended.failed > 0 { Outcome::Failed } else { Outcome::Done }),
            Why::Stopped => {
                console.note(format!(
                    "stopped by SIGTERM; {} cases are left, the same call does them",
                    ended.left
                ));
                Ok(Outcome::TryAgain)
            }
            Why::TooManyFailures => {
                let most = self.max_failures.unwrap_or_default();
                Err(CommandError::failed(format!(
                    "{out}: {most} cases failed, as many as --max-failures allows; {} cases are left",
                    ended.left
                )))
            }
            Why::Store(why) => Err(CommandError::failed(format!(
                "{why}; all results so far are whole, {} cases are left: call it again when the store answers",
                ended.left
            ))),
            Why::Unwritable(why) => Err(CommandError::failed(format!(
                "{why}; all results so far are whole, {} cases are left: make room and call it again",
                ended.left
            ))),
        }
    }
}

/// The option that helps.
fn advised(error: BatchError) -> CommandError {
    match &error {
        BatchError::OtherOptions { .. } => CommandError::usage(format!(
            "--out {error}; give another --out, or --overwrite to do its cases anew"
        )),
        BatchError::OtherWork { .. } => CommandError::usage(format!(
            "--out {error}; give another --out, or --overwrite to continue with this call's"
        )),
        BatchError::Busy { .. } => {
            CommandError::usage(format!("--out {error}; wait for it, or do another shard"))
        }
        BatchError::Manifest(_) | BatchError::NoWork => CommandError::usage(error),
        BatchError::Store { .. } => CommandError::failed(error),
        _ => CommandError::failed(format!("--out {error}")),
    }
}
