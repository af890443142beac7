//! What several models said of the same cases, as one.

use super::{Predictions, Scores};

impl Predictions {
    /// The mean of several models' probabilities (of numbers: of their values) for the same cases, in the same order. `None`
    /// where there are none, or cases or labels differ.
    pub fn mean(all: &[Self]) -> Option<Self> {
        let mut mean = all.first()?.clone();
        let same = |other: &Self| {
            let names =
                |p: &Self| p.cases.iter().map(|c| (c.case.clone(), c.fold.clone())).collect::<Vec<_>>();
            names(other) == names(&mean) && other.labels.len() == mean.labels.len()
        };
        if !all.iter().all(same) {
            return None;
        }
        for (i, label) in mean.labels.iter_mut().enumerate() {
            let others = all.iter().map(|p| &p.labels[i]);
            if others.clone().any(|other| other.name != label.name) {
                return None;
            }
            let of = |scores: &Scores| match scores {
                Scores::Binary { probabilities: p, .. } | Scores::Values { predicted: p, .. } => {
                    vec![p.clone()]
                }
                Scores::Classes { probabilities, .. } => probabilities.clone(),
            };
            let rows: Vec<Vec<Vec<f64>>> = others.map(|other| of(&other.scores)).collect();
            let at = |row: usize, column: usize| -> Option<f64> {
                let sum: Option<f64> = rows.iter().map(|r| r.get(row)?.get(column).copied()).sum();
                Some(sum? / rows.len() as f64)
            };
            match &mut label.scores {
                Scores::Binary { probabilities: p, .. } | Scores::Values { predicted: p, .. } => {
                    for (case, p) in p.iter_mut().enumerate() {
                        *p = at(0, case)?;
                    }
                }
                Scores::Classes { probabilities, .. } => {
                    for (case, row) in probabilities.iter_mut().enumerate() {
                        for (class, p) in row.iter_mut().enumerate() {
                            *p = at(case, class)?;
                        }
                    }
                }
            }
        }
        Some(mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::predictions::{ScoredCase, ScoredLabel};

    fn said(names: &[&str], probabilities: Vec<f64>) -> Predictions {
        let case = |name: &&str| ScoredCase {
            case: (*name).to_owned(),
            patient: None,
            fold: None,
            group: None,
            line: 0,
        };
        let truth = vec![Some(true); names.len()];
        let scores = Scores::Binary { truth, probabilities };
        Predictions {
            path: "p.csv".into(),
            cases: names.iter().map(case).collect(),
            labels: vec![ScoredLabel { name: "a".into(), scores }],
            ignored: Vec::new(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn the_mean_is_of_the_same_cases_alone() {
        let (a, b) = (said(&["x", "y"], vec![0.25, 1.0]), said(&["x", "y"], vec![0.75, 0.5]));
        let mean = Predictions::mean(&[a.clone(), b]).unwrap();
        assert_eq!(mean.labels, said(&["x", "y"], vec![0.5, 0.75]).labels);
        assert_eq!(Predictions::mean(std::slice::from_ref(&a)), Some(a.clone()));
        assert_eq!(Predictions::mean(&[a, said(&["y", "x"], vec![0.5, 0.5])]), None);
        assert_eq!(Predictions::mean(&[]), None);
    }
}
