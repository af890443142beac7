//! The model card of trained weights, in Markdown: what a reader must know before believing them.

use super::record::{EpochRecord, PartRecord, TrainingRecord};
use crate::eval::metrics::LabelMetrics;
use std::fmt::Write;

/// The card of a finished run.
pub(super) fn of(r: &TrainingRecord, epochs: &[EpochRecord]) -> String {
    let mut card = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut card, r, epochs);
    card
}

fn write(card: &mut String, r: &TrainingRecord, epochs: &[EpochRecord]) -> std::fmt::Result {
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
            "\nThese cases chose the epoch, and temperature and threshold were fitted on them: the figures are a little too \
             good. Measure on others: `host eval --data TEST.csv`."
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
