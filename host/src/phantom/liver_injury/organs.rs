//! Liver, gallbladder, spleen, kidneys, pancreas and their vessels.

use super::super::draw::Draw;
use super::super::grid::{Canvas, Ellipsoid, P3, Rod, cover, dot, sub, unit};
use super::super::noise::Lattice;
use super::super::trees::{Growth, Tree, grow};
use super::abdomen::Abdomen;

/// Paints spleen, kidneys, pancreas and the great vessels.
pub(super) fn paint(abdomen: &Abdomen, draw: &mut Draw, canvas: &mut Canvas) {
    let [w, h] = abdomen.space();
    let y = abdomen.space_y();
    let under = |p: P3| abdomen.cavity(p[0], p[1]) < -2.0 && p[2] < abdomen.diaphragm(p[0], p[1]) - 3.0;
    let size = draw.range(0.85, 1.15);
    let spleen = Ellipsoid::turned(
        [-0.72 * w, y - 0.38 * h, abdomen.dome - 58.0],
        [25.0 * size, 46.0 * size, 42.0 * size],
        -0.5,
        0.2,
    );
    canvas.organ(&spleen, abdomen.spleen, under);
    let pancreas = abdomen.liver - draw.range(5.0, 25.0);
    let z = abdomen.dome - 75.0;
    let ridge = abdomen.spine_y(z) + 50.0;
    let tail = [
        ([34.0, ridge, z - 22.0], 12.0),
        ([12.0, ridge + 8.0, z - 6.0], 9.5),
        ([-24.0, ridge + 2.0, z + 4.0], 9.0),
        ([-58.0, ridge - 22.0, z + 14.0], 8.0),
    ];
    canvas.tube(&tail, pancreas);
    for side in [-1.0f32, 1.0] {
        kidney(abdomen, draw, canvas, side);
    }
    great_vessels(abdomen, draw, canvas);
}

fn kidney(abdomen: &Abdomen, draw: &mut Draw, canvas: &mut Canvas, side: f32) {
    let z = draw.range(42.0, 56.0) - if side > 0.0 { 10.0 } else { 0.0 };
    let size = draw.range(0.9, 1.1);
    let centre = [side * draw.range(58.0, 66.0), abdomen.spine_y(z) + draw.range(2.0, 12.0), z];
    let shape = Ellipsoid::turned(centre, [25.0 * size, 29.0 * size, 52.0 * size], side * 0.5, 0.15);
    let all = |_: P3| true;
    canvas.organ(&shape, abdomen.cortex, all);
    let inner = Ellipsoid { radii: shape.radii.map(|r| r - 7.0), ..shape };
    canvas.organ(&inner, abdomen.medulla, |p| {
        libm::sinf(p[2] * 0.38) + libm::sinf(p[1] * 0.45 + p[0] * 0.35) > -0.4
    });
    let hilum = [centre[0] - side * 13.0, centre[1] + 9.0, centre[2]];
    canvas.organ(&Ellipsoid::turned(hilum, [13.0, 10.0, 22.0], side * 0.5, 0.0), -50.0, all);
    canvas.tube(
        &[(hilum, 4.0), ([side * 18.0, abdomen.spine_y(z) + 32.0, z + 6.0], 4.5)],
        abdomen.vein.max(abdomen.portal - 20.0),
    );
}

fn great_vessels(abdomen: &Abdomen, draw: &mut Draw, canvas: &mut Canvas) {
    let r = draw.range(9.0, 12.0);
    let front = abdomen.vertebra[1];
    let at = |x: f32, ahead: f32, z: f32| [x, abdomen.spine_y(z) + front + ahead, z];
    let top = abdomen.height + 5.0;
    canvas.tube(&[(at(-6.0, 9.0, -5.0), 0.85 * r), (at(-10.0, 12.0, top), 1.1 * r)], abdomen.artery);
    let cava = 0.5 * (abdomen.portal + abdomen.vein);
    let points = [
        (at(20.0, 9.0, -5.0), 10.5),
        (at(22.0, 14.0, 0.5 * top), 11.0),
        (at(24.0, 30.0, abdomen.dome - 18.0), 12.0),
        (at(18.0, 38.0, top), 12.0),
    ];
    canvas.tube(&points, cava);
    let z = abdomen.dome - 70.0;
    canvas.tube(
        &[(at(-9.0, 18.0, z), 4.0), (at(-6.0, 34.0, z - 4.0), 3.4), (at(-4.0, 40.0, z - 70.0), 4.0)],
        abdomen.artery,
    );
    canvas.tube(&[(at(-2.0, 48.0, z - 70.0), 5.0), (at(6.0, 44.0, z - 6.0), 6.0)], abdomen.portal);
    canvas.tube(&[(at(6.0, 40.0, z - 6.0), 5.0), (at(-62.0, 10.0, z + 14.0), 4.0)], abdomen.portal);
    canvas.tube(&[(at(6.0, 42.0, z - 6.0), 6.5), (porta(abdomen), 6.5)], abdomen.portal);
}

/// Where the portal vein enters the liver.
fn porta(abdomen: &Abdomen) -> P3 {
    let z = abdomen.dome - 58.0;
    [32.0, abdomen.spine_y(z) + abdomen.vertebra[1] + 48.0, z]
}

