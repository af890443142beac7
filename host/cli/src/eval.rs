//! `host eval`: measures a task's or any model's predictions, or compares two models.

mod against;
mod answers;
mod summary;
mod thresholds;

use super::console::Console;
use super::labels::LabelOption;
use super::options::{BackboneOptions, GeometryOption, PrecisionOption};
use super::outcome::{CommandError, Outcome};
use anymc3d_host::data::table::Part;
use anymc3d_host::eval::evaluation::{Bootstrap, Evaluation, RESEARCH_ONLY, Source, evaluate, questions};
use anymc3d_host::eval::files::files_of;
use anymc3d_host::eval::predictions::{ColumnNames, Predictions, Question};
use anymc3d_host::fs::hex;
use anymc3d_host::output::OutputFolder;
use clap::{Args, ValueEnum};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use thresholds::ThresholdOption;

const EXAMPLES: &str = "\
Examples:
  host eval --plugin lung_nodule --data table.csv --split test --out figures
  host eval --plugin lung_nodule --weights w.safetensors --data test.csv --out figures
  host eval --predictions scores.csv --out figures           scores of any model: case, LABEL, p_LABEL
  host eval --predictions scores.csv --columns case=ID,truth=nodule,score=p --data truth.csv --out figures
  host eval --predictions scores.csv --threshold nodule=0.3 --out figures --json
  host eval --compare a/predictions.csv b/predictions.csv    paired DeLong test of two models
  host eval --plugin lung_nodule --data val.csv --out fit --calibrate fitted.safetensors";

/// Measure a task on labelled cases, or any model's scores: AUROC, calibration, charts
///
/// The command writes metrics.json, predictions.csv, and charts of ROC, precision-recall, calibration and confusion (SVG
/// and PNG) into DIR.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Eval {
    /// Plugin that predicts the cases of --data, by name or path
    #[arg(long, short, value_name = "P")]
    plugin: Option<String>,
    /// Trained weights; several, separated by commas, are an ensemble whose logits are averaged [default: the file beside
    /// the library, else the installed one]
    #[arg(long, value_name = "FILE,…", value_delimiter = ',')]
    weights: Vec<PathBuf>,
    /// Table of labelled scans: columns case, image (or image.VIEW), one per label; optional patient, split
    #[arg(long, value_name = "T.csv")]
    data: Option<PathBuf>,
    #[command(flatten)]
    labels: LabelOption,
    /// Use only the cases of this split, as the table's column `split` says
    #[arg(long, value_enum)]
    split: Option<SplitOption>,
    /// Scores of any model, instead of a plugin: columns case, LABEL, p_LABEL (classes: p_LABEL.CLASS); optional patient
    #[arg(long, value_name = "P.csv")]
    predictions: Option<PathBuf>,
    /// What columns of --predictions are called: ROLE=COLUMN, roles case, patient, fold, truth, score
    #[arg(long, value_name = "ROLE=COLUMN,…")]
    columns: Option<ColumnNames>,
    /// Test whether two models' AUROCs differ on the same cases
    #[arg(long, num_args = 2, value_names = ["A.csv", "B.csv"])]
    compare: Option<Vec<PathBuf>>,
    /// Folder for metrics.json, predictions.csv and the charts
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A label is positive at p >= T; for one label or for all [default: stored with the weights, else 0.5]
    #[arg(long, value_name = "[LABEL=]T")]
    threshold: Vec<ThresholdOption>,
    /// Bootstrap samples (of patients) for the 95 % intervals; 0 leaves the intervals out
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    bootstrap: u32,
    /// Seed of the bootstrap
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Fit temperatures and thresholds on these (validation) cases; write a copy of the weights that has them to FILE
    #[arg(long, value_name = "FILE")]
    calibrate: Option<PathBuf>,
    /// Print metrics.json as one line (with --compare: the tests)
    #[arg(long)]
    json: bool,
    /// Number format of the matrix products; auto is bf16 where the device multiplies it faster than f32, else f32. docs/performance.md compares them
    #[arg(long, value_enum, default_value_t = PrecisionOption::Auto)]
    precision: PrecisionOption,
    #[command(flatten)]
    geometry: GeometryOption,
    #[command(flatten)]
    backbone: BackboneOptions,
}

/// `--split`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SplitOption {
    Train,
    Val,
    Test,
}

impl SplitOption {
    fn part(self) -> Part {
        match self {
            Self::Train => Part::Train,
            Self::Val => Part::Val,
            Self::Test => Part::Test,
        }
    }
}

/// Scored cases, ready to be measured.
struct Scored {
    predictions: Predictions,
    /// One per label.
    thresholds: Vec<f64>,
    source: Source,
    /// Number of cases without a prediction.
    failed: usize,
    warnings: Vec<String>,
    /// What the plugin says of its intended use.
    intended_use: Option<String>,
}

