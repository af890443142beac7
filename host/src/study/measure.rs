//! What a scan takes: a cell's weights in a process of their own, which does nothing else.

use crate::backbone::Precision;
use crate::device::DeviceChoice;
use crate::engine::{Case, PrecisionChoice};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
#[cfg(unix)]
use {
    crate::run::isolate::{Limits, SpawnWorker},
    crate::run::{Isolation, Session, SessionOptions, Silent, Wanted},
    std::sync::Arc,
    std::sync::atomic::{AtomicU32, Ordering},
    std::time::Duration,
};

/// Time and memory of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScanCost {
    /// Milliseconds from the first byte that is read of it to the answer, the median.
    pub milliseconds: f64,
    /// Milliseconds of all its threads on the processors, the mean; absent where the system does not tell. Other work on the machine
    /// lengthens it little.
    pub processor_ms: Option<f64>,
    /// Most resident bytes of the process, backbone and task included; absent where the system does not tell.
    pub peak_bytes: Option<u64>,
    /// How many scans were measured, without the first, which warms up.
    pub scans: usize,
}

/// How the process of a measurement is started, and where it computes.
#[derive(Clone)]
pub struct Measuring {
    /// Starts a process that serves a session.
    #[cfg(unix)]
    pub spawn: Arc<SpawnWorker>,
    /// Of that process's pool.
    pub threads: Option<u16>,
    /// Where to compute.
    pub device: DeviceChoice,
    /// Whether voxels as small as micro-CT's are read.
    pub micro_ct: bool,
}

/// A plugin with weights on a backbone.
pub(super) struct Measured<'a> {
    pub library: &'a Path,
    pub weights: PathBuf,
    pub backbone: &'a Path,
    pub precision: Precision,
}

impl Measuring {
    /// The cases one after the other; the first is run once more before, to warm up.
    ///
    /// # Errors
    /// One line, when the process cannot be had or a case fails.
    #[cfg(unix)]
    pub(super) fn measure(&self, what: &Measured<'_>, cases: &[Case]) -> Result<Option<ScanCost>, String> {
        let Some(first) = cases.first() else { return Ok(None) };
        let process = Arc::new(AtomicU32::new(0));
        let spawn: Arc<SpawnWorker> = {
            let (spawn, process) = (self.spawn.clone(), process.clone());
            Arc::new(move |socket| {
                let child = spawn(socket)?;
                process.store(child.id(), Ordering::Relaxed);
                Ok(child)
            })
        };
        let options = SessionOptions {
            backbone: Some(what.backbone.display().to_string()),
            device: self.device,
            precision: PrecisionChoice::of(what.precision),
            threads: self.threads,
            weights: vec![what.weights.clone()],
            isolation: Some(Isolation {
                limits: Limits { time: Duration::from_secs(600), faults: 1 },
                max_memory: None,
                micro_ct: self.micro_ct,
                spawn,
            }),
            ..SessionOptions::default()
        };
        let mut session =
            Session::open(&[what.library.display().to_string()], &options).map_err(|e| e.to_string())?;
        if let Some(refused) = session.refused().first() {
            return Err(refused.reason.clone());
        }
        let mut run = |case: &Case| -> Result<f64, String> {
            let mut took = 0.0;
            for answer in session.run(case, Wanted::default(), &Silent) {
                let answer = answer.map_err(|e| format!("case {}: {}", case.name, e.message))?;
                took += answer.result.timing_ms.total;
            }
            Ok(took)
        };
        run(first)?;
        let child = || process.load(Ordering::Relaxed);
        let before = processor_ms_of(child());
        let mut took = cases.iter().map(&mut run).collect::<Result<Vec<_>, _>>()?;
        let spent = processor_ms_of(child()).zip(before).map(|(now, before)| now - before);
        took.sort_by(f64::total_cmp);
        let cost = took.get(took.len() / 2).map(|milliseconds| ScanCost {
            milliseconds: *milliseconds,
            processor_ms: spent.map(|spent| spent / took.len() as f64),
            peak_bytes: peak_of(child()),
            scans: took.len(),
        });
        session.close(&Silent);
        Ok(cost)
    }

    /// Nothing is measured where there are no processes to measure in.
    #[cfg(not(unix))]
    pub(super) fn measure(&self, _: &Measured<'_>, _: &[Case]) -> Result<Option<ScanCost>, String> {
        Ok(None)
    }
}

/// Most resident bytes of a process so far. Linux.
#[cfg(unix)]
fn peak_of(process: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// Milliseconds that a process has spent on the processors. Linux.
#[cfg(unix)]
fn processor_ms_of(process: u32) -> Option<f64> {
    /// USER_HZ, in which Linux counts processor time in /proc: part of its ABI.
    const TICK_MS: f64 = 10.0;
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in brackets may hold blanks and brackets itself; utime and stime are the 12th and 13th field after it.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: f64 = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some(ticks * TICK_MS)
}
