//! The tables of a merged batch: predictions, in which nothing depends on when and where they were made, and runs, in which
//! everything does.

use super::merge::{Answer, Merged, MergedCase};
use crate::engine::result::Novelty;
use std::collections::HashMap;

/// Column with the reasons of a case without an answer. `host eval` leaves such cases out.
pub(crate) const FAILED: &str = "failed";

/// Columns that tell how far a case is from the training cases. Where several plugins tell it, `PLUGIN/` stands before each.
const NOVELTY: [&str; 3] = ["novelty", "novelty_distance", "novelty_percentile"];

/// Whether a column is among those, of whatever plugin. A percentile of 0 must not be taken for the truth of a label.
pub(crate) fn tells_novelty(column: &str) -> bool {
    NOVELTY.contains(&column.rsplit('/').next().unwrap_or(column))
}

impl Merged {
    /// `predictions.csv`: a row for each case, sorted by name. `case`, a column for each label of each plugin (`p_LABEL`,
    /// `p_class.CLASS` or `v_LABEL`; with the plugin's name where two plugins have the same), of plugins whose weights know their
    /// training cases `novelty` (`inside` or `outside`), `novelty_distance` and `novelty_percentile`, and `failed`.
    /// `plugin`: of one of them alone, by its index.
    pub fn predictions_csv(&self, plugin: Option<usize>) -> Vec<u8> {
        let wanted: Vec<usize> = (0..self.tasks.len()).filter(|i| plugin.is_none_or(|p| p == *i)).collect();
        let mut times: HashMap<&str, usize> = HashMap::new();
        for column in wanted.iter().flat_map(|&i| &self.tasks[i].columns) {
            *times.entry(column).or_default() += 1;
        }
        let mut header = vec!["case".to_owned()];
        for task in wanted.iter().map(|&i| &self.tasks[i]) {
            header.extend(task.columns.iter().map(|column| match times[column.as_str()] {
                1 => column.clone(),
                _ => format!("{}{}/{}", &column[..2], task.identity.plugin, &column[2..]),
            }));
        }
        // Weights tell it of every case or of none, so the columns are the same however the work was divided.
        let tells = |i: &usize| self.cases.iter().any(|case| case.answers[*i].novelty().is_some());
        let telling: Vec<usize> = wanted.iter().copied().filter(tells).collect();
        for &i in &telling {
            header.extend(NOVELTY.map(|name| match telling.len() {
                1 => name.to_owned(),
                _ => format!("{}/{name}", self.tasks[i].identity.plugin),
            }));
        }
        header.push(FAILED.to_owned());
        rows(&header, self.cases.iter().map(|case| self.row(case, &wanted, &telling)))
    }

    fn row(&self, case: &MergedCase, wanted: &[usize], telling: &[usize]) -> Vec<String> {
        let (mut row, mut failed) = (vec![case.case.clone()], Vec::new());
        for &i in wanted {
            let columns = &self.tasks[i].columns;
            match &case.answers[i] {
                Answer::Predicted { predictions, values, .. } => {
                    let values: Vec<f64> = match values.is_empty() {
                        true => predictions.iter().map(|p| p.probability).collect(),
                        false => values.iter().map(|v| v.value).collect(),
                    };
                    // The shortest digits that read back as the same number.
                    row.extend(
                        (0..columns.len()).map(|c| values.get(c).map_or(String::new(), f64::to_string)),
                    );
                }
                Answer::Failed { reason, .. } => {
                    failed.push(format!("{}: {reason}", self.tasks[i].identity.plugin));
                    row.extend(columns.iter().map(|_| String::new()));
                }
                Answer::NothingForIt => row.extend(columns.iter().map(|_| String::new())),
            }
        }
        row.extend(telling.iter().flat_map(|&i| novelty_cells(case.answers[i].novelty())));
        row.push(failed.join("; "));
        row
    }

    /// `runs.csv`: a row each time that a case was done, with what varies: when, where, in what time.
    pub fn runs_csv(&self) -> Vec<u8> {
        let header = [
            "case",
            "plugin",
            "outcome",
            "kind",
            "ended",
            "host",
            "process",
            "shard",
            "seconds",
            "cpu_seconds",
            "peak_bytes",
        ];
        let mut runs: Vec<_> = self.runs.iter().collect();
        runs.sort_by(|a, b| (&a.case, &a.plugin, &a.ended).cmp(&(&b.case, &b.plugin, &b.ended)));
        let number = |n: Option<f64>| n.map_or(String::new(), |n| format!("{n:.3}"));
        let row = |run: &super::journal::JournalEntry| {
            vec![
                run.case.clone(),
                run.plugin.clone(),
                if run.kind.is_some() { "failed" } else { "done" }.to_owned(),
                run.kind.map_or("", |kind| kind.name()).to_owned(),
                run.ended.clone(),
                run.host.clone(),
                run.process.to_string(),
                run.shard.clone(),
                number(run.seconds),
                number(run.cpu_seconds),
                run.peak_bytes.map_or(String::new(), |n| n.to_string()),
            ]
        };
        rows(&header.map(str::to_owned), runs.into_iter().map(row))
    }

    /// Names of the plugins, in the order of their columns.
    pub fn plugins(&self) -> impl Iterator<Item = &str> {
        self.tasks.iter().map(|task| task.identity.plugin.as_str())
    }
}

