//! Several classes or several labels: one against the rest, and means over labels.

use super::rank::{Auroc, auroc};

/// The cases whose label is known, with their scores.
pub fn known(labels: &[Option<f32>], scores: &[f64]) -> (Vec<bool>, Vec<f64>) {
    assert_eq!(labels.len(), scores.len(), "one score per label");
    labels.iter().zip(scores).filter_map(|(l, s)| l.map(|l| (l >= 0.5, *s))).unzip()
}

/// AUROC of every class against the rest. `labels` `[n]` class indices, `probabilities` `[n][classes]`.
pub fn one_vs_rest(labels: &[usize], probabilities: &[Vec<f64>]) -> Vec<Option<Auroc>> {
    assert_eq!(labels.len(), probabilities.len(), "one row of probabilities per label");
    let classes = probabilities.first().map_or(0, Vec::len);
    (0..classes)
        .map(|class| {
            let truth: Vec<bool> = labels.iter().map(|l| *l == class).collect();
            let scores: Vec<f64> = probabilities.iter().map(|row| row[class]).collect();
            auroc(&truth, &scores)
        })
        .collect()
}

/// Unweighted mean of the areas that are defined; `None` where none is.
pub fn macro_auroc(areas: &[Option<Auroc>]) -> Option<f64> {
    let defined: Vec<f64> = areas.iter().flatten().map(|a| a.value).collect();
    (!defined.is_empty()).then(|| defined.iter().sum::<f64>() / defined.len() as f64)
}

/// The first class of the largest probability.
pub fn argmax(row: &[f64]) -> usize {
    let mut best = 0;
    for (class, p) in row.iter().enumerate() {
        if *p > row[best] {
            best = class;
        }
    }
    best
}

/// Share of the cases whose most probable class is the true one; `None` without a case.
pub fn accuracy(labels: &[usize], probabilities: &[Vec<f64>]) -> Option<f64> {
    assert_eq!(labels.len(), probabilities.len(), "one row of probabilities per label");
    let right = labels.iter().zip(probabilities).filter(|(l, row)| **l == argmax(row)).count();
    (!labels.is_empty()).then(|| right as f64 / labels.len() as f64)
}

/// Mean over the classes that occur of the share of their cases found; `None` without a case.
pub fn balanced_accuracy(labels: &[usize], probabilities: &[Vec<f64>]) -> Option<f64> {
    assert_eq!(labels.len(), probabilities.len(), "one row of probabilities per label");
    let classes = probabilities.first().map_or(0, Vec::len);
    let mut found = vec![(0usize, 0usize); classes];
    for (&label, row) in labels.iter().zip(probabilities) {
        found[label].1 += 1;
        found[label].0 += usize::from(label == argmax(row));
    }
    let recalls: Vec<f64> =
        found.iter().filter(|(_, all)| *all > 0).map(|(right, all)| *right as f64 / *all as f64).collect();
    (!recalls.is_empty()).then(|| recalls.iter().sum::<f64>() / recalls.len() as f64)
}
