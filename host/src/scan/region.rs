//! What part of a volume is kept: all of it, the body, or the lungs.

use anymc3d_manifest::{Modality, Region, View};

use crate::memory::MemoryBudget;
use crate::scan::canonical::Volume;
use crate::scan::components::{Components, Reach};
use crate::scan::intensity::percentile;

/// `[low, high)` in voxels along each canonical axis.
pub(crate) type Bounds = [[usize; 2]; 3];

/// Between air and tissue, HU.
const TISSUE: f32 = -500.0;
/// Kept around the lungs, mm: the pleura and the ribs next to it.
const LUNG_MARGIN_MM: f64 = 5.0;
/// Less enclosed air than this is bowel gas, not a lung, mm³ (30 mL).
const LEAST_LUNG_MM3: f64 = 30_000.0;
/// Of the largest pocket of air: a smaller one is bowel gas or the stomach.
const LEAST_SHARE: f64 = 0.1;

/// The region's bounding box; what it had to fall back to is told in `warnings`. `None` where finding it would take more
/// than `most` bytes.
pub(crate) fn bounds(
    volume: &Volume,
    region: Region,
    modality: Modality,
    most: usize,
    warnings: &mut Vec<String>,
) -> Option<Bounds> {
    match region {
        // Those by mask and point are not looked for in the scan.
        Region::Full | Region::Mask | Region::Point => Some(full(volume)),
        Region::Body => body_or_all(volume, modality, most, warnings),
        Region::Lungs => match lungs(volume, most)? {
            Some(lungs) => Some(lungs),
            None => {
                warnings.push(
                    "region = \"lungs\": no lung-sized air enclosed in the body: the body is used".into(),
                );
                body_or_all(volume, modality, most, warnings)
            }
        },
    }
}

/// What a view's region has to fall back to in a volume, as cutting its slices tells it. Nothing where finding the region
/// takes more than `room`.
pub fn region_warnings(volume: &Volume, view: &View, room: MemoryBudget) -> Vec<String> {
    let mut warnings = Vec::new();
    match bounds(volume, view.region, view.modality, room.bytes, &mut warnings) {
        Some(_) => warnings,
        None => Vec::new(),
    }
}

/// The shares `[from, to]` of a box along each axis, to whole voxels and at least one.
pub(crate) fn crop(bounds: Bounds, shares: [[f64; 2]; 3]) -> Bounds {
    std::array::from_fn(|axis| {
        let [low, high] = bounds[axis];
        let length = high.saturating_sub(low);
        let at = |share: f64| ((length as f64 * share).round() as usize).min(length);
        let from = at(shares[axis][0]).min(length.saturating_sub(1));
        [low + from, low + at(shares[axis][1]).max(from + 1).min(length.max(1))]
    })
}

fn full(volume: &Volume) -> Bounds {
    volume.shape.map(|n| [0, n])
}

fn body_or_all(
    volume: &Volume,
    modality: Modality,
    most: usize,
    warnings: &mut Vec<String>,
) -> Option<Bounds> {
    let hounsfield = match modality {
        Modality::CT => true,
        Modality::Any => volume.modality == Some(Modality::CT),
        Modality::MR | Modality::PT => false,
    };
    let threshold = if hounsfield { TISSUE } else { background(volume) };
    let tissue = Components::of(volume.shape, Reach::Volume, most, &volume.voxels, |v| v > threshold)?;
    let sizes = tissue.sizes();
    let largest = sizes.iter().copied().max().unwrap_or(0);
    // The first of equals: one component, whatever the ties.
    let body = sizes.iter().position(|&n| n == largest);
    Some(tissue.bounds(|c| Some(c) == body).unwrap_or_else(|| {
        warnings.push("region = \"body\": nothing above the background: the whole volume is used".into());
        full(volume)
    }))
}

/// A tenth of the way from the 1st to the 99th percentile: above the noise around the body, below any tissue that signals.
pub(crate) fn background(volume: &Volume) -> f32 {
    // A few hundred thousand voxels tell percentiles well enough.
    let stride = (volume.voxels.len() / 400_000).max(1);
    let mut sample: Vec<f32> = volume.voxels.iter().copied().step_by(stride).collect();
    let (low, high) = (percentile(&mut sample, 1.0), percentile(&mut sample, 99.0));
    (low + 0.1 * (high - low)) as f32
}

