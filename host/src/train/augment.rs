//! Augmentation in three dimensions, as the paper's appendix lists it.
//!
//! What is drawn is anatomical (right, anterior, superior), so that all views of a case are changed alike, and depends
//! on seed, case and draw only. Draw 0 is the case as it is.

use crate::scan::SliceGrid;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How much is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recipe {
    /// Nothing.
    None,
    /// Mirror images, each axis with probability one half.
    Flips,
    /// Everything the paper's appendix lists.
    #[default]
    Full,
}

/// What is done to one case.
#[derive(Debug, Clone, PartialEq)]
pub struct Augmentation {
    /// Mirrored along right, anterior, superior.
    pub flip: [bool; 3],
    /// Degrees about the right, anterior and superior axis, in this order.
    pub rotation: [f64; 3],
    /// Magnification.
    pub zoom: f64,
    /// Along right, anterior, superior, in pixels of the slices.
    pub shift: [f64; 3],
    /// Standard deviation of additive noise (intensities run from 0 to 1) and its seed.
    pub noise: Option<(f64, u64)>,
    /// Standard deviation of a Gaussian blur, in slices, rows and columns.
    pub blur: Option<f64>,
    /// Factor of all intensities.
    pub brightness: f64,
    /// Factor of the intensities' distance from their mean.
    pub contrast: f64,
    /// Resolution as a share of the full one.
    pub resolution: f64,
    /// Exponent.
    pub gamma: f64,
}

impl Default for Augmentation {
    fn default() -> Self {
        Self {
            flip: [false; 3],
            rotation: [0.0; 3],
            zoom: 1.0,
            shift: [0.0; 3],
            noise: None,
            blur: None,
            brightness: 1.0,
            contrast: 1.0,
            resolution: 1.0,
            gamma: 1.0,
        }
    }
}

impl Augmentation {
    /// Draw `draw` of a case. A task whose labels name a side is never mirrored left to right.
    pub fn draw(recipe: Recipe, seed: u64, case: &str, draw: usize, sided_labels: bool) -> Self {
        let mut drawn = Self::default();
        if draw == 0 || recipe == Recipe::None {
            return drawn;
        }
        let hash = Sha256::new()
            .chain_update(b"augmentation 1")
            .chain_update(seed.to_le_bytes())
            .chain_update((draw as u64).to_le_bytes())
            .chain_update(case.as_bytes())
            .finalize();
        let rng = &mut ChaCha20Rng::from_seed(hash.into());
        drawn.flip = std::array::from_fn(|axis| rng.random::<bool>() && !(axis == 0 && sided_labels));
        if recipe == Recipe::Flips {
            return drawn;
        }
        let mut within = |low: f64, high: f64| low + (high - low) * rng.random::<f64>();
        // Every number is drawn whether it is used or not: one probability changes none of the others.
        let rotation = std::array::from_fn(|_| within(-30.0, 30.0));
        let (zoom, shift) = (within(0.7, 1.4), std::array::from_fn(|_| within(-10.0, 10.0)));
        let (blur, brightness, contrast) = (within(0.5, 1.0), within(0.75, 1.25), within(0.75, 1.25));
        let (resolution, gamma) = (within(0.5, 1.0), within(0.7, 1.5));
        let mut happens = |probability: f64| within(0.0, 1.0) < probability;
        let chosen: [bool; 9] = [0.2, 0.2, 0.2, 0.25, 0.2, 0.15, 0.15, 0.2, 0.25].map(&mut happens);
        let noise_seed = rng.next_u64();
        let [rotated, zoomed, shifted, noisy, blurred, brighter, contrasted, coarser, bent] = chosen;
        let or = |on: bool, value: f64| if on { value } else { 1.0 };
        Self {
            rotation: if rotated { rotation } else { [0.0; 3] },
            zoom: or(zoomed, zoom),
            shift: if shifted { shift } else { [0.0; 3] },
            noise: noisy.then_some((0.02, noise_seed)),
            blur: blurred.then_some(blur),
            brightness: or(brighter, brightness),
            contrast: or(contrasted, contrast),
            resolution: or(coarser, resolution),
            gamma: or(bent, gamma),
            ..drawn
        }
    }

