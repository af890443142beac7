//! The study file: tasks, backbones and methods, as TOML says them.
//!
//! ```toml
//! [study]
//! baseline = { backbone = "dinov2-small", method = "attention probe" }
//!
//! [[task]]
//! plugin = "lung_nodule"
//! table = "lung_nodule/table.csv"
//! folds = 5
//!
//! [[backbone]]
//! name = "dinov2-small"
//!
//! [[method]]
//! name = "attention probe"
//! kind = "attention_probe"
//! epochs = 20
//! seeds = [1, 2, 3]
//! ```

use super::error::StudyError;
use crate::task::{AdapterChoice, Variant, ViewChange};
use crate::train::{Recipe, TrainOptions};
use anymc3d_manifest::{Extent, MaskFeature};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a study file says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StudyFile {
    #[serde(default)]
    pub study: General,
    #[serde(rename = "task", default)]
    pub tasks: Vec<TaskEntry>,
    #[serde(rename = "backbone", default)]
    pub backbones: Vec<BackboneEntry>,
    #[serde(rename = "method", default)]
    pub methods: Vec<MethodEntry>,
}

/// `[study]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct General {
    /// The row that every other row of its task is tested against; the first backbone and method where none is named.
    pub baseline: Option<RowName>,
    /// Of folds, and of validation cases that no table names.
    pub seed: u64,
    /// Test cases of each task whose time and memory are measured, one after the other.
    pub timed_scans: usize,
}

impl Default for General {
    fn default() -> Self {
        Self { baseline: None, seed: 0, timed_scans: 3 }
    }
}

/// A row of a task's table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RowName {
    pub backbone: String,
    pub method: String,
}

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
    /// Whether backbones of families that the plugin does not name are tried too.
    #[serde(default)]
    pub any_backbone: bool,
    pub slices: Option<usize>,
    pub size: Option<[usize; 2]>,
    pub size_mm: Option<Extent>,
    pub mask_features: Option<Vec<MaskFeature>>,
}

/// `[[backbone]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackboneEntry {
    /// In the tables, and where backbones are found unless there is a folder.
    pub name: String,
    /// Below the study file's folder.
    pub folder: Option<PathBuf>,
}

/// What is adapted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum MethodKind {
    /// Frozen; a linear layer on the mean of the slices' class tokens.
    LinearProbe,
    /// Frozen; a linear layer on the slices' class tokens, pooled by attention.
    AttentionProbe,
    /// Low-rank terms in the blocks, and the head of the attention probe.
    Lora,
    /// As the plugin says: its adapter, its head, its pixel supervision.
    Plugin,
}

/// `[[method]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MethodEntry {
    pub name: String,
    pub kind: MethodKind,
    /// A run each; a case's probability is the mean over them.
    pub seeds: Option<Vec<u64>>,
    pub epochs: Option<usize>,
    pub patience: Option<usize>,
    pub batch: Option<usize>,
    pub lr: Option<f64>,
    pub head_lr: Option<f64>,
    pub weight_decay: Option<f64>,
    pub head_weight_decay: Option<f64>,
    pub warmup: Option<f64>,
    pub clip: Option<f64>,
    pub lambda: Option<f64>,
    pub augment: Option<Recipe>,
    pub augmentations_per_case: Option<usize>,
    pub rank: Option<usize>,
    pub alpha: Option<f64>,
    pub first_block: Option<usize>,
    pub fusion: Option<String>,
}

