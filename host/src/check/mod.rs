//! Checks whether a plugin can be shipped: everything that a host asks of a plugin, and more.
//!
//! The checks run the plugin's code, which may end the process: `host plugin check` runs them in a child process.

mod calls;
mod causes;
mod cost;
mod end_to_end;
mod plugin_under_test;
mod training;

pub use causes::{Cause, causes};
pub use plugin_under_test::PluginUnderTest;

use serde::{Deserialize, Serialize};

/// What became of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As expected.
    Passed,
    /// Not as expected.
    Failed,
    /// Good to know; nothing was expected.
    Noted,
    /// Not tried, or not to be tried with this plugin.
    Skipped,
}

/// What was tried, what should have come out, and what did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// One of [`CHECKS`].
    pub check: String,
    /// What was tried.
    pub tried: String,
    /// What should come out.
    pub expected: String,
    /// What came out.
    pub found: String,
    /// How that is to be read.
    pub verdict: Verdict,
}

/// Every check, in the order in which they are tried. The first three must pass for the others to make sense.
pub const CHECKS: [&str; 18] = [
    "manifest",
    "layout",
    "parts",
    "backbones",
    "parameters",
    "shapes",
    "views",
    "extremes",
    "repeatable",
    "slice order",
    "threads",
    "nonsense",
    "gradients",
    "handles",
    "cost",
    "whole case",
    "golden",
    "drop",
];

/// Without these nothing else can be tried.
pub const FIRST: usize = 3;

impl Finding {
    /// A finding of a check.
    pub fn new(
        check: &str,
        tried: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
        verdict: Verdict,
    ) -> Self {
        let check = check.to_owned();
        Self { check, tried: tried.into(), expected: expected.into(), found: found.into(), verdict }
    }
}

impl PluginUnderTest {
    /// Runs one of [`CHECKS`].
    pub fn run(&mut self, check: &str) -> Vec<Finding> {
        let mut findings = Findings::of(CHECKS.iter().find(|c| **c == check).copied().unwrap_or("?"));
        let done = match check {
            "manifest" => self.manifest(&mut findings),
            "layout" => self.layout(&mut findings),
            "parts" => self.parts(&mut findings),
            "backbones" => calls::backbones(self, &mut findings),
            "parameters" => self.parameters(&mut findings),
            "shapes" => calls::shapes(self, &mut findings),
            "views" => calls::views(self, &mut findings),
            "extremes" => calls::extremes(self, &mut findings),
            "repeatable" => calls::repeatable(self, &mut findings),
            "slice order" => calls::slice_order(self, &mut findings),
            "threads" => calls::threads(self, &mut findings),
            "nonsense" => calls::nonsense(self, &mut findings),
            "gradients" => training::gradients(self, &mut findings),
            "handles" => cost::handles(self, &mut findings),
            "cost" => cost::cost(self, &mut findings),
            "whole case" => end_to_end::whole_case(self, &mut findings),
            "golden" => end_to_end::golden(self, &mut findings),
            "drop" => self.drops(&mut findings),
            other => Err(format!("there is no check called {other}")),
        };
        if let Err(e) = done {
            findings.compare_runs("", "that it can be tried", Err(e));
        }
        findings.all
    }
}

/// The findings of one check, gathered.
struct Findings {
    check: &'static str,
    all: Vec<Finding>,
}

impl Findings {
    fn of(check: &'static str) -> Self {
        Self { check, all: Vec::new() }
    }

    /// `Ok` with what was found, `Err` with what was found instead.
    fn compare_runs(
        &mut self,
        tried: impl Into<String>,
        expected: impl Into<String>,
        outcome: Result<String, String>,
    ) {
        let (found, verdict) = match outcome {
            Ok(found) => (found, Verdict::Passed),
            Err(found) => (found, Verdict::Failed),
        };
        self.all.push(Finding::new(self.check, tried, expected, found, verdict));
    }

    fn note(&mut self, tried: impl Into<String>, found: impl Into<String>) {
        self.all.push(Finding::new(self.check, tried, "", found, Verdict::Noted));
    }

    fn skip(&mut self, tried: impl Into<String>, why: impl Into<String>) {
        self.all.push(Finding::new(self.check, tried, "", why, Verdict::Skipped));
    }
}

/// At most so many of a list, and how many more there are.
fn shorten(list: &[String]) -> String {
    const SHOWN: usize = 4;
    let shown = list.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    if list.len() > SHOWN { format!("{shown}; and {} more", list.len() - SHOWN) } else { shown }
}
