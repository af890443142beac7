//! The cerebrum's folded cortex over its white matter, and the cerebellum with its folia.

use super::super::draw::Draw;
use super::super::grid::{Ellipsoid, Grid, oval};
use super::super::noise::Lattice;
use super::head::{Head, smooth};
use super::tissue::{Picture, mix};

/// A field on every voxel: the folds' zero levels are where sulci run.
fn field(grid: &Grid, parts: &[(Lattice, f32)]) -> Vec<f32> {
    let n = grid.shape[0];
    let mut out = vec![0.0f32; grid.len()];
    let (mut line, mut row) = (Vec::new(), vec![0.0f32; n]);
    for (lattice, weight) in parts {
        for (at, o) in out.chunks_exact_mut(n).enumerate() {
            let (y, z) = (grid.at(1, at % grid.shape[1]), grid.at(2, at / grid.shape[1]));
            lattice.row(grid, y, z, &mut line, &mut row);
            for (o, v) in o.iter_mut().zip(&row) {
                *o += weight * v;
            }
        }
    }
    out
}

/// Length of the field's gradient per mm, by differences of neighbours within the grid.
fn slope(grid: &Grid, values: &[f32], voxel: usize) -> f32 {
    let steps = [1, grid.shape[0], grid.shape[0] * grid.shape[1]];
    let mut sum = 0.0;
    for (step, spacing) in steps.iter().zip(grid.spacing) {
        let high = (voxel + step).min(values.len() - 1);
        let low = voxel.saturating_sub(*step);
        let d = (values[high] - values[low]) / (2.0 * spacing);
        sum += d * d;
    }
    sum.sqrt()
}

/// Paints cerebrum and cerebellum into the fluid of the skull.
pub(super) fn paint(head: &Head, draw: &mut Draw, picture: &mut Picture) {
    let grid = picture.grid.clone();
    let step = draw.range(11.5, 14.5);
    let folds = [(Lattice::new(draw, &grid, step), 1.0), (Lattice::new(draw, &grid, 7.5), 0.5)];
    let fold = field(&grid, &folds);
    let bump = field(&grid, &[(Lattice::new(draw, &grid, 12.0), 1.0)]);
    let grain = field(&grid, &[(Lattice::new(draw, &grid, 7.0), 1.0)]);
    let t = &head.tissues;
    let middle = [2.0, head.centre + 2.0];
    let low = [-head.half[0], -head.half[1] - 2.0, head.centre - 60.0];
    let high = [head.half[0], head.half[1] + 2.0, head.centre + head.half[2] + 2.0];
    grid.in_box(low, high, |voxel, p| {
        let [x, y, z] = p;
        let hull = head.cerebrum(p) + 0.8 * bump[voxel];
        if hull > 2.0 {
            return;
        }
        let depth = -hull;
        // Sheets of fluid along the folds' zero level, narrower and gone at their bottom.
        let reach = head.depth * (1.0 + 0.35 * bump[voxel]);
        let width = head.sulcus * (1.3 - depth / reach).clamp(0.2, 1.3);
        let sheet = fold[voxel].abs() / slope(&grid, &fold, voxel).max(0.025);
        let sulcus = (sheet - width).max(depth - reach);
        // The cleft between the hemispheres, down to the corpus callosum.
        let callosum = oval(y - middle[0], z - middle[1], [38.0, 21.0], 0.2);
        let cleft = (x.abs() - 0.6 - 0.4 * head.sulcus).max(-callosum);
        // The lateral fissure, over the insula.
        let roof = head.centre - 6.0 + 0.5 * y + 0.8 * (x.abs() - 50.0) + 4.0 * bump[voxel];
        let lateral = (0.73 * (z - roof).abs() - 0.8 - head.sulcus)
            .max(0.62 * head.half[0] - x.abs() + 3.0 * bump[voxel])
            .max((y - 8.0).abs() - 32.0);
        let fluid = sulcus.min(cleft).min(lateral);
        let to_fluid = depth.min(fluid);
        let grey = picture.cover(to_fluid - head.cortex * (1.0 + 0.2 * grain[voxel]));
        let mut value = t.white.map(|v| v * (1.0 + 0.025 * grain[voxel]));
        mix(&mut value, grey, t.grey);
        let inside = picture.cover(hull) * picture.cover(-fluid);
        mix(&mut picture.values[voxel], inside, value);
        picture.tissue[voxel] = inside;
    });
    cerebellum(head, draw, picture, &bump);
}

fn cerebellum(head: &Head, draw: &mut Draw, picture: &mut Picture, bump: &[f32]) {
    let grid = picture.grid.clone();
    let t = &head.tissues;
    let c = head.centre;
    let period = draw.range(4.6, 6.0);
    let size = draw.range(0.92, 1.06);
    let root = [0.0, -20.0, c - 40.0];
    // Two hemispheres, and the vermis between them.
    for side in [-1.0, 0.0, 1.0] {
        let lobe = Ellipsoid::turned(
            [side * 24.0, -46.0, c - 40.0],
            [34.0 * size, 33.0 * size, 30.0 * size],
            side * 0.25,
            0.15,
        );
        grid.near(&lobe, 2.0, |voxel, d, p| {
            let d = d.max(head.cavity(p) + 1.5).max(3.0 - head.cerebrum(p)) + 0.8 * bump[voxel];
            let share = picture.cover(d) * (1.0 - picture.tissue[voxel]);
            if share <= 0.0 {
                return;
            }
            let v = [p[0] - root[0], p[1] - root[1], 1.4 * (p[2] - root[2])];
            let r = (v[0] * v[0] + v[1] * v[1] + v[2] * v[2]).sqrt();
            let leaf = 0.5 + 0.5 * libm::sinf(r * (std::f32::consts::TAU / period) + 3.0 * bump[voxel]);
            let mut value = t.white;
            mix(&mut value, smooth((d + 13.0) / 5.0), t.grey);
            mix(&mut value, 0.3 * leaf * leaf * smooth((d + 16.0) / 4.0), t.fluid);
            mix(&mut picture.values[voxel], share, value);
        });
    }
    // The brain stem: midbrain, pons, medulla.
    let stem = [
        ([0.0, -16.0, c - 8.0], 13.0),
        ([0.0, -12.0, c - 24.0], 14.0),
        ([0.0, -16.0, c - 40.0], 14.5),
        ([0.0, -24.0, c - 56.0], 9.0),
        ([0.0, -32.0, c - 90.0], 6.5),
    ];
    for pair in stem.windows(2) {
        let rod = super::super::grid::Rod { a: pair[0].0, b: pair[1].0, ra: pair[0].1, rb: pair[1].1 };
        let mut value = t.white;
        mix(&mut value, 0.25, t.grey);
        grid.near_rod(rod, 2.0, |voxel, d, _| {
            let share = picture.cover(d) * (1.0 - picture.tissue[voxel]);
            mix(&mut picture.values[voxel], share, value);
        });
    }
}
