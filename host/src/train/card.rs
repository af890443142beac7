//! The model card of trained weights, in Markdown: what a reader must know before believing them.

use super::record::{EpochRecord, PartRecord, TrainingRecord};
use crate::eval::metrics::{FEWEST, LabelMetrics};
use crate::task::Calibration;
use std::fmt::Write;

/// The card of a finished run, whose weights have this calibration.
pub(super) fn of(r: &TrainingRecord, epochs: &[EpochRecord], calibration: Option<&Calibration>) -> String {
    let mut card = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut card, r, epochs, calibration);
    card
}

fn write(
    card: &mut String,
    r: &TrainingRecord,
    epochs: &[EpochRecord],
    calibration: Option<&Calibration>,
) -> std::fmt::Result {
    writeln!(card, "# {} {}: model card\n\n**{}** {}\n", r.name, r.version, r.task, r.description)?;
    writeln!(card, "**{}** Research only; nothing here was shown for patients.\n", r.intended_use)?;
    let (adapter, head, branch) = r.parameters;
    let rows = [
        ("Input", r.image_classes.clone()),
        ("Labels", r.label_classes.clone()),
        ("Output", r.pred_classes.clone()),
        ("Backbone", format!("{}, frozen, in {} (`{}`)", r.backbone, r.precision, r.backbone_fingerprint)),
        ("Parameters", format!("adapter {adapter}, head {head}, segmentation branch {branch}")),
        ("Plugin", format!("library `{}`", r.library_sha256)),
        ("Authors", r.authors.join(", ")),
    ];
    table(card, &["", ""], rows.map(|(name, value)| vec![name.to_owned(), value]))?;

    writeln!(card, "\n## Data\n")?;
    let labels = r.train.positives.keys();
    let header = ["", "cases", "patients", "with a mask"].map(str::to_owned).into_iter();
    let header: Vec<String> = header.chain(labels.map(|l| format!("{l} (of known)"))).collect();
    let part = |name: &str, p: &PartRecord| {
        let counts = [p.cases, p.patients, p.masks].map(|n| n.to_string()).into_iter();
        let labels = p.positives.values().map(|[positive, known]| format!("{positive} of {known}"));
        [name.to_owned()].into_iter().chain(counts).chain(labels).collect::<Vec<_>>()
    };
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    table(card, &header, [part("training", &r.train), part("validation", &r.val)])?;
    writeln!(card, "\nTable `{}`, split `{}` (SHA-256).", r.data_sha256, r.split_sha256)?;

    writeln!(card, "\n## On the validation cases\n")?;
    if r.eval_metrics.is_empty() {
        writeln!(card, "There were none: nothing is known of how good these weights are.")?;
    } else {
        let header = ["", "cases", "positive", "AUROC (95 %)", "average precision", "Brier", "ECE"];
        table(card, &header, r.eval_metrics.iter().map(|(label, m)| figures(label, m)))?;
        writeln!(
            card,
            "\nThese cases chose the epoch: the figures are a little too good. {} Measure on others: `host eval --data TEST.csv`.",
            fitted(calibration)
        )?;
    }

    writeln!(card, "\n## Training\n")?;
    let m = &r.machine;
    writeln!(
        card,
        "{:.1} min on {} threads of {} ({}), host {}. Epoch {} of {} was kept; seed {}.\n",
        r.seconds / 60.0,
        m.threads,
        m.processor,
        m.system,
        r.host,
        r.best_epoch,
        r.options.epochs,
        r.options.seed
    )?;
    let number = |v: Option<f64>| v.map_or_else(|| "not defined".to_owned(), |v| format!("{v:.4}"));
    let lines = epochs.iter().map(|e| {
        vec![e.epoch.to_string(), number(Some(e.loss)), number(Some(e.val_loss)), number(e.val_auroc)]
    });
    table(card, &["epoch", "training loss", "validation loss", "validation AUROC"], lines)?;
    let options = serde_json::to_string_pretty(&r.options).unwrap_or_default();
    writeln!(card, "\n```json\n{options}\n```")
}

/// What of the calibration was fitted on the validation cases, and what was not.
fn fitted(calibration: Option<&Calibration>) -> String {
    let count = |values: &[Option<f64>]| [values.iter().flatten().count(), values.len()];
    let [temperatures, thresholds] =
        calibration.map_or([[0, 0]; 2], |c| [count(&c.temperatures), count(&c.thresholds)]);
    let need = format!(
        "that takes {FEWEST} positives and {FEWEST} negatives of a label among them, which the logits do not separate without error"
    );
    match (temperatures, thresholds) {
        ([0, _], [0, _]) => format!(
            "Neither a temperature nor a threshold was fitted on them ({need}): probabilities are not calibrated and the \
             threshold is the manifest's."
        ),
        // A task of several classes has no thresholds.
        ([a, of], [0, 0]) if a == of => "The temperature was fitted on them.".to_owned(),
        ([a, of], [b, all]) if a == of && b == all => {
            "Temperature and threshold were fitted on them.".to_owned()
        }
        ([a, of], [b, all]) => format!(
            "Of the temperatures {a} of {of} and of the thresholds {b} of {all} were fitted on them; the others were not ({need})."
        ),
    }
}

fn figures(label: &str, m: &LabelMetrics) -> Vec<String> {
    let number = |v: Option<f64>| v.map_or_else(|| "not defined".to_owned(), |v| format!("{v:.3}"));
    let area = match m.auroc_ci95 {
        Some([low, high]) => format!("{} ({low:.3} to {high:.3})", number(m.auroc)),
        None => number(m.auroc),
    };
    let counts = [m.n, m.positives].map(|n| n.to_string());
    let [n, positives] = counts;
    vec![label.to_owned(), n, positives, area, number(m.average_precision), number(m.brier), number(m.ece)]
}

fn table(
    card: &mut String,
    header: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> std::fmt::Result {
    writeln!(card, "| {} |\n|{}", header.join(" | "), "---|".repeat(header.len()))?;
    // A plugin's words may hold what would end a cell.
    let clean = |cell: &String| cell.replace('|', "\\|").replace(['\n', '\r'], " ");
    rows.into_iter()
        .try_for_each(|row| writeln!(card, "| {} |", row.iter().map(clean).collect::<Vec<_>>().join(" | ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::FittedOn;

    #[test]
    fn the_card_says_that_something_was_fitted_only_where_it_was() {
        let said = |temperatures: &[Option<f64>], thresholds: &[Option<f64>]| {
            fitted(Some(&Calibration {
                temperatures: temperatures.to_vec(),
                thresholds: thresholds.to_vec(),
                fitted_on: FittedOn::of(["a"]),
            }))
        };
        let none = fitted(None);
        assert!(
            none.starts_with(
                "Neither a temperature nor a threshold was fitted on them (that takes 10 positives"
            ),
            "{none}"
        );
        assert_eq!(said(&[Some(1.2)], &[Some(0.4)]), "Temperature and threshold were fitted on them.");
        assert_eq!(said(&[Some(1.2)], &[]), "The temperature was fitted on them.");
        let some = said(&[Some(1.2), None], &[Some(0.4), None]);
        assert!(
            some.starts_with("Of the temperatures 1 of 2 and of the thresholds 1 of 2 were fitted"),
            "{some}"
        );
        let one = said(&[None], &[Some(0.4)]);
        assert!(one.starts_with("Of the temperatures 0 of 1 and of the thresholds 1 of 1"), "{one}");
    }
}
