//! From a canonical volume to the pixels a view asks for, by the letter of the manifest's rules.

use anymc3d_manifest::{Axis, Background, Channels, Fit, Intensity, Region, View};
use rayon::prelude::*;

use crate::memory::{MemoryBudget, OutOfMemory, zeroed};
use crate::scan::axis_plan::{AxisPlan, Window};
use crate::scan::canonical::Volume;
use crate::scan::region::Bounds;
use crate::scan::resample::{Layout, Resampled, separable, separable_bytes};
use crate::scan::slice_grid::SliceGrid;
use crate::scan::{Target, VolumeError, adjacent, body, intensity, region};

/// Most slices and most values a stack may have: far above any task, below what would exhaust the memory.
const MOST_SLICES: usize = 4096;
const MOST_VALUES: usize = 1 << 31;

/// A view with more than so many times the slices that the scan has is told of.
const INTERPOLATED: usize = 4;

/// The slices of one view.
#[derive(Debug, Clone)]
pub struct SliceStack {
    /// `[S, C, H, W]` in 0..1; C is 1 (grey) or 3 (windows, or adjacent slices).
    pub pixels: Vec<f32>,
    /// S, C, H, W.
    pub shape: [usize; 4],
    /// Where each pixel came from, and the way back.
    pub grid: SliceGrid,
    /// `[S, H, W]`: 1 where a pixel shows the body, 0 where it shows background. `None` where the view keeps its background.
    pub body: Option<Vec<f32>>,
    /// What was noticed, one line each.
    pub warnings: Vec<String>,
}

impl SliceStack {
    /// `(pixel - mean) / std` per channel, `[S, 3, H, W]`; a grey channel is repeated.
    ///
    /// # Errors
    /// Where there is no memory for them.
    pub fn normalised(&self, mean: [f32; 3], std: [f32; 3]) -> Result<Vec<f32>, OutOfMemory> {
        let [s, c, h, w] = self.shape;
        let mut out = zeroed::<f32>([s, 3, h, w].iter().fold(1, |n: usize, &d| n.saturating_mul(d)))?;
        out.par_chunks_mut(h * w).enumerate().for_each(|(plane, out)| {
            let (slice, channel) = (plane / 3, plane % 3);
            let from = (slice * c + if c == 1 { 0 } else { channel }) * h * w;
            let (mean, scale) = (mean[channel], 1.0 / std[channel]);
            for (v, p) in out.iter_mut().zip(&self.pixels[from..from + h * w]) {
                *v = (p - mean) * scale;
            }
        });
        Ok(out)
    }
}

/// Cuts a view's slices out of a volume. Sizes that are no multiple of `patch_size` are rounded up, with a warning.
///
/// # Errors
/// [`VolumeError::View`]: a window without width, percentiles of nothing, neither `slices` nor
/// `slice_spacing_mm`, `fit = "spacing"` without `spacing_mm`, or more pixels than this process may hold.
pub fn slices(volume: &Volume, view: &View, patch_size: usize) -> Result<SliceStack, VolumeError> {
    // The volume, and the scan that it is a copy of.
    let taken = volume.voxels.len().saturating_mul(2 * size_of::<f32>());
    slices_within(volume, view, patch_size, MemoryBudget::of_process().less(taken))
}

/// [`slices`] that take no more than `room`, which is counted without the volume.
///
/// # Errors
/// As there.
pub fn slices_within(
    volume: &Volume,
    view: &View,
    patch_size: usize,
    room: MemoryBudget,
) -> Result<SliceStack, VolumeError> {
    slices_of_target(volume, view, patch_size, room, Target::default())
}

