//! The training loop.

use super::about_weights::{intended_use, training_cases};
use super::cache::PrefixCache;
use super::card;
use super::error::TrainError;
use super::events::Events;
use super::fingerprint::RunFingerprint;
use super::linear_fit::fit_linear;
use super::lock::FolderLock;
use super::log::{scalars, write_log};
use super::memory::MemoryPlan;
use super::optimiser::AdamW;
use super::options::TrainOptions;
use super::progress::Progress;
use super::record::{EpochRecord, TrainingRecord};
use super::reference::{LEAST, ReferenceContext, reference_of, reference_vectors};
use super::schedule::cosine_with_warmup;
use super::standardise::standardise;
use super::state::{self, Best, Checkpoint, StateError};
use super::step::{Batch, CaseGradients, Trainer};
use super::validate::{Validation, validate};
use crate::backbone::{Backbone, Precision};
use crate::data::table::{Split, Table, digest_of as digest_of_table};
use crate::engine::precision_name;
use crate::fs::{MadeFolder, hex, write_atomically};
use crate::plugin::{Library, Parameter, ParameterSource, PluginError};
use crate::scan::ContentDigest;
use crate::task::as_plugins_see;
use crate::task::{Calibration, Task, TaskOptions, TrainedFor, Weights, WeightsInfo, weights};
use candle_core::DType;
use candle_core::backprop::GradStore;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A finished run.
#[derive(Debug)]
pub struct Trained {
    /// The weights of the best epoch.
    pub weights: PathBuf,
    /// How they came about.
    pub record: TrainingRecord,
    /// Every epoch.
    pub epochs: Vec<EpochRecord>,
    /// What was fitted on the validation cases, if anything was.
    pub calibration: Option<Calibration>,
}

/// What a run works on.
#[derive(Clone, Copy)]
pub struct TrainContext<'a> {
    /// The plugin.
    pub library: &'a Library,
    /// Frozen.
    pub backbone: &'a Backbone,
    /// Of the backbone's large products.
    pub precision: Precision,
    /// The cases.
    pub table: &'a Table,
    /// Which of them train and which judge.
    pub split: &'a Split,
    /// Frozen prefixes.
    pub cache: &'a PrefixCache,
    /// How much of a case may be in memory at once.
    pub memory: MemoryPlan,
    /// What the table's scans show, by their paths, where that is known: the weights then carry salted digests of it, by
    /// which `run` and `eval` know a training case again.
    pub contents: Option<&'a Contents>,
    /// Weights of the plugin to start from, or a part of them, as an imported adapter is; what they lack is drawn. They decide
    /// nothing in a run that is resumed.
    pub start: Option<&'a Weights>,
    /// What the weights may be used for, in the words of whoever trains them; without it a sentence says that these words are
    /// missing.
    pub intended_use: Option<&'a str>,
}

/// What scans show, by their paths.
pub type Contents = BTreeMap<PathBuf, ContentDigest>;

/// Name of the file with the validation cases' scores by the best epoch's weights, in a run's folder.
pub const PREDICTIONS: &str = "predictions.csv";

/// Trains a plugin on a table's cases and leaves `PLUGIN.safetensors` (the best epoch), `last.safetensors`,
/// `state.safetensors`, `metrics.csv`, `predictions.csv`, TensorBoard's events, `training.json` and `model_card.md` in
/// `out`.
///
/// With `resume` a run that was interrupted goes on after its last whole epoch and ends with the weights it would have
/// had; without it a folder that holds a run is refused.
///
/// # Errors
/// When a case cannot be read, the plugin's code fails, the loss diverges, or `out` cannot be written or holds another
/// run.
pub fn train(
    setting: TrainContext<'_>,
    options: &TrainOptions,
    out: &Path,
    resume: bool,
    progress: &mut dyn Progress,
) -> Result<Trained, TrainError> {
    // A layer that is fitted at once has one epoch, whatever was asked for: the record says so.
    let fitted = options.logistic.map(|_| TrainOptions { epochs: 1, ..options.clone() });
    let options = fitted.as_ref().unwrap_or(options);
    if setting.split.train.is_empty() {
        return Err(TrainError::Data(format!("{}: no case to train on", setting.table.path.display())));
    }
    // Goes again where the run is refused: it is dropped after the lock.
    let _made = MadeFolder::new(out).map_err(io(out))?;
    let _lock = FolderLock::take(out)?;
    let mut run = Run::begin(setting, options, out, resume, progress)?;
    let (cases, done) = (setting.split.train.len(), run.at.epochs.len());
    progress.begin((cases * options.epochs) as u64, (cases * done) as u64);
    if let Some(penalty) = options.logistic.filter(|_| done == 0) {
        let losses = fit_linear(&run.trainer, setting.table, &setting.split.train, penalty, progress)?;
        run.end_epoch(1, &EpochLosses { losses, ..EpochLosses::default() }, progress)?;
    }
    for epoch in (done + 1..=options.epochs).filter(|_| options.logistic.is_none()) {
        if stopped_early(&run.at, options) {
            break;
        }
        let losses = run.train_epoch(epoch, progress)?;
        run.end_epoch(epoch, &losses, progress)?;
    }
    run.finish(progress)
}

