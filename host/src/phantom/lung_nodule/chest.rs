//! The measures of one chest: drawn once, then read by every organ.

use super::super::draw::Draw;
use super::super::grid::{Ellipsoid, Grid, P3};

/// Sizes in mm, positions in the phantom's mm, densities in HU. Drawn independently of the label.
pub(super) struct Chest {
    /// Half width and half depth of the torso, and its squareness (0 ellipse .. 1 squircle).
    pub(super) torso: [f32; 2],
    pub(super) squareness: f32,
    /// Half width and half depth of the thoracic cavity at its widest, and its centre's y.
    pub(super) cavity: [f32; 2],
    pub(super) cavity_y: f32,
    pub(super) fat: f32,
    /// Lowest point of the lungs and their height.
    pub(super) base: f32,
    pub(super) height: f32,
    /// Tops of the right and the left dome of the diaphragm.
    pub(super) dome: [f32; 2],
    pub(super) heart: Ellipsoid,
    /// Half width of the mediastinum in the middle.
    pub(super) mediastinum: f32,
    pub(super) carina: P3,
    /// Right and left hilum.
    pub(super) hila: [P3; 2],
    pub(super) aorta: f32,
    pub(super) kyphosis: f32,
    pub(super) vertebra: [f32; 2],
    pub(super) rib: f32,
    pub(super) bone: f32,
    pub(super) marrow: f32,
    pub(super) blood: f32,
    pub(super) muscle: f32,
    pub(super) liver: f32,
    pub(super) fat_hu: f32,
    pub(super) table: bool,
}

/// Size of a thoracic cross-section.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section {
    /// Semi-axes of the cavity and its centre's y; a semi-axis of 0: no cavity here.
    pub(super) cavity: [f32; 2],
    pub(super) cavity_y: f32,
    /// Semi-axes of the torso.
    pub(super) torso: [f32; 2],
    /// Centre of the vertebral body.
    pub(super) spine_y: f32,
}

impl Chest {
    pub(super) fn draw(d: &mut Draw) -> Self {
        let depth = d.range(104.0, 136.0);
        let width = depth * d.range(1.34, 1.5);
        let fat = d.range(5.0, 22.0);
        let cavity = [width - fat - d.range(22.0, 28.0), depth - 0.75 * fat - d.range(23.0, 28.0)];
        let cavity_y = d.range(6.0, 10.0);
        let base = d.range(10.0, 18.0);
        let height = d.range(185.0, 250.0);
        let right = base + height * d.range(0.20, 0.33);
        let left = right - d.range(4.0, 20.0);
        let size = d.range(0.88, 1.18);
        let radii = [58.0 * size, 40.0 * size, 45.0 * size * d.range(0.92, 1.1)];
        let centre = [
            -d.range(12.0, 24.0),
            cavity_y + cavity[1] * d.range(0.22, 0.34),
            left.max(base + 0.22 * height) + radii[2] * d.range(0.45, 0.6),
        ];
        let heart = Ellipsoid::turned(centre, radii, d.range(0.35, 0.75), d.range(-0.35, -0.1));
        let mediastinum = d.range(25.0, 33.0);
        let spine = cavity_y - cavity[1] + 8.0;
        let carina_z = (base + height * d.range(0.58, 0.65)).max(centre[2] + radii[2] * 0.75);
        let carina = [d.range(0.0, 6.0), spine + d.range(32.0, 38.0), carina_z];
        let reach = mediastinum + d.range(8.0, 14.0);
        let hila = [
            [reach, carina[1] - d.range(0.0, 6.0), carina_z - d.range(16.0, 24.0)],
            [-reach, carina[1] - d.range(0.0, 8.0), carina_z - d.range(10.0, 20.0)],
        ];
        let enhanced = d.chance(0.4);
        let boost = d.range(20.0, 120.0);
        Self {
            torso: [width, depth],
            squareness: d.range(0.05, 0.5),
            cavity,
            cavity_y,
            fat,
            base,
            height,
            dome: [right, left],
            heart,
            mediastinum,
            carina,
            hila,
            aorta: d.range(11.5, 17.0),
            kyphosis: d.range(2.0, 16.0),
            vertebra: [d.range(16.0, 20.0), d.range(13.0, 16.0)],
            rib: d.range(4.6, 6.2),
            bone: d.range(450.0, 850.0),
            marrow: d.range(90.0, 260.0),
            blood: d.range(32.0, 58.0) + if enhanced { boost } else { 0.0 },
            muscle: d.range(45.0, 62.0),
            liver: d.range(42.0, 64.0) + if enhanced { boost * 0.4 } else { 0.0 },
            fat_hu: d.range(-112.0, -92.0),
            table: d.chance(0.6),
        }
    }

