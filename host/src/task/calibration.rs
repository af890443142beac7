//! What validation cases taught about a task's logits: the temperature that makes probabilities of them, and where
//! positive begins. Stored with the weights.

use anymc3d_manifest::{Task, TaskKind};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Temperatures and thresholds that were fitted on validation cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// What a logit is divided by before sigmoid or softmax: one per label, of a multi-class task a single one. Null was
    /// not fitted and is 1.
    pub temperatures: Vec<Option<f64>>,
    /// Positive is `p >= threshold`, p calibrated: one per label, of a multi-class task none. Null was not fitted.
    pub thresholds: Vec<Option<f64>>,
    /// The cases, never to be judged by what was fitted on them.
    pub fitted_on: FittedOn,
}

/// Which cases something was fitted on, without telling who they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FittedOn {
    /// How many.
    pub cases: usize,
    /// SHA-256 of their names, sorted, each followed by a line break.
    pub cases_sha256: String,
}

impl FittedOn {
    /// Of the cases with these names, in any order.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut names: Vec<&str> = names.into_iter().collect();
        names.sort_unstable();
        let mut digest = Sha256::new();
        for name in &names {
            digest.update(name.as_bytes());
            digest.update(b"\n");
        }
        Self { cases: names.len(), cases_sha256: crate::fs::hex(&digest.finalize()) }
    }
}

impl Calibration {
    /// What output `index` is divided by.
    pub fn temperature(&self, kind: TaskKind, index: usize) -> Option<f64> {
        let index = if kind == TaskKind::Multiclass { 0 } else { index };
        self.temperatures.get(index).copied().flatten()
    }

    /// Where label `index` begins to be positive.
    pub fn threshold(&self, index: usize) -> Option<f64> {
        self.thresholds.get(index).copied().flatten()
    }

    /// Refuses a calibration of another task, or with impossible values.
    ///
    /// # Errors
    /// One line: what was found, what was expected.
    pub fn check(&self, task: &Task) -> Result<(), String> {
        let labels = task.outputs();
        let (temperatures, thresholds) = match task.kind {
            TaskKind::Multiclass => (1, 0),
            TaskKind::Binary | TaskKind::Multilabel | TaskKind::Ordinal => (labels, labels),
            TaskKind::Regression => (labels, 0),
        };
        let found = (self.temperatures.len(), self.thresholds.len());
        if found != (temperatures, thresholds) {
            return Err(format!(
                "calibration with {} temperatures and {} thresholds, expected {temperatures} and {thresholds}",
                found.0, found.1
            ));
        }
        if let Some(t) = self.temperatures.iter().flatten().find(|t| !(t.is_finite() && **t > 0.0)) {
            return Err(format!("calibration with temperature {t}, expected a number above 0"));
        }
        match self.thresholds.iter().flatten().find(|t| !(0.0..=1.0).contains(*t)) {
            Some(t) => Err(format!("calibration with threshold {t}, expected a probability, 0 to 1")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_cases_are_known_again_in_any_order() {
        assert_eq!(FittedOn::of(["a", "b"]), FittedOn::of(["b", "a"]));
        assert_ne!(FittedOn::of(["a", "b"]), FittedOn::of(["ab"]));
    }

    #[test]
    fn one_temperature_serves_all_classes_and_each_label_has_its_own() {
        let fitted_on = FittedOn::of(["a"]);
        let one = Calibration { temperatures: vec![Some(2.0)], thresholds: vec![], fitted_on };
        assert_eq!(one.temperature(TaskKind::Multiclass, 3), Some(2.0));
        assert_eq!(one.temperature(TaskKind::Multilabel, 3), None);
    }
}
