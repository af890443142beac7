//! Which voxels hang together: connected components of a mask, from runs along x.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of a run while components are found: its ends, twice while their vector grows, the run, and its parent.
const BYTES_OF_A_RUN: usize = 3 * size_of::<(usize, usize)>() + size_of::<Run>() + 2 * size_of::<usize>();

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
    /// Components of `inside(x, y, z index)` over `shape`; `inside` gets the linear index, x fastest. `None` where they
    /// would take more than `most` bytes: noise may have a run for every second voxel.
    pub fn of(
        shape: [usize; 3],
        reach: Reach,
        most: usize,
        inside: impl Fn(usize) -> bool + Sync,
    ) -> Option<Self> {
        use rayon::prelude::*;
        let [nx, ny, nz] = shape;
        let of_rows =
            ny.saturating_mul(nz).saturating_mul(size_of::<Vec<(usize, usize)>>() + size_of::<usize>());
        let most_runs = most.checked_sub(of_rows)? / BYTES_OF_A_RUN;
        let count = AtomicUsize::new(0);
        let rows: Vec<Vec<(usize, usize)>> = (0..ny * nz)
            .into_par_iter()
            .with_min_len(64)
            .map(|row| {
                let mut runs = Vec::new();
                if count.load(Ordering::Relaxed) > most_runs {
                    return runs;
                }
                let mut start = None;
                for x in 0..nx {
                    match (inside(row * nx + x), start) {
                        (true, None) => start = Some(x),
                        (false, Some(s)) => {
                            runs.push((s, x));
                            start = None;
                        }
                        _ => {}
                    }
                }
                runs.extend(start.map(|s| (s, nx)));
                count.fetch_add(runs.len(), Ordering::Relaxed);
                runs
            })
            .collect();
        if count.into_inner() > most_runs {
            return None;
        }
        let mut first_of_row = Vec::with_capacity(rows.len() + 1);
        let mut runs = Vec::new();
        for (row, found) in rows.iter().enumerate() {
            first_of_row.push(runs.len());
            runs.extend(found.iter().map(|&(start, end)| Run { row, start, end, component: 0 }));
        }
        first_of_row.push(runs.len());

        let mut parent: Vec<usize> = (0..runs.len()).collect();
        for row in 0..rows.len() {
            let mut neighbours = [None, None];
            if row % ny > 0 {
                neighbours[0] = Some(row - 1);
            }
            if reach == Reach::Volume && row >= ny {
                neighbours[1] = Some(row - ny);
            }
            for other in neighbours.into_iter().flatten() {
                let (mut a, mut b) = (first_of_row[row], first_of_row[other]);
                while a < first_of_row[row + 1] && b < first_of_row[other + 1] {
                    if runs[a].start < runs[b].end && runs[b].start < runs[a].end {
                        let (ra, rb) = (root(&mut parent, a), root(&mut parent, b));
                        parent[ra.max(rb)] = ra.min(rb);
                    }
                    if runs[a].end < runs[b].end { a += 1 } else { b += 1 }
                }
            }
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
        Some(Self { runs, count, shape })
    }

    /// What the runs take.
    pub fn bytes(&self) -> usize {
        self.runs.len() * size_of::<Run>()
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

    #[test]
    fn a_u_shape_is_one_component_and_a_diagonal_is_two() {
        // Slice 0: a U. Slice 1: a voxel that touches nothing but diagonally.
        let mask = [1, 0, 1, 1, 0, 1, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        let c = Components::of([3, 3, 2], Reach::Volume, 1 << 20, |i| mask[i] == 1).unwrap();
        let mut sizes = c.sizes();
        sizes.sort_unstable();
        assert_eq!(sizes, [1, 7]);
        assert_eq!(c.bounds(|k| c.sizes()[k] == 7), Some([[0, 3], [0, 3], [0, 1]]));
    }

    #[test]
    fn slices_are_apart_when_asked() {
        let c = Components::of([2, 2, 3], Reach::Slice, 1 << 20, |_| true).unwrap();
        assert_eq!((c.count, c.sizes()), (3, vec![4, 4, 4]));
        assert_eq!(Components::of([2, 2, 3], Reach::Volume, 1 << 20, |_| true).unwrap().count, 1);
    }

    #[test]
    fn more_runs_than_there_is_memory_for_are_none() {
        let noise = |most| Components::of([64, 64, 8], Reach::Volume, most, |i| i % 2 == 0);
        // 32 runs in each of 512 rows.
        let enough = 512 * 32 + 512 * 32 * BYTES_OF_A_RUN;
        assert_eq!(noise(enough).unwrap().runs.len(), 512 * 32);
        assert!(noise(enough / 2).is_none() && noise(0).is_none());
    }
}
