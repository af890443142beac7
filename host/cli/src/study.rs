//! `host study` and `host benchmark`: tasks × backbones × methods as one table. Both compute the same cells and ask other
//! questions of them: which backbone, at what time and memory of a scan; which method, against every baseline.

use super::allocator::keep_free_memory;
use super::console::Console;
use super::options::{self, GeometryOption, PrecisionOption, ThreadOption};
use super::outcome::{CommandError, Outcome};
use super::train::Terminal;
#[cfg(unix)]
use super::worker;
use anymc3d_host::benchmark::BenchmarkReport;
use anymc3d_host::device::DeviceChoice;
use anymc3d_host::engine::backbone_store::accept_licences;
use anymc3d_host::eval::evaluation::Bootstrap;
use anymc3d_host::memory;
use anymc3d_host::study::{
    self, Measuring, StudyError, StudyOptions, StudyPart, StudyProgress, StudyTable, write_files,
};
use anymc3d_host::train::{Progress, Silent};
use clap::Args;
use std::path::PathBuf;

const STUDY_EXAMPLES: &str = "\
Examples:
  host phantom lung_nodule --count 60 --seed 1 --out phantoms/lung_nodule
  host study examples/study/phantoms.toml --data phantoms --out study
  host study examples/study/nodules.toml --data lidc_nodules --out study     the same call again goes on where it was stopped";

const BENCHMARK_EXAMPLES: &str = "\
Examples:
  host benchmark examples/benchmark/small.toml --data synthetic --out benchmark
  host benchmark SUITE.toml --data cohorts --out benchmark --task malignant --fold 0     a part, for a process of several
  host benchmark SUITE.toml --data cohorts --out benchmark --plan                        folds and cells; computes nothing
  host benchmark SUITE.toml --data cohorts --out benchmark --predictions 'mine=scores/{task}.csv'";

/// What both commands take.
#[derive(Debug, Args)]
struct SuiteOptions {
    /// Study file (TOML)
    study: PathBuf,
    /// Folder that the tables of the study file lie below [default: the study file's folder]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folder for the tables, the pictures and the cells; several processes may share it
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// Compute only this task's cells; may be repeated
    #[arg(long, value_name = "NAME")]
    task: Vec<String>,
    /// Compute only this fold of each cell, counted from 0; may be repeated
    #[arg(long, value_name = "I")]
    fold: Vec<usize>,
    /// Scores of another program as a method: NAME=FILE.csv, a path below the current folder in which {task} stands for a
    /// task's name; may be repeated
    #[arg(long, value_name = "NAME=FILE")]
    predictions: Vec<String>,
    /// Write folds/TASK.csv and what is done already, and compute nothing
    #[arg(long)]
    plan: bool,
    /// Print the rows as JSON, one per line
    #[arg(long)]
    json: bool,
    /// Accept the licences of the backbones; recorded in $ANYMC3D_HOME, so each is asked once on a machine
    #[arg(long)]
    accept_licence: bool,
    /// Number format of the matrix products; auto is bf16 where the device multiplies it faster than f32, else f32
    #[arg(long, value_enum, default_value_t = PrecisionOption::Auto)]
    precision: PrecisionOption,
    /// Device that computes: cpu, cuda:N, or auto (the first GPU that this build can use, else the processor)
    #[arg(long, value_name = "auto|cpu|cuda:N", default_value_t = DeviceChoice::Auto)]
    device: DeviceChoice,
    /// Most memory for the whole process, for example 4G
    #[arg(long, value_name = "SIZE", value_parser = options::size)]
    max_memory: Option<usize>,
    /// Most disk space for cached features, GiB; 0 caches none
    #[arg(long, value_name = "GIB", default_value_t = 16.0)]
    cache_size: f64,
    /// Folder for cached features [default: cache/prefix in $ANYMC3D_HOME]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    #[command(flatten)]
    geometry: GeometryOption,
    #[command(flatten)]
    threads: ThreadOption,
}

/// Compare tasks x backbones x methods: one table with intervals, paired tests, parameters, time and memory per scan
///
/// The study file names tasks (a plugin and a table of cases), backbones and methods (linear probe, attention probe, LoRA, or
/// the plugin as it is). Each combination is a cell: it trains, scores test cases that neither trained it nor chose its epoch,
/// and is measured on a few scans in a process of its own. DIR gets study.md, study.csv, study.json and auroc_time as SVG and
/// PNG. A call with the same DIR keeps the cells that are done, and does those anew whose options, plugin, table or backbone
/// changed. A cell that fails has a row that says why. docs/study.md describes the file.
#[derive(Debug, Args)]
#[command(before_help = STUDY_EXAMPLES)]
pub(super) struct Study {
    #[command(flatten)]
    suite: SuiteOptions,
}

/// Compare methods over tasks: AUROC, AP and Brier with intervals by patient, tests against each baseline, pictures
///
/// The suite is a study file. `baselines` in its [study] names the methods that all others are tested against, and
/// [predictions] methods of other programs by their scores. Cells are those of `host study`, in the same folder. DIR gets
/// benchmark.md, benchmark.csv, benchmark.json, and forest, auroc_parameters and roc_TASK as SVG and PNG; folds/TASK.csv has
/// the folds for other programs. docs/benchmark.md describes it.
#[derive(Debug, Args)]
#[command(before_help = BENCHMARK_EXAMPLES)]
pub(super) struct Benchmark {
    #[command(flatten)]
    suite: SuiteOptions,
    /// Draws of patients that intervals come from; 0 draws none
    #[arg(long, value_name = "N", default_value_t = 1000)]
    bootstrap: usize,
}

