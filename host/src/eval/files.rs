//! What an evaluation leaves in its folder: metrics, predictions and charts.

use super::chart::{calibration, confusion, precision_recall, roc};
use super::evaluation::Evaluation;
use super::predictions::{Predictions, Question};

/// Written last: a folder without it is one that was not finished.
pub const METRICS: &str = "metrics.json";
/// Every case with its truth and scores.
pub const PREDICTIONS: &str = "predictions.csv";

/// Names and bytes, in the order in which they are to be put into place.
///
/// # Errors
/// One line: what cannot be drawn or written as JSON.
pub fn files_of(
    evaluation: &Evaluation,
    questions: &[Question],
    predictions: &Predictions,
) -> Result<Vec<(String, Vec<u8>)>, String> {
    let pictures = [
        ("roc", roc(evaluation, questions)),
        ("precision_recall", precision_recall(evaluation, questions)),
        ("calibration", calibration(evaluation, questions)),
        ("confusion", confusion(evaluation, questions)),
    ];
    let mut files = vec![(PREDICTIONS.to_owned(), predictions.csv())];
    for (name, drawing) in pictures {
        files.push((format!("{name}.svg"), drawing.svg().into_bytes()));
        let png = drawing.png().map_err(|e| format!("{name}.png: cannot be drawn: {e}"))?;
        files.push((format!("{name}.png"), png));
    }
    let json = serde_json::to_string_pretty(evaluation).map_err(|e| format!("{METRICS}: {e}"))?;
    files.push((METRICS.to_owned(), (json + "\n").into_bytes()));
    Ok(files)
}