impl StudyFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// When it cannot be read, is no TOML, has a key that is not known, lacks a part, or names something twice.
    pub fn read(path: &Path) -> Result<Self, StudyError> {
        let refuse = |reason: String| StudyError::File { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(|e| refuse(format!("cannot be read ({e})")))?;
        let file: Self = toml::from_str(&text).map_err(|e| {
            let line = e.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            refuse(format!("line {line}: {}", e.message()))
        })?;
        file.check().map_err(refuse)?;
        Ok(file)
    }

    fn check(&self) -> Result<(), String> {
        let tasks: Vec<String> = self.tasks.iter().map(TaskEntry::row_name).collect();
        let backbones: Vec<String> = self.backbones.iter().map(|b| b.name.clone()).collect();
        let methods: Vec<String> = self.methods.iter().map(|m| m.name.clone()).collect();
        for (kind, names) in [("task", &tasks), ("backbone", &backbones), ("method", &methods)] {
            if names.is_empty() {
                return Err(format!("has no [[{kind}]], expected at least one"));
            }
            let mut seen = BTreeSet::new();
            for name in names {
                if folder_name(name).is_empty() {
                    return Err(format!(
                        "[[{kind}]] is called `{name}`, expected a name with letters or digits"
                    ));
                }
                if !seen.insert(folder_name(name)) {
                    return Err(format!("[[{kind}]] `{name}` is there twice; give each a name of its own"));
                }
            }
        }
        for method in &self.methods {
            method.check().map_err(|reason| format!("[[method]] `{}`: {reason}", method.name))?;
        }
        for task in &self.tasks {
            if let Some(k) = task.folds.filter(|k| !(3..=100).contains(k)) {
                return Err(format!(
                    "[[task]] `{}`: folds = {k}, expected 3 to 100: one is tested, one chooses the epoch, the others train",
                    task.row_name()
                ));
            }
            if task.folds.is_some() && task.test.is_some() {
                return Err(format!(
                    "[[task]] `{}`: has both `folds` and `test`, expected one",
                    task.row_name()
                ));
            }
        }
        if let Some(RowName { backbone, method }) = &self.study.baseline {
            let known = [("backbone", backbone, &backbones), ("method", method, &methods)];
            if let Some((kind, name, all)) = known.into_iter().find(|(_, name, all)| !all.contains(name)) {
                return Err(format!("baseline: {kind} `{name}`, expected one of {}", all.join(", ")));
            }
        }
        Ok(())
    }

    /// Names of the baseline's backbone and method.
    pub fn baseline(&self) -> (&str, &str) {
        match &self.study.baseline {
            Some(row) => (&row.backbone, &row.method),
            None => (&self.backbones[0].name, &self.methods[0].name),
        }
    }
}

/// A name as a folder's: letters, digits, `-` and `.`; everything else is `_`.
pub(super) fn folder_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' };
    let plain: String = name.chars().map(plain).collect();
    if plain.chars().any(|c| c.is_ascii_alphanumeric()) { plain } else { String::new() }
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

impl MethodEntry {
    fn check(&self) -> Result<(), String> {
        if self.seeds.as_ref().is_some_and(Vec::is_empty) {
            return Err("seeds = [], expected at least one".to_owned());
        }
        let lora = [
            ("rank", self.rank.is_some()),
            ("alpha", self.alpha.is_some()),
            ("first_block", self.first_block.is_some()),
            ("lr", self.lr.is_some()),
            ("weight_decay", self.weight_decay.is_some()),
        ];
        let frozen = matches!(self.kind, MethodKind::LinearProbe | MethodKind::AttentionProbe);
        if let Some((key, _)) = lora.iter().find(|(_, given)| *given && frozen) {
            return Err(format!("`{key}` is of an adapter, and a probe has none"));
        }
        if self.fusion.is_some() && frozen {
            return Err("`fusion` is what the kind of a probe says already".to_owned());
        }
        self.options(0, &ViewChange::default(), false).check()
    }

    /// The seeds of its runs.
    pub fn seeds(&self) -> Vec<u64> {
        self.seeds.clone().unwrap_or_else(|| vec![0])
    }

