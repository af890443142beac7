//! `result.json`: what was asked, what ran, what it said. Schema `anymc3d/result/1`.

pub use super::provenance::Provenance;
pub use crate::task::PackageRecord;
use serde::{Deserialize, Serialize};

/// The schema's name.
pub const SCHEMA: &str = "anymc3d/result/1";

/// One case through one plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseResult {
    /// [`SCHEMA`].
    pub schema: String,
    /// The case's name.
    pub case: String,
    /// The scan.
    pub input: InputRecord,
    /// The code and weights that answered.
    pub plugin: PluginRecord,
    /// The backbone they ran on.
    pub backbone: BackboneRecord,
    /// Where it ran.
    pub device: String,
    /// When it was made, and by what.
    #[serde(default)]
    pub provenance: Provenance,
    /// Version of the host.
    pub host: String,
    /// Digest of the caller's options on which a result depends, where the caller told it: a later call skips what was done
    /// with the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options_sha256: Option<String>,
    /// One per label or class.
    pub predictions: Vec<LabelPrediction>,
    /// The numbers of an ordinal or regression task; `predictions` then has what each output says: of an ordinal task the
    /// probability that the level is above a step, of regression the share of the range.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<ValuePrediction>,
    /// How far the case is from those that the weights were trained on, where the weights tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub novelty: Option<Novelty>,
    /// One per view that was there.
    pub views: Vec<ViewRecord>,
    /// What the segmentation branch outlined, if it was asked for and the plugin has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segmentation: Option<SegmentationRecord>,
    /// Files written beside this one.
    pub files: FilesRecord,
    /// Milliseconds.
    pub timing_ms: Timing,
    /// What a reader should know before believing it.
    pub warnings: Vec<String>,
    /// The manifest's words.
    pub intended_use: String,
}

/// A scan as it was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputRecord {
    /// As given.
    pub path: String,
    /// Digest of the file's bytes.
    pub sha256: String,
    /// Voxels along the stored axes.
    pub shape: [usize; 3],
    /// mm along the stored axes.
    pub spacing_mm: [f64; 3],
    /// Of the stored axes, for example `LPS`.
    pub orientation: String,
    /// As the file says, if it does.
    pub modality: Option<String>,
    /// From the intensities.
    pub modality_guess: Option<String>,
    /// Files of further views, by the view's name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_views: Vec<OtherView>,
    /// Digest of the mask that was given with the case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_sha256: Option<String>,
    /// The point that was given with the case, RAS mm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point_mm: Option<[f64; 3]>,
}

/// A further file of a case with several views.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OtherView {
    /// The view.
    pub view: String,
    /// As given.
    pub path: String,
    /// Digest of the file's bytes.
    pub sha256: String,
}

/// The code and weights that answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginRecord {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// The question that it answers, in the manifest's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
    /// Digest of the library.
    pub sha256: String,
    /// Digest of the weights.
    pub weights_sha256: String,
    /// Digests of the further weights of an ensemble, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further_weights_sha256: Vec<String>,
    /// The signed package that they came in; null for a local file, which nobody vouches for.
    #[serde(default)]
    pub package: Option<PackageRecord>,
}

impl PluginRecord {
    /// Digests of all files of weights that answered, in their order.
    pub fn all_weights(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.weights_sha256).chain(&self.further_weights_sha256)
    }
}

/// The backbone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackboneRecord {
    /// Name.
    pub name: String,
    /// Digest of its weights.
    pub sha256: String,
    /// `f32`, `bf16`, `int16` or `int8`.
    pub precision: String,
    /// Digest of the file of quantised layers that `int8` computed with; absent where its layers were rounded to the nearest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantised_sha256: Option<String>,
}

/// One label's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelPrediction {
    /// Label or class.
    pub label: String,
    /// 0 to 1; calibrated where a temperature is stored with the weights.
    pub probability: f64,
    /// Before temperature and sigmoid or softmax; of an ensemble the mean of the members' logits, each divided by its
    /// temperature.
    pub logit: f64,
    /// What the logit was divided by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Positive from here on (multi-class: null, the most probable class is positive).
    pub threshold: Option<f64>,
    /// The decision.
    pub positive: bool,
    /// How far the members of an ensemble are apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<EnsembleSpread>,
}

