//! `[[task]]`: a plugin's question, the table of its cases, and how they are parted.

use crate::task::ViewChange;
use anymc3d_manifest::{Extent, MaskFeature};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// `[[task]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskEntry {
    /// In the tables; the plugin's where there is none.
    pub name: Option<String>,
    /// By name, or by path below the study file's folder.
    pub plugin: String,
    /// Below the folder of the data.
    pub table: PathBuf,
    /// Test cases, where neither folds nor the table's `split` column name them.
    pub test: Option<PathBuf>,
    /// Each fold of the patients is tested once; the next fold chooses the epoch, the others train.
    pub folds: Option<usize>,
    /// Labels that the table calls otherwise.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The methods that are computed on it; all where none are named.
    pub methods: Option<Vec<String>>,
    /// Of an ordinal or regression task: the question is whether the value is this or more.
    pub cut: Option<f64>,
    /// Whether backbones of families that the plugin does not name are tried too.
    #[serde(default)]
    pub any_backbone: bool,
    pub slices: Option<usize>,
    pub size: Option<[usize; 2]>,
    pub size_mm: Option<Extent>,
    pub mask_features: Option<Vec<MaskFeature>>,
}

impl TaskEntry {
    pub fn row_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| crate::plugin::find::stem(Path::new(&self.plugin)))
    }

    /// What the views differ in from the plugin's.
    pub fn view(&self) -> ViewChange {
        ViewChange {
            slices: self.slices,
            size: self.size,
            size_mm: self.size_mm,
            mask_features: self.mask_features.clone(),
            ..ViewChange::default()
        }
    }
}
