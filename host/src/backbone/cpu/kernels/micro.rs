//! The innermost tiles of the matrix product: up to 6 rows by up to 64 columns held in registers.
//!
//! B comes packed in panels (see `gemm`), so a tile reads it front to back; A is row-major, or `TRANSPOSED`: then its rows
//! are columns of what lies there. Pointers step by `wrapping_add`: `add` carries checks into debug builds that cost more than the arithmetic here.

use super::panels::Panels;

/// Where element p of row i of A lies.
#[inline(always)]
fn at<const TRANSPOSED: bool>(lda: usize, i: usize, p: usize) -> usize {
    if TRANSPOSED { p * lda + i } else { i * lda + p }
}

/// Where a tile's sums go: rows at this stride, on top of a bias for all of them and of what is there.
#[derive(Clone, Copy)]
pub(super) struct TileOutput {
    pub to: *mut f32,
    pub stride: usize,
    /// Null where there is none.
    pub bias: *const f32,
    pub add: bool,
    /// Of integers: what those of each row are worth.
    pub rows: *const RowUnit,
    /// Of integers, from the tile's first column on.
    pub columns: Columns,
}

/// What the integers of a row of A are worth.
#[derive(Clone, Copy, Default)]
pub(super) struct RowUnit {
    /// A step.
    pub unit: f32,
    /// The integer that stands for 0.
    pub zero: i32,
}

/// What integers of B are worth.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    /// A unit of each column.
    pub units: *const f32,
    /// What a row's zero adds to the sums of each column; 0 where that is none.
    pub sums: *const i32,
}

impl Columns {
    pub const NONE: Self = Self { units: std::ptr::null(), sums: std::ptr::null() };

    /// From a later column on.
    pub fn from(self, first: usize) -> Self {
        Self { units: self.units.wrapping_add(first), sums: self.sums.wrapping_add(first) }
    }
}

/// One instruction set's tile: `to[i][..16·NV] (+)= A[i, ..] · B[.., panel] + bias`.
pub(super) trait Micro {
    /// What one step along k reads of a row of A: an f32, or two bf16 or several integers in a u32.
    type Element: Copy;
    /// Whether there is a fused multiply-add.
    const FMA: bool;
    /// How its right-hand sides are cut.
    const PANELS: Panels = Panels::NARROW;
    /// Most steps along k before its sums go out: a panel of so many rows stays in the first-level cache while the tiles of all rows
    /// read it.
    const DEPTH: usize = usize::MAX;
    /// Up to so many steps along k several panels are multiplied by a tile of rows before the next rows: they stay in the first-level
    /// cache together, and there is less to do beside each.
    const SHALLOW: usize = 0;

    /// # Safety
    /// The CPU must have the instruction set; `a` must hold `MR` rows of `k` elements at stride `lda` (`TRANSPOSED`: `k`
    /// rows of `MR`), `b` from a multiple of 64 bytes `k` rows of `16 · NV` elements, or of narrow panels `NV` times `k` rows of 16,
    /// each `panel` elements behind the other; `end` `MR` rows of `16 · NV` numbers and as wide a bias; of integers also `MR` units
    /// of rows, and as wide units and sums of columns.
    unsafe fn tile<const MR: usize, const NV: usize, const TRANSPOSED: bool>(
        a: *const Self::Element,
        lda: usize,
        k: usize,
        b: *const Self::Element,
        panel: usize,
        end: TileOutput,
    );
}

