//! Rotary positions of q and k, in place, between the projections and the scores.

use super::{Isa, per_isa};

/// The rotations of one grid's patches.
pub(crate) struct Turns {
    /// Tokens before the patches, which are not rotated.
    pub leading: usize,
    /// Width of a head.
    pub head: usize,
    /// [h·w, head / 2]: the halves of a head turn by the same angles.
    pub cos: Vec<f32>,
    /// [h·w, head / 2]
    pub sin: Vec<f32>,
}

impl Turns {
    /// Those of some patches, in this order.
    pub fn of_patches(&self, patches: &[u32]) -> Self {
        let half = self.head / 2;
        let of =
            |all: &[f32]| patches.iter().flat_map(|&i| &all[i as usize * half..][..half]).copied().collect();
        Self { leading: self.leading, head: self.head, cos: of(&self.cos), sin: of(&self.sin) }
    }

    /// Rotates q and k of `qkv` [T, 3d].
    pub fn forward(&self, isa: Isa, qkv: &mut [f32], width: usize) {
        self.by(isa, qkv, width, 1.0);
    }

    /// Rotates the gradients of q and k back.
    pub fn backward(&self, isa: Isa, qkv: &mut [f32], width: usize) {
        self.by(isa, qkv, width, -1.0);
    }

    fn by(&self, isa: Isa, qkv: &mut [f32], width: usize, direction: f32) {
        let patches = &mut qkv[self.leading * 3 * width..];
        assert!(
            patches.len() / (3 * width) * self.head / 2 == self.cos.len() && self.cos.len() == self.sin.len(),
            "the rotations are of another grid"
        );
        rotate(isa, patches, width, self.head, &self.cos, &self.sin, direction);
    }
}

#[inline(always)]
fn rotate_body(rows: &mut [f32], width: usize, head: usize, cos: &[f32], sin: &[f32], direction: f32) {
    let half = head / 2;
    let angles = cos.chunks_exact(half).zip(sin.chunks_exact(half));
    for (row, (cos, sin)) in rows.chunks_exact_mut(3 * width).zip(angles) {
        for head in row[..2 * width].chunks_exact_mut(head) {
            let (first, second) = head.split_at_mut(half);
            for i in 0..half {
                let (a, b, s) = (first[i], second[i], sin[i] * direction);
                first[i] = a * cos[i] - b * s;
                second[i] = b * cos[i] + a * s;
            }
        }
    }
}

per_isa! {
    fn rotate(rows: &mut [f32], width: usize, head: usize, cos: &[f32], sin: &[f32], direction: f32) = rotate_body;
}
