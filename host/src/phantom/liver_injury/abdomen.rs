//! The measures of one abdomen: drawn once, then read by every organ.

use super::super::draw::Draw;
use super::super::grid::{Grid, P3, oval};

/// Sizes in mm, positions in the phantom's mm, densities in HU. Drawn independently of the label.
pub(super) struct Abdomen {
    /// Half width and half depth of the torso, and its squareness (0 ellipse .. 1 squircle).
    pub(super) torso: [f32; 2],
    pub(super) squareness: f32,
    pub(super) fat: f32,
    pub(super) wall: f32,
    pub(super) height: f32,
    /// Top of the right dome of the diaphragm; the left one is lower.
    pub(super) dome: f32,
    pub(super) vertebra: [f32; 2],
    pub(super) fat_hu: f32,
    pub(super) muscle: f32,
    /// Enhanced parenchyma.
    pub(super) liver: f32,
    pub(super) spleen: f32,
    pub(super) cortex: f32,
    pub(super) medulla: f32,
    pub(super) artery: f32,
    pub(super) portal: f32,
    /// Hepatic veins: below the liver in early phases.
    pub(super) vein: f32,
    pub(super) bone: f32,
    pub(super) marrow: f32,
}

impl Abdomen {
    pub(super) fn draw(d: &mut Draw) -> Self {
        let depth = d.range(108.0, 134.0);
        let width = depth * d.range(1.3, 1.48);
        let height = d.range(150.0, 172.0);
        let early = d.chance(0.3);
        let liver = if early { d.range(72.0, 92.0) } else { d.range(95.0, 125.0) };
        let artery = if early { d.range(220.0, 330.0) } else { d.range(135.0, 180.0) };
        let portal = if early { liver + d.range(15.0, 50.0) } else { d.range(145.0, 185.0) };
        let vein = if early { liver - d.range(4.0, 14.0) } else { portal - d.range(5.0, 25.0) };
        let cortex = if early { d.range(150.0, 200.0) } else { d.range(165.0, 205.0) };
        Self {
            torso: [width, depth],
            squareness: d.range(0.15, 0.6),
            fat: d.range(8.0, 26.0),
            wall: d.range(11.0, 16.0),
            height,
            dome: height - d.range(6.0, 26.0),
            vertebra: [d.range(19.0, 23.0), d.range(15.0, 18.0)],
            fat_hu: d.range(-112.0, -95.0),
            muscle: d.range(52.0, 68.0),
            liver,
            spleen: liver + if early { d.range(25.0, 50.0) } else { d.range(5.0, 22.0) },
            cortex,
            medulla: if early { d.range(70.0, 100.0) } else { cortex - d.range(5.0, 25.0) },
            artery,
            portal,
            vein,
            bone: d.range(420.0, 750.0),
            marrow: d.range(130.0, 250.0),
        }
    }

    /// A grid that holds it, in-plane 1.3 to 1.8 mm, slices 2.4 to 3.2 mm.
    pub(super) fn grid(&self, d: &mut Draw) -> Grid {
        let margin = d.range(4.0, 16.0);
        let extent = [2.0 * (self.torso[0] + margin), 2.0 * (self.torso[1] + margin), self.height];
        let pixel = (extent[0] / d.range(210.0, 250.0)).clamp(1.3, 1.8);
        let spacing = [pixel, pixel, d.range(2.4, 3.2)];
        let shape: [usize; 3] = std::array::from_fn(|i| (extent[i] / spacing[i]) as usize + 1);
        let origin = [
            -0.5 * (shape[0] - 1) as f32 * pixel + d.range(-3.0, 3.0),
            -0.5 * (shape[1] - 1) as f32 * pixel,
            0.0,
        ];
        Grid { shape, spacing, origin }
    }

    /// Half width and half depth of the space inside muscle and fat.
    pub(super) fn space(&self) -> [f32; 2] {
        let layers = self.fat + self.wall;
        [self.torso[0] - layers, self.torso[1] - 0.8 * self.fat - self.wall]
    }

    /// Signed distance in mm to that space.
    pub(super) fn cavity(&self, x: f32, y: f32) -> f32 {
        oval(x, y - self.space_y(), self.space(), self.squareness)
    }

    /// Its centre's y: the back has more muscle than the front.
    pub(super) fn space_y(&self) -> f32 {
        4.0
    }

    /// Height of the diaphragm over (x, y).
    pub(super) fn diaphragm(&self, x: f32, y: f32) -> f32 {
        let [w, h] = self.space();
        let share = ((x + 30.0) / 60.0).clamp(0.0, 1.0);
        let peak = self.dome - 18.0 * (1.0 - share * share * (3.0 - 2.0 * share));
        let centre = if x > 0.0 { 0.4 * w } else { -0.42 * w };
        let u = (x - centre) / (0.62 * w);
        let u = if x.abs() < centre.abs() { 0.35 * u } else { u };
        let v = (y - self.space_y() - 0.2 * h) / h;
        peak - 95.0 * (u * u * u * u * 0.6 + 0.35 * u * u + v * v * 0.55)
    }

    /// Centre's y of a vertebral body.
    pub(super) fn spine_y(&self, z: f32) -> f32 {
        let t = z / self.height - 0.3;
        self.space_y() - self.space()[1] + 13.0 + 14.0 * (0.5 - t * t)
    }

    /// A point at `theta` (0 posterior, pi anterior) on the wall of one side, `out` mm outside the space.
    pub(super) fn on_wall(&self, side: f32, theta: f32, z: f32, out: f32) -> P3 {
        let (s, c) = (libm::sinf(theta), -libm::cosf(theta));
        let (s2, c2) = (s * s, c * c);
        let k = self.squareness;
        let f = (1.0 - k) + k * (s2 * s2 + c2 * c2).sqrt().sqrt();
        let [w, h] = self.space();
        [side * (w + out) * s / f, self.space_y() + (h + out) * c / f, z]
    }
}
