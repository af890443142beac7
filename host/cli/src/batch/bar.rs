//! How far a shard is, for people and for machines.

use crate::console::Console;
use crate::count::{PACE, duration};
use anymc3d_host::batch::{BatchEvents, Left, Progress, ProgressReport, Shard, ShardOutcome};
use anymc3d_host::run::{Events, Notice};
use indicatif::ProgressBar;
use serde_json::json;
use std::cell::RefCell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Time between two lines for machines.
const JSON_PACE: Duration = Duration::from_secs(2);

/// `--progress`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ProgressOption {
    Bar,
    Json,
    None,
}

/// Tells how far a shard is.
pub(super) struct Bar<'a> {
    console: &'a Console,
    style: ProgressOption,
    shard: Shard,
    state: RefCell<Option<Running>>,
}

struct Running {
    progress: Progress,
    bar: ProgressBar,
    told: Instant,
}

impl<'a> Bar<'a> {
    pub fn new(console: &'a Console, style: ProgressOption, shard: Shard) -> Self {
        Self { console, style, shard, state: RefCell::new(None) }
    }

    /// How it ended, in a line.
    pub fn end(&self, ended: &ShardOutcome) {
        let Some(running) = self.state.take() else { return };
        running.bar.finish_and_clear();
        let report = running.progress.report(Instant::now());
        if self.style == ProgressOption::Json {
            return self.json(&report, true);
        }
        self.console.note(format!(
            "shard {}: {} cases done{}, {} left{}",
            self.shard,
            ended.done,
            if ended.failed > 0 { format!(", {} failed", ended.failed) } else { String::new() },
            ended.left,
            pace(&report),
        ));
    }

    fn json(&self, report: &ProgressReport, ended: bool) {
        let Ok(mut line) = serde_json::to_value(report) else { return };
        line["shard"] = json!(self.shard.to_string());
        line["ended"] = json!(ended);
        self.console.result(line);
    }
}

fn pace(report: &ProgressReport) -> String {
    report.cases_per_hour.map_or(String::new(), |n| format!("; {n:.0} cases per hour"))
}

/// `12 of 50 cases (8 done before), 1 failed; 3600 cases per hour, 40 s left`
fn line(report: &ProgressReport) -> String {
    let ProgressReport { cases, skipped, done, failed, .. } = report;
    let before = if *skipped > 0 { format!(" ({skipped} done before)") } else { String::new() };
    let failed = if *failed > 0 { format!(", {failed} failed") } else { String::new() };
    let left = report.seconds_left.map_or(String::new(), |s| format!(", {} left", duration(s)));
    format!("{} of {cases} cases{before}{failed}{}{left}", skipped + done, pace(report))
}

impl Events for Bar<'_> {
    fn notice(&self, notice: &Notice) {
        // In a cohort a plugin that was left out is opened again for the next case.
        if let Notice::Quarantined { reason, .. } = notice {
            let reason = reason.trim_end_matches("; it is left out for the rest of the run");
            return self.console.warning(format!("{reason}; it is opened again for the next case"));
        }
        self.console.notice(notice);
    }
}

impl BatchEvents for Bar<'_> {
    fn begin(&self, left: &Left) {
        for (what, cases) in &left.outdated {
            self.console.note(format!("{cases} results are made anew: {what}"));
        }
        let skipped = left.done + left.failed;
        if skipped > 0 {
            let failed = match left.failed {
                0 => String::new(),
                n => format!(", and {n} failed before (--retry-failed tries them again)"),
            };
            self.console.note(format!(
                "shard {}: {} of {} cases are done{failed}",
                self.shard, left.done, left.cases
            ));
        }
        let now = Instant::now();
        let open = if self.style == ProgressOption::Bar { left.cases } else { 0 };
        let bar = self.console.progress(open, "cases");
        bar.set_position(skipped as u64);
        let progress = Progress::begin(left.cases, skipped, now);
        *self.state.borrow_mut() = Some(Running { progress, bar, told: now });
    }

    fn case_done(&self, case: &str, failures: &[(String, String)]) {
        for (plugin, why) in failures {
            self.console.error(format!("{case}: {plugin}: {why}"));
        }
        let mut state = self.state.borrow_mut();
        let Some(running) = state.as_mut() else { return };
        running.progress.case(!failures.is_empty());
        running.bar.inc(1);
        let now = Instant::now();
        let report = running.progress.report(now);
        let due = |pace| now.duration_since(running.told) >= pace;
        match self.style {
            ProgressOption::Json if due(JSON_PACE) => {
                running.told = now;
                self.json(&report, false);
            }
            ProgressOption::Bar => {
                running.bar.set_message(format!(
                    "cases{}{}",
                    if report.failed > 0 { format!(", {} failed", report.failed) } else { String::new() },
                    report.cases_per_hour.map_or(String::new(), |n| format!(", {n:.0} per hour")),
                ));
                if !std::io::stderr().is_terminal() && due(PACE) {
                    running.told = now;
                    self.console.note(line(&report));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long_still() {
        let report = ProgressReport {
            cases: 50,
            skipped: 8,
            done: 4,
            failed: 1,
            cases_per_hour: Some(3600.0),
            seconds_left: Some(38.0),
        };
        assert_eq!(line(&report), "12 of 50 cases (8 done before), 1 failed; 3600 cases per hour, 38 s left");
        let first = ProgressReport {
            skipped: 0,
            done: 0,
            failed: 0,
            cases_per_hour: None,
            seconds_left: None,
            ..report
        };
        assert_eq!(line(&first), "0 of 50 cases");
    }
}
