//! `host phantom`: makes synthetic labelled scans with masks, and the table that run and train read.

use super::console::Console;
use super::options::ThreadOption;
use super::outcome::{CommandError, Outcome};
use anymc3d_host::fs::write_atomically;
use anymc3d_host::phantom::{self, Base, PhantomCase, Task, UnknownTask};
use anymc3d_host::scan::{Affine, Scan, VolumeError, write_nifti_i16, write_nifti_u8};
use clap::Args;
use clap::builder::PossibleValuesParser;
use rayon::prelude::*;
use serde_json::{Value, json};
use std::io;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  host phantom lung_nodule --count 200 --seed 1 --out phantoms
  host phantom lung_nodule --count 100 --seed 1 --start 200 --out more
  host phantom brain_mri --count 300 --seed 1 --out heads
  host phantom liver_injury --count 300 --seed 1 --out abdomens
  host phantom liver_injury --base ct.nii.gz --organ liver.nii.gz --count 40 --out on_a_real_scan
  host run --plugin lung_nodule phantoms/table.csv";

/// Make synthetic labelled scans: DIR/<case>.nii.gz, masks, table.csv, truth.json
///
/// Case i depends only on TASK, the seed and i: it is the same on every machine and for every count.
/// lung_nodule: chest CT, nodules in half of the cases. brain_mri: a head in T1, T2 and FLAIR (a fifth of the cases
/// lack one), with a stroke, a tumour, a cyst or none. liver_injury: contrast CT of the abdomen, half of the
/// livers injured, masks for a quarter of the cases.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Phantom {
    /// Task whose scans are made
    #[arg(value_parser = PossibleValuesParser::new(phantom::names()))]
    task: String,
    /// Number of cases
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Seed; another seed gives other scans
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Index of the first case
    #[arg(long, value_name = "I", default_value_t = 0)]
    start: u64,
    /// For liver_injury: put the injuries into an organ of this real CT
    #[arg(long, value_name = "SCAN", requires = "organ")]
    base: Option<PathBuf>,
    /// Mask of the organ, on the grid of the CT
    #[arg(long, value_name = "MASK", requires = "base")]
    organ: Option<PathBuf>,
    /// Output folder
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// Overwrite files that exist
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    threads: ThreadOption,
}

const TABLE: &str = "table.csv";
const TRUTH: &str = "truth.json";

fn image_file(case: &str, sequence: Option<&str>) -> String {
    sequence.map_or(format!("{case}.nii.gz"), |s| format!("{case}_{s}.nii.gz"))
}

fn mask_file(case: &str) -> String {
    format!("{case}_mask.nii.gz")
}

/// What stays of a case when its voxels are written.
struct Written {
    name: String,
    class: usize,
    /// The sequences that there are; for a case of one picture, none.
    sequences: Vec<&'static str>,
    masked: bool,
    truth: Value,
}

/// Where cases come from.
enum Source {
    Painted(&'static Task),
    Real(Box<Base>),
}

impl Source {
    fn case(&self, seed: u64, index: u64) -> Result<PhantomCase, UnknownTask> {
        match self {
            Self::Painted(task) => phantom::generate(task.name, seed, index),
            Self::Real(base) => Ok(base.generate(seed, index)),
        }
    }
}

impl Phantom {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        self.threads.apply()?;
        let task = phantom::task(&self.task).map_err(CommandError::usage)?;
        let Some(end) = self.start.checked_add(u64::from(self.count)) else {
            return Err(CommandError::usage("--start: too large for that many cases"));
        };
        let unwritable = |e: io::Error| {
            CommandError::failed(format!("--out {}: cannot be written ({e})", self.out.display()))
        };
        let source = self.source(task)?;
        std::fs::create_dir_all(&self.out).map_err(unwritable)?;
        self.refuse_to_overwrite(task, end)?;
        tempfile::tempfile_in(&self.out).map_err(unwritable)?;

        let bar = console.progress(self.count as usize, "scans");
        let mut made = Vec::new();
        let indices: Vec<u64> = (self.start..end).collect();
        // As many at a time as there are threads: memory does not grow with the count.
        for indices in indices.chunks(rayon::current_num_threads().max(1)) {
            let cases: Result<Vec<PhantomCase>, _> =
                indices.par_iter().map(|&index| source.case(self.seed, index)).collect();
            for case in cases.map_err(CommandError::usage)? {
                made.push(write(task, &self.out, case).map_err(CommandError::failed)?);
                bar.inc(1);
            }
        }
        // Last, and whole: a folder without them is one that was not finished.
        write_atomically(&self.out.join(TRUTH), &self.truth(&made)).map_err(unwritable)?;
        write_atomically(&self.out.join(TABLE), &table(task, &made).map_err(unwritable)?)
            .map_err(unwritable)?;
        let counts = task.classes.iter().enumerate().skip(1).map(|(class, name)| {
            let count = made.iter().filter(|c| c.class == class).count();
            let what = if task.classes.len() == 2 { task.findings } else { name };
            format!("{count} with {what}")
        });
        let counts = counts.collect::<Vec<_>>().join(", ");
        console.result(format!("{} cases, {counts}: {}", made.len(), self.out.join(TABLE).display()));
        Ok(Outcome::Done)
    }

