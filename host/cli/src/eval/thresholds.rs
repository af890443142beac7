//! `--threshold`: where positive begins, of one label or of all.

use super::CommandError;
use anymc3d_host::eval::predictions::{ScoredLabel, Scores};

/// `[LABEL=]T`
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ThresholdOption {
    /// `None`: of all labels.
    label: Option<String>,
    threshold: f64,
}

impl std::str::FromStr for ThresholdOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (label, number) = match text.rsplit_once('=') {
            Some((label, number)) => (Some(label.to_owned()), number),
            None => (None, text),
        };
        match number.parse::<f64>() {
            Ok(threshold) if (0.0..=1.0).contains(&threshold) => Ok(Self { label, threshold }),
            _ => Err("expected a probability, 0 to 1, or LABEL=PROBABILITY".to_owned()),
        }
    }
}

fn has_classes(label: &ScoredLabel) -> bool {
    matches!(label.scores, Scores::Classes { .. } | Scores::Values { .. })
}

/// The labels' thresholds, `otherwise` where none is given; of several given the last counts.
///
/// # Errors
/// Wrong usage: a label that is not there, or one with classes.
pub(super) fn of(
    given: &[ThresholdOption],
    labels: &[ScoredLabel],
    otherwise: Vec<f64>,
) -> Result<Vec<f64>, CommandError> {
    let mut thresholds = otherwise;
    for option in given {
        let Some(name) = &option.label else {
            let mut binary = labels.iter().zip(&mut thresholds).filter(|(l, _)| !has_classes(l)).peekable();
            if binary.peek().is_none() {
                return Err(CommandError::usage(format!(
                    "--threshold {}: every label has classes, of which the most probable is the answer",
                    option.threshold
                )));
            }
            binary.for_each(|(_, threshold)| *threshold = option.threshold);
            continue;
        };
        match labels.iter().position(|l| l.name == *name) {
            Some(i) if has_classes(&labels[i]) => {
                return Err(CommandError::usage(format!(
                    "--threshold {name}={}: `{name}` has classes, of which the most probable is the answer",
                    option.threshold
                )));
            }
            Some(i) => thresholds[i] = option.threshold,
            None => {
                let known: Vec<&str> = labels.iter().map(|l| l.name.as_str()).collect();
                return Err(CommandError::usage(format!(
                    "--threshold {name}={}: no label `{name}`; there is: {}",
                    option.threshold,
                    known.join(", ")
                )));
            }
        }
    }
    Ok(thresholds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_of_one_label_or_of_all_and_the_last_counts() {
        let labels: Vec<ScoredLabel> = ["a", "b=c"]
            .map(|name| {
                let scores = Scores::Binary { truth: vec![], probabilities: vec![] };
                ScoredLabel { name: name.into(), scores }
            })
            .to_vec();
        let of = |given: &[&str]| {
            let given: Vec<ThresholdOption> = given.iter().map(|g| g.parse().unwrap()).collect();
            of(&given, &labels, vec![0.5, 0.5]).map_err(|e| e.message)
        };
        assert_eq!(of(&["0.2", "b=c=0.9"]), Ok(vec![0.2, 0.9]));
        assert!(of(&["d=0.1"]).unwrap_err().contains("no label `d`; there is: a, b=c"));
        for wrong in ["1.5", "a=", "NaN", "a=-0.1"] {
            assert!(wrong.parse::<ThresholdOption>().is_err(), "{wrong}");
        }
    }
}
