//! What the intensities say: CT or not, and whether Hounsfield units are where they should be.

use anymc3d_manifest::Modality;
use rayon::prelude::*;

use crate::scan::Scan;

/// Air in a CT, HU: scanners differ, and noise and partial volume widen the peak.
const AIR: std::ops::RangeInclusive<f32> = -1100.0..=-850.0;
/// Water, fat and muscle, HU.
const SOFT: std::ops::RangeInclusive<f32> = -200.0..=250.0;

/// How much of a scan is what a CT is told by, 0..1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shares {
    air: f64,
    soft: f64,
}

impl Shares {
    pub fn of(voxels: &[f32]) -> Self {
        Self { air: share(voxels, |v| AIR.contains(&v)), soft: share(voxels, |v| SOFT.contains(&v)) }
    }
}

fn share(voxels: &[f32], inside: impl Fn(f32) -> bool + Sync) -> f64 {
    let n: usize = voxels.par_chunks(1 << 16).map(|c| c.iter().filter(|v| inside(**v)).count()).sum();
    n as f64 / voxels.len().max(1) as f64
}

/// CT where values far below zero are common; MR where none is and they are not a handful of labels; else unknown.
pub(crate) fn guess(voxels: &[f32], [low, high]: [f32; 2]) -> Option<Modality> {
    if low <= -500.0 && high <= 40_000.0 && share(voxels, |v| v <= -500.0) > 0.002 {
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

/// What a plugin for `wanted` should tell about this scan: another modality, or Hounsfield units that are off.
pub fn modality_warning(scan: &Scan, wanted: Modality) -> Option<String> {
    let found = scan.modality.or(scan.modality_guess);
    match (wanted, found) {
        (Modality::Any, _) => None,
        // Only CT and MR can be told apart by intensities; a PET looks like an MR.
        (Modality::PT, Some(Modality::MR)) if scan.modality.is_none() => None,
        (wanted, Some(found)) if found != wanted && found != Modality::Any => {
            let how = if scan.modality.is_some() { "is" } else { "looks like" };
            Some(format!(
                "the scan {how} {found:?}, the task was made for {wanted:?}: its result cannot be trusted{}",
                hint(scan, wanted)
            ))
        }
        (Modality::CT, _) => hounsfield(scan),
        _ => None,
    }
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
    let Shares { air, soft } = scan.shares;
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

    #[test]
    fn labels_are_not_an_mr() {
        assert_eq!(scan(|i| (i % 5) as f32).modality_guess, None);
        assert_eq!(scan(|i| (i % 500) as f32).modality_guess, Some(Modality::MR));
    }
}
