//! `host bench`: measures this machine against its limit; or runs one repetition at a time, so that another program's
//! repetitions can be interleaved with them.

mod measures;
mod precisions;
mod start;

use super::console::Console;
use super::options::{BackboneOptions, PrecisionOption};
use super::outcome::{CommandError, Outcome};
use super::text;
use anymc3d_host::backbone::kernels::clock::Spent;
use clap::{Args, ValueEnum};
use measures::{Bench, Measure};
use serde::Serialize;
use std::io::BufRead;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  host bench                                     kernels, one task, many tasks, training step, reading, start
  host bench kernels one --json
  host bench precisions                          which --precision is fastest here, and how near it is to f32
  host bench many --tasks 12 --repetitions 15
  host bench load --plugin lung_nodule           what a plugin's library costs to load
  host bench --stepwise --pixels pixels.safetensors    one repetition per line of standard input, for example `one` or `step`";

/// Measure speed: kernels against the machine's limit, one task, number formats, many tasks, a training step, reading, starting
///
/// Repetitions of all measures are interleaved, so background load affects them equally. MS is the median of the elapsed
/// time [and the fastest]; PROCESSOR MS counts only this process's time on the processors.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Command {
    /// What to measure [default: everything; `load` only with --plugin]
    #[arg(value_enum)]
    what: Vec<What>,
    /// Slices in a scan
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    slices: u16,
    /// Side of a slice in pixels, a multiple of the patch size
    #[arg(long, default_value_t = 224)]
    size: usize,
    /// Tasks that share the backbone, for `many`
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=256))]
    tasks: u16,
    /// Repetitions of each measure
    #[arg(long, short = 'n', default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=10000))]
    repetitions: u16,
    /// Slices from a file with `pixels` [S,3,H,W], already normalised, instead of noise
    #[arg(long, value_name = "F.safetensors")]
    pixels: Option<PathBuf>,
    /// Plugin whose library `load` opens, each time in a new process
    #[arg(long, short, value_name = "P")]
    plugin: Option<String>,
    /// Read the name of a measure from each line of standard input, run one repetition and print its times
    #[arg(long, conflicts_with = "what")]
    stepwise: bool,
    /// Print one line of JSON per measure
    #[arg(long)]
    json: bool,
    /// Number format of the matrix products; auto is bf16 where the processor multiplies it faster than f32, else f32
    #[arg(long, value_enum, default_value_t = PrecisionOption::Auto)]
    precision: PrecisionOption,
    #[command(flatten)]
    backbone: BackboneOptions,
    /// Load the plugin once, say when, and end: what `load` starts
    #[arg(long, hide = true)]
    one_load: bool,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Each kernel of a block on one thread
    Kernels,
    /// A scan through the backbone: frozen, with one task's adapter, with heatmaps
    One,
    /// A scan through the frozen backbone in every number format, and how near each is to f32
    Precisions,
    /// A scan for several tasks
    Many,
    /// A training step: forward, backward, optimiser
    Step,
    /// A compressed scan of 256 x 256 x 108, read and sliced
    Read,
    /// From the start of the process to an open backbone
    Start,
    /// A plugin's library, loaded and its task built
    Load,
}

/// A line of the table, an object of the JSON.
#[derive(Debug, Serialize)]
struct Row {
    measure: String,
    /// Milliseconds that passed, the median; of `kernels`: of this thread on its processor.
    ms: f64,
    /// The fastest.
    ms_best: f64,
    /// The middle half of the repetitions, as a share of the median.
    spread: f64,
    /// Milliseconds of all threads on the processors, the median.
    processor_ms: f64,
    repetitions: usize,
    /// What the number is to be compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    /// Slices per second, or operations per nanosecond.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
}

impl Row {
    fn of(measure: &str, spent: &[Spent]) -> Self {
        let wall = sorted(spent.iter().map(|s| s.wall));
        let processor = sorted(spent.iter().map(|s| s.process));
        let middle = median(&wall);
        Self {
            measure: measure.to_owned(),
            ms: middle,
            ms_best: wall[0],
            spread: (wall[wall.len() * 3 / 4] - wall[wall.len() / 4]) / middle,
            processor_ms: median(&processor),
            repetitions: wall.len(),
            against: None,
            ratio: None,
            rate: None,
            unit: None,
        }
    }

