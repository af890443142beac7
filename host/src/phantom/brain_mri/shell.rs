//! Around the brain: skin, fat, skull, face and neck, eyes.

use super::super::draw::Draw;
use super::super::grid::Ellipsoid;
use super::super::noise::Lattice;
use super::head::{Head, smooth};
use super::tissue::{Picture, mix};

/// Paints everything that is not brain; inside the skull, fluid.
pub(super) fn paint(head: &Head, draw: &mut Draw, picture: &mut Picture) {
    let grid = picture.grid.clone();
    let coarse = Lattice::new(draw, &grid, 17.0);
    let fine = Lattice::new(draw, &grid, 6.0);
    let fatness = draw.range(-0.25, 0.25);
    let n = grid.shape[0];
    let mut line = Vec::new();
    let mut rows: [Vec<f32>; 2] = std::array::from_fn(|_| vec![0.0; n]);
    let t = &head.tissues;
    for k in 0..grid.shape[2] {
        let z = grid.at(2, k);
        for j in 0..grid.shape[1] {
            let y = grid.at(1, j);
            coarse.row(&grid, y, z, &mut line, &mut rows[0]);
            fine.row(&grid, y, z, &mut line, &mut rows[1]);
            let start = n * (j + grid.shape[1] * k);
            for (i, (&c, &f)) in rows[0].iter().zip(&rows[1]).enumerate() {
                let p = [grid.at(0, i), y, z];
                let skin = head.skin(p) + 1.2 * c;
                let there = picture.cover(skin);
                if there <= 0.0 {
                    continue;
                }
                // Scalp: skin over fat, with muscle under it at the sides and below.
                let mut value = t.fat.map(|v| v * (1.0 + 0.1 * f));
                let below = smooth((head.floor(p[0], y) - 4.0 - z) / 8.0);
                let meat = (c * 0.5 + f * 0.8 + 0.35 + fatness).max(0.0) * 3.0;
                let deep = smooth((-skin - head.scalp) / 3.0);
                mix(&mut value, deep * below * smooth(meat), t.muscle);
                mix(&mut value, picture.cover(-1.6 - skin), t.skin);
                let cavity = head.cavity(p);
                let skull = cavity - head.skull * (1.0 + 0.15 * c);
                mix(&mut value, picture.cover(skull), t.bone);
                // Marrow between the two tables.
                let middle = (cavity - 0.5 * head.skull).abs() - 0.22 * head.skull * (1.0 + 0.5 * f);
                mix(&mut value, 0.85 * picture.cover(middle), t.marrow);
                mix(&mut value, picture.cover(cavity), t.fluid);
                let voxel = &mut picture.values[start + i];
                *voxel = value.map(|v| v * there);
            }
        }
    }
    face(head, draw, picture);
}

/// Eyes in their fat, air of nose and mastoids.
fn face(head: &Head, draw: &mut Draw, picture: &mut Picture) {
    let grid = picture.grid.clone();
    let t = &head.tissues;
    let front = head.half[1];
    let outside = |p| head.cavity(p) > 3.0 && head.skin(p) < -3.0;
    let apart = draw.range(29.0, 34.0);
    let low = head.centre - draw.range(34.0, 40.0);
    let nose = Ellipsoid::upright([0.0, 0.68 * front, low - 12.0], [15.0, 24.0, 22.0]);
    grid.near(&nose, 1.0, |voxel, d, p| {
        if outside(p) {
            let comb = libm::sinf(p[0] * 0.6 + 2.0 * libm::sinf(p[1] * 0.2 + p[2] * 0.15)) > -0.3;
            picture.blend(voxel, picture.cover(d), if comb { [15.0; 3] } else { t.skin });
        }
    });
    for side in [-1.0, 1.0] {
        let orbit = Ellipsoid::upright([side * apart, 0.7 * front, low], [16.0, 20.0, 16.0]);
        grid.near(&orbit, 1.0, |voxel, d, p| {
            if outside(p) {
                picture.blend(voxel, picture.cover(d), t.fat);
            }
        });
        let ball = [side * apart, 0.7 * front + 7.0, low + 1.0];
        let r = draw.range(10.5, 12.0);
        for (grown, signal) in [(1.2, t.muscle), (0.0, t.eye)] {
            grid.near(&Ellipsoid::upright(ball, [r + grown; 3]), 1.0, |voxel, d, p| {
                if outside(p) {
                    picture.blend(voxel, picture.cover(d), signal);
                }
            });
        }
        let mastoid = Ellipsoid::upright([side * 0.8 * head.half[0], -20.0, head.centre - 56.0], [13.0; 3]);
        grid.near(&mastoid, 1.0, |voxel, d, p| {
            if outside(p) {
                let cell = libm::sinf(p[0] * 1.3) * libm::sinf(p[1] * 1.1 + p[2]) > 0.2;
                picture.blend(voxel, picture.cover(d), if cell { t.skin } else { [20.0; 3] });
            }
        });
    }
}
