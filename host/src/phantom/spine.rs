//! The spine: vertebral bodies and discs around a cord, with their arches and processes; and what any bone is
//! made of.

use super::draw::Draw;
use super::grid::{Canvas, P3};

/// What bones are made of, HU.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bone {
    pub(super) cortex: f32,
    pub(super) marrow: f32,
}

impl Bone {
    /// A bone along a chain of balls: cortex, `thick` mm of it, around marrow.
    pub(super) fn paint(self, canvas: &mut Canvas, points: &[(P3, f32)], thick: f32) {
        canvas.tube(points, self.cortex);
        let inner: Vec<(P3, f32)> = points.iter().map(|&(p, r)| (p, (r - thick).max(0.3))).collect();
        canvas.tube(&inner, self.marrow);
    }
}

/// Where the spine runs and how large it is, mm.
pub(super) struct Spine<Y: Fn(f32) -> f32, B: Fn(f32) -> f32> {
    /// Half width and half depth of a vertebral body.
    pub(super) body: [f32; 2],
    /// Centre's y of the body at height z.
    pub(super) y: Y,
    /// How far behind the origin the skin lies at height z.
    pub(super) back: B,
    pub(super) bone: Bone,
}

impl<Y: Fn(f32) -> f32, B: Fn(f32) -> f32> Spine<Y, B> {
    /// Paints it over the whole height of the canvas.
    pub(super) fn paint(&self, draw: &mut Draw, canvas: &mut Canvas) {
        let bone = self.bone;
        let height = draw.range(21.0, 25.0);
        let disc = draw.range(4.0, 6.5);
        let [rx, ry] = self.body;
        let grid = canvas.grid.clone();
        let top = grid.at(2, grid.shape[2] - 1);
        let low = [-rx - 6.0, -400.0, -5.0];
        let high = [rx + 6.0, 400.0, top + 5.0];
        let phase = draw.range(0.0, height);
        grid.in_box(low, high, |voxel, [x, y, z]| {
            let v = y - (self.y)(z);
            if v.abs() > ry + 4.0 {
                return;
            }
            let turn = (z + phase) / height;
            let within = (turn - turn.floor()) * height;
            let to_disc = (within - 0.5 * disc).min(height - 0.5 * disc - within);
            let waist = 1.0 - 0.06 * (to_disc * 0.3).clamp(0.0, 1.0);
            let r = ((x / (rx * waist)) * (x / (rx * waist)) + (v / ry) * (v / ry)).sqrt();
            let d = (r - 1.0) * ry;
            let c = canvas.cover(d);
            if c > 0.0 {
                let shell = if to_disc < 0.0 {
                    85.0
                } else {
                    let rim = (-d).min(to_disc);
                    bone.marrow + (bone.cortex - bone.marrow) * (1.4 - rim * 0.7).clamp(0.0, 1.0)
                };
                canvas.hu[voxel] += (shell - canvas.hu[voxel]) * c;
                canvas.lung[voxel] *= 1.0 - c;
            }
        });
        let mut z = 0.5 * height - phase;
        while z < top + height {
            let y = (self.y)(z) - ry;
            // Nothing comes through the skin of a thin back.
            let back = 9.0 - (self.back)(z);
            let at = |x: f32, behind: f32, up: f32| [x, (y - behind).max(back), z + up];
            for side in [-1.0, 1.0] {
                // Pedicle, lamina and transverse process close the ring around the canal.
                let ring = [
                    (at(side * 12.0, -2.0, 2.0), 4.2),
                    (at(side * 13.0, 12.0, 0.0), 4.2),
                    (at(side, 21.0, -6.0), 3.6),
                ];
                bone.paint(canvas, &ring, 1.4);
                let transverse = [(at(side * 12.0, 9.0, 0.0), 4.4), (at(side * 31.0, 17.0, 3.0), 3.6)];
                bone.paint(canvas, &transverse, 1.4);
            }
            bone.paint(canvas, &[(at(0.0, 20.0, -5.0), 3.6), (at(0.0, 36.0, -18.0), 3.0)], 1.2);
            z += height;
        }
        let cord: Vec<(P3, f32)> = (0..=24)
            .map(|i| {
                let z = top * i as f32 / 24.0;
                ([0.0, (self.y)(z) - ry - 9.0, z], 7.0)
            })
            .collect();
        canvas.tube(&cord, 22.0);
    }
}
