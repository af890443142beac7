//! One fault fails many checks: each cause is told once.

use super::{Finding, Verdict};

/// What failed, and how much else failed for the same reason.
pub struct Cause<'a> {
    /// The first finding of it.
    pub first: &'a Finding,
    /// Those after it.
    pub others: usize,
}

/// The causes of all that failed, in the order of their first findings. Two findings have one cause if their texts are the
/// same, or if the same line of the plugin's source asked for the operation that failed.
pub fn causes(findings: &[Finding]) -> Vec<Cause<'_>> {
    let mut all: Vec<Cause<'_>> = Vec::new();
    for finding in findings.iter().filter(|f| f.verdict == Verdict::Failed) {
        match all.iter_mut().find(|cause| reason(cause.first) == reason(finding)) {
            Some(cause) => cause.others += 1,
            None => all.push(Cause { first: finding, others: 0 }),
        }
    }
    all
}

/// The place in the plugin's source, where an operation failed; else the whole text.
fn reason(finding: &Finding) -> &str {
    let found = finding.found.trim_end();
    let place = found.rfind(" (at ").filter(|_| found.ends_with(')'));
    place.map_or(found, |at| &found[at..])
}

impl Cause<'_> {
    /// `; 23 more for the same reason`, where there are any.
    pub fn more(&self) -> String {
        match self.others {
            0 => String::new(),
            n => format!("; {n} more for the same reason"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_of_one_cause_are_told_once_with_their_number() {
        let failed =
            |tried: &str, found: &str| Finding::new("views", tried, "logits", found, Verdict::Failed);
        let findings = [
            failed("2 slices", "matmul of [2, 384] and [385, 1] (at src/lib.rs:40)"),
            failed("3 slices", "matmul of [3, 384] and [385, 1] (at src/lib.rs:40)"),
            Finding::new("views", "4 slices", "logits", "as expected", Verdict::Passed),
            failed("no slice", "panicked"),
            failed("5 slices", "matmul of [5, 384] and [385, 1] (at src/lib.rs:41)"),
            failed("one slice", "panicked"),
        ];
        let told: Vec<String> = causes(&findings).iter().map(|c| c.first.tried.clone() + &c.more()).collect();
        assert_eq!(
            told,
            ["2 slices; 1 more for the same reason", "no slice; 1 more for the same reason", "5 slices"]
        );
    }
}
