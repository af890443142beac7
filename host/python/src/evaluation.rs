//! Figures of a task on labelled cases, or of any model's scores.

use crate::errors;
use crate::host::Host;
use anymc3d_host::data::table::{Part, Row, Table, digest_of};
use anymc3d_host::engine::{Case, Engine, precision_name};
use anymc3d_host::eval::evaluation::{
    Bootstrap, Evaluation, RESEARCH_ONLY, Source, evaluate as measure, questions,
};
use anymc3d_host::eval::files::files_of;
use anymc3d_host::eval::predictions::{ColumnNames, Predictions};
use anymc3d_host::fs::hex;
use anymc3d_host::output::OutputFolder;
use anymc3d_manifest::TaskKind;
use pyo3::prelude::*;
use std::path::{Path, PathBuf};

/// What was scored, and what is to be said of it.
struct Scored {
    predictions: Predictions,
    thresholds: Vec<f64>,
    source: Source,
    failed: usize,
    warnings: Vec<String>,
    intended_use: String,
}

impl Scored {
    /// metrics.json, and all files into `out` where there is one.
    fn measured(self, bootstrap: Bootstrap, out: Option<&Path>) -> Result<String, String> {
        let asked = questions(&self.predictions, &self.thresholds);
        let mut evaluation: Evaluation = measure(&self.predictions, &asked, bootstrap, self.source);
        evaluation.failed = self.failed;
        evaluation.warnings = self.warnings;
        evaluation.research_only = self.intended_use;
        if let Some(out) = out {
            let files = files_of(&evaluation, &asked, &self.predictions)?;
            OutputFolder::open(out)?.put_files(&files)?;
        }
        serde_json::to_string(&evaluation).map_err(|e| e.to_string())
    }
}

fn part(name: &str) -> PyResult<Part> {
    let all = [Part::Train, Part::Val, Part::Test];
    all.into_iter().find(|part| part.name() == name).ok_or_else(|| {
        errors::raised("UsageError", format!("split `{name}`: expected `train`, `val` or `test`"))
    })
}

/// The cases that have an answer, with their probabilities.
#[derive(Default)]
struct Answers<'a> {
    rows: Vec<&'a Row>,
    probabilities: Vec<Vec<f64>>,
    failures: Vec<String>,
}

/// Predicts every case of a table and measures the predictions. `progress` is called with the number of cases that are done.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
pub fn evaluate(
    py: Python<'_>,
    host: &Host,
    plugin: usize,
    data: PathBuf,
    split: Option<&str>,
    bootstrap: usize,
    seed: u64,
    out: Option<PathBuf>,
    progress: Option<Py<PyAny>>,
) -> PyResult<(String, Vec<String>)> {
    let part = split.map(part).transpose()?;
    let (engine, task) = host.place(plugin)?;
    let loaded = &engine.tasks()[task];
    let refuse = errors::of::<String>("EvaluationError");
    let table = Table::open(&data, &host.manifests[plugin]).map_err(errors::of("EvaluationError"))?;
    let rows: Vec<&Row> = table.rows.iter().filter(|r| part.is_none() || r.split == part).collect();
    if rows.iter().all(|r| r.labels.iter().all(Option::is_none)) {
        let message = format!("{}: no known label in {} cases to measure", data.display(), rows.len());
        return Err(refuse(message));
    }
    let answers = predicted(py, (engine, task), &rows, progress.as_ref())?;
    if answers.rows.is_empty() {
        let first = answers.failures.first().map_or("", String::as_str);
        return Err(refuse(format!("{}: no case has an answer; {first}", data.display())));
    }
    let predictions = Predictions::of(&table, &answers.rows, &answers.probabilities);
    predictions.check_known().map_err(errors::of("EvaluationError"))?;
    let own = |i: usize| match table.kind {
        TaskKind::Binary | TaskKind::Multilabel => loaded.threshold(i),
        // Of no use to classes and values.
        _ => 0.5,
    };
    let thresholds = (0..predictions.labels.len()).map(own).collect();
    let source = Source::Plugin {
        plugin: loaded.name().to_owned(),
        version: host.manifests[plugin].plugin.version.to_string(),
        plugin_sha256: loaded.library_sha256.clone(),
        weights_sha256: loaded.weights_sha256.clone(),
        backbone: engine.backbone().info().name.clone(),
        precision: precision_name(engine.precision()).to_owned(),
        data: data.display().to_string(),
        data_sha256: digest_of(&data).map_err(|e| refuse(format!("{}: {e}", data.display())))?,
        split: part.map(|part| part.name().to_owned()),
    };
    let scored = Scored {
        predictions,
        thresholds,
        source,
        failed: answers.failures.len(),
        warnings: loaded.notices.clone(),
        intended_use: format!("{}: {}", loaded.name(), loaded.intended_use()),
    };
    let bootstrap = Bootstrap { draws: bootstrap, seed };
    let json = py.detach(|| scored.measured(bootstrap, out.as_deref())).map_err(refuse)?;
    Ok((json, answers.failures))
}

