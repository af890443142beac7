//! Ordinal and regression tasks: between a number on the task's scale and the shares, 0 to 1, that logits and losses speak of.

use crate::{ManifestError, Place, Task, TaskKind};

/// Most steps of an ordinal scale.
const MOST_STEPS: f64 = 50.0;

impl TaskKind {
    /// As it is written in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Multiclass => "multiclass",
            Self::Multilabel => "multilabel",
            Self::Ordinal => "ordinal",
            Self::Regression => "regression",
        }
    }

    /// Whether the task answers with numbers on a scale.
    pub fn has_values(self) -> bool {
        matches!(self, Self::Ordinal | Self::Regression)
    }
}

impl Task {
    /// The ends of the scale; 0 and 1 for tasks without one.
    pub fn scale(&self) -> [f64; 2] {
        self.range.unwrap_or([0.0, 1.0])
    }

    /// What each output says, in their order: labels or classes; of an ordinal task `LABEL > 1`, `LABEL > 2` and so on.
    pub fn output_names(&self) -> Vec<String> {
        match self.kind {
            TaskKind::Ordinal => {
                let (name, low) = (self.labels.first().map_or("", String::as_str), self.scale()[0]);
                (0..self.outputs()).map(|k| format!("{name} > {}", low + k as f64)).collect()
            }
            _ => self.labels.clone(),
        }
    }

    /// How many outputs speak of one label.
    pub fn outputs_per_label(&self) -> usize {
        if self.kind == TaskKind::Ordinal { self.outputs() } else { 1 }
    }

    /// The targets, 0 to 1, of a value on the scale; `None` for a value beyond it.
    ///
    /// Ordinal: for each step k from `low` on, whether the value is above k (cumulative targets, as in Frank and Hall 2001
    /// and in CORAL, arXiv 1901.07884); a value between two levels, such as the mean of readers, gives that step its
    /// share. Regression: the value's share of the range.
    pub fn targets_of(&self, value: f64) -> Option<Vec<f32>> {
        let [low, high] = self.scale();
        if !(low..=high).contains(&value) {
            return None;
        }
        Some(match self.kind {
            TaskKind::Ordinal => {
                (0..self.outputs()).map(|k| (value - low - k as f64).clamp(0.0, 1.0) as f32).collect()
            }
            _ => vec![((value - low) / (high - low)) as f32],
        })
    }

    /// The value on the scale of one label's shares: the inverse of [`Self::targets_of`]. Of probabilities of an ordinal
    /// task it is the expected level.
    pub fn value_of(&self, shares: &[f64]) -> f64 {
        let ([low, high], sum) = (self.scale(), shares.iter().sum::<f64>());
        if self.kind == TaskKind::Ordinal { low + sum } else { low + sum * (high - low) }
    }

    /// The level that an ordinal task answers with: steps that are more probable than not.
    pub fn level_of(&self, probabilities: &[f64]) -> f64 {
        self.scale()[0] + probabilities.iter().filter(|p| **p >= 0.5).count() as f64
    }

    pub(crate) fn check_range(&self) -> Result<(), ManifestError> {
        let refuse = |found: String, expected: &str| {
            Err(ManifestError::Value {
                place: Place::default(),
                key: "task.range".to_owned(),
                found,
                expected: expected.to_owned(),
            })
        };
        match (self.kind.has_values(), self.range) {
            (false, None) => Ok(()),
            (false, Some(_)) => refuse("set".into(), "no value: only ordinal and regression tasks read it"),
            (true, None) => refuse("missing".into(), "[lowest, highest] value of the labels"),
            (true, Some([low, high])) if !(low.is_finite() && high.is_finite() && low < high) => {
                refuse(format!("[{low}, {high}]"), "[lowest, highest] with lowest < highest")
            }
            (true, Some([low, high])) if self.kind == TaskKind::Ordinal => {
                let whole = low.fract() == 0.0 && high.fract() == 0.0 && high - low <= MOST_STEPS;
                match whole {
                    true => Ok(()),
                    false => refuse(format!("[{low}, {high}]"), "whole numbers, at most 50 steps apart"),
                }
            }
            (true, Some(_)) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Manifest;

    fn task(kind: &str, labels: &str, more: &str) -> Result<crate::Task, String> {
        let text = format!(
            "schema = 1\n[plugin]\nname = \"toy\"\nversion = \"0.1.0\"\nsummary = \"A toy.\"\nlicense = \"-\"\n\
             intended_use = \"Tests.\"\n[task]\nkind = \"{kind}\"\nlabels = [{labels}]\nloss = {{ kind = \"bce\" }}\n{more}\n\
             [backbone]\nfamilies = [\"dinov2\"]\n[[view]]\nname = \"axial\"\nmodality = \"CT\"\naxis = \"axial\"\n\
             slices = 2\nsize = [28, 28]\nintensity = {{ kind = \"window\", windows = [[0, 1]] }}\n"
        );
        Manifest::parse_strict(&text).map(|m| m.task).map_err(|e| e.to_string())
    }

    #[test]
    fn values_come_back_from_their_targets_on_both_scales() {
        let ordinal = task("ordinal", "\"round\"", "range = [1, 5]").unwrap();
        assert_eq!(ordinal.outputs(), 4);
        assert_eq!(ordinal.output_names(), ["round > 1", "round > 2", "round > 3", "round > 4"]);
        assert_eq!(ordinal.targets_of(3.0), Some(vec![1.0, 1.0, 0.0, 0.0]));
        assert_eq!(ordinal.targets_of(3.5), Some(vec![1.0, 1.0, 0.5, 0.0]));
        let regression = task("regression", "\"a\", \"b\"", "range = [-10, 30]").unwrap();
        assert_eq!((regression.outputs(), regression.targets_of(0.0)), (2, Some(vec![0.25])));
        for task in [ordinal, regression] {
            let [low, high] = task.scale();
            for i in 0..=20 {
                let value = low + (high - low) * f64::from(i) / 20.0;
                let shares: Vec<f64> = task.targets_of(value).unwrap().into_iter().map(f64::from).collect();
                assert!((task.value_of(&shares) - value).abs() < 1e-5);
            }
            assert_eq!((task.targets_of(low - 0.1), task.targets_of(high + 0.1)), (None, None));
            assert_eq!(task.targets_of(f64::NAN), None);
        }
    }

    #[test]
    fn a_scale_is_given_where_there_is_one_and_makes_sense() {
        assert!(task("ordinal", "\"a\"", "").unwrap_err().contains("task.range"));
        assert!(
            task("binary", "\"a\"", "range = [1, 5]").unwrap_err().contains("only ordinal and regression")
        );
        for wrong in ["[5, 1]", "[1, 1]", "[0, nan]", "[1, 5.5]", "[0, 1000]"] {
            assert!(task("ordinal", "\"a\"", &format!("range = {wrong}")).is_err(), "{wrong}");
        }
        assert!(task("regression", "\"a\"", "range = [0, 0.5]").is_ok());
        assert!(task("ordinal", "\"a\", \"b\"", "range = [1, 5]").unwrap_err().contains("one label"));
    }
}