/// [`slices_within`] of a case whose mask or point is known: what the regions `mask` and `point` are cut around.
///
/// # Errors
/// As there; and when the view's region needs a mask or a point that is missing, empty, or outside of the scan.
pub fn slices_of_target(
    volume: &Volume,
    view: &View,
    patch_size: usize,
    room: MemoryBudget,
    target: Target<'_>,
) -> Result<SliceStack, VolumeError> {
    let refuse = |found: String, expected: &str, todo: &str| refused(volume, view, found, expected, todo);
    let expected = format!("at most {room}");
    let too_much = |found: String| {
        refuse(
            found,
            &expected,
            "resample or crop the scan, or give more memory (--max-memory, or the system's own limit)",
        )
    };
    if matches!(view.intensity, Intensity::Percentile { .. }) {
        let bytes = volume.voxels.len().saturating_mul(size_of::<f32>());
        if bytes > room.bytes {
            return Err(too_much(format!("{} voxels to sort, {} MiB", volume.voxels.len(), bytes >> 20)));
        }
    }
    let mut warnings = Vec::new();
    let windows = intensity::windows(volume, &view.intensity).map_err(|found| {
        refuse(found, "intensities with a range", "check the scan and the view's `intensity`")
    })?;
    if windows.iter().any(|w| w[0] >= w[1]) {
        warnings.push(format!(
            "view `{}`: both percentiles are {}: its pixels are all 0",
            view.name, windows[0][0]
        ));
    }
    let (bounds, centred) = match (view.region, view.size_mm) {
        (Region::Mask | Region::Point, Some(extent)) => {
            let centre = target.centre(volume, view)?;
            (volume.shape.map(|n| [0, n]), Some(Centred { centre, mm: extent.mm() }))
        }
        (Region::Mask, None) => (target.box_around(volume, view, view.margin_mm.unwrap_or(0.0))?, None),
        (other, _) => {
            let found = region::bounds(volume, other, view.modality, room.bytes, &mut warnings);
            let too_many = || too_much("more pieces of tissue and air than there is memory for".into());
            (found.ok_or_else(too_many)?, None)
        }
    };
    let bounds = view.crop.map_or(bounds, |shares| region::crop(bounds, shares));
    let adjacent_mm = view.adjacent_mm.filter(|_| view.channels == Channels::Adjacent);
    let channels = if adjacent_mm.is_some() { 3 } else { windows.len() };
    let unfitted = axes(volume, view.axis).map(|axis| whole(volume, bounds, axis));
    let sizes = (patch_size, channels);
    let plans = fitted(volume, view, unfitted, centred.as_ref(), sizes, &mut warnings)?;
    let with_body = channels + usize::from(view.background == Background::Drop);
    let bytes = bytes_of(volume.shape, &plans, with_body);
    if bytes > room.bytes {
        let [s, h, w] = [0, 1, 2].map(|i| plans[i].size);
        return Err(too_much(format!(
            "{s} slices of {h} × {w}, which take {} MiB to be cut",
            (bytes >> 20) + 1
        )));
    }
    let no_memory = VolumeError::no_memory(&volume.path, "its slices");
    let grid = SliceGrid::new(volume, plans);
    let layout = grid.layout();
    let pixels = match adjacent_mm {
        Some(mm) => adjacent::pixels(&grid, volume, mm, &windows[..1]),
        None => grid
            .sample(&volume.voxels, volume.minimum)
            .and_then(|image| intensity::apply(&image, &layout, &windows)),
    };
    let pixels = pixels.map_err(&no_memory)?;
    let mut body = None;
    if view.background == Background::Drop {
        let grids = match adjacent_mm {
            Some(mm) => vec![grid.shifted(-mm), grid.clone(), grid.shifted(mm)],
            None => vec![grid.clone()],
        };
        match body::pixels_of_body(volume, view, &grids).map_err(&no_memory)? {
            Ok(shown) => body = Some(shown),
            Err(all_kept) => warnings.push(all_kept.to_owned()),
        }
    }
    let [s, h, w] = layout.shape;
    Ok(SliceStack { pixels, shape: [s, channels, h, w], grid, body, warnings })
}

fn refused(volume: &Volume, view: &View, found: String, expected: &str, todo: &str) -> VolumeError {
    VolumeError::View {
        path: volume.path.clone(),
        view: view.name.clone(),
        found,
        expected: expected.into(),
        todo: todo.into(),
    }
}