/// Air that no slice lets out at its sides, in pockets the size of a lung, and a margin.
///
/// Slice by slice, because in 3D the windpipe, nose and mouth join the lungs to the room.
///
/// The outer `None` is as in [`bounds`], the inner one where there are none.
fn lungs(volume: &Volume, most: usize) -> Option<Option<Bounds>> {
    let [nx, ny, _] = volume.shape;
    let air = Components::of(volume.shape, Reach::Slice, most, &volume.voxels, |v| v < TISSUE)?;
    let mut open = vec![false; air.count];
    for run in &air.runs {
        let y = run.row % ny;
        open[run.component] |= run.start == 0 || run.end == nx || y == 0 || y == ny - 1;
    }
    let mut enclosed = air.runs;
    enclosed.retain(|run| !open[run.component]);
    let pockets = Components::of_runs(volume.shape, Reach::Volume, enclosed);
    let sizes = pockets.sizes();
    let largest = sizes.iter().copied().max().unwrap_or(0) as f64;
    if largest * volume.spacing_mm.iter().product::<f64>() < LEAST_LUNG_MM3 {
        return Some(None);
    }
    let Some(mut bounds) = pockets.bounds(|c| sizes[c] as f64 >= LEAST_SHARE * largest) else {
        return Some(None);
    };
    for (axis, [low, high]) in bounds.iter_mut().enumerate() {
        let margin = (LUNG_MARGIN_MM / volume.spacing_mm[axis]).ceil() as usize;
        *low = low.saturating_sub(margin);
        *high = (*high + margin).min(volume.shape[axis]);
    }
    Some(Some(bounds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::{Affine, Scan};

    const PLENTY: usize = 1 << 30;

    /// Air, a body of 30×20×16 voxels of 4 mm with two lungs and a gas bubble, a table below.
    fn chest(lungs: bool) -> Volume {
        let shape = [40, 32, 20];
        let mut voxels = vec![-1000.0; 40 * 32 * 20];
        let mut fill = |x: [usize; 2], y: [usize; 2], z: [usize; 2], value: f32| {
            for z in z[0]..z[1] {
                for y in y[0]..y[1] {
                    voxels[(z * 32 + y) * 40..][x[0]..x[1]].fill(value);
                }
            }
        };
        fill([2, 38], [1, 3], [0, 20], 200.0);
        fill([5, 35], [6, 26], [2, 18], 40.0);
        if lungs {
            fill([8, 17], [10, 22], [6, 16], -850.0);
            fill([22, 32], [10, 22], [6, 17], -850.0);
        }
        fill([18, 20], [20, 22], [3, 5], -1000.0);
        Scan::from_voxels("chest", voxels, shape, Affine::aligned([4.0; 3], [0.0; 3])).unwrap().canonical()
    }

    #[test]
    fn the_body_is_the_largest_component_without_the_table() {
        let mut warnings = Vec::new();
        let found = bounds(&chest(true), Region::Body, Modality::CT, PLENTY, &mut warnings).unwrap();
        assert_eq!((found, warnings.len()), ([[5, 35], [6, 26], [2, 18]], 0));
    }

    #[test]
    fn the_lungs_are_the_enclosed_air_without_the_bubble() {
        let mut warnings = Vec::new();
        let found = bounds(&chest(true), Region::Lungs, Modality::CT, PLENTY, &mut warnings).unwrap();
        // 5 mm of margin are two voxels of 4 mm.
        assert_eq!((found, warnings.len()), ([[6, 34], [8, 24], [4, 19]], 0));
    }

    #[test]
    fn a_crop_keeps_its_shares_of_the_box_and_never_nothing() {
        let shares = [[0.5, 1.0], [0.1, 0.9], [0.0, 1.0]];
        assert_eq!(crop([[5, 35], [6, 26], [2, 18]], shares), [[20, 35], [8, 24], [2, 18]]);
        assert_eq!(crop([[3, 4]; 3], [[0.2, 0.3]; 3]), [[3, 4]; 3]);
        assert_eq!(crop([[0, 10]; 3], [[0.96, 1.0]; 3]), [[9, 10]; 3]);
    }

    #[test]
    fn a_scan_without_lungs_falls_back_to_the_body_and_says_so() {
        let mut warnings = Vec::new();
        let found = bounds(&chest(false), Region::Lungs, Modality::CT, PLENTY, &mut warnings).unwrap();
        assert_eq!(found, [[5, 35], [6, 26], [2, 18]]);
        assert!(warnings.len() == 1 && warnings[0].contains("lungs"), "{warnings:?}");
    }

    #[test]
    fn an_mr_body_is_what_is_above_the_background() {
        let mut voxels: Vec<f32> = (0..20usize.pow(3)).map(|i| (i * 7919 % 13) as f32).collect();
        for z in 4..15 {
            for y in 3..18 {
                for x in 5..12 {
                    voxels[(z * 20 + y) * 20 + x] = 300.0 + (x * y) as f32;
                }
            }
        }
        let scan = Scan::from_voxels("mr", voxels, [20; 3], Affine::aligned([2.0; 3], [0.0; 3])).unwrap();
        let found = bounds(&scan.canonical(), Region::Body, Modality::MR, PLENTY, &mut Vec::new()).unwrap();
        assert_eq!(found, [[5, 12], [3, 18], [4, 15]]);
    }

    #[test]
    fn an_all_air_scan_keeps_everything_and_says_so() {
        let scan =
            Scan::from_voxels("air", vec![-1000.0; 8], [2; 3], Affine::aligned([1.0; 3], [0.0; 3])).unwrap();
        let mut warnings = Vec::new();
        assert_eq!(
            bounds(&scan.canonical(), Region::Lungs, Modality::CT, PLENTY, &mut warnings).unwrap(),
            [[0, 2]; 3]
        );
        assert_eq!(warnings.len(), 2);
    }
}
