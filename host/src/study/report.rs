//! A study's table, as Markdown, CSV and JSON, and as a picture.

use super::part::StudyPart;
use super::rows::{self, CellOutcome, Names, NoFigures, Outcome, OverallRow, StudyRow};
use super::study_plan::Study;
use crate::eval::chart::{ScatterPanel, ScatterPoint, scatter};
use crate::eval::evaluation::RESEARCH_ONLY;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Index of a task, a backbone and a method. A backbone beyond the study's is none; methods beyond the study's are those of
/// other programs.
pub(crate) type Place = [usize; 3];

/// The table of a study, as far as it is computed.
pub struct StudyTable {
    tasks: Vec<String>,
    /// Tasks whose score orders cases and is no probability.
    pub(crate) ordering: Vec<bool>,
    /// The last is none.
    backbones: Vec<String>,
    methods: Vec<String>,
    /// Index of a backbone and of a method.
    baseline: (usize, usize),
    /// Methods that a benchmark tests the others against.
    pub(crate) baselines: Vec<usize>,
    cells: BTreeMap<Place, Outcome>,
    of: usize,
}

impl StudyTable {
    pub(super) fn new(study: &Study) -> Self {
        let tasks = study.tasks.iter().map(|t| t.name.clone()).collect();
        let backbones = study.backbones.iter().map(|b| b.name.as_str()).chain(["-"]).map(str::to_owned);
        let backbones: Vec<String> = backbones.collect();
        let methods = study.methods.iter().map(|m| &m.name).chain(study.outside.iter().map(|m| &m.name));
        let methods: Vec<String> = methods.cloned().collect();
        // The study file was checked for both.
        let at = |all: &[String], name: &str| all.iter().position(|n| n == name).unwrap_or(0);
        let baseline = (at(&backbones, &study.baseline.0), at(&methods, &study.baseline.1));
        let baselines = study.baselines.iter().map(|name| at(&methods, name)).collect();
        let of = study.cells(&StudyPart::default()) + study.tasks.len() * study.outside.len();
        let ordering = study.tasks.iter().map(|task| task.entry.cut.is_some()).collect();
        Self { tasks, ordering, backbones, methods, baseline, baselines, cells: BTreeMap::new(), of }
    }

    pub(super) fn put(&mut self, at: Place, outcome: Outcome) {
        self.cells.insert(at, outcome);
    }

    /// Whether a cell has figures.
    pub(super) fn has(&self, at: Place) -> bool {
        self.cells.get(&at).is_some_and(Result::is_ok)
    }

