//! `[[method]]`: what is trained on a task, or computed without training, and with which options.

use super::task_entry::TaskEntry;
use crate::task::{AdapterChoice, Variant, ViewChange};
use crate::train::{Recipe, TrainOptions};
use anymc3d_manifest::MaskFeature;
use serde::Deserialize;

/// What a method does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum MethodKind {
    /// No backbone: logistic regression on a few numbers of the mask, or of the scan where the task is given no mask.
    Scalars,
    /// Frozen; a linear layer on the mean of the slices' class tokens.
    LinearProbe,
    /// Frozen; a linear layer on the slices' class tokens, pooled by attention.
    AttentionProbe,
    /// Frozen; a linear layer on the slices' class tokens, pooled as `fusion` says.
    Frozen,
    /// Low-rank terms in the blocks, and the head of the attention probe or what `fusion` says.
    Lora,
    /// As a plugin says: its adapter, its head, its pixel supervision.
    Plugin,
}

impl MethodKind {
    /// Whether it sees scans through a backbone.
    pub fn has_backbone(self) -> bool {
        self != Self::Scalars
    }

    /// Whether it trains nothing inside the backbone, whatever the plugin.
    fn is_frozen(self) -> bool {
        matches!(self, Self::LinearProbe | Self::AttentionProbe | Self::Frozen)
    }
}

/// `[[method]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MethodEntry {
    pub name: String,
    pub kind: MethodKind,
    /// The tasks that it is computed on; all where none are named.
    pub tasks: Option<Vec<String>>,
    /// A plugin that answers in the place of each task's own, by name or by path below the study file's folder.
    pub plugin: Option<String>,
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
    /// Penalty of a linear layer that is fitted at once.
    pub logistic: Option<f64>,
    /// Blocks of a frozen backbone.
    pub depth: Option<usize>,
    pub decoder: Option<String>,
    /// Before the task's.
    pub slices: Option<usize>,
    /// Before the task's.
    pub size: Option<[usize; 2]>,
    /// Before the task's.
    pub mask_features: Option<Vec<MaskFeature>>,
}

