//! Numbers rounded to bf16, two to a 32-bit pair: what a product with bf16 inputs reads. On AVX512-BF16 by the processor's
//! own instruction, which takes a denormal for zero, as its product does.

use super::math::round_bits;
use super::{Isa, Set};

/// Two numbers to a pair, the first in the low half; the last pair's second is 0 where they are odd.
pub(crate) fn round_pairs(isa: Isa, from: &[f32], to: &mut [u32]) {
    assert!(to.len() == from.len().div_ceil(2), "pairs were given another length");
    #[cfg(target_arch = "x86_64")]
    if isa.0 == Set::Avx512Bf16 {
        // SAFETY: the `Isa` proves the instruction set.
        return unsafe { x86::pairs(from, to) };
    }
    let (pairs, rest) = from.as_chunks::<2>();
    for (pair, to) in pairs.iter().zip(&mut *to) {
        *to = round_bits(pair[0]) >> 16 | round_bits(pair[1]);
    }
    if let ([last], Some(to)) = (rest, to.last_mut()) {
        *to = round_bits(*last) >> 16;
    }
}

/// Pairs of what lies in two rows below each other; without a second row its numbers are 0.
pub(crate) fn round_rows(isa: Isa, low: &[f32], high: &[f32], to: &mut [u32]) {
    assert!(
        to.len() == low.len() && (high.is_empty() || high.len() == low.len()),
        "rows of different lengths"
    );
    #[cfg(target_arch = "x86_64")]
    if isa.0 == Set::Avx512Bf16 {
        // SAFETY: the `Isa` proves the instruction set.
        return unsafe { x86::rows(low, high, to) };
    }
    for (i, to) in to.iter_mut().enumerate() {
        *to = round_bits(low[i]) >> 16 | high.get(i).map_or(0, |high| round_bits(*high));
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// The first `n` of 16 lanes.
    fn first(n: usize) -> __mmask16 {
        ((1u32 << n.min(16)) - 1) as __mmask16
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) fn pairs(from: &[f32], to: &mut [u32]) {
        for (from, to) in from.chunks(32).zip(to.chunks_mut(16)) {
            let (low, high) = (first(from.len()), first(from.len().saturating_sub(16)));
            // SAFETY: the masks let through only what the slices hold: of `from` as many numbers as there are, of `to`
            // half as many pairs, rounded up. `__m512bh` and `__m512i` are the same 64 bytes.
            unsafe {
                let low = _mm512_maskz_loadu_ps(low, from.as_ptr());
                let high = _mm512_maskz_loadu_ps(high, from.as_ptr().wrapping_add(16));
                let both: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high, low));
                _mm512_mask_storeu_epi32(to.as_mut_ptr().cast(), first(to.len()), both);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) fn rows(low: &[f32], high: &[f32], to: &mut [u32]) {
        // Halves of 16 numbers each, to be taken in turn.
        let mut turns = [0i16; 32];
        for (i, turn) in turns.iter_mut().enumerate() {
            *turn = (i / 2 + i % 2 * 16) as i16;
        }
        // SAFETY: 64 bytes.
        let turns = unsafe { _mm512_loadu_si512(turns.as_ptr().cast()) };
        for (i, to) in to.chunks_mut(16).enumerate() {
            let here = first(to.len());
            let above = if high.is_empty() { 0 } else { here };
            // SAFETY: both rows are as long as `to`, or `high` is empty and its mask lets nothing through.
            unsafe {
                let low = _mm512_maskz_loadu_ps(here, low.as_ptr().wrapping_add(16 * i));
                let high = _mm512_maskz_loadu_ps(above, high.as_ptr().wrapping_add(16 * i));
                let both: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high, low));
                let both = _mm512_permutexvar_epi16(turns, both);
                _mm512_mask_storeu_epi32(to.as_mut_ptr().cast(), here, both);
            }
        }
    }
}