/// Multiplies and adds in registers only, `rounds` times; how many operations that were.
pub(super) fn peak(isa: super::Isa, precision: crate::backbone::Precision, rounds: usize) -> usize {
    use super::Set;
    let bf16 = precision == crate::backbone::Precision::Bf16;
    match isa.0 {
        // SAFETY: the `Isa` proves the instruction set.
        #[cfg(target_arch = "x86_64")]
        Set::Avx512Bf16 if bf16 => unsafe { x86::peak_avx512bf16(rounds) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Set::Avx512 | Set::Avx512Bf16 => unsafe { x86::peak_avx512(rounds) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 => unsafe { x86::peak_avx2(rounds) },
        _ => {
            let mut sums = [[0f32; 8]; 8];
            for _ in 0..rounds {
                let factor = std::hint::black_box([0.999f32; 8]);
                for sums in &mut sums {
                    for (sum, factor) in sums.iter_mut().zip(&factor) {
                        *sum += *sum * factor;
                    }
                }
            }
            std::hint::black_box(sums);
            2 * 8 * 8 * rounds
        }
    }
}

pub(super) struct Portable;

impl Micro for Portable {
    type Element = f32;
    const FMA: bool = false;

    #[inline(always)]
    unsafe fn tile<const MR: usize, const NV: usize, const TRANSPOSED: bool>(
        a: *const f32,
        lda: usize,
        k: usize,
        b: *const f32,
        panel: usize,
        end: TileOutput,
    ) {
        for v in 0..NV {
            let mut sums = [[0f32; 16]; MR];
            for p in 0..k {
                // SAFETY: p < k and v < NV, so 16 elements of B lie there, by the caller's promise.
                let b = unsafe { &*b.wrapping_add(v * panel + p * 16).cast::<[f32; 16]>() };
                for (i, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: i < MR and p < k lie within A, by the caller's promise.
                    let a = unsafe { *a.wrapping_add(at::<TRANSPOSED>(lda, i, p)) };
                    for j in 0..16 {
                        sums[j] += a * b[j];
                    }
                }
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                // SAFETY: i < MR and v < NV, so 16 numbers lie there, and of the bias where there is one.
                unsafe {
                    let to = end.to.wrapping_add(i * end.stride + v * 16).cast::<[f32; 16]>();
                    let more = [
                        (!end.bias.is_null(), end.bias.wrapping_add(v * 16).cast()),
                        (end.add, to.cast_const()),
                    ];
                    for (_, more) in more.into_iter().filter(|(wanted, _)| *wanted) {
                        let more = more.read_unaligned();
                        sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
                    }
                    to.write_unaligned(*sums);
                }
            }
        }
    }
}

/// A function that repeats one step on `$sums` registers and returns how many operations that were, `$operations` a register.
#[cfg(target_arch = "x86_64")]
macro_rules! register_loop {
    ($name:ident, $features:literal, $sums:literal, $operations:literal, $zero:expr, $step:expr) => {
        #[target_feature(enable = $features)]
        pub(in $crate::backbone::cpu::kernels) fn $name(rounds: usize) -> usize {
            let mut sums = [$zero; $sums];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = $step(*sum);
                }
                // Otherwise the compiler would find out what it comes to.
                std::hint::black_box(());
            }
            std::hint::black_box(sums);
            $sums * $operations * rounds
        }
    };
}
#[cfg(target_arch = "x86_64")]
pub(super) use register_loop;

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512, Avx512Bf16};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Micro, Panels, TileOutput, at};
    use std::arch::x86_64::*;

    register_loop!(peak_avx2, "avx2,fma", 12, 16, _mm256_set1_ps(0.5), |s| _mm256_fmadd_ps(s, s, s));
    register_loop!(peak_avx512, "avx512f", 24, 32, _mm512_set1_ps(0.5), |s| _mm512_fmadd_ps(s, s, s));
    register_loop!(peak_avx512bf16, "avx512f,avx512bf16", 24, 64, _mm512_set1_ps(0.5), |s| {
        // SAFETY: `__m512` and `__m512bh` are the same 64 bytes.
        let pairs: __m512bh = unsafe { std::mem::transmute(s) };
        _mm512_dpbf16_ps(s, pairs, pairs)
    });

    pub(in super::super) struct Avx2;

    impl Micro for Avx2 {
        type Element = f32;
        const FMA: bool = true;
        const DEPTH: usize = 384;
        const SHALLOW: usize = 128;

        #[inline(always)]
        unsafe fn tile<const MR: usize, const NV: usize, const TRANSPOSED: bool>(
            a: *const f32,
            lda: usize,
            k: usize,
            b: *const f32,
            panel: usize,
            end: TileOutput,
        ) {
            // 6 × 2 sums of sixteen columns fill the sixteen registers with B and A.
            for v in 0..NV {
                // SAFETY: the caller promises AVX2 and FMA, and the extents of A, B and the tile; all
                // offsets are of rows below MR, steps below k and columns below 16 · NV.
                unsafe {
                    let mut sums = [[_mm256_setzero_ps(); 2]; MR];
                    for p in 0..k {
                        let b = b.wrapping_add(v * panel + p * 16);
                        let (b0, b1) = (_mm256_load_ps(b), _mm256_load_ps(b.wrapping_add(8)));
                        for (i, sums) in sums.iter_mut().enumerate() {
                            let a = _mm256_set1_ps(*a.wrapping_add(at::<TRANSPOSED>(lda, i, p)));
                            sums[0] = _mm256_fmadd_ps(a, b0, sums[0]);
                            sums[1] = _mm256_fmadd_ps(a, b1, sums[1]);
                        }
                    }
                    for (i, sums) in sums.iter().enumerate() {
                        for (half, sum) in sums.iter().enumerate() {
                            let mut sum = *sum;
                            let to = end.to.wrapping_add(i * end.stride + v * 16 + half * 8);
                            if !end.bias.is_null() {
                                sum = _mm256_add_ps(
                                    sum,
                                    _mm256_loadu_ps(end.bias.wrapping_add(v * 16 + half * 8)),
                                );
                            }
                            if end.add {
                                sum = _mm256_add_ps(sum, _mm256_loadu_ps(to));
                            }
                            _mm256_storeu_ps(to, sum);
                        }
                    }
                }
            }
        }
    }

    /// # Safety
    /// As [`Micro::tile`] for `end`; the CPU must have AVX-512.
    #[inline(always)]
    unsafe fn finish<const MR: usize, const NV: usize>(sums: &mut [[__m512; NV]; MR], end: TileOutput) {
        // SAFETY: rows are below MR and columns below 16 · NV, by the caller's promise.
        unsafe {
            for v in 0..NV {
                if !end.bias.is_null() {
                    let bias = _mm512_loadu_ps(end.bias.wrapping_add(v * 16));
                    sums.iter_mut().for_each(|row| row[v] = _mm512_add_ps(row[v], bias));
                }
            }
            for (i, row) in sums.iter().enumerate() {
                for (v, sum) in row.iter().enumerate() {
                    let to = end.to.wrapping_add(i * end.stride + v * 16);
                    let sum = if end.add { _mm512_add_ps(*sum, _mm512_loadu_ps(to)) } else { *sum };
                    _mm512_storeu_ps(to, sum);
                }
            }
        }
    }

    pub(in super::super) struct Avx512;

    impl Micro for Avx512 {
        type Element = f32;
        const FMA: bool = true;
        const PANELS: Panels = Panels::WIDE;

        #[inline(always)]
        unsafe fn tile<const MR: usize, const NV: usize, const TRANSPOSED: bool>(
            a: *const f32,
            lda: usize,
            k: usize,
            b: *const f32,
            _panel: usize,
            end: TileOutput,
        ) {
            // SAFETY: the caller promises AVX-512 and the extents of A, B and the tile; all offsets
            // are of rows below MR, steps below k and columns below 16 · NV.
            unsafe {
                let mut sums = [[_mm512_setzero_ps(); NV]; MR];
                for p in 0..k {
                    let mut row = [_mm512_setzero_ps(); NV];
                    for (v, row) in row.iter_mut().enumerate() {
                        *row = _mm512_load_ps(b.wrapping_add((p * NV + v) * 16));
                    }
                    for (i, sums) in sums.iter_mut().enumerate() {
                        let a = _mm512_set1_ps(*a.wrapping_add(at::<TRANSPOSED>(lda, i, p)));
                        for v in 0..NV {
                            sums[v] = _mm512_fmadd_ps(a, row[v], sums[v]);
                        }
                    }
                }
                finish(&mut sums, end);
            }
        }
    }

    pub(in super::super) struct Avx512Bf16;

    impl Micro for Avx512Bf16 {
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
            // SAFETY: as for `Avx512`, and AVX512-BF16. `__m512bh` and `__m512i` are the same 64 bytes.
            unsafe {
                let mut sums = [[_mm512_setzero_ps(); NV]; MR];
                for p in 0..k {
                    let mut row = [_mm512_setzero_si512(); NV];
                    for (v, row) in row.iter_mut().enumerate() {
                        *row = _mm512_load_si512(b.wrapping_add((p * NV + v) * 16).cast());
                    }
                    for (i, sums) in sums.iter_mut().enumerate() {
                        let a: __m512bh =
                            std::mem::transmute(_mm512_set1_epi32(
                                *a.wrapping_add(at::<TRANSPOSED>(lda, i, p)) as i32,
                            ));
                        for v in 0..NV {
                            let b: __m512bh = std::mem::transmute(row[v]);
                            sums[v] = _mm512_dpbf16_ps(sums[v], a, b);
                        }
                    }
                }
                finish(&mut sums, end);
            }
        }
    }
}