fn predicted<'a>(
    py: Python<'_>,
    (engine, task): (&Engine, usize),
    rows: &[&'a Row],
    progress: Option<&Py<PyAny>>,
) -> PyResult<Answers<'a>> {
    let mut answers = Answers::default();
    for (n, &row) in rows.iter().enumerate() {
        let views = row.images.clone();
        let case = Case {
            name: row.case.clone(),
            image: None,
            views,
            region: row.region(),
            copies: Default::default(),
        };
        let mut given = None;
        py.detach(|| {
            engine.predict_each(&case, false, &[task], |_, _| (), |_, answer| given = Some(answer));
        });
        match given {
            Some(Ok(prediction)) => {
                let all = &prediction.result.predictions;
                answers.rows.push(row);
                answers.probabilities.push(all.iter().map(|p| p.probability).collect());
            }
            Some(Err(e)) => answers.failures.push(format!("{}: {e}", row.case)),
            None => answers.failures.push(format!("{}: no answer came", row.case)),
        }
        if let Some(progress) = progress {
            progress.call1(py, (n + 1, rows.len()))?;
        }
        py.check_signals()?;
    }
    Ok(answers)
}

/// Measures the scores of any model: a file with the columns case, LABEL, p_LABEL, or as `columns` names them.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
pub fn evaluate_predictions(
    py: Python<'_>,
    predictions: PathBuf,
    data: Option<PathBuf>,
    columns: Option<&str>,
    threshold: f64,
    bootstrap: usize,
    seed: u64,
    out: Option<PathBuf>,
) -> PyResult<String> {
    let names: ColumnNames = match columns {
        Some(text) => text.parse().map_err(errors::of("UsageError"))?,
        None => ColumnNames::default(),
    };
    let digest = |path: &Path| -> PyResult<String> {
        use sha2::{Digest, Sha256};
        let bytes = std::fs::read(path).map_err(|e| {
            errors::raised("EvaluationError", format!("{}: cannot be read: {e}", path.display()))
        })?;
        Ok(hex(&Sha256::digest(bytes)))
    };
    let opened = Predictions::open_as(&predictions, &names, data.as_deref());
    let opened = opened.map_err(errors::of("EvaluationError"))?;
    let scored = Scored {
        thresholds: vec![threshold; opened.labels.len()],
        source: Source::Predictions {
            predictions: predictions.display().to_string(),
            sha256: digest(&predictions)?,
            data: data.as_ref().map(|data| data.display().to_string()),
            data_sha256: data.as_deref().map(digest).transpose()?,
        },
        failed: 0,
        warnings: opened.notes.clone(),
        intended_use: RESEARCH_ONLY.to_owned(),
        predictions: opened,
    };
    let bootstrap = Bootstrap { draws: bootstrap, seed };
    py.detach(|| scored.measured(bootstrap, out.as_deref())).map_err(errors::of("EvaluationError"))
}
