//! `host plugin check`: is a plugin fit to be shipped? Its code runs in a process of its own, whatever it does there.

use super::console::Console;
use super::isolate::{Ask, End, ProbeOrder, Process, Said};
use super::options;
use super::outcome::{CommandError, Outcome};
use super::text;
use crate::check::{CHECKS, FIRST, Finding, Verdict};
use crate::plugin::{PluginError, find, inspect};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const EXAMPLES: &str = "\
Examples:
  host plugin check target/release/libmine.so
  host plugin check lung_nodule --weights run1/lung_nodule.safetensors
  host plugin check libmine.so --json > check.json       exit code 1 where something failed";

/// Try a plugin before it is shipped: shapes, gradients, repeats, leaks, crashes
///
/// Its code runs in a process of its own with a time limit: one that crashes, exits or never returns is a finding, and
/// the other checks go on. Random weights are used; weights are compared with what the plugin asks for. Exit code 0: all
/// as expected; 1: a check failed; 3: the library or the backbone was refused.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Check {
    /// By name or path
    #[arg(value_name = "P")]
    plugin: String,
    /// Weights to compare with what the plugin asks for [default: those that `host run` would find]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Backbone by name or folder [default: dinov2-small]
    #[arg(long, value_name = "NAME|DIR")]
    backbone: Option<String>,
    /// Longest time for one check
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    time_limit: u64,
    /// Most memory (address space) of its process, as in 8G [default: 80 % of the machine's]
    #[arg(long, value_name = "SIZE", value_parser = options::size)]
    max_memory: Option<usize>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl Check {
    pub fn carry_out(self, console: &Console) -> Result<Outcome, CommandError> {
        let library = find::library(&self.plugin).map_err(CommandError::refused)?;
        let library = std::path::absolute(&library).unwrap_or(library);
        // Where there is a manifest, the weights that `run` would take are known by its name.
        let read = inspect(&library);
        let weights = match (&self.weights, &read) {
            (Some(given), _) => Some(given.clone()),
            (None, Ok((embedded, ..))) => {
                let places = find::weights_places(&library, &embedded.manifest.plugin.name);
                places.into_iter().find(|p| p.is_file())
            }
            (None, Err(_)) => None,
        };
        let findings = self.try_all(&library, weights.as_deref(), console)?;
        let failed = findings.iter().filter(|f| f.verdict == Verdict::Failed).count();
        let outcome = match failed {
            0 => Outcome::Done,
            _ if refused(&findings) => Outcome::Refused,
            _ => Outcome::Failed,
        };
        if self.json {
            console.result(as_json(
                &library,
                read.as_ref().ok().map(|(e, sha, _)| (e, sha.as_str())),
                weights.as_deref(),
                &findings,
            ));
        } else {
            console.result(as_text(&findings));
        }
        if let Err(e @ (PluginError::NotALibrary { .. } | PluginError::NoManifest { .. })) = &read {
            console.error(e);
        }
        Ok(outcome)
    }

    fn try_all(
        &self,
        library: &Path,
        weights: Option<&Path>,
        console: &Console,
    ) -> Result<Vec<Finding>, CommandError> {
        let mut left: Vec<String> = CHECKS.map(str::to_owned).to_vec();
        let mut findings: Vec<Finding> = Vec::new();
        let bar = console.progress(left.len(), "checks");
        while !left.is_empty() {
            let mut process = Process::start(console).map_err(CommandError::failed)?;
            process.send(&Ask::Probe(ProbeOrder {
                library: library.to_owned(),
                weights: weights.map(Path::to_owned),
                backbone: self.backbone.clone(),
                checks: left.clone(),
                max_memory: options::memory_limit(self.max_memory),
            }));
            let limit = Duration::from_secs(self.time_limit);
            let (mut current, mut until) = (None, Instant::now() + 5 * limit);
            let end = loop {
                match process.receive::<Said>(until) {
                    Ok(Said::Trying(name)) => {
                        bar.inc(1);
                        left.retain(|l| *l != name);
                        current = Some(name);
                        until = Instant::now() + limit;
                    }
                    Ok(Said::Found(finding)) => findings.push(finding),
                    Ok(Said::ProbeDone) => break None,
                    Ok(Said::Hopeless(error)) => return Err(CommandError::refused(error)),
                    Ok(_) => {}
                    Err(end) => break Some(end),
                }
            };
            match end {
                Some(end) => {
                    let Some(name) = current else {
                        return Err(CommandError::failed(format!("the process of the checks {end}")));
                    };
                    findings.push(ended(&name, &end, self.time_limit));
                    if CHECKS[..FIRST].contains(&name.as_str()) {
                        skip_rest(&mut left, &mut findings);
                    }
                }
                None => {
                    if let Some(how) = process.end() {
                        let expected = "the process ends in peace";
                        findings.push(Finding::new(
                            "drop",
                            "the end of the process",
                            expected,
                            how,
                            Verdict::Failed,
                        ));
                    }
                    skip_rest(&mut left, &mut findings);
                }
            }
        }
        bar.finish_and_clear();
        Ok(findings)
    }
}

