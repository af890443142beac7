//! A product as its tiles compute it: panel by panel, so many steps along k at a time, six rows at a time.

use super::activate::activate_body;
use super::integers::{Integers, Width};
use super::micro::{Columns, Micro, Portable, RowUnit, TileOutput};
use super::micro_integers::PortableSixteen;
use super::panels::{LINE, Panels, WIDEST};
use super::{Isa, Set};
use crate::backbone::activation::Activation;
use std::ops::Range;

const ROWS: usize = 6;

/// What becomes of a product.
#[derive(Clone, Copy)]
pub(crate) enum Store<'a> {
    /// out = A · B + bias
    Set(Option<&'a [f32]>),
    /// out += A · B + bias
    Add(Option<&'a [f32]>),
    /// out = activation(A · B + bias)
    Activated(Activation, Option<&'a [f32]>),
}

impl<'a> Store<'a> {
    /// The same for some columns.
    pub(super) fn of(self, columns: Range<usize>) -> Self {
        let part = |bias: Option<&'a [f32]>| bias.map(|bias| &bias[columns]);
        match self {
            Self::Set(bias) => Self::Set(part(bias)),
            Self::Add(bias) => Self::Add(part(bias)),
            Self::Activated(activation, bias) => Self::Activated(activation, part(bias)),
        }
    }
}

/// The tiles of 32-bit numbers on the fastest registers.
///
/// # Safety
/// As [`drive`].
#[inline(always)]
pub(super) unsafe fn drive_f32<const TRANSPOSED: bool>(
    isa: Isa,
    left: Left<f32>,
    b: *const f32,
    n: usize,
    out: &mut [f32],
    ldc: usize,
    store: Store<'_>,
) {
    match isa.0 {
        // SAFETY: the `Isa` proves the instruction set; the rest is the caller's promise.
        #[cfg(target_arch = "x86_64")]
        Set::Avx512 | Set::Avx512Bf16 => unsafe {
            drive_avx512::<TRANSPOSED>(left, b, Columns::NONE, n, out, ldc, store)
        },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 => unsafe { drive_avx2::<TRANSPOSED>(left, b, Columns::NONE, n, out, ldc, store) },
        // SAFETY: as above; this one needs no instruction set.
        _ => unsafe { drive::<Portable, TRANSPOSED>(left, b, Columns::NONE, n, out, ldc, store) },
    }
}

/// A as the tiles see it: `m` rows of `k` elements, or transposed `k` rows of `m`.
pub(super) struct Left<E> {
    pub a: *const E,
    pub lda: usize,
    pub m: usize,
    pub k: usize,
    /// Of integers: what those of each row are worth.
    pub units: *const RowUnit,
}

/// # Safety
/// As [`drive`].
pub(super) unsafe fn product_of_integers(
    isa: Isa,
    left: Left<u32>,
    b: &Integers,
    n: usize,
    out: &mut [f32],
    ldc: usize,
    store: Store<'_>,
) {
    let (columns, words) = (b.columns(), b.packed.as_ptr());
    #[cfg(target_arch = "x86_64")]
    {
        let wide = matches!(isa.0, Set::Avx512 | Set::Avx512Bf16);
        match (b.width, wide, isa.has_vnni()) {
            (Width::Eight, true, true) => {
                // SAFETY: the caller's promise; the `Isa` proves set and VNNI.
                return unsafe { drive_avx512_eight(left, words, columns, n, out, ldc, store) };
            }
            (Width::Eight, false, true) => {
                // SAFETY: as above.
                return unsafe { drive_avx2_eight(left, words, columns, n, out, ldc, store) };
            }
            (Width::Sixteen, true, true) => {
                // SAFETY: as above.
                return unsafe { drive_avx512_sixteen_vnni(left, words, columns, n, out, ldc, store) };
            }
            (Width::Sixteen, true, false) => {
                // SAFETY: as above.
                return unsafe { drive_avx512_sixteen(left, words, columns, n, out, ldc, store) };
            }
            (Width::Sixteen, false, true) => {
                // SAFETY: as above.
                return unsafe { drive_avx2_sixteen_vnni(left, words, columns, n, out, ldc, store) };
            }
            (Width::Sixteen, false, false) if isa.0 == Set::Avx2 => {
                // SAFETY: as above.
                return unsafe { drive_avx2_sixteen(left, words, columns, n, out, ldc, store) };
            }
            (Width::Eight, _, false) | (Width::Sixteen, false, false) => {}
        }
    }
    assert!(b.width == Width::Sixteen, "8 bits are packed only where VNNI was detected");
    // SAFETY: the caller's promise; this one needs no instruction set.
    unsafe { drive::<PortableSixteen, false>(left, words, columns, n, out, ldc, store) }
}

/// # Safety
/// As [`Micro::tile`] for all rows and panels; `out` holds m rows of n at stride `ldc`.
#[inline(always)]
unsafe fn drive<M: Micro, const TRANSPOSED: bool>(
    left: Left<M::Element>,
    b: *const M::Element,
    of_columns: Columns,
    n: usize,
    out: &mut [f32],
    ldc: usize,
    store: Store<'_>,
) {
    let mut tile = [0f32; ROWS * WIDEST];
    let (bias, add, activation) = match store {
        Store::Set(bias) => (bias, false, None),
        Store::Add(bias) => (bias, true, None),
        Store::Activated(activation, bias) => (bias, false, Some(activation)),
    };
    let panels = if left.k <= M::SHALLOW { Panels::WIDE } else { M::PANELS };
    // Rows of a transposed A lie far apart: fewer of them stay in the cache.
    let most = if TRANSPOSED { M::DEPTH / 3 } else { M::DEPTH };
    for first in (0..n).step_by(panels.step()) {
        let (columns, width) = panels.at(n, first);
        for top in (0..left.k).step_by(most) {
            let depth = most.min(left.k - top);
            // The first steps along k bring the bias, later ones add to what is there, the last are activated.
            let (bias, add) = (bias.filter(|_| top == 0), add || top > 0);
            let bias = bias.map(|bias| &bias[first..first + columns]);
            let activation = activation.filter(|_| top + depth == left.k);
            // A panel without padding goes where it belongs from the registers.
            let direct = columns == width && activation.is_none();
            for row in (0..left.m).step_by(ROWS) {
                let rows = ROWS.min(left.m - row);
                let from = if TRANSPOSED { top * left.lda + row } else { row * left.lda + top };
                // Several panels are so shallow that `top` is 0.
                let (a, b) = (left.a.wrapping_add(from), b.wrapping_add(first * left.k + top * width));
                let (rows_of, columns_of) = (left.units.wrapping_add(row), of_columns.from(first));
                let end = match direct {
                    true => {
                        let out = &mut out[row * ldc + first..];
                        assert!(out.len() >= (rows - 1) * ldc + columns, "the tile is out of bounds");
                        let (to, bias) = (out.as_mut_ptr(), bias.map_or(std::ptr::null(), <[f32]>::as_ptr));
                        TileOutput { to, stride: ldc, bias, add, rows: rows_of, columns: columns_of }
                    }
                    false => {
                        let (to, bias) = (tile.as_mut_ptr(), std::ptr::null());
                        TileOutput { to, stride: width, bias, add: false, rows: rows_of, columns: columns_of }
                    }
                };
                let panel = left.k * LINE;
                // SAFETY: row < m, first < n and top + depth <= k, within A and B by the caller's promise. `end` is rows of this
                // panel's width of `out` and its bias, or the tile, which is the largest.
                unsafe {
                    tile_of_any_size::<M, TRANSPOSED>(rows, width / 16, a, left.lda, depth, (b, panel), end)
                };
                if !direct {
                    for (i, tile) in tile.chunks_exact_mut(width).take(rows).enumerate() {
                        let out = &mut out[(row + i) * ldc + first..][..columns];
                        put_row::<M>(&mut tile[..columns], out, bias, add, activation);
                    }
                }
            }
        }
    }
}

/// A row of a tile to where it belongs.
#[inline(always)]
fn put_row<M: Micro>(
    tile: &mut [f32],
    out: &mut [f32],
    bias: Option<&[f32]>,
    add: bool,
    activation: Option<Activation>,
) {
    if let Some(bias) = bias {
        tile.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
    }
    if add && activation.is_some() {
        tile.iter_mut().zip(&*out).for_each(|(x, before)| *x += before);
    }
    match (activation, M::FMA) {
        (Some(kind), true) => activate_body::<true>(kind, tile, out),
        (Some(kind), false) => activate_body::<false>(kind, tile, out),
        _ if add => out.iter_mut().zip(&*tile).for_each(|(to, from)| *to += from),
        _ => {
            // By lines: a copy of unknown length would be a call of memcpy.
            let (lines, rest) = out.as_chunks_mut::<LINE>();
            let (from, from_rest) = tile.as_chunks::<LINE>();
            lines.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            rest.iter_mut().zip(from_rest).for_each(|(to, from)| *to = *from);
        }
    }
}

/// # Safety
/// As [`Micro::tile`] with these numbers of rows (1 to 6) and vectors (1 to 4).
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn tile_of_any_size<M: Micro, const TRANSPOSED: bool>(
    rows: usize,
    vectors: usize,
    a: *const M::Element,
    lda: usize,
    k: usize,
    (b, panel): (*const M::Element, usize),
    end: TileOutput,
) {
    macro_rules! pick {
        ($($mr:literal)*) => {
            match (rows, vectors) {
                $(
                    // SAFETY: the caller's promise, for each size.
                    ($mr, 1) => unsafe { M::tile::<$mr, 1, TRANSPOSED>(a, lda, k, b, panel, end) },
                    // SAFETY: as above.
                    ($mr, 2) => unsafe { M::tile::<$mr, 2, TRANSPOSED>(a, lda, k, b, panel, end) },
                    // SAFETY: as above.
                    ($mr, 3) => unsafe { M::tile::<$mr, 3, TRANSPOSED>(a, lda, k, b, panel, end) },
                    // SAFETY: as above.
                    ($mr, 4) => unsafe { M::tile::<$mr, 4, TRANSPOSED>(a, lda, k, b, panel, end) },
                )*
                _ => unreachable!("a tile has 1 to 6 rows and 1 to 4 vectors"),
            }
        };
    }
    pick!(6 5 4 3 2 1)
}

#[cfg(target_arch = "x86_64")]
macro_rules! drive_for {
    ($name:ident, $micro:ident, $element:ty, $features:literal) => {
        /// # Safety
        /// As [`drive`], and the CPU must have these features.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $name<const TRANSPOSED: bool>(
            left: Left<$element>,
            b: *const $element,
            of_columns: Columns,
            n: usize,
            out: &mut [f32],
            ldc: usize,
            store: Store<'_>,
        ) {
            // SAFETY: the caller's promise.
            unsafe { drive::<super::micro::$micro, TRANSPOSED>(left, b, of_columns, n, out, ldc, store) }
        }
    };
}
#[cfg(target_arch = "x86_64")]
drive_for!(drive_avx2, Avx2, f32, "avx2,fma");
#[cfg(target_arch = "x86_64")]
drive_for!(drive_avx512, Avx512, f32, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");
#[cfg(target_arch = "x86_64")]
drive_for!(drive_avx512bf16, Avx512Bf16, u32, "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma");

#[cfg(target_arch = "x86_64")]
macro_rules! drive_integers_for {
    ($name:ident, $micro:ty, $features:literal) => {
        /// # Safety
        /// As [`drive`], and the CPU must have these features.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $name(
            left: Left<u32>,
            b: *const u32,
            of_columns: Columns,
            n: usize,
            out: &mut [f32],
            ldc: usize,
            store: Store<'_>,
        ) {
            // SAFETY: the caller's promise.
            unsafe { drive::<$micro, false>(left, b, of_columns, n, out, ldc, store) }
        }
    };
}
#[cfg(target_arch = "x86_64")]
mod of_integers {
    use super::super::micro_integers::{Avx2Eight, Avx2Sixteen, Avx512Eight, Avx512Sixteen};
    use super::*;
    drive_integers_for!(drive_avx2_sixteen, Avx2Sixteen<false>, "avx2,fma");
    drive_integers_for!(drive_avx2_sixteen_vnni, Avx2Sixteen<true>, "avx2,fma,avxvnni");
    drive_integers_for!(drive_avx2_eight, Avx2Eight, "avx2,fma,avxvnni");
    drive_integers_for!(
        drive_avx512_sixteen,
        Avx512Sixteen<false>,
        "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"
    );
    drive_integers_for!(
        drive_avx512_sixteen_vnni,
        Avx512Sixteen<true>,
        "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma"
    );
    drive_integers_for!(
        drive_avx512_eight,
        Avx512Eight,
        "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma"
    );
}
#[cfg(target_arch = "x86_64")]
use of_integers::*;
