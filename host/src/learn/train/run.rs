//! The training loop.

use super::cache::PrefixCache;
use super::optimiser::Groups;
use super::options::TrainOptions;
use super::progress::Progress;
use super::record::{EpochRecord, TrainingRecord};
use super::sample::{Flips, SampleError, targets};
use super::schedule::cosine_with_warmup;
use crate::backbone::{Backbone, BackboneError, Precision, SiteAdapter};
use crate::engine::{Adapted, as_plugins_see, precision_name, probabilities};
use crate::learn::metrics;
use crate::learn::table::{Row, Split, Table};
use crate::plugin::{
    Calibration, FittedOn, Library, ParameterSource, PluginError, Task, TaskAdapter, TaskError, TaskOptions,
    ViewTokens, WeightsInfo, hex, ops, weights,
};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Why a run ended without weights.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The plugin was refused.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// The plugin's code failed.
    #[error("case {case}: {source}")]
    Task {
        /// Case.
        case: String,
        /// Why.
        source: TaskError,
    },
    /// A case cannot be used.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The backbone.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// A backward pass, or an optimiser's step.
    #[error("{0}")]
    Tensor(String),
    /// Loss or gradients are no longer numbers.
    #[error("epoch {epoch}, case {case}: {what} is not a number; try a lower --lr")]
    Diverged {
        /// Epoch.
        epoch: usize,
        /// Case.
        case: String,
        /// Loss or gradient.
        what: &'static str,
    },
    /// The data.
    #[error("{0}")]
    Data(String),
    /// Output.
    #[error("{}: cannot be written: {source}", path.display())]
    Io {
        /// File.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl From<candle_core::Error> for TrainError {
    fn from(e: candle_core::Error) -> Self {
        Self::Tensor(ops::one_line(&e))
    }
}

/// A finished run.
#[derive(Debug)]
pub struct Trained {
    /// The weights of the best epoch.
    pub weights: PathBuf,
    /// How they came about.
    pub record: TrainingRecord,
    /// Every epoch.
    pub epochs: Vec<EpochRecord>,
}

struct Trainer<'a> {
    task: Task,
    backbone: &'a Backbone,
    precision: Precision,
    cache: &'a PrefixCache,
    options: &'a TrainOptions,
}

/// What a case gave in a forward pass.
struct Step {
    logits: Tensor,
    loss: Tensor,
    segmentation: Option<Tensor>,
}

impl Trainer<'_> {
    fn blocks_of(&self, adapter: &TaskAdapter) -> usize {
        let adapter = Adapted::new(adapter);
        if adapter.patch_embed() { 0 } else { adapter.first_block().min(self.backbone.info().blocks) }
    }

    fn forward(&self, row: &Row, draw: usize, training: bool) -> Result<Step, TrainError> {
        let manifest = self.task.manifest();
        let supervise = training && self.task.has_segmentation() && self.options.lambda > 0.0;
        let flips = if self.options.flips && training {
            Flips::draw(self.options.seed, &row.case, draw, manifest.task.sided_labels)
        } else {
            Flips::default()
        };
        let failed = |source: TaskError| TrainError::Task { case: row.case.clone(), source };
        let (mut features, mut masks) = (Vec::new(), Vec::new());
        for (view, adapter) in manifest.views.iter().zip(self.task.adapters()) {
            let blocks = self.blocks_of(adapter);
            // The mask is read in validation too, so that draw 0 is one file in the cache.
            let wants_mask = self.task.has_segmentation() && self.options.lambda > 0.0;
            let sample =
                self.cache.sample(row, view, flips, blocks, self.backbone, self.precision, wants_mask)?;
            let Some(sample) = sample else { continue };
            let adapter = if training { Adapted::new(adapter) } else { Adapted::detached(adapter) };
            let seen = self.backbone.forward_from(&sample.hidden, &adapter, false)?;
            features.push((view.name.as_str(), seen));
            masks.push(sample.mask);
        }
        let tokens: Vec<ViewTokens<'_>> = features
            .iter()
            .map(|(name, f)| ViewTokens {
                name,
                class_tokens: &f.class_tokens,
                patch_tokens: &f.patch_tokens,
                grid: f.grid,
            })
            .collect();
        let logits = self.task.head(&tokens).map_err(failed)?.logits.unsqueeze(0)?;
        let (values, known) = targets(row, manifest)?;
        let loss = self.task.loss(&logits, &values, &known).map_err(failed)?;
        let mut segmentation: Option<Tensor> = None;
        if supervise {
            let supervised: Vec<_> =
                tokens.iter().zip(&masks).filter_map(|(t, m)| Some((t, m.as_ref()?))).collect();
            for (view, mask) in &supervised {
                let one = self.task.segmentation_loss(view, mask).map_err(failed)?;
                let one = (one / supervised.len() as f64)?;
                segmentation = Some(match segmentation {
                    Some(sum) => (sum + one)?,
                    None => one,
                });
            }
        }
        Ok(Step { logits, loss, segmentation })
    }
}