    /// Changes pixels `[S, C, H, W]` (0 to 1) and a mask `[S, H, W]` of the same slices. What comes in from outside is 0.
    pub fn apply(&self, pixels: &mut [f32], channels: usize, mask: Option<&mut Vec<f32>>, grid: &SliceGrid) {
        let [h, w] = grid.image_size();
        let stack = Stack { size: [grid.slices(), h, w], grid };
        let planes = |pixels: &[f32], c: usize| -> Vec<f32> {
            pixels.chunks_exact(h * w).skip(c).step_by(channels).flatten().copied().collect()
        };
        for c in 0..channels {
            let volume = self.move_intensities(stack.moved(self, planes(pixels, c)), stack.size, c as u64);
            let places = pixels.chunks_exact_mut(h * w).skip(c).step_by(channels);
            places.zip(volume.chunks_exact(h * w)).for_each(|(to, from)| to.copy_from_slice(from));
        }
        if let Some(mask) = mask {
            *mask = stack.moved(self, std::mem::take(mask));
        }
    }

    fn move_intensities(&self, mut v: Vec<f32>, size: [usize; 3], channel: u64) -> Vec<f32> {
        if let Some((sigma, seed)) = self.noise {
            add_noise(&mut v, sigma as f32, seed.wrapping_add(channel));
        }
        if let Some(sigma) = self.blur {
            for axis in 0..3 {
                v = along(&v, size, axis, &gaussian(size[axis], sigma));
            }
        }
        if self.brightness != 1.0 {
            v.iter_mut().for_each(|v| *v *= self.brightness as f32);
        }
        if self.contrast != 1.0 {
            let mean = (v.iter().map(|&v| f64::from(v)).sum::<f64>() / v.len().max(1) as f64) as f32;
            v.iter_mut().for_each(|v| *v = (*v - mean) * self.contrast as f32 + mean);
        }
        if self.resolution != 1.0 {
            for axis in 0..3 {
                v = along(&v, size, axis, &coarse(size[axis], self.resolution));
            }
        }
        let gamma = (self.gamma != 1.0).then_some(self.gamma as f32);
        for v in &mut v {
            *v = v.clamp(0.0, 1.0);
            if let Some(gamma) = gamma {
                *v = v.powf(gamma);
            }
        }
        v
    }
}

/// A stack of slices and how it lies in the body.
struct Stack<'a> {
    size: [usize; 3],
    grid: &'a SliceGrid,
}

impl Stack<'_> {
    /// Mirrored, then turned, magnified and shifted about the stack's centre; trilinear, outside 0.
    fn moved(&self, a: &Augmentation, mut values: Vec<f32>) -> Vec<f32> {
        let directions = self.grid.directions();
        for (axis, (canonical, _)) in directions.iter().enumerate() {
            if a.flip[*canonical] {
                values = along(&values, self.size, axis, &mirrored(self.size[axis]));
            }
        }
        if a.rotation == [0.0; 3] && a.zoom == 1.0 && a.shift == [0.0; 3] {
            return values;
        }
        let [px, py] = self.grid.pixel_size_mm();
        let mm = [self.grid.slice_distance_mm(), px, py];
        let turn = rotation(a.rotation);
        let [s, h, w] = self.size;
        let centre = self.size.map(|n| (n as f64 - 1.0) / 2.0);
        let sign = directions.map(|(_, reversed)| if reversed { -1.0 } else { 1.0 });
        let mut out = vec![0f32; values.len()];
        out.par_chunks_mut(w).enumerate().for_each(|(line, out)| {
            for (j, out) in out.iter_mut().enumerate() {
                let index = [line / h, line % h, j];
                let mut at = [0.0; 3]; // mm from the centre: right, anterior, superior
                for k in 0..3 {
                    let canonical = directions[k].0;
                    let shift = a.shift[canonical] * py;
                    at[canonical] = sign[k] * (index[k] as f64 - centre[k]) * mm[k] - shift;
                }
                // The inverse of a rotation is its transpose.
                let from: [f64; 3] =
                    std::array::from_fn(|i| (0..3).map(|k| turn[k][i] * at[k]).sum::<f64>() / a.zoom);
                let source = std::array::from_fn(|k| sign[k] * from[directions[k].0] / mm[k] + centre[k]);
                *out = trilinear(&values, [s, h, w], source);
            }
        });
        out
    }
}

