//! `plugin.toml`: the manifest of a task, readable without loading its code.
//!
//! Types, parser and checks of the manifest (schema 1). The author's build parses it strictly
//! ([`Manifest::parse_strict`]: an unknown key is an error); a host parses it leniently
//! ([`Manifest::parse`]: unknown keys of a newer schema become notices).
#![deny(missing_docs)]

mod check;
mod keys;
mod parse;
mod place;
mod region;
mod sequence;
mod series;
mod settings;
mod values;

pub use parse::{ManifestError, Parsed};
pub use place::{Place, nearest};
pub use region::{Background, Channels, Extent, MaskFeature, Region, ThroughPlane, Tokens};
pub use series::{Plane, SEQUENCE_NAMES, SeriesRules};
pub use settings::SettingValue;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The manifest schema this crate writes and reads.
pub const SCHEMA: u32 = 1;

/// A whole `plugin.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Schema version, 1.
    pub schema: u32,
    /// Identity of the plugin.
    pub plugin: Plugin,
    /// What it predicts.
    pub task: Task,
    /// What backbone its adapter can live in.
    pub backbone: BackboneNeed,
    /// What the plugin's own code reads: a host passes it on and knows nothing of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, SettingValue>,
    /// One or more views; a view is an orientation or a sequence.
    #[serde(rename = "view")]
    pub views: Vec<View>,
}

/// Identity of a plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plugin {
    /// `^[a-z][a-z0-9_]{1,63}$`.
    pub name: String,
    /// Semantic version.
    pub version: semver::Version,
    /// One sentence.
    pub summary: String,
    /// Who wrote it.
    #[serde(default)]
    pub authors: Vec<String>,
    /// SPDX expression.
    pub license: String,
    /// Shown wherever a result is read.
    pub intended_use: String,
}

/// What a plugin predicts and how it is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Binary, multi-class, multi-label, ordinal or regression.
    pub kind: TaskKind,
    /// Labels; of a multi-class task: its classes.
    pub labels: Vec<String>,
    /// Ordinal and regression: lowest and highest value of the labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
    /// Classification loss.
    #[serde(default)]
    pub loss: Loss,
    /// Positive is `p >= threshold`, until one is stored with the weights.
    #[serde(default = "half")]
    pub threshold: f64,
    /// `true`: a label names a side, so training never flips left and right.
    #[serde(default)]
    pub sided_labels: bool,
    /// `true`: the order of the slices does not matter to the head, and `host plugin check` holds it to that.
    #[serde(default)]
    pub permutation_invariant: bool,
    /// Diameter of the smallest finding that the task is for, mm. A scan whose slices lie more than half of it apart gives a
    /// warning: a finding may lie between two of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smallest_mm: Option<f64>,
}

fn half() -> f64 {
    0.5
}

impl Task {
    /// Number of logits the head must give: one per label (or class); of an ordinal task one per step of its scale.
    pub fn outputs(&self) -> usize {
        match self.kind {
            TaskKind::Ordinal => (self.scale()[1] - self.scale()[0]).clamp(0.0, 4096.0) as usize,
            _ => self.labels.len(),
        }
    }
}

/// Kind of classification task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskKind {
    /// One label, one sigmoid.
    Binary,
    /// Exactly one class per case, softmax.
    Multiclass,
    /// Any number of labels per case, a sigmoid each.
    Multilabel,
    /// One label with levels in an order, a sigmoid per step: whether the level is above it.
    Ordinal,
    /// Any number of labels, each a number on a scale with two ends: a sigmoid each, as share of the scale.
    Regression,
}

/// Which losses a kind of task takes, in words.
pub const LOSSES_BY_KIND: &str = "cross_entropy for multiclass, focal or bce for binary, multilabel and ordinal, bce or mse for regression";

impl TaskKind {
    /// Whether a loss is one for this kind: a softmax over a single label is always 1, and a sigmoid per class does not
    /// answer with one of them.
    pub fn takes(self, loss: LossKind) -> bool {
        match self {
            Self::Multiclass => loss == LossKind::CrossEntropy,
            Self::Regression => matches!(loss, LossKind::Bce | LossKind::Mse),
            Self::Binary | Self::Multilabel | Self::Ordinal => {
                matches!(loss, LossKind::Focal | LossKind::Bce)
            }
        }
    }
}

/// Classification loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    /// Which one.
    pub kind: LossKind,
    /// Focal: exponent of the modulating factor. Default 2.
    #[serde(default = "Loss::default_gamma")]
    pub gamma: f64,
    /// Focal: weight of the positive class, `1 - alpha` of the negative. Default 0.25.
    #[serde(default = "Loss::default_alpha")]
    pub alpha: f64,
    /// One weight per label (or class), in the order of `labels`; empty: all 1.
    #[serde(default)]
    pub class_weights: Vec<f64>,
}

impl Loss {
    fn default_gamma() -> f64 {
        2.0
    }
    fn default_alpha() -> f64 {
        0.25
    }
}

impl Default for Loss {
    fn default() -> Self {
        Self { kind: LossKind::Focal, gamma: 2.0, alpha: 0.25, class_weights: Vec::new() }
    }
}

/// Kind of classification loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// Focal loss on sigmoids.
    Focal,
    /// Binary cross-entropy on sigmoids.
    Bce,
    /// Cross-entropy on a softmax, for multi-class tasks.
    CrossEntropy,
    /// Squared error of the sigmoid, for regression.
    Mse,
}

