//! What the intensities say: CT or not, and whether Hounsfield units are where they should be.

use anymc3d_manifest::Modality;
use rayon::prelude::*;

use crate::scan::Scan;
use crate::scan::statistics::{CT_AIR, Statistics};

/// A value further below zero than this share of the largest is no ringing of an interpolation.
const RINGING: f32 = 0.05;

/// How much of a scan is what modalities are told by, 0..1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shares {
    air: f64,
    soft: f64,
    /// Below zero, by more than resampling rings. `None` of a CT, which is never asked.
    negative: Option<f64>,
}

impl Shares {
    /// `found`: the modality, of the file or by its intensities.
    pub fn of(voxels: &[f32], statistics: &Statistics, found: Option<Modality>) -> Self {
        let share = |count: usize| count as f64 / voxels.len().max(1) as f64;
        let negative = || {
            let least = -RINGING * statistics.high.abs();
            if statistics.low >= least {
                return 0.0;
            }
            let below = |part: &[f32]| part.iter().map(|v| usize::from(*v < least)).sum::<usize>();
            share(voxels.par_chunks(1 << 16).map(below).sum())
        };
        Self {
            air: share(statistics.air),
            soft: share(statistics.soft),
            negative: (found != Some(Modality::CT)).then(negative),
        }
    }
}

/// CT where values far below zero are common; MR where none is and they are not a handful of labels; else unknown.
pub(crate) fn guess(voxels: &[f32], statistics: &Statistics) -> Option<Modality> {
    let Statistics { low, high, far_below_zero, .. } = *statistics;
    let share = far_below_zero as f64 / voxels.len().max(1) as f64;
    if low <= CT_AIR && high <= 40_000.0 && share > 0.002 {
        return Some(Modality::CT);
    }
    // Resampling rings a little below zero.
    let grey = low >= -0.25 * high && high > low && !few_values(voxels);
    grey.then_some(Modality::MR)
}

/// A label map or a mask has a few whole numbers; a scan has hundreds of values.
fn few_values(voxels: &[f32]) -> bool {
    let mut seen: Vec<u32> = Vec::new();
    for v in voxels {
        let bits = v.to_bits();
        if let Err(at) = seen.binary_search(&bits) {
            seen.insert(at, bits);
            if seen.len() > 64 {
                return false;
            }
        }
    }
    true
}

/// What a plugin for `wanted` should tell about this scan: another modality, Hounsfield units that are off, or values that
/// scanners of this modality do not make.
pub fn modality_warning(scan: &Scan, wanted: Modality) -> Option<String> {
    let found = scan.modality.or(scan.modality_guess);
    match (wanted, found) {
        (Modality::Any, _) => None,
        // Only CT and MR can be told apart by intensities; a PET looks like an MR.
        (Modality::PT, Some(Modality::MR)) if scan.modality.is_none() => below_zero(scan, wanted),
        (wanted, Some(found)) if found != wanted && found != Modality::Any => {
            let how = if scan.modality.is_some() { "is" } else { "looks like" };
            Some(format!(
                "the scan {how} {found:?}, the task was made for {wanted:?}: its result cannot be trusted{}",
                hint(scan, wanted)
            ))
        }
        (Modality::CT, _) => hounsfield(scan),
        (wanted, _) => below_zero(scan, wanted).or_else(|| (found.is_none()).then(|| unknown(scan, wanted))),
    }
}

/// Magnitudes and counts are not negative: the values were standardised (z-scores), or are no image of this modality.
fn below_zero(scan: &Scan, wanted: Modality) -> Option<String> {
    /// Less than this share are stray voxels.
    const STRAY: f64 = 0.002;
    let negative = scan.shares.negative.unwrap_or(0.0);
    let [low, high] = scan.range();
    (negative > STRAY).then(|| {
        format!(
            "{:.1} % of the values lie below zero ({low} to {high}), where {wanted:?} has none: the scan was standardised (z-scores) \
             or changed otherwise. Background is what is exactly 0 (percentiles with nonzero) or near the 1st percentile \
             (region body), and 0 lies among the tissue here: give the scan as it was reconstructed",
            100.0 * negative
        )
    })
}

/// The intensities tell no modality.
fn unknown(scan: &Scan, wanted: Modality) -> String {
    let [low, high] = scan.range();
    format!(
        "the values ({low} to {high}) look like no modality, the task was made for {wanted:?}: a mask, a map or a changed scan \
         looks like this"
    )
}

