//! `host phantom`: synthetic labelled scans with masks, and the table that run and train read.

use super::console::Console;
use super::options::ThreadOption;
use super::outcome::{CommandError, Outcome};
use super::output::put_file;
use crate::learn::phantom::{self, PhantomCase};
use crate::volume::{Affine, VolumeError, write_nifti_i16, write_nifti_u8};
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
  host run --plugin lung_nodule phantoms/table.csv";

/// Make synthetic labelled scans: DIR/<case>.nii.gz, masks, table.csv and truth.json
///
/// Case i depends on TASK, the seed and i alone: the same on every machine, whatever the count.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Phantom {
    /// What is to be found in them
    #[arg(value_parser = PossibleValuesParser::new(phantom::tasks()))]
    task: String,
    /// How many
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Another seed gives other scans
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Index of the first case
    #[arg(long, value_name = "I", default_value_t = 0)]
    start: u64,
    /// Folder for them
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// Overwrite what is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    threads: ThreadOption,
}

/// The column of the label.
const LABEL: &str = "nodule";
const TABLE: &str = "table.csv";
const TRUTH: &str = "truth.json";

fn scan_file(case: &str) -> String {
    format!("{case}.nii.gz")
}

fn mask_file(case: &str) -> String {
    format!("{case}_mask.nii.gz")
}

/// What stays of a case when its voxels are written.
struct Written {
    name: String,
    label: bool,
    truth: Value,
}

impl Phantom {
    pub fn carry_out(self, console: &Console) -> Result<Outcome, CommandError> {
        self.threads.apply()?;
        let Some(end) = self.start.checked_add(u64::from(self.count)) else {
            return Err(CommandError::usage("--start: too large for that many cases"));
        };
        let unwritable = |e: io::Error| {
            CommandError::failed(format!("--out {}: cannot be written ({e})", self.out.display()))
        };
        std::fs::create_dir_all(&self.out).map_err(unwritable)?;
        self.refuse_to_overwrite(end)?;
        tempfile::tempfile_in(&self.out).map_err(unwritable)?;

        let bar = console.progress(self.count as usize, "scans");
        let mut made = Vec::new();
        let indices: Vec<u64> = (self.start..end).collect();
        // As many at a time as there are threads: memory does not grow with the count.
        for indices in indices.chunks(rayon::current_num_threads().max(1)) {
            let cases: Result<Vec<PhantomCase>, _> =
                indices.par_iter().map(|&index| phantom::generate(&self.task, self.seed, index)).collect();
            for case in cases.map_err(CommandError::usage)? {
                made.push(write(&self.out, case).map_err(CommandError::failed)?);
                bar.inc(1);
            }
        }
        // Last, and whole: a folder without them is one that was not finished.
        put_file(&self.out.join(TRUTH), &self.truth(&made)).map_err(unwritable)?;
        put_file(&self.out.join(TABLE), &table(&made).map_err(unwritable)?).map_err(unwritable)?;
        let positives = made.iter().filter(|c| c.label).count();
        console.result(format!(
            "{} scans, {positives} with a {LABEL}: {}",
            made.len(),
            self.out.join(TABLE).display()
        ));
        Ok(Outcome::Done)
    }

    fn refuse_to_overwrite(&self, end: u64) -> Result<(), CommandError> {
        if self.force {
            return Ok(());
        }
        let scans = (self.start..end).map(|i| scan_file(&format!("{}_{}_{i}", self.task, self.seed)));
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
        let truth =
            json!({"task": self.task, "seed": self.seed, "host": env!("CARGO_PKG_VERSION"), "cases": all});
        format!("{truth:#}\n").into_bytes()
    }
}

fn write(folder: &Path, case: PhantomCase) -> Result<Written, VolumeError> {
    let affine = Affine(case.affine);
    write_nifti_i16(&folder.join(scan_file(&case.name)), &case.voxels, case.shape, &affine)?;
    // A negative's mask is all zero, and says so: "nothing here" is supervision too.
    write_nifti_u8(&folder.join(mask_file(&case.name)), &case.mask, case.shape, &affine)?;
    let nodules: Vec<Value> = case
        .nodules
        .iter()
        .map(|n| json!({"centre_mm": n.centre_mm, "diameter_mm": n.diameter_mm}))
        .collect();
    let truth = json!({"case": case.name, LABEL: case.label, "nodules": nodules});
    Ok(Written { name: case.name, label: case.label, truth })
}

fn table(cases: &[Written]) -> io::Result<Vec<u8>> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(["case", "image", LABEL, "mask"])?;
    for case in cases {
        let label = if case.label { "1" } else { "0" };
        csv.write_record([&case.name, &scan_file(&case.name), label, &mask_file(&case.name)])?;
    }
    csv.into_inner().map_err(|e| e.into_error())
}
