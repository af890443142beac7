//! An evaluation as a person reads it: a line per label.

use crate::text;
use anymc3d_host::eval::evaluation::Evaluation;
use anymc3d_host::eval::files::{METRICS, PREDICTIONS};
use std::path::Path;

/// What stands for a figure that the cases do not define.
const UNDEFINED: &str = "-";

/// The table, what all labels have together, where the files are, and what the figures are not for.
pub(super) fn of(evaluation: &Evaluation, folder: &Path) -> String {
    let head = ["LABEL", "N", "POSITIVE", "AUROC [95 % CI]", "AP", "SENS", "SPEC", "THRESHOLD"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (name, report) in &evaluation.labels {
        let m = &report.metrics;
        rows.push(vec![
            name.clone(),
            m.n.to_string(),
            m.positives.to_string(),
            match m.auroc_ci95_exact {
                Some(exact) => with_interval(m.auroc, Some(exact)) + " exact",
                None => with_interval(m.auroc, m.auroc_ci95),
            },
            number(m.average_precision),
            number(m.sensitivity),
            number(m.specificity),
            // A class is positive where it is the most probable one.
            m.threshold.map_or("most probable".to_owned(), |t| number(Some(t))),
        ]);
    }
    let mut lines = Vec::new();
    if rows.len() > 1 {
        lines.push(text::table(&rows));
    }
    if !evaluation.values.is_empty() {
        lines.push(values(evaluation));
    }
    if evaluation.labels.len() > 1 {
        let interval = evaluation.macro_auroc_bootstrap_ci95;
        let left_out = match evaluation.macro_left_out.as_slice() {
            [] => String::new(),
            names => format!(" (without {}: no positive or no negative case)", names.join(", ")),
        };
        lines.push(format!(
            "macro AUROC {}, macro AP {}{left_out}",
            with_interval(evaluation.macro_auroc, interval),
            number(evaluation.macro_average_precision)
        ));
    }
    lines.extend(evaluation.labels.iter().filter_map(|(name, report)| {
        let m = &report.metrics;
        let folds = m.folds?;
        let pooled = number(m.auroc_pooled);
        Some(format!(
            "{name}: AUROC and AP are means over {folds} folds; with all folds in one order the AUROC is {pooled}, which mixes the \
             scales of their models"
        ))
    }));
    for (name, report) in &evaluation.multiclass {
        lines.push(format!(
            "{name}: accuracy {}, balanced accuracy {}, Brier {} (0 to 2)",
            with_interval(report.accuracy, report.accuracy_bootstrap_ci95),
            with_interval(report.balanced_accuracy, report.balanced_accuracy_bootstrap_ci95),
            number(report.brier)
        ));
    }
    if evaluation.groups.iter().any(|(_, group)| !group.labels.is_empty()) {
        lines.push(by_group(evaluation));
    }
    let failed =
        if evaluation.failed > 0 { format!(", {} failed", evaluation.failed) } else { String::new() };
    lines.push(format!(
        "{} cases of {} patients{failed}; in {}: {METRICS}, {PREDICTIONS} and pictures",
        evaluation.cases,
        evaluation.patients,
        folder.display()
    ));
    lines.push(evaluation.research_only.clone());
    lines.join("\n")
}

/// A line per label with numbers.
fn values(evaluation: &Evaluation) -> String {
    let head = ["LABEL", "N", "MAE [95 % CI]", "RMSE", "R2", "SPEARMAN [95 % CI]", "KAPPA", "SLOPE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (name, report) in &evaluation.values {
        let (f, intervals) = (&report.figures, report.bootstrap_ci95.as_ref());
        rows.push(vec![
            name.clone(),
            report.n.to_string(),
            with_interval(f.mae, intervals.and_then(|i| i.mae)),
            number(f.rmse),
            number(f.r2),
            with_interval(f.spearman, intervals.and_then(|i| i.spearman)),
            number(f.quadratic_kappa),
            number(f.calibration_slope),
        ]);
    }
    text::table(&rows)
}

/// A line per group and label.
fn by_group(evaluation: &Evaluation) -> String {
    let head = ["GROUP", "LABEL", "N", "POSITIVE", "AUROC [95 % CI]", "SENS", "SPEC"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (group, report) in &evaluation.groups {
        for (label, m) in &report.labels {
            rows.push(vec![
                group.clone(),
                label.clone(),
                m.n.to_string(),
                m.positives.to_string(),
                with_interval(m.auroc, m.auroc_ci95_exact.or(m.auroc_ci95)),
                number(m.sensitivity),
                number(m.specificity),
            ]);
        }
    }
    text::table(&rows)
}

/// Three digits, or a dash.
pub(super) fn number(value: Option<f64>) -> String {
    value.map_or(UNDEFINED.to_owned(), |v| format!("{v:.3}"))
}

fn with_interval(value: Option<f64>, interval: Option<[f64; 2]>) -> String {
    match interval {
        Some([low, high]) => format!("{} [{low:.3}, {high:.3}]", number(value)),
        None => number(value),
    }
}