    /// A grid that holds the chest, in-plane 1.3 to 2.2 mm, slices 1.5 to 3 mm.
    pub(super) fn grid(&self, d: &mut Draw) -> Grid {
        let margin = d.range(4.0, 18.0);
        let extent = [
            2.0 * (self.torso[0] + margin),
            2.0 * (self.torso[1] + margin),
            self.height + self.base + d.range(8.0, 22.0),
        ];
        let columns = d.range(168.0, 208.0);
        let slices = d.range(86.0, 122.0);
        let pixel = (extent[0] / columns).clamp(1.3, 2.2);
        let thick = (extent[2] / slices).clamp(1.5, 3.0);
        let spacing = [pixel, pixel, thick];
        let shape: [usize; 3] = std::array::from_fn(|i| (extent[i] / spacing[i]) as usize + 1);
        let origin = [
            -0.5 * (shape[0] - 1) as f32 * pixel + d.range(-3.0, 3.0),
            -0.5 * (shape[1] - 1) as f32 * pixel,
            0.0,
        ];
        Grid { shape, spacing, origin }
    }

    /// 0 at the lungs' base, 1 at their apex.
    pub(super) fn level(&self, z: f32) -> f32 {
        (z - self.base) / self.height
    }

    /// The cross-section at height `z`.
    pub(super) fn section(&self, z: f32) -> Section {
        let t = self.level(z);
        let u = ((t - 0.22) / 0.785).max(0.0);
        let s = if u >= 1.0 { 0.0 } else { (1.0 - u * u * (0.35 + 0.65 * u)).sqrt() };
        let top = t.clamp(0.0, 1.2);
        let shoulder = top * top;
        Section {
            cavity: if s == 0.0 {
                [0.0, 0.0]
            } else {
                [self.cavity[0] * (0.22 + 0.78 * s), self.cavity[1] * s]
            },
            cavity_y: self.cavity_y - (1.0 - s) * self.cavity[1] * 0.22,
            torso: [self.torso[0] * (1.0 - 0.06 * shoulder), self.torso[1] * (1.0 - 0.1 * shoulder)],
            spine_y: self.spine_y(t),
        }
    }

    /// The spine's curve.
    pub(super) fn spine_y(&self, t: f32) -> f32 {
        let v = t - 0.45;
        self.cavity_y - self.cavity[1] + 8.0 + self.kyphosis * v * v * 2.0
    }

    /// Height of the diaphragm over (x, y).
    pub(super) fn diaphragm(&self, x: f32, y: f32) -> f32 {
        let side = x.abs();
        // The right dome's height passes into the left one's across the midline.
        let share = ((x + 25.0) / 50.0).clamp(0.0, 1.0);
        let peak = self.dome[1] + (self.dome[0] - self.dome[1]) * share * share * (3.0 - 2.0 * share);
        let cx = 0.5 * self.cavity[0];
        // Towards the midline the dome stays high (central tendon); outwards it falls to the sulcus.
        let u = (side - cx) / (self.cavity[0] * if side < cx { 1.3 } else { 0.56 });
        let v = (y - self.cavity_y - 0.18 * self.cavity[1]) / self.cavity[1];
        let v = if v > 0.0 { v * 1.05 } else { v * 0.86 };
        self.base + (peak - self.base) * (1.0 - u * u - v * v)
    }

    /// A point on the wall of the cavity at angle `theta` (0 posterior, pi anterior), `out` mm outside it.
    pub(super) fn wall(&self, side: f32, theta: f32, z: f32, out: f32) -> P3 {
        let top = self.base + 0.95 * self.height;
        let section = self.section(z.min(top));
        let (s, c) = (libm::sinf(theta), -libm::cosf(theta));
        let (s2, c2) = (s * s, c * c);
        let k = self.squareness;
        let f = (1.0 - k) + k * (s2 * s2 + c2 * c2).sqrt().sqrt();
        [side * (section.cavity[0] + out) * s / f, section.cavity_y + (section.cavity[1] + out) * c / f, z]
    }
}
