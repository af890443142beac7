//! Values on slices brought back onto the scan's stored grid plane by plane, so that they never stand in memory whole.

use crate::scan::canonical::StoredAxis;
use crate::scan::resample::{Tap, along};
use crate::scan::slice_grid::SliceGrid;

/// Values of a slice stack on the grid of its scan: trilinear in mm, zero outside the stack.
#[derive(Debug)]
pub struct ScanPlanes {
    /// The values in the order of the scan's axes, at the scan's size along the first of them only.
    block: Vec<f32>,
    /// Rows that the block has in each of its planes.
    rows_in: usize,
    shape: [usize; 3],
    rows: Vec<Tap>,
    planes: Vec<Tap>,
}

impl ScanPlanes {
    /// Of `values` `[S, h, w]` that span the images of `grid` edge to edge (any `h`, `w`).
    ///
    /// `None` where `values` is not `S · h · w` long, any of them is 0, or there is no memory for them.
    pub fn of(grid: &SliceGrid, values: &[f32], h: usize, w: usize) -> Option<Self> {
        let sizes = [grid.slices(), h, w];
        if sizes.contains(&0) || values.len() != sizes.iter().product::<usize>() {
            return None;
        }
        // For each stored axis: which of slice, row, column it is, and the taps along it.
        let mut source = [0; 3];
        let mut taps = [Vec::new(), Vec::new(), Vec::new()];
        for (i, plan) in grid.plans.iter().enumerate() {
            let StoredAxis { axis, flipped } = grid.stored[plan.canonical];
            source[axis] = i;
            taps[axis] = plan.taps_back(sizes[i]);
            if flipped {
                taps[axis].reverse();
            }
        }
        let step = [h * w, w, 1];
        let shape = source.map(|i| sizes[i]);
        let mut block = Vec::with_capacity(values.len());
        for z in 0..shape[2] {
            for y in 0..shape[1] {
                let row = z * step[source[2]] + y * step[source[1]];
                block.extend((0..shape[0]).map(|x| values[row + x * step[source[0]]]));
            }
        }
        let [columns, rows, planes] = taps;
        let block = along(&block, shape, 0, &columns, 0.0).ok()?;
        Some(Self { block, rows_in: shape[1], shape: grid.scan_shape(), rows, planes })
    }

    /// The scan's stored shape.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Adds the values of stored plane `z`, times `weight`, to `plane` (first axis fastest).
    pub fn add(&self, z: usize, weight: f32, plane: &mut [f32]) {
        let nx = self.shape[0];
        let n = self.rows_in * nx;
        let Some((a, b, [wa, wb])) = pair(&self.planes[z], &self.block, n) else { return };
        let between: Vec<f32> = a.iter().zip(b).map(|(a, b)| a * wa + b * wb).collect();
        for (row, tap) in plane.chunks_exact_mut(nx).zip(&self.rows) {
            let Some((a, b, [wa, wb])) = pair(tap, &between, nx) else { continue };
            for ((v, a), b) in row.iter_mut().zip(a).zip(b) {
                *v += (a * wa + b * wb) * weight;
            }
        }
    }
}

/// The two neighbours of `n` values each that a tap lies between, and their weights; `None` outside of the stack.
fn pair<'a>(tap: &Tap, values: &'a [f32], n: usize) -> Option<(&'a [f32], &'a [f32], [f32; 2])> {
    let (last, weights) = match tap.weights[..] {
        [] => return None,
        [one] => (tap.start, [one, 0.0]),
        [first, second, ..] => (tap.start + 1, [first, second]),
    };
    Some((&values[tap.start * n..][..n], &values[last * n..][..n], weights))
}
