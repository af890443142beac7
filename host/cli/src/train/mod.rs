//! `host train`: trains a plugin's weights on a table of labelled scans.

mod ablation;
mod folds;
mod gather;
mod progress;
mod run_summary;
mod sweep;
mod sweep_runs;
mod tables;
mod training_options;

use super::console::Console;
use super::labels::LabelOption;
use super::options::{BackboneOptions, GeometryOption, PrecisionOption};
use super::outcome::{CommandError, Outcome};
use ablation::Ablation;
use anymc3d_host::data::table::{Part, Split, Table};
use anymc3d_host::memory::{self, MemoryBudget, Source};
use anymc3d_host::scan::DecodedScans;
use anymc3d_host::task::{Weights, open_library};
use anymc3d_host::train::{
    Contents, MemoryPlan, Progress, Recipe, Silent, TEST_PREDICTIONS, TrainContext, TrainError, TrainOptions,
    TrainingRecord, score_test_set, too_few, train, untrained_parameter,
};
use anymc3d_manifest::Manifest;
use clap::Args;
use clap::builder::ArgPredicate;
use folds::FoldsBy;
pub(super) use progress::Terminal;
use run_summary::RunSummary;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const EXAMPLES: &str = "\
Examples:
  host phantom lung_nodule --count 300 --seed 1 --out phantoms
  host train --plugin lung_nodule --data phantoms/table.csv --out run1
  host train --plugin lung_nodule --data phantoms/table.csv --out run1 --resume
  host train --plugin lung_nodule --data train.csv --val val.csv --epochs 8 --lr 1e-3 --out run2
  host train --plugin lung_nodule --data train.csv --folds 5 --patience 10 --out run3
  host train --plugin lung_nodule --data train.csv --folds 4 --folds-by group --out run4
  host train --plugin lung_nodule --data train.csv --adapter none --fusion mean --out probe
  host train --plugin mine --data cohort.npz:train --val cohort.npz:val --out run5
  host train --plugin lung_nodule --data train.csv --folds 5 --fold 0 --out run3     one fold of five; then:
  host train --gather run3 --folds 5
  host train --plugin lung_nodule --data train.csv --sweep grid.toml --out sweep
  host run --plugin lung_nodule --weights run1/lung_nodule.safetensors scan.nii.gz";

