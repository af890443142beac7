//! Rotary positions of patches on a grid (RoPE, Su et al. 2021, over two axes as DINOv3 has them).

use super::cpu::kernels::rotate::Turns;
use candle_core::{D, DType, Device, Result, Tensor};
use std::collections::HashMap;
use std::f32::consts::TAU;
use std::sync::Mutex;

/// Rotations for every grid that was asked for.
pub(crate) struct AxialRotation {
    /// Width of a head, a multiple of 4.
    head: usize,
    theta: f64,
    device: Device,
    cache: Mutex<HashMap<(usize, usize), Rotation>>,
}

/// Grids that are kept. A process that meets ever new grids must not grow without bound.
const CACHED_GRIDS: usize = 16;

/// Cosines and sines of one grid, [h·w, head] each, f32.
#[derive(Clone)]
pub(crate) struct Rotation {
    cos: Tensor,
    sin: Tensor,
}

impl AxialRotation {
    pub fn new(head: usize, theta: f64) -> Self {
        Self { head, theta, device: Device::Cpu, cache: Mutex::default() }
    }

    /// The same on a device.
    pub fn to_device(&self, device: &Device) -> Self {
        Self { device: device.clone(), cache: Mutex::default(), ..*self }
    }

    /// The rotation of a grid of (h, w) patches.
    pub fn at(&self, grid: (usize, usize)) -> Result<Rotation> {
        // A panic elsewhere cannot leave the map half written: its values are complete.
        let mut cache = self.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(found) = cache.get(&grid) {
            return Ok(found.clone());
        }
        let angles = angles(self.head, self.theta, grid);
        let of = |f: fn(f32) -> f32| {
            let numbers: Vec<f32> = angles.iter().map(|a| f(*a)).collect();
            Tensor::from_vec(numbers, (grid.0 * grid.1, self.head), &self.device)
        };
        let rotation = Rotation { cos: of(f32::cos)?, sin: of(f32::sin)? };
        if cache.len() >= CACHED_GRIDS {
            cache.clear();
        }
        cache.insert(grid, rotation.clone());
        Ok(rotation)
    }
}

/// Angles [h·w, head] in radians: twice [y·f…, x·f…], where f_i = theta^(-4i / head) for i < head / 4, times 2π. The centre of
/// a patch is its coordinate, each axis from -1 to 1 by its own number of patches. In f32, as transformers computes them.
fn angles(head: usize, theta: f64, (h, w): (usize, usize)) -> Vec<f32> {
    let quarter = head / 4;
    let frequency = |i: usize| 1.0 / (theta as f32).powf((i * 4) as f32 / head as f32);
    let centre = |i: usize, n: usize| 2.0 * ((i as f32 + 0.5) / n as f32) - 1.0;
    let mut angles = Vec::with_capacity(h * w * head);
    for row in 0..h {
        for column in 0..w {
            let at = [centre(row, h), centre(column, w)];
            for _half in 0..2 {
                angles.extend(at.iter().flat_map(|c| (0..quarter).map(move |i| TAU * c * frequency(i))));
            }
        }
    }
    angles
}

impl Rotation {
    /// As the processor's kernels read it: half of a head's width, for both halves turn by the same angles.
    pub fn turns(&self, leading: usize) -> Result<Turns> {
        let head = self.cos.dim(1)?;
        let half = |t: &Tensor| t.narrow(1, 0, head / 2)?.flatten_all()?.to_vec1::<f32>();
        Ok(Turns { leading, head, cos: half(&self.cos)?, sin: half(&self.sin)? })
    }

    /// Rotates the patches of `x` [S, heads, T, head]; the first `leading` tokens (class, registers) stay as they are.
    pub fn apply(&self, x: &Tensor, leading: usize) -> Result<Tensor> {
        let (n, half) = (self.cos.dim(0)?, x.dim(D::Minus1)? / 2);
        let patches = x.narrow(2, leading, n)?;
        let (first, second) = (patches.narrow(3, 0, half)?, patches.narrow(3, half, half)?);
        let swapped = Tensor::cat(&[&second.neg()?, &first], 3)?; // (a, b) → (-b, a)
        let as_x = |t: &Tensor| if x.dtype() == DType::F32 { Ok(t.clone()) } else { t.to_dtype(x.dtype()) };
        let rotated =
            (patches.broadcast_mul(&as_x(&self.cos)?)? + swapped.broadcast_mul(&as_x(&self.sin)?)?)?;
        match leading {
            0 => Ok(rotated),
            _ => Tensor::cat(&[&x.narrow(2, 0, leading)?, &rotated], 2)?.contiguous(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_keeps_lengths_and_leaves_leading_tokens_alone() -> Result<()> {
        let (grid, head, leading) = ((2, 4), 8, 3);
        let x: Vec<f32> = (0..2 * (leading + 8) * head).map(|i| (i as f32 * 0.37).sin()).collect();
        let x = Tensor::from_vec(x, (1, 2, leading + 8, head), &Device::Cpu)?;
        let y = AxialRotation::new(head, 100.0).at(grid)?.apply(&x, leading)?;
        let numbers = |t: Tensor| t.flatten_all()?.to_vec1::<f32>();
        assert_eq!(numbers(x.narrow(2, 0, leading)?)?, numbers(y.narrow(2, 0, leading)?)?);
        let lengths = |t: &Tensor| numbers(t.sqr()?.sum(D::Minus1)?);
        for (a, b) in lengths(&x)?.into_iter().zip(lengths(&y)?) {
            assert!((a - b).abs() < 1e-4, "{a} became {b}");
        }
        Ok(())
    }

    #[test]
    fn each_axis_is_measured_by_its_own_number_of_patches() {
        // Frequencies 1 and 1/10 of a head of 8 at theta 100.
        let a = angles(8, 100.0, (2, 4));
        let expected = [-0.5, -0.05, -0.75, -0.075].map(|c| TAU * c);
        for half in [&a[..4], &a[4..8]] {
            assert!(half.iter().zip(expected).all(|(a, e)| (a - e).abs() < 1e-6), "{half:?}");
        }
    }
}
