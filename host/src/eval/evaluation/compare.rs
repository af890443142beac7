//! Two models on the same cases.

use crate::eval::metrics::{auroc, fold_auroc, fold_paired_delong, paired_delong};
use crate::eval::predictions::{Predictions, ScoredLabel, Scores};
use serde::Serialize;
use std::collections::HashMap;

/// One label's paired test; what the cases do not define is null.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Comparison {
    /// Area of the first.
    pub auroc_a: Option<f64>,
    /// Area of the second.
    pub auroc_b: Option<f64>,
    /// `(a - b)` over its standard error (DeLong).
    pub z: Option<f64>,
    /// Two-sided.
    pub p_value: Option<f64>,
    /// Folds with both classes, where areas and test are within folds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folds: Option<usize>,
}

/// One per label, in order; as JSON an object by label.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Comparisons(#[serde(serialize_with = "super::as_map")] pub Vec<(String, Comparison)>);

/// `b` with its cases and labels in the order of `a`'s.
///
/// # Errors
/// One line naming the first difference: a label, a case, a truth.
pub fn same_cases(a: &Predictions, b: &Predictions) -> Result<Predictions, String> {
    let (at_a, at_b) = (a.path.display(), b.path.display());
    let differ = |what: String| Err(format!("the files are not of the same cases: {what}"));
    let missing = |of: &Predictions, among: &Predictions| -> Option<String> {
        let gone = of.labels.iter().find(|l| among.labels.iter().all(|other| other.name != l.name))?;
        Some(format!("label `{}` is in {} and not in {}", gone.name, of.path.display(), among.path.display()))
    };
    if let Some(what) = missing(a, b).or_else(|| missing(b, a)) {
        return differ(what);
    }
    let of_a: HashMap<&str, u64> = a.cases.iter().map(|c| (c.case.as_str(), c.line)).collect();
    let of_b: HashMap<&str, usize> = b.cases.iter().enumerate().map(|(i, c)| (c.case.as_str(), i)).collect();
    if let Some(case) = a.cases.iter().find(|c| !of_b.contains_key(c.case.as_str())) {
        return differ(format!("case `{}` is on line {} of {at_a} and not in {at_b}", case.case, case.line));
    }
    if let Some(case) = b.cases.iter().find(|c| !of_a.contains_key(c.case.as_str())) {
        return differ(format!("case `{}` is on line {} of {at_b} and not in {at_a}", case.case, case.line));
    }
    let order: Vec<usize> = a.cases.iter().map(|c| of_b[c.case.as_str()]).collect();
    for (x, y) in a.cases.iter().zip(order.iter().map(|&i| &b.cases[i])) {
        if let (Some(ours), Some(theirs)) = (&x.fold, &y.fold)
            && ours != theirs
        {
            return differ(format!(
                "case `{}` is of fold {ours} on line {} of {at_a} and of fold {theirs} on line {} of {at_b}",
                x.case, x.line, y.line
            ));
        }
    }
    let mut labels = Vec::new();
    for label in &a.labels {
        let Some(other) = b.labels.iter().find(|l| l.name == label.name) else { continue };
        let scores = in_order(label, other, &order).map_err(|e| e.describe(&label.name, a, b, &order))?;
        labels.push(ScoredLabel { name: label.name.clone(), scores });
    }
    let cases = order.iter().map(|&i| b.cases[i].clone()).collect();
    Ok(Predictions {
        path: b.path.clone(),
        cases,
        labels,
        ignored: b.ignored.clone(),
        notes: b.notes.clone(),
    })
}

/// What is not the same of a label.
enum Difference {
    Kind,
    Classes,
    /// Index of the case among the first file's, and both truths.
    Truth(usize, String, String),
}

