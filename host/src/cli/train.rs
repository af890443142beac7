//! `host train`: a plugin's weights from a table of labelled scans.

use super::console::Console;
use super::options::{BackboneOptions, PrecisionOption};
use super::outcome::{CommandError, Outcome};
use super::output::Output;
use crate::engine::open_library;
use crate::learn::table::{Part, Split, Table};
use crate::learn::train::{
    MemoryPlan, PrefixCache, Progress, Recipe, Setting, Silent, Terminal, TrainError, TrainOptions, train,
};
use crate::plugin::find;
use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  host phantom lung_nodule --count 300 --seed 1 --out phantoms
  host train --plugin lung_nodule --data phantoms/table.csv --out run1
  host train --plugin lung_nodule --data train.csv --val val.csv --epochs 8 --lr 1e-3 --out run2
  host run --plugin lung_nodule --weights run1/lung_nodule.safetensors scan.nii.gz";

/// Train a plugin's adapter and head on a table of labelled scans
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Train {
    /// Plugin by name or path
    #[arg(long, short, value_name = "P")]
    plugin: String,
    /// Labelled scans: columns case, image (or image.VIEW), one per label; optional patient, mask, split
    #[arg(long, value_name = "T.csv")]
    data: PathBuf,
    /// Folder for weights, metrics.csv, TensorBoard's events and training.json
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// Validation cases [default: the table's split column, else a fifth of the patients]
    #[arg(long, value_name = "V.csv")]
    val: Option<PathBuf>,
    /// Share of the cases held out where no split is given
    #[arg(long, value_name = "SHARE", default_value_t = TrainOptions::default().val_fraction)]
    val_fraction: f64,
    /// Passes over the training cases
    #[arg(long, default_value_t = TrainOptions::default().epochs)]
    epochs: usize,
    /// Cases per step
    #[arg(long, default_value_t = TrainOptions::default().batch)]
    batch: usize,
    /// Peak learning rate of the adapter
    #[arg(long, default_value_t = TrainOptions::default().lr)]
    lr: f64,
    /// Peak learning rate of head and segmentation branch
    #[arg(long, default_value_t = TrainOptions::default().head_lr)]
    head_lr: f64,
    /// Weight decay of the adapter
    #[arg(long, default_value_t = TrainOptions::default().weight_decay)]
    weight_decay: f64,
    /// Weight decay of head and segmentation branch
    #[arg(long, default_value_t = TrainOptions::default().head_weight_decay)]
    head_weight_decay: f64,
    /// Weight of the segmentation loss on cases with a mask
    #[arg(long, default_value_t = TrainOptions::default().lambda)]
    lambda: f64,
    /// Share of the steps in which the learning rates rise
    #[arg(long, default_value_t = TrainOptions::default().warmup)]
    warmup: f64,
    /// How training cases are varied: full is the paper's recipe, in 3D
    #[arg(long, value_enum, default_value_t = AugmentOption::Full)]
    augment: AugmentOption,
    /// Augmentation draws kept per case, the case as it is among them
    #[arg(long, default_value_t = TrainOptions::default().draws)]
    draws: usize,
    /// Longest gradient of a step; longer ones are shortened to it [0: never]
    #[arg(long, value_name = "NORM", default_value_t = TrainOptions::default().clip)]
    clip: f64,
    /// End after this many epochs without a better validation AUROC [0: never]
    #[arg(long, value_name = "EPOCHS", default_value_t = TrainOptions::default().patience)]
    patience: usize,
    /// Go on with the run in --out after its last whole epoch
    #[arg(long)]
    resume: bool,
    /// Most memory for the whole process, for example 4G: activations are recomputed and slices go in groups to keep it
    #[arg(long, value_name = "SIZE", value_parser = super::options::size)]
    max_memory: Option<usize>,
    /// Seed of initialisation, order, split and augmentation
    #[arg(long, default_value_t = TrainOptions::default().seed)]
    seed: u64,
    /// Most disk space for frozen prefixes, GiB; 0 keeps none
    #[arg(long, value_name = "GIB", default_value_t = 16.0)]
    cache_size: f64,
    /// Folder for frozen prefixes [default: cache/prefix in $ANYMC3D_HOME]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Numbers of the large products; auto is bf16 where the processor has it
    #[arg(long, value_enum, default_value_t = PrecisionOption::Auto)]
    precision: PrecisionOption,
    #[command(flatten)]
    backbone: BackboneOptions,
}

/// How training cases are varied.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum AugmentOption {
    /// Not at all
    None,
    /// Mirror images
    Flips,
    /// Mirror images, rotation, zoom, shift, noise, blur, brightness, contrast, resolution, gamma
    Full,
}

impl From<AugmentOption> for Recipe {
    fn from(option: AugmentOption) -> Self {
        match option {
            AugmentOption::None => Self::None,
            AugmentOption::Flips => Self::Flips,
            AugmentOption::Full => Self::Full,
        }
    }
}