impl Eval {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        self.check()?;
        if let Some(files) = &self.compare {
            return against::run(&self, files, console);
        }
        let Some(folder) = self.out.as_deref() else {
            return Err(CommandError::usage("--out DIR is missing: where metrics.json and the pictures go"));
        };
        match &self.predictions {
            Some(path) => {
                let scored = self.read(path, console)?;
                let out = crate::options::out_folder(folder).map_err(CommandError::failed)?;
                self.measure(scored, &out, folder, console)
            }
            None => {
                self.geometry.apply();
                self.backbone.apply()?;
                let (scored, out) = answers::of(&self, folder, console)?;
                let outcome = if scored.failed > 0 { Outcome::Failed } else { Outcome::Done };
                Ok(outcome.or(self.measure(scored, &out, folder, console)?))
            }
        }
    }

    /// What clap cannot see, or says in more than one line.
    fn check(&self) -> Result<(), CommandError> {
        let usage = |message: &str| Err(CommandError::usage(message));
        let given = [self.plugin.is_some(), self.predictions.is_some(), self.compare.is_some()];
        match given.into_iter().filter(|given| *given).count() {
            1 => {}
            0 => {
                return usage(
                    "nothing to evaluate; give --plugin P --data T.csv, or --predictions P.csv, or --compare A.csv B.csv",
                );
            }
            _ => return usage("give one of --plugin, --predictions and --compare, not several"),
        }
        if self.plugin.is_some() && self.data.is_none() {
            return usage("--plugin needs cases to answer; give --data T.csv with it");
        }
        if self.plugin.is_none() {
            let without = [
                ("--weights", !self.weights.is_empty()),
                ("--split", self.split.is_some()),
                ("--calibrate", self.calibrate.is_some()),
                ("--label", !self.labels.is_empty()),
            ];
            if let Some((option, _)) = without.iter().find(|(_, given)| *given) {
                return usage(&format!("{option} belongs to --plugin; give --plugin P with it"));
            }
        }
        if self.weights.len() > 1 && self.calibrate.is_some() {
            return usage("--calibrate writes one file of weights; give one with --weights");
        }
        if self.plugin.is_some() && self.columns.is_some() {
            return usage("--columns belongs to --predictions or --compare");
        }
        if self.compare.is_some() && (self.out.is_some() || !self.threshold.is_empty()) {
            return usage("--compare prints its tests; --out and --threshold do not go with it");
        }
        Ok(())
    }

    /// A predictions file, its columns as --columns names them, its truth from --data where that is given.
    fn open(&self, path: &Path) -> Result<Predictions, CommandError> {
        let names = self.columns.clone().unwrap_or_default();
        Predictions::open_as(path, &names, self.data.as_deref()).map_err(CommandError::failed)
    }

    /// Any model's scores.
    fn read(&self, path: &Path, console: &Console) -> Result<Scored, CommandError> {
        let predictions = self.open(path)?;
        let half = vec![0.5; predictions.labels.len()];
        let thresholds = thresholds::of(&self.threshold, &predictions.labels, half)?;
        if !predictions.ignored.is_empty() {
            let names = predictions.ignored.join(", ");
            console.note(format!("{}: columns left alone: {names}", path.display()));
        }
        let source = Source::Predictions {
            predictions: path.display().to_string(),
            sha256: digest(path)?,
            data: self.data.as_ref().map(|data| data.display().to_string()),
            data_sha256: self.data.as_deref().map(digest).transpose()?,
        };
        let (warnings, intended_use) = (predictions.notes.clone(), None);
        Ok(Scored { predictions, thresholds, source, failed: 0, warnings, intended_use })
    }

    fn measure(
        &self,
        scored: Scored,
        out: &OutputFolder,
        folder: &Path,
        console: &Console,
    ) -> Result<Outcome, CommandError> {
        let asked = questions(&scored.predictions, &scored.thresholds);
        let bootstrap = Bootstrap { draws: self.bootstrap as usize, seed: self.seed };
        let mut evaluation = evaluate(&scored.predictions, &asked, bootstrap, scored.source);
        evaluation.failed = scored.failed;
        evaluation.warnings = scored.warnings;
        evaluation.warnings.extend(asked.iter().filter_map(one_sided));
        evaluation.research_only = scored.intended_use.unwrap_or_else(|| RESEARCH_ONLY.to_owned());
        evaluation.warnings.iter().for_each(|w| console.warning(w));
        let written = files_of(&evaluation, &asked, &scored.predictions).map_err(CommandError::failed)?;
        out.put_files(&written).map_err(CommandError::failed)?;
        self.tell(&evaluation, folder, console)?;
        Ok(Outcome::Done)
    }

    fn tell(&self, evaluation: &Evaluation, folder: &Path, console: &Console) -> Result<(), CommandError> {
        if self.json {
            let line = serde_json::to_string(evaluation).map_err(CommandError::failed)?;
            console.result(line);
        } else {
            console.result(summary::of(evaluation, folder));
        }
        Ok(())
    }
}

/// Why some of a question's figures are null.
fn one_sided(q: &Question) -> Option<String> {
    let positives = q.truth.iter().filter(|t| **t).count();
    let what = match (positives, q.truth.len() - positives) {
        (0, 0) => "no known case".to_owned(),
        (0, n) => format!("no positive among {n} known cases"),
        (n, 0) => format!("no negative among {n} known cases"),
        _ => return None,
    };
    Some(format!("label `{}`: {what}; figures that need both are not defined", q.name))
}

fn digest(path: &Path) -> Result<String, CommandError> {
    let bytes = std::fs::read(path)
        .map_err(|e| CommandError::failed(format!("{}: cannot be read: {e}", path.display())))?;
    Ok(hex(&Sha256::digest(bytes)))
}
