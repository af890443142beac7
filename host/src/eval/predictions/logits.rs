//! Scores that are no probabilities: logits are recognised, percent is named.

use crate::data::sheet::Sheet;

/// Share of a label's values that must lie outside 0 to 1: fewer are slips.
const OUTSIDE: f64 = 0.25;

/// What a label's values are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scale {
    /// Or what each value's own message says.
    Probability,
    /// Log-odds; of classes up to a constant per case.
    Logits { low: f64, high: f64 },
    /// 0 to 100.
    Percent,
}

/// Reads the scale off all values of a label's columns.
pub(super) fn scale_of(sheet: &Sheet, columns: &[usize]) -> Scale {
    let cells = sheet.rows.iter().flat_map(|r| columns.iter().map(|&c| &r.cells[c]));
    let values: Option<Vec<f64>> = cells.map(|cell| sheet.number(cell).filter(|v| v.is_finite())).collect();
    let values = values.unwrap_or_default();
    let outside = values.iter().filter(|v| !(0.0..=1.0).contains(*v)).count();
    if outside == 0 || (outside as f64) < OUTSIDE * values.len() as f64 {
        return Scale::Probability;
    }
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match low < 0.0 {
        true => Scale::Logits { low, high },
        false if (2.0..=100.0).contains(&high) => Scale::Percent,
        false => Scale::Probability,
    }
}

impl Scale {
    /// What a reader should know.
    pub fn note(&self, column: &str, classes: bool) -> Option<String> {
        let Self::Logits { low, high } = self else { return None };
        let function = if classes { "softmax" } else { "sigmoid" };
        Some(format!(
            "`{column}` holds logits ({low} to {high}), not probabilities: their {function} is measured"
        ))
    }

    /// A yes-or-no label's probability.
    pub fn binary(&self, value: f64) -> f64 {
        match self {
            Self::Logits { .. } => 1.0 / (1.0 + (-value).exp()),
            _ => value,
        }
    }

    /// The probabilities of a row's classes.
    pub fn classes(&self, row: Vec<f64>) -> Vec<f64> {
        let Self::Logits { .. } = self else { return row };
        let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let e: Vec<f64> = row.iter().map(|z| (z - top).exp()).collect();
        let sum: f64 = e.iter().sum();
        e.into_iter().map(|e| e / sum).collect()
    }
}