fn novelty_cells(novelty: Option<&Novelty>) -> [String; 3] {
    novelty.map_or_else(Default::default, |n| {
        let place = if n.outside { "outside" } else { "inside" };
        [place.to_owned(), n.distance.to_string(), n.percentile.to_string()]
    })
}

fn rows(header: &[String], rows: impl Iterator<Item = Vec<String>>) -> Vec<u8> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    // Writing to memory cannot fail, and every row is as long as the header.
    let _ = csv.write_record(header);
    rows.for_each(|row| drop(csv.write_record(&row)));
    csv.into_inner().unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::batch_plan::tests::task;
    use super::super::journal::FailureKind;
    use super::super::journal::tests::entry;
    use super::*;
    use crate::batch::Outcome;
    use crate::engine::result::{LabelPrediction, ValuePrediction};

    fn said(p: &[(&str, f64)], v: &[(&str, f64)]) -> Answer {
        let label = |(label, probability): &(&str, f64)| LabelPrediction {
            label: (*label).into(),
            probability: *probability,
            logit: 0.5,
            temperature: None,
            threshold: Some(0.5),
            positive: *probability >= 0.5,
            spread: None,
        };
        let value = |(label, value): &(&str, f64)| ValuePrediction {
            label: (*label).into(),
            value: *value,
            level: None,
            range: [0.0, 4.0],
        };
        Answer::Predicted {
            predictions: p.iter().map(label).collect(),
            values: v.iter().map(value).collect(),
            novelty: None,
        }
    }

    fn unlike(answer: Answer, distance: f64, outside: bool) -> Answer {
        let Answer::Predicted { predictions, values, .. } = answer else { panic!("{answer:?}") };
        let novelty = Novelty {
            view: None,
            distance,
            percentile: if outside { 100.0 } else { 0.0 },
            outside,
            limit: 41.5,
            reference_cases: 400,
        };
        Answer::Predicted { predictions, values, novelty: Some(novelty) }
    }

    pub fn merged() -> Merged {
        let failed = |reason: &str| Answer::Failed { kind: Some(FailureKind::Scan), reason: reason.into() };
        let case = |name: &str, answers| MergedCase { case: name.into(), answers };
        let tasks = vec![
            task("lung", &["p_nodule"]),
            task("chest", &["p_nodule", "p_fluid"]),
            task("knee", &["v_grade"]),
        ];
        let third = 1.0 / 3.0;
        let cases = vec![
            case(
                "a",
                vec![
                    said(&[("nodule", 0.1 + 0.2)], &[]),
                    said(&[("nodule", third), ("fluid", 1.0)], &[]),
                    said(&[("grade>0", 0.9), ("grade>1", 0.2)], &[("grade", 1.1)]),
                ],
            ),
            case(
                "b",
                vec![failed("cut short, at byte 7"), failed("cut short, at byte 7"), Answer::NothingForIt],
            ),
        ];
        let runs = vec![entry("b", "lung", Outcome::Failed), entry("a", "lung", Outcome::Done)];
        Merged { tasks, cases, missing: vec![], runs, of: 2 }
    }

    #[test]
    fn a_row_has_every_plugins_columns_and_a_failed_case_its_reasons() {
        let text = String::from_utf8(merged().predictions_csv(None)).unwrap();
        assert_eq!(
            text,
            "case,p_lung/nodule,p_chest/nodule,p_fluid,v_grade,failed\n\
             a,0.30000000000000004,0.3333333333333333,1,1.1,\n\
             b,,,,,\"lung: cut short, at byte 7; chest: cut short, at byte 7\"\n"
        );
        let one = String::from_utf8(merged().predictions_csv(Some(0))).unwrap();
        assert_eq!(one, "case,p_nodule,failed\na,0.30000000000000004,\nb,,\"lung: cut short, at byte 7\"\n");
    }

    #[test]
    fn plugins_that_know_their_training_cases_have_columns_that_tell_how_far_a_case_is() {
        let mut merged = merged();
        let cell = &mut merged.cases[0].answers;
        cell[0] = unlike(cell[0].clone(), 12.25, false);
        let one = String::from_utf8(merged.predictions_csv(Some(0))).unwrap();
        assert_eq!(
            one,
            "case,p_nodule,novelty,novelty_distance,novelty_percentile,failed\n\
             a,0.30000000000000004,inside,12.25,0,\nb,,,,,\"lung: cut short, at byte 7\"\n"
        );
        let all = String::from_utf8(merged.predictions_csv(None)).unwrap();
        assert!(all.starts_with("case,p_lung/nodule,p_chest/nodule,p_fluid,v_grade,novelty,"), "{all}");
        let cell = &mut merged.cases[0].answers;
        cell[2] = unlike(cell[2].clone(), 63.5, true);
        let both = String::from_utf8(merged.predictions_csv(None)).unwrap();
        let header = "lung/novelty,lung/novelty_distance,lung/novelty_percentile,knee/novelty,knee/novelty_distance,\
                      knee/novelty_percentile,failed\n";
        assert!(both.contains(header) && both.contains(",inside,12.25,0,outside,63.5,100,\n"), "{both}");
        assert!(header.trim_end().split(',').all(|name| tells_novelty(name) != (name == FAILED)));
    }

    #[test]
    fn runs_are_sorted_and_tell_what_varies() {
        let text = String::from_utf8(merged().runs_csv()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "a,lung,done,,2026-01-01T00:00:00Z,h,1,0/1,1.000,,");
        assert_eq!(lines[2], "b,lung,failed,scan,2026-01-01T00:00:00Z,h,1,0/1,1.000,,");
    }
}
