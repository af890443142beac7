//! How far a run over many cases is, where no bar can be drawn, and how it ended.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Time between two lines of progress.
pub(super) const PACE: Duration = Duration::from_secs(30);
/// How many reasons the summary names.
const NAMED: usize = 3;

/// The cases of a call, counted.
pub(super) struct CaseCount {
    cases: usize,
    done: usize,
    answered: usize,
    /// What went wrong, and in how many cases.
    failed: BTreeMap<String, usize>,
    begun: Instant,
    told: Instant,
}

impl CaseCount {
    pub fn begin(cases: usize, now: Instant) -> Self {
        Self { cases, done: 0, answered: 0, failed: BTreeMap::new(), begun: now, told: now }
    }

    /// A case is done, with every answer or with a reason why one is missing; the line to print, if it is time for one.
    pub fn case(&mut self, failure: Option<&str>, now: Instant) -> Option<String> {
        self.done += 1;
        match failure {
            None => self.answered += 1,
            Some(reason) => *self.failed.entry(reason.to_owned()).or_default() += 1,
        }
        if now.duration_since(self.told) < PACE || self.done >= self.cases {
            return None;
        }
        self.told = now;
        let each = now.duration_since(self.begun).as_secs_f64() / self.done as f64;
        let failed = self.done - self.answered;
        let failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
        let left = each * (self.cases - self.done) as f64;
        Some(format!("{} of {} cases{failed}, {} left", self.done, self.cases, duration(left)))
    }

    /// `195 cases answered, 5 failed: …`; nothing of a single case.
    pub fn summary(&self) -> Option<String> {
        let failed = self.done - self.answered;
        match (self.done, failed) {
            (0 | 1, _) => None,
            (n, 0) => Some(format!("{n} cases answered")),
            _ => {
                let mut reasons: Vec<(&String, &usize)> = self.failed.iter().collect();
                reasons.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
                let told = |(reason, n): &(&String, &usize)| match n {
                    1 => (*reason).clone(),
                    n => format!("{n} × {reason}"),
                };
                let named: Vec<String> = reasons.iter().take(NAMED).map(told).collect();
                let more = reasons.len().saturating_sub(NAMED);
                let more = if more > 0 { format!("; and {more} other reasons") } else { String::new() };
                Some(format!("{} cases answered, {failed} failed: {}{more}", self.answered, named.join("; ")))
            }
        }
    }
}

/// `40 s`, `12 min`, `3.5 h`
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_comes_every_half_minute_and_the_summary_counts_reasons() {
        let begun = Instant::now();
        let mut count = CaseCount::begin(10, begun);
        let mut lines = Vec::new();
        for n in 1..=10u64 {
            let failure =
                [3, 5].contains(&n).then_some("a damaged file").or((n == 7).then_some("no series fits"));
            lines.extend(count.case(failure, begun + Duration::from_secs(12 * n)));
        }
        assert_eq!(
            lines,
            [
                "3 of 10 cases, 1 failed, 84 s left",
                "6 of 10 cases, 2 failed, 48 s left",
                "9 of 10 cases, 3 failed, 12 s left"
            ]
        );
        assert_eq!(
            count.summary().unwrap(),
            "7 cases answered, 3 failed: 2 × a damaged file; no series fits"
        );
    }

    #[test]
    fn a_single_case_has_no_summary_and_many_reasons_are_shortened() {
        let mut count = CaseCount::begin(1, Instant::now());
        count.case(None, Instant::now());
        assert_eq!(count.summary(), None);
        let mut count = CaseCount::begin(5, Instant::now());
        for reason in ["a", "b", "c", "d", "e"] {
            count.case(Some(reason), Instant::now());
        }
        assert_eq!(count.summary().unwrap(), "0 cases answered, 5 failed: a; b; c; and 2 other reasons");
        assert_eq!([40.0, 700.0, 12600.0].map(duration), ["40 s", "12 min", "3.5 h"]);
    }
}
