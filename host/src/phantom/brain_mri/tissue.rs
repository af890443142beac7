//! What tissues signal in T1, T2 and FLAIR, and the picture that all three are painted on at once.

use super::super::draw::Draw;
use super::super::grid::{Grid, cover};

/// T1, T2, FLAIR; white matter is about 600, 330, 400.
pub(super) type Signal = [f32; 3];

/// The tissues of one head: textbook values, each off by a few percent in each sequence.
pub(super) struct Tissues {
    pub(super) white: Signal,
    pub(super) grey: Signal,
    pub(super) fluid: Signal,
    pub(super) fat: Signal,
    pub(super) muscle: Signal,
    pub(super) skin: Signal,
    pub(super) bone: Signal,
    pub(super) marrow: Signal,
    pub(super) eye: Signal,
}

impl Tissues {
    pub(super) fn draw(d: &mut Draw) -> Self {
        let mut near = |s: Signal| s.map(|v| v * d.range(0.94, 1.06));
        Self {
            white: near([600.0, 330.0, 400.0]),
            grey: near([465.0, 455.0, 500.0]),
            fluid: near([150.0, 950.0, 95.0]),
            fat: near([880.0, 620.0, 560.0]),
            muscle: near([360.0, 170.0, 210.0]),
            skin: near([430.0, 300.0, 300.0]),
            bone: near([60.0, 45.0, 45.0]),
            marrow: near([430.0, 300.0, 260.0]),
            eye: near([170.0, 930.0, 110.0]),
        }
    }
}

/// The picture in work.
pub(super) struct Picture {
    pub(super) grid: Grid,
    pub(super) edge: f32,
    pub(super) values: Vec<Signal>,
    /// How much of each voxel is the cerebrum's grey or white matter, 0..1: where lesions can be.
    pub(super) tissue: Vec<f32>,
}

impl Picture {
    pub(super) fn new(grid: Grid) -> Self {
        let (edge, n) = (grid.edge(), grid.len());
        Self { grid, edge, values: vec![[0.0; 3]; n], tissue: vec![0.0; n] }
    }

    pub(super) fn cover(&self, d: f32) -> f32 {
        cover(d, self.edge)
    }

    /// Replaces a share of a voxel; what is painted is not the cerebrum's.
    pub(super) fn blend(&mut self, voxel: usize, share: f32, signal: Signal) {
        mix(&mut self.values[voxel], share, signal);
        self.tissue[voxel] *= 1.0 - share;
    }
}

/// `share` of `signal` into what is there.
pub(super) fn mix(there: &mut Signal, share: f32, signal: Signal) {
    for (value, s) in there.iter_mut().zip(signal) {
        *value += (s - *value) * share;
    }
}
