//! What a training run leaves behind: a line per epoch, and the record that goes into the weights' metadata.

use super::fingerprint::RunFingerprint;
use super::options::TrainOptions;
use crate::data::table::{Row, Split, Table};
use crate::eval::metrics::LabelMetrics;
use anymc3d_manifest::{Intensity, Manifest, Modality, TaskKind, View};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// One epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// From 1.
    pub epoch: usize,
    /// Mean classification loss over the training cases.
    pub loss: f64,
    /// Mean segmentation loss over the training cases that have a mask.
    pub segmentation_loss: Option<f64>,
    /// Mean classification loss over the validation cases.
    pub val_loss: f64,
    /// Mean AUROC over the labels that have both classes among the validation cases.
    pub val_auroc: Option<f64>,
    /// Every label's figures on the validation cases: not calibrated, at the manifest's threshold.
    #[serde(default)]
    pub val_metrics: BTreeMap<String, LabelMetrics>,
    /// Mean length of the steps' gradients, before clipping.
    #[serde(default)]
    pub gradient_norm: f64,
    /// Factor of the peak learning rates at the last step.
    #[serde(default)]
    pub rate: f64,
    /// Seconds of training so far, over all sittings.
    pub seconds: f64,
}

/// How weights came about: everything a reader needs to repeat or to distrust them.
///
/// Where MONAI's metadata.json has a field that means the same, it has that name here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingRecord {
    /// Of the plugin.
    pub name: String,
    /// Of the plugin.
    pub version: String,
    /// The question, in the plugin's words.
    pub task: String,
    /// What was trained on what, in a sentence.
    pub description: String,
    /// The plugin's.
    pub authors: Vec<String>,
    /// The plugin's.
    pub intended_use: String,
    /// What the images are.
    pub image_classes: String,
    /// What is known of a case.
    pub label_classes: String,
    /// What is predicted.
    pub pred_classes: String,
    /// By label, on the validation cases: they chose the epoch, so that these figures are a little too good.
    pub eval_metrics: BTreeMap<String, LabelMetrics>,
    /// Inputs by view and output, as tensors.
    pub network_data_format: Value,
    /// What was chosen.
    pub options: TrainOptions,
    /// Digest of the plugin's library.
    pub library_sha256: String,
    /// Name of the backbone.
    pub backbone: String,
    /// Fingerprint of the backbone.
    pub backbone_fingerprint: String,
    /// Precision of the backbone.
    pub precision: String,
    /// Digest of the data table's bytes.
    pub data_sha256: String,
    /// Digest of which cases train and which judge.
    pub split_sha256: String,
    /// The training cases.
    pub train: PartRecord,
    /// The validation cases.
    pub val: PartRecord,
    /// Trainable parameters: adapter, head, segmentation branch.
    pub parameters: (usize, usize, usize),
    /// Epoch whose weights these are.
    pub best_epoch: usize,
    /// Its AUROC on the validation cases.
    pub val_auroc: Option<f64>,
    /// Seconds the run took.
    pub seconds: f64,
    /// What it ran on.
    pub machine: Machine,
    /// Version of the host.
    pub host: String,
}

