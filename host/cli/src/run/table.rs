//! Answers of several cases or plugins as one table with bars.

use anymc3d_host::engine::result::{CaseResult, Novelty};
use std::time::Duration;

/// Cells of a bar.
const BAR: usize = 20;
/// Of the table.
const COLUMNS: usize = 7;
/// The column that tells the share of the training cases that are nearer.
const NOVELTY: &str = "novelty";
/// Longest name of a case that is shown whole.
const NAME: usize = 32;

/// One label's answer.
#[derive(Debug, Clone)]
pub(super) struct Row {
    case: String,
    plugin: String,
    label: String,
    probability: f64,
    threshold: Option<f64>,
    decision: &'static str,
    /// How far the case is from the training cases, where the weights tell; of its first label only.
    novelty: String,
    /// Of the case through the plugin; of its first label only.
    time: Option<Duration>,
}

/// The rows of a result.
pub(super) fn rows(result: &CaseResult) -> impl Iterator<Item = Row> + '_ {
    let time = Duration::from_secs_f64((result.timing_ms.total / 1000.0).max(0.0));
    result.predictions.iter().enumerate().map(move |(i, p)| Row {
        case: result.case.clone(),
        plugin: result.plugin.name.clone(),
        label: p.label.clone(),
        probability: p.probability,
        threshold: p.threshold,
        decision: match (p.threshold, p.positive) {
            (Some(_), true) => "positive",
            (Some(_), false) => "negative",
            (None, true) => "most probable",
            (None, false) => "",
        },
        novelty: result.novelty.as_ref().filter(|_| i == 0).map_or(String::new(), novelty),
        time: (i == 0).then_some(time),
    })
}

/// The share of the training cases that are nearer, and whether the case is outside them.
fn novelty(n: &Novelty) -> String {
    format!("{:.1} %{}", n.percentile, if n.outside { ", outside" } else { "" })
}

/// The table; names that repeat the line above are left out, and so is the novelty where no weights tell it.
pub(super) fn table(rows: &[Row]) -> String {
    let cells: Vec<[String; COLUMNS]> =
        rows.iter().enumerate().map(|(i, row)| cells(row, i.checked_sub(1).map(|b| &rows[b]))).collect();
    let head = ["case", "plugin", "label", "probability", "decision", NOVELTY, "time"].map(str::to_owned);
    let widths: [usize; COLUMNS] =
        std::array::from_fn(|c| cells.iter().chain([&head]).map(|r| r[c].chars().count()).max().unwrap_or(0));
    let told = rows.iter().any(|row| !row.novelty.is_empty());
    let line = |row: &[String; COLUMNS]| {
        let shown = row.iter().zip(&head).zip(widths).filter(|((_, head), _)| told || *head != NOVELTY);
        let padded: Vec<String> = shown.map(|((cell, _), width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    [&head].into_iter().chain(&cells).map(line).collect::<Vec<_>>().join("\n")
}

fn cells(row: &Row, before: Option<&Row>) -> [String; COLUMNS] {
    let same_case = before.is_some_and(|b| b.case == row.case);
    let same_plugin = same_case && before.is_some_and(|b| b.plugin == row.plugin);
    let unless = |same: bool, text: &str| if same { String::new() } else { shortened(text) };
    [
        unless(same_case, &row.case),
        unless(same_plugin, &row.plugin),
        shortened(&row.label),
        format!("{} {:>5.1} %", bar(row.probability, row.threshold), 100.0 * row.probability),
        row.decision.to_owned(),
        row.novelty.clone(),
        row.time.map_or(String::new(), |t| format!("{:.1} s", t.as_secs_f64())),
    ]
}

/// `████████··│·········`: as much as the probability, with a line where the threshold is.
fn bar(probability: f64, threshold: Option<f64>) -> String {
    let full = (probability.clamp(0.0, 1.0) * BAR as f64).round() as usize;
    let at = threshold.map(|t| ((t.clamp(0.0, 1.0) * BAR as f64) as usize).min(BAR - 1));
    let cell = |i: usize| match () {
        () if at == Some(i) => '│',
        () if i < full => '█',
        () => '·',
    };
    (0..BAR).map(cell).collect()
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= NAME {
        return text.to_owned();
    }
    text.chars().take(NAME - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(case: &str, label: &str, probability: f64, threshold: Option<f64>) -> Row {
        Row {
            case: case.into(),
            plugin: "p".into(),
            label: label.into(),
            probability,
            threshold,
            decision: "negative",
            novelty: String::new(),
            time: Some(Duration::from_millis(1234)),
        }
    }

    #[test]
    fn a_bar_is_as_long_as_its_probability_and_marks_the_threshold() {
        assert_eq!(bar(0.5, None), "██████████··········");
        assert_eq!(bar(0.2, Some(0.5)), "████······│·········");
        assert_eq!(bar(1.0, Some(1.0)), "███████████████████│");
        assert_eq!(bar(f64::NAN, None).chars().count(), BAR);
    }

    #[test]
    fn columns_stand_below_each_other_and_names_are_not_repeated() {
        let rows = [row("a", "nodule", 0.1, Some(0.5)), row("a", "é", 1.0, None), row("b", "x", 0.0, None)];
        let text = table(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[1].starts_with("a     p       nodule"), "{text}");
        assert!(lines[2].starts_with("              é"), "{text}");
        let ends: Vec<usize> = lines[1..].iter().map(|l| l.chars().position(|c| c == '%').unwrap()).collect();
        assert!(ends.windows(2).all(|w| w[0] == w[1]), "{text}");
        assert!(lines[1].ends_with("negative  1.2 s"), "{text}");
        assert_eq!(shortened(&"x".repeat(40)).chars().count(), NAME);
        assert!(!lines[0].contains("novelty"), "no weights tell it: {text}");
    }

    #[test]
    fn where_weights_know_their_training_cases_a_column_says_how_far_each_case_is() {
        let told = Novelty {
            view: None,
            distance: 63.0,
            percentile: 100.0,
            outside: true,
            limit: 41.0,
            reference_cases: 400,
        };
        let outside = Row { novelty: novelty(&told), ..row("a", "nodule", 0.1, None) };
        let text = table(&[outside, row("b", "nodule", 0.1, None)]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with("decision  novelty           time"), "{text}");
        assert!(lines[1].ends_with("negative  100.0 %, outside  1.2 s"), "{text}");
        assert!(lines[2].ends_with("negative                    1.2 s"), "{text}");
    }
}