/// An error of a file, for `map_err`.
fn io(path: &Path) -> impl FnOnce(std::io::Error) -> TrainError {
    let path = path.to_owned();
    move |source| TrainError::Io { path, source }
}

/// A run while it goes on.
struct Run<'a> {
    setting: TrainContext<'a>,
    options: &'a TrainOptions,
    out: &'a Path,
    trainer: Trainer<'a>,
    optimiser: AdamW,
    parameters: BTreeMap<String, Parameter>,
    /// Parameters of adapter, head and decoder.
    counts: (usize, usize, usize),
    at: Checkpoint,
    /// Seconds that earlier calls took, and when this one began.
    before: f64,
    begin: Instant,
    /// TensorBoard's file; made with the first epoch.
    events: Option<Events>,
}

/// What an epoch's steps gave.
#[derive(Default)]
struct EpochLosses {
    losses: Vec<f64>,
    segmentations: Vec<f64>,
    norms: Vec<f64>,
    rate: f64,
}

impl<'a> Run<'a> {
    /// Builds the task, and takes the run up where it was interrupted.
    fn begin(
        setting: TrainContext<'a>,
        options: &'a TrainOptions,
        out: &'a Path,
        resume: bool,
        progress: &mut dyn Progress,
    ) -> Result<Self, TrainError> {
        let TrainContext { library, backbone, precision, table, split, cache, memory, start, .. } = setting;
        let data_sha256 = digest_of_table(&table.path).map_err(io(&table.path))?;
        let name = &library.embedded.manifest.plugin.name;
        if let Some(start) = start {
            start.check(name, &backbone.info().name, &backbone.info().fingerprint)?;
        }
        let tensors = start.map(|start| start.tensors.clone()).unwrap_or_default();
        let source = ParameterSource::Training { seed: options.seed, start: tensors };
        let seen = as_plugins_see(backbone.info());
        let wanted = TaskOptions { segmentation: true, variant: options.variant.clone() };
        let task = Task::build(library, &seen, source, DType::F32, backbone.device(), &wanted)?;
        let (parameters, counts) = (task.parameters(), task.parameter_counts());
        if let Some(start) = start {
            let unknown: Vec<&str> =
                start.tensors.keys().filter(|n| !parameters.contains_key(*n)).map(String::as_str).collect();
            if !unknown.is_empty() {
                let reason = format!("tensors that plugin {name} does not have: {}", unknown.join(", "));
                return Err(PluginError::Weights { path: start.path.clone(), reason }.into());
            }
        }
        let mut optimiser = AdamW::of(&parameters, options);
        let trainer = Trainer { task, backbone, precision, cache, options, token_bytes: memory.token_bytes };
        let manifest = &library.embedded.manifest;
        let origin = RunFingerprint {
            plugin: format!("{} {}", manifest.plugin.name, manifest.plugin.version),
            library_sha256: library.sha256.clone(),
            backbone: backbone.info().fingerprint.clone(),
            precision: precision_name(precision).to_owned(),
            data_sha256,
            split_sha256: digest_of(table, split),
            options: options.clone(),
        };
        let at = match (state::read(out)?, resume) {
            (None, _) => Checkpoint::start(origin),
            (Some((mut found, tensors)), true) => {
                state::restore(out, &found, &tensors, &origin, &mut optimiser)?;
                // It may have more epochs now.
                found.origin = origin;
                found
            }
            (Some((found, _)), false) => {
                let reason = format!(
                    "the folder holds a run of {} epochs; continue it with --resume, or give another --out",
                    found.epochs.len()
                );
                return Err(StateError { path: out.to_owned(), reason }.into());
            }
        };
        let (before, begin) = (at.seconds(), Instant::now());
        if at.epochs.is_empty() {
            standardise(&trainer, table, &split.train, progress)?;
        }
        Ok(Self {
            setting,
            options,
            out,
            trainer,
            optimiser,
            parameters,
            counts,
            at,
            before,
            begin,
            events: None,
        })
    }