fn hint(scan: &Scan, wanted: Modality) -> String {
    let [low, high] = scan.range();
    if wanted == Modality::CT && low >= 0.0 && high > 1000.0 {
        // 12-bit storage with air at 0.
        return " (a CT without its rescale intercept looks like this too)".into();
    }
    String::new()
}

/// Air near -1000 HU and soft tissue near 0, or a warning (rescale missing, applied twice, or a windowed export).
fn hounsfield(scan: &Scan) -> Option<String> {
    let Shares { air, soft, .. } = scan.shares;
    let [low, high] = scan.range();
    let why = if air < 0.001 {
        "no air near -1000 HU"
    } else if soft < 0.01 {
        "no soft tissue near 0 HU"
    } else {
        return None;
    };
    Some(format!(
        "{why} (values run from {low} to {high}): the rescale to Hounsfield units may be missing or applied twice"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Affine;

    fn scan(value: impl Fn(usize) -> f32) -> Scan {
        Scan::from_voxels(
            "made",
            (0..8000).map(value).collect(),
            [20; 3],
            Affine::aligned([1.0; 3], [0.0; 3]),
        )
        .unwrap()
    }

    /// Half air, half soft tissue, some bone.
    fn hu(i: usize) -> f32 {
        match i % 10 {
            0..5 => -1000.0 + (i % 37) as f32,
            9 => 700.0,
            _ => 40.0 + (i % 71) as f32,
        }
    }

    #[test]
    fn a_ct_is_known_by_its_air_and_is_fine_for_a_ct_task() {
        let s = scan(hu);
        assert_eq!(s.modality_guess, Some(Modality::CT));
        assert_eq!(modality_warning(&s, Modality::CT), None);
        assert_eq!(modality_warning(&s, Modality::Any), None);
        assert!(modality_warning(&s, Modality::MR).unwrap().contains("looks like CT"));
    }

    #[test]
    fn a_rescale_applied_twice_is_noticed() {
        let warning = modality_warning(&scan(|i| hu(i) - 1024.0), Modality::CT).unwrap();
        assert!(warning.contains("applied twice"), "{warning}");
    }

    #[test]
    fn a_ct_without_its_intercept_is_noticed() {
        let warning = modality_warning(&scan(|i| hu(i) + 1024.0), Modality::CT).unwrap();
        assert!(warning.contains("without its rescale intercept"), "{warning}");
    }

    /// A head that fills two thirds of the grid, 0 around it.
    fn mr(i: usize) -> f32 {
        if i.is_multiple_of(3) { 0.0 } else { 100.0 + ((i * 7919) % 500) as f32 }
    }

    #[test]
    fn an_mr_in_z_scores_with_a_background_of_zero_is_noticed() {
        assert_eq!(modality_warning(&scan(mr), Modality::MR), None);
        let z_scores = scan(|i| if mr(i) == 0.0 { 0.0 } else { (mr(i) - 350.0) / 144.0 });
        let warning = modality_warning(&z_scores, Modality::MR).unwrap();
        assert!(
            warning.contains("lie below zero") && warning.contains("Background is what is exactly 0"),
            "{warning}"
        );
        // With an outlier it still looks like an MR.
        let bright = scan(|i| if i == 1 { 15.0 } else { (mr(i) - 350.0) / 144.0 });
        assert_eq!(bright.modality_guess, Some(Modality::MR));
        for wanted in [Modality::MR, Modality::PT] {
            assert!(modality_warning(&bright, wanted).unwrap().contains("z-scores"));
        }
    }

    #[test]
    fn ringing_a_little_below_zero_is_not_told() {
        assert_eq!(modality_warning(&scan(|i| if i % 50 == 3 { -4.0 } else { mr(i) }), Modality::MR), None);
    }

    #[test]
    fn values_that_tell_no_modality_are_told_where_one_was_wanted() {
        let mask = scan(|i| (i % 5) as f32);
        for wanted in [Modality::MR, Modality::PT] {
            assert!(modality_warning(&mask, wanted).unwrap().contains("look like no modality"));
        }
        assert!(modality_warning(&mask, Modality::CT).unwrap().contains("no air near -1000 HU"));
        assert_eq!(modality_warning(&mask, Modality::Any), None);
    }

    #[test]
    fn labels_are_not_an_mr() {
        assert_eq!(scan(|i| (i % 5) as f32).modality_guess, None);
        assert_eq!(scan(|i| (i % 500) as f32).modality_guess, Some(Modality::MR));
    }
}
