//! The library's training options from those of the command line; numbers that cannot be are refused by option.

use super::{AugmentOption, Train};
use crate::outcome::CommandError;
use anymc3d_host::train::{Recipe, TrainOptions};

impl Train {
    pub(super) fn options(&self, outputs: usize) -> Result<TrainOptions, CommandError> {
        let refuse = |option: &str, found: f64, expected: &str| {
            Err(CommandError::usage(format!("--{option} {found}: expected {expected}")))
        };
        let whole = [
            ("epochs", self.epochs),
            ("batch", self.batch),
            ("augmentations-per-case", self.augmentations_per_case),
        ];
        if let Some((option, _)) = whole.iter().find(|(_, n)| *n == 0) {
            return refuse(option, 0.0, "1 or more");
        }
        let positive = [("lr", self.lr), ("head-lr", self.head_lr)];
        if let Some((option, v)) = positive.iter().find(|(_, v)| !(v.is_finite() && *v > 0.0)) {
            return refuse(option, *v, "a number above 0");
        }
        let decays = [("weight-decay", self.weight_decay), ("head-weight-decay", self.head_weight_decay)];
        let [a, b] = decays;
        let not_negative =
            [a, b, ("lambda", self.lambda), ("cache-size", self.cache_size), ("clip", self.clip)];
        if let Some((option, v)) = not_negative.iter().find(|(_, v)| !(v.is_finite() && *v >= 0.0)) {
            return refuse(option, *v, "a number of 0 or more");
        }
        if !(0.0..=1.0).contains(&self.warmup) {
            return refuse("warmup", self.warmup, "a share, 0 to 1");
        }
        if !(self.val_fraction > 0.0 && self.val_fraction < 1.0) {
            return refuse("val-fraction", self.val_fraction, "a share between 0 and 1");
        }
        Ok(TrainOptions {
            epochs: self.epochs,
            batch: self.batch,
            lr: self.lr,
            head_lr: self.head_lr,
            weight_decay: self.weight_decay,
            head_weight_decay: self.head_weight_decay,
            lambda: self.lambda,
            warmup: self.warmup,
            // The first variant is the unchanged case: with one variant there is no augmentation, and the record says that.
            augment: if self.augmentations_per_case == 1 { Recipe::None } else { self.augment.into() },
            draws: if matches!(self.augment, AugmentOption::None) { 1 } else { self.augmentations_per_case },
            clip: self.clip,
            patience: self.patience,
            val_fraction: self.val_fraction,
            variant: self.ablation.variant(outputs).map_err(CommandError::usage)?,
            seed: self.seed,
        })
    }
}
