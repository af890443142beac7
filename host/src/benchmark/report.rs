//! A benchmark's files: the table as Markdown, CSV and JSON, and its pictures.

use super::pictures::{by_panel, forest_plot, name, parameters_plot, roc_plots};
use super::rows::{self, BenchmarkRow, Known};
use crate::eval::evaluation::{Bootstrap, RESEARCH_ONLY};
use crate::study::{OverallRow, StudyTable, folder_name, plain};
use serde_json::json;
use std::fmt::Write as _;

/// Makes the files of a benchmark; what a cell alone decides is computed once.
pub struct BenchmarkReport {
    bootstrap: Bootstrap,
    known: Known,
}

impl BenchmarkReport {
    /// With intervals over draws of patients.
    pub fn new(bootstrap: Bootstrap) -> Self {
        Self { bootstrap, known: Known::default() }
    }

    /// All rows, task by task, in the order of the suite.
    pub fn rows(&mut self, table: &StudyTable) -> Vec<BenchmarkRow> {
        rows::rows(table, &mut self.known, self.bootstrap)
    }

    /// The tables by name, without pictures.
    pub fn tables(&mut self, table: &StudyTable) -> Vec<(String, Vec<u8>)> {
        let rows = self.rows(table);
        let (overall, baselines) = (table.overall(), names(table));
        let [done, of] = table.progress();
        let json = json!({
            "schema": "anymc3d/benchmark/1",
            "cells": done,
            "of": of,
            "baselines": baselines,
            "bootstrap": self.bootstrap,
            "rows": rows,
            "overall": overall,
            "host": env!("CARGO_PKG_VERSION"),
            "research_only": RESEARCH_ONLY,
        });
        vec![
            ("benchmark.md".to_owned(), markdown(table, &rows, &overall).into_bytes()),
            ("benchmark.csv".to_owned(), csv(&rows, &baselines)),
            // Last, as what programs look for.
            ("benchmark.json".to_owned(), format!("{json:#}\n").into_bytes()),
        ]
    }

    /// The pictures by name: `forest`, `auroc_parameters`, and `roc_TASK` of each question, as SVG and PNG.
    pub fn pictures(&mut self, table: &StudyTable) -> Vec<(String, Vec<u8>)> {
        let rows = self.rows(table);
        let mut drawings = vec![
            ("forest".to_owned(), forest_plot(table, &rows)),
            ("auroc_parameters".to_owned(), parameters_plot(table, &rows)),
        ];
        for (title, drawing) in roc_plots(table, &rows, &mut self.known, self.bootstrap) {
            drawings.push((format!("roc_{}", folder_name(&title)), drawing));
        }
        let mut files = Vec::new();
        for (name, drawing) in drawings {
            files.push((format!("{name}.svg"), drawing.svg().into_bytes()));
            files.extend(drawing.png().ok().map(|png| (format!("{name}.png"), png)));
        }
        files
    }

    /// The table for people.
    pub fn markdown(&mut self, table: &StudyTable) -> String {
        markdown(table, &self.rows(table), &table.overall())
    }
}

fn names(table: &StudyTable) -> Vec<String> {
    let (_, methods) = table.axes();
    table.baselines.iter().map(|m| methods[*m].clone()).collect()
}

fn number(v: Option<f64>, digits: usize) -> String {
    v.map_or("-".to_owned(), |v| format!("{v:.digits$}"))
}

fn with_interval(v: Option<f64>, interval: Option<[f64; 2]>) -> String {
    let interval = interval.map_or(String::new(), |[low, high]| format!(" ({low:.3} to {high:.3})"));
    v.map_or("-".to_owned(), |v| format!("{v:.3}{interval}"))
}

fn p_value(p: Option<f64>) -> String {
    match p {
        Some(p) if p < 0.001 => "< 0.001".to_owned(),
        p => number(p, 3),
    }
}

fn markdown(table: &StudyTable, rows: &[BenchmarkRow], overall: &[OverallRow]) -> String {
    let (baselines, [done, of]) = (names(table), table.progress());
    let mut text = format!(
        "# Benchmark\n\n{RESEARCH_ONLY} Test cases alone: none trained the weights that score it or chose their epoch. AUROC and AP \
         (average precision) are means over the folds, with 95 % intervals over draws of patients where patients have several \
         cases (AUROC of others: DeLong). Of each baseline: difference of the areas, its interval over draws of patients, and p of \
         DeLong's paired test after Holm's correction. Minutes are those of training all folds and seeds, ms those of a case.\n"
    );
    if done < of {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{done} of {of} cells are done.\n");
    }
    for (title, rows) in by_panel(rows) {
        text += &panel(&title, &rows, &baselines, table.axes().0);
    }
    let several = rows.iter().any(|row| row.task != rows[0].task);
    if several && overall.iter().any(|row| row.mean_auroc.is_some()) {
        text += "\n## Over all tasks\n\nOf methods that have figures on every label of every task.\n\n\
            | method | mean AUROC | mean rank |\n|---|---|---|\n";
        for row in overall.iter().filter(|row| row.mean_auroc.is_some()) {
            let several = table.axes().0.len() > 1 && row.backbone != "-";
            let method =
                if several { format!("{}, {}", row.method, row.backbone) } else { row.method.clone() };
            let (area, rank) = (number(row.mean_auroc, 3), number(row.mean_rank, 1));
            let _ = writeln!(text, "| {} | {area} | {rank} |", plain(&method));
        }
    }
    text
}

