//! Checks of what a call leaves behind, and what it costs.

use super::Findings;
use super::plugin_under_test::{PluginUnderTest, call};
use std::time::{Duration, Instant};

pub(super) fn handles(subject: &mut PluginUnderTest, findings: &mut Findings) -> Result<(), String> {
    const CALLS: usize = 10;
    let (task, views) = subject.ready()?;
    let failed = |e: crate::task::TaskError| e.to_string();
    let once = || -> Result<(), String> {
        call(&task, &views).map_err(failed)?;
        if task.has_segmentation() {
            task.segmentation_logits(&views[0].view()).map_err(failed)?;
        }
        Ok(())
    };
    // What is made at the first call and kept is not a leak.
    once()?;
    let before = task.live_handles();
    (0..CALLS).try_for_each(|_| once())?;
    let left = task.live_handles().saturating_sub(before);
    let outcome = if left == 0 {
        Ok(format!("none ({before} held throughout)"))
    } else {
        Err(format!("{left} after {CALLS} calls"))
    };
    findings.compare_runs("handles that calls leave behind", "none", outcome);
    Ok(())
}

/// Bytes that may come to be resident in all calls together without being called a leak: allocators keep some.
const ALLOWED: usize = 24 << 20;

pub(super) fn cost(subject: &mut PluginUnderTest, findings: &mut Findings) -> Result<(), String> {
    const CALLS: usize = 200;
    let (task, _) = subject.ready()?;
    let manifest = subject.manifest_of()?;
    let slices = manifest.views.iter().filter_map(|v| v.slices).max().unwrap_or(32);
    let views = subject.tokens(&manifest, slices, 2, |_| true);
    let ask = || call(&task, &views).map(drop).map_err(|e| e.to_string());
    for _ in 0..10 {
        ask()?;
    }
    let (before, begun) = (resident(), Instant::now());
    let mut times: Vec<Duration> = Vec::new();
    // A slow head is asked less often.
    while times.len() < CALLS && (times.len() < 20 || begun.elapsed() < Duration::from_secs(10)) {
        let start = Instant::now();
        ask()?;
        times.push(start.elapsed());
    }
    let calls = times.len();
    times.sort();
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    findings.note(
        format!("the head on {slices} slices, {calls} calls"),
        format!("{:.2} ms (median), {:.2} ms (slowest)", ms(times[calls / 2]), ms(times[calls - 1])),
    );
    let tried = format!("memory that {calls} calls keep");
    match (before, resident()) {
        (Some(before), Some(after)) => {
            let grown = after.saturating_sub(before);
            let told = format!(
                "{:.1} MiB ({} kB per call)",
                grown as f64 / f64::from(1 << 20),
                grown / calls / 1000
            );
            let outcome = if grown <= ALLOWED { Ok(told) } else { Err(told) };
            findings.compare_runs(tried, format!("less than {} MiB", ALLOWED >> 20), outcome);
        }
        _ => findings.skip(tried, "this system does not tell"),
    }
    Ok(())
}

/// Resident bytes of this process, where the system tells.
fn resident() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<usize>().ok().map(|kib| kib * 1024)
}