/// Train a plugin's adapter and head on a table of labelled scans
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, args_override_self = true)]
pub(super) struct Train {
    /// Plugin to train, by name or path
    #[arg(
        long,
        short,
        value_name = "P",
        required_unless_present = "gather",
        default_value_if("gather", ArgPredicate::IsPresent, "."),
        help_heading = "Data"
    )]
    plugin: String,
    /// Table of labelled scans: columns case, image (or image.VIEW), one per label; optional patient, group, mask, point,
    /// split, weight.LABEL
    #[arg(
        long,
        value_name = "T.csv",
        required_unless_present = "gather",
        default_value_if("gather", ArgPredicate::IsPresent, "."),
        help_heading = "Data"
    )]
    data: PathBuf,
    /// Table of validation cases [default: the split column of --data, else a fifth of the patients]
    #[arg(long, value_name = "V.csv", help_heading = "Data")]
    val: Option<PathBuf>,
    /// Table of test cases, used neither to train nor to choose the epoch: the best epoch's weights score them into
    /// test_predictions.csv
    #[arg(long, value_name = "T.csv", conflicts_with = "folds", help_heading = "Data")]
    test: Option<PathBuf>,
    /// Cross-validate: split the patients into K folds and train K times, each fold validating once; writes a folder
    /// fold-N for each, predictions.csv for all cases, and the weights of all folds as an ensemble
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(2..=100), conflicts_with = "val", help_heading = "Data")]
    folds: Option<u16>,
    /// Train fold I alone, counted from 0, into its folder; other processes train the others, then --gather
    #[arg(long, value_name = "I", requires = "folds", help_heading = "Data")]
    fold: Option<u16>,
    /// What a fold keeps together: all scans of a patient, or of a group (column `group`: scanner, site) too, so that each
    /// fold validates on groups that it has not seen
    #[arg(long, value_enum, default_value_t = FoldsBy::Patient, requires = "folds", help_heading = "Data")]
    folds_by: FoldsBy,
    /// Share of the patients that validate where no split is given
    #[arg(long, value_name = "SHARE", default_value_t = TrainOptions::default().val_fraction, help_heading = "Data")]
    val_fraction: f64,
    #[command(flatten, next_help_heading = "Data")]
    labels: LabelOption,
    /// Do not open every scan and mask before the first step (`host doctor --data` checks them too)
    #[arg(long, help_heading = "Data")]
    unchecked: bool,
    #[command(flatten, next_help_heading = "Data")]
    geometry: GeometryOption,
    #[command(flatten)]
    ablation: Ablation,
    /// Passes over the training cases
    #[arg(long, default_value_t = TrainOptions::default().epochs, help_heading = "Optimisation")]
    epochs: usize,
    /// Stop after this many epochs without a better validation AUROC [0: never]
    #[arg(long, value_name = "EPOCHS", default_value_t = TrainOptions::default().patience, help_heading = "Optimisation")]
    patience: usize,
    /// Cases per step
    #[arg(long, default_value_t = TrainOptions::default().batch, help_heading = "Optimisation")]
    batch: usize,
    /// Peak learning rate of the adapter
    #[arg(long, default_value_t = TrainOptions::default().lr, help_heading = "Optimisation")]
    lr: f64,
    /// Peak learning rate of the head and the segmentation decoder
    #[arg(long, default_value_t = TrainOptions::default().head_lr, help_heading = "Optimisation")]
    head_lr: f64,
    /// Fit the head's linear layer at once by logistic regression, ½ PENALTY w·w + Σ loss, instead of training in steps; for a
    /// frozen backbone and a head with nothing else to train (docs/training.md)
    #[arg(long, value_name = "PENALTY", help_heading = "Optimisation")]
    logistic: Option<f64>,
    /// Share of the steps in which the learning rates rise
    #[arg(long, default_value_t = TrainOptions::default().warmup, help_heading = "Optimisation")]
    warmup: f64,
    /// Weight decay of the adapter
    #[arg(long, default_value_t = TrainOptions::default().weight_decay, help_heading = "Optimisation")]
    weight_decay: f64,
    /// Weight decay of the head and the segmentation decoder
    #[arg(long, default_value_t = TrainOptions::default().head_weight_decay, help_heading = "Optimisation")]
    head_weight_decay: f64,
    /// Weight of the segmentation loss on cases with a mask
    #[arg(long, default_value_t = TrainOptions::default().lambda, help_heading = "Optimisation")]
    lambda: f64,
    /// Largest gradient norm of a step; larger gradients are scaled down to it [0: no limit]
    #[arg(long, value_name = "NORM", default_value_t = TrainOptions::default().clip, help_heading = "Optimisation")]
    clip: f64,
    /// Augmentation of the training cases; full is the paper's recipe, in 3D
    #[arg(long, value_enum, default_value_t = AugmentOption::Full, help_heading = "Optimisation")]
    augment: AugmentOption,
    /// Variants of each training case, the unchanged case among them; their features are cached
    #[arg(long, alias = "draws", value_name = "N", default_value_t = TrainOptions::default().draws, help_heading = "Optimisation")]
    augmentations_per_case: usize,
    /// Seed of initialisation, order, split and augmentation
    #[arg(long, default_value_t = TrainOptions::default().seed, help_heading = "Optimisation")]
    seed: u64,
    /// Train once for every combination of the options in the file's [grid]; sweep.csv lists all runs
    #[arg(long, value_name = "F.toml", help_heading = "Optimisation")]
    sweep: Option<PathBuf>,
    /// Train combination I of --sweep alone, counted from 0; other processes train the others, then --gather
    #[arg(long, value_name = "I", requires = "sweep", help_heading = "Optimisation")]
    point: Option<usize>,
    /// Most memory for the whole process, for example 4G: to stay below it, training recomputes activations and
    /// processes slices in groups
    #[arg(long, value_name = "SIZE", value_parser = super::options::size, help_heading = "Memory and speed")]
    max_memory: Option<usize>,
    /// Most disk space for cached features, GiB; 0 caches none
    #[arg(long, value_name = "GIB", default_value_t = 16.0, help_heading = "Memory and speed")]
    cache_size: f64,
    /// Folder for cached features [default: cache/prefix in $ANYMC3D_HOME]
    #[arg(long, value_name = "DIR", help_heading = "Memory and speed")]
    cache: Option<PathBuf>,
    /// Number format of the matrix products; auto is bf16 where the device multiplies it faster than f32, else f32. docs/performance.md compares them
    #[arg(long, value_enum, default_value_t = PrecisionOption::Auto, help_heading = "Memory and speed")]
    precision: PrecisionOption,
    #[command(flatten, next_help_heading = "Memory and speed")]
    backbone: BackboneOptions,
    /// Folder for weights, model card, metrics.csv, predictions.csv, TensorBoard's events and training.json
    #[arg(
        long,
        short,
        value_name = "DIR",
        required_unless_present = "gather",
        default_value_if("gather", ArgPredicate::IsPresent, "."),
        help_heading = "Output"
    )]
    out: PathBuf,
    /// What these weights may be used for, in a sentence; it stands in every result in the place of the plugin's sentence
    #[arg(long, value_name = "TEXT", value_parser = sentence, help_heading = "Output")]
    intended_use: Option<String>,
    /// Weights to start from, or a part of them, as `host weights import` writes them of an adapter; what they lack is drawn
    #[arg(long, value_name = "FILE", conflicts_with = "gather", help_heading = "Data")]
    start: Option<PathBuf>,
    /// Continue the run in --out after its last complete epoch
    #[arg(long, help_heading = "Output")]
    resume: bool,
    /// Train nothing: of the folds (with --folds K) or combinations (with --sweep) that processes trained into DIR, write the
    /// tables that one process would have written
    #[arg(long, value_name = "DIR", conflicts_with_all = ["plugin", "data", "out", "fold", "point", "resume"], help_heading = "Output")]
    gather: Option<PathBuf>,
}