impl MethodEntry {
    pub fn check(&self) -> Result<(), String> {
        if self.seeds.as_ref().is_some_and(Vec::is_empty) {
            return Err("seeds = [], expected at least one".to_owned());
        }
        let seeds = self.seeds();
        if let Some((_, twice)) = seeds.iter().enumerate().find(|(i, seed)| seeds[..*i].contains(seed)) {
            return Err(format!("seeds: {twice} twice, expected each once: a run counts as one of several"));
        }
        if self.tasks.as_ref().is_some_and(Vec::is_empty) {
            return Err("tasks = [], expected at least one, or no such key for all".to_owned());
        }
        let given =
            |keys: &[(&'static str, bool)]| keys.iter().find(|(_, given)| *given).map(|(key, _)| *key);
        let lora = [
            ("rank", self.rank.is_some()),
            ("alpha", self.alpha.is_some()),
            ("first_block", self.first_block.is_some()),
            ("lr", self.lr.is_some()),
            ("weight_decay", self.weight_decay.is_some()),
        ];
        if let Some(key) = given(&lora).filter(|_| self.kind.is_frozen()) {
            return Err(format!("`{key}` is of an adapter, and a frozen backbone has none"));
        }
        if self.fusion.is_some() && matches!(self.kind, MethodKind::LinearProbe | MethodKind::AttentionProbe)
        {
            return Err(
                "`fusion` is what the kind of a probe says already; expected kind = \"frozen\"".to_owned()
            );
        }
        if self.decoder.is_some() && self.kind.is_frozen() {
            return Err("`decoder` supervises an adapter, and a frozen backbone has none".to_owned());
        }
        if self.plugin.is_some() && self.kind != MethodKind::Plugin {
            return Err("`plugin` is of the kind \"plugin\": the others change each task's own".to_owned());
        }
        if self.kind == MethodKind::Scalars {
            let trained = [
                ("epochs", self.epochs.is_some()),
                ("head_lr", self.head_lr.is_some()),
                ("batch", self.batch.is_some()),
                ("patience", self.patience.is_some()),
                ("lambda", self.lambda.is_some()),
                ("augment", self.augment.is_some()),
                ("fusion", self.fusion.is_some()),
                ("decoder", self.decoder.is_some()),
                ("seeds", self.seeds.is_some()),
                ("augmentations_per_case", self.augmentations_per_case.is_some()),
                ("head_weight_decay", self.head_weight_decay.is_some()),
                ("warmup", self.warmup.is_some()),
                ("clip", self.clip.is_some()),
                ("logistic", self.logistic.is_some()),
                ("depth", self.depth.is_some()),
                ("mask_features", self.mask_features.is_some()),
                ("slices", self.slices.is_some()),
                ("size", self.size.is_some()),
            ];
            return match given(&trained).or(given(&lora)) {
                Some(key) => Err(format!("`{key}` is of a backbone and its head, and scalars have neither")),
                None => Ok(()),
            };
        }
        self.options(0, &ViewChange::default(), false).check()
    }

    /// Whether it is computed on a task: neither names others alone.
    pub fn is_of(&self, task: &TaskEntry) -> bool {
        let name = task.row_name();
        self.tasks.as_ref().is_none_or(|tasks| tasks.contains(&name))
            && task.methods.as_ref().is_none_or(|methods| methods.contains(&self.name))
    }

    /// The seeds of its runs.
    pub fn seeds(&self) -> Vec<u64> {
        self.seeds.clone().unwrap_or_else(|| vec![0])
    }

    /// What the views differ in from the plugin's: as this method says, else as the task does.
    pub fn view(&self, task: &ViewChange) -> ViewChange {
        // What a task says is about the views of its own plugin.
        let task = if self.plugin.is_some() { ViewChange::default() } else { task.clone() };
        ViewChange {
            slices: self.slices.or(task.slices),
            size: self.size.or(task.size),
            mask_features: self.mask_features.clone().or(task.mask_features),
            ..task
        }
    }

    /// Options of a training run of this method on a task whose views differ by `view`.
    pub fn options(&self, seed: u64, view: &ViewChange, any_backbone: bool) -> TrainOptions {
        let start = TrainOptions::default();
        let own = self.kind == MethodKind::Plugin;
        let view = self.view(view);
        let augment = self.augment.unwrap_or(Recipe::None);
        let pooling = match self.kind {
            MethodKind::LinearProbe => Some("mean".to_owned()),
            MethodKind::AttentionProbe => Some("attention".to_owned()),
            MethodKind::Frozen | MethodKind::Lora => {
                Some(self.fusion.clone().unwrap_or_else(|| "attention".to_owned()))
            }
            MethodKind::Plugin | MethodKind::Scalars => self.fusion.clone(),
        };
        let variant = Variant {
            adapter: match self.kind {
                MethodKind::Plugin | MethodKind::Scalars => None,
                MethodKind::Lora => Some(AdapterChoice::Lora),
                MethodKind::LinearProbe | MethodKind::AttentionProbe | MethodKind::Frozen => {
                    Some(AdapterChoice::None)
                }
            },
            rank: self.rank,
            alpha: self.alpha,
            first_block: self.first_block,
            depth: self.depth,
            pooling,
            // Tokens inside the mask are patch tokens.
            class_tokens_only: !own && !view.asks_for_cover(),
            any_backbone,
            decoder: self.decoder.clone(),
            view,
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
            logistic: self.logistic,
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

    fn method(kind: MethodKind) -> MethodEntry {
        MethodEntry { kind, ..toml::from_str("name = \"m\"\nkind = \"lora\"").unwrap() }
    }

    #[test]
    fn methods_differ_in_what_is_adapted_and_how_slices_are_pooled() {
        let of = |kind| method(kind).options(3, &ViewChange::default(), false);
        let (linear, lora, own) = (of(MethodKind::LinearProbe), of(MethodKind::Lora), of(MethodKind::Plugin));
        assert_eq!(linear.variant.pooling.as_deref(), Some("mean"));
        assert_eq!((linear.variant.adapter, linear.lambda), (Some(AdapterChoice::None), 0.0));
        assert_eq!(lora.variant.pooling.as_deref(), Some("attention"));
        assert_eq!((lora.variant.adapter, lora.draws), (Some(AdapterChoice::Lora), 1));
        assert_eq!((own.variant, own.lambda, own.seed), (Variant::default(), 1.0, 3));
        let lstm = MethodEntry { fusion: Some("lstm".to_owned()), ..method(MethodKind::Frozen) };
        let lstm = lstm.options(0, &ViewChange::default(), false);
        assert_eq!(
            (lstm.variant.pooling.as_deref(), lstm.variant.adapter),
            (Some("lstm"), Some(AdapterChoice::None))
        );
    }

    #[test]
    fn what_a_method_says_of_views_comes_before_the_tasks_and_another_plugin_has_views_of_its_own() {
        let task = ViewChange { slices: Some(8), size: Some([56, 56]), ..ViewChange::default() };
        let fewer = MethodEntry { slices: Some(4), ..method(MethodKind::Lora) };
        assert_eq!((fewer.view(&task).slices, fewer.view(&task).size), (Some(4), Some([56, 56])));
        let raptor = MethodEntry { plugin: Some("raptor".to_owned()), ..method(MethodKind::Plugin) };
        assert_eq!(raptor.view(&task), ViewChange::default());
    }

    #[test]
    fn a_baseline_that_asks_for_tokens_inside_the_mask_is_given_patch_tokens() {
        let cover = |features| MethodEntry { mask_features: Some(features), ..method(MethodKind::Frozen) };
        let only = |entry: &MethodEntry, task| entry.options(0, task, false).variant.class_tokens_only;
        let (none, inside) = (ViewChange::default(), cover(vec![MaskFeature::Scalars, MaskFeature::Cover]));
        assert!(!only(&inside, &none) && only(&cover(vec![MaskFeature::Scalars]), &none));
        let task = ViewChange { mask_features: inside.mask_features.clone(), ..ViewChange::default() };
        assert!(!only(&method(MethodKind::Frozen), &task) && only(&cover(Vec::new()), &task));
        let mut options = inside.options(0, &none, false);
        options.variant.class_tokens_only = true;
        assert!(options.check().unwrap_err().contains("class-tokens-only"));
    }

    #[test]
    fn keys_that_a_kind_does_not_read_are_refused() {
        let refused = |entry: MethodEntry| entry.check().unwrap_err();
        let with = |kind, change: fn(&mut MethodEntry)| {
            let mut entry = method(kind);
            change(&mut entry);
            refused(entry)
        };
        assert!(with(MethodKind::Scalars, |m| m.epochs = Some(3)).contains("`epochs`"));
        assert!(with(MethodKind::Scalars, |m| m.rank = Some(3)).contains("`rank`"));
        assert!(with(MethodKind::Scalars, |m| m.depth = Some(3)).contains("`depth`"));
        assert!(with(MethodKind::Scalars, |m| m.logistic = Some(3.0)).contains("`logistic`"));
        assert!(
            with(MethodKind::Scalars, |m| m.mask_features = Some(Vec::new())).contains("`mask_features`")
        );
        let fitted = |m: &mut MethodEntry| (m.logistic, m.augment) = (Some(1.0), Some(Recipe::Flips));
        assert!(with(MethodKind::Frozen, fitted).contains("no augmentation"));
        assert!(with(MethodKind::Frozen, |m| m.rank = Some(3)).contains("frozen backbone"));
        assert!(with(MethodKind::Frozen, |m| m.decoder = Some("volume".into())).contains("`decoder`"));
        assert!(
            with(MethodKind::LinearProbe, |m| m.fusion = Some("lstm".into())).contains("kind = \"frozen\"")
        );
        assert!(with(MethodKind::Lora, |m| m.plugin = Some("raptor".into())).contains("`plugin`"));
        assert!(with(MethodKind::Lora, |m| m.seeds = Some(vec![1, 2, 1])).contains("1 twice"));
        assert!(with(MethodKind::Lora, |m| m.tasks = Some(Vec::new())).contains("tasks = []"));
    }
}