    fn source(&self, task: &'static Task) -> Result<Source, CommandError> {
        let (Some(base), Some(organ)) = (&self.base, &self.organ) else {
            return Ok(Source::Painted(task));
        };
        if task.name != "liver_injury" {
            let message = format!("--base: {} is painted from nothing; liver_injury takes a scan", task.name);
            return Err(CommandError::usage(message));
        }
        let open = |path: &Path| Scan::open(path).map_err(CommandError::failed);
        let base = Base::new(&open(base)?, &open(organ)?).map_err(CommandError::failed)?;
        Ok(Source::Real(Box::new(base)))
    }

    fn refuse_to_overwrite(&self, task: &Task, end: u64) -> Result<(), CommandError> {
        if self.force {
            return Ok(());
        }
        let origin = if self.base.is_some() { "_base" } else { "" };
        let sequences: Vec<Option<&str>> = if task.sequences.is_empty() {
            vec![None]
        } else {
            task.sequences.iter().copied().map(Some).collect()
        };
        let scans = (self.start..end).flat_map(|i| {
            let case = format!("{}{origin}_{}_{i}", self.task, self.seed);
            sequences.iter().map(move |s| image_file(&case, *s)).collect::<Vec<_>>()
        });
        let mut files = [TABLE, TRUTH].map(str::to_owned).into_iter().chain(scans);
        match files.find(|f| self.out.join(f).exists()) {
            Some(file) => Err(CommandError::failed(format!(
                "{}: is there already; give another --out, or --force to overwrite",
                self.out.join(file).display()
            ))),
            None => Ok(()),
        }
    }

    fn truth(&self, cases: &[Written]) -> Vec<u8> {
        let all: Vec<&Value> = cases.iter().map(|c| &c.truth).collect();
        let mut truth =
            json!({"task": self.task, "seed": self.seed, "host": env!("CARGO_PKG_VERSION"), "cases": all});
        if let Some(base) = &self.base {
            truth["base"] = json!(base);
        }
        format!("{truth:#}\n").into_bytes()
    }
}

fn write(task: &Task, folder: &Path, case: PhantomCase) -> Result<Written, VolumeError> {
    let affine = Affine(case.affine);
    for image in &case.images {
        let file = folder.join(image_file(&case.name, image.sequence));
        write_nifti_i16(&file, &image.voxels, case.shape, &affine)?;
    }
    if let Some(mask) = &case.mask {
        write_nifti_u8(&folder.join(mask_file(&case.name)), mask, case.shape, &affine)?;
    }
    let findings = case.findings.iter().map(|f| {
        let mut finding = json!({"centre_mm": f.centre_mm, "diameter_mm": f.diameter_mm});
        if let Some(kind) = f.kind {
            finding["kind"] = json!(kind);
        }
        finding
    });
    let class = match task.classes.len() {
        2 => json!(case.class == 1),
        _ => json!(task.classes[case.class]),
    };
    let truth =
        json!({"case": case.name, (task.column): class, (task.findings): findings.collect::<Vec<_>>()});
    let sequences = case.images.iter().filter_map(|i| i.sequence).collect();
    Ok(Written { name: case.name, class: case.class, sequences, masked: case.mask.is_some(), truth })
}

fn table(task: &Task, cases: &[Written]) -> io::Result<Vec<u8>> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    let mut header = vec!["case".to_owned()];
    header.extend(task.sequences.iter().map(|s| format!("image.{s}")));
    if task.sequences.is_empty() {
        header.push("image".to_owned());
    }
    header.extend([task.column.to_owned(), "mask".to_owned()]);
    csv.write_record(&header)?;
    for case in cases {
        let mut record = vec![case.name.clone()];
        record.extend(task.sequences.iter().map(|s| {
            let there = case.sequences.contains(s);
            if there { image_file(&case.name, Some(s)) } else { String::new() }
        }));
        if task.sequences.is_empty() {
            record.push(image_file(&case.name, None));
        }
        let mask = if case.masked { mask_file(&case.name) } else { String::new() };
        record.extend([task.classes[case.class].to_owned(), mask]);
        csv.write_record(&record)?;
    }
    csv.into_inner().map_err(|e| e.into_error())
}