/// `--intended-use`: a line with something in it.
fn sentence(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("expected a sentence, such as \"Research only. Not for diagnosis.\"".to_owned()),
        text if text.contains(['\n', '\r']) => Err("expected one line".to_owned()),
        text => Ok(text.to_owned()),
    }
}

/// How training cases are augmented.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum AugmentOption {
    /// No augmentation
    None,
    /// Mirrored copies
    Flips,
    /// Mirrored copies, rotation, zoom, shift, noise, blur, brightness, contrast, resolution, gamma
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
    pub fn run(mut self, console: &Console) -> Result<Outcome, CommandError> {
        if let Some(folder) = &self.gather {
            return self.gather(folder, console);
        }
        memory::give(self.max_memory);
        self.geometry.apply();
        self.backbone.most = self.max_memory;
        self.backbone.apply()?;
        match &self.sweep {
            Some(grid) => self.sweep(&sweep::combinations(grid)?, console),
            None => self.every_fold(None, console).map(|_| Outcome::Done),
        }
    }

    /// One run, or one per fold. `known`: what the scans show, where the tables were checked before.
    fn every_fold(&self, known: Option<&Contents>, console: &Console) -> Result<RunSummary, CommandError> {
        let library = open_library(&self.plugin).map_err(CommandError::refused)?;
        let manifest = &library.embedded.manifest;
        let mut options = self.options(manifest.task.outputs())?;
        let start = self.start.as_deref().map(Weights::open).transpose().map_err(CommandError::refused)?;
        if let Some(start) = &start {
            let refuse = |e: String| CommandError::usage(format!("--start {}: {e}", start.path.display()));
            options.start_from(&start.info).map_err(refuse)?;
        }
        let options = options;
        // A share of the memory, the scans of a large table are read again; nothing where the user set the limit.
        let share = match memory::limit().source {
            Source::Given => 0,
            _ => MemoryBudget::of_process().bytes / 8,
        };
        let decoded = Arc::new(DecodedScans::up_to(share));
        let contents = match known {
            Some(known) => Some(known.clone()),
            None => self.check_tables(manifest, &decoded, console)?,
        };
        let mut table = self.open_table(&self.data, manifest)?;
        let splits = self.splits(&mut table, manifest, &options)?;
        let test = match &self.test {
            Some(test) => {
                let more = self.open_table(test, manifest)?;
                table.append(more, "learns or is tested").map_err(CommandError::failed)?
            }
            None => Vec::new(),
        };
        // That it can be written to is known before an hour is spent.
        let _out = crate::options::out_folder(&self.out).map_err(CommandError::failed)?;
        memory::hold(decoded.bytes());
        let precision = self.precision.resolve(self.backbone.device);
        let memory = MemoryPlan::new(memory::limit(), memory::base()).map_err(CommandError::usage)?;
        let mut backbone = self.backbone.open(precision)?;
        memory::hold(backbone.bytes());
        let cache = crate::options::open_cache(self.cache.as_deref(), self.cache_size)?.with_decoded(decoded);
        backbone.keep_at_most(memory.kept_bytes);
        let (mut records, mut tested) = (Vec::new(), None);
        let alone = folds::only(self.fold, splits.len())?;
        for (n, split) in splits.iter().enumerate().filter(|(n, _)| alone.is_none_or(|only| only == *n)) {
            let out = match splits.len() {
                1 => self.out.clone(),
                _ => folds::folder(&self.out, n),
            };
            let context = TrainContext {
                library: &library,
                backbone: &backbone,
                precision,
                table: &table,
                split,
                cache: &cache,
                memory,
                contents: contents.as_ref(),
                start: start.as_ref(),
                intended_use: self.intended_use.as_deref(),
            };
            let (record, auroc) = self.one_run(context, &options, &out, &test, console)?;
            records.push(record);
            tested = auroc;
        }
        let ended = RunSummary::of(&records, tested);
        if records.len() > 1 {
            console.result(ended.sentence());
            console.result(folds::out_of_fold(&self.out, records.len())?);
            console.result(folds::ensemble(&self.out, records.len(), &manifest.plugin.name)?);
        }
        Ok(ended)
    }

    /// Which cases train and which validate: once, or once per fold.
    fn splits(
        &self,
        table: &mut Table,
        manifest: &Manifest,
        options: &TrainOptions,
    ) -> Result<Vec<Split>, CommandError> {
        let splits = match (&self.val, self.folds) {
            (Some(val), _) => {
                let train =
                    (0..table.rows.len()).filter(|&i| table.rows[i].split != Some(Part::Test)).collect();
                let more = self.open_table(val, manifest)?;
                let mut val = table.append(more, "trains or validates").map_err(CommandError::failed)?;
                val.retain(|&i| table.rows[i].split != Some(Part::Test));
                vec![Split { train, val }]
            }
            (None, None) => vec![table.split(options.val_fraction, options.seed)],
            (None, Some(k)) => folds::splits(table, k, self.folds_by, options.seed)?,
        };
        if let Some(n) = splits.iter().position(|s| s.val.is_empty() && splits.len() > 1) {
            let (k, path) = (splits.len(), table.path.display());
            let fewer = if self.folds_by == FoldsBy::Group {
                "; it has fewer groups (groups that share a patient are one)"
            } else {
                ""
            };
            return Err(CommandError::usage(format!(
                "--folds {k}: {path} has no case for fold {}{fewer}",
                n + 1
            )));
        }
        Ok(splits)
    }

    /// Trains once and scores the cases `test`, if there are any; the run's record and the AUROC on them.
    fn one_run(
        &self,
        context: TrainContext<'_>,
        options: &TrainOptions,
        out: &Path,
        test: &[usize],
        console: &Console,
    ) -> Result<(TrainingRecord, Option<f64>), CommandError> {
        let (train_cases, val_cases) = (context.split.train.len(), context.split.val.len());
        console.note(format!(
            "{train_cases} training and {val_cases} validation cases; results in {}",
            out.display()
        ));
        for warning in too_few(context.table, context.split) {
            console.warning(warning);
        }
        let mut progress: Box<dyn Progress> =
            if console.is_quiet() { Box::new(Silent) } else { Box::new(Terminal::default()) };
        let refuse = |e: TrainError| match e {
            TrainError::Plugin(e) => CommandError::refused(e),
            other => CommandError::failed(other),
        };
        if let Some(name) = untrained_parameter(&context, options).map_err(refuse)? {
            console.warning(format!(
                "the head reads `{name}`, which only masks train, and there are none (or --lambda 0): it keeps its random \
                 values; add --class-tokens-only"
            ));
        }
        let trained = train(context, options, out, self.resume, progress.as_mut()).map_err(refuse)?;
        let r = &trained.record;
        let calibrated = match (&trained.calibration, val_cases) {
            (None, 1..) => ", nothing calibrated",
            _ => "",
        };
        console.result(format!(
            "{}: epoch {} of {}, validation AUROC {}{calibrated}, {} parameters, {:.1} min",
            trained.weights.display(),
            r.best_epoch,
            r.options.epochs,
            r.val_auroc.map_or("not defined".to_owned(), |a| format!("{a:.3}")),
            r.all_parameters(),
            r.seconds / 60.0
        ));
        let mut tested = None;
        if !test.is_empty() {
            tested = score_test_set(context, options, &trained, test, out).map_err(refuse)?;
            let auroc = tested.map_or("not defined".to_owned(), |a| format!("{a:.3}"));
            let place = out.join(TEST_PREDICTIONS);
            console.result(format!("{}: {} unseen cases, AUROC {auroc}", place.display(), test.len()));
        }
        Ok((trained.record, tested))
    }
}

#[cfg(test)]
mod tests {
    use super::sweep_runs::Alone;
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_old_name_of_augmentations_per_case_still_works_and_is_hidden() {
        let given = |option: &str| {
            let args = ["train", "--plugin", "p", "--data", "t.csv", "--out", "o", option, "3"];
            Alone::try_parse_from(args).map(|alone| alone.train.augmentations_per_case)
        };
        assert_eq!(given("--draws").expect("the old name"), 3);
        assert_eq!(given("--augmentations-per-case").expect("the new name"), 3);
        assert!(!Alone::command().render_long_help().to_string().contains("draws"));
    }
}
