//! How runs ended: a sentence for a reader, cells for a sweep's table.

use anymc3d_host::train::TrainingRecord;

/// How a run, or the runs of all folds, ended.
pub(super) struct RunSummary {
    aurocs: Vec<f64>,
    tested: Option<f64>,
    epochs: Vec<usize>,
    parameters: usize,
    seconds: f64,
}

impl RunSummary {
    /// What a sweep's table says of each run.
    pub const COLUMNS: [&str; 6] =
        ["val_auroc", "val_auroc_sd", "test_auroc", "best_epoch", "parameters", "seconds"];

    /// `tested`: AUROC on the cases of `--test`.
    pub fn of(records: &[TrainingRecord], tested: Option<f64>) -> Self {
        Self {
            tested,
            aurocs: records.iter().filter_map(|r| r.val_auroc).collect(),
            epochs: records.iter().map(|r| r.best_epoch).collect(),
            parameters: records.first().map_or(0, TrainingRecord::all_parameters),
            seconds: records.iter().map(|r| r.seconds).sum(),
        }
    }

    /// Mean, and standard deviation over the folds.
    fn auroc(&self) -> (Option<f64>, Option<f64>) {
        let n = self.aurocs.len() as f64;
        let mean = self.aurocs.iter().sum::<f64>() / n;
        let squares: f64 = self.aurocs.iter().map(|a| (a - mean).powi(2)).sum();
        ((n > 0.0).then_some(mean), (n > 1.0).then(|| (squares / (n - 1.0)).sqrt()))
    }

    pub fn cells(&self) -> impl Iterator<Item = String> {
        let (mean, deviation) = self.auroc();
        let number = |v: Option<f64>| v.map_or(String::new(), |v| format!("{v:.6}"));
        let epochs = self.epochs.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
        let parameters = self.parameters.to_string();
        [
            number(mean),
            number(deviation),
            number(self.tested),
            epochs,
            parameters,
            format!("{:.1}", self.seconds),
        ]
        .into_iter()
    }

    pub fn sentence(&self) -> String {
        match self.auroc() {
            (Some(mean), Some(deviation)) => format!(
                "{} folds: validation AUROC {mean:.3} ± {deviation:.3} (standard deviation over the folds)",
                self.aurocs.len()
            ),
            _ => format!("{} folds: validation AUROC not defined", self.epochs.len()),
        }
    }
}