    fn cells(&self) -> Vec<String> {
        let number = |x: f64| if x < 10.0 { format!("{x:.3}") } else { format!("{x:.1}") };
        let rate = self.rate.zip(self.unit).map(|(rate, unit)| format!("{rate:.1} {unit}"));
        let ratio = self.ratio.zip(self.against.as_ref()).map(|(ratio, of)| format!("{ratio:.2} {of}"));
        vec![
            self.measure.clone(),
            format!("{} [{}]", number(self.ms), number(self.ms_best)),
            format!("{:.0} %", 100.0 * self.spread),
            number(self.processor_ms),
            rate.unwrap_or_default(),
            ratio.unwrap_or_default(),
        ]
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

impl Command {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        self.backbone.apply()?;
        if self.one_load {
            let plugin = self.plugin.as_deref().unwrap_or_default();
            return start::one_load(plugin).map(|()| Outcome::Done).map_err(CommandError::refused);
        }
        if self.what.contains(&What::Load) && self.plugin.is_none() {
            return Err(CommandError::usage("load: which library? give --plugin P with it"));
        }
        if self.stepwise {
            return self.stepwise(console);
        }
        let mut rows = vec![
            ["MEASURE", "MS [FASTEST]", "SPREAD", "PROCESSOR MS", "RATE", "RATIO"]
                .map(str::to_owned)
                .to_vec(),
        ];
        let mut tell = |row: Row| {
            if self.json {
                console.result(serde_json::to_string(&row).unwrap_or_default());
            }
            rows.push(row.cells());
        };
        let n = usize::from(self.repetitions);
        if self.wants(What::Kernels) {
            measures::kernels(self.precision.resolve(self.backbone.device), self.size, n)
                .into_iter()
                .for_each(&mut tell);
        }
        if [What::One, What::Many, What::Step].into_iter().any(|what| self.wants(what)) {
            let bench = self.open()?;
            let mut wanted = Vec::new();
            for (what, measures) in [
                (What::One, Measure::one()),
                (What::Many, Measure::many(usize::from(self.tasks), bench.blocks())),
                (What::Step, Measure::steps(bench.blocks())),
            ] {
                if self.wants(what) {
                    wanted.extend(measures);
                }
            }
            bench.in_turn(&wanted, n).map_err(CommandError::failed)?.into_iter().for_each(&mut tell);
        }
        let mut verdict = None;
        if self.wants(What::Precisions) {
            let open = |precision| self.backbone.open(precision);
            let (rows, line) = precisions::precisions(open, self.open()?.pixels(), n)?;
            rows.into_iter().for_each(&mut tell);
            verdict = Some(line);
        }
        if self.wants(What::Read) {
            start::read(n).map_err(CommandError::failed)?.into_iter().for_each(&mut tell);
        }
        if self.wants(What::Start) {
            let open = || self.backbone.open(self.precision.resolve(self.backbone.device)).map(drop);
            start::start(n, open)?.into_iter().for_each(&mut tell);
        }
        if let Some(plugin) = self.plugin.as_deref().filter(|_| self.wants(What::Load)) {
            tell(start::load(plugin, n).map_err(CommandError::refused)?);
        }
        if !self.json {
            console.result(text::table(&rows));
            verdict.iter().for_each(|line| console.result(line));
        }
        Ok(Outcome::Done)
    }

    fn wants(&self, what: What) -> bool {
        self.what.is_empty() || self.what.contains(&what)
    }

    fn open(&self) -> Result<Bench, CommandError> {
        let backbone = self.backbone.open(self.precision.resolve(self.backbone.device))?;
        Bench::new(backbone, usize::from(self.slices), self.size, self.pixels.as_deref())
            .map_err(CommandError::failed)
    }

    fn stepwise(&self, console: &Console) -> Result<Outcome, CommandError> {
        let (bench, mut outcome) = (self.open()?, Outcome::Done);
        for line in std::io::stdin().lock().lines() {
            let line = line.map_err(|e| CommandError::failed(format!("standard input: {e}")))?;
            let measure = Measure::parse(line.trim(), bench.blocks()).map_err(CommandError::usage)?;
            // One that fails, on a device that is full for the moment, leaves the next to be asked for.
            let record = match bench.once(&measure) {
                Ok(spent) => serde_json::json!({
                    "measure": measure.name(), "ms": spent.wall, "processor_ms": spent.process,
                    "device_left": bench.device_left(),
                }),
                Err(error) => {
                    outcome = Outcome::Failed;
                    serde_json::json!({ "measure": measure.name(), "error": error })
                }
            };
            console.result(record);
        }
        Ok(outcome)
    }
}