impl Difference {
    fn describe(self, label: &str, a: &Predictions, b: &Predictions, order: &[usize]) -> String {
        let (at_a, at_b) = (a.path.display(), b.path.display());
        match self {
            Self::Kind => {
                format!("label `{label}` has classes in one of {at_a} and {at_b} and none in the other")
            }
            Self::Classes => format!("label `{label}` has other classes in {at_a} than in {at_b}"),
            Self::Truth(case, x, y) => format!(
                "the files are not of the same cases: case `{}`: label `{label}` is {x} on line {} of {at_a} and {y} on line {} of {at_b}",
                a.cases[case].case, a.cases[case].line, b.cases[order[case]].line
            ),
        }
    }
}

/// The second's scores in the order of the first's cases and classes.
fn in_order(a: &ScoredLabel, b: &ScoredLabel, order: &[usize]) -> Result<Scores, Difference> {
    let word = |known: Option<String>| known.unwrap_or_else(|| "unknown".to_owned());
    match (&a.scores, &b.scores) {
        (Scores::Binary { truth: first, .. }, Scores::Binary { truth, probabilities }) => {
            let truth: Vec<Option<bool>> = order.iter().map(|&i| truth[i]).collect();
            if let Some(i) = (0..order.len()).find(|&i| truth[i] != first[i]) {
                let said = |t: Option<bool>| word(t.map(|t| u8::from(t).to_string()));
                return Err(Difference::Truth(i, said(first[i]), said(truth[i])));
            }
            Ok(Scores::Binary { truth, probabilities: order.iter().map(|&i| probabilities[i]).collect() })
        }
        (
            Scores::Classes { classes, truth: first, .. },
            Scores::Classes { classes: theirs, truth, probabilities },
        ) => {
            let place: Option<Vec<usize>> =
                classes.iter().map(|c| theirs.iter().position(|t| t == c)).collect();
            let place = place.filter(|p| p.len() == theirs.len()).ok_or(Difference::Classes)?;
            let ours = |class: usize| place.iter().position(|p| *p == class);
            let truth: Vec<Option<usize>> = order.iter().map(|&i| truth[i].and_then(ours)).collect();
            if let Some(i) = (0..order.len()).find(|&i| truth[i] != first[i]) {
                let said = |t: Option<usize>| word(t.map(|t| format!("`{}`", classes[t])));
                return Err(Difference::Truth(i, said(first[i]), said(truth[i])));
            }
            let row = |&i: &usize| place.iter().map(|&p| probabilities[i][p]).collect();
            Ok(Scores::Classes {
                classes: classes.clone(),
                truth,
                probabilities: order.iter().map(row).collect(),
            })
        }
        _ => Err(Difference::Kind),
    }
}

/// DeLong's paired test of each question (a class against the rest, of a multi-class label). `b` as [`same_cases`] gave
/// it.
///
/// Where one of the files has folds, areas and test are within folds: an area that mixes the scales of several models is
/// no property of any.
///
/// The test takes cases as independent; with many cases of few patients its p is too small.
pub fn compare(a: &Predictions, b: &Predictions) -> Vec<(String, Comparison)> {
    let of = |p: &Predictions| super::questions(p, &vec![0.5; p.labels.len()]);
    of(a)
        .into_iter()
        .zip(of(b))
        .map(|(a, b)| {
            let folds = if a.folds.is_empty() { &b.folds } else { &a.folds };
            let within = |scores: &[f64]| fold_auroc(&a.truth, scores, folds);
            let area = |scores: &[f64]| match folds.is_empty() {
                true => auroc(&a.truth, scores).map(|area| area.value),
                false => within(scores).map(|found| found.area.value),
            };
            let test = match folds.is_empty() {
                true => paired_delong(&a.truth, &a.probabilities, &b.probabilities),
                false => fold_paired_delong(&a.truth, &a.probabilities, &b.probabilities, folds),
            };
            // Different areas without any variance: the normal approximation has nothing to say.
            let test = test.filter(|t| t.z.is_finite());
            let comparison = Comparison {
                auroc_a: area(&a.probabilities),
                auroc_b: area(&b.probabilities),
                z: test.map(|t| t.z),
                p_value: test.map(|t| t.p_value),
                folds: (!folds.is_empty()).then(|| within(&a.probabilities).map_or(0, |f| f.folds)),
            };
            (a.name, comparison)
        })
        .collect()
}
