//! What too few validation cases cannot decide, told before an hour is spent.

use crate::data::table::{Split, Table};
use crate::eval::metrics::FEWEST;

/// With fewer validation cases the epoch is chosen by chance more than by the model.
const FEW_CASES: usize = 20;

/// What the validation cases of a split are too few for: to choose the epoch, and label by label to fit a temperature and a
/// threshold. Nothing is said of a split without validation cases.
pub fn too_few(table: &Table, split: &Split) -> Vec<String> {
    let cases = split.val.len();
    if cases == 0 {
        return Vec::new();
    }
    let mut all = Vec::new();
    if cases < FEW_CASES {
        let s = if cases == 1 { " chooses" } else { "s choose" };
        all.push(format!(
            "{cases} validation case{s} the epoch: fewer than {FEW_CASES} say little, and the validation AUROC moves in large steps"
        ));
    }
    if table.kind.has_values() {
        return all;
    }
    let mut lacking = Vec::new();
    for (label, name) in table.labels.iter().enumerate() {
        let known = split.val.iter().filter_map(|&row| table.rows[row].labels[label]);
        let (positives, negatives): (Vec<f32>, Vec<f32>) = known.partition(|l| *l >= 0.5);
        if positives.len().min(negatives.len()) < FEWEST {
            lacking.push(format!("`{name}` has {} and {}", positives.len(), negatives.len()));
        }
    }
    if !lacking.is_empty() {
        all.push(format!(
            "calibration takes {FEWEST} positive and {FEWEST} negative validation cases; {}: these probabilities will not be calibrated",
            lacking.join(", ")
        ));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::table::Row;
    use anymc3d_manifest::TaskKind;

    fn table(positives: usize, negatives: usize) -> Table {
        let row = |i: usize| Row {
            labels: vec![Some(f32::from(u8::from(i < positives)))],
            ..Row::named(format!("c{i}"))
        };
        let rows = (0..positives + negatives).map(row).collect();
        Table {
            path: "t.csv".into(),
            kind: TaskKind::Binary,
            labels: vec!["nodule".into()],
            range: None,
            rows,
        }
    }

    fn warnings_of(positives: usize, negatives: usize) -> Vec<String> {
        let val = (0..positives + negatives).collect();
        too_few(&table(positives, negatives), &Split { train: Vec::new(), val })
    }

    #[test]
    fn four_validation_cases_and_fewer_than_ten_positives_are_warnings_of() {
        let four = warnings_of(2, 2);
        assert!(four[0].starts_with("4 validation cases choose the epoch"), "{four:?}");
        assert!(
            four[1].contains("`nodule` has 2 and 2: these probabilities will not be calibrated"),
            "{four:?}"
        );
        let nine = warnings_of(9, 50);
        assert!(nine.len() == 1 && nine[0].contains("`nodule` has 9 and 50"), "{nine:?}");
        assert_eq!(warnings_of(10, 10), Vec::<String>::new());
        assert_eq!(warnings_of(0, 0), Vec::<String>::new());
    }
}
