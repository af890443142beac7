//! A right-hand side at the width of the file it was read from: 16-bit numbers, widened panel by panel as they are multiplied with.
//!
//! Widening is exact, and a layer scale is multiplied in afterwards as it would have been before packing, so a product has the bits
//! that it has with 32-bit numbers. It costs one pass over a panel per product, a few hundredths of it: worth it where the weights
//! would otherwise take twice the memory of a large model's file.

use super::numbers::{Numbers, Plain};
use super::panels::{LINE, Panels};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Panels as `packing` lays them out.
pub(super) struct Halves {
    k: usize,
    n: usize,
    panels: Panels,
    bits: Bits,
    /// Of each column; none where all are 1.
    scale: Option<Vec<f32>>,
}

pub(crate) enum Bits {
    F16(Numbers<f16>),
    Bf16(Numbers<bf16>),
}

/// A 16-bit number.
pub(crate) trait Half: Plain {
    /// Numbers of this type.
    fn bits(numbers: Numbers<Self>) -> Bits;
}

impl Half for f16 {
    fn bits(numbers: Numbers<Self>) -> Bits {
        Bits::F16(numbers)
    }
}

impl Half for bf16 {
    fn bits(numbers: Numbers<Self>) -> Bits {
        Bits::Bf16(numbers)
    }
}

/// Rows of `turned` [n, k] as panels of B [k, n].
fn pack<H: Half>(panels: Panels, turned: &[H], k: usize, n: usize) -> Numbers<H> {
    const SIDE: usize = LINE;
    let mut data = Numbers::zeros(k * n.div_ceil(LINE) * LINE);
    for first in (0..n).step_by(panels.step()) {
        let (columns, width) = panels.at(n, first);
        let to = &mut data[first * k..(first + width) * k];
        // In squares whose lines stay in the cache.
        for top in (0..k).step_by(SIDE) {
            let rows = SIDE.min(k - top);
            for j in 0..columns {
                for (i, x) in turned[(first + j) * k + top..][..rows].iter().enumerate() {
                    to[(top + i) * width + j] = *x;
                }
            }
        }
    }
    data
}

impl Halves {
    /// Packs B [k, n] from its transpose [n, k], whose rows are then scaled.
    pub fn new<H: Half>(panels: Panels, turned: &[H], k: usize, n: usize, scale: Option<&[f32]>) -> Self {
        assert!(turned.len() == k * n && scale.is_none_or(|s| s.len() == n), "B is of another size");
        let bits = H::bits(pack(panels, turned, k, n));
        Self { k, n, panels, bits, scale: scale.map(<[f32]>::to_vec) }
    }

    /// The panel that begins at column `first`, as 32-bit numbers: k rows of its width, in lines as a tile loads them.
    pub fn widen(&self, first: usize, into: &mut Numbers<f32>) {
        let (columns, width) = self.panels.at(self.n, first);
        let at = first * self.k..(first + width) * self.k;
        *into = std::mem::take(into).reused(at.len());
        match &self.bits {
            Bits::F16(all) => all[at].convert_to_f32_slice(into),
            Bits::Bf16(all) => all[at].convert_to_f32_slice(into),
        }
        let Some(scale) = &self.scale else { return };
        let scale = &scale[first..first + columns];
        for row in into.chunks_exact_mut(width) {
            row[..columns].iter_mut().zip(scale).for_each(|(x, s)| *x *= s);
        }
    }

    /// Of memory.
    pub fn bytes(&self) -> usize {
        let numbers = match &self.bits {
            Bits::F16(all) => all.bytes(),
            Bits::Bf16(all) => all.bytes(),
        };
        numbers + self.scale.as_ref().map_or(0, |s| 4 * s.len())
    }
}