/// Turns by degrees about the first, then the second, then the third axis.
fn rotation(degrees: [f64; 3]) -> [[f64; 3]; 3] {
    let mut whole = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    for (axis, degrees) in degrees.into_iter().enumerate() {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let (i, j) = ((axis + 1) % 3, (axis + 2) % 3);
        let mut one = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        (one[i][i], one[i][j], one[j][i], one[j][j]) = (cos, -sin, sin, cos);
        whole =
            std::array::from_fn(|r| std::array::from_fn(|c| (0..3).map(|k| one[r][k] * whole[k][c]).sum()));
    }
    whole
}

fn trilinear(values: &[f32], [s, h, w]: [usize; 3], at: [f64; 3]) -> f32 {
    let floor = at.map(f64::floor);
    let share: [f64; 3] = std::array::from_fn(|k| at[k] - floor[k]);
    let mut sum = 0.0;
    for corner in 0..8usize {
        let step = [corner >> 2 & 1, corner >> 1 & 1, corner & 1];
        let index: [f64; 3] = std::array::from_fn(|k| floor[k] + step[k] as f64);
        let inside = index.iter().zip([s, h, w]).all(|(&i, n)| i >= 0.0 && i < n as f64);
        if inside {
            let weight: f64 = (0..3).map(|k| if step[k] == 1 { share[k] } else { 1.0 - share[k] }).product();
            let [i, j, k] = index.map(|i| i as usize);
            sum += weight * f64::from(values[(i * h + j) * w + k]);
        }
    }
    sum as f32
}

/// What one place along an axis is made of: index and weight.
type Taps = Vec<Vec<(usize, f32)>>;

fn mirrored(n: usize) -> Taps {
    (0..n).rev().map(|i| vec![(i, 1.0)]).collect()
}

/// A Gaussian cut off at four standard deviations; the ends are repeated.
fn gaussian(n: usize, sigma: f64) -> Taps {
    let radius = (4.0 * sigma).ceil() as isize;
    let weights: Vec<f64> = (-radius..=radius).map(|x| (-0.5 * (x as f64 / sigma).powi(2)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let place = |i: isize| i.clamp(0, n as isize - 1) as usize;
    (0..n as isize)
        .map(|i| (-radius..=radius).zip(&weights).map(|(x, w)| (place(i + x), (w / sum) as f32)).collect())
        .collect()
}

/// The nearest of `share · n` samples, linear between them.
fn coarse(n: usize, share: f64) -> Taps {
    let few = ((n as f64 * share).round() as usize).clamp(1, n);
    let step = n as f64 / few as f64;
    let sample = |j: usize| (((j as f64 + 0.5) * step) as usize).min(n - 1);
    (0..n)
        .map(|i| {
            let at = ((i as f64 + 0.5) / step - 0.5).clamp(0.0, few as f64 - 1.0);
            let (low, share) = (at.floor() as usize, at.fract() as f32);
            vec![(sample(low), 1.0 - share), (sample((low + 1).min(few - 1)), share)]
        })
        .collect()
}

/// Applies taps along one axis of `[S, H, W]`.
fn along(values: &[f32], [s, h, w]: [usize; 3], axis: usize, taps: &Taps) -> Vec<f32> {
    let mut out = vec![0f32; values.len()];
    let stride = [h * w, w, 1][axis];
    out.par_chunks_mut(w).enumerate().for_each(|(line, out)| {
        let (i, j) = (line / h, line % h);
        debug_assert!(i < s);
        for (k, out) in out.iter_mut().enumerate() {
            let index = [i, j, k];
            let base = (i * h + j) * w + k - index[axis] * stride;
            *out = taps[index[axis]].iter().map(|(from, weight)| weight * values[base + from * stride]).sum();
        }
    });
    out
}

/// Normal noise by Box and Muller's formula, the same on every machine up to the last bits of `ln` and `cos`.
fn add_noise(values: &mut [f32], sigma: f32, seed: u64) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    for pair in values.chunks_mut(2) {
        let (u, v) = (1.0 - rng.random::<f32>(), rng.random::<f32>());
        let (r, angle) = (sigma * (-2.0 * u.ln()).sqrt(), std::f32::consts::TAU * v);
        let both = [r * angle.cos(), r * angle.sin()];
        pair.iter_mut().zip(both).for_each(|(value, noise)| *value += noise);
    }
}

#[cfg(test)]
mod tests;
