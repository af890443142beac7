//! One axis of a slice stack: from the scan's voxels through region, padding, resampling and cropping to pixels.
//!
//! Written once and read in both directions, so that the way back cannot drift from the way there.

use crate::scan::resample::{Tap, resampling};

/// A stretch of an axis in fractions of voxels, for regions of a fixed length in mm: what lies beyond the scan is padding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Window {
    /// Edge of the first pixel in the direction of the pixels; 0 is the edge of the scan's first voxel.
    pub start: f64,
    /// Voxels per pixel.
    pub step: f64,
    /// Whether the outermost voxels go on beyond the scan's edges, instead of padding.
    pub repeats: bool,
}

/// How one image axis (slice, row or column) is made of one canonical axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AxisPlan {
    /// 0 right, 1 anterior, 2 superior.
    pub canonical: usize,
    /// `true`: pixels run against the canonical axis.
    pub reversed: bool,
    /// Voxels along the canonical axis, and their spacing in mm.
    pub voxels: usize,
    pub spacing_mm: f64,
    /// First voxel of the region (canonical index) and how many it has.
    pub low: usize,
    pub length: usize,
    /// Padding before and in all, in the direction of the pixels: `padded >= length`.
    pub pad_before: usize,
    pub padded: usize,
    /// Samples that `padded` voxels become.
    pub resampled: usize,
    /// Pixel `i` is sample `i + offset`; where there is none it is padding.
    pub offset: isize,
    /// Pixels.
    pub size: usize,
    /// `true`: what a pixel stands for is averaged where the axis shrinks. `false`: it is read at the pixel's centre.
    pub antialiased: bool,
    /// Says where the pixels lie instead of region, padding, resampling and offset; the region is then the whole axis.
    pub window: Option<Window>,
}

impl AxisPlan {
    /// Pixels of this axis from all voxels of the canonical one.
    pub fn taps(&self) -> Vec<Tap> {
        if let Some(window) = self.window {
            return (0..self.size).map(|i| self.tap_of(window, i)).collect();
        }
        let resampled = resampling(self.padded, self.resampled, self.antialiased);
        (0..self.size as isize)
            .map(|i| {
                let sample = usize::try_from(i + self.offset).ok().and_then(|i| resampled.get(i));
                let Some((first, weights)) = sample else {
                    return Tap { start: 0, weights: Vec::new(), outside: 1.0 };
                };
                // Of [first, first + n) keep what lies on voxels.
                let from = (*first).max(self.pad_before);
                let to = (first + weights.len()).min(self.pad_before + self.length).max(from);
                let mut inside: Vec<f32> =
                    weights.iter().skip(from - first).take(to - from).map(|&w| w as f32).collect();
                let outside = 1.0 - weights.iter().skip(from - first).take(to - from).sum::<f64>();
                let outside = if inside.len() == weights.len() { 0.0 } else { outside as f32 };
                if inside.is_empty() {
                    return Tap { start: 0, weights: inside, outside };
                }
                let start = if self.reversed {
                    inside.reverse();
                    self.low + self.length - (to - self.pad_before)
                } else {
                    self.low + from - self.pad_before
                };
                Tap { start, weights: inside, outside }
            })
            .collect()
    }

    /// The same pixels `mm` farther along the canonical axis. Beyond the scan's edges its outermost voxels are repeated,
    /// unless the plan itself has padding there.
    pub fn shifted(&self, mm: f64) -> Self {
        let (step, middle) = (self.step(), self.to_canonical(0.0) + 0.5 + mm / self.spacing_mm);
        let middle = if self.reversed { self.voxels as f64 - middle } else { middle };
        let repeats = self.window.is_none_or(|w| w.repeats);
        let window = Some(Window { start: middle - step / 2.0, step, repeats });
        Self {
            low: 0,
            length: self.voxels,
            pad_before: 0,
            padded: self.voxels,
            offset: 0,
            window,
            ..self.clone()
        }
    }