    /// All training cases once, in the order of the epoch.
    fn train_epoch(&mut self, epoch: usize, progress: &mut dyn Progress) -> Result<EpochLosses, TrainError> {
        let Self { setting: TrainContext { table, split, .. }, options, trainer, optimiser, at, .. } = self;
        let mut order = split.train.clone();
        order.shuffle(&mut ChaCha20Rng::seed_from_u64(
            options.seed.wrapping_mul(1_000_003).wrapping_add(epoch as u64),
        ));
        let steps = split.train.len().div_ceil(options.batch.max(1)) * options.epochs;
        let draw = (epoch - 1) % options.draws.max(1);
        let mut given = EpochLosses::default();
        for batch in order.chunks(options.batch.max(1)) {
            let mut sum: Option<GradStore> = None;
            let supervised = batch.iter().filter(|&&i| table.rows[i].mask.is_some()).count();
            let share = Batch { cases: batch.len(), supervised };
            for &i in batch {
                if progress.cancelled() {
                    return Err(TrainError::Cancelled);
                }
                let row = &table.rows[i];
                let CaseGradients { loss, segmentation, gradients } =
                    trainer.train_case(row, draw, share, optimiser)?.ok_or_else(|| TrainError::Diverged {
                        epoch,
                        case: row.case.clone(),
                        what: "the loss",
                    })?;
                given.losses.push(loss);
                given.segmentations.extend(segmentation);
                optimiser.accumulate(&mut sum, gradients)?;
                progress.case(epoch, loss);
            }
            given.rate = cosine_with_warmup(at.step, steps, options.warmup);
            if let Some(mut sum) = sum {
                let norm = optimiser.norm(&sum)?;
                if !norm.is_finite() {
                    let case = table.rows[batch[0]].case.clone();
                    return Err(TrainError::Diverged { epoch, case, what: "a gradient" });
                }
                if options.clip > 0.0 {
                    optimiser.clip(&mut sum, norm, options.clip)?;
                }
                given.norms.push(norm);
                optimiser.step(&sum, given.rate)?;
            }
            at.step += 1;
        }
        Ok(given)
    }

    /// Validates, keeps the weights if they are the best so far, and writes the epoch down.
    fn end_epoch(
        &mut self,
        epoch: usize,
        given: &EpochLosses,
        progress: &mut dyn Progress,
    ) -> Result<(), TrainError> {
        let TrainContext { table, split, .. } = self.setting;
        let Validation { loss: val_loss, auroc: val_auroc, metrics: val_metrics, calibration, predictions } =
            validate(&self.trainer, table, &split.val, &|| progress.cancelled())?;
        let this = EpochRecord {
            epoch,
            loss: mean(&given.losses),
            segmentation_loss: (!given.segmentations.is_empty()).then(|| mean(&given.segmentations)),
            val_loss,
            val_auroc,
            val_metrics,
            gradient_norm: mean(&given.norms),
            rate: given.rate,
            seconds: self.before + self.begin.elapsed().as_secs_f64(),
        };
        self.at.epochs.push(this.clone());
        // Without validation cases the last epoch is kept.
        let now = Best { epoch, auroc: val_auroc, loss: val_loss };
        let better = split.val.is_empty() || self.at.best.is_none_or(|b| b.beaten_by(&now));
        if better {
            self.at.best = Some(now);
            self.save(&self.best_path(), &self.record(epoch), calibration.clone())?;
            if !split.val.is_empty() {
                let place = self.out.join(PREDICTIONS);
                write_atomically(&place, &predictions.csv()).map_err(io(&place))?;
            }
        }
        self.save(&self.out.join("last.safetensors"), &self.record(epoch), calibration)?;
        let log_path = self.out.join("metrics.csv");
        write_log(&log_path, &self.at.epochs).map_err(io(&log_path))?;
        let events = match &mut self.events {
            Some(events) => events,
            None => {
                let resumed_at = (epoch > 1).then_some(epoch);
                self.events.insert(Events::create(self.out, resumed_at).map_err(io(self.out))?)
            }
        };
        events.scalars(epoch, &scalars(&this)).map_err(io(self.out))?;
        // Last: what a killed run repeats it repeats whole.
        state::write(self.out, &mut self.at, &self.optimiser)?;
        progress.epoch(&this, better);
        Ok(())
    }

    fn best_path(&self) -> PathBuf {
        self.out.join(format!("{}.safetensors", self.setting.library.embedded.manifest.plugin.name))
    }

