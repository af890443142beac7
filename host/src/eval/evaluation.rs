//! How good scored cases are, as metrics.json says it (schema `anymc3d/metrics/1`).

mod by_group;
mod compare;
mod values;

pub use by_group::GroupReport;
pub use compare::{Comparison, Comparisons, compare, same_cases};
pub use values::{ValueFigures, ValueIntervals, ValueReport};

use crate::eval::metrics::{
    Figures, Intervals, Judged, LabelMetrics, accuracy, argmax, balanced_accuracy, patient_draws,
    percentile_interval,
};
use crate::eval::predictions::{Predictions, Question, ScoredLabel, Scores};
use serde::ser::{Serialize, Serializer};
use std::collections::BTreeSet;

/// The schema's name.
pub const SCHEMA: &str = "anymc3d/metrics/1";

/// What nobody who reads a figure should miss.
pub const RESEARCH_ONLY: &str = "Research only. Not for diagnosis.";

/// How bootstrap intervals are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Bootstrap {
    /// Draws of as many patients as there are, with replacement; 0: no intervals.
    pub draws: usize,
    /// Another seed gives other draws.
    pub seed: u64,
}

/// The content of metrics.json.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Evaluation {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// All cases, those without any known label included.
    pub cases: usize,
    /// Patients they are of; a case without a patient counts as one.
    pub patients: usize,
    /// The cases with a known label: those that the figures are of.
    pub labelled_cases: usize,
    /// Patients that these are of.
    pub labelled_patients: usize,
    /// Mean of the AUROCs below that are defined.
    pub macro_auroc: Option<f64>,
    /// Its 95 % interval over draws of patients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macro_auroc_bootstrap_ci95: Option<[f64; 2]>,
    /// Mean of the average precisions of the same labels. A label without a positive is left out of both: scikit-learn
    /// counts it as 0 here and leaves it out there.
    pub macro_average_precision: Option<f64>,
    /// Labels that are in neither mean, since their cases lack a positive or a negative.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub macro_left_out: Vec<String>,
    /// By label; of a multi-class label by `LABEL.CLASS`, each class against the rest.
    #[serde(serialize_with = "as_map")]
    pub labels: Vec<(String, LabelReport)>,
    /// Multi-class labels as a whole.
    #[serde(serialize_with = "as_map", skip_serializing_if = "Vec::is_empty")]
    pub multiclass: Vec<(String, ClassesReport)>,
    /// Labels with numbers: those of ordinal and regression tasks.
    #[serde(serialize_with = "as_map", skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<(String, ValueReport)>,
    /// By scanner or site, where the cases name one: the figures of its cases alone.
    #[serde(serialize_with = "as_map", skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<(String, GroupReport)>,
    /// How the bootstrap intervals were drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,
    /// What the cases were scored by.
    pub source: Source,
    /// Cases without an answer, not among `cases`.
    #[serde(skip_serializing_if = "is_zero")]
    pub failed: usize,
    /// What a reader should know before believing it.
    pub warnings: Vec<String>,
    /// Version of the host.
    pub host: &'static str,
    /// The plugin's words, or [`RESEARCH_ONLY`].
    pub research_only: String,
}

/// One label's figures and their bootstrap intervals.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct LabelReport {
    /// The figures.
    #[serde(flatten)]
    pub metrics: LabelMetrics,
    /// 95 % intervals over draws of patients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap_ci95: Option<Intervals>,
}

/// A multi-class label as a whole; the most probable class is the answer.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ClassesReport {
    /// Cases whose class is known.
    pub n: usize,
    /// Names, in the order of `confusion`.
    pub classes: Vec<String>,
    /// Mean of the classes' AUROCs that are defined.
    pub macro_auroc: Option<f64>,
    /// Share of the cases whose class was found.
    pub accuracy: Option<f64>,
    /// Its 95 % interval over draws of patients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy_bootstrap_ci95: Option<[f64; 2]>,
    /// Mean over the classes that occur of the share found.
    pub balanced_accuracy: Option<f64>,
    /// Its 95 % interval over draws of patients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balanced_accuracy_bootstrap_ci95: Option<[f64; 2]>,
    /// Mean over the cases of the sum over the classes of (p - y)²: 0 to 2, as Brier (1950) has it; not halved.
    pub brier: Option<f64>,
    /// Cases by true class (row) and answer (column).
    pub confusion: Vec<Vec<usize>>,
}

