//! Learned position embeddings, and their interpolation to grids other than the trained one.
//!
//! Interpolation is `torch.nn.functional.interpolate(align_corners=False)`, by the mode that the family was trained with. All
//! modes are separable, so each axis is a small matrix of weights applied in f32.

use super::error::BackboneError;
use super::weights::Weights;
use candle_core::{Device, Result, Tensor};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Mutex;

/// How positions of another grid are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Interpolation {
    /// Keys' kernel with a = -0.75: transformers' DINOv2, SigLIP, CLIP and ViT.
    Bicubic,
    /// Keys' kernel with a = -0.5, widened where the grid shrinks: timm, and transformers' DINOv2 with registers.
    BicubicAntialiased,
    /// A triangle, widened where the grid shrinks: SigLIP 2 of any aspect ratio.
    BilinearAntialiased,
}

/// Learned position embeddings of a square grid, and of every other grid that was asked for.
pub(crate) struct PositionTable {
    /// The class token's, [d]; empty where it has none.
    class: Vec<f32>,
    d: usize,
    table: Vec<f32>, // [side · side, d]
    side: usize,
    mode: Interpolation,
    device: Device,
    cache: Mutex<HashMap<(usize, usize), Tensor>>,
}

/// Grids that are kept. A process that meets ever new grids must not grow without bound.
const CACHED_GRIDS: usize = 16;

impl PositionTable {
    /// Takes `name` [1, rows, d] or [rows, d], where rows are side², and one more before them for a class token.
    ///
    /// # Errors
    /// When the rows are not those of a square grid.
    pub fn load(
        weights: &mut Weights,
        name: &str,
        d: usize,
        of_class: bool,
        mode: Interpolation,
    ) -> std::result::Result<Self, BackboneError> {
        let (before, flat) = (usize::from(of_class), weights.shape(name).is_some_and(|s| s.len() == 2));
        let rows = weights.shape(name).and_then(|s| s.iter().rev().nth(1)).copied().unwrap_or(1 + before);
        let shape = if flat { vec![rows, d] } else { vec![1, rows, d] };
        let table: Vec<f32> = weights.take(name, &shape)?.flatten_all()?.to_vec1()?;
        let side = rows.saturating_sub(before).isqrt();
        if side == 0 || side * side + before != rows {
            let more = if of_class { "one more than a square" } else { "a square" };
            return Err(weights.error(format!("{name} has {rows} rows, expected {more}")));
        }
        let (class, table) = table.split_at(before * d);
        let (class, table) = (class.to_vec(), table.to_vec());
        Ok(Self { class, d, table, side, mode, device: Device::Cpu, cache: Mutex::default() })
    }

    /// Whether the first of its positions is the class token's.
    pub fn of_class(&self) -> bool {
        !self.class.is_empty()
    }

    /// The same table, whose positions lie on a device.
    pub fn to_device(&self, device: &Device) -> Self {
        Self {
            class: self.class.clone(),
            table: self.table.clone(),
            device: device.clone(),
            cache: Mutex::default(),
            ..*self
        }
    }

    /// [1, h·w, d] of the patches, after the class token's where it has one.
    pub fn at(&self, grid: (usize, usize)) -> Result<Tensor> {
        // A panic elsewhere cannot leave the map half written: its values are complete tensors.
        let mut cache = self.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(found) = cache.get(&grid) {
            return Ok(found.clone());
        }
        let mut rows = self.class.clone();
        rows.extend(interpolate(&self.table, self.side, self.d, grid, self.mode));
        let tensor = Tensor::from_vec(
            rows,
            (1, usize::from(self.of_class()) + grid.0 * grid.1, self.d),
            &self.device,
        )?;
        if cache.len() >= CACHED_GRIDS {
            cache.clear();
        }
        cache.insert(grid, tensor.clone());
        Ok(tensor)
    }
}

/// Keys' cubic kernel. PyTorch uses a = -0.75 for plain bicubic and a = -0.5 with antialiasing.
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

/// For each of `to` output positions, the input positions it reads and their weights.
fn axis(from: usize, to: usize, mode: Interpolation) -> Vec<Vec<(usize, f32)>> {
    let scale = from as f64 / to as f64;
    (0..to)
        .map(|i| {
            if mode != Interpolation::Bicubic {
                let (stretch, bilinear) = (scale.max(1.0), mode == Interpolation::BilinearAntialiased);
                let reach = if bilinear { 1.0 } else { 2.0 };
                let (center, support) = (scale * (i as f64 + 0.5), reach * stretch);
                let first = (center - support + 0.5).max(0.0) as usize;
                let last = ((center + support + 0.5) as usize).min(from);
                let weight = |j: usize| match (j as f64 - center + 0.5) / stretch {
                    x if bilinear => (1.0 - x.abs()).max(0.0),
                    x => cubic(x, -0.5),
                };
                let total: f64 = (first..last).map(weight).sum();
                (first..last).map(|j| (j, (weight(j) / total) as f32)).collect()
            } else {
                let center = scale * (i as f64 + 0.5) - 0.5;
                let base = center.floor();
                (-1..=2)
                    .map(|k| {
                        let at = base + f64::from(k);
                        // Beyond the edge the edge's own value is read, as PyTorch does.
                        (at.clamp(0.0, (from - 1) as f64) as usize, cubic(center - at, -0.75) as f32)
                    })
                    .collect()
            }
        })
        .collect()
}

/// `table` [side * side, dim] → [grid.0 * grid.1, dim], both row-major over the grid.
fn interpolate(
    table: &[f32],
    side: usize,
    dim: usize,
    grid: (usize, usize),
    mode: Interpolation,
) -> Vec<f32> {
    if grid == (side, side) {
        return table.to_vec();
    }
    let (h, w) = grid;
    let mut wide = vec![0f32; side * w * dim]; // columns first: [side, w, dim]
    for (x, taps) in axis(side, w, mode).iter().enumerate() {
        for y in 0..side {
            for &(from, weight) in taps {
                let (src, dst) = ((y * side + from) * dim, (y * w + x) * dim);
                add_scaled(&mut wide[dst..dst + dim], &table[src..src + dim], weight);
            }
        }
    }
    let mut out = vec![0f32; h * w * dim];
    for (y, taps) in axis(side, h, mode).iter().enumerate() {
        for &(from, weight) in taps {
            let row = w * dim;
            add_scaled(&mut out[y * row..(y + 1) * row], &wide[from * row..(from + 1) * row], weight);
        }
    }
    out
}

fn add_scaled(to: &mut [f32], from: &[f32], weight: f32) {
    to.iter_mut().zip(from).for_each(|(t, f)| *t += weight * f);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trained_grid_is_returned_untouched_and_constants_stay_constant() {
        let table: Vec<f32> = (0..25 * 3).map(|i| i as f32).collect();
        assert_eq!(interpolate(&table, 5, 3, (5, 5), Interpolation::BicubicAntialiased), table);
        use Interpolation::{Bicubic, BicubicAntialiased, BilinearAntialiased};
        for mode in [Bicubic, BicubicAntialiased, BilinearAntialiased] {
            let out = interpolate(&[2.5; 25], 5, 1, (3, 9), mode);
            assert!(out.iter().all(|v| (v - 2.5).abs() < 1e-5), "{out:?}");
        }
    }
}