impl Train {
    pub fn carry_out(self, console: &Console) -> Result<Outcome, CommandError> {
        let options = self.options()?;
        self.backbone.threads.apply()?;
        let library = open_library(&self.plugin).map_err(CommandError::refused)?;
        let manifest = &library.embedded.manifest;
        let mut table = Table::open(&self.data, manifest).map_err(CommandError::failed)?;
        let split = match &self.val {
            Some(val) => join(&mut table, Table::open(val, manifest).map_err(CommandError::failed)?)?,
            None => table.split(options.val_fraction, options.seed),
        };
        // The folder is made before an hour is spent.
        Output::open(&self.out).map_err(CommandError::failed)?;
        let precision = self.precision.resolve();
        let mut backbone = self.backbone.open(precision)?;
        let folder = self.cache.clone().or_else(|| find::home().map(|h| h.join("cache").join("prefix")));
        let folder = folder.filter(|_| self.cache_size > 0.0);
        let cap = (self.cache_size * (1u64 << 30) as f64) as u64;
        let cache = PrefixCache::open(folder.as_deref(), cap).map_err(|e| {
            let folder = folder.as_deref().unwrap_or(std::path::Path::new("")).display();
            CommandError::failed(format!(
                "{folder}: the prefix cache cannot be opened: {e}; give --cache DIR"
            ))
        })?;
        console.note(format!(
            "{} training and {} validation cases; results in {}",
            split.train.len(),
            split.val.len(),
            self.out.display()
        ));
        let memory = MemoryPlan::new(self.max_memory).map_err(CommandError::usage)?;
        backbone.keep_at_most(memory.kept_bytes);
        let mut progress: Box<dyn Progress> =
            if console.is_quiet() { Box::new(Silent) } else { Box::new(Terminal::default()) };
        let setting = Setting {
            library: &library,
            backbone: &backbone,
            precision,
            table: &table,
            split: &split,
            cache: &cache,
            memory,
        };
        let trained = train(setting, &options, &self.out, self.resume, progress.as_mut())
        .map_err(|e| match e {
            TrainError::Plugin(e) => CommandError::refused(e),
            other => CommandError::failed(other),
        })?;
        let r = &trained.record;
        console.result(format!(
            "{}: epoch {} of {}, validation AUROC {}, {} parameters, {:.1} min",
            trained.weights.display(),
            r.best_epoch,
            r.options.epochs,
            r.val_auroc.map_or("not defined".to_owned(), |a| format!("{a:.3}")),
            r.parameters.0 + r.parameters.1 + r.parameters.2,
            r.seconds / 60.0
        ));
        Ok(Outcome::Done)
    }

    fn options(&self) -> Result<TrainOptions, CommandError> {
        let refuse = |option: &str, found: f64, expected: &str| {
            Err(CommandError::usage(format!("--{option} {found}: expected {expected}")))
        };
        let whole = [("epochs", self.epochs), ("batch", self.batch), ("draws", self.draws)];
        if let Some((option, _)) = whole.iter().find(|(_, n)| *n == 0) {
            return refuse(option, 0.0, "1 or more");
        }
        let positive = [("lr", self.lr), ("head-lr", self.head_lr)];
        if let Some((option, v)) = positive.iter().find(|(_, v)| !(v.is_finite() && *v > 0.0)) {
            return refuse(option, *v, "a number above 0");
        }
        let decays = [("weight-decay", self.weight_decay), ("head-weight-decay", self.head_weight_decay)];
        let [a, b] = decays;
        let not_negative =
            [a, b, ("lambda", self.lambda), ("cache-size", self.cache_size), ("clip", self.clip)];
        if let Some((option, v)) = not_negative.iter().find(|(_, v)| !(v.is_finite() && *v >= 0.0)) {
            return refuse(option, *v, "a number of 0 or more");
        }
        if !(0.0..=1.0).contains(&self.warmup) {
            return refuse("warmup", self.warmup, "a share, 0 to 1");
        }
        if !(self.val_fraction > 0.0 && self.val_fraction < 1.0) {
            return refuse("val-fraction", self.val_fraction, "a share between 0 and 1");
        }
        Ok(TrainOptions {
            epochs: self.epochs,
            batch: self.batch,
            lr: self.lr,
            head_lr: self.head_lr,
            weight_decay: self.weight_decay,
            head_weight_decay: self.head_weight_decay,
            lambda: self.lambda,
            warmup: self.warmup,
            augment: self.augment.into(),
            draws: if matches!(self.augment, AugmentOption::None) { 1 } else { self.draws },
            clip: self.clip,
            patience: self.patience,
            val_fraction: self.val_fraction,
            seed: self.seed,
        })
    }
}

/// Appends a validation table; every row of the first trains, every row of the second validates.
fn join(table: &mut Table, val: Table) -> Result<Split, CommandError> {
    let first = table.rows.len();
    let patients: std::collections::BTreeSet<&str> = table.rows.iter().map(|r| r.patient_or_case()).collect();
    if let Some(row) = val.rows.iter().find(|r| patients.contains(r.patient_or_case())) {
        return Err(CommandError::failed(format!(
            "{}: line {}: {} is in {} too; a patient trains or validates, never both",
            val.path.display(),
            row.line,
            row.patient_or_case(),
            table.path.display()
        )));
    }
    table.rows.extend(val.rows);
    let train = (0..first).filter(|&i| table.rows[i].split != Some(Part::Test)).collect();
    Ok(Split { train, val: (first..table.rows.len()).collect() })
}
