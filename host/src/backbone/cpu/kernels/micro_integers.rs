//! Tiles of products of integers: sums in i32, which become f32 by the units of row and column as they leave the registers.
//!
//! A word of A is two numbers of 16 bits or four of 8, and B has as many rows to a word, so that one instruction multiplies a word
//! of A with a word of each column and adds the products up. VNNI does it in one instruction, AVX2 and AVX-512 alone in two.

use super::integers::Width;
use super::micro::{Micro, RowUnit, TileOutput};
use super::panels::Panels;
use super::{Isa, Set};
use crate::backbone::precision::Precision;

pub(super) struct PortableSixteen;

impl Micro for PortableSixteen {
    type Element = u32;
    const FMA: bool = false;

    #[inline(always)]
    unsafe fn tile<const MR: usize, const NV: usize, const TRANSPOSED: bool>(
        a: *const u32,
        lda: usize,
        k: usize,
        b: *const u32,
        panel: usize,
        end: TileOutput,
    ) {
        const { assert!(!TRANSPOSED, "integers are not multiplied transposed") };
        let halves = |word: u32| [i32::from(word as u16 as i16), i32::from((word >> 16) as u16 as i16)];
        for v in 0..NV {
            for i in 0..MR {
                let mut sums = [0i32; 16];
                for p in 0..k {
                    // SAFETY: i < MR, p < k and v < NV, so the word of A and 16 words of B lie there, by the caller's promise.
                    let (a, b) = unsafe {
                        let b = b.wrapping_add(v * panel + p * 16).cast::<[u32; 16]>();
                        (halves(*a.wrapping_add(i * lda + p)), &*b)
                    };
                    for (sum, b) in sums.iter_mut().zip(b) {
                        let b = halves(*b);
                        *sum += a[0] * b[0] + a[1] * b[1];
                    }
                }
                // SAFETY: i < MR and v < NV, so the units, 16 numbers of the tile, and of the bias where there is one, lie there.
                unsafe {
                    let RowUnit { unit, .. } = *end.rows.wrapping_add(i);
                    for (j, sum) in sums.into_iter().enumerate() {
                        let column = v * 16 + j;
                        let mut sum = sum as f32 * (unit * *end.columns.units.wrapping_add(column));
                        if !end.bias.is_null() {
                            sum += *end.bias.wrapping_add(column);
                        }
                        let to = end.to.wrapping_add(i * end.stride + column);
                        *to = if end.add { sum + *to } else { sum };
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2Eight, Avx2Sixteen, Avx512Eight, Avx512Sixteen};

/// Multiplies and adds integers in registers only, `rounds` times; how many operations that were. `None` where the set has no
/// instructions for it, or the precision no integers.
pub(super) fn peak(isa: Isa, precision: Precision, rounds: usize) -> Option<usize> {
    let width = Width::of(isa, precision)?;
    // Of 16 bits VNNI's instructions do half as much.
    let part = if width == Width::Sixteen { 2 } else { 1 };
    match (isa.0, isa.has_vnni()) {
        // SAFETY: the `Isa` proves set and VNNI.
        #[cfg(target_arch = "x86_64")]
        (Set::Avx512 | Set::Avx512Bf16, true) => Some(unsafe { x86::peak_avx512_vnni(rounds) } / part),
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        (Set::Avx512 | Set::Avx512Bf16, false) => Some(unsafe { x86::peak_avx512(rounds) }),
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        (Set::Avx2, true) => Some(unsafe { x86::peak_avx2_vnni(rounds) } / part),
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        (Set::Avx2, false) => Some(unsafe { x86::peak_avx2(rounds) }),
        _ => None,
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::micro::register_loop;
    use super::{Micro, Panels, RowUnit, TileOutput};
    use std::arch::x86_64::*;

    register_loop!(peak_avx2, "avx2", 12, 32, _mm256_set1_epi32(3), |s| _mm256_add_epi32(
        s,
        _mm256_madd_epi16(s, s)
    ));
    register_loop!(peak_avx2_vnni, "avx2,avxvnni", 12, 64, _mm256_set1_epi32(3), |s| {
        _mm256_dpbusd_avx_epi32(s, s, s)
    });
    register_loop!(peak_avx512, "avx512f,avx512bw", 24, 64, _mm512_set1_epi32(3), |s| {
        _mm512_add_epi32(s, _mm512_madd_epi16(s, s))
    });
    register_loop!(peak_avx512_vnni, "avx512f,avx512vnni", 24, 128, _mm512_set1_epi32(3), |s| {
        _mm512_dpbusd_epi32(s, s, s)
    });

    /// A tile of 256-bit registers, whose step is `$step(sums, a, b)`.
    macro_rules! tile256 {
        ($(#[$doc:meta])* $name:ident $(<$vnni:ident>)?, $eight:literal, $step:expr) => {
            $(#[$doc])*
            pub(in super::super) struct $name $(<const $vnni: bool>)?;

            impl $(<const $vnni: bool>)? Micro for $name $(<$vnni>)? {
                type Element = u32;
                const FMA: bool = true;
                // What a row's zero of 8 bits adds is of whole columns.
                const DEPTH: usize = if $eight { usize::MAX } else { 384 };
                const SHALLOW: usize = 128;

                #[inline(always)]
                unsafe fn tile<const MR: usize, const NV: usize, const TRANSPOSED: bool>(
                    a: *const u32,
                    lda: usize,
                    k: usize,
                    b: *const u32,
                    panel: usize,
                    end: TileOutput,
                ) {
                    const { assert!(!TRANSPOSED, "integers are not multiplied transposed") };
                    // 6 × 2 sums of sixteen columns fill the sixteen registers with B and A.
                    for v in 0..NV {
                        // SAFETY: the caller promises the instruction set, and the extents of A, B and the tile; all offsets
                        // are of rows below MR, steps below k and columns below 16 · NV.
                        unsafe {
                            let mut sums = [[_mm256_setzero_si256(); 2]; MR];
                            for p in 0..k {
                                let b = b.wrapping_add(v * panel + p * 16).cast::<__m256i>();
                                let (b0, b1) = (_mm256_load_si256(b), _mm256_load_si256(b.wrapping_add(1)));
                                for (i, sums) in sums.iter_mut().enumerate() {
                                    let a = _mm256_set1_epi32(*a.wrapping_add(i * lda + p) as i32);
                                    sums[0] = $step(sums[0], a, b0);
                                    sums[1] = $step(sums[1], a, b1);
                                }
                            }
                            for (i, sums) in sums.iter().enumerate() {
                                for (half, sum) in sums.iter().enumerate() {
                                    finish256::<$eight>(i, v * 16 + half * 8, *sum, end);
                                }
                            }
                        }
                    }
                }
            }
        };
    }

    tile256!(
        /// 16 bits, with AVX-VNNI or without.
        Avx2Sixteen<VNNI>, false, |sums, a, b| match VNNI {
        true => _mm256_dpwssd_avx_epi32(sums, a, b),
        false => _mm256_add_epi32(sums, _mm256_madd_epi16(a, b)),
    });
    tile256!(
        /// 8 bits, with AVX-VNNI.
        Avx2Eight, true, |sums, a, b| _mm256_dpbusd_avx_epi32(sums, a, b));

    /// Eight sums of row `i` from `column` on.
    ///
    /// # Safety
    /// As [`Micro::tile`] for `end`; the CPU must have AVX2 and FMA.
    #[inline(always)]
    unsafe fn finish256<const EIGHT: bool>(i: usize, column: usize, mut sum: __m256i, end: TileOutput) {
        // SAFETY: row and column are of the tile, by the caller's promise.
        unsafe {
            let RowUnit { unit, zero } = *end.rows.wrapping_add(i);
            if EIGHT {
                let sums = _mm256_loadu_si256(end.columns.sums.wrapping_add(column).cast());
                sum = _mm256_sub_epi32(sum, _mm256_mullo_epi32(sums, _mm256_set1_epi32(zero)));
            }
            let units = _mm256_loadu_ps(end.columns.units.wrapping_add(column));
            let units = _mm256_mul_ps(units, _mm256_set1_ps(unit));
            let mut sum = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), units);
            if !end.bias.is_null() {
                sum = _mm256_add_ps(sum, _mm256_loadu_ps(end.bias.wrapping_add(column)));
            }
            let to = end.to.wrapping_add(i * end.stride + column);
            if end.add {
                sum = _mm256_add_ps(sum, _mm256_loadu_ps(to));
            }
            _mm256_storeu_ps(to, sum);
        }
    }

    /// A tile of 512-bit registers, whose step is `$step(sums, a, b)`.
    macro_rules! tile512 {
        ($(#[$doc:meta])* $name:ident $(<$vnni:ident>)?, $eight:literal, $step:expr) => {
            $(#[$doc])*
            pub(in super::super) struct $name $(<const $vnni: bool>)?;

            impl $(<const $vnni: bool>)? Micro for $name $(<$vnni>)? {
                type Element = u32;
                const FMA: bool = true;
                const PANELS: Panels = Panels::WIDE;

                #[inline(always)]
                unsafe fn tile<const MR: usize, const NV: usize, const TRANSPOSED: bool>(
                    a: *const u32,
                    lda: usize,
                    k: usize,
                    b: *const u32,
                    _panel: usize,
                    end: TileOutput,
                ) {
                    const { assert!(!TRANSPOSED, "integers are not multiplied transposed") };
                    // SAFETY: the caller promises the instruction set and the extents of A, B and the tile; all offsets are
                    // of rows below MR, steps below k and columns below 16 · NV.
                    unsafe {
                        let mut sums = [[_mm512_setzero_si512(); NV]; MR];
                        for p in 0..k {
                            let mut row = [_mm512_setzero_si512(); NV];
                            for (v, row) in row.iter_mut().enumerate() {
                                *row = _mm512_load_si512(b.wrapping_add((p * NV + v) * 16).cast());
                            }
                            for (i, sums) in sums.iter_mut().enumerate() {
                                let a = _mm512_set1_epi32(*a.wrapping_add(i * lda + p) as i32);
                                for v in 0..NV {
                                    sums[v] = $step(sums[v], a, row[v]);
                                }
                            }
                        }
                        finish512::<$eight, MR, NV>(&sums, end);
                    }
                }
            }
        };
    }

    tile512!(
        /// 16 bits, with AVX512-VNNI or without.
        Avx512Sixteen<VNNI>, false, |sums, a, b| match VNNI {
        true => _mm512_dpwssd_epi32(sums, a, b),
        false => _mm512_add_epi32(sums, _mm512_madd_epi16(a, b)),
    });
    tile512!(
        /// 8 bits, with AVX512-VNNI.
        Avx512Eight, true, |sums, a, b| _mm512_dpbusd_epi32(sums, a, b));

    /// # Safety
    /// As [`Micro::tile`] for `end`; the CPU must have AVX-512.
    #[inline(always)]
    unsafe fn finish512<const EIGHT: bool, const MR: usize, const NV: usize>(
        sums: &[[__m512i; NV]; MR],
        end: TileOutput,
    ) {
        // SAFETY: rows are below MR and columns below 16 · NV, by the caller's promise.
        unsafe {
            for v in 0..NV {
                let of_zero = match EIGHT {
                    true => _mm512_loadu_si512(end.columns.sums.wrapping_add(v * 16).cast()),
                    false => _mm512_setzero_si512(),
                };
                let of_columns = _mm512_loadu_ps(end.columns.units.wrapping_add(v * 16));
                for (i, row) in sums.iter().enumerate() {
                    let RowUnit { unit, zero } = *end.rows.wrapping_add(i);
                    let units = _mm512_mul_ps(of_columns, _mm512_set1_ps(unit));
                    let sum = match EIGHT {
                        true => {
                            _mm512_sub_epi32(row[v], _mm512_mullo_epi32(of_zero, _mm512_set1_epi32(zero)))
                        }
                        false => row[v],
                    };
                    let mut sum = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), units);
                    if !end.bias.is_null() {
                        sum = _mm512_add_ps(sum, _mm512_loadu_ps(end.bias.wrapping_add(v * 16)));
                    }
                    let to = end.to.wrapping_add(i * end.stride + v * 16);
                    if end.add {
                        sum = _mm512_add_ps(sum, _mm512_loadu_ps(to));
                    }
                    _mm512_storeu_ps(to, sum);
                }
            }
        }
    }
}
