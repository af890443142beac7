//! Stomach, small bowel and colon, with what is in them: fluid, food, stool, gas.

use super::super::draw::Draw;
use super::super::grid::{Canvas, Ellipsoid, P3};
use super::abdomen::Abdomen;

/// Paints the hollow organs; the solid ones come over them.
pub(super) fn paint(abdomen: &Abdomen, draw: &mut Draw, canvas: &mut Canvas) {
    loops(abdomen, draw, canvas);
    colon(abdomen, draw, canvas);
    stomach(abdomen, draw, canvas);
}

/// A loop: wall, content, and gas where the content's level is lower than its roof.
fn pouch(abdomen: &Abdomen, canvas: &mut Canvas, shape: &Ellipsoid, hu: [f32; 2], level: f32) {
    let inside = |p: P3| abdomen.cavity(p[0], p[1]) < -1.0;
    canvas.organ(shape, hu[0], inside);
    let hollow = Ellipsoid { radii: shape.radii.map(|r| r - 2.6), ..*shape };
    canvas.organ(&hollow, hu[1], inside);
    let top = shape.centre[1] + level * shape.radii[1];
    canvas.organ(&hollow, -920.0, |p| inside(p) && p[1] > top);
}

fn loops(abdomen: &Abdomen, draw: &mut Draw, canvas: &mut Canvas) {
    let [w, h] = abdomen.space();
    for _ in 0..26 + draw.below(22) {
        let r = draw.range(9.0, 15.0);
        let centre = [
            draw.range(-0.8, 0.75) * w,
            abdomen.space_y() + draw.range(-0.15, 0.8) * h,
            draw.range(-8.0, 0.42 * abdomen.height),
        ];
        let radii = [r * draw.range(1.0, 2.4), r, r * draw.range(0.9, 1.3)];
        let shape = Ellipsoid::turned(centre, radii, draw.range(0.0, 3.1), draw.range(-0.5, 0.5));
        let wall = abdomen.muscle + draw.range(15.0, 50.0);
        let level = if draw.chance(0.3) { draw.range(-0.3, 0.8) } else { 2.0 };
        pouch(abdomen, canvas, &shape, [wall, draw.range(10.0, 45.0)], level);
    }
}

fn colon(abdomen: &Abdomen, draw: &mut Draw, canvas: &mut Canvas) {
    let [w, h] = abdomen.space();
    let front = abdomen.space_y() + 0.62 * h;
    let high = 0.36 * abdomen.height;
    let course = |t: f32| -> P3 {
        let bend = libm::sinf(t * 3.1);
        if t < 0.3 {
            [0.84 * w, abdomen.space_y() - 0.2 * h + 1.6 * t * h, t / 0.3 * high]
        } else if t < 0.7 {
            let u = (t - 0.3) / 0.4;
            [0.84 * w - 1.66 * w * u, front + 0.05 * h * bend, high - 22.0 * bend + 34.0 * u]
        } else {
            let u = (t - 0.7) / 0.3;
            [-0.84 * w, front - 0.9 * h * u, (high + 34.0) * (1.0 - u)]
        }
    };
    let wall = abdomen.muscle + draw.range(5.0, 35.0);
    let gassy = draw.range(-0.6, 0.9);
    for bead in 0..34 {
        let r = draw.range(15.0, 23.0);
        let shape = Ellipsoid::upright(course(bead as f32 / 33.0), [r, r * 0.9, r]);
        let stool = draw.range(10.0, 80.0);
        pouch(abdomen, canvas, &shape, [wall, stool], gassy + draw.range(-0.5, 0.6));
    }
}

fn stomach(abdomen: &Abdomen, draw: &mut Draw, canvas: &mut Canvas) {
    let [w, h] = abdomen.space();
    let y = abdomen.space_y();
    let size = draw.range(0.75, 1.1);
    let high = abdomen.dome - 48.0;
    let parts = [
        ([-0.34 * w, y + 0.12 * h, high], [40.0, 36.0, 40.0]),
        ([-0.36 * w, y + 0.34 * h, high - 26.0], [36.0, 30.0, 36.0]),
        ([-0.16 * w, y + 0.46 * h, high - 50.0], [36.0, 24.0, 22.0]),
    ];
    let under = |p: P3| abdomen.cavity(p[0], p[1]) < -2.0 && p[2] < abdomen.diaphragm(p[0], p[1]) - 2.0;
    let shapes = parts.map(|(c, r)| Ellipsoid::turned(c, r.map(|v| v * size), 0.3, 0.1));
    let wall = abdomen.muscle + draw.range(15.0, 45.0);
    let content = draw.range(5.0, 60.0);
    let level = y + draw.range(0.1, 0.75) * h;
    for shape in &shapes {
        canvas.organ(shape, wall, under);
    }
    for shape in &shapes {
        let hollow = Ellipsoid { radii: shape.radii.map(|r| r - 4.0), ..*shape };
        canvas.organ(&hollow, content, under);
        canvas.organ(&hollow, -930.0, |p| under(p) && p[1] > level);
    }
}