    /// What came of every cell that had its turn, task by task.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (Place, &Outcome)> {
        self.cells.iter().map(|(at, outcome)| (*at, outcome))
    }

    /// Of a cell's task, backbone and method.
    pub(crate) fn names(&self, [t, b, m]: Place) -> [&str; 3] {
        [&self.tasks[t], &self.backbones[b], &self.methods[m]]
    }

    /// The cell of a method on a cell's task and backbone, or without one; beside a cell without a backbone that of the baseline's.
    pub(crate) fn beside(&self, [t, b, _]: Place, method: usize) -> Option<(Place, &CellOutcome)> {
        let none = self.backbones.len() - 1;
        let instead = if b == none { self.baseline.0 } else { none };
        let places = [[t, b, method], [t, instead, method]];
        places.into_iter().find_map(|place| Some((place, self.cells.get(&place)?.as_ref().ok()?.as_ref())))
    }

    /// Names of the backbones, and of the methods.
    pub(crate) fn axes(&self) -> (&[String], &[String]) {
        (&self.backbones[..self.backbones.len() - 1], &self.methods)
    }

    /// How many cells have had their turn, and how many there are. Predictions that nobody has made yet have not.
    pub fn progress(&self) -> [usize; 2] {
        let had = self.cells.values().filter(|outcome| !matches!(outcome, Err(NoFigures::NotRun(_))));
        [had.count(), self.of]
    }

    /// Cells that were tried and have no figures.
    pub fn failures(&self) -> usize {
        self.cells.values().filter(|outcome| matches!(outcome, Err(NoFigures::Failed(_)))).count()
    }

    /// All rows, task by task, in the order of the study file.
    pub fn rows(&self) -> Vec<StudyRow> {
        let (backbone, method) = self.baseline;
        let mut rows = Vec::new();
        for ([t, b, m], outcome) in &self.cells {
            let base = self.cells.get(&[*t, backbone, method]);
            let base = base.and_then(|outcome| outcome.as_ref().ok()).map(AsRef::as_ref);
            let names =
                Names { task: &self.tasks[*t], backbone: &self.backbones[*b], method: &self.methods[*m] };
            rows.extend(rows::of_cell(names, outcome, base, (*b, *m) == self.baseline));
        }
        rows::holm(&mut rows);
        rows
    }

    /// The means over the tasks.
    pub fn overall(&self) -> Vec<OverallRow> {
        rows::overall(&self.rows())
    }

    /// The files of a study by name.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let rows = self.rows();
        let overall = rows::overall(&rows);
        let (backbone, method) = self.baseline;
        let json = json!({
            "schema": "anymc3d/study/1",
            "cells": self.progress()[0],
            "of": self.of,
            "baseline": { "backbone": self.backbones[backbone], "method": self.methods[method] },
            "rows": rows,
            "overall": overall,
            "host": env!("CARGO_PKG_VERSION"),
            "research_only": RESEARCH_ONLY,
        });
        let picture = self.picture(&rows);
        let mut files = vec![
            ("study.md", self.markdown(&rows, &overall).into_bytes()),
            ("study.csv", csv(&rows)),
            ("auroc_time.svg", picture.svg().into_bytes()),
        ];
        files.extend(picture.png().ok().map(|png| ("auroc_time.png", png)));
        // Last, as what programs look for.
        files.push(("study.json", format!("{json:#}\n").into_bytes()));
        files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
    }

    /// AUROC against the time of a scan, a square per label.
    fn picture(&self, rows: &[StudyRow]) -> crate::eval::chart::Drawing {
        let mut panels: Vec<ScatterPanel> = Vec::new();
        for row in rows.iter().filter(|row| row.failed.is_none()) {
            let title = title(row, rows);
            let at = panels.iter().position(|p| p.title == title).unwrap_or_else(|| {
                panels.push(ScatterPanel { title, points: Vec::new() });
                panels.len() - 1
            });
            let index = |all: &[String], name: &str| all.iter().position(|n| n == name).unwrap_or(0);
            let point = row.auroc.zip(row.cost).map(|(auroc, cost)| ScatterPoint {
                cost: cost.milliseconds.max(0.1),
                auroc,
                interval: row.auroc_ci95,
                colour: index(&self.backbones, &row.backbone),
                mark: index(&self.methods, &row.method),
            });
            panels[at].points.extend(point);
        }
        // Methods without a backbone have a colour too, where there are any.
        let any = self.cells.keys().any(|[_, b, _]| *b + 1 == self.backbones.len());
        let colours = if any { &self.backbones[..] } else { self.axes().0 };
        scatter("AUROC and time per scan", "ms per scan", &panels, colours, &self.methods)
    }

    /// The table for people: per task its rows, and the means over tasks.
    pub fn markdown(&self, rows: &[StudyRow], overall: &[OverallRow]) -> String {
        let (backbone, method) = self.baseline;
        let mut text = format!(
            "# Study\n\n{RESEARCH_ONLY} Areas under the ROC curve of test cases with DeLong's 95 % intervals; difference and p \
             (DeLong's paired test, and after Holm's correction for all tests here) against {} with {}.\n",
            self.backbones[backbone], self.methods[method]
        );
        let mut before = String::new();
        for row in rows {
            let title = title(row, rows);
            if title != before {
                let cases = rows.iter().find(|r| self::title(r, rows) == title && r.failed.is_none());
                let cases =
                    cases.map_or(String::new(), |r| format!(": {} cases, {} positive", r.cases, r.positives));
                // Writing to a String cannot fail.
                let _ = write!(
                    text,
                    "\n## {title}{cases}\n\n| backbone | method | AUROC (95 %) | SD of seeds | difference | p | p, Holm | parameters \
                     | ms per scan | processor ms | MB |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
                );
                before = title;
            }
            let _ = writeln!(text, "| {} |", cells(row).join(" | "));
        }
        if self.tasks.len() > 1 {
            text +=
                "\n## Over all tasks\n\n| backbone | method | mean AUROC | mean rank |\n|---|---|---|---|\n";
            for row in overall {
                let number =
                    |v: Option<f64>, digits: usize| v.map_or("-".to_owned(), |v| format!("{v:.digits$}"));
                let (area, rank) = (number(row.mean_auroc, 3), number(row.mean_rank, 1));
                let _ =
                    writeln!(text, "| {} | {} | {area} | {rank} |", plain(&row.backbone), plain(&row.method));
            }
        }
        text
    }
}

