//! Spine, ribs with their cartilages, sternum, clavicles and shoulder blades.

use super::super::draw::Draw;
use super::super::grid::{Canvas, Ellipsoid, P3, Rod, oval};
use super::super::spine::{Bone, Spine};
use super::chest::Chest;

/// Angle of the breastbone on the wall, a hair short of the midline.
#[expect(clippy::approx_constant, reason = "not pi, and the frozen digests rest on it")]
const FRONT: f32 = 3.14;

/// A bone of this chest.
fn bone(canvas: &mut Canvas, chest: &Chest, points: &[(P3, f32)], cortex: f32) {
    Bone { cortex: chest.bone, marrow: chest.marrow }.paint(canvas, points, cortex);
}

/// Paints the skeleton of the chest.
pub(super) fn paint(chest: &Chest, draw: &mut Draw, canvas: &mut Canvas) {
    ribs(chest, draw, canvas);
    let spine = Spine {
        body: chest.vertebra,
        y: |z| chest.spine_y(chest.level(z)),
        back: |z| chest.section(z).torso[1],
        bone: Bone { cortex: chest.bone, marrow: chest.marrow },
    };
    spine.paint(draw, canvas);
    front(chest, draw, canvas);
    for side in [-1.0, 1.0] {
        scapula(chest, draw, canvas, side);
    }
}

fn ribs(chest: &Chest, draw: &mut Draw, canvas: &mut Canvas) {
    let gap = chest.height / draw.range(8.6, 9.8);
    let slope = draw.range(0.24, 0.36) * chest.height;
    let top = chest.base + 0.98 * chest.height;
    for pair in 0..12 {
        let level = 1.0 - pair as f32 / 11.0;
        let z0 = top - pair as f32 * gap + draw.range(-2.0, 2.0);
        let drop = slope * (1.15 - 0.65 * level);
        let bony = if pair > 9 { 1.6 } else { 2.25 + 0.1 * level };
        let last = if pair < 7 { 2.95 } else { bony };
        for side in [-1.0f32, 1.0] {
            let steps = 34;
            let mut bony_points = Vec::new();
            let mut soft_points = Vec::new();
            for step in 0..=steps {
                let theta = 0.2 + (last - 0.2) * step as f32 / steps as f32;
                let bend = theta.min(2.4);
                let fall = 0.25 * (1.0 - libm::cosf(bend)) + 0.5 * (bend - 0.2) / 2.2;
                let rise = (theta - 2.35).max(0.0) * 14.0;
                let z = z0 - drop * fall + rise;
                let p = chest.wall(side, theta, z, 5.5);
                if theta <= bony {
                    bony_points.push((p, chest.rib * if step < 3 { 0.85 } else { 1.0 }));
                } else {
                    soft_points.push((p, chest.rib * 0.95));
                }
            }
            canvas.tube(&soft_points, 110.0);
            bone(canvas, chest, &bony_points, 1.5);
        }
    }
}

/// Sternum and clavicles.
fn front(chest: &Chest, draw: &mut Draw, canvas: &mut Canvas) {
    let (low, high) = (draw.range(0.34, 0.42), draw.range(0.8, 0.86));
    let half = draw.range(9.0, 13.0);
    let place = |level: f32, x: f32| {
        let p = chest.wall(1.0, FRONT, chest.base + level * chest.height, 6.0);
        [x, p[1], p[2]]
    };
    for layer in 0..2 {
        for x in [-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0].map(|share| share * half) {
            let points: Vec<(P3, f32)> = (0..=12)
                .map(|i| {
                    let level = low + (high - low) * i as f32 / 12.0;
                    let wide = 1.0 + 0.8 * ((level - high + 0.12) * 12.0).clamp(0.0, 1.0);
                    (place(level, x * wide), if layer == 0 { 5.2 } else { 3.8 })
                })
                .collect();
            canvas.tube(&points, if layer == 0 { chest.bone * 0.8 } else { chest.marrow });
        }
    }
    let head = place(high + 0.01, 0.0);
    for side in [-1.0, 1.0] {
        let a = [side * 24.0, head[1] - 2.0, head[2] + 4.0];
        let b = [side * 70.0, head[1] - 18.0, head[2] + 26.0];
        let c = [side * 125.0, head[1] - 52.0, head[2] + 34.0];
        bone(canvas, chest, &[(a, 7.5), (b, 5.5), (c, 5.5)], 1.8);
    }
}

/// A thin plate behind the upper ribs, with muscle before and behind it, and its spine.
fn scapula(chest: &Chest, draw: &mut Draw, canvas: &mut Canvas, side: f32) {
    let out = draw.range(17.0, 21.0);
    let level = |l: f32| chest.base + l * chest.height;
    let tip = chest.wall(side, 0.95, level(0.5), out);
    let plate = Ellipsoid::upright([tip[0], tip[1], level(0.72)], [26.0, 9.0, 0.26 * chest.height]);
    let torso = chest.section(level(0.72)).torso;
    let muscle = chest.muscle;
    let square = chest.squareness;
    let fat = chest.fat;
    canvas.organ(&plate, muscle, |p| oval(p[0], p[1], torso, square) < -fat);
    for i in 0..16 {
        let theta = 0.7 + 0.035 * i as f32;
        let a = chest.wall(side, theta, level(0.9 - 0.004 * i as f32), out);
        let low = [tip[0], tip[1], tip[2]];
        canvas.rod(Rod { a, b: low, ra: 1.4, rb: 2.2 }, chest.bone);
    }
    let ridge = chest.wall(side, 0.75, level(0.86), out + 2.0);
    let shoulder = chest.wall(side, 1.3, level(0.96), out + 8.0);
    bone(canvas, chest, &[(ridge, 2.5), (shoulder, 5.0)], 1.4);
}