    /// How the weights of an epoch came about.
    fn record(&self, epoch: usize) -> TrainingRecord {
        let TrainContext { library, backbone, table, split, .. } = self.setting;
        let of = self.at.epochs.iter().find(|e| e.epoch == epoch);
        let (name, at) = (&backbone.info().name, &self.at);
        let manifest = &library.embedded.manifest;
        let mut record =
            TrainingRecord::of(manifest, &at.origin, name, (table, split), self.counts, of, at.seconds());
        record.intended_use = intended_use(self.setting.intended_use, split.train.len());
        record
    }

    fn save(
        &self,
        path: &Path,
        record: &TrainingRecord,
        calibration: Option<Calibration>,
    ) -> Result<(), TrainError> {
        let TrainContext { library, table, split, contents, .. } = self.setting;
        let (manifest, backbone) = (&library.embedded.manifest, self.setting.backbone.info());
        let plugin = &manifest.plugin;
        let info = WeightsInfo {
            plugin: plugin.name.clone(),
            plugin_version: plugin.version.to_string(),
            backbone: backbone.name.clone(),
            backbone_fingerprint: backbone.fingerprint.clone(),
            threshold: None,
            variant: self.options.variant.clone(),
            calibration,
            intended_use: Some(record.intended_use.clone()),
            trained_for: Some(TrainedFor::of(manifest)),
            cases: contents.map(|contents| training_cases(contents, table, split, &self.at.origin)),
            reference: None,
            training: serde_json::to_value(record).map_err(|e| TrainError::Data(e.to_string()))?,
            ensemble: Vec::new(),
        };
        let tensors = self.parameters.iter().map(|(name, p)| (name.clone(), p.tensor().detach())).collect();
        // A full disk is no fault of the plugin.
        weights::write(path, &tensors, &info).map_err(|e| match e {
            PluginError::Io { path, source, .. } => TrainError::Io { path, source },
            other => other.into(),
        })
    }

    /// Puts into the weights where the training cases lie. Their frozen tokens are in the cache since the first epoch.
    fn refer(&self, path: &Path, progress: &mut dyn Progress) -> Result<Weights, TrainError> {
        let TrainContext { library, backbone, precision, table, split, cache, .. } = self.setting;
        let context = ReferenceContext { library, backbone, precision, table, cache, options: self.options };
        let mut weights = Weights::open(path)?;
        let patients: BTreeSet<&str> = split.train.iter().map(|&i| table.rows[i].patient_or_case()).collect();
        if patients.len() < LEAST {
            return Ok(weights);
        }
        let vectors = reference_vectors(context, &weights, &split.train, progress)?;
        weights.info.reference = reference_of(&vectors)?;
        if weights.info.reference.is_some() {
            weights::write(path, &weights.tensors, &weights.info)?;
        }
        Ok(weights)
    }

    /// The record and the model card of the best epoch.
    fn finish(self, progress: &mut dyn Progress) -> Result<Trained, TrainError> {
        let record = self.record(self.at.best.map_or(0, |b| b.epoch));
        let place = self.out.join("training.json");
        let text = serde_json::to_string_pretty(&record).map_err(|e| TrainError::Data(e.to_string()))?;
        write_atomically(&place, text.as_bytes()).map_err(io(&place))?;
        let place = self.out.join("model_card.md");
        // A run that was resumed has the best epoch's calibration in its weights alone.
        let weights = self.best_path();
        let fitted = self.refer(&weights, progress)?.info.calibration;
        write_atomically(&place, card::of(&record, &self.at.epochs, fitted.as_ref()).as_bytes())
            .map_err(io(&place))?;
        Ok(Trained { weights, record, epochs: self.at.epochs, calibration: fitted })
    }
}

/// Whether the last `patience` epochs brought nothing better.
fn stopped_early(at: &Checkpoint, options: &TrainOptions) -> bool {
    let best = at.best.map_or(0, |b| b.epoch);
    options.patience > 0 && at.epochs.len() >= best + options.patience
}

/// Digest of which cases train and which judge, and of what is known of them (a table of its own may hold those that
/// judge). Not of where they lie.
fn digest_of(table: &Table, split: &Split) -> String {
    let mut hash = Sha256::new();
    for (part, rows) in [("train", &split.train), ("val", &split.val)] {
        for row in rows.iter().map(|&i| &table.rows[i]) {
            let patient = row.patient_or_case();
            hash.update(format!("{part}\n{}\n{patient}\n{:?}\n", row.case, row.labels));
            if let Some(point) = row.point_mm {
                hash.update(format!("{point:?}\n"));
            }
            if !row.weights.is_empty() {
                hash.update(format!("{:?}\n", row.weights));
            }
        }
    }
    hex(&hash.finalize())
}

fn mean(v: &[f64]) -> f64 {
    v.iter().sum::<f64>() / v.len().max(1) as f64
}
