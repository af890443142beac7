//! The top of a preview: what was asked of which case, and what it said.

use anymc3d_manifest::Axis;

use super::{ACCENT, EDGE, Finding, LINE, PANEL, Picture, Preview, QUIET, TEXT, percent};
use crate::output::drawing::{Anchor, font};

/// Most findings that are listed; the rest are counted.
const FINDINGS: usize = 5;
/// Height of a finding's row.
const ROW: usize = 24;
/// Width of a finding's bar.
const BAR: usize = 120;
/// Room for a probability, and for its threshold.
const NUMBER: usize = 64;
const THRESHOLD: usize = 108;

fn rows(p: &Preview) -> usize {
    p.findings.len().min(FINDINGS) + usize::from(p.findings.len() > FINDINGS)
}

pub(super) fn height(p: &Preview) -> usize {
    84.max(28 + ROW * rows(p))
}

/// Where a share of a bar ends.
pub(super) fn along_bar(share: f64) -> usize {
    (BAR as f64 * share.clamp(0.0, 1.0)).round() as usize
}

pub(super) fn draw(picture: &mut Picture, p: &Preview, [wide, high]: [usize; 2]) {
    picture.fill([0, 0], [wide, high], PANEL);
    picture.fill([0, high], [wide, 1], LINE);
    let half = (wide / 2 - EDGE) as f32;
    picture.text([EDGE, 38], 24.0, Anchor::Start, TEXT, &font::fitted(24.0, p.title, half));
    let cut = match p.axis {
        Axis::Axial => "axial",
        Axis::Coronal => "coronal",
        Axis::Sagittal => "sagittal",
        Axis::Native => "native",
    };
    let view = if p.view == cut { format!("{cut} view") } else { format!("view {} ({cut})", p.view) };
    let line = if p.case.is_empty() { view } else { format!("{} – {view}", p.case) };
    picture.text([EDGE, 64], 15.0, Anchor::Start, QUIET, &font::fitted(15.0, &line, half));

    // The most probable first; a bar says what a number hides.
    let mut findings: Vec<&Finding> = p.findings.iter().collect();
    findings.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    let (right, left) = (wide - EDGE, wide / 2 + 10);
    let thresholds = findings.iter().take(FINDINGS).any(|f| f.threshold.is_some());
    let right = if thresholds { right - THRESHOLD } else { right };
    let top = high.saturating_sub(ROW * rows(p)) / 2;
    for (i, f) in findings.iter().take(FINDINGS).enumerate() {
        finding(picture, f, [right, top + ROW * i], left);
    }
    if findings.len() > FINDINGS {
        let more = format!("and {} more in result.json", findings.len() - FINDINGS);
        picture.text([right, top + ROW * FINDINGS + 16], 12.0, Anchor::End, QUIET, &more);
    }
}

/// Label, bar with the threshold as a line, probability, threshold.
fn finding(picture: &mut Picture, f: &Finding, [right, y]: [usize; 2], left: usize) {
    let strong = if f.positive { ACCENT } else { TEXT };
    let base = y + 18;
    picture.text([right, base], 16.0, Anchor::End, strong, &percent(f.probability));
    let x = right - NUMBER - BAR - 14;
    picture.fill([x, y + 8], [BAR, 8], LINE);
    picture.fill([x, y + 8], [along_bar(f.probability), 8], if f.positive { ACCENT } else { QUIET });
    if let Some(threshold) = f.threshold {
        // Dark beside light: seen on the bar and beside it.
        let at = x + along_bar(threshold);
        picture.fill([at - 2, y + 4], [4, 16], PANEL);
        picture.fill([at - 1, y + 4], [2, 16], TEXT);
        let said = format!("threshold {}", percent(threshold));
        picture.text([right + THRESHOLD, base], 12.0, Anchor::End, QUIET, &said);
    }
    let room = (x - 14).saturating_sub(left) as f32;
    picture.text([x - 14, base], 16.0, Anchor::End, strong, &font::fitted(16.0, &f.label, room));
}
