//! The same scan in several rows: harmless within a patient, a leak between training and test otherwise, and a
//! contradiction where the labels differ.

use super::{Examination, Findings, Seen};
use crate::data::table::{Problem, Row, Table};
use crate::scan::ContentDigest;
use anymc3d_manifest::Manifest;
use std::collections::HashMap;

/// Scans with the same content in several rows of a table.
pub(super) fn duplicates(seen: &[Seen], table: &Table, manifest: &Manifest, all: &mut Findings) {
    let rows = rows_by_case(table);
    // Two findings of a scan are two cases, and may well have other labels.
    let of_findings = manifest.views.iter().any(|view| view.follows_region() || view.needs_mask());
    let one_finding = |a: &Row, b: &Row| !of_findings || a.region() == b.region();
    let mut first: HashMap<ContentDigest, &Seen> = HashMap::new();
    for s in seen {
        let other = *first.entry(s.content).or_insert(s);
        let (Some(a), Some(b)) = (rows.get(other.case.as_str()), rows.get(s.case.as_str())) else { continue };
        if a.case == b.case {
            continue;
        }
        let what = format!("case `{}`: the same scan as case `{}` on line {}", b.case, a.case, a.line);
        if let Some(label) = contradiction(a, b, table).filter(|_| one_finding(a, b)) {
            let what = format!("{what}, with the opposite label `{label}`; correct one of them");
            all.errors.push(Problem { line: Some(s.line), what });
        } else if a.patient_or_case() != b.patient_or_case() {
            let what = what + " of another patient: it may train and judge; give both the same `patient`";
            all.errors.push(Problem { line: Some(s.line), what });
        }
    }
}

/// Scans of `second` that are in `first` too, where one trains and the other validates or tests. Whether a row of `first`
/// counts, `uses` says.
pub fn shared_scans(
    (first, seen_first): (&Table, &Examination),
    seen_second: &Examination,
    uses: impl Fn(&Row) -> bool,
) -> Vec<Problem> {
    let rows = rows_by_case(first);
    let known: HashMap<ContentDigest, &Row> = seen_first
        .seen
        .iter()
        .filter_map(|s| Some((s.content, *rows.get(s.case.as_str())?)))
        .filter(|(_, row)| uses(row))
        .collect();
    let shared = seen_second.seen.iter().filter_map(|s| Some((s, known.get(&s.content)?)));
    let problem = |(s, row): (&Seen, &&Row)| Problem {
        line: Some(s.line),
        what: format!(
            "case `{}`: the same scan as case `{}` on line {} of {}; a scan trains, validates or tests, never two of these",
            s.case,
            row.case,
            row.line,
            first.path.display()
        ),
    };
    shared.map(problem).collect()
}

fn rows_by_case(table: &Table) -> HashMap<&str, &Row> {
    table.rows.iter().map(|row| (row.case.as_str(), row)).collect()
}

/// The first label that is positive in one row and negative in the other, or has two values.
fn contradiction<'a>(a: &Row, b: &Row, table: &'a Table) -> Option<&'a String> {
    let at = if table.kind.has_values() {
        let (a, b) = (table.values_of(a), table.values_of(b));
        a.iter().zip(&b).position(|(a, b)| matches!((a, b), (Some(a), Some(b)) if a != b))?
    } else {
        let opposite = |(a, b): (&Option<f32>, &Option<f32>)| matches!((a, b), (Some(a), Some(b)) if (*a > 0.5) != (*b > 0.5));
        a.labels.iter().zip(&b.labels).position(opposite)?
    };
    table.labels.get(at)
}
