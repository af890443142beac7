//! The measures of one head: drawn once, then read by everything in it.

use super::super::draw::Draw;
use super::super::grid::{Grid, P3};
use super::tissue::Tissues;

/// Sizes in mm. `centre` is the height of the brain's middle, between the foramina of Monro.
pub(super) struct Head {
    /// Half width, half length, height above and below the middle.
    pub(super) half: [f32; 4],
    pub(super) centre: f32,
    pub(super) skull: f32,
    pub(super) scalp: f32,
    /// Half width of sulci, mm, and how deep they go.
    pub(super) sulcus: f32,
    pub(super) depth: f32,
    pub(super) cortex: f32,
    /// Size of the ventricles, 1 usual.
    pub(super) ventricles: f32,
    pub(super) tissues: Tissues,
}

/// 0 below 0, 1 above 1, smooth between.
pub(super) fn smooth(t: f32) -> f32 {
    let t = t.clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

fn between(a: f32, b: f32, share: f32) -> f32 {
    a + (b - a) * share
}

impl Head {
    pub(super) fn draw(d: &mut Draw) -> Self {
        let size = d.range(0.93, 1.06);
        let age = d.unit();
        Self {
            half: [
                size * d.range(64.0, 71.0),
                size * d.range(81.0, 89.0),
                size * d.range(61.0, 68.0),
                size * d.range(84.0, 92.0),
            ],
            centre: d.range(76.0, 86.0),
            skull: d.range(4.5, 8.0),
            scalp: d.range(4.0, 9.0),
            sulcus: 0.35 + 0.9 * age + d.range(0.0, 0.3),
            depth: d.range(13.0, 18.0),
            cortex: d.range(2.5, 3.2) - 0.3 * age,
            ventricles: 0.75 + 0.6 * age + d.range(0.0, 0.25),
            tissues: Tissues::draw(d),
        }
    }

    /// A grid that holds the head: in-plane 1 to 1.3 mm, slices 2.2 to 3 mm.
    pub(super) fn grid(&self, d: &mut Draw) -> Grid {
        let wall = 2.5 + self.skull + self.scalp;
        let side = 2.0 * (self.half[1] + wall + d.range(4.0, 14.0));
        let pixel = (side / d.range(176.0, 200.0)).clamp(1.0, 1.3);
        let thick = d.range(2.2, 3.0);
        let low = d.range(0.0, 14.0);
        let height = self.centre + self.half[2] + wall + d.range(2.0, 8.0) - low;
        let extent = [side - d.range(0.0, 25.0), side, height];
        let spacing = [pixel, pixel, thick];
        let shape: [usize; 3] = std::array::from_fn(|i| (extent[i] / spacing[i]) as usize + 1);
        let middle = |i: usize| -0.5 * (shape[i] - 1) as f32 * spacing[i];
        let origin = [middle(0) + d.range(-4.0, 4.0), middle(1) + d.range(-4.0, 4.0), low];
        Grid { shape, spacing, origin }
    }

    /// Signed distance in mm to an egg of half height `up` above its middle and `down` below, narrower in front.
    fn egg(&self, [x, y, z]: P3, up: f32, down: f32) -> f32 {
        let front = (y / self.half[1]).clamp(-1.0, 1.0);
        let w = if z > 0.0 { z / up } else { z / down };
        let (u, v) = (x / (self.half[0] * (1.0 - 0.1 * front)), y / self.half[1]);
        let (u2, v2, w2) = (u * u, v * v, w * w);
        let f = 0.65 * (u2 + v2 + w2).sqrt() + 0.35 * (u2 * u2 + v2 * v2 + w2 * w2).sqrt().sqrt();
        if f < 0.1 { -self.half[0] } else { (x * x + y * y + z * z).sqrt() * (1.0 - 1.0 / f) }
    }

    /// To the brain's hull; below, it is cut by the skull's base.
    pub(super) fn hull(&self, [x, y, z]: P3) -> f32 {
        self.egg([x, y, z - self.centre], self.half[2], self.half[3])
    }

    /// To the skin: the egg above, a tapering cylinder (face and neck) below.
    pub(super) fn skin(&self, [x, y, z]: P3) -> f32 {
        let below = (self.centre - 15.0 - z).max(0.0);
        let taper = smooth(below / 75.0);
        let wider = 1.0 / (1.0 - if y < 0.0 { 0.3 } else { 0.08 } * taper);
        let up = (z - self.centre).max(0.0);
        self.egg([x * (1.0 + 0.22 * taper), y * wider, up], self.half[2], self.half[3])
            - (2.5 + self.skull + self.scalp)
    }

    /// Height of the skull's base under (x, y): anterior, middle and posterior fossa.
    pub(super) fn floor(&self, x: f32, y: f32) -> f32 {
        let middle = between(-30.0, -47.0, smooth((x.abs() - 10.0) / 12.0));
        let back = between(middle, -70.0, smooth((-y - 6.0) / 14.0));
        self.centre + between(back, -25.0, smooth((y - 20.0) / 16.0))
    }

    /// To the inside of the skull.
    pub(super) fn cavity(&self, p: P3) -> f32 {
        (self.hull(p) - 2.5).max(self.floor(p[0], p[1]) - p[2])
    }

    /// To the cerebrum, whose lower face is the frontal and temporal lobes' and, behind, the tentorium.
    pub(super) fn cerebrum(&self, p: P3) -> f32 {
        let [x, y, z] = p;
        let side = x.abs();
        let middle = between(-28.0, -46.6, smooth((side - 11.0) / 12.0));
        let tent = between(-9.0, -21.0, smooth(side / 50.0));
        let back = between(middle, tent, smooth((-y - 14.0) / 18.0));
        let base = self.centre + between(back, -24.8, smooth((y - 20.0) / 14.0));
        self.hull(p).max(base - z)
    }
}