    /// Pixel `i` of a window by the operator of [`resampling`], on an axis that goes on with padding at both ends.
    fn tap_of(&self, window: Window, i: usize) -> Tap {
        let support = if self.antialiased { window.step.max(1.0) } else { 1.0 };
        let mut centre = window.start + window.step * (i as f64 + 0.5);
        if window.repeats {
            centre = centre.clamp(0.5, self.voxels as f64 - 0.5);
        }
        let weight = |j: f64| (1.0 - ((j + 0.5 - centre) / support).abs()).max(0.0);
        let (first, last) = ((centre - support - 0.5).floor(), (centre + support + 0.5).ceil());
        let from = first.clamp(0.0, self.voxels as f64) as usize;
        let to = (last + 1.0).clamp(0.0, self.voxels as f64) as usize;
        let total: f64 = match window.repeats {
            true => (from..to.max(from)).map(|j| weight(j as f64)).sum(),
            false => (0..=(last - first) as usize).map(|k| weight(first + k as f64)).sum(),
        };
        let all: Vec<f64> = (from..to.max(from)).map(|j| weight(j as f64) / total).collect();
        // Voxels without weight are not read.
        let (Some(begin), Some(end)) =
            (all.iter().position(|w| *w > 0.0), all.iter().rposition(|w| *w > 0.0))
        else {
            return Tap { start: 0, weights: Vec::new(), outside: 1.0 };
        };
        let outside = 1.0 - all.iter().sum::<f64>();
        let mut weights: Vec<f32> = all[begin..=end].iter().map(|w| *w as f32).collect();
        let mut start = from + begin;
        if self.reversed {
            weights.reverse();
            start = self.voxels - (from + end + 1);
        }
        Tap { start, weights, outside: if outside > 1e-12 { outside as f32 } else { 0.0 } }
    }

    /// Most bytes that [`Self::taps`] takes: weights in f64 of all samples, and in f32 of those that are pixels.
    pub fn taps_bytes(&self) -> usize {
        if let Some(window) = self.window {
            let reach = (2.0 * window.step.max(1.0) + 3.0).min(self.voxels as f64) as usize;
            return self.size.saturating_mul(reach.saturating_mul(size_of::<f64>() + size_of::<f32>()) + 64);
        }
        // Each sample reaches over two steps of the coarser grid, and a little.
        let weights = self.padded.max(self.resampled).saturating_add(self.resampled).saturating_mul(2);
        let samples = self.resampled.saturating_add(self.size);
        weights.saturating_mul(size_of::<f64>() + size_of::<f32>()).saturating_add(samples.saturating_mul(64))
    }

    /// Voxels per pixel.
    pub fn step(&self) -> f64 {
        if let Some(window) = self.window {
            return window.step;
        }
        self.padded as f64 / self.resampled as f64
    }

    /// Canonical index (with fraction) of a pixel coordinate; 0 is the centre of the first pixel.
    pub fn to_canonical(&self, pixel: f64) -> f64 {
        let along = match self.window {
            Some(window) => window.start + (pixel + 0.5) * window.step - 0.5,
            None => (pixel + self.offset as f64 + 0.5) * self.step() - 0.5 - self.pad_before as f64,
        };
        if self.reversed { (self.low + self.length) as f64 - 1.0 - along } else { self.low as f64 + along }
    }

    /// The inverse of [`Self::to_canonical`].
    pub fn to_pixel(&self, canonical: f64) -> f64 {
        let along = if self.reversed {
            (self.low + self.length) as f64 - 1.0 - canonical
        } else {
            canonical - self.low as f64
        };
        match self.window {
            Some(window) => (along + 0.5 - window.start) / window.step - 0.5,
            None => (along + self.pad_before as f64 + 0.5) / self.step() - 0.5 - self.offset as f64,
        }
    }

