//! What many scans of a table have in common is told once, with their number.

use crate::data::table::{Problem, Row};
use std::collections::HashMap;

/// How many cases of one kind are named.
pub(super) const NAMED: usize = 3;

/// A remark on one scan.
pub(super) struct Remark {
    /// What remarks of one kind have in common.
    pub kind: String,
    pub line: u64,
    pub case: String,
    /// About this scan.
    pub what: String,
}

impl Remark {
    pub fn new(row: &Row, kind: impl Into<String>, what: impl Into<String>) -> Self {
        Self { kind: kind.into(), line: row.line, case: row.case.clone(), what: what.into() }
    }
}

/// A problem for each remark, or one for all of a kind with their number and the first of them.
pub(super) fn gather(remarks: Vec<Remark>, cases: usize) -> Vec<Problem> {
    let mut kinds: Vec<Vec<Remark>> = Vec::new();
    let mut at: HashMap<String, usize> = HashMap::new();
    for remark in remarks {
        let kind = *at.entry(remark.kind.clone()).or_insert_with(|| {
            kinds.push(Vec::new());
            kinds.len() - 1
        });
        kinds[kind].push(remark);
    }
    kinds.into_iter().flat_map(|remarks| problems(remarks, cases)).collect()
}

fn problems(remarks: Vec<Remark>, cases: usize) -> Vec<Problem> {
    if remarks.len() <= NAMED {
        let single =
            |r: Remark| Problem { line: Some(r.line), what: format!("case `{}`: {}", r.case, r.what) };
        return remarks.into_iter().map(single).collect();
    }
    let named: Vec<String> =
        remarks.iter().take(NAMED).map(|r| format!("`{}` (line {})", r.case, r.line)).collect();
    let what = format!(
        "{} of {cases} cases, such as {}: for example {}",
        remarks.len(),
        named.join(", "),
        remarks[0].what
    );
    vec![Problem { line: None, what }]
}
