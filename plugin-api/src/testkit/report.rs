//! What a check of a task found, as a table.

use std::fmt;

/// How one thing went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// As it must be.
    Passed,
    /// Not as it must be.
    Failed,
    /// Told and not judged.
    Told,
    /// Not tried, because something before it failed, or the task has no such part.
    Skipped,
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What.
    pub what: &'static str,
    /// How it went.
    pub outcome: Outcome,
    /// What was seen.
    pub seen: String,
}

/// Everything that was tried, in order.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Name of the plugin, or what stands for it.
    pub plugin: String,
    /// One per thing tried.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing failed.
    pub fn passed(&self) -> bool {
        !self.findings.iter().any(|f| f.outcome == Outcome::Failed)
    }

    /// Fails a test with the table if a check failed; prints nothing otherwise.
    ///
    /// # Panics
    /// When a check failed.
    #[track_caller]
    pub fn assert(&self) {
        assert!(self.passed(), "{self}");
    }

    pub(crate) fn add(&mut self, what: &'static str, outcome: Outcome, seen: impl Into<String>) {
        self.findings.push(Finding { what, outcome, seen: seen.into() });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wide = self.findings.iter().map(|f| f.what.chars().count()).max().unwrap_or(0);
        writeln!(f, "plugin {}", self.plugin)?;
        for Finding { what, outcome, seen } in &self.findings {
            let mark = match outcome {
                Outcome::Passed => "ok    ",
                Outcome::Failed => "FAILED",
                Outcome::Told => "told  ",
                Outcome::Skipped => "-     ",
            };
            writeln!(f, "  {mark}  {what:wide$}  {seen}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