impl Study {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        let out = self.suite.out.clone();
        let table = self.suite.compute(console, &mut |table, _| write_files(&table.files(), &out))?;
        let rows = table.rows();
        if self.suite.json {
            rows.iter().for_each(|row| console.result(serde_json::to_string(row).unwrap_or_default()));
        } else {
            console.result(table.markdown(&rows, &table.overall()).trim_end());
        }
        console.note(format!("{}: the same table, and auroc_time.png", out.join("study.md").display()));
        Ok(self.suite.outcome(&table))
    }
}

impl Benchmark {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        let out = self.suite.out.clone();
        let mut report = BenchmarkReport::new(Bootstrap { draws: self.bootstrap, seed: 0 });
        let table = self.suite.compute(console, &mut |table, last| {
            let mut files = if last { report.pictures(table) } else { Vec::new() };
            // The table last, as what programs look for.
            files.extend(report.tables(table));
            write_files(&files, &out)
        })?;
        if self.suite.json {
            let rows = report.rows(&table);
            rows.iter().for_each(|row| console.result(serde_json::to_string(row).unwrap_or_default()));
        } else {
            console.result(report.markdown(&table).trim_end());
        }
        console.note(format!("{}: the same table, and forest.png", out.join("benchmark.md").display()));
        Ok(self.suite.outcome(&table))
    }
}

impl SuiteOptions {
    /// Computes what is asked for, and reports on it.
    fn compute(&self, console: &Console, report: &mut study::Report<'_>) -> Result<StudyTable, CommandError> {
        keep_free_memory();
        memory::give(self.max_memory);
        self.geometry.apply();
        if self.accept_licence {
            accept_licences();
        }
        self.threads.apply()?;
        let outside = self.outside().map_err(CommandError::usage)?;
        let study = study::Study::open(&self.study, self.data.as_deref(), &outside).map_err(refusal)?;
        let part = self.part(&study).map_err(CommandError::usage)?;
        let _out = options::out_folder(&self.out).map_err(CommandError::failed)?;
        let options = StudyOptions {
            out: self.out.clone(),
            part,
            plan: self.plan,
            precision: self.precision.resolve(self.device),
            device: self.device,
            device_memory: self.max_memory,
            cache: options::open_cache(self.cache.as_deref(), self.cache_size)?,
            measuring: self.measuring(console),
        };
        study.run(&options, &mut StudyNotes(console), report).map_err(refusal)
    }

    fn outcome(&self, table: &StudyTable) -> Outcome {
        if table.failures() > 0 { Outcome::Failed } else { Outcome::Done }
    }

    /// The methods of other programs, below the current folder.
    fn outside(&self) -> Result<Vec<(String, PathBuf)>, String> {
        let pair = |text: &String| {
            let split = text.split_once('=').filter(|(name, path)| !name.is_empty() && !path.is_empty());
            let (name, path) =
                split.ok_or_else(|| format!("--predictions {text}: expected NAME=FILE.csv"))?;
            let path = std::path::absolute(path).map_err(|e| format!("--predictions {text}: {e}"))?;
            Ok((name.to_owned(), path))
        };
        self.predictions.iter().map(pair).collect()
    }

    fn part(&self, study: &study::Study) -> Result<StudyPart, String> {
        let tasks = study.task_names();
        if let Some(task) = self.task.iter().find(|task| !tasks.contains(&task.as_str())) {
            return Err(format!("--task {task}: expected one of {}", tasks.join(", ")));
        }
        let folds = study.folds();
        if let Some(fold) = self.fold.iter().find(|fold| **fold >= folds) {
            return Err(format!("--fold {fold}: the tasks have {folds}, counted from 0"));
        }
        Ok(StudyPart { tasks: self.task.clone(), folds: self.fold.clone() })
    }

    #[cfg(unix)]
    fn measuring(&self, console: &Console) -> Measuring {
        Measuring {
            spawn: worker::spawn(console),
            threads: self.threads.number(),
            device: self.device,
            micro_ct: self.geometry.micro_ct,
        }
    }

    #[cfg(not(unix))]
    fn measuring(&self, console: &Console) -> Measuring {
        console
            .warning("time and memory of a scan are not measured: this build has no processes to measure in");
        Measuring { threads: None, device: self.device, micro_ct: self.geometry.micro_ct }
    }
}

/// A study that does not begin, with the option that helps.
fn refusal(error: StudyError) -> CommandError {
    match &error {
        StudyError::Backbone(e) => options::refused(e),
        StudyError::Plugin { .. } => CommandError::refused(error),
        StudyError::Folder { .. } => CommandError::failed(format!("--out {error}")),
        StudyError::Table { .. } => CommandError::failed(format!("{error} (tables lie below --data)")),
        _ => CommandError::usage(error),
    }
}

/// Cells as notes on stderr, training as `host train` shows it.
struct StudyNotes<'a>(&'a Console);

impl StudyProgress for StudyNotes<'_> {
    fn cell(&mut self, number: usize, of: usize, name: &str) {
        self.0.note(format!("cell {number} of {of}: {name}"));
    }

    fn kept(&mut self) {
        self.0.note("done by an earlier call");
    }

    fn changed(&mut self, what: &str) {
        self.0.warning(format!("{what}: this cell is done anew"));
    }

    fn elsewhere(&mut self) {
        self.0.note("another process computes it");
    }

    fn failed(&mut self, reason: &str) {
        self.0.error(reason);
    }

    fn training(&mut self) -> Box<dyn Progress> {
        if self.0.is_quiet() { Box::new(Silent) } else { Box::new(Terminal::default()) }
    }
}