/// Where the scores come from.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(untagged)]
pub enum Source {
    /// A predictions file.
    Predictions {
        /// The file.
        predictions: String,
        /// Digest of its bytes.
        sha256: String,
        /// The data table that has the truth, where it is not in the file.
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<String>,
        /// Digest of its bytes.
        #[serde(skip_serializing_if = "Option::is_none")]
        data_sha256: Option<String>,
    },
    /// A plugin on a table's cases.
    Plugin {
        /// Name.
        plugin: String,
        /// Version.
        version: String,
        /// Digest of the library.
        plugin_sha256: String,
        /// Digest of the weights.
        weights_sha256: String,
        /// Name of the backbone.
        backbone: String,
        /// Precision of the backbone.
        precision: String,
        /// The table.
        data: String,
        /// Digest of its bytes.
        data_sha256: String,
        /// The part of it, where not all.
        #[serde(skip_serializing_if = "Option::is_none")]
        split: Option<String>,
    },
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// A JSON object that keeps the order of the labels.
fn as_map<T: Serialize, S: Serializer>(pairs: &[(String, T)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}

/// Accuracy and balanced accuracy of a draw.
type ClassFigures = (Option<f64>, Option<f64>);

/// What a multi-class label's draws are counted from.
struct Classes<'a> {
    name: &'a str,
    classes: &'a [String],
    /// Patient, true class, answer of each known case.
    cases: Vec<(usize, usize, usize)>,
    truth: Vec<usize>,
    probabilities: Vec<Vec<f64>>,
}

impl<'a> Classes<'a> {
    fn of(label: &'a ScoredLabel, patients: &[usize]) -> Option<Self> {
        let Scores::Classes { classes, truth, probabilities } = &label.scores else { return None };
        let known: Vec<(usize, usize)> =
            truth.iter().enumerate().filter_map(|(i, t)| Some((i, (*t)?))).collect();
        Some(Self {
            name: &label.name,
            classes,
            cases: known.iter().map(|&(i, t)| (patients[i], t, argmax(&probabilities[i]))).collect(),
            truth: known.iter().map(|k| k.1).collect(),
            probabilities: known.iter().map(|k| probabilities[k.0].clone()).collect(),
        })
    }

    /// When patient `i` counts `times[i]` times.
    fn figures(&self, times: &[u32]) -> ClassFigures {
        let mut found = vec![(0.0, 0.0); self.classes.len()];
        for &(patient, truth, answer) in &self.cases {
            let weight = f64::from(times[patient]);
            found[truth].1 += weight;
            found[truth].0 += if truth == answer { weight } else { 0.0 };
        }
        let (right, all) = found.iter().fold((0.0, 0.0), |sum, f| (sum.0 + f.0, sum.1 + f.1));
        let recalls: Vec<f64> = found.iter().filter(|f| f.1 > 0.0).map(|(right, all)| right / all).collect();
        ((all > 0.0).then(|| right / all), mean(&recalls))
    }

    fn brier(&self) -> Option<f64> {
        let of = |(truth, row): (&usize, &Vec<f64>)| -> f64 {
            row.iter().enumerate().map(|(c, p)| (p - f64::from(u8::from(c == *truth))).powi(2)).sum()
        };
        mean(&self.truth.iter().zip(&self.probabilities).map(of).collect::<Vec<_>>())
    }

