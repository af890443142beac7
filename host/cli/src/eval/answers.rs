//! A plugin's predictions for the cases of a table.

use super::thresholds;
use super::{CommandError, Console, Eval, OutputFolder, Scored};
use crate::count::CaseCount;
use crate::labels::with_hint;
use anymc3d_host::data::table::{Row, Table, digest_of};
use anymc3d_host::engine::{Case, Engine, precision_name};
use anymc3d_host::eval::evaluation::Source;
use anymc3d_host::eval::metrics::{FEWEST, fit};
use anymc3d_host::eval::predictions::Predictions;
use anymc3d_host::plugin::{find, inspect};
use anymc3d_host::task::LoadedTask;
use anymc3d_host::task::{Calibration, FittedOn, Weights, weights};
use anymc3d_manifest::TaskKind;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Instant;

/// The cases that have a prediction.
#[derive(Default)]
struct Answers<'a> {
    rows: Vec<&'a Row>,
    probabilities: Vec<Vec<f64>>,
    logits: Vec<Vec<f64>>,
    failed: usize,
    /// And in how many cases.
    warnings: BTreeMap<String, usize>,
}

/// Predicts every case. Whatever can be refused is refused before the first case is computed.
pub(super) fn of(
    eval: &Eval,
    folder: &Path,
    console: &Console,
) -> Result<(Scored, OutputFolder), CommandError> {
    let (Some(plugin), Some(data)) = (&eval.plugin, &eval.data) else {
        return Err(CommandError::usage("--plugin and --data belong together"));
    };
    let library = find::library(plugin).and_then(|path| inspect(&path)).map_err(CommandError::refused)?;
    let manifest = library.manifest().clone();
    let labels = eval.labels.columns(&manifest)?;
    let table = labels.open(data, &manifest);
    let table = table.map_err(|e| CommandError::failed(with_hint(e, data, &manifest)))?;
    let rows = chosen(eval, &table)?;
    let out = crate::options::out_folder(folder).map_err(CommandError::failed)?;
    if let Some(file) = &eval.calibrate {
        crate::options::out_file("--calibrate", file).map_err(CommandError::failed)?;
    }
    let precision = eval.precision.resolve(eval.backbone.device);
    let backbone = eval.backbone.open(precision)?;
    let task =
        LoadedTask::open_all(library, &eval.weights, &backbone, false).map_err(CommandError::refused)?;
    if eval.calibrate.is_some() && !task.members.is_empty() {
        let (weights, n) = (task.weights.display(), task.all().count());
        return Err(CommandError::usage(format!(
            "--calibrate: {weights} is an ensemble of {n}, each calibrated on its own validation cases"
        )));
    }
    let own = match table.kind {
        TaskKind::Multiclass => vec![0.5],
        // Of no use to values.
        TaskKind::Ordinal | TaskKind::Regression => vec![0.5; table.labels.len()],
        TaskKind::Binary | TaskKind::Multilabel => {
            (0..table.labels.len()).map(|i| task.threshold(i)).collect()
        }
    };
    let labels = Predictions::of(&table, &[], &[]).labels;
    let thresholds = thresholds::of(&eval.threshold, &labels, own)?;
    let engine = Engine::new(backbone, precision, vec![task]);
    let answers = predict(&engine, &rows, console);
    if answers.rows.is_empty() {
        return Err(CommandError::failed(format!("{}: no case has an answer", data.display())));
    }
    let task = &engine.tasks()[0];
    let predictions = Predictions::of(&table, &answers.rows, &answers.probabilities);
    predictions.check_known().map_err(CommandError::failed)?;

    let names = || answers.rows.iter().map(|r| r.case.as_str());
    let mut warnings: Vec<String> = task.notices.clone();
    warnings.extend(
        answers
            .warnings
            .iter()
            .filter(|(text, _)| !task.notices.contains(text))
            .map(|(text, cases)| format!("{text} ({cases} of {} cases)", answers.rows.len())),
    );
    let fitted = |task: &LoadedTask| task.weights_info.calibration.as_ref().map(|c| c.fitted_on.clone());
    if task.all().any(|member| fitted(member) == Some(FittedOn::of(names()))) {
        warnings.push(
            "temperature and threshold were fitted on these very cases: what depends on them is too good"
                .to_owned(),
        );
    }
    if let Some(file) = &eval.calibrate {
        let calibration = calibrate(task, &answers, FittedOn::of(names()), file)?;
        console.note(said(&calibration, &table, file));
    }
    let backbone = engine.backbone().info();
    let source = Source::Plugin {
        plugin: task.name().to_owned(),
        version: manifest.plugin.version.to_string(),
        plugin_sha256: task.library_sha256.clone(),
        weights_sha256: task.weights_sha256.clone(),
        backbone: backbone.name.clone(),
        precision: precision_name(precision).to_owned(),
        data: data.display().to_string(),
        data_sha256: digest_of(data)
            .map_err(|e| CommandError::failed(format!("{}: cannot be read: {e}", data.display())))?,
        split: eval.split.map(|s| s.part().name().to_owned()),
    };
    let scored = Scored {
        predictions,
        thresholds,
        source,
        failed: answers.failed,
        warnings,
        intended_use: Some(format!("{}: {}", task.name(), task.intended_use())),
    };
    Ok((scored, out))
}

