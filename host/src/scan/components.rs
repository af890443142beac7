//! Which voxels hang together: connected components of a mask, from runs along x.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

/// Bytes of a run while components are found: itself, twice while its plane's vector grows and once among all, and its parent.
const BYTES_OF_A_RUN: usize = 3 * size_of::<Run>() + size_of::<usize>();

/// Voxels `start..end` of one row (`row = y + ny * z`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub row: usize,
    pub start: usize,
    pub end: usize,
    /// Index of its component, dense from 0.
    pub component: usize,
}

/// How far a component reaches: to its neighbours in the slice only, or through slices too.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Reach {
    /// Four neighbours within a slice of constant z.
    Slice,
    /// Six neighbours.
    Volume,
}

/// All runs of a mask and how many components they form.
pub(crate) struct Components {
    pub runs: Vec<Run>,
    pub count: usize,
    shape: [usize; 3],
}

impl Components {
    /// Components of the voxels of `shape` that are `inside`, x fastest. `None` where they would take more than `most` bytes:
    /// noise may have a run for every second voxel.
    pub fn of(
        shape: [usize; 3],
        reach: Reach,
        most: usize,
        voxels: &[f32],
        inside: impl Fn(f32) -> bool + Sync,
    ) -> Option<Self> {
        let [nx, ny, nz] = shape;
        let of_planes = nz.saturating_mul(size_of::<Vec<Run>>());
        let most_runs = most.checked_sub(of_planes)? / BYTES_OF_A_RUN;
        let count = AtomicUsize::new(0);
        let planes: Vec<Vec<Run>> = voxels
            .par_chunks((nx * ny).max(1))
            .enumerate()
            .map(|(z, plane)| {
                let mut runs = Vec::new();
                for (y, row) in plane.chunks_exact(nx).enumerate() {
                    if count.load(Ordering::Relaxed) > most_runs {
                        break;
                    }
                    let before = runs.len();
                    runs_of(row, &inside, |start, end| {
                        runs.push(Run { row: z * ny + y, start, end, component: 0 });
                    });
                    count.fetch_add(runs.len() - before, Ordering::Relaxed);
                }
                runs
            })
            .collect();
        let count = count.into_inner();
        if count > most_runs {
            return None;
        }
        let mut runs = Vec::with_capacity(count);
        planes.into_iter().for_each(|plane| runs.extend(plane));
        Some(Self::of_runs(shape, reach, runs))
    }

    /// Components of runs that lie in the order of their rows and of x, and apart from each other.
    pub fn of_runs(shape: [usize; 3], reach: Reach, mut runs: Vec<Run>) -> Self {
        let ny = shape[1];
        let mut parent: Vec<usize> = (0..runs.len()).collect();
        // Where the rows begin that neighbours are in: of the row before, and of the same row of the slice before.
        let (mut above, mut behind) = (0, 0);
        let mut at = 0;
        while at < runs.len() {
            let row = runs[at].row;
            let end = at + runs[at..].iter().take_while(|run| run.row == row).count();
            if !row.is_multiple_of(ny) {
                above = join(&mut parent, &runs, above, row - 1, at..end);
            }
            if reach == Reach::Volume && row >= ny {
                behind = join(&mut parent, &runs, behind, row - ny, at..end);
            }
            at = end;
        }
        let mut count = 0;
        for i in 0..runs.len() {
            let r = root(&mut parent, i);
            // A root is the smallest index of its tree, so it is numbered before its members ask.
            runs[i].component = if r == i {
                count += 1;
                count - 1
            } else {
                runs[r].component
            };
        }
        Self { runs, count, shape }
    }

    /// Voxels in each component.
    pub fn sizes(&self) -> Vec<usize> {
        let mut sizes = vec![0; self.count];
        for run in &self.runs {
            sizes[run.component] += run.end - run.start;
        }
        sizes
    }

    /// Bounding box `[low, high)` per axis of the components that `keep`; `None` when there is none.
    pub fn bounds(&self, keep: impl Fn(usize) -> bool) -> Option<[[usize; 2]; 3]> {
        let ny = self.shape[1];
        let mut bounds: Option<[[usize; 2]; 3]> = None;
        for run in self.runs.iter().filter(|r| keep(r.component)) {
            let (y, z) = (run.row % ny, run.row / ny);
            let b = bounds.get_or_insert([[run.start, run.end], [y, y + 1], [z, z + 1]]);
            for (axis, [low, high]) in [[run.start, run.end], [y, y + 1], [z, z + 1]].into_iter().enumerate()
            {
                b[axis] = [b[axis][0].min(low), b[axis][1].max(high)];
            }
        }
        bounds
    }
}

/// Joins the runs `these` of a row with those of row `other` that they touch; the search for it begins at run `from`. Returns
/// where its runs begin, or would.
fn join(parent: &mut [usize], runs: &[Run], from: usize, other: usize, these: Range<usize>) -> usize {
    let first = from + runs[from..].iter().take_while(|run| run.row < other).count();
    let (mut a, mut b) = (these.start, first);
    while a < these.end && b < these.start && runs[b].row == other {
        if runs[a].start < runs[b].end && runs[b].start < runs[a].end {
            let (ra, rb) = (root(parent, a), root(parent, b));
            parent[ra.max(rb)] = ra.min(rb);
        }
        if runs[a].end < runs[b].end { a += 1 } else { b += 1 }
    }
    first
}

/// Voxels that are looked at together.
const BLOCK: usize = 32;

