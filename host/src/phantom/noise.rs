//! Smooth random fields: value noise on a lattice, read row by row.

use super::draw::Draw;
use super::grid::Grid;

/// Random values in [-1, 1) on a cubic lattice over a grid, interpolated smoothly between its points.
pub(super) struct Lattice {
    origin: [f32; 3],
    per_mm: f32,
    dims: [usize; 3],
    values: Vec<f32>,
}

/// Cell and smoothed fraction of a coordinate.
fn place(at: f32, cells: usize) -> (usize, f32) {
    let at = at.clamp(0.0, cells as f32 - 1.001);
    let cell = at as usize;
    let f = at - cell as f32;
    (cell, f * f * (3.0 - 2.0 * f))
}

impl Lattice {
    /// Covers `grid` with points every `step` mm.
    pub(super) fn new(draw: &mut Draw, grid: &Grid, step: f32) -> Self {
        let per_mm = 1.0 / step;
        let dims: [usize; 3] =
            std::array::from_fn(|i| (grid.shape[i] as f32 * grid.spacing[i] * per_mm) as usize + 3);
        let values = (0..dims[0] * dims[1] * dims[2]).map(|_| draw.signed()).collect();
        Self { origin: grid.origin, per_mm, dims, values }
    }

    /// Values along the row through (y, z) mm, one per voxel of the grid's first axis.
    pub(super) fn row(&self, grid: &Grid, y: f32, z: f32, line: &mut Vec<f32>, out: &mut [f32]) {
        let (j, v) = place((y - self.origin[1]) * self.per_mm, self.dims[1]);
        let (k, w) = place((z - self.origin[2]) * self.per_mm, self.dims[2]);
        let n = self.dims[0];
        let start = |j: usize, k: usize| (k * self.dims[1] + j) * n;
        let (a, b, c, d) = (start(j, k), start(j + 1, k), start(j, k + 1), start(j + 1, k + 1));
        line.clear();
        line.extend((0..n).map(|i| {
            let low = self.values[a + i] * (1.0 - v) + self.values[b + i] * v;
            let high = self.values[c + i] * (1.0 - v) + self.values[d + i] * v;
            low * (1.0 - w) + high * w
        }));
        let step = grid.spacing[0] * self.per_mm;
        for (i, o) in out.iter_mut().enumerate() {
            let (cell, u) = place(i as f32 * step, n);
            *o = line[cell] * (1.0 - u) + line[cell + 1] * u;
        }
    }

    /// The value at one point.
    pub(super) fn at(&self, p: [f32; 3]) -> f32 {
        let place = |a: usize| place((p[a] - self.origin[a]) * self.per_mm, self.dims[a]);
        let ((i, u), (j, v), (k, w)) = (place(0), place(1), place(2));
        let mut sum = 0.0;
        for (dk, wk) in [(0, 1.0 - w), (1, w)] {
            for (dj, wj) in [(0, 1.0 - v), (1, v)] {
                let at = i + self.dims[0] * (j + dj + self.dims[1] * (k + dk));
                sum += wk * wj * (self.values[at] * (1.0 - u) + self.values[at + 1] * u);
            }
        }
        sum
    }
}
