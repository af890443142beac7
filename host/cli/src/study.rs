//! `host study`: compares tasks × backbones × methods as one table.

use super::allocator::keep_free_memory;
use super::console::Console;
use super::options::{self, GeometryOption, PrecisionOption, ThreadOption};
use super::outcome::{CommandError, Outcome};
use super::train::Terminal;
#[cfg(unix)]
use super::worker;
use anymc3d_host::device::DeviceChoice;
use anymc3d_host::engine::backbone_store::accept_licences;
use anymc3d_host::memory;
use anymc3d_host::study::{self, Measuring, StudyError, StudyOptions, StudyProgress, StudyTable};
use anymc3d_host::train::{Progress, Silent};
use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  host phantom lung_nodule --count 60 --seed 1 --out phantoms/lung_nodule
  host study examples/study/phantoms.toml --data phantoms --out study
  host study examples/study/nodules.toml --data lidc_nodules --out study     the same call again goes on where it was stopped";

/// Compare tasks x backbones x methods: one table with intervals, paired tests, parameters, time and memory per scan
///
/// The study file names tasks (a plugin and a table of cases), backbones and methods (linear probe, attention probe, LoRA, or
/// the plugin as it is). Each combination is a cell: it trains, scores test cases that neither trained it nor chose its epoch,
/// and is measured on a few scans in a process of its own. DIR gets study.md, study.csv, study.json and auroc_time as SVG and
/// PNG. A call with the same DIR keeps the cells that are done, and does those anew whose options, plugin, table or backbone
/// changed. A cell that fails has a row that says why. docs/backbones.md describes the file.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Study {
    /// Study file (TOML)
    study: PathBuf,
    /// Folder that the tables of the study file lie below [default: the study file's folder]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folder for the tables, the picture and the cells
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// Print the rows as JSON, one per line
    #[arg(long)]
    json: bool,
    /// Accept the licences of the backbones; recorded in $ANYMC3D_HOME, so each is asked once on a machine
    #[arg(long)]
    accept_licence: bool,
    /// Number format of the matrix products; auto is bf16 where the device supports it, else f32
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

impl Study {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        keep_free_memory();
        memory::give(self.max_memory);
        self.geometry.apply();
        if self.accept_licence {
            accept_licences();
        }
        self.threads.apply()?;
        let study = study::Study::open(&self.study, self.data.as_deref()).map_err(refusal)?;
        let _out = options::out_folder(&self.out).map_err(CommandError::failed)?;
        let options = StudyOptions {
            out: self.out.clone(),
            precision: self.precision.resolve(self.device),
            device: self.device,
            device_memory: self.max_memory,
            cache: options::open_cache(self.cache.as_deref(), self.cache_size)?,
            measuring: self.measuring(console),
        };
        let table = study.run(&options, &mut StudyNotes(console)).map_err(refusal)?;
        self.tell(&table, console);
        Ok(if table.failures() > 0 { Outcome::Failed } else { Outcome::Done })
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

    fn tell(&self, table: &StudyTable, console: &Console) {
        let (rows, overall) = (table.rows(), table.overall());
        if self.json {
            rows.iter().for_each(|row| console.result(serde_json::to_string(row).unwrap_or_default()));
        } else {
            console.result(table.markdown(&rows, &overall).trim_end());
        }
        console.note(format!("{}: the same table, and auroc_time.png", self.out.join("study.md").display()));
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

    fn failed(&mut self, reason: &str) {
        self.0.error(reason);
    }

    fn training(&mut self) -> Box<dyn Progress> {
        if self.0.is_quiet() { Box::new(Silent) } else { Box::new(Terminal::default()) }
    }
}