/// Name of a row's table: the task, and its label where it has several.
fn title(row: &StudyRow, rows: &[StudyRow]) -> String {
    let several = rows
        .iter()
        .any(|r| r.task == row.task && r.failed.is_none() && row.failed.is_none() && r.label != row.label);
    if several { format!("{}, {}", row.task, row.label) } else { row.task.clone() }
}

/// A name must not end a cell of the table.
pub(crate) fn plain(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn cells(row: &StudyRow) -> Vec<String> {
    let mut cells = vec![plain(&row.backbone), plain(&row.method)];
    if let Some(reason) = &row.failed {
        cells.push(format!("failed: {}", plain(reason)));
        cells.extend(std::iter::repeat_n(String::new(), 8));
        return cells;
    }
    let p = |p: Option<f64>| match (p, row.baseline) {
        (_, true) => "baseline".to_owned(),
        (Some(p), _) if p < 0.001 => "< 0.001".to_owned(),
        (Some(p), _) => format!("{p:.3}"),
        (None, _) => "-".to_owned(),
    };
    let interval = row.auroc_ci95.map_or(String::new(), |[low, high]| format!(" ({low:.3} to {high:.3})"));
    let none = || "-".to_owned();
    cells.extend([
        row.auroc.map_or_else(none, |a| format!("{a:.3}{interval}")),
        row.auroc_seed_sd.map_or_else(none, |sd| format!("{sd:.3}")),
        row.difference.map_or_else(none, |d| format!("{d:+.3}")),
        p(row.p_value),
        p(row.p_holm),
        row.parameters.map_or_else(none, |n| n.to_string()),
        row.cost.map_or_else(none, |c| format!("{:.0}", c.milliseconds)),
        row.cost.and_then(|c| c.processor_ms).map_or_else(none, |ms| format!("{ms:.0}")),
        row.cost.and_then(|c| c.peak_bytes).map_or_else(none, |b| format!("{:.0}", b as f64 / 1e6)),
    ]);
    cells
}

/// A line per row, all digits.
fn csv(rows: &[StudyRow]) -> Vec<u8> {
    const HEADER: [&str; 19] = [
        "task",
        "label",
        "backbone",
        "method",
        "cases",
        "positives",
        "auroc",
        "auroc_low",
        "auroc_high",
        "auroc_seed_sd",
        "difference",
        "p_value",
        "p_holm",
        "baseline",
        "parameters",
        "ms_per_scan",
        "processor_ms_per_scan",
        "peak_bytes",
        "failed",
    ];
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Writing to memory cannot fail, and every record is as long as the header.
    let _ = writer.write_record(HEADER);
    let number = |v: Option<f64>| v.map_or(String::new(), |v| v.to_string());
    let ends = |row: &StudyRow, i: usize| number(row.auroc_ci95.map(|ends| ends[i]));
    for row in rows {
        let _ = writer.write_record([
            row.task.clone(),
            row.label.clone(),
            row.backbone.clone(),
            row.method.clone(),
            row.cases.to_string(),
            row.positives.to_string(),
            number(row.auroc),
            ends(row, 0),
            ends(row, 1),
            number(row.auroc_seed_sd),
            number(row.difference),
            number(row.p_value),
            number(row.p_holm),
            row.baseline.to_string(),
            row.parameters.map_or(String::new(), |n| n.to_string()),
            number(row.cost.map(|c| c.milliseconds)),
            number(row.cost.and_then(|c| c.processor_ms)),
            row.cost.and_then(|c| c.peak_bytes).map_or(String::new(), |n| n.to_string()),
            row.failed.clone().unwrap_or_default(),
        ]);
    }
    writer.into_inner().unwrap_or_default()
}