fn panel(title: &str, rows: &[&BenchmarkRow], baselines: &[String], backbones: &[String]) -> String {
    let mut text = format!("\n## {title}");
    if let Some(row) = rows.iter().find(|row| row.missing.is_none()) {
        let of =
            if row.patients < row.cases { format!(" of {} patients", row.patients) } else { String::new() };
        let _ = write!(text, ": {} cases{of}, {} positive", row.cases, row.positives);
    }
    text += "\n\n| method | AUROC (95 %) | AP (95 %) | Brier |";
    for baseline in baselines {
        let _ = write!(text, " against {} | p |", plain(baseline));
    }
    text += " parameters | minutes | ms |\n|---|---|---|---|";
    text += &"---|---|".repeat(baselines.len());
    text += "---|---|---|\n";
    for row in rows {
        let mut cells = vec![plain(&name(row, backbones))];
        if let Some(reason) = &row.missing {
            let reason =
                if reason.starts_with("not run") { reason.clone() } else { format!("failed: {reason}") };
            cells.push(plain(&reason));
            cells.extend(std::iter::repeat_n(String::new(), 5 + 2 * baselines.len()));
        } else {
            cells.push(with_interval(row.auroc, row.auroc_ci95()));
            cells.push(with_interval(row.average_precision, row.average_precision_ci95));
            cells.push(number(row.brier, 3));
            for baseline in baselines {
                match row.tests.iter().find(|test| test.baseline == *baseline) {
                    Some(test) => {
                        let ends = test.difference_ci95;
                        let ends =
                            ends.map_or(String::new(), |[low, high]| format!(" ({low:+.3} to {high:+.3})"));
                        cells.push(test.difference.map_or("-".to_owned(), |d| format!("{d:+.3}{ends}")));
                        cells.push(p_value(test.p_holm));
                    }
                    None if row.method == *baseline => cells.extend(["baseline".to_owned(), String::new()]),
                    None => cells.extend(["-".to_owned(), "-".to_owned()]),
                }
            }
            cells.push(row.parameters.map_or("-".to_owned(), |n| n.to_string()));
            cells.push(number(row.training_minutes, 1));
            cells.push(number(row.milliseconds, 0));
        }
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}

/// A line per row, all digits; of each baseline four columns, named by its place.
fn csv(rows: &[BenchmarkRow], baselines: &[String]) -> Vec<u8> {
    let of = |v: Option<f64>| v.map_or(String::new(), |v| v.to_string());
    let both = |ends: Option<[f64; 2]>| {
        ends.map_or([String::new(), String::new()], |ends| ends.map(|v| v.to_string()))
    };
    let mut header: Vec<String> = [
        "task",
        "label",
        "backbone",
        "method",
        "cases",
        "positives",
        "patients",
        "auroc",
        "auroc_delong_low",
        "auroc_delong_high",
        "auroc_bootstrap_low",
        "auroc_bootstrap_high",
        "auroc_seed_sd",
        "average_precision",
        "average_precision_low",
        "average_precision_high",
        "brier",
        "brier_low",
        "brier_high",
        "parameters",
        "training_minutes",
        "ms_per_case",
        "missing",
    ]
    .map(str::to_owned)
    .to_vec();
    for baseline in baselines {
        let columns = ["difference", "difference_low", "difference_high", "p_value", "p_holm"];
        header.extend(columns.map(|column| format!("{column}.{baseline}")));
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Writing to memory cannot fail, and every record is as long as the header.
    let _ = writer.write_record(&header);
    for row in rows {
        let mut record = vec![row.task.clone(), row.label.clone(), row.backbone.clone(), row.method.clone()];
        record.extend([row.cases, row.positives, row.patients].map(|n| n.to_string()));
        record.push(of(row.auroc));
        record.extend(both(row.auroc_delong_ci95));
        record.extend(both(row.auroc_bootstrap_ci95));
        record.extend([of(row.auroc_seed_sd), of(row.average_precision)]);
        record.extend(both(row.average_precision_ci95));
        record.push(of(row.brier));
        record.extend(both(row.brier_ci95));
        record.push(row.parameters.map_or(String::new(), |n| n.to_string()));
        record.extend([of(row.training_minutes), of(row.milliseconds)]);
        record.push(row.missing.clone().unwrap_or_default());
        for baseline in baselines {
            let test = row.tests.iter().find(|test| test.baseline == *baseline);
            record.push(of(test.and_then(|t| t.difference)));
            record.extend(both(test.and_then(|t| t.difference_ci95)));
            record.extend([of(test.and_then(|t| t.p_value)), of(test.and_then(|t| t.p_holm))]);
        }
        let _ = writer.write_record(&record);
    }
    writer.into_inner().unwrap_or_default()
}