/// The axes (slices, rows, columns) with as many samples as the view asks for, in whole patches.
fn fitted(
    volume: &Volume,
    view: &View,
    mut plans: [AxisPlan; 3],
    centred: Option<&Centred>,
    (patch_size, channels): (usize, usize),
    warnings: &mut Vec<String>,
) -> Result<[AxisPlan; 3], VolumeError> {
    let refuse = |found: String, expected: &str, todo: &str| refused(volume, view, found, expected, todo);
    let length_mm = match centred {
        Some(centred) => centred.mm[plans[0].canonical],
        None => plans[0].length as f64 * plans[0].spacing_mm,
    };
    let count = count(length_mm, view).ok_or_else(|| {
        refuse(
            "no number of slices".into(),
            "`slices` or `slice_spacing_mm` above 0",
            "correct the plugin's manifest",
        )
    })?;
    if count > MOST_SLICES {
        warnings.push(format!("view `{}`: {count} slices asked for, {MOST_SLICES} made", view.name));
    }
    plans[0].size = count.min(MOST_SLICES);
    plans[0].resampled = plans[0].size;
    plans[0].antialiased = view.through_plane.is_average();
    warnings.extend(few_slices(&plans[0], view));
    if plans[1..].iter().any(|plan| plan.length == 1) {
        warnings.push(format!(
            "view `{}`: the scan is one voxel thick in the plane of the slices: they show a line",
            view.name
        ));
    }
    let size = view.size.map(|n| n.max(1).next_multiple_of(patch_size.max(1)));
    if size != view.size {
        warnings.push(format!(
            "view `{}`: size {} × {} rounded up to {} × {}, multiples of the patch size {patch_size}",
            view.name, view.size[0], view.size[1], size[0], size[1]
        ));
    }
    let values =
        [plans[0].size, channels, size[0], size[1]].iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if values.is_none_or(|n| n > MOST_VALUES) {
        return Err(refuse(
            format!("{} slices of {} × {}", plans[0].size, size[0], size[1]),
            "at most 2 147 483 648 pixel values",
            "ask for fewer or smaller slices in the plugin's manifest",
        ));
    }
    let fitted = match centred {
        Some(centred) => centred.fit(&mut plans, size, view),
        None => {
            let [_, rows, columns] = &mut plans;
            fit(rows, columns, size, view)
        }
    };
    fitted.ok_or_else(|| {
        refuse(
            "no `spacing_mm`".into(),
            "a pixel size above 0 mm for fit = \"spacing\"",
            "correct the plugin's manifest",
        )
    })?;
    Ok(plans)
}

/// Most bytes that cutting takes beside the volume: weights, what is between the axes, and the pixels.
fn bytes_of(shape: [usize; 3], plans: &[AxisPlan; 3], channels: usize) -> usize {
    let mut samples = [0; 3];
    plans.iter().for_each(|plan| samples[plan.canonical] = plan.size);
    let weights = plans.iter().map(AxisPlan::taps_bytes).fold(0, usize::saturating_add);
    let image = samples.iter().fold(size_of::<f32>(), |n, &d| n.saturating_mul(d));
    let pixels = image.saturating_mul(channels).saturating_add(image);
    weights.saturating_add(separable_bytes(shape, samples).max(pixels))
}

/// Slice, row and column: the canonical axis of each, and whether it is walked backwards.
///
/// Slices run along increasing RAS. Rows run anterior → posterior or superior → inferior, columns
/// right → left or anterior → posterior: as radiologists hang them, and all against RAS.
fn axes(volume: &Volume, axis: Axis) -> [(usize, bool); 3] {
    let along = match axis {
        Axis::Sagittal => 0,
        Axis::Coronal => 1,
        Axis::Axial => 2,
        Axis::Native => {
            // Among equals axial; a spacing read from a file's f32 is equal to a few parts in a million.
            let thicker = |best: usize, a: usize| {
                if volume.spacing_mm[a] > volume.spacing_mm[best] * 1.001 { a } else { best }
            };
            [1, 0].into_iter().fold(2, thicker)
        }
    };
    match along {
        0 => [(0, false), (2, true), (1, true)],
        1 => [(1, false), (2, true), (0, true)],
        _ => [(2, false), (1, true), (0, true)],
    }
}

/// A region of a fixed size in mm.
struct Centred {
    /// Canonical index, with fraction.
    centre: [f64; 3],
    /// Along each canonical axis.
    mm: [f64; 3],
}

impl Centred {
    /// Puts the pixels of all three axes around the centre; `None` where the manifest lacks a number.
    fn fit(&self, plans: &mut [AxisPlan; 3], size: [usize; 2], view: &View) -> Option<()> {
        let [slices, rows, columns] = plans.each_ref().map(|plan| self.mm[plan.canonical]);
        let image = view.image_mm([rows, columns], size)?;
        let sizes = [plans[0].size, size[0], size[1]];
        for ((plan, size), mm) in plans.iter_mut().zip(sizes).zip([slices, image[0], image[1]]) {
            let middle = self.centre[plan.canonical] + 0.5;
            let middle = if plan.reversed { plan.voxels as f64 - middle } else { middle };
            let voxels = mm / plan.spacing_mm;
            plan.size = size;
            plan.resampled = size;
            plan.window =
                Some(Window { start: middle - voxels / 2.0, step: voxels / size as f64, repeats: false });
        }
        Some(())
    }
}

