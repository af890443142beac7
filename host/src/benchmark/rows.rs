//! The rows of a benchmark: a task's label by a method, beside every baseline.

use crate::eval::evaluation::{Bootstrap, compare, judged_of, metrics_of, same_cases};
use crate::eval::metrics::{Figures, Intervals, Judged, LabelMetrics, patient_draws, percentile_interval};
use crate::eval::predictions::Question;
use crate::study::{CellOutcome, Outcome, Place, StudyTable, asked, deviation, holm_corrected};
use serde::Serialize;
use std::collections::BTreeMap;
use std::rc::Rc;

/// A method against a baseline on the same cases.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BaselineTest {
    /// Name of the baseline's method.
    pub baseline: String,
    /// Area minus the baseline's.
    pub difference: Option<f64>,
    /// Its 95 % interval over draws of patients, both methods on the same draws.
    pub difference_ci95: Option<[f64; 2]>,
    /// DeLong's paired test, two-sided, within folds where there are folds.
    pub p_value: Option<f64>,
    /// The same after Holm's correction for all tests against this baseline.
    pub p_holm: Option<f64>,
}

/// One label of a task, by a method.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchmarkRow {
    /// As the suite calls it.
    pub task: String,
    /// The label, of a multi-class task `class.NAME`; empty where there are no figures.
    pub label: String,
    /// As the suite calls it; `-` of a method without one.
    pub backbone: String,
    /// As the suite calls it.
    pub method: String,
    /// Test cases whose label is known.
    pub cases: usize,
    /// How many of them are positive.
    pub positives: usize,
    /// Patients of these cases; a case without a patient counts as one.
    pub patients: usize,
    /// Area under the ROC curve of the seeds' mean probability; within folds where there are folds.
    pub auroc: Option<f64>,
    /// DeLong's 95 % interval; of an area of 0 or 1 the exact one. It takes cases as independent.
    pub auroc_delong_ci95: Option<[f64; 2]>,
    /// 95 % interval over draws of patients.
    pub auroc_bootstrap_ci95: Option<[f64; 2]>,
    /// Standard deviation of the seeds' own areas, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auroc_seed_sd: Option<f64>,
    /// Average precision, within folds where there are folds.
    pub average_precision: Option<f64>,
    /// Over draws of patients.
    pub average_precision_ci95: Option<[f64; 2]>,
    /// Brier score, not calibrated; absent where the score is no probability.
    pub brier: Option<f64>,
    /// Over draws of patients.
    pub brier_ci95: Option<[f64; 2]>,
    /// Against each baseline that it is not itself.
    pub tests: Vec<BaselineTest>,
    /// Trained numbers.
    pub parameters: Option<usize>,
    /// Of training, all folds and seeds together.
    pub training_minutes: Option<f64>,
    /// Milliseconds of a case.
    pub milliseconds: Option<f64>,
    /// Why there are no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

impl BenchmarkRow {
    /// The area's interval that its cases allow: over draws of patients where patients have several cases, else DeLong's.
    pub fn auroc_ci95(&self) -> Option<[f64; 2]> {
        let shared = self.patients < self.cases;
        let (first, second) = match shared {
            true => (self.auroc_bootstrap_ci95, self.auroc_delong_ci95),
            false => (self.auroc_delong_ci95, self.auroc_bootstrap_ci95),
        };
        first.or(second)
    }
}

/// What a cell's predictions alone decide: computed once.
pub(super) struct CellFigures {
    pub questions: Vec<Question>,
    metrics: Vec<LabelMetrics>,
    intervals: Vec<Intervals>,
    /// Areas of the draws, by label.
    areas: Vec<Vec<Option<f64>>>,
    patients: Vec<usize>,
    seed_sd: Vec<Option<f64>>,
}

/// Figures of cells that were asked for before.
#[derive(Default)]
pub(super) struct Known(BTreeMap<Place, Rc<CellFigures>>);

impl Known {
    pub fn of(&mut self, place: Place, cell: &CellOutcome, bootstrap: Bootstrap) -> Rc<CellFigures> {
        self.0.entry(place).or_insert_with(|| Rc::new(CellFigures::of(cell, bootstrap))).clone()
    }
}

impl CellFigures {
    fn of(cell: &CellOutcome, bootstrap: Bootstrap) -> Self {
        let questions = asked(&cell.mean);
        let (patients, how_many) = cell.mean.patients();
        let judged: Vec<Judged> = questions.iter().map(|q| judged_of(q, &patients)).collect();
        let mut draws: Vec<Vec<Figures>> = vec![Vec::new(); questions.len()];
        for times in patient_draws(how_many, bootstrap.draws, bootstrap.seed) {
            judged.iter().zip(&mut draws).for_each(|(judged, draws)| draws.push(judged.figures(&times)));
        }
        let seeds: Vec<Vec<Question>> = cell.seeds.iter().map(asked).collect();
        let seed_sd = |i: usize| {
            deviation(&seeds.iter().filter_map(|seed| metrics_of(&seed[i]).auroc).collect::<Vec<_>>())
        };
        let of_patients = |q: &Question| {
            q.cases.iter().map(|case| patients[*case]).collect::<std::collections::BTreeSet<_>>().len()
        };
        Self {
            metrics: questions.iter().map(metrics_of).collect(),
            intervals: draws.iter().map(|draws| Intervals::of(draws)).collect(),
            areas: draws.iter().map(|draws| draws.iter().map(|figures| figures.auroc).collect()).collect(),
            patients: questions.iter().map(of_patients).collect(),
            seed_sd: (0..questions.len()).map(seed_sd).collect(),
            questions,
        }
    }
}

