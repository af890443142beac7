//! A plugin's checks in a process of its own: a check that ends the process is a finding, and the others go on.

use super::process::{ExitReason, Process, SpawnWorker};
use super::wire::{Event, ProbeRequest, Request};
use crate::check::{CHECKS, FIRST, Finding, Verdict};
use std::time::{Duration, Instant};

/// Why a plugin could not be tried.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The library or the backbone is refused.
    #[error("{0}")]
    Refused(String),
    /// There is no process to try it in.
    #[error("{0}")]
    Process(String),
}

/// Runs the checks of a request, each for at most `limit`. `on_check` receives each check's name before it begins.
///
/// # Errors
/// When the plugin cannot be tried at all.
pub fn probe(
    request: ProbeRequest,
    limit: Duration,
    spawn: &SpawnWorker,
    mut on_check: impl FnMut(&str),
) -> Result<Vec<Finding>, ProbeError> {
    let mut left = request.checks.clone();
    let mut findings: Vec<Finding> = Vec::new();
    while !left.is_empty() {
        let mut process = Process::start(spawn).map_err(ProbeError::Process)?;
        process.send(&Request::Probe(ProbeRequest { checks: left.clone(), ..request.clone() }));
        let (mut current, mut until) = (None, Instant::now() + 5 * limit);
        let end = loop {
            match process.receive::<Event>(until) {
                Ok(Event::Trying(name)) => {
                    on_check(&name);
                    left.retain(|l| *l != name);
                    current = Some(name);
                    until = Instant::now() + limit;
                }
                Ok(Event::Found(finding)) => findings.push(finding),
                Ok(Event::ProbeDone) => break None,
                Ok(Event::Fatal(error)) => return Err(ProbeError::Refused(error)),
                Ok(_) => {}
                Err(end) => break Some(end),
            }
        };
        match end {
            Some(end) => {
                let Some(name) = current else {
                    return Err(ProbeError::Process(format!("the process of the checks {end}")));
                };
                findings.push(ended(&name, &end, limit));
                if CHECKS[..FIRST].contains(&name.as_str()) {
                    skip_rest(&mut left, &mut findings);
                }
            }
            None => {
                if let Some(how) = process.end() {
                    let (tried, expected) = ("the end of the process", "the process ends in peace");
                    findings.push(Finding::new("drop", tried, expected, how, Verdict::Failed));
                }
                skip_rest(&mut left, &mut findings);
            }
        }
    }
    Ok(findings)
}

fn ended(check: &str, end: &ExitReason, limit: Duration) -> Finding {
    let found = match end {
        ExitReason::TimedOut => {
            format!("no answer within {} s; the process was killed", limit.as_secs())
        }
        ExitReason::Exited(how) => format!("the process ended: {how}"),
    };
    Finding::new(check, "the plugin's code", "an answer, and the process goes on", found, Verdict::Failed)
}

fn skip_rest(left: &mut Vec<String>, findings: &mut Vec<Finding>) {
    for check in left.drain(..) {
        findings.push(Finding::new(&check, "", "", "not tried: there is no task to try", Verdict::Skipped));
    }
}
