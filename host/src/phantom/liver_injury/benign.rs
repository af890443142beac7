//! What darkens a liver without harm, in cases of either label: fissures, cysts, patches of fat.

use super::super::draw::Draw;
use super::super::grid::{Canvas, Ellipsoid, P3, dot, sub, unit};
use super::abdomen::Abdomen;

/// Paints them; what is a cyst or a fissure is no longer liver in `liver`.
pub(super) fn paint(abdomen: &Abdomen, draw: &mut Draw, canvas: &mut Canvas, liver: &mut [f32]) {
    ligament(abdomen, draw, canvas, liver);
    for _ in 0..draw.below(3) {
        slip(abdomen, draw, canvas, liver);
    }
    if draw.chance(0.35) {
        fat_patch(draw, canvas, liver);
    }
    if draw.chance(0.45) {
        for _ in 0..1 + draw.below(3) {
            cyst(draw, canvas, liver);
        }
    }
}

/// A random point inside the organ; none after many misses.
pub(super) fn organ_point(draw: &mut Draw, canvas: &Canvas, organ: &[f32]) -> Option<P3> {
    for _ in 0..20_000 {
        let voxel = draw.below(organ.len());
        if organ[voxel] > 0.95 {
            return Some(canvas.grid.centre_of(voxel));
        }
    }
    None
}

/// A smooth, straight cleft: a plate of `radii` (its first axis the thin one).
fn cleft(canvas: &mut Canvas, liver: &mut [f32], shape: &Ellipsoid, hu: f32) {
    let grid = canvas.grid.clone();
    let thin = shape.radii[0];
    let reach = shape.radii[1].max(shape.radii[2]) + 2.0;
    grid.in_box(shape.centre.map(|c| c - reach), shape.centre.map(|c| c + reach), |voxel, p| {
        let v = sub(p, shape.centre);
        let q: P3 = std::array::from_fn(|i| dot(v, shape.axes[i]));
        let (a, b) = (q[1] / shape.radii[1], q[2] / shape.radii[2]);
        let fade = 1.0 - a * a - b * b;
        if fade > 0.0 {
            let share = canvas.cover(q[0].abs() - thin * fade.sqrt()) * liver[voxel];
            canvas.hu[voxel] += (hu - canvas.hu[voxel]) * share;
            liver[voxel] *= 1.0 - share;
        }
    });
}

/// The fissure between the lobes, with the fat of the round ligament.
fn ligament(abdomen: &Abdomen, draw: &mut Draw, canvas: &mut Canvas, liver: &mut [f32]) {
    let [_, h] = abdomen.space();
    let centre = [draw.range(2.0, 16.0), abdomen.space_y() + 0.62 * h, abdomen.dome - draw.range(50.0, 66.0)];
    let radii = [draw.range(1.4, 3.2), draw.range(22.0, 36.0), draw.range(20.0, 36.0)];
    let shape = Ellipsoid::turned(centre, radii, draw.range(-0.3, 0.3), draw.range(-0.2, 0.2));
    cleft(canvas, liver, &shape, draw.range(-70.0, 15.0));
}

/// An accessory fissure: a slip of the diaphragm presses in from the dome.
fn slip(abdomen: &Abdomen, draw: &mut Draw, canvas: &mut Canvas, liver: &mut [f32]) {
    let [w, h] = abdomen.space();
    let (x, y) = (draw.range(0.3, 0.9) * w, abdomen.space_y() + draw.range(-0.5, 0.7) * h);
    let centre = [x, y, abdomen.diaphragm(x, y) - 4.0];
    let radii = [draw.range(0.8, 1.8), draw.range(14.0, 30.0), draw.range(10.0, 22.0)];
    let shape = Ellipsoid::turned(centre, radii, draw.range(0.0, 3.1), 0.0);
    cleft(canvas, liver, &shape, draw.range(-30.0, 40.0));
}

/// A faint dark patch without an edge.
fn fat_patch(draw: &mut Draw, canvas: &mut Canvas, liver: &[f32]) {
    let radii = [draw.range(14.0, 28.0), draw.range(12.0, 24.0), draw.range(12.0, 24.0)];
    let (drop, yaw) = (draw.range(6.0, 16.0), draw.range(0.0, 3.1));
    let Some(centre) = organ_point(draw, canvas, liver) else { return };
    let shape = Ellipsoid::turned(centre, radii, yaw, 0.0);
    let grid = canvas.grid.clone();
    grid.near(&shape, 0.0, |voxel, _, p| {
        let v = sub(p, centre);
        let q: P3 = std::array::from_fn(|i| dot(v, shape.axes[i]) / shape.radii[i]);
        let fade = (1.0 - dot(q, q)).max(0.0);
        canvas.hu[voxel] -= drop * fade * liver[voxel];
    });
}

/// Round, even, water.
fn cyst(draw: &mut Draw, canvas: &mut Canvas, liver: &mut [f32]) {
    let (r, hu) = (draw.range(3.5, 13.0), draw.range(-3.0, 12.0));
    let Some(centre) = organ_point(draw, canvas, liver) else { return };
    let stretch = unit(draw.direction());
    let radii: P3 = std::array::from_fn(|i| r * (1.0 + 0.08 * stretch[i]));
    let grid = canvas.grid.clone();
    grid.near(&Ellipsoid::upright(centre, radii), 2.0, |voxel, d, _| {
        let share = canvas.cover(d) * liver[voxel];
        canvas.hu[voxel] += (hu - canvas.hu[voxel]) * share;
        liver[voxel] *= 1.0 - share;
    });
}