    fn confusion(&self) -> Vec<Vec<usize>> {
        let mut counts = vec![vec![0; self.classes.len()]; self.classes.len()];
        for &(_, truth, answer) in &self.cases {
            counts[truth][answer] += 1;
        }
        counts
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Every label's questions, in order. `thresholds`: one per label, of no use to a multi-class one.
pub fn questions(predictions: &Predictions, thresholds: &[f64]) -> Vec<Question> {
    assert_eq!(predictions.labels.len(), thresholds.len(), "one threshold per label");
    let folds = predictions.folds();
    let mut questions: Vec<Question> =
        predictions.labels.iter().zip(thresholds).flat_map(|(label, t)| label.questions(*t)).collect();
    for question in questions.iter_mut() {
        let of = |folds: &Vec<usize>| question.cases.iter().map(|&c| folds[c]).collect();
        question.folds = folds.as_ref().map_or_else(Vec::new, of);
    }
    questions
}

/// A question's figures, within folds where there are folds.
pub(crate) fn metrics_of(q: &Question) -> LabelMetrics {
    let metrics = LabelMetrics::decided(&q.truth, &q.probabilities, q.threshold, &q.positive);
    match q.folds.is_empty() {
        true => metrics,
        false => metrics.within_folds(&q.truth, &q.probabilities, &q.folds),
    }
}

/// A question's cases, ready to be drawn. `patients`: of every case, whose it is.
pub(crate) fn judged_of(q: &Question, patients: &[usize]) -> Judged {
    let patients: Vec<usize> = q.cases.iter().map(|c| patients[*c]).collect();
    let judged = Judged::new(&q.truth, &q.probabilities, &q.positive, &patients);
    match q.folds.is_empty() {
        true => judged,
        false => judged.within_folds((&q.truth, &q.probabilities, &q.positive, &patients), &q.folds),
    }
}

fn classes_report(c: &Classes<'_>, macro_auroc: Option<f64>, draws: &[ClassFigures]) -> ClassesReport {
    let of = |figure: fn(&ClassFigures) -> Option<f64>| {
        percentile_interval(&draws.iter().map(figure).collect::<Vec<_>>())
    };
    ClassesReport {
        n: c.truth.len(),
        classes: c.classes.to_vec(),
        macro_auroc,
        accuracy: accuracy(&c.truth, &c.probabilities),
        accuracy_bootstrap_ci95: of(|f| f.0),
        balanced_accuracy: balanced_accuracy(&c.truth, &c.probabilities),
        balanced_accuracy_bootstrap_ci95: of(|f| f.1),
        brier: c.brier(),
        confusion: c.confusion(),
    }
}

/// All figures of scored cases whose `questions` were asked ([`questions`]).
pub fn evaluate(
    predictions: &Predictions,
    questions: &[Question],
    bootstrap: Bootstrap,
    source: Source,
) -> Evaluation {
    let (patients, how_many) = predictions.patients();
    let metrics: Vec<LabelMetrics> = questions.iter().map(metrics_of).collect();
    let judged: Vec<Judged> = questions.iter().map(|q| judged_of(q, &patients)).collect();
    let classes: Vec<Classes<'_>> =
        predictions.labels.iter().filter_map(|l| Classes::of(l, &patients)).collect();

    let mut draws: Vec<Vec<Figures>> = vec![Vec::with_capacity(bootstrap.draws); judged.len()];
    let mut class_draws: Vec<Vec<ClassFigures>> = vec![Vec::new(); classes.len()];
    for times in patient_draws(how_many, bootstrap.draws, bootstrap.seed) {
        judged.iter().zip(&mut draws).for_each(|(j, d)| d.push(j.figures(&times)));
        classes.iter().zip(&mut class_draws).for_each(|(c, d)| d.push(c.figures(&times)));
    }
    let labelled: BTreeSet<usize> = questions.iter().flat_map(|q| q.cases.iter().copied()).collect();
    let on = bootstrap.draws > 0;
    let defined: Vec<usize> = (0..metrics.len()).filter(|i| metrics[*i].auroc.is_some()).collect();
    // A draw without one of the labels would be the mean of others.
    let macro_of = |draw: usize| -> Option<f64> {
        let areas: Option<Vec<f64>> = defined.iter().map(|i| draws[*i][draw].auroc).collect();
        mean(&areas?)
    };
    let macro_draws: Vec<Option<f64>> = (0..bootstrap.draws).map(macro_of).collect();
    let areas: Vec<f64> = metrics.iter().filter_map(|m| m.auroc).collect();
    let precisions: Vec<f64> = defined.iter().filter_map(|i| metrics[*i].average_precision).collect();
    let left_out =
        (0..metrics.len()).filter(|i| metrics[*i].auroc.is_none()).map(|i| questions[i].name.clone());
    let left_out: Vec<String> = left_out.collect();
    let multiclass = classes.iter().zip(&class_draws).map(|(c, draws)| {
        let prefix = format!("{}.", c.name);
        let own = questions.iter().zip(&metrics).filter(|(q, _)| {
            q.name.strip_prefix(&prefix).is_some_and(|class| c.classes.iter().any(|known| known == class))
        });
        let areas: Vec<f64> = own.filter_map(|(_, m)| m.auroc).collect();
        (c.name.to_owned(), classes_report(c, mean(&areas), draws))
    });
    Evaluation {
        schema: SCHEMA,
        cases: predictions.cases.len(),
        patients: how_many,
        labelled_cases: labelled.len(),
        labelled_patients: labelled.iter().map(|case| patients[*case]).collect::<BTreeSet<_>>().len(),
        macro_auroc: mean(&areas),
        macro_auroc_bootstrap_ci95: percentile_interval(&macro_draws),
        macro_average_precision: mean(&precisions),
        macro_left_out: left_out,
        multiclass: multiclass.collect(),
        labels: questions
            .iter()
            .zip(metrics)
            .zip(&draws)
            .map(|((q, metrics), draws)| {
                let bootstrap_ci95 = on.then(|| Intervals::of(draws));
                (q.name.clone(), LabelReport { metrics, bootstrap_ci95 })
            })
            .collect(),
        values: values::of(predictions, bootstrap),
        groups: by_group::of(predictions, questions),
        bootstrap: on.then_some(bootstrap),
        source,
        failed: 0,
        warnings: Vec::new(),
        host: env!("CARGO_PKG_VERSION"),
        research_only: RESEARCH_ONLY.to_owned(),
    }
}

#[cfg(test)]
mod tests;