/// An axis with all voxels of a box, not yet fitted.
fn whole(volume: &Volume, bounds: Bounds, (canonical, reversed): (usize, bool)) -> AxisPlan {
    let [low, high] = bounds[canonical];
    AxisPlan {
        canonical,
        reversed,
        voxels: volume.shape[canonical],
        spacing_mm: volume.spacing_mm[canonical],
        low,
        length: high - low,
        pad_before: 0,
        padded: high - low,
        resampled: 0,
        offset: 0,
        size: 0,
        antialiased: true,
        window: None,
    }
}

/// Slices over a length in mm; `None` where the manifest lacks a number.
fn count(length_mm: f64, view: &View) -> Option<usize> {
    match (view.slices, view.slice_spacing_mm) {
        (Some(n), _) => (n > 0).then_some(n),
        (None, Some(mm)) if mm > 0.0 => Some(((length_mm / mm).round_ties_even() as usize).max(1)),
        _ => None,
    }
}

/// A view's slices that are made of far fewer: they look like depth and are none.
fn few_slices(plan: &AxisPlan, view: &View) -> Option<String> {
    let (there, made) = (plan.length, plan.size);
    match there {
        1 if made > 1 => Some(format!(
            "view `{}`: the scan has one slice along this axis: the prediction comes from this slice, used {made} times",
            view.name
        )),
        _ if there * INTERPOLATED < made => Some(format!(
            "view `{}`: the scan has {there} slices along this axis and the view {made}: those between them are interpolated",
            view.name
        )),
        _ => None,
    }
}

/// Padding, resampling and cropping in the slice plane; `None` where the manifest lacks a number.
fn fit(rows: &mut AxisPlan, columns: &mut AxisPlan, size: [usize; 2], view: &View) -> Option<()> {
    let longest = (rows.length as f64 * rows.spacing_mm).max(columns.length as f64 * columns.spacing_mm);
    for (plan, size) in [(rows, size[0]), (columns, size[1])] {
        plan.size = size;
        match view.fit {
            Fit::Stretch => plan.resampled = size,
            Fit::Square => {
                // Python's round: a half goes to the even number.
                let padded = ((longest / plan.spacing_mm).round_ties_even() as usize).max(plan.length);
                plan.pad_before = (padded - plan.length) / 2;
                plan.padded = padded;
                plan.resampled = size;
            }
            Fit::Spacing => {
                let mm = view.spacing_mm.filter(|mm| *mm > 0.0)?;
                plan.resampled =
                    ((plan.length as f64 * plan.spacing_mm / mm).round_ties_even() as usize).max(1);
                // Both ends alike, the odd pixel at the end: of what is cropped as of what is padded.
                plan.offset = if plan.resampled >= size {
                    ((plan.resampled - size) / 2) as isize
                } else {
                    -(((size - plan.resampled) / 2) as isize)
                };
            }
        }
    }
    Some(())
}

impl SliceGrid {
    /// A canonical block through all three plans; `pad` is what lies outside. Read it by [`Self::layout`].
    ///
    /// # Errors
    /// Where there is no memory for it.
    pub(crate) fn sample(&self, canonical: &[f32], pad: f32) -> Result<Resampled, OutOfMemory> {
        let mut taps = [Vec::new(), Vec::new(), Vec::new()];
        for plan in &self.plans {
            taps[plan.canonical] = plan.taps();
        }
        separable(canonical, self.canonical_shape, [&taps[0], &taps[1], &taps[2]], pad)
    }

    /// Where `[S, H, W]` lies in what [`Self::sample`] gives.
    pub(crate) fn layout(&self) -> Layout {
        let mut sizes = [0; 3];
        for plan in &self.plans {
            sizes[plan.canonical] = plan.size;
        }
        let steps = [1, sizes[0], sizes[0] * sizes[1]];
        Layout {
            shape: [0, 1, 2].map(|i| self.plans[i].size),
            step: [0, 1, 2].map(|i| steps[self.plans[i].canonical]),
        }
    }
}
