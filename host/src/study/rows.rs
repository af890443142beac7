//! The rows of a study's table: a task's label by a backbone and a method, beside the baseline.

use super::cell::DoneCell;
use super::measure::ScanCost;
use crate::eval::evaluation::{compare, metrics_of, questions, same_cases};
use crate::eval::predictions::{Predictions, Question};
use serde::Serialize;

/// What came of a cell.
pub(crate) struct CellOutcome {
    /// What each seed said of the test cases.
    pub seeds: Vec<Predictions>,
    /// The mean of them.
    pub mean: Predictions,
    /// Trained numbers of a run.
    pub parameters: Option<usize>,
    pub cost: Option<ScanCost>,
    /// Of training, all runs together.
    pub seconds: Option<f64>,
}

impl CellOutcome {
    /// Seeds score the same cases, in the table's order.
    pub(super) fn of(done: DoneCell) -> Self {
        let DoneCell { record, seeds } = done;
        let mean = Predictions::mean(&seeds).unwrap_or_else(|| seeds[0].clone());
        let seconds = record.runs.iter().map(|run| run.seconds).sum();
        Self { mean, seeds, parameters: Some(record.parameters), cost: record.cost, seconds: Some(seconds) }
    }
}

/// Why there are no figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoFigures {
    /// What was tried did not work.
    Failed(String),
    /// Nobody has run it yet.
    NotRun(String),
}

impl NoFigures {
    pub fn reason(&self) -> String {
        match self {
            Self::Failed(reason) => reason.clone(),
            Self::NotRun(reason) => format!("not run: {reason}"),
        }
    }
}

/// A cell, or why it has no figures.
pub(crate) type Outcome = Result<Box<CellOutcome>, NoFigures>;

/// One label of a task, by a backbone and a method.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StudyRow {
    /// As the study file calls it.
    pub task: String,
    /// The label, of a multi-class task `class.NAME`; empty where the cell failed before its labels were scored.
    pub label: String,
    /// As the study file calls it.
    pub backbone: String,
    /// As the study file calls it.
    pub method: String,
    /// Test cases whose label is known.
    pub cases: usize,
    /// How many of them are positive.
    pub positives: usize,
    /// Area under the ROC curve of the seeds' mean probability; within folds where there are folds.
    pub auroc: Option<f64>,
    /// DeLong's 95 % interval; of an area of 0 or 1 the exact one.
    pub auroc_ci95: Option<[f64; 2]>,
    /// Standard deviation of the seeds' own areas, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auroc_seed_sd: Option<f64>,
    /// Area minus the baseline's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<f64>,
    /// DeLong's paired test against the baseline, two-sided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_value: Option<f64>,
    /// The same after Holm's correction for all tests of the study.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_holm: Option<f64>,
    /// Whether it is its task's baseline.
    pub baseline: bool,
    /// Trained numbers.
    pub parameters: Option<usize>,
    /// Time and memory of a scan.
    pub cost: Option<ScanCost>,
    /// Why there are no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// A backbone and a method over all tasks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OverallRow {
    /// As the study file calls it.
    pub backbone: String,
    /// As the study file calls it.
    pub method: String,
    /// Mean of the areas of all labels of all tasks; absent unless all have one.
    pub mean_auroc: Option<f64>,
    /// Its place among the others where areas are compared label by label, the mean of them; 1 is the best. Absent as above.
    pub mean_rank: Option<f64>,
}

/// Names of a cell.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names<'a> {
    pub task: &'a str,
    pub backbone: &'a str,
    pub method: &'a str,
}

impl StudyRow {
    fn empty(names: Names<'_>, baseline: bool) -> Self {
        Self {
            task: names.task.to_owned(),
            label: String::new(),
            backbone: names.backbone.to_owned(),
            method: names.method.to_owned(),
            cases: 0,
            positives: 0,
            auroc: None,
            auroc_ci95: None,
            auroc_seed_sd: None,
            difference: None,
            p_value: None,
            p_holm: None,
            baseline,
            parameters: None,
            cost: None,
            failed: None,
        }
    }
}

/// The rows of a cell beside its task's baseline. `p_holm` is filled in by [`holm`].
pub(super) fn of_cell(
    names: Names<'_>,
    outcome: &Outcome,
    baseline: Option<&CellOutcome>,
    is_baseline: bool,
) -> Vec<StudyRow> {
    let empty = StudyRow::empty(names, is_baseline);
    let cell = match outcome {
        Ok(cell) => cell,
        Err(none) => return vec![StudyRow { failed: Some(none.reason()), ..empty }],
    };
    let of_seeds: Vec<Vec<Question>> = cell.seeds.iter().map(asked).collect();
    let tests = baseline.filter(|_| !is_baseline).and_then(|base| {
        let other = same_cases(&cell.mean, &base.mean).ok()?;
        Some(compare(&cell.mean, &other))
    });
    let row = |(i, q): (usize, &Question)| {
        let figures = metrics_of(q);
        let areas: Vec<f64> = of_seeds.iter().filter_map(|seed| metrics_of(&seed[i]).auroc).collect();
        let test = tests.as_ref().map(|tests| &tests[i].1);
        StudyRow {
            label: q.name.clone(),
            cases: figures.n,
            positives: figures.positives,
            auroc: figures.auroc,
            auroc_ci95: figures.auroc_ci95_exact.or(figures.auroc_ci95),
            auroc_seed_sd: deviation(&areas),
            difference: test.and_then(|t| Some(t.auroc_a? - t.auroc_b?)),
            p_value: test.and_then(|t| t.p_value),
            parameters: cell.parameters,
            cost: cell.cost,
            ..empty.clone()
        }
    };
    asked(&cell.mean).iter().enumerate().map(row).collect()
}

