//! The random numbers of a case: ChaCha20 streams keyed by a hash of (task, seed, index).
//!
//! This file makes uniform numbers from raw 32-bit integers and does not use a distribution of the `rand` crate, so
//! that a new version of that crate cannot change a case.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// What a stream of numbers is for. Each has its own ChaCha20 stream, so what one part of a case draws
/// never moves another part: above all, the anatomy is the same whatever the label.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stream {
    Label = 0,
    Anatomy = 1,
    Texture = 2,
    Vessels = 3,
    Findings = 4,
    Lesions = 5,
    Scanner = 6,
    Noise = 7,
    /// Which sequence a case lacks.
    Missing = 8,
    /// Whether a case comes with its mask.
    Mask = 9,
}

/// The key of case `index` of `seed`.
pub(super) fn case_key(task: &str, seed: u64, index: u64) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"anymc3d phantom\0");
    hash.update(task.as_bytes());
    hash.update([0]);
    hash.update(seed.to_le_bytes());
    hash.update(index.to_le_bytes());
    hash.finalize().into()
}

/// A stream of numbers.
pub(super) struct Draw(ChaCha20Rng);

impl Draw {
    pub(super) fn new(key: [u8; 32], stream: Stream) -> Self {
        let mut rng = ChaCha20Rng::from_seed(key);
        rng.set_stream(stream as u64);
        Self(rng)
    }

    /// Uniform in [0, 1), 24 bits.
    pub(super) fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / 16_777_216.0
    }

    /// Uniform in [low, high).
    pub(super) fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Uniform in [-1, 1).
    pub(super) fn signed(&mut self) -> f32 {
        self.unit() * 2.0 - 1.0
    }

    /// True with probability `p`.
    pub(super) fn chance(&mut self, p: f32) -> bool {
        self.unit() < p
    }

    /// Uniform in 0..n.
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.0.next_u32()) * n as u64) >> 32) as usize
    }

    /// Mean 0, standard deviation 1, bounded by 3.46: the sum of four uniforms (Irwin-Hall), which one
    /// word gives; a normal's tails are not worth its cost per voxel.
    pub(super) fn bell(&mut self) -> f32 {
        let word = self.0.next_u64();
        let sum = (word & 0xffff) + ((word >> 16) & 0xffff) + ((word >> 32) & 0xffff) + (word >> 48);
        (sum as f32 - 131_070.0) / 37_837.2
    }

    /// Uniform on the unit sphere.
    pub(super) fn direction(&mut self) -> [f32; 3] {
        loop {
            let v = [self.signed(), self.signed(), self.signed()];
            let n2 = v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
            if (0.01..=1.0).contains(&n2) {
                let n = n2.sqrt();
                return [v[0] / n, v[1] / n, v[2] / n];
            }
        }
    }
}
