//! `host plugin check`: tells whether a plugin can be shipped. Its code runs in a child process that may crash.

use super::console::Console;
use super::options;
use super::outcome::{CommandError, Outcome};
use super::{text, worker};
use anymc3d_host::check::{CHECKS, Finding, Verdict, causes};
use anymc3d_host::plugin::{PluginError, find, inspect};
use anymc3d_host::run::isolate::{ProbeError, ProbeRequest, probe};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  host plugin check target/release/libmine.so
  host plugin check lung_nodule --weights run1/lung_nodule.safetensors
  host plugin check libmine.so --json > check.json       exit code 1 where something failed";

/// Try a plugin before it is shipped: shapes, gradients, repeats, leaks, crashes
///
/// The plugin's code runs in a child process with a time limit: if it crashes, exits or never returns, that is a finding,
/// and the other checks still run. The checks use random weights; they compare given weights with what the plugin asks
/// for. Exit codes: 0 all as expected; 1 a check failed; 3 the library or the backbone was refused.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Check {
    /// Plugin, by name or path
    #[arg(value_name = "P")]
    plugin: String,
    /// Weights to compare with what the plugin asks for [default: those that `host run` finds]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Backbone, by name or folder [default: dinov2-small]
    #[arg(long, value_name = "NAME|DIR")]
    backbone: Option<String>,
    /// Longest time for one check
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    time_limit: u64,
    /// Most memory (address space) for its process, for example 8G [default: 80 % of the machine's]
    #[arg(long, value_name = "SIZE", value_parser = options::size)]
    max_memory: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Check {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        let library = find::library(&self.plugin).map_err(CommandError::refused)?;
        let library = std::path::absolute(&library).unwrap_or(library);
        // Where there is a manifest, the weights that `run` would take are known by its name.
        let read = inspect(&library);
        let weights = match (&self.weights, &read) {
            (Some(given), _) => Some(given.clone()),
            (None, Ok(read)) => {
                let places = find::weights_places(&library, &read.manifest().plugin.name);
                places.into_iter().find(|p| p.is_file())
            }
            (None, Err(_)) => None,
        };
        let request = ProbeRequest {
            library: library.clone(),
            weights: weights.clone(),
            backbone: self.backbone.clone(),
            checks: CHECKS.map(str::to_owned).to_vec(),
            max_memory: options::memory_limit(self.max_memory),
        };
        let bar = console.progress(CHECKS.len(), "checks");
        let limit = Duration::from_secs(self.time_limit);
        let findings =
            probe(request, limit, &*worker::spawn(console), |_| bar.inc(1)).map_err(|e| match e {
                ProbeError::Refused(e) => CommandError::refused(e),
                ProbeError::Process(e) => CommandError::failed(e),
            })?;
        bar.finish_and_clear();
        let failed = findings.iter().filter(|f| f.verdict == Verdict::Failed).count();
        let outcome = match failed {
            0 => Outcome::Done,
            _ if refused(&findings) => Outcome::Refused,
            _ => Outcome::Failed,
        };
        if self.json {
            console.result(as_json(
                &library,
                read.as_ref().ok().map(|library| (&library.embedded, library.sha256.as_str())),
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
    let causes = causes(findings);
    // What fails for a reason that is told already has no row.
    let is_told = |f: &&Finding| {
        f.verdict != Verdict::Failed || causes.iter().any(|cause| std::ptr::eq(cause.first, *f))
    };
    for f in findings.iter().filter(is_told) {
        // Cells with several lines are printed in full below.
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
    for cause in &causes {
        let f = cause.first;
        out += &format!(
            "\n\nFAILED {}: {}{}\n  expected: {}\n  found:    {}",
            f.check,
            f.tried,
            cause.more(),
            f.expected,
            f.found
        );
    }
    let count = |verdict: Verdict| findings.iter().filter(|f| f.verdict == verdict).count();
    let passed = count(Verdict::Passed);
    match count(Verdict::Failed) {
        0 => out + &format!("\n\n{passed} as expected, no problems"),
        failed => out + &format!("\n\n{passed} as expected, {failed} failed"),
    }
}

fn as_json(
    library: &Path,
    read: Option<(&anymc3d_host::plugin::section::Embedded, &str)>,
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
