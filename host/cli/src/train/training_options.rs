//! The library's training options from those of the command line; numbers that cannot be are refused by option.

use super::{AugmentOption, Train};
use crate::outcome::CommandError;
use anymc3d_host::train::{Recipe, TrainOptions};

impl Train {
    pub(super) fn options(&self, outputs: usize) -> Result<TrainOptions, CommandError> {
        if self.augmentations_per_case == 0 {
            return Err(CommandError::usage("--augmentations-per-case 0: expected 1 or more"));
        }
        let options = TrainOptions {
            epochs: self.epochs,
            batch: self.batch,
            lr: self.lr,
            head_lr: self.head_lr,
            weight_decay: self.weight_decay,
            head_weight_decay: self.head_weight_decay,
            lambda: self.lambda,
            logistic: self.logistic,
            warmup: self.warmup,
            // The first variant is the unchanged case: with one variant there is no augmentation, and the record says that.
            augment: if self.augmentations_per_case == 1 { Recipe::None } else { self.augment.into() },
            draws: if matches!(self.augment, AugmentOption::None) { 1 } else { self.augmentations_per_case },
            clip: self.clip,
            patience: self.patience,
            val_fraction: self.val_fraction,
            variant: self.ablation.variant(outputs).map_err(CommandError::usage)?,
            seed: self.seed,
        };
        options.check().map_err(|e| CommandError::usage(format!("--{e}")))?;
        Ok(options)
    }
}