    /// Options of a training run of this method.
    pub fn options(&self, seed: u64, view: &ViewChange, any_backbone: bool) -> TrainOptions {
        let start = TrainOptions::default();
        let own = self.kind == MethodKind::Plugin;
        let augment = self.augment.unwrap_or(Recipe::None);
        let pooling = match self.kind {
            MethodKind::LinearProbe => Some("mean".to_owned()),
            MethodKind::AttentionProbe => Some("attention".to_owned()),
            MethodKind::Lora => Some(self.fusion.clone().unwrap_or_else(|| "attention".to_owned())),
            MethodKind::Plugin => self.fusion.clone(),
        };
        let variant = Variant {
            adapter: match self.kind {
                MethodKind::LinearProbe | MethodKind::AttentionProbe => Some(AdapterChoice::None),
                MethodKind::Lora => Some(AdapterChoice::Lora),
                MethodKind::Plugin => None,
            },
            rank: self.rank,
            alpha: self.alpha,
            first_block: self.first_block,
            pooling,
            class_tokens_only: !own,
            any_backbone,
            view: view.clone(),
            ..Variant::default()
        };
        TrainOptions {
            epochs: self.epochs.unwrap_or(start.epochs),
            patience: self.patience.unwrap_or(start.patience),
            batch: self.batch.unwrap_or(start.batch),
            lr: self.lr.unwrap_or(start.lr),
            head_lr: self.head_lr.unwrap_or(start.head_lr),
            weight_decay: self.weight_decay.unwrap_or(start.weight_decay),
            head_weight_decay: self.head_weight_decay.unwrap_or(start.head_weight_decay),
            warmup: self.warmup.unwrap_or(start.warmup),
            clip: self.clip.unwrap_or(start.clip),
            lambda: self.lambda.unwrap_or(if own { start.lambda } else { 0.0 }),
            augment,
            draws: match augment {
                Recipe::None => 1,
                _ => self.augmentations_per_case.unwrap_or(start.draws),
            },
            val_fraction: start.val_fraction,
            variant,
            seed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "[[task]]\nplugin = \"lung_nodule\"\ntable = \"t.csv\"\nfolds = 5\n[[backbone]]\nname = \"a\"\n\
        [[backbone]]\nname = \"b\"\n[[method]]\nname = \"probe\"\nkind = \"linear_probe\"\n";

    fn refused(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.toml");
        std::fs::write(&path, text).unwrap();
        StudyFile::read(&path).unwrap_err().to_string()
    }

    #[test]
    fn a_file_that_does_not_make_sense_is_refused_with_what_was_found() {
        for (change, says) in [
            (("epochs", ""), ""),
            (("folds = 5", "folds = 2"), "folds = 2, expected 3 to 100"),
            (("folds = 5", "folds = 5\ntest = \"u.csv\""), "both `folds` and `test`"),
            (("folds = 5", "fold = 5"), "line 4: unknown field `fold`"),
            (("name = \"b\"", "name = \"a\""), "[[backbone]] `a` is there twice"),
            (("name = \"b\"", "name = \"--\""), "expected a name with letters"),
            (("linear_probe", "linear"), "unknown variant `linear`"),
            (("[[method]]", "[[methods]]"), "unknown field `methods`"),
            (("kind = ", "rank = 4\nkind = "), "`rank` is of an adapter"),
            (("kind = ", "epochs = 0\nkind = "), "epochs 0: expected 1 or more"),
            (("kind = ", "head_lr = -1.0\nkind = "), "head-lr -1: expected a number above 0"),
            (("kind = ", "seeds = []\nkind = "), "seeds = []"),
            (
                ("[[task]]", "study.baseline = { backbone = \"c\", method = \"probe\" }\n[[task]]"),
                "`c`, expected one of a, b",
            ),
        ] {
            if says.is_empty() {
                continue;
            }
            assert!(WHOLE.contains(change.0), "{change:?}");
            let said = refused(&WHOLE.replacen(change.0, change.1, 1));
            assert!(said.contains(says) && said.contains("s.toml"), "{change:?}: {said}");
        }
        assert!(refused("").contains("no [[task]]"));
    }

    #[test]
    fn methods_differ_in_what_is_adapted_and_how_slices_are_pooled() {
        let file: StudyFile = toml::from_str(WHOLE).unwrap();
        let of = |kind| {
            let method = MethodEntry { kind, ..file.methods[0].clone() };
            method.options(3, &file.tasks[0].view(), false)
        };
        let (linear, lora, own) = (of(MethodKind::LinearProbe), of(MethodKind::Lora), of(MethodKind::Plugin));
        assert_eq!(linear.variant.pooling.as_deref(), Some("mean"));
        assert_eq!((linear.variant.adapter, linear.lambda), (Some(AdapterChoice::None), 0.0));
        assert_eq!(lora.variant.pooling.as_deref(), Some("attention"));
        assert_eq!((lora.variant.adapter, lora.draws), (Some(AdapterChoice::Lora), 1));
        assert_eq!((own.variant, own.lambda, own.seed), (Variant::default(), 1.0, 3));
        assert_eq!(file.baseline(), ("a", "probe"));
    }
}