impl TrainingRecord {
    /// Of the epoch `best` (`None`: before the first).
    pub(super) fn of(
        manifest: &Manifest,
        origin: &RunFingerprint,
        backbone: &str,
        (table, split): (&Table, &Split),
        parameters: (usize, usize, usize),
        best: Option<&EpochRecord>,
        seconds: f64,
    ) -> Self {
        let (train, val) = (PartRecord::of(table, &split.train), PartRecord::of(table, &split.val));
        let plugin = &manifest.plugin;
        let labels = manifest.task.labels.join(", ");
        let (label_classes, pred_classes) = match manifest.task.kind {
            TaskKind::Multiclass => {
                (format!("one of: {labels}"), format!("softmax over one logit per class: {labels}"))
            }
            TaskKind::Ordinal | TaskKind::Regression => {
                let [low, high] = manifest.task.scale();
                let outputs = manifest.task.output_names().join(", ");
                (
                    format!("{low} to {high} or unknown for: {labels}"),
                    format!("a sigmoid for each of: {outputs}; a value from {low} to {high} for: {labels}"),
                )
            }
            TaskKind::Binary | TaskKind::Multilabel => {
                (format!("0, 1 or unknown for: {labels}"), format!("a sigmoid per label: {labels}"))
            }
        };
        Self {
            name: plugin.name.clone(),
            version: plugin.version.to_string(),
            task: plugin.summary.clone(),
            description: format!(
                "What {} adds to the frozen {backbone}, trained on {} cases, its epoch chosen by {} others.",
                plugin.name, train.cases, val.cases
            ),
            authors: plugin.authors.clone(),
            intended_use: plugin.intended_use.clone(),
            image_classes: manifest.views.iter().map(image).collect::<Vec<_>>().join("; "),
            label_classes,
            pred_classes,
            eval_metrics: best.map_or_else(BTreeMap::new, |e| e.val_metrics.clone()),
            network_data_format: network_data_format(manifest),
            options: origin.options.clone(),
            library_sha256: origin.library_sha256.clone(),
            backbone: backbone.to_owned(),
            backbone_fingerprint: origin.backbone.clone(),
            precision: origin.precision.clone(),
            data_sha256: origin.data_sha256.clone(),
            split_sha256: origin.split_sha256.clone(),
            train,
            val,
            parameters,
            best_epoch: best.map_or(0, |e| e.epoch),
            val_auroc: best.and_then(|e| e.val_auroc),
            seconds,
            machine: Machine::here(),
            host: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Trainable parameters, all together.
    pub fn all_parameters(&self) -> usize {
        self.parameters.0 + self.parameters.1 + self.parameters.2
    }
}

/// One side of a split, without telling who they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartRecord {
    /// How many.
    pub cases: usize,
    /// Of how many patients; a case without one is a patient of its own.
    pub patients: usize,
    /// Of these cases, with a mask.
    pub masks: usize,
    /// By label (or class): cases that have it, and cases of which it is known.
    pub positives: BTreeMap<String, [usize; 2]>,
}

impl PartRecord {
    fn of(table: &Table, rows: &[usize]) -> Self {
        let rows: Vec<&Row> = rows.iter().map(|&i| &table.rows[i]).collect();
        let label = |(i, name): (usize, &String)| {
            let known = rows.iter().filter_map(|r| r.labels[i]);
            let positive = known.clone().filter(|l| *l >= 0.5).count();
            (name.clone(), [positive, known.count()])
        };
        Self {
            cases: rows.len(),
            patients: rows.iter().map(|r| r.patient_or_case()).collect::<BTreeSet<_>>().len(),
            masks: rows.iter().filter(|r| r.mask.is_some()).count(),
            positives: table.labels.iter().enumerate().map(label).collect(),
        }
    }
}

/// What a run ran on: its numbers depend on it in the last digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// As it names itself, or the architecture where it does not.
    pub processor: String,
    /// Threads that were used.
    pub threads: usize,
    /// Operating system.
    pub system: String,
}

impl Machine {
    fn here() -> Self {
        let told = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = told.lines().find_map(|l| l.strip_prefix("model name")?.split(':').nth(1));
        Self {
            processor: name.map_or_else(|| std::env::consts::ARCH.to_owned(), |n| n.trim().to_owned()),
            threads: rayon::current_num_threads(),
            system: std::env::consts::OS.to_owned(),
        }
    }
}

/// A view's images in a sentence.
fn image(view: &View) -> String {
    let slices = match (view.slices, view.slice_spacing_mm) {
        (Some(n), _) => format!("{n} slices"),
        (None, Some(mm)) => format!("slices {mm} mm apart"),
        (None, None) => "slices".to_owned(),
    };
    let [rows, columns] = view.size;
    let intensity = match &view.intensity {
        Intensity::Window { windows } => {
            let all: Vec<String> = windows.iter().map(|[lo, hi]| format!("[{lo}, {hi}]")).collect();
            format!("window {}", all.join(", "))
        }
        Intensity::Percentile { low, high, .. } => format!("percentiles {low} to {high}"),
    };
    let crop = view.crop.map_or(String::new(), |shares| format!(" of {shares:?} of the region"));
    let (name, modality) = (&view.name, view.modality);
    format!("{name}: {modality:?}, {slices} of {rows} x {columns}{crop}, {intensity} to [0, 1]")
}

/// As in MONAI's metadata.json: what goes in and what comes out, before the backbone's mean and deviation.
fn network_data_format(manifest: &Manifest) -> Value {
    let input = |view: &View| {
        let channels = match &view.intensity {
            Intensity::Window { windows } => windows.len(),
            Intensity::Percentile { .. } => 1,
        };
        let format = if view.modality == Modality::CT { "hounsfield" } else { "magnitude" };
        let slices = view.slices.map_or_else(|| json!("*"), |n| json!(n));
        let value = json!({
            "type": "image", "format": format, "modality": view.modality, "num_channels": channels,
            "spatial_shape": [slices, view.size[0], view.size[1]], "dtype": "float32", "value_range": [0, 1],
            "is_patch_data": false, "channel_def": (0..channels).map(|c| (c.to_string(), json!("image"))).collect::<serde_json::Map<_, _>>(),
        });
        (view.name.clone(), value)
    };
    let labels = manifest.task.output_names().into_iter().enumerate();
    let channels: serde_json::Map<String, Value> = labels.map(|(i, l)| (i.to_string(), json!(l))).collect();
    json!({
        "inputs": manifest.views.iter().map(input).collect::<serde_json::Map<_, _>>(),
        "outputs": { "pred": {
            "type": "probabilities", "format": "classes", "num_channels": manifest.task.outputs(), "spatial_shape": [],
            "dtype": "float32", "value_range": [0, 1], "is_patch_data": false, "channel_def": channels,
        }},
    })
}
