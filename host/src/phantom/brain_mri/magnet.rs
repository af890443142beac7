//! From a painted head to what an MR scanner stores: inhomogeneous field, kernel, Rician noise, arbitrary units.

use super::super::draw::Draw;
use super::super::noise::Lattice;
use super::super::scanner::blur;
use super::head::Head;
use super::tissue::Picture;

/// One sequence (0 T1, 1 T2, 2 FLAIR) of the head, in units of its own, from 0.
pub(super) fn acquire(head: &Head, sequence: usize, draw: &mut Draw, picture: &Picture) -> Vec<i16> {
    let grid = &picture.grid;
    let tilt: [f32; 3] = std::array::from_fn(|_| draw.range(-0.16, 0.16));
    let bowl = draw.range(-0.22, 0.1);
    let waves = Lattice::new(draw, grid, 85.0);
    let ripple = draw.range(0.0, 0.1);
    let (plane, slice) = (draw.range(0.02, 0.16), draw.range(0.0, 0.12));
    let sigma = draw.range(9.0, 24.0);
    let scale = libm::expf(draw.range(-1.1, 1.4));
    let n = grid.shape[0];
    let (mut line, mut row) = (Vec::new(), vec![0.0f32; n]);
    let mut out: Vec<f32> = picture.values.iter().map(|v| v[sequence]).collect();
    for (at, values) in out.chunks_exact_mut(n).enumerate() {
        let (y, z) = (grid.at(1, at % grid.shape[1]), grid.at(2, at / grid.shape[1]));
        waves.row(grid, y, z, &mut line, &mut row);
        let (v, w) = (y / head.half[1], (z - head.centre) / 80.0);
        for (i, value) in values.iter_mut().enumerate() {
            let u = grid.at(0, i) / head.half[0];
            let field = 1.0
                + tilt[0] * u
                + tilt[1] * v
                + tilt[2] * w
                + bowl * (u * u + v * v + w * w - 1.0)
                + ripple * row[i];
            *value *= field.clamp(0.4, 1.8);
        }
    }
    blur(&mut out, grid.shape, plane, slice);
    // The magnitude of a complex signal with noise in both parts.
    out.iter()
        .map(|&s| {
            let (re, im) = (s + sigma * draw.bell(), sigma * draw.bell());
            ((re * re + im * im).sqrt() * scale + 0.5).floor().min(30_000.0) as i16
        })
        .collect()
}
