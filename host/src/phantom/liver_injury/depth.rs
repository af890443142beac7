//! How deep in an organ each voxel lies.

use super::super::grid::Grid;

/// Distance in mm from every voxel with `organ > 0.5` to the nearest one without, 0 outside: a chamfer
/// transform over 26 neighbours in two passes, at most 9 % long. The volume's edge is no surface.
pub(super) fn depths(grid: &Grid, organ: &[f32]) -> Vec<f32> {
    let [nx, ny, nz] = grid.shape.map(|n| n as isize);
    let mut depth: Vec<f32> = organ.iter().map(|&o| if o > 0.5 { f32::MAX } else { 0.0 }).collect();
    let mut before = Vec::new();
    for (dx, dy, dz) in
        (-1..=1isize).flat_map(|z| (-1..=1).flat_map(move |y| (-1..=1).map(move |x| (x, y, z))))
    {
        if (dz, dy, dx) < (0, 0, 0) {
            let mm: [f32; 3] = std::array::from_fn(|a| [dx, dy, dz][a] as f32 * grid.spacing[a]);
            let length = (mm[0] * mm[0] + mm[1] * mm[1] + mm[2] * mm[2]).sqrt();
            before.push((dx, dy, dz, length));
        }
    }
    let count = depth.len() as isize;
    for sign in [1isize, -1] {
        for step in 0..count {
            let voxel = if sign > 0 { step } else { count - 1 - step };
            if depth[voxel as usize] == 0.0 {
                continue;
            }
            let (x, y, z) = (voxel % nx, voxel / nx % ny, voxel / (nx * ny));
            let mut best = depth[voxel as usize];
            for &(dx, dy, dz, length) in &before {
                let (u, v, w) = (x + sign * dx, y + sign * dy, z + sign * dz);
                if (0..nx).contains(&u) && (0..ny).contains(&v) && (0..nz).contains(&w) {
                    best = best.min(depth[(u + nx * (v + ny * w)) as usize] + length);
                }
            }
            depth[voxel as usize] = best;
        }
    }
    depth
}