/// Paints liver and gallbladder; returns how much of each voxel is liver.
pub(super) fn liver(abdomen: &Abdomen, draw: &mut Draw, canvas: &mut Canvas) -> Vec<f32> {
    let [w, h] = abdomen.space();
    let y = abdomen.space_y();
    let size = draw.range(0.92, 1.08);
    let dome = abdomen.dome;
    let right = Ellipsoid::turned(
        [0.46 * w, y - 0.02 * h, dome - 66.0 * size],
        [0.56 * w * size, 0.92 * h, 76.0 * size],
        draw.range(-0.15, 0.25),
        draw.range(-0.1, 0.15),
    );
    let reach = draw.range(0.36, 0.6);
    let left = Ellipsoid::turned(
        [-0.02 * w, y + 0.5 * h, dome - 40.0],
        [reach * w, 0.36 * h, draw.range(34.0, 46.0)],
        draw.range(-0.25, 0.05),
        0.1,
    );
    // The lower face looks down, back and to the left.
    let slope = unit([-0.62, draw.range(-0.35, -0.2), -0.72]);
    let gate = porta(abdomen);
    let low = [gate[0] + 4.0, gate[1] - 6.0, gate[2] - 8.0];
    let kidney = Ellipsoid::upright([62.0, abdomen.spine_y(46.0) + 8.0, 40.0], [34.0, 38.0, 60.0]);
    let spine = abdomen.spine_y(dome) + abdomen.vertebra[1] + 26.0;
    let grid = canvas.grid.clone();
    let bumps = Lattice::new(draw, &grid, 32.0);
    let grain = Lattice::new(draw, &grid, 9.0);
    let n = grid.shape[0];
    let (mut line, mut rows) = (Vec::new(), [vec![0.0f32; n], vec![0.0f32; n]]);
    let mut share = vec![0.0f32; grid.len()];
    for (at, shares) in share.chunks_exact_mut(n).enumerate() {
        let (py, pz) = (grid.at(1, at % grid.shape[1]), grid.at(2, at / grid.shape[1]));
        if (py - y).abs() > h || pz > dome + 3.0 {
            continue;
        }
        bumps.row(&grid, py, pz, &mut line, &mut rows[0]);
        grain.row(&grid, py, pz, &mut line, &mut rows[1]);
        for (i, s) in shares.iter_mut().enumerate() {
            let p = [grid.at(0, i), py, pz];
            let bulk = right.distance(p).min(left.distance(p));
            if bulk > 6.0 {
                continue;
            }
            let cut = dot(sub(p, low), slope) - 40.0 * (1.0 - cover(p[0] - 8.0, 60.0));
            let medial = (spine - p[1]).min(26.0 - p[0]);
            let d = bulk
                .max(cut)
                .max(medial)
                .max(abdomen.cavity(p[0], p[1]) + 2.5)
                .max(pz - abdomen.diaphragm(p[0], p[1]) + 3.0)
                .max(-kidney.distance(p))
                + 2.5 * rows[0][i];
            *s = cover(d, canvas.edge) * (1.0 - canvas.lung[at * n + i]);
            let hu = abdomen.liver + 5.0 * rows[1][i];
            let there = &mut canvas.hu[at * n + i];
            *there += (hu - *there) * *s;
        }
    }
    gallbladder(abdomen, draw, canvas, &mut share, low);
    share
}

fn gallbladder(abdomen: &Abdomen, draw: &mut Draw, canvas: &mut Canvas, liver: &mut [f32], near: P3) {
    let centre =
        [near[0] + draw.range(4.0, 18.0), near[1] + draw.range(24.0, 36.0), near[2] - draw.range(16.0, 28.0)];
    let r = draw.range(11.0, 17.0);
    let shape = Ellipsoid::turned(centre, [r, r * 1.5, r * 1.4], 0.3, -0.5);
    let (bile, wall) = (draw.range(2.0, 18.0), abdomen.liver - 15.0);
    let there = draw.chance(0.85);
    let grid = canvas.grid.clone();
    grid.near(&shape, 3.0, |voxel, d, _| {
        if there {
            let (out, inner) = (canvas.cover(d - 1.2), canvas.cover(d));
            canvas.hu[voxel] += (wall - canvas.hu[voxel]) * out;
            canvas.hu[voxel] += (bile - canvas.hu[voxel]) * inner;
            liver[voxel] *= 1.0 - out;
        }
    });
}

/// Grows portal and hepatic veins through the liver.
pub(super) fn vessels(abdomen: &Abdomen, draw: &mut Draw, canvas: &mut Canvas, liver: &[f32]) {
    let mut voxels = Vec::new();
    for voxel in (0..liver.len()).step_by(3) {
        if liver[voxel] > 0.95 {
            voxels.push(voxel as u32);
        }
    }
    let z = abdomen.dome - 14.0;
    let cava = [24.0, abdomen.spine_y(z) + abdomen.vertebra[1] + 34.0, z];
    for (root, hu, count) in [(porta(abdomen), abdomen.portal, 60), (cava, abdomen.vein, 38)] {
        let growth = Growth { count, twig: draw.range(1.4, 1.9), balance: draw.range(0.35, 0.6) };
        let tree = grow(draw, canvas, &voxels, root, &growth);
        paint_tree(canvas, &tree, hu, liver);
    }
}

/// A vessel thinner than a voxel fills a share of it.
fn paint_tree(canvas: &mut Canvas, tree: &Tree, hu: f32, liver: &[f32]) {
    let edge = canvas.edge;
    for node in 1..tree.points.len() {
        let rod: Rod = tree.rod(node);
        canvas.near_rod(rod, edge, |c, v, d, r| {
            let share = cover(d, edge) * (2.4 * r * r / (edge * edge)).min(1.0) * liver[v];
            c.hu[v] += (hu - c.hu[v]) * share;
        });
    }
}
