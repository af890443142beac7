//! What a table's header says, and what is wrong so far.

use super::Problem;

/// Where the columns are.
pub(super) struct Columns {
    pub case: usize,
    /// One per view of the manifest; `None`: a view that may be missing is.
    pub views: Vec<(String, Option<usize>)>,
    pub required: Vec<bool>,
    pub labelled: bool,
    /// One per label column (of a multi-class task: the class's); `None`: absent.
    pub labels: Vec<Option<usize>>,
    /// One per label column; `None`: every cell counts as much.
    pub weights: Vec<Option<usize>>,
    pub patient: Option<usize>,
    pub group: Option<usize>,
    pub mask: Option<usize>,
    pub point: Option<usize>,
    pub split: Option<usize>,
}

/// Collects what is wrong, so that one look mends the table.
#[derive(Default)]
pub(super) struct Problems(pub Vec<Problem>);

impl Problems {
    pub fn push(&mut self, line: impl Into<Option<u64>>, what: impl Into<String>) {
        self.0.push(Problem { line: line.into(), what: what.into() });
    }
}