fn scalar(t: &Tensor) -> Result<f64, TrainError> {
    if t.elem_count() != 1 {
        return Err(TrainError::Tensor(format!("a loss of shape {:?}, expected one number", t.dims())));
    }
    Ok(t.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?[0])
}

/// Trains a plugin on a table's cases and leaves `PLUGIN.safetensors`, `last.safetensors`, `metrics.csv` and
/// `training.json` in `out`.
///
/// # Errors
/// When a case cannot be read, the plugin's code fails, the loss diverges, or `out` cannot be written.
#[allow(clippy::too_many_arguments)]
pub fn train(
    library: &Library,
    backbone: &Backbone,
    precision: Precision,
    table: &Table,
    split: &Split,
    cache: &PrefixCache,
    options: &TrainOptions,
    out: &Path,
    progress: &mut dyn Progress,
) -> Result<Trained, TrainError> {
    let begin = Instant::now();
    if split.train.is_empty() {
        return Err(TrainError::Data(format!("{}: no case to train on", table.path.display())));
    }
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| TrainError::Io { path, source }
    };
    std::fs::create_dir_all(out).map_err(io(out))?;
    let data_sha256 = hex(&Sha256::digest(std::fs::read(&table.path).map_err(io(&table.path))?));
    let source = ParameterSource::Training { seed: options.seed, start: BTreeMap::new() };
    let seen = as_plugins_see(backbone.info());
    let wanted = TaskOptions { segmentation: true, ..TaskOptions::default() };
    let task = Task::build(library, &seen, source, DType::F32, &Device::Cpu, &wanted)?;
    let parameters = task.parameters();
    let counts = task.parameter_counts();
    let mut groups = Groups::new(&parameters, options)?;
    let trainer = Trainer { task, backbone, precision, cache, options };

    let manifest = &library.embedded.manifest;
    let steps = split.train.len().div_ceil(options.batch.max(1)) * options.epochs;
    progress.begin((split.train.len() * options.epochs) as u64);
    let mut epochs: Vec<EpochRecord> = Vec::new();
    let mut best: Option<(f64, f64, usize)> = None;
    let best_path = out.join(format!("{}.safetensors", manifest.plugin.name));
    let log_path = out.join("metrics.csv");
    let mut step = 0;
    let record = |epochs: &[EpochRecord], best: usize| TrainingRecord {
        options: options.clone(),
        data_sha256: data_sha256.clone(),
        train_cases: split.train.len(),
        val_cases: split.val.len(),
        parameters: counts,
        precision: precision_name(precision).to_owned(),
        best_epoch: best,
        val_auroc: epochs.iter().find(|e| e.epoch == best).and_then(|e| e.val_auroc),
        seconds: begin.elapsed().as_secs_f64(),
        host: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let save = |path: &Path, record: &TrainingRecord, fit: Option<Calibration>| -> Result<(), TrainError> {
        let info = WeightsInfo {
            plugin: manifest.plugin.name.clone(),
            plugin_version: manifest.plugin.version.to_string(),
            backbone: backbone.info().name.clone(),
            backbone_fingerprint: backbone.info().fingerprint.clone(),
            threshold: None,
            calibration: fit,
            training: serde_json::to_value(record).map_err(|e| TrainError::Data(e.to_string()))?,
        };
        let tensors = parameters.iter().map(|(name, p)| (name.clone(), p.tensor().detach())).collect();
        Ok(weights::write(path, &tensors, &info)?)
    };

    for epoch in 1..=options.epochs {
        let mut order = split.train.clone();
        order.shuffle(&mut ChaCha20Rng::seed_from_u64(
            options.seed.wrapping_mul(1_000_003).wrapping_add(epoch as u64),
        ));
        let (mut losses, mut segmentations) = (Vec::new(), Vec::new());
        for batch in order.chunks(options.batch.max(1)) {
            let mut sum: Option<GradStore> = None;
            let supervised = batch.iter().filter(|&&i| table.rows[i].mask.is_some()).count().max(1);
            for &i in batch {
                let row = &table.rows[i];
                let diverged = |what| TrainError::Diverged { epoch, case: row.case.clone(), what };
                let draw = (epoch - 1) % options.draws.max(1);
                let Step { loss, segmentation, .. } = trainer.forward(row, draw, true)?;
                losses.push(scalar(&loss)?);
                let mut total = (loss / batch.len() as f64)?;
                if let Some(segmentation) = segmentation {
                    segmentations.push(scalar(&segmentation)?);
                    total = (total + (segmentation * (options.lambda / supervised as f64))?)?;
                }
                let value = scalar(&total)?;
                if !value.is_finite() {
                    return Err(diverged("the loss"));
                }
                groups.accumulate(&mut sum, total.backward()?)?;
                progress.case(epoch, *losses.last().unwrap_or(&0.0));
            }
            if let Some(sum) = sum {
                if !groups.finite(&sum)? {
                    let case = table.rows[batch[0]].case.clone();
                    return Err(TrainError::Diverged { epoch, case, what: "a gradient" });
                }
                groups.step(&sum, cosine_with_warmup(step, steps, options.warmup))?;
            }
            step += 1;
        }
        let (val_loss, val_auroc, calibration) = validate(&trainer, table, &split.val)?;
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len().max(1) as f64;
        let this = EpochRecord {
            epoch,
            loss: mean(&losses),
            segmentation_loss: (!segmentations.is_empty()).then(|| mean(&segmentations)),
            val_loss,
            val_auroc,
            seconds: begin.elapsed().as_secs_f64(),
        };
        epochs.push(this.clone());
        // By AUROC; of equals, or without one, by loss. Without validation cases the last epoch is kept.
        let key = (val_auroc.unwrap_or(f64::NEG_INFINITY), -val_loss);
        let better =
            split.val.is_empty() || best.is_none_or(|(a, l, _)| key.0 > a || (key.0 == a && key.1 > l));
        if better {
            best = Some((key.0, key.1, epoch));
            save(&best_path, &record(&epochs, epoch), calibration.clone())?;
        }
        save(&out.join("last.safetensors"), &record(&epochs, epoch), calibration)?;
        write_log(&log_path, &epochs).map_err(io(&log_path))?;
        progress.epoch(&this, better);
    }
    let record = record(&epochs, best.map_or(0, |b| b.2));
    let place = out.join("training.json");
    let text = serde_json::to_string_pretty(&record).map_err(|e| TrainError::Data(e.to_string()))?;
    std::fs::write(&place, text).map_err(io(&place))?;
    Ok(Trained { weights: best_path, record, epochs })
}

