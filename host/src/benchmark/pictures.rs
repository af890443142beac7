//! A benchmark's pictures: areas with intervals, ROC curves of each task, areas against trained numbers.

use super::rows::{BenchmarkRow, Known};
use crate::eval::chart::{
    Drawing, ForestPanel, ForestRow, MethodScores, ScatterPanel, ScatterPoint, forest, roc_of_methods,
    scatter,
};
use crate::eval::evaluation::Bootstrap;
use crate::study::{Place, StudyTable};
use std::collections::BTreeMap;

/// Title of a row's panel: the task, and its label where it has several.
pub(super) fn title(row: &BenchmarkRow, rows: &[BenchmarkRow]) -> String {
    let labels = |r: &&BenchmarkRow| r.task == row.task && r.missing.is_none();
    let several = rows.iter().filter(labels).any(|r| r.label != row.label && row.missing.is_none());
    if several { format!("{}, {}", row.task, row.label) } else { row.task.clone() }
}

/// A method, and its backbone where there are several.
pub(super) fn name(row: &BenchmarkRow, backbones: &[String]) -> String {
    match backbones.len() > 1 && row.backbone != "-" {
        true => format!("{}, {}", row.method, row.backbone),
        false => row.method.clone(),
    }
}

/// The panels' titles in order, each with its rows; what has no figures stands with the task's first label.
pub(super) fn by_panel(rows: &[BenchmarkRow]) -> Vec<(String, Vec<&BenchmarkRow>)> {
    let mut panels: Vec<(String, Vec<&BenchmarkRow>)> = Vec::new();
    let figured = |r: &&BenchmarkRow| r.missing.is_none();
    for row in rows.iter().filter(figured).chain(rows.iter().filter(|r| r.missing.is_some())) {
        let title = match &row.missing {
            None => title(row, rows),
            Some(_) => {
                let first = rows.iter().find(|r| r.task == row.task && r.missing.is_none());
                first.map_or(row.task.clone(), |first| title(first, rows))
            }
        };
        match panels.iter_mut().find(|(of, _)| *of == title) {
            Some((_, of)) => of.push(row),
            None => panels.push((title, vec![row])),
        }
    }
    let order = |task: &str| rows.iter().position(|r| r.task == task);
    panels.sort_by_key(|(_, of)| of.first().and_then(|row| order(&row.task)));
    panels
}

/// `forest`.
pub(super) fn forest_plot(table: &StudyTable, rows: &[BenchmarkRow]) -> Drawing {
    let (backbones, methods) = table.axes();
    let baselines: Vec<&String> = table.baselines.iter().map(|m| &methods[*m]).collect();
    let panels = by_panel(rows).into_iter().map(|(title, of)| ForestPanel {
        title,
        rows: of
            .into_iter()
            .map(|row| {
                let interval = row.auroc_ci95();
                let note = match (&row.missing, row.auroc, interval) {
                    (Some(_), ..) => "no figures".to_owned(),
                    (None, Some(auroc), Some([low, high])) => format!("{auroc:.3} ({low:.3} to {high:.3})"),
                    (None, Some(auroc), None) => format!("{auroc:.3}"),
                    (None, None, _) => "not defined".to_owned(),
                };
                let baseline = baselines.contains(&&row.method);
                ForestRow { name: name(row, backbones), auroc: row.auroc, interval, note, baseline }
            })
            .collect(),
    });
    forest("Benchmark", &panels.collect::<Vec<_>>())
}

/// `auroc_parameters`: trained numbers against areas, a square per question. What is not known to train any number is left out.
pub(super) fn parameters_plot(table: &StudyTable, rows: &[BenchmarkRow]) -> Drawing {
    let (backbones, methods) = table.axes();
    // A method that nobody has run, or whose numbers nobody counted, has no place in the legend.
    let counted = |name: &&String| rows.iter().any(|row| row.method == **name && row.parameters.is_some());
    let methods: Vec<String> = methods.iter().filter(counted).cloned().collect();
    let index = |all: &[String], name: &str| all.iter().position(|n| n == name);
    let panels: Vec<ScatterPanel> = by_panel(rows)
        .into_iter()
        .map(|(title, of)| ScatterPanel {
            title,
            points: of
                .into_iter()
                .filter_map(|row| {
                    let (auroc, parameters) = row.auroc.zip(row.parameters)?;
                    Some(ScatterPoint {
                        cost: (parameters as f64).max(1.0),
                        auroc,
                        interval: row.auroc_ci95(),
                        colour: index(&methods, &row.method)?,
                        mark: index(backbones, &row.backbone).unwrap_or(backbones.len()),
                    })
                })
                .collect(),
        })
        .collect();
    let mut marks = backbones.to_vec();
    if rows.iter().any(|row| row.backbone == "-") {
        marks.push("no backbone".to_owned());
    }
    scatter("AUROC and trained parameters", "trained parameters", &panels, &methods, &marks)
}

/// `roc_TASK` of every question.
pub(super) fn roc_plots(
    table: &StudyTable,
    rows: &[BenchmarkRow],
    known: &mut Known,
    bootstrap: Bootstrap,
) -> Vec<(String, Drawing)> {
    let (backbones, _) = table.axes();
    let mut figures = BTreeMap::new();
    let mut places: Vec<(Place, String)> = Vec::new();
    for (place, outcome) in table.outcomes() {
        if let Ok(cell) = outcome {
            figures.insert(place, known.of(place, cell, bootstrap));
            let [task, backbone, method] = table.names(place);
            places.push((place, [task, backbone, method].join("\n")));
        }
    }
    let mut pictures = Vec::new();
    for (title, of) in by_panel(rows) {
        let names: Vec<(String, &BenchmarkRow)> = of
            .into_iter()
            .filter(|row| row.missing.is_none())
            .map(|row| (name(row, backbones), row))
            .collect();
        let scores = names.iter().filter_map(|(name, row)| {
            let key = [row.task.as_str(), &row.backbone, &row.method].join("\n");
            let place = places.iter().find(|(_, of)| *of == key)?.0;
            let question = figures.get(&place)?.questions.iter().find(|q| q.name == row.label)?;
            Some(MethodScores { name, auroc: row.auroc, interval: row.auroc_ci95(), question })
        });
        let scores: Vec<MethodScores<'_>> = scores.collect();
        let Some((_, first)) = names.first() else { continue };
        let cases = format!(
            "{} cases of {} patients, {} positive; curves have all folds in one order, figures have not",
            first.cases, first.patients, first.positives
        );
        pictures.push((title.clone(), roc_of_methods(&format!("ROC: {title}"), &cases, &scores)));
    }
    pictures
}
