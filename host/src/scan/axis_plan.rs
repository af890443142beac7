//! One axis of a slice stack: from the scan's voxels through region, padding, resampling and cropping to pixels.
//!
//! Written once and read in both directions, so that the way back cannot drift from the way there.

use crate::scan::resample::{Tap, antialiased};

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
}

impl AxisPlan {
    /// Pixels of this axis from all voxels of the canonical one.
    pub fn taps(&self) -> Vec<Tap> {
        let resampled = antialiased(self.padded, self.resampled);
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

    /// Most bytes that [`Self::taps`] takes: weights in f64 of all samples, and in f32 of those that are pixels.
    pub fn taps_bytes(&self) -> usize {
        // Each sample reaches over two steps of the coarser grid, and a little.
        let weights = self.padded.max(self.resampled).saturating_add(self.resampled).saturating_mul(2);
        let samples = self.resampled.saturating_add(self.size);
        weights.saturating_mul(size_of::<f64>() + size_of::<f32>()).saturating_add(samples.saturating_mul(64))
    }

    /// Voxels per pixel.
    pub fn step(&self) -> f64 {
        self.padded as f64 / self.resampled as f64
    }

    /// Canonical index (with fraction) of a pixel coordinate; 0 is the centre of the first pixel.
    pub fn to_canonical(&self, pixel: f64) -> f64 {
        let along = (pixel + self.offset as f64 + 0.5) * self.step() - 0.5 - self.pad_before as f64;
        if self.reversed { (self.low + self.length) as f64 - 1.0 - along } else { self.low as f64 + along }
    }

    /// The inverse of [`Self::to_canonical`].
    pub fn to_pixel(&self, canonical: f64) -> f64 {
        let along = if self.reversed {
            (self.low + self.length) as f64 - 1.0 - canonical
        } else {
            canonical - self.low as f64
        };
        (along + self.pad_before as f64 + 0.5) / self.step() - 0.5 - self.offset as f64
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
        }
    }

    #[test]
    fn pixels_and_voxels_are_each_others_inverse() {
        for p in [plan(false), plan(true)] {
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
}