/// How far a case is from the training cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Novelty {
    /// Of several views the one that lies farthest out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<String>,
    /// Mahalanobis distance from the training cases.
    pub distance: f64,
    /// Share of the training cases that are nearer, 0 to 100.
    pub percentile: f64,
    /// Whether it is farther than 99.5 % of the training cases.
    pub outside: bool,
    /// The distance within which 99.5 % of the training cases are.
    pub limit: f64,
    /// How many cases it was compared with.
    pub reference_cases: usize,
}

/// A number on the scale of an ordinal or regression task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValuePrediction {
    /// Label.
    pub label: String,
    /// The value; of an ordinal task the expected level.
    pub value: f64,
    /// Ordinal: the level that the answer is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<f64>,
    /// Ends of the scale.
    pub range: [f64; 2],
}

/// How far the members of an ensemble are apart on one label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnsembleSpread {
    /// How many weights were averaged.
    pub members: usize,
    /// Standard deviation (of the population) of their logits, each divided by its temperature.
    pub logit_std: f64,
    /// Smallest and largest of their probabilities.
    pub probability: [f64; 2],
}

/// One view of a case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ViewRecord {
    /// Name in the manifest.
    pub name: String,
    /// Number of slices S.
    pub slices: usize,
    /// `background = "drop"`: share of the patches that showed the body and were computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_patches: Option<f64>,
    /// Tokens of a slice that each block merged away.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub merge: usize,
    /// Weight of each slice; they sum to 1. Empty when the head tells none.
    pub weights: Vec<f32>,
    /// Weight of this view among several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view_weight: Option<f32>,
    /// What a heatmap of this view shows within a slice: `class_attention` of the backbone's last block, or the head's
    /// own `patch_weights`.
    pub heatmap_of: String,
    /// The heaviest slices, heaviest first.
    pub top_slices: Vec<TopSlice>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// A slice by its place in the original scan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopSlice {
    /// Along the scan's own slice axis.
    pub index: usize,
    /// Its weight.
    pub weight: f32,
    /// RAS mm along that axis.
    pub position_mm: f64,
}

/// Files beside `result.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FilesRecord {
    /// Heatmap on the scan's own grid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heatmap: Option<String>,
    /// Montage of the top slices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview: Option<String>,
    /// Mask (0 or 1) on the scan's own grid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segmentation: Option<String>,
    /// DICOM objects: report, heatmaps, mask, picture.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dicom: Vec<String>,
    /// The page that a person reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<String>,
}

/// What the segmentation branch outlined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentationRecord {
    /// The view that was decoded: the first that had a file.
    pub view: String,
    /// Voxels of the scan with a probability of 0.5 or more.
    pub voxels: usize,
    /// Their volume.
    pub volume_ml: f64,
}

/// Milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Reading the scan (0 when another plugin's turn had read it, or when it was read ahead).
    pub read: f64,
    /// To slices (0 when shared, or when they were cut ahead).
    pub preprocess: f64,
    /// Reading and slicing beside the case before, whose work took the same processors; absent where nothing was ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<f64>,
    /// Of that, what this case had to wait for; absent where nothing was ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited: Option<f64>,
    /// The backbone, shared part included.
    pub backbone: f64,
    /// The head.
    pub head: f64,
    /// The segmentation branch, where it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segmentation: Option<f64>,
    /// All of it.
    pub total: f64,
}

/// A case that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailedCase {
    /// [`SCHEMA`].
    pub schema: String,
    /// The case's name.
    pub case: String,
    /// The scan's path.
    pub input: FailedInput,
    /// The plugin whose turn it was, if it had come to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// One line.
    pub error: String,
    /// Whose fault it was (`scan`, `plugin`, `input`, `writing`), where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// When that was, and by what.
    #[serde(default)]
    pub provenance: Provenance,
}

/// The path of a failed case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailedInput {
    /// As given.
    pub path: String,
}
