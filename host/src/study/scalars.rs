//! The method that a backbone has to beat: a few numbers of size and density, and a model that is fitted at once.
//!
//! Where the task is given a mask, the numbers are the mask's six ([`mask_scalars`]); else five of each of its scans
//! ([`scan_scalars`]). A mask that only supervises is not looked at: it would give the answer away.

use super::logistic::{Logistic, Ridge};
use super::measure::ScanCost;
use super::study_plan::{PlannedTask, Trial};
use crate::data::table::Row;
use crate::engine::CaseData;
use crate::eval::predictions::Predictions;
use crate::scan::{mask_scalars, scan_scalars};
use anymc3d_manifest::{TaskKind, View};
use std::collections::BTreeMap;
use std::time::Instant;

/// The numbers of a task's cases, by their index in its table.
pub(super) struct CaseScalars {
    rows: BTreeMap<usize, Vec<f64>>,
    /// Milliseconds that each took, reading included.
    took: Vec<f64>,
}

impl CaseScalars {
    /// Reads every case of the trials.
    ///
    /// # Errors
    /// One line that names the case, when its scan or mask cannot be read.
    pub fn read(task: &PlannedTask, trials: &[&Trial]) -> Result<Self, String> {
        let mut all = Self { rows: BTreeMap::new(), took: Vec::new() };
        let of = |trial: &&Trial| {
            [trial.split.train.clone(), trial.split.val.clone(), trial.test.clone()].concat()
        };
        for index in trials.iter().flat_map(of) {
            if all.rows.contains_key(&index) {
                continue;
            }
            let (row, start) = (&task.table.rows[index], Instant::now());
            let found = scalars(row, &task.library.embedded.manifest.views);
            all.rows.insert(index, found.map_err(|e| format!("case {}: {e}", row.case))?);
            all.took.push(start.elapsed().as_secs_f64() * 1e3);
        }
        Ok(all)
    }

    /// Numbers per case.
    pub fn columns(&self) -> usize {
        self.rows.values().next().map_or(0, Vec::len)
    }

    /// Time of a case: the median; the model on top takes microseconds.
    pub fn cost(&self) -> Option<ScanCost> {
        let mut took = self.took.clone();
        took.sort_by(f64::total_cmp);
        let milliseconds = *took.get(took.len() / 2)?;
        Some(ScanCost { milliseconds, processor_ms: None, peak_bytes: None, scans: took.len() })
    }

    /// Fits on the training and the validation cases of a trial, nothing being chosen by the latter, and scores its test
    /// cases.
    pub fn score(&self, task: &PlannedTask, trial: &Trial) -> Predictions {
        let table = &task.table;
        let mut fitted: Vec<usize> = trial.split.train.iter().chain(&trial.split.val).copied().collect();
        fitted.sort_unstable();
        let rows: Vec<&Row> = trial.test.iter().map(|&i| &table.rows[i]).collect();
        let said = |column: usize| -> Vec<f64> {
            let known: Vec<(usize, f32)> = fitted
                .iter()
                .filter_map(|&i| Some((i, *table.rows[i].labels.get(column)?.as_ref()?)))
                .collect();
            let x: Vec<&[f64]> = known.iter().map(|(i, _)| self.rows[i].as_slice()).collect();
            let test = trial.test.iter().map(|i| self.rows[i].as_slice());
            // Nothing is known of this label: each case is as likely as not, or in the middle of the scale.
            if known.is_empty() {
                return vec![0.5; trial.test.len()];
            }
            if table.kind == TaskKind::Regression {
                let values: Vec<f64> = known.iter().map(|(_, v)| f64::from(*v)).collect();
                let model = Ridge::fit(&x, &values);
                return test.map(|row| model.value(row).clamp(0.0, 1.0)).collect();
            }
            let truth: Vec<bool> = known.iter().map(|(_, v)| *v >= 0.5).collect();
            let model = Logistic::fit(&x, &truth);
            test.map(|row| model.probability(row)).collect()
        };
        let outputs = table.rows.first().map_or(0, |row| row.labels.len());
        let columns: Vec<Vec<f64>> = (0..outputs).map(said).collect();
        let probabilities = (0..rows.len()).map(|case| {
            let row: Vec<f64> = columns.iter().map(|column| column[case]).collect();
            match table.kind {
                // Each class against the rest, brought to a sum of 1.
                TaskKind::Multiclass => {
                    let sum: f64 = row.iter().sum::<f64>().max(f64::MIN_POSITIVE);
                    row.into_iter().map(|p| p / sum).collect()
                }
                _ => row,
            }
        });
        Predictions::of(table, &rows, &probabilities.collect::<Vec<_>>())
    }
}

/// Of a case: of its mask inside the first view that is given one, else of every view's scan; unknown (NaN) of a view without
/// a file.
fn scalars(row: &Row, views: &[View]) -> Result<Vec<f64>, String> {
    let mut data = CaseData::default();
    let region = row.region();
    if let Some(view) = views.iter().find(|view| view.needs_mask()) {
        let path = row.images.get(&view.name).ok_or_else(|| format!("view `{}` has no file", view.name))?;
        let mask = region.mask_of(view).ok_or("no mask, and the task's numbers are of one")?;
        let mask = data.mask(mask).map_err(|e| e.to_string())?;
        let read = data.scan(path).map_err(|e| e.to_string())?;
        return mask_scalars(&read.volume, &mask).map(Vec::from).map_err(|e| e.to_string());
    }
    let mut all = Vec::new();
    for view in views {
        match row.images.get(&view.name) {
            Some(path) => {
                let read = data.scan(path).map_err(|e| e.to_string())?;
                all.extend(scan_scalars(&read.volume).map_err(|e| format!("{}: {e}", path.display()))?);
            }
            None => all.extend([f64::NAN; 5]),
        }
    }
    Ok(all)
}