fn ended(check: &str, end: &End, seconds: u64) -> Finding {
    let found = match end {
        End::TimedOut => format!("no answer within {seconds} s; the process was killed"),
        End::Ended(how) => format!("the process ended: {how}"),
    };
    Finding::new(check, "the plugin's code", "an answer, and the process goes on", found, Verdict::Failed)
}

fn skip_rest(left: &mut Vec<String>, findings: &mut Vec<Finding>) {
    for check in left.drain(..) {
        findings.push(Finding::new(&check, "", "", "not tried: there is no task to try", Verdict::Skipped));
    }
}

/// Whether a host would not load it at all.
fn refused(findings: &[Finding]) -> bool {
    findings.iter().any(|f| f.verdict == Verdict::Failed && CHECKS[..2].contains(&f.check.as_str()))
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "ok",
        Verdict::Failed => "FAILED",
        Verdict::Noted => "note",
        Verdict::Skipped => "-",
    }
}

fn as_text(findings: &[Finding]) -> String {
    let mut rows = vec![["CHECK", "", "TRIED", "EXPECTED", "FOUND"].map(str::to_owned).to_vec()];
    for f in findings {
        // What fills several lines is told in full below.
        let found = f.found.lines().next().unwrap_or_default().to_owned();
        rows.push(vec![
            f.check.clone(),
            word(f.verdict).to_owned(),
            f.tried.clone(),
            f.expected.clone(),
            found,
        ]);
    }
    let mut out = text::table(&rows);
    let failed: Vec<&Finding> = findings.iter().filter(|f| f.verdict == Verdict::Failed).collect();
    for f in &failed {
        out += &format!(
            "\n\nFAILED {}: {}\n  expected: {}\n  found:    {}",
            f.check, f.tried, f.expected, f.found
        );
    }
    let passed = findings.iter().filter(|f| f.verdict == Verdict::Passed).count();
    out + &format!("\n\n{passed} as expected, {} failed", failed.len())
}

fn as_json(
    library: &Path,
    read: Option<(&crate::plugin::section::Embedded, &str)>,
    weights: Option<&Path>,
    findings: &[Finding],
) -> String {
    let plugin = read.map(|(e, _)| e.manifest.plugin.name.clone());
    let version = read.map(|(e, _)| e.manifest.plugin.version.to_string());
    let failed = findings.iter().filter(|f| f.verdict == Verdict::Failed).count();
    json!({
        "schema": "anymc3d/check/1", "plugin": plugin, "version": version,
        "library": library.display().to_string(), "sha256": read.map(|(_, sha)| sha),
        "weights": weights.map(|w| w.display().to_string()), "host": env!("CARGO_PKG_VERSION"),
        "passed": failed == 0, "failed": failed, "findings": findings,
    })
    .to_string()
}
