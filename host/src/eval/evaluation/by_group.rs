//! The figures of each scanner or site alone: a mean over all may hide one on which a task fails.

use crate::eval::metrics::LabelMetrics;
use crate::eval::predictions::{Predictions, Question};

/// One group's cases.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct GroupReport {
    /// Its cases, those without any known label included.
    pub cases: usize,
    /// Figures by label, as of all cases together; intervals are DeLong's.
    #[serde(serialize_with = "super::as_map")]
    pub labels: Vec<(String, LabelMetrics)>,
}

/// A report for every group that the cases name, by name. Cases without one are in none.
pub(super) fn of(predictions: &Predictions, questions: &[Question]) -> Vec<(String, GroupReport)> {
    let mut names: Vec<&str> = predictions.cases.iter().filter_map(|c| c.group.as_deref()).collect();
    names.sort_unstable();
    names.dedup();
    let is_of = |case: usize, name: &str| predictions.cases[case].group.as_deref() == Some(name);
    names
        .into_iter()
        .map(|name| {
            let labels = questions.iter().map(|q| (q.name.clone(), figures(q, |case| is_of(case, name))));
            let cases = (0..predictions.cases.len()).filter(|&c| is_of(c, name)).count();
            (name.to_owned(), GroupReport { cases, labels: labels.collect() })
        })
        .collect()
}

/// A question's figures over the cases that are `wanted`.
fn figures(question: &Question, wanted: impl Fn(usize) -> bool) -> LabelMetrics {
    let of: Vec<usize> = (0..question.cases.len()).filter(|&i| wanted(question.cases[i])).collect();
    let truth: Vec<bool> = of.iter().map(|&i| question.truth[i]).collect();
    let probabilities: Vec<f64> = of.iter().map(|&i| question.probabilities[i]).collect();
    let positive: Vec<bool> = of.iter().map(|&i| question.positive[i]).collect();
    let metrics = LabelMetrics::decided(&truth, &probabilities, question.threshold, &positive);
    match question.folds.is_empty() {
        true => metrics,
        false => {
            let folds: Vec<usize> = of.iter().map(|&i| question.folds[i]).collect();
            metrics.within_folds(&truth, &probabilities, &folds)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Bootstrap, Source, evaluate, questions};
    use super::*;

    #[test]
    fn each_group_has_the_figures_of_its_cases_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.csv");
        // Site a orders its cases perfectly, site b the other way round; c has no negative, and one case no site.
        let rows =
            "case,group,y,p_y\n1,a,0,0.1\n2,a,1,0.9\n3,a,1,0.8\n4,b,0,0.7\n5,b,1,0.2\n6,c,1,0.6\n7,,0,0.3\n";
        std::fs::write(&path, rows).unwrap();
        let predictions = Predictions::open(&path).unwrap();
        let asked = questions(&predictions, &[0.5]);
        let source = Source::Predictions {
            predictions: String::new(),
            sha256: String::new(),
            data: None,
            data_sha256: None,
        };
        let found = evaluate(&predictions, &asked, Bootstrap { draws: 0, seed: 0 }, source).groups;
        let told: Vec<_> = found
            .iter()
            .map(|(name, g)| (name.as_str(), g.cases, g.labels[0].1.positives, g.labels[0].1.auroc))
            .collect();
        assert_eq!(told, [("a", 3, 2, Some(1.0)), ("b", 2, 1, Some(0.0)), ("c", 1, 1, None)]);
        // And they survive being written and read.
        std::fs::write(&path, predictions.csv()).unwrap();
        assert_eq!(Predictions::open(&path).unwrap().cases, predictions.cases);
    }
}
