//! The outline of a compact lesion: a sphere of the nominal volume, stretched and with shallow lobes.

use super::draw::Draw;
use super::grid::{P3, along, dot, length, unit};

/// A sphere of the nominal volume, stretched and with shallow lobes.
pub(super) struct Outline {
    axes: [P3; 3],
    stretch: P3,
    lobes: Vec<(P3, f32)>,
}

impl Outline {
    pub(super) fn draw(draw: &mut Draw) -> Self {
        let w = draw.direction();
        let other = if w[0].abs() < 0.7 { [1.0, 0.0, 0.0] } else { [0.0, 1.0, 0.0] };
        let u = unit(along(other, w, -dot(other, w)));
        let v = [w[1] * u[2] - w[2] * u[1], w[2] * u[0] - w[0] * u[2], w[0] * u[1] - w[1] * u[0]];
        let raw: P3 = [draw.range(0.88, 1.14), draw.range(0.88, 1.14), draw.range(0.88, 1.14)];
        let keep = libm::cbrtf(raw[0] * raw[1] * raw[2]);
        let lobes = (0..5).map(|_| (draw.direction(), draw.range(-0.1, 0.13))).collect();
        Self { axes: [u, v, w], stretch: raw.map(|s| s / keep), lobes }
    }

    /// Radius towards `direction` as a share of the nominal radius.
    pub(super) fn radius(&self, direction: P3) -> f32 {
        let q: P3 = std::array::from_fn(|i| dot(direction, self.axes[i]) / self.stretch[i]);
        let lobes: f32 = self
            .lobes
            .iter()
            .map(|(at, size)| {
                let c = dot(direction, *at).max(0.0);
                size * (c * c * c * c - 0.1)
            })
            .sum();
        (1.0 + lobes) / length(q)
    }
}
