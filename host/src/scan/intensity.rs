//! From the scan's units to 0..1: windows, and the percentiles that some windows are made of.

use anymc3d_manifest::Intensity;
use rayon::prelude::*;

use crate::memory::{OutOfMemory, copied, reserved, zeroed};
use crate::scan::canonical::Volume;
use crate::scan::resample::{Layout, Resampled};

/// `[low, high]` per channel, in the scan's units; a complaint where the volume has none.
pub(crate) fn windows(volume: &Volume, intensity: &Intensity) -> Result<Vec<[f64; 2]>, String> {
    match intensity {
        Intensity::Window { windows } if windows.iter().all(|w| w[0] < w[1]) && !windows.is_empty() => {
            Ok(windows.clone())
        }
        Intensity::Window { windows } => Err(format!("windows {windows:?}")),
        Intensity::Percentile { low, high, nonzero } => {
            let mut values = if *nonzero {
                let count = volume.voxels.par_iter().filter(|v| **v != 0.0).count();
                let mut values = reserved(count).map_err(|e| e.to_string())?;
                values.extend(volume.voxels.iter().copied().filter(|v| *v != 0.0));
                values
            } else {
                copied(&volume.voxels).map_err(|e| e.to_string())?
            };
            if values.is_empty() {
                return Err("no voxel other than 0".into());
            }
            Ok(vec![[percentile(&mut values, *low), percentile(&mut values, *high)]])
        }
    }
}

/// As `numpy.percentile`: linear between the order statistics around `q / 100 · (n - 1)`. Reorders `values`.
pub(crate) fn percentile(values: &mut [f32], q: f64) -> f64 {
    let position = (q / 100.0).clamp(0.0, 1.0) * (values.len() - 1) as f64;
    let below = position.floor() as usize;
    let (_, &mut a, above) = values.select_nth_unstable_by(below, f32::total_cmp);
    let a = f64::from(a);
    let fraction = position - below as f64;
    if fraction == 0.0 {
        return a;
    }
    let b = above.iter().copied().min_by(f32::total_cmp).map_or(a, f64::from);
    a + (b - a) * fraction
}

/// `clip((v - low) / (high - low), 0, 1)` per channel: `[S, H, W]` in any storage order to `[S, C, H, W]`.
///
/// A window of no width (a constant volume) gives zeros.
pub(crate) fn apply(
    image: &Resampled,
    layout: &Layout,
    windows: &[[f64; 2]],
) -> Result<Vec<f32>, OutOfMemory> {
    let [_, h, w] = layout.shape;
    let count = layout.shape.iter().fold(windows.len(), |n, &d| n.saturating_mul(d));
    let mut pixels = zeroed::<f32>(count)?;
    pixels.par_chunks_mut(h * w).enumerate().for_each(|(plane, out)| {
        let (s, [low, high]) = (plane / windows.len(), windows[plane % windows.len()]);
        let scale = if high > low { 1.0 / (high - low) } else { 0.0 };
        for (r, row) in out.chunks_exact_mut(w).enumerate() {
            let mut at = s * layout.step[0] + r * layout.step[1];
            for v in row {
                *v = ((f64::from(image.values[at]) - low) * scale).clamp(0.0, 1.0) as f32;
                at += layout.step[2];
            }
        }
    });
    Ok(pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_numpys() {
        // numpy.percentile([9, 1, 4, 16, 25, 2], [0, 0.5, 25, 50, 99.5, 100])
        let expected = [1.0, 1.025, 2.5, 6.5, 24.775, 25.0];
        for (q, e) in [0.0, 0.5, 25.0, 50.0, 99.5, 100.0].into_iter().zip(expected) {
            let found = percentile(&mut [9.0, 1.0, 4.0, 16.0, 25.0, 2.0], q);
            assert!((found - e).abs() < 1e-12, "{q}: {found} is not {e}");
        }
        assert_eq!(percentile(&mut [3.0], 50.0), 3.0);
    }
}
