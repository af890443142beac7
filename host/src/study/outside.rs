//! What a study and other programs tell each other: the folds of its tasks, and predictions of methods that it does not train.

use super::error::StudyError;
use super::file::folder_name;
use super::measure::ScanCost;
use super::rows::{CellOutcome, NoFigures, Outcome};
use super::study_plan::{OutsideMethod, PlannedTask, Study};
use crate::data::table::CLASS_COLUMN;
use crate::eval::evaluation::same_cases;
use crate::eval::predictions::Predictions;
use crate::fs::write_atomically;
use anymc3d_manifest::TaskKind;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// What may lie beside a predictions file, `FILE.json` for `FILE.csv`: each number only if whoever wrote it measured it.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct Sidecar {
    /// Trained numbers of a model.
    parameters: Option<usize>,
    /// Minutes of training of all folds and seeds together.
    training_minutes: Option<f64>,
    /// Milliseconds of a case.
    milliseconds: Option<f64>,
    /// How many cases that is the median of.
    timed_cases: Option<usize>,
}

/// Predictions of another program for a task, if they are of its test cases and folds.
pub(super) fn outside_outcome(task: &PlannedTask, method: &OutsideMethod) -> Outcome {
    let path = PathBuf::from(method.path.to_string_lossy().replace("{task}", &folder_name(&task.name)));
    if !path.exists() {
        return Err(NoFigures::NotRun(format!("{} is not there", path.display())));
    }
    let refused = |e: String| NoFigures::Failed(format!("{}: {e}", method.name));
    let asked = task.asked().map_err(refused)?;
    let found = Predictions::open(&path).map_err(|e| refused(e.to_string()))?;
    let found = task.as_question(found).map_err(refused)?;
    let mut found = same_cases(&asked, &found).map_err(refused)?;
    for (case, expected) in found.cases.iter_mut().zip(&asked.cases) {
        case.patient.clone_from(&expected.patient);
        case.fold.clone_from(&expected.fold);
    }
    let beside = path.with_extension("json");
    let sidecar: Sidecar = match std::fs::read(&beside) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|e| refused(format!("{}: {e}; expected an object of numbers", beside.display())))?,
        Err(_) => Sidecar::default(),
    };
    let cost = sidecar.milliseconds.map(|milliseconds| ScanCost {
        milliseconds,
        processor_ms: None,
        peak_bytes: None,
        scans: sidecar.timed_cases.unwrap_or(0),
    });
    Ok(Box::new(CellOutcome {
        seeds: vec![found.clone()],
        mean: found,
        parameters: sidecar.parameters,
        cost,
        seconds: sidecar.training_minutes.map(|minutes| 60.0 * minutes),
    }))
}

impl Study {
    /// Writes `folds/TASK.csv` of every task into a study's folder: cases with their files, labels, and the fold or part that
    /// they are tested in. Of K folds, the one after the tested (of the last: the first) chooses the epoch.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_folds(&self, out: &Path) -> Result<(), StudyError> {
        let folder = out.join("folds");
        for task in &self.tasks {
            let path = folder.join(format!("{}.csv", folder_name(&task.name)));
            let written =
                std::fs::create_dir_all(&folder).and_then(|()| write_atomically(&path, &folds_csv(task)));
            written.map_err(|e| {
                StudyError::folder(out, format!("{}: cannot be written ({e})", path.display()))
            })?;
        }
        Ok(())
    }
}

fn folds_csv(task: &PlannedTask) -> Vec<u8> {
    let table = &task.table;
    let several = task.trials.len() > 1;
    let part_of = |i: usize| -> (String, &'static str) {
        match task.trials.iter().position(|trial| trial.test.contains(&i)) {
            Some(n) if several => ((n + 1).to_string(), ""),
            Some(_) => (String::new(), "test"),
            None if !several && task.trials[0].split.val.contains(&i) => (String::new(), "val"),
            None if !several && task.trials[0].split.train.contains(&i) => (String::new(), "train"),
            None => (String::new(), ""),
        }
    };
    let views: Vec<&str> =
        task.library.embedded.manifest.views.iter().map(|view| view.name.as_str()).collect();
    let of_classes = table.kind == TaskKind::Multiclass;
    let labels = if of_classes { vec![CLASS_COLUMN.to_owned()] } else { table.labels.clone() };
    let mut header = vec!["case".to_owned(), "patient".to_owned(), "fold".to_owned(), "split".to_owned()];
    header.extend(labels);
    header.extend(views.iter().map(|view| format!("image.{view}")));
    header.extend(["mask".to_owned(), "point".to_owned()]);
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Writing to memory cannot fail, and every record is as long as the header.
    let _ = writer.write_record(&header);
    let absolute =
        |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string();
    for (i, row) in table.rows.iter().enumerate() {
        let (fold, part) = part_of(i);
        let mut record =
            vec![row.case.clone(), row.patient.clone().unwrap_or_default(), fold, part.to_owned()];
        if of_classes {
            let class = row.labels.iter().position(|l| *l == Some(1.0));
            record.push(class.map_or(String::new(), |class| table.labels[class].clone()));
        } else if table.kind.has_values() {
            let values = table.values_of(row);
            record.extend(values.iter().map(|v| v.map_or(String::new(), |v| v.to_string())));
        } else {
            record.extend(row.labels.iter().map(|l| l.map_or(String::new(), |l| l.to_string())));
        }
        record.extend(views.iter().map(|view| row.images.get(*view).map_or(String::new(), absolute)));
        record.push(row.mask.as_ref().map_or(String::new(), absolute));
        record.push(row.point_mm.map_or(String::new(), |p| p.map(|v| v.to_string()).join(" ")));
        let _ = writer.write_record(&record);
    }
    writer.into_inner().unwrap_or_default()
}
