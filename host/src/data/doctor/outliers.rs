//! Scans unlike the others of their table, in voxel size or in number of voxels.

use super::{Findings, Seen};
use crate::data::table::Problem;
use std::collections::HashMap;

/// A scan whose voxels are so many times larger or smaller than the table's median is named.
const SPACING_OUTLIER: f64 = 2.5;
/// A scan with so many times more or fewer voxels along an axis than the median is named.
const SHAPE_OUTLIER: f64 = 4.0;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Scans unlike the others of their view. Axes are compared by size, since scans are stored in any order.
pub(super) fn outliers(seen: &[Seen], all: &mut Findings) {
    let mut views: HashMap<&str, Vec<&Seen>> = HashMap::new();
    for s in seen {
        views.entry(&s.view).or_default().push(s);
    }
    for scans in views.values().filter(|v| v.len() >= 5) {
        let spacing = |s: &Seen| {
            let mut mm = s.spacing_mm;
            mm.sort_by(f64::total_cmp);
            mm
        };
        let shape = |s: &Seen| {
            let mut n = s.shape;
            n.sort_unstable();
            n.map(|n| n as f64)
        };
        let [mut spacings, mut shapes] = [Vec::new(), Vec::new()];
        let median_of = |value: &dyn Fn(&Seen) -> f64| median(scans.iter().map(|s| value(s)).collect());
        let medians =
            [0, 1, 2].map(|axis| (median_of(&|s| spacing(s)[axis]), median_of(&|s| shape(s)[axis])));
        for s in scans {
            // Of several axes the one that is farthest off.
            let farthest = |values: [f64; 3], middles: [f64; 3]| {
                let off = |axis: usize| (values[axis] / middles[axis]).ln().abs().exp();
                let axis = (0..3).max_by(|&a, &b| off(a).total_cmp(&off(b))).unwrap_or(0);
                (off(axis), values[axis], middles[axis])
            };
            let (off, mm, middle) = farthest(spacing(s), medians.map(|m| m.0));
            if off > SPACING_OUTLIER {
                spacings.push(Outlier {
                    off,
                    seen: s,
                    value: format!("{mm:.2} mm"),
                    middle: format!("{middle:.2} mm"),
                });
            }
            let (off, n, middle) = farthest(shape(s), medians.map(|m| m.1));
            if off > SHAPE_OUTLIER {
                shapes.push(Outlier { off, seen: s, value: n.to_string(), middle: middle.to_string() });
            }
        }
        tell_outliers(
            spacings,
            scans.len(),
            |o| format!("voxels of {} where the table's median is {}", o.value, o.middle),
            all,
        );
        let axis = |o: &Outlier<'_>| {
            format!("{} voxels along an axis where the table's median is {}", o.value, o.middle)
        };
        tell_outliers(shapes, scans.len(), axis, all);
    }
}

/// A scan unlike the others of its view.
struct Outlier<'a> {
    /// How many times larger or smaller than the median.
    off: f64,
    seen: &'a Seen,
    value: String,
    middle: String,
}

/// How many outliers of one kind are named. More of them say that the table has two kinds of scans, not that a scan is
/// wrong.
const OUTLIERS_NAMED: usize = 3;

/// A warning for each outlier, or one for all with their number and the worst.
fn tell_outliers(
    mut outliers: Vec<Outlier<'_>>,
    scans: usize,
    describe: impl Fn(&Outlier<'_>) -> String,
    all: &mut Findings,
) {
    if outliers.len() <= OUTLIERS_NAMED {
        all.warnings.extend(outliers.iter().map(|o| Problem {
            line: Some(o.seen.line),
            what: format!("case `{}`: {}", o.seen.case, describe(o)),
        }));
        return;
    }
    outliers.sort_by(|a, b| b.off.total_cmp(&a.off));
    let worst: Vec<String> = outliers
        .iter()
        .take(OUTLIERS_NAMED)
        .map(|o| format!("case `{}` (line {}): {}", o.seen.case, o.seen.line, describe(o)))
        .collect();
    let (count, view) = (outliers.len(), &outliers[0].seen.view);
    let what = format!(
        "view `{view}`: {count} of {scans} scans are unlike the others; the worst: {}",
        worst.join("; ")
    );
    all.warnings.push(Problem { line: None, what });
}
