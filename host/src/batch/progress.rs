//! How far a batch is: cases per hour, time left, failures so far.

use serde::Serialize;
use std::time::Instant;

/// Cases of a shard, counted.
#[derive(Debug)]
pub struct Progress {
    total: usize,
    skipped: usize,
    done: usize,
    failed: usize,
    begun: Instant,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProgressReport {
    /// Cases of the shard.
    pub cases: usize,
    /// Were done before.
    pub skipped: usize,
    /// Done by this process, failed ones among them.
    pub done: usize,
    /// Failed in this process.
    pub failed: usize,
    /// Since the process began with its first case; null before the first is done.
    pub cases_per_hour: Option<f64>,
    /// At that pace; null before the first is done.
    pub seconds_left: Option<f64>,
}

impl Progress {
    /// Of `total` cases, of which `skipped` were done before.
    pub fn begin(total: usize, skipped: usize, now: Instant) -> Self {
        Self { total, skipped, done: 0, failed: 0, begun: now }
    }

    /// A case more.
    pub fn case(&mut self, failed: bool) {
        self.done += 1;
        self.failed += usize::from(failed);
    }

    /// How far it is now.
    pub fn report(&self, now: Instant) -> ProgressReport {
        let Self { total, skipped, done, failed, begun } = *self;
        let each = (done > 0).then(|| now.duration_since(begun).as_secs_f64() / done as f64);
        let left = total.saturating_sub(skipped + done);
        ProgressReport {
            cases: total,
            skipped,
            done,
            failed,
            cases_per_hour: each.filter(|each| *each > 0.0).map(|each| 3600.0 / each),
            seconds_left: each.map(|each| each * left as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn pace_and_time_left_come_from_what_this_process_did() {
        let begun = Instant::now();
        let mut progress = Progress::begin(100, 40, begun);
        let before = progress.report(begun);
        assert_eq!((before.cases_per_hour, before.seconds_left), (None, None));
        (0..10).for_each(|i| progress.case(i == 3));
        let report = progress.report(begun + Duration::from_secs(20));
        assert_eq!((report.cases, report.skipped, report.done, report.failed), (100, 40, 10, 1));
        assert_eq!((report.cases_per_hour, report.seconds_left), (Some(1800.0), Some(100.0)));
    }
}