/// Mean loss, macro AUROC, and the temperatures and thresholds that were fitted.
type Validation = (f64, Option<f64>, Option<Calibration>);

/// What the validation cases say of the weights as they are.
fn validate(trainer: &Trainer<'_>, table: &Table, rows: &[usize]) -> Result<Validation, TrainError> {
    let kind = trainer.task.manifest().task.kind;
    let outputs = trainer.task.manifest().task.outputs();
    let mut scores: Vec<Vec<f64>> = vec![Vec::new(); outputs];
    let mut truths: Vec<Vec<bool>> = vec![Vec::new(); outputs];
    let (mut all_logits, mut all_labels) = (Vec::new(), Vec::new());
    let mut total = 0.0;
    for &i in rows {
        let row = &table.rows[i];
        let step = trainer.forward(row, 0, false)?;
        total += scalar(&step.loss)?;
        let logits: Vec<f64> = step.logits.flatten_all()?.detach().to_dtype(DType::F64)?.to_vec1()?;
        for (c, p) in probabilities(kind, &logits).into_iter().enumerate() {
            if let Some(label) = row.labels[c] {
                scores[c].push(p);
                truths[c].push(label >= 0.5);
            }
        }
        all_logits.push(logits);
        all_labels.push(row.labels.clone());
    }
    let areas: Vec<_> = truths.iter().zip(&scores).map(|(t, s)| metrics::auroc(t, s)).collect();
    let fitted_on = FittedOn::of(rows.iter().map(|&i| table.rows[i].case.as_str()));
    let calibration = metrics::fit(kind, &all_logits, &all_labels, fitted_on);
    Ok((total / rows.len().max(1) as f64, metrics::macro_auroc(&areas), calibration))
}

fn write_log(path: &Path, epochs: &[EpochRecord]) -> std::io::Result<()> {
    let mut text = String::from("epoch,loss,segmentation_loss,val_loss,val_auroc,seconds\n");
    for e in epochs {
        let optional = |v: Option<f64>| v.map(|v| v.to_string()).unwrap_or_default();
        text += &format!(
            "{},{},{},{},{},{:.1}\n",
            e.epoch,
            e.loss,
            optional(e.segmentation_loss),
            e.val_loss,
            optional(e.val_auroc),
            e.seconds
        );
    }
    std::fs::write(path, text)
}
