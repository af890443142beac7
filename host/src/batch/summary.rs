//! What a batch came to: cases, failures by kind, pace, what a scan costs, and what ran.

use super::journal::Outcome;
use super::merge::{Answer, Merged};
use crate::run::TaskIdentity;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// How many reasons are named.
const NAMED: usize = 5;

/// `summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// `anymc3d/batch-summary/1`.
    pub schema: String,
    /// Cases of the manifest.
    pub cases: usize,
    /// With an answer of every plugin that has something to answer.
    pub answered: usize,
    /// With a failure of some plugin.
    pub failed: usize,
    /// Without a record of some plugin.
    pub missing: usize,
    /// Failed cases by whose fault it was.
    pub failures: BTreeMap<String, usize>,
    /// The most frequent reasons, and of how many cases; numbers in them are `#`.
    pub reasons: Vec<(String, usize)>,
    /// How often cases were run, those among them that were run again.
    pub runs: usize,
    /// Mean over the runs that tell it.
    pub seconds_per_case: Option<f64>,
    /// Cases per hour of one process, from the mean.
    pub cases_per_hour_and_process: Option<f64>,
    /// Mean over the runs that tell it.
    pub cpu_seconds_per_case: Option<f64>,
    /// The largest of any case.
    pub peak_bytes: Option<u64>,
    /// What computed the answers.
    pub made_by: Vec<TaskIdentity>,
}

impl Merged {
    /// What it came to.
    pub fn summary(&self) -> Summary {
        let (mut failed, mut failures, mut reasons) = (0, BTreeMap::new(), BTreeMap::<String, usize>::new());
        for case in &self.cases {
            let of_case = case.answers.iter().filter_map(|answer| match answer {
                Answer::Failed { kind, reason } => Some((kind.map_or("unknown", |kind| kind.name()), reason)),
                _ => None,
            });
            // A fault of the scan is the same for every plugin.
            let (mut kinds, mut whys) = (BTreeSet::new(), BTreeSet::new());
            for (kind, reason) in of_case {
                kinds.insert(kind);
                whys.insert(without_numbers(reason, &case.case));
            }
            failed += usize::from(!kinds.is_empty());
            kinds.into_iter().for_each(|kind| *failures.entry(kind.to_owned()).or_default() += 1);
            whys.into_iter().for_each(|why| *reasons.entry(why).or_default() += 1);
        }
        let mut reasons: Vec<(String, usize)> = reasons.into_iter().collect();
        reasons.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        reasons.truncate(NAMED);
        let missing: BTreeSet<&str> = self.missing.iter().map(|m| m.case.as_str()).collect();
        // What a failed case takes says nothing of a scan.
        let done = || self.runs.iter().filter(|run| run.outcome == Outcome::Done);
        let seconds = mean(done().filter_map(|run| run.seconds));
        Summary {
            schema: "anymc3d/batch-summary/1".to_owned(),
            cases: self.of,
            answered: self.cases.len() - failed,
            failed,
            missing: missing.len(),
            failures,
            reasons,
            runs: self.runs.len(),
            seconds_per_case: seconds,
            cases_per_hour_and_process: seconds.filter(|s| *s > 0.0).map(|s| 3600.0 / s),
            cpu_seconds_per_case: mean(done().filter_map(|run| run.cpu_seconds)),
            peak_bytes: self.runs.iter().filter_map(|run| run.peak_bytes).max(),
            made_by: self.tasks.iter().map(|task| task.identity.clone()).collect(),
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0usize), |(sum, n), v| (sum + v, n + 1));
    (n > 0).then(|| sum / n as f64)
}

/// `CASE` in the place of a case's name, where it stands as a word: a short name may be part of any other.
fn without_name(reason: &str, case: &str) -> String {
    let (mut text, mut rest) = (String::with_capacity(reason.len()), reason);
    let part_of_a_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    while let Some(at) = rest.find(case).filter(|_| !case.is_empty()) {
        let (before, after) = (&rest[..at], &rest[at + case.len()..]);
        let whole = !part_of_a_word(before.chars().next_back().or(text.chars().next_back()))
            && !part_of_a_word(after.chars().next());
        text += before;
        text += if whole { "CASE" } else { case };
        rest = after;
    }
    text + rest
}

/// A reason as it would be of another case: without the path that it begins with, the case's name, and its numbers.
fn without_numbers(reason: &str, case: &str) -> String {
    let reason = match reason.split_once(": ") {
        Some((path, rest)) if path.contains(['/', '\\']) => rest,
        _ => reason,
    };
    let reason = without_name(reason, case);
    let mut text = String::with_capacity(reason.len());
    for c in reason.chars() {
        match c {
            '0'..='9' if text.ends_with('#') => {}
            '0'..='9' => text.push('#'),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::tables::tests::merged;
    use super::*;

    #[test]
    fn a_summary_counts_cases_once_and_groups_reasons_without_their_numbers() {
        let summary = merged().summary();
        assert_eq!((summary.cases, summary.answered, summary.failed, summary.missing), (2, 1, 1, 0));
        assert_eq!(summary.failures, BTreeMap::from([("scan".to_owned(), 1)]));
        assert_eq!(summary.reasons, [("cut short, at byte #".to_owned(), 1)]);
        assert_eq!(summary.cases_per_hour_and_process, Some(3600.0));
        assert_eq!(summary.made_by.len(), 3);
        assert_eq!(
            without_numbers("/a/b/c1.nii.gz: has 12 of 4096 bytes of c1", "c1"),
            "has # of # bytes of CASE"
        );
    }
}