/// Calls `run` with the start and end of each run of a row that is `inside`.
fn runs_of(row: &[f32], inside: impl Fn(f32) -> bool, mut run: impl FnMut(usize, usize)) {
    let mut start = None;
    let mut voxel = |x: usize, is_inside: bool| match (is_inside, start) {
        (true, None) => start = Some(x),
        (false, Some(from)) => {
            run(from, x);
            start = None;
        }
        _ => {}
    };
    let (blocks, rest) = row.as_chunks::<BLOCK>();
    for (i, block) in blocks.iter().enumerate() {
        let x = i * BLOCK;
        // Most blocks are the same throughout: such a one begins or ends a run at its first voxel, if at all.
        let count: u32 = block.iter().map(|v| u32::from(inside(*v))).sum();
        match count as usize {
            0 => voxel(x, false),
            BLOCK => voxel(x, true),
            _ => block.iter().enumerate().for_each(|(k, v)| voxel(x + k, inside(*v))),
        }
    }
    let x = blocks.len() * BLOCK;
    rest.iter().enumerate().for_each(|(k, v)| voxel(x + k, inside(*v)));
    voxel(row.len(), false);
}

fn root(parent: &mut [usize], mut i: usize) -> usize {
    while parent[i] != i {
        parent[i] = parent[parent[i]];
        i = parent[i];
    }
    i
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSIDE: fn(f32) -> bool = |v| v > 0.0;

    #[test]
    fn a_u_shape_is_one_component_and_a_diagonal_is_two() {
        // Slice 0: a U. Slice 1: a voxel that touches nothing but diagonally.
        let mask = [1, 0, 1, 1, 0, 1, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0].map(|v| v as f32);
        let c = Components::of([3, 3, 2], Reach::Volume, 1 << 20, &mask, INSIDE).unwrap();
        let mut sizes = c.sizes();
        sizes.sort_unstable();
        assert_eq!(sizes, [1, 7]);
        assert_eq!(c.bounds(|k| c.sizes()[k] == 7), Some([[0, 3], [0, 3], [0, 1]]));
    }

    #[test]
    fn slices_are_apart_when_asked() {
        let c = Components::of([2, 2, 3], Reach::Slice, 1 << 20, &[1.0; 12], INSIDE).unwrap();
        assert_eq!((c.count, c.sizes()), (3, vec![4, 4, 4]));
        assert_eq!(Components::of([2, 2, 3], Reach::Volume, 1 << 20, &[1.0; 12], INSIDE).unwrap().count, 1);
    }

    #[test]
    fn more_runs_than_there_is_memory_for_are_none() {
        let chequered: Vec<f32> = (0..64 * 64 * 8).map(|i| (i % 2) as f32).collect();
        let noise = |most| Components::of([64, 64, 8], Reach::Volume, most, &chequered, INSIDE);
        // 32 runs in each of 512 rows.
        let enough = 8 * size_of::<Vec<Run>>() + 512 * 32 * BYTES_OF_A_RUN;
        assert_eq!(noise(enough).unwrap().runs.len(), 512 * 32);
        assert!(noise(enough / 2).is_none() && noise(0).is_none());
    }

    /// Components by flooding from each voxel: sizes and boxes.
    fn flooded(shape: [usize; 3], reach: Reach, mask: &[f32]) -> Vec<(usize, [[usize; 2]; 3])> {
        let [nx, ny, nz] = shape;
        let mut seen = vec![false; mask.len()];
        let mut found = Vec::new();
        for i in 0..mask.len() {
            if seen[i] || mask[i] <= 0.0 {
                continue;
            }
            let (mut open, mut size) = (vec![i], 0);
            let mut bounds = [[usize::MAX, 0]; 3];
            seen[i] = true;
            while let Some(i) = open.pop() {
                size += 1;
                let at = [i % nx, i / nx % ny, i / nx / ny];
                for (b, at) in bounds.iter_mut().zip(at) {
                    *b = [b[0].min(at), b[1].max(at + 1)];
                }
                let mut visit = |there: bool, to: usize| {
                    if there && mask[to] > 0.0 && !seen[to] {
                        seen[to] = true;
                        open.push(to);
                    }
                };
                visit(at[0] > 0, i.wrapping_sub(1));
                visit(at[0] + 1 < nx, i + 1);
                visit(at[1] > 0, i.wrapping_sub(nx));
                visit(at[1] + 1 < ny, i + nx);
                visit(reach == Reach::Volume && at[2] > 0, i.wrapping_sub(nx * ny));
                visit(reach == Reach::Volume && at[2] + 1 < nz, i + nx * ny);
            }
            found.push((size, bounds));
        }
        found
    }

    #[test]
    fn runs_have_the_components_that_flooding_finds_in_masks_of_every_density() {
        for (n, shape) in [[70, 9, 6], [32, 5, 4], [31, 8, 7], [97, 3, 2], [1, 6, 9]].into_iter().enumerate()
        {
            for density in [3u32, 12, 40, 60, 90, 99] {
                let mut state = density + 100 * n as u32;
                let mask: Vec<f32> = (0..shape.iter().product::<usize>())
                    .map(|i| {
                        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        // Long runs and single voxels.
                        f32::from(u8::from(
                            (state >> 8) % 100 < density || i % 71 > 80 - density as usize / 2,
                        ))
                    })
                    .collect();
                for reach in [Reach::Slice, Reach::Volume] {
                    let c = Components::of(shape, reach, 1 << 24, &mask, INSIDE).unwrap();
                    let sizes = c.sizes();
                    let mut found: Vec<_> =
                        (0..c.count).map(|k| (sizes[k], c.bounds(|c| c == k).unwrap())).collect();
                    let mut expected = flooded(shape, reach, &mask);
                    found.sort_unstable();
                    expected.sort_unstable();
                    assert_eq!(found, expected, "{shape:?} {density} {reach:?}");
                }
            }
        }
    }
}
