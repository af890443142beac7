//! Skin, fat, muscle, the fat between the organs, the lungs' bases over the diaphragm; spine and ribs.

use super::super::draw::Draw;
use super::super::grid::{Canvas, P3, cover, oval};
use super::super::noise::Lattice;
use super::super::spine::{Bone, Spine};
use super::abdomen::Abdomen;

/// Paints what the organs lie in.
pub(super) fn paint(abdomen: &Abdomen, draw: &mut Draw, canvas: &mut Canvas) {
    rows(abdomen, draw, canvas);
    let bone = Bone { cortex: abdomen.bone, marrow: abdomen.marrow };
    let spine = Spine { body: abdomen.vertebra, y: |z| abdomen.spine_y(z), back: |_| abdomen.torso[1], bone };
    muscles(abdomen, canvas);
    spine.paint(draw, canvas);
    ribs(abdomen, bone, draw, canvas);
}

fn rows(abdomen: &Abdomen, draw: &mut Draw, canvas: &mut Canvas) {
    let grid = canvas.grid.clone();
    let shape = Lattice::new(draw, &grid, 40.0);
    let streak = Lattice::new(draw, &grid, 8.0);
    let cloud = Lattice::new(draw, &grid, 24.0);
    let n = grid.shape[0];
    let mut line = Vec::new();
    let mut rows: [Vec<f32>; 3] = std::array::from_fn(|_| vec![0.0; n]);
    let lung_hu = draw.range(-870.0, -800.0);
    let stranding = draw.range(4.0, 16.0);
    for k in 0..grid.shape[2] {
        let z = grid.at(2, k);
        for j in 0..grid.shape[1] {
            let y = grid.at(1, j);
            for (field, row) in [&shape, &streak, &cloud].iter().zip(rows.iter_mut()) {
                field.row(&grid, y, z, &mut line, row);
            }
            let start = n * (j + grid.shape[1] * k);
            let fields = rows[0].iter().zip(&rows[1]).zip(&rows[2]);
            for (i, ((&bump, &streak), &cloud)) in fields.enumerate() {
                let x = grid.at(0, i);
                let skin = oval(x, y, abdomen.torso, abdomen.squareness) + 2.5 * bump;
                if skin > canvas.edge {
                    continue;
                }
                let space = abdomen.cavity(x, y) + 2.5 * bump;
                let fat = abdomen.fat_hu + stranding * streak;
                let hu = if skin > -2.0 {
                    30.0
                } else if space > 0.0 {
                    let seam = (space - 0.5 * abdomen.wall - 2.0 * streak).abs() < 0.8;
                    let muscle = abdomen.muscle + 9.0 * streak - if seam { 70.0 } else { 0.0 };
                    // Muscle next to the space, fat under the skin.
                    fat + (muscle - fat) * cover(space - abdomen.wall * (1.0 + 0.2 * cloud), canvas.edge)
                } else {
                    fat + 6.0 * cloud
                };
                let air = lung_hu + 30.0 * streak + 20.0 * cloud;
                let lung = cover((space + 2.0).max(abdomen.diaphragm(x, y) + 3.0 * bump - z), canvas.edge)
                    * cover(24.0 - x.abs() + 4.0 * cloud, 6.0);
                let body = cover(skin, canvas.edge);
                canvas.hu[start + i] = -1000.0 + (hu + (air - hu) * lung + 1000.0) * body;
                canvas.lung[start + i] = lung;
            }
        }
    }
}

/// Psoas and the long muscles of the back.
fn muscles(abdomen: &Abdomen, canvas: &mut Canvas) {
    for side in [-1.0, 1.0] {
        let at = |x: f32, dy: f32, z: f32, r: f32| ([side * x, abdomen.spine_y(z) + dy, z], r);
        canvas.tube(
            &[at(30.0, 2.0, -5.0, 19.0), at(25.0, 0.0, 45.0, 11.0), at(22.0, 0.0, 75.0, 4.0)],
            abdomen.muscle,
        );
        let top = abdomen.height;
        // Inside the fascia, however thin the back is.
        let back = 17.0 + 0.5 * abdomen.fat - abdomen.torso[1];
        let low = |x: f32, z: f32| (abdomen.spine_y(z) - 32.0).max(back + 0.006 * x * x);
        for x in [20.0, 38.0] {
            let chain = [([side * x, low(x, 0.0), -5.0], 14.0), ([side * x, low(x, top), top + 5.0], 12.0)];
            canvas.tube(&chain, abdomen.muscle - 3.0);
        }
        // The crura of the diaphragm beside the aorta.
        canvas.tube(&[at(12.0, 20.0, 40.0, 4.0), at(14.0, 24.0, top - 30.0, 5.0)], abdomen.muscle);
    }
}

fn ribs(abdomen: &Abdomen, bone: Bone, draw: &mut Draw, canvas: &mut Canvas) {
    let gap = draw.range(24.0, 29.0);
    let slope = draw.range(62.0, 80.0);
    let size = draw.range(4.6, 6.0);
    for pair in 0..9 {
        let z0 = abdomen.height + 85.0 - pair as f32 * gap + draw.range(-2.0, 2.0);
        // The lowest two end free at the flank.
        let last = [2.7, 2.6, 2.5, 2.35, 2.2, 2.0, 1.7, 1.2, 0.8][pair];
        for side in [-1.0f32, 1.0] {
            let points: Vec<(P3, f32)> = (0..=24)
                .map(|step| {
                    let theta = 0.25 + (last - 0.25) * step as f32 / 24.0;
                    let p = abdomen.on_wall(side, theta, z0 - slope * theta / 2.2, 0.4 * abdomen.wall);
                    (p, size)
                })
                .collect();
            bone.paint(canvas, &points, 1.5);
        }
    }
}