/// What backbone the adapter can live in; the weights name the exact fingerprint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackboneNeed {
    /// For example `dinov2`; [`ANY_FAMILY`] alone is every family.
    pub families: Vec<String>,
    /// Smallest embedding width that fits.
    #[serde(default)]
    pub min_embed_dim: usize,
}

/// `families = ["any"]`: the adapter and the head live in whatever backbone there is.
pub const ANY_FAMILY: &str = "any";

impl BackboneNeed {
    /// Whether the families name `family`, or any.
    pub fn takes_family(&self, family: &str) -> bool {
        self.families.iter().any(|f| f == ANY_FAMILY || f == family)
    }
}

/// From a scan to pixels: one orientation or sequence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Name, unique in the manifest; `--view NAME=FILE` and `image.NAME` refer to it.
    pub name: String,
    /// What the scan must be.
    pub modality: Modality,
    /// The axis slices are cut along.
    pub axis: Axis,
    /// Number of slices S. Exactly one of `slices` and `slice_spacing_mm` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slices: Option<usize>,
    /// Distance between slices in mm; S then varies with the scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice_spacing_mm: Option<f64>,
    /// Rows and columns in pixels.
    pub size: [usize; 2],
    /// How a slice is brought to `size`.
    #[serde(default)]
    pub fit: Fit,
    /// `fit = "spacing"`: pixel size in mm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spacing_mm: Option<f64>,
    /// What part of the volume is kept.
    #[serde(default)]
    pub region: Region,
    /// What of the region's box is kept: shares `[from, to]` of its length, left to right, posterior to anterior and
    /// inferior to superior. All of it where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<[[f64; 2]; 3]>,
    /// `region = "mask"`: mm kept around the mask's bounding box on every side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin_mm: Option<f64>,
    /// `region = "mask"` or `"point"`: mm kept, centred on the mask's centroid or on the point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_mm: Option<Extent>,
    /// What the three channels of an image are.
    #[serde(default)]
    pub channels: Channels,
    /// `channels = "adjacent"`: distance in mm between the slice of each channel and that of the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adjacent_mm: Option<f64>,
    /// What a slice shows of the tissue between it and its neighbours.
    #[serde(default, skip_serializing_if = "ThroughPlane::is_average")]
    pub through_plane: ThroughPlane,
    /// What becomes of patches that show only background.
    #[serde(default)]
    pub background: Background,
    /// Which tokens of the last block the head reads.
    #[serde(default)]
    pub tokens: Tokens,
    /// How many tokens of a slice each block but the last merges away, two that say the same into one, when cases are answered.
    #[serde(default)]
    pub merge: usize,
    /// What the head is told of the case's mask beside the tokens.
    #[serde(default)]
    pub mask_features: Vec<MaskFeature>,
    /// From the scan's units to 0..1.
    pub intensity: Intensity,
    /// Which series of a DICOM study fills the view. A file of another format is taken as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<SeriesRules>,
    /// `false`: the view may be missing.
    #[serde(default = "yes")]
    pub required: bool,
}

fn yes() -> bool {
    true
}

impl View {
    /// A view of every voxel along `axis`, `slices` slices of `size` rows and columns, with the defaults of plugin.toml: any
    /// modality, a physical square, percentiles 0.5 and 99.5.
    pub fn new(name: impl Into<String>, axis: Axis, slices: usize, size: [usize; 2]) -> Self {
        Self {
            name: name.into(),
            modality: Modality::Any,
            axis,
            slices: Some(slices),
            slice_spacing_mm: None,
            size,
            fit: Fit::Square,
            spacing_mm: None,
            region: Region::Full,
            crop: None,
            margin_mm: None,
            size_mm: None,
            channels: Channels::Windows,
            adjacent_mm: None,
            through_plane: ThroughPlane::Average,
            background: Background::Keep,
            tokens: Tokens::All,
            merge: 0,
            mask_features: Vec::new(),
            intensity: Intensity::Percentile { low: 0.5, high: 99.5, nonzero: false },
            series: None,
            required: true,
        }
    }
}

/// Modality of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Modality {
    /// Computed tomography, Hounsfield units.
    CT,
    /// Magnetic resonance.
    MR,
    /// Positron emission tomography.
    PT,
    /// Whatever comes.
    #[serde(rename = "any")]
    Any,
}

/// Axis along which slices are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Axis {
    /// Inferior to superior.
    Axial,
    /// Posterior to anterior.
    Coronal,
    /// Left to right.
    Sagittal,
    /// The axis with the largest spacing.
    Native,
}

/// How a slice is brought to the image size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Pad to a physical square first.
    #[default]
    Square,
    /// Each in-plane axis on its own.
    Stretch,
    /// Resample to `spacing_mm`, then crop or pad around the centre.
    Spacing,
}

/// From the scan's units to 0..1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Intensity {
    /// `clip((v - lo) / (hi - lo), 0, 1)`: one window for a grey channel repeated, or three for three channels.
    Window {
        /// `[lo, hi]` pairs, one or three.
        windows: Vec<[f64; 2]>,
    },
    /// As `Window`, with `lo` and `hi` the percentiles of the canonical volume.
    Percentile {
        /// Lower percentile, 0..100.
        low: f64,
        /// Upper percentile, 0..100.
        high: f64,
        /// `true`: over voxels that are not zero.
        #[serde(default)]
        nonzero: bool,
    },
}