/// What scored cases answer, at a threshold of a half.
pub(crate) fn asked(predictions: &Predictions) -> Vec<Question> {
    questions(predictions, &vec![0.5; predictions.labels.len()])
}

/// Standard deviation of several values, with n - 1.
pub(crate) fn deviation(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt())
}

/// Holm's correction over every test that the rows have.
pub(super) fn holm(rows: &mut [StudyRow]) {
    let corrected = holm_corrected(&rows.iter().map(|row| row.p_value).collect::<Vec<_>>());
    rows.iter_mut().zip(corrected).for_each(|(row, p)| row.p_holm = p);
}

/// Holm's step-down correction (Scand J Stat 6:65, 1979) of the tests that there are.
pub(crate) fn holm_corrected(p_values: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut tests: Vec<(usize, f64)> =
        p_values.iter().enumerate().filter_map(|(i, p)| Some((i, (*p)?))).collect();
    tests.sort_by(|a, b| a.1.total_cmp(&b.1));
    let (mut least, mut corrected): (f64, _) = (0.0, vec![None; p_values.len()]);
    for (rank, (i, p)) in tests.iter().enumerate() {
        least = least.max((p * (tests.len() - rank) as f64).min(1.0));
        corrected[*i] = Some(least);
    }
    corrected
}

/// A row for each backbone and method, in the order in which they come.
pub(super) fn overall(rows: &[StudyRow]) -> Vec<OverallRow> {
    let mut labels: Vec<(&str, &str)> = Vec::new();
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for row in rows {
        let (label, pair) =
            ((row.task.as_str(), row.label.as_str()), (row.backbone.as_str(), row.method.as_str()));
        if row.failed.is_none() && !labels.contains(&label) {
            labels.push(label);
        }
        if !pairs.contains(&pair) {
            pairs.push(pair);
        }
    }
    let of = |(task, label): (&str, &str), (backbone, method): (&str, &str)| -> Option<f64> {
        let here = |r: &&StudyRow| {
            r.task == task && r.label == label && r.backbone == backbone && r.method == method
        };
        rows.iter().find(here)?.auroc
    };
    // A task of which no cell has figures is missing in all of them.
    let tasks = |all: &mut dyn Iterator<Item = &str>| all.collect::<std::collections::BTreeSet<_>>().len();
    let all_there =
        tasks(&mut rows.iter().map(|r| r.task.as_str())) == tasks(&mut labels.iter().map(|l| l.0));
    let areas =
        |pair: (&str, &str)| -> Option<Vec<f64>> { labels.iter().map(|label| of(*label, pair)).collect() };
    let complete: Vec<Vec<f64>> = pairs.iter().filter_map(|pair| areas(*pair)).collect();
    let rank = |label: usize, area: f64| {
        let others = complete.iter().map(|a| a[label]);
        let (above, same) =
            others.fold((0, 0), |(a, s), v| (a + usize::from(v > area), s + usize::from(v == area)));
        above as f64 + (same as f64 + 1.0) / 2.0
    };
    let row = |pair: &(&str, &str)| {
        let found = areas(*pair).filter(|a| all_there && !a.is_empty());
        let mean = |of: &dyn Fn(usize, f64) -> f64| {
            let found = found.as_ref()?;
            Some(found.iter().enumerate().map(|(i, a)| of(i, *a)).sum::<f64>() / found.len() as f64)
        };
        OverallRow {
            backbone: pair.0.to_owned(),
            method: pair.1.to_owned(),
            mean_auroc: mean(&|_, area| area),
            mean_rank: mean(&|label, area| rank(label, area)),
        }
    };
    pairs.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(task: &str, backbone: &str, auroc: Option<f64>, p_value: Option<f64>) -> StudyRow {
        let empty = StudyRow::empty(Names { task, backbone, method: "m" }, false);
        let failed = auroc.is_none().then(|| "a reason".to_owned());
        let label = if failed.is_some() { String::new() } else { "l".to_owned() };
        StudyRow { auroc, p_value, failed, label, ..empty }
    }

    #[test]
    fn holms_correction_is_that_of_statsmodels() {
        // statsmodels.stats.multitest.multipletests([0.01, 0.04, 0.03, 0.005], method="holm")
        let mut rows: Vec<StudyRow> =
            [0.01, 0.04, 0.03, 0.005].map(|p| row("t", "b", Some(0.5), Some(p))).to_vec();
        rows.insert(1, row("t", "b", Some(0.5), None));
        holm(&mut rows);
        let found: Vec<Option<f64>> = rows.iter().map(|r| r.p_holm).collect();
        let expected = [Some(0.03), None, Some(0.06), Some(0.06), Some(0.02)];
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found.unwrap_or(-1.0) - expected.unwrap_or(-1.0)).abs() < 1e-12,
                "{found:?} {expected:?}"
            );
        }
    }

    #[test]
    fn a_mean_over_tasks_is_told_only_of_what_has_them_all() {
        let rows = [
            row("t", "a", Some(0.8), None),
            row("u", "a", Some(0.6), None),
            row("t", "b", Some(0.9), None),
            row("u", "b", Some(0.6), None),
            row("t", "c", Some(0.95), None),
            row("u", "c", None, None),
        ];
        let found = overall(&rows);
        let of = |i: usize| (found[i].mean_auroc.map(|m| (m * 1e6).round() / 1e6), found[i].mean_rank);
        assert_eq!(of(0), (Some(0.7), Some(1.75)));
        assert_eq!(of(1), (Some(0.75), Some(1.25)));
        assert_eq!(of(2), (None, None));
    }
}