    /// Every voxel of the canonical axis from `count` values that span the pixels edge to edge.
    ///
    /// Linear between the values' centres, constant in the outer half of the first and last, nothing outside.
    pub fn taps_back(&self, count: usize) -> Vec<Tap> {
        (0..self.voxels)
            .map(|voxel| {
                let inside = voxel >= self.low && voxel < self.low + self.length;
                let pixel = self.to_pixel(voxel as f64);
                if !inside || pixel < -0.5 || pixel > self.size as f64 - 0.5 {
                    return Tap { start: 0, weights: Vec::new(), outside: 0.0 };
                }
                let at = (pixel + 0.5) * count as f64 / self.size as f64 - 0.5;
                let at = at.clamp(0.0, (count - 1) as f64);
                let below = at.floor();
                let fraction = (at - below) as f32;
                let weights = if fraction > 0.0 { vec![1.0 - fraction, fraction] } else { vec![1.0] };
                Tap { start: below as usize, weights, outside: 0.0 }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(reversed: bool) -> AxisPlan {
        AxisPlan {
            antialiased: true,
            canonical: 0,
            reversed,
            voxels: 20,
            spacing_mm: 1.0,
            low: 3,
            length: 10,
            pad_before: 2,
            padded: 15,
            resampled: 6,
            offset: -1,
            size: 8,
            window: None,
        }
    }

    fn windowed(reversed: bool, start: f64, step: f64) -> AxisPlan {
        let window = Some(Window { start, step, repeats: false });
        AxisPlan { low: 0, length: 20, pad_before: 0, padded: 20, offset: 0, window, ..plan(reversed) }
    }

    #[test]
    fn pixels_and_voxels_are_each_others_inverse() {
        for p in [plan(false), plan(true), windowed(false, -1.3, 1.7), windowed(true, 4.2, 0.3)] {
            for pixel in [-1.5, 0.0, 2.25, 7.0] {
                assert!((p.to_pixel(p.to_canonical(pixel)) - pixel).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn weights_and_padding_sum_to_one_and_stay_in_the_region() {
        for p in [plan(false), plan(true)] {
            for tap in p.taps() {
                assert!((tap.weights.iter().sum::<f32>() + tap.outside - 1.0).abs() < 1e-6, "{tap:?}");
                assert!(
                    tap.weights.is_empty() || (tap.start >= 3 && tap.start + tap.weights.len() <= 13),
                    "{tap:?}"
                );
            }
            assert_eq!(p.taps()[0].outside, 1.0);
        }
    }

    #[test]
    fn the_centre_of_a_pixels_weights_is_where_the_pixel_is() {
        for p in [plan(false), plan(true)] {
            let (tap, at) = (&p.taps()[3], p.to_canonical(3.0));
            let centre: f32 = tap.weights.iter().enumerate().map(|(k, w)| w * (tap.start + k) as f32).sum();
            // A sampled triangle's centre is off by a little.
            assert!((f64::from(centre) - at).abs() < 0.02, "{centre} is not {at}");
        }
    }

    #[test]
    fn a_plane_that_averages_nothing_reads_the_two_voxels_beside_it_as_region_and_as_window() {
        for reversed in [false, true] {
            for (start, step) in [(2.7, 1.0), (1.0, 5.5), (2.2, 2.25)] {
                let p = AxisPlan { antialiased: false, ..windowed(reversed, start, step) };
                let whole = AxisPlan { low: 0, length: 20, pad_before: 0, padded: 20, ..plan(reversed) };
                let whole = AxisPlan { antialiased: false, resampled: 3, offset: 0, size: 3, ..whole };
                for p in [p, whole.clone(), whole.shifted(1.75)] {
                    for (i, tap) in p.taps().iter().enumerate().take(3) {
                        let at = p.to_canonical(i as f64);
                        let mut dense = vec![0.0; 20];
                        dense[at.floor() as usize] = 1.0 - at.fract();
                        dense[at.ceil() as usize] += at.fract();
                        for (voxel, expected) in dense.into_iter().enumerate() {
                            let found = voxel.checked_sub(tap.start).and_then(|k| tap.weights.get(k));
                            let found = f64::from(found.copied().unwrap_or(0.0));
                            assert!((found - expected).abs() < 1e-6, "{at}: voxel {voxel} has {found}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_window_on_whole_voxels_is_the_region_of_those_voxels() {
        for reversed in [false, true] {
            // Voxels 4 to 16 in six pixels, as region and as window.
            let region = AxisPlan {
                low: 4,
                length: 12,
                pad_before: 0,
                padded: 12,
                resampled: 12,
                offset: 0,
                size: 12,
                ..plan(reversed)
            };
            let window = AxisPlan { size: 12, ..windowed(reversed, 4.0, 1.0) };
            // The operator keeps a neighbour of weight 0; the window does not.
            let weighty = |plan: &AxisPlan| -> Vec<(usize, Vec<f32>)> {
                let of = |tap: Tap| (tap.start, tap.weights.into_iter().filter(|w| *w != 0.0).collect());
                plan.taps().into_iter().map(of).collect()
            };
            let starts =
                |plan: &AxisPlan| (0..12).map(|i| plan.to_canonical(f64::from(i))).collect::<Vec<_>>();
            assert_eq!(starts(&region), starts(&window));
            if !reversed {
                assert_eq!(weighty(&region), weighty(&window));
            }
            assert_eq!(region.to_canonical(2.5), window.to_canonical(2.5));
        }
    }

    #[test]
    fn a_windows_weights_sum_to_one_with_its_padding_and_are_centred_on_its_pixels() {
        for reversed in [false, true] {
            for (start, step) in [(-6.3, 1.0), (2.7, 0.4), (-3.0, 5.5), (17.2, 2.25), (40.0, 1.0)] {
                let p = windowed(reversed, start, step);
                for (i, tap) in p.taps().iter().enumerate() {
                    let inside: f32 = tap.weights.iter().sum();
                    assert!((inside + tap.outside - 1.0).abs() < 1e-6 && tap.start + tap.weights.len() <= 20);
                    if tap.outside == 0.0 {
                        let at: f32 =
                            tap.weights.iter().enumerate().map(|(k, w)| w * (tap.start + k) as f32).sum();
                        assert!((f64::from(at) - p.to_canonical(i as f64)).abs() < 0.02 * step.max(1.0));
                    }
                }
            }
        }
    }
}