/// All rows, task by task, in the order of the suite.
pub(super) fn rows(table: &StudyTable, known: &mut Known, bootstrap: Bootstrap) -> Vec<BenchmarkRow> {
    let mut rows = Vec::new();
    let mut outcomes: Vec<(Place, &Outcome)> = table.outcomes().collect();
    // Methods in the suite's order, whether they have a backbone or not.
    outcomes.sort_by_key(|([t, b, m], _)| [*t, *m, *b]);
    for (place, outcome) in outcomes {
        rows.extend(of_cell(table, place, outcome, known, bootstrap));
    }
    let (_, methods) = table.axes();
    for baseline in table.baselines.iter().map(|m| &methods[*m]) {
        let at = |row: &BenchmarkRow| row.tests.iter().position(|test| test.baseline == *baseline);
        let p: Vec<Option<f64>> = rows.iter().map(|row| at(row).and_then(|i| row.tests[i].p_value)).collect();
        for (row, corrected) in rows.iter_mut().zip(holm_corrected(&p)) {
            if let Some(i) = at(row) {
                row.tests[i].p_holm = corrected;
            }
        }
    }
    rows
}

fn of_cell(
    table: &StudyTable,
    place: Place,
    outcome: &Outcome,
    known: &mut Known,
    bootstrap: Bootstrap,
) -> Vec<BenchmarkRow> {
    let [task, backbone, method] = table.names(place).map(str::to_owned);
    let empty = BenchmarkRow {
        task,
        label: String::new(),
        backbone,
        method,
        cases: 0,
        positives: 0,
        patients: 0,
        auroc: None,
        auroc_delong_ci95: None,
        auroc_bootstrap_ci95: None,
        auroc_seed_sd: None,
        average_precision: None,
        average_precision_ci95: None,
        brier: None,
        brier_ci95: None,
        tests: Vec::new(),
        parameters: None,
        training_minutes: None,
        milliseconds: None,
        missing: None,
    };
    let cell = match outcome {
        Ok(cell) => cell,
        Err(none) => return vec![BenchmarkRow { missing: Some(none.reason()), ..empty }],
    };
    let own = known.of(place, cell, bootstrap);
    let mut tests: Vec<Vec<BaselineTest>> = vec![Vec::new(); own.questions.len()];
    for &m in table.baselines.iter().filter(|m| **m != place[2]) {
        let Some((at, base)) = table.beside(place, m) else { continue };
        let Ok(same) = same_cases(&cell.mean, &base.mean) else { continue };
        let theirs = known.of(at, base, bootstrap);
        let name = table.names(at)[2].to_owned();
        for (i, (_, test)) in compare(&cell.mean, &same).into_iter().enumerate() {
            let pairs = own.areas[i].iter().zip(&theirs.areas[i]);
            let draws: Vec<Option<f64>> = pairs.map(|(a, b)| Some((*a)? - (*b)?)).collect();
            tests[i].push(BaselineTest {
                baseline: name.clone(),
                difference: test.auroc_a.zip(test.auroc_b).map(|(a, b)| a - b),
                difference_ci95: percentile_interval(&draws),
                p_value: test.p_value,
                p_holm: None,
            });
        }
    }
    let ordering = table.ordering[place[0]];
    let row = |(i, tests): (usize, Vec<BaselineTest>)| {
        let (metrics, intervals) = (&own.metrics[i], &own.intervals[i]);
        BenchmarkRow {
            label: own.questions[i].name.clone(),
            cases: metrics.n,
            positives: metrics.positives,
            patients: own.patients[i],
            auroc: metrics.auroc,
            auroc_delong_ci95: metrics.auroc_ci95_exact.or(metrics.auroc_ci95),
            auroc_bootstrap_ci95: intervals.auroc,
            auroc_seed_sd: own.seed_sd[i],
            average_precision: metrics.average_precision,
            average_precision_ci95: intervals.average_precision,
            brier: metrics.brier.filter(|_| !ordering),
            brier_ci95: intervals.brier.filter(|_| !ordering),
            tests,
            parameters: cell.parameters,
            training_minutes: cell.seconds.map(|seconds| seconds / 60.0),
            milliseconds: cell.cost.map(|cost| cost.milliseconds),
            ..empty.clone()
        }
    };
    tests.into_iter().enumerate().map(row).collect()
}