/// The rows of the wanted split, if any of them has a label.
fn chosen<'a>(eval: &Eval, table: &'a Table) -> Result<Vec<&'a Row>, CommandError> {
    let part = eval.split.map(|s| s.part());
    let rows: Vec<&Row> = table.rows.iter().filter(|r| part.is_none() || r.split == part).collect();
    let at = table.path.display();
    if let (Some(part), true) = (part, rows.is_empty()) {
        let name = part.name();
        return Err(CommandError::failed(format!(
            "{at}: --split {name}: no case has `{name}` in the column `split`"
        )));
    }
    if rows.iter().all(|r| r.labels.iter().all(Option::is_none)) {
        let (n, labels) = (rows.len(), table.labels.join(", "));
        return Err(CommandError::failed(format!(
            "{at}: no known label in {n} cases: nothing to measure against; expected some for {labels}"
        )));
    }
    Ok(rows)
}

fn predict<'a>(engine: &Engine, rows: &[&'a Row], console: &Console) -> Answers<'a> {
    let mut answers = Answers::default();
    let bar = console.progress(rows.len(), "cases");
    // Where no bar can be drawn, as in a batch job.
    let mut count = CaseCount::begin(rows.len(), Instant::now());
    for &row in rows {
        let mut failure = None;
        let case = Case {
            name: row.case.clone(),
            views: row.images.clone(),
            region: row.region(),
            ..Case::default()
        };
        for answer in engine.predict(&case, false) {
            match answer {
                Ok(prediction) => {
                    let result = prediction.result;
                    answers.rows.push(row);
                    answers.probabilities.push(result.predictions.iter().map(|p| p.probability).collect());
                    answers.logits.push(result.predictions.iter().map(|p| p.logit).collect());
                    for warning in result.warnings {
                        *answers.warnings.entry(warning).or_default() += 1;
                    }
                }
                Err(e) => {
                    answers.failed += 1;
                    let (at, error) = (case.any_file().display().to_string(), e.to_string());
                    // Most messages name the file already.
                    console.error(if error.contains(&at) { error.clone() } else { format!("{at}: {error}") });
                    failure = Some(error);
                }
            }
        }
        bar.inc(1);
        if let Some(line) = count.case(failure.as_deref(), Instant::now())
            && !std::io::stderr().is_terminal()
        {
            console.note(line);
        }
    }
    if let Some(summary) = count.summary() {
        console.note(summary);
    }
    answers
}

/// Fits on the raw logits, and writes a copy of the weights that has what was fitted.
fn calibrate(
    task: &LoadedTask,
    answers: &Answers<'_>,
    fitted_on: FittedOn,
    file: &Path,
) -> Result<Calibration, CommandError> {
    let labels: Vec<_> = answers.rows.iter().map(|r| r.labels.clone()).collect();
    let kind = task.task.manifest().task.kind;
    let fitted = fit(kind, &answers.logits, &labels, fitted_on).ok_or_else(|| {
        CommandError::failed(format!(
            "--calibrate {}: nothing can be fitted on {} cases; expected {FEWEST} positives and {FEWEST} negatives of a label at least, that the answers do not tell apart without error",
            file.display(),
            answers.rows.len()
        ))
    })?;
    let Weights { tensors, mut info, .. } = Weights::open(&task.weights).map_err(CommandError::refused)?;
    info.calibration = Some(fitted.clone());
    weights::write(file, &tensors, &info).map_err(CommandError::failed)?;
    Ok(fitted)
}

/// What was fitted, label by label.
fn said(calibration: &Calibration, table: &Table, file: &Path) -> String {
    let number = |v: Option<f64>| v.map_or("not fitted".to_owned(), |v| format!("{v:.3}"));
    let fitted: Vec<String> = match table.kind {
        TaskKind::Multiclass => {
            vec![format!("temperature {}", number(calibration.temperature(table.kind, 0)))]
        }
        TaskKind::Ordinal | TaskKind::Regression => {
            let fitted = calibration.temperatures.iter().map(|t| number(*t)).collect::<Vec<_>>();
            vec![format!("temperatures {}", fitted.join(", "))]
        }
        TaskKind::Binary | TaskKind::Multilabel => (0..table.labels.len())
            .map(|i| {
                let temperature = number(calibration.temperature(table.kind, i));
                format!(
                    "{}: temperature {temperature}, threshold {}",
                    table.labels[i],
                    number(calibration.threshold(i))
                )
            })
            .collect(),
    };
    format!(
        "{}: {}; fitted on {} cases; measure it on others",
        file.display(),
        fitted.join("; "),
        calibration.fitted_on.cases
    )
}
