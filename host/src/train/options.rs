//! What may be chosen for a training run, with the paper's values as defaults.

use super::augment::Recipe;
use crate::task::{Variant, WeightsInfo};
use serde::{Deserialize, Serialize};

/// Options of a training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainOptions {
    /// Passes over the training cases.
    pub epochs: usize,
    /// Cases per step; their gradients are averaged.
    pub batch: usize,
    /// Peak learning rate of the adapter (paper: 1e-4).
    pub lr: f64,
    /// Peak learning rate of head and segmentation branch (paper: 1e-3).
    pub head_lr: f64,
    /// Weight decay of the adapter (paper: 1e-5).
    pub weight_decay: f64,
    /// Weight decay of head and segmentation branch (paper: 1e-4).
    pub head_weight_decay: f64,
    /// Weight λ of the segmentation loss on cases that have a mask.
    pub lambda: f64,
    /// Fit the head's linear layer at once, by logistic regression with this penalty, instead of training in steps.
    #[serde(default)]
    pub logistic: Option<f64>,
    /// Share of the steps in which the learning rate rises.
    pub warmup: f64,
    /// What is changed in the training cases (left and right are never swapped where a label names a side).
    pub augment: Recipe,
    /// Draws of the augmentation kept per case: epochs choose among them, so a frozen prefix is computed this often.
    pub draws: usize,
    /// Longest gradient of a step, all parameters together; longer ones are shortened to it. 0: never.
    pub clip: f64,
    /// Epochs without a better validation AUROC after which a run ends; 0: never before its time.
    pub patience: usize,
    /// Share of the cases held out where the table names no split.
    pub val_fraction: f64,
    /// What differs from the plugin's own adapter, pooling and loss.
    pub variant: Variant,
    /// Seed of initialisation, order, split and augmentation.
    pub seed: u64,
}

impl TrainOptions {
    /// Checks that every number can be.
    ///
    /// # Errors
    /// `OPTION VALUE: expected …` of the first that cannot, by the option's name on the command line.
    pub fn check(&self) -> Result<(), String> {
        let refuse =
            |option: &str, found: f64, expected: &str| Err(format!("{option} {found}: expected {expected}"));
        let whole = [("epochs", self.epochs), ("batch", self.batch), ("augmentations-per-case", self.draws)];
        if let Some((option, _)) = whole.iter().find(|(_, n)| *n == 0) {
            return refuse(option, 0.0, "1 or more");
        }
        let positive = [("lr", self.lr), ("head-lr", self.head_lr)];
        if let Some((option, v)) = positive.iter().find(|(_, v)| !(v.is_finite() && *v > 0.0)) {
            return refuse(option, *v, "a number above 0");
        }
        let not_negative = [
            ("weight-decay", self.weight_decay),
            ("head-weight-decay", self.head_weight_decay),
            ("lambda", self.lambda),
            ("clip", self.clip),
        ];
        if let Some((option, v)) = not_negative.iter().find(|(_, v)| !(v.is_finite() && *v >= 0.0)) {
            return refuse(option, *v, "a number of 0 or more");
        }
        if let Some(penalty) = self.logistic.filter(|v| !(v.is_finite() && *v > 0.0)) {
            return refuse("logistic", penalty, "a penalty above 0");
        }
        if let (Some(penalty), true) = (self.logistic, self.augment != Recipe::None) {
            return refuse(
                "logistic",
                penalty,
                "no augmentation (--augment none): it is fitted to the unchanged cases",
            );
        }
        if self.variant.class_tokens_only && self.variant.view.asks_for_cover() {
            return Err(
                "mask-features cover: expected patch tokens, and class-tokens-only leaves none".to_owned()
            );
        }
        if !(0.0..=1.0).contains(&self.warmup) {
            return refuse("warmup", self.warmup, "a share, 0 to 1");
        }
        if !(self.val_fraction > 0.0 && self.val_fraction < 1.0) {
            return refuse("val-fraction", self.val_fraction, "a share between 0 and 1");
        }
        Ok(())
    }
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            epochs: 20,
            batch: 4,
            lr: 1e-4,
            head_lr: 1e-3,
            weight_decay: 1e-5,
            head_weight_decay: 1e-4,
            lambda: 1.0,
            logistic: None,
            warmup: 0.1,
            augment: Recipe::Full,
            draws: 4,
            clip: 0.0,
            patience: 0,
            val_fraction: 0.2,
            variant: Variant::default(),
            seed: 0,
        }
    }
}

impl TrainOptions {
    /// Takes over the adapter of the weights that a run starts from, and their pooling where no other is asked for.
    ///
    /// # Errors
    /// One line, where another adapter, rank, alpha or first block is asked for.
    pub fn start_from(&mut self, weights: &WeightsInfo) -> Result<(), String> {
        let (asked, start) = (&mut self.variant, &weights.variant);
        let of = |v: &Variant| (v.adapter, v.rank, v.alpha, v.first_block);
        if of(asked) != (None, None, None, None) && of(asked) != of(start) {
            return Err(
                "adapter, rank, alpha and first block are those of the weights that the run starts from"
                    .to_owned(),
            );
        }
        (asked.adapter, asked.rank, asked.alpha, asked.first_block) = of(start);
        asked.depth = asked.depth.or(start.depth);
        if asked.pooling.is_none() {
            asked.pooling.clone_from(&start.pooling);
        }
        Ok(())
    }
}
