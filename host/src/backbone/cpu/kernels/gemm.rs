//! Matrix products with a packed right-hand side: `out (+)= A · B + bias`.
//!
//! B [k, n] is stored in panels of 64 columns (the last as wide as needed, in steps of 16), each panel
//! row after row, zero where it reaches beyond n; with bf16 two consecutive rows share a row of pairs. So
//! a tile streams its panel front to back and never reads past an end.

use super::activate::activate_body;
use super::math::{round_bits, round_f32};
use super::micro::{Micro, Portable, TileOutput};
use super::pairs::{round_pairs, round_rows};
use super::{Isa, Set};
use crate::backbone::activation::Activation;
use crate::backbone::precision::Precision;
use std::cell::RefCell;

const PANEL: usize = 64;
const ROWS: usize = 6;

/// A right-hand side ready for the tiles of one instruction set.
#[derive(Default)]
pub(crate) struct Packed {
    k: usize,
    n: usize,
    data: Data,
    /// The inputs of the product are rounded to bf16 although the tiles compute in f32.
    rounded: bool,
}

enum Data {
    F32(Vec<Line<f32>>),
    /// Rows 2p (low half) and 2p + 1 of B.
    Pairs(Vec<Line<u32>>),
}

/// A cache line, so that no load of a tile straddles two.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
struct Line<E>([E; LINE]);

const LINE: usize = 16;

/// The lines' elements in a row.
fn elements<E>(lines: &mut [Line<E>]) -> &mut [E] {
    // SAFETY: a `Line` is sixteen elements of four bytes and nothing else (repr(C), 64 bytes).
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * LINE) }
}

impl Default for Data {
    fn default() -> Self {
        Self::F32(Vec::new())
    }
}

impl Packed {
    /// Packs B [k, n] whose element (i, j) is `source[i · rows + j · columns]`.
    pub fn new(
        isa: Isa,
        precision: Precision,
        source: &[f32],
        k: usize,
        n: usize,
        strides: (usize, usize),
    ) -> Self {
        let mut packed = Self::default();
        packed.repack(isa, precision, source, k, n, strides);
        packed
    }

    /// As [`Self::new`], into memory that is there already.
    pub fn repack(
        &mut self,
        isa: Isa,
        precision: Precision,
        source: &[f32],
        k: usize,
        n: usize,
        strides: (usize, usize),
    ) {
        assert!(
            k > 0 && n > 0 && (k - 1) * strides.0 + (n - 1) * strides.1 < source.len(),
            "B is out of bounds"
        );
        (self.k, self.n) = (k, n);
        let width = n.div_ceil(LINE) * LINE;
        let bf16 = precision == Precision::Bf16;
        self.rounded = bf16 && isa.0 != Set::Avx512Bf16;
        if bf16 && !self.rounded {
            let mut data = match std::mem::take(&mut self.data) {
                Data::Pairs(data) => data,
                Data::F32(_) => Vec::new(),
            };
            data.resize(k.div_ceil(2) * width / LINE, Line::default());
            pack_pairs(isa, source, k, n, strides, elements(&mut data));
            self.data = Data::Pairs(data);
        } else {
            let mut data = match std::mem::take(&mut self.data) {
                Data::F32(data) => data,
                Data::Pairs(_) => Vec::new(),
            };
            data.resize(k * width / LINE, Line::default());
            pack_f32(isa, source, k, n, strides, self.rounded, elements(&mut data));
            self.data = Data::F32(data);
        }
    }

    pub fn columns(&self) -> usize {
        self.n
    }
}

/// The columns of the panel that begins at `first`, and their number with padding.
///
/// Panels are walked by plain loops: a closure would be compiled without the instruction set around it.
#[inline(always)]
fn panel(n: usize, first: usize) -> (usize, usize) {
    let columns = PANEL.min(n - first);
    (columns, columns.div_ceil(16) * 16)
}

#[inline(always)]
fn pack_f32_body(source: &[f32], k: usize, n: usize, strides: (usize, usize), round: bool, data: &mut [f32]) {
    for first in (0..n).step_by(PANEL) {
        let (columns, width) = panel(n, first);
        let panel = &mut data[first * k..(first + width) * k];
        if strides.0 == 1 && strides.1 > 1 {
            // Column by column as they lie, in squares whose lines stay in the cache.
            panel.fill(0.0);
            for top in (0..k).step_by(LINE) {
                let rows = LINE.min(k - top);
                for j in 0..columns {
                    let column = &source[(first + j) * strides.1 + top..][..rows];
                    for (i, x) in column.iter().enumerate() {
                        let x = if round { f32::from_bits(round_bits(*x)) } else { *x };
                        panel[(top + i) * width + j] = x;
                    }
                }
            }
            continue;
        }
        for (i, row) in panel.chunks_exact_mut(width).enumerate() {
            let from = i * strides.0 + first * strides.1;
            if strides.1 == 1 {
                let (lines, rest) = row[..columns].as_chunks_mut::<LINE>();
                let (from, from_rest) = source[from..from + columns].as_chunks::<LINE>();
                lines.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
                rest.iter_mut().zip(from_rest).for_each(|(to, from)| *to = *from);
            } else {
                for (j, to) in row[..columns].iter_mut().enumerate() {
                    *to = source[from + j * strides.1];
                }
            }
            row[columns..].fill(0.0);
            if round {
                row.iter_mut().for_each(|x| *x = f32::from_bits(round_bits(*x)));
            }
        }
    }
}

fn pack_pairs(isa: Isa, source: &[f32], k: usize, n: usize, strides: (usize, usize), data: &mut [u32]) {
    let pairs = k.div_ceil(2);
    for first in (0..n).step_by(PANEL) {
        let (columns, width) = panel(n, first);
        let panel = &mut data[first * pairs..(first + width) * pairs];
        if strides.0 == 1 && strides.1 > 1 {
            // Column by column as they lie, in squares whose lines stay in the cache.
            panel.fill(0);
            let mut rounded = [0u32; LINE];
            for top in (0..pairs).step_by(LINE) {
                let rows = LINE.min(pairs - top);
                for j in 0..columns {
                    let end = (2 * (top + rows)).min(k);
                    let column = &source[(first + j) * strides.1..][2 * top..end];
                    round_pairs(isa, column, &mut rounded[..rows]);
                    for (p, pair) in rounded[..rows].iter().enumerate() {
                        panel[(top + p) * width + j] = *pair;
                    }
                }
            }
            continue;
        }
        for (p, row) in panel.chunks_exact_mut(width).enumerate() {
            let from = 2 * p * strides.0 + first * strides.1;
            let odd = 2 * p + 1 < k;
            if strides.1 == 1 {
                let high = if odd { &source[from + strides.0..][..columns] } else { &[] };
                round_rows(isa, &source[from..from + columns], high, &mut row[..columns]);
            } else {
                for (j, to) in row[..columns].iter_mut().enumerate() {
                    let at = from + j * strides.1;
                    let high = if odd { source[at + strides.0] } else { 0.0 };
                    *to = round_bits(source[at]) >> 16 | round_bits(high);
                }
            }
            row[columns..].fill(0);
        }
    }
}

super::per_isa! {
    fn pack_f32(source: &[f32], k: usize, n: usize, strides: (usize, usize), round: bool, data: &mut [f32]) = pack_f32_body;
}

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

thread_local! {
    /// A as the tiles read it, reused from product to product.
    static LEFT: RefCell<(Vec<f32>, Vec<u32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// `m` rows of A (stride `lda`) times B, into rows of `out` (stride `ldc`).
#[allow(clippy::too_many_arguments)]
pub(crate) fn gemm(
    isa: Isa,
    a: &[f32],
    lda: usize,
    m: usize,
    b: &Packed,
    out: &mut [f32],
    ldc: usize,
    store: Store<'_>,
) {
    assert!(m == 0 || b.k <= lda && (m - 1) * lda + b.k <= a.len(), "A is out of bounds");
    product::<false>(isa, a, lda, m, b, out, ldc, store);
}

/// As [`gemm`] with A transposed: row i of it is column i of `a`, whose rows (stride `lda`) are as many as B's.
#[allow(clippy::too_many_arguments)]
pub(crate) fn gemm_transposed(
    isa: Isa,
    a: &[f32],
    lda: usize,
    m: usize,
    b: &Packed,
    out: &mut [f32],
    ldc: usize,
    store: Store<'_>,
) {
    assert!(m <= lda && (b.k - 1) * lda + m <= a.len(), "A is out of bounds");
    product::<true>(isa, a, lda, m, b, out, ldc, store);
}

/// A's extent is the callers' to check.
#[allow(clippy::too_many_arguments)]
fn product<const TRANSPOSED: bool>(
    isa: Isa,
    a: &[f32],
    lda: usize,
    m: usize,
    b: &Packed,
    out: &mut [f32],
    ldc: usize,
    store: Store<'_>,
) {
    if m == 0 {
        return;
    }
    let (k, n) = (b.k, b.n);
    assert!(n <= ldc && (m - 1) * ldc + n <= out.len(), "the product is out of bounds");
    let (Store::Set(bias) | Store::Add(bias) | Store::Activated(_, bias)) = store;
    assert!(bias.is_none_or(|b| b.len() == n), "the bias does not fit");
    // Rows as they lie there, and elements of each.
    let (rows, each) = if TRANSPOSED { (k, m) } else { (m, k) };
    LEFT.with_borrow_mut(|(floats, halves)| match &b.data {
        #[cfg(target_arch = "x86_64")]
        Data::Pairs(data) => {
            let pairs = k.div_ceil(2);
            halves.resize(m * pairs, 0);
            if TRANSPOSED {
                for (p, to) in halves.chunks_exact_mut(m).enumerate() {
                    let low = &a[2 * p * lda..][..m];
                    let high = if 2 * p + 1 < k { &a[(2 * p + 1) * lda..][..m] } else { &[] };
                    round_rows(isa, low, high, to);
                }
            } else {
                for (row, to) in a.chunks(lda).zip(halves.chunks_exact_mut(pairs)) {
                    round_pairs(isa, &row[..k], to);
                }
            }
            let left = Left { a: halves.as_ptr(), lda: if TRANSPOSED { m } else { pairs }, m, k: pairs };
            // SAFETY: pairs are packed only for an `Isa` with bf16. `halves` holds m rows of `pairs` pairs, or
            // transposed `pairs` rows of m, and `data` n columns padded to 16; `out` was checked above.
            unsafe { drive_avx512bf16::<TRANSPOSED>(left, data.as_ptr().cast(), n, out, ldc, store) }
        }
        #[cfg(not(target_arch = "x86_64"))]
        Data::Pairs(_) => unreachable!("pairs are packed only where AVX512-BF16 was detected"),
        Data::F32(data) => {
            let (a, lda) = if b.rounded {
                floats.resize(m * k, 0.0);
                for (row, to) in a.chunks(lda).take(rows).zip(floats.chunks_exact_mut(each)) {
                    round_f32(isa, &row[..each], to);
                }
                (floats.as_slice(), each)
            } else {
                (a, lda)
            };
            let left = Left { a: a.as_ptr(), lda, m, k };
            let data = data.as_ptr().cast::<f32>();
            match isa.0 {
                // SAFETY: the `Isa` proves the instruction set; A was checked by the callers and `out` above, and
                // `data` holds k rows of n columns padded to 16.
                #[cfg(target_arch = "x86_64")]
                Set::Avx512 | Set::Avx512Bf16 => unsafe {
                    drive_avx512::<TRANSPOSED>(left, data, n, out, ldc, store);
                },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Set::Avx2 => unsafe { drive_avx2::<TRANSPOSED>(left, data, n, out, ldc, store) },
                // SAFETY: as above; this one needs no instruction set.
                _ => unsafe { drive::<Portable, TRANSPOSED>(left, data, n, out, ldc, store) },
            }
        }
    });
}

/// A as the tiles see it: `m` rows of `k` elements, or transposed `k` rows of `m`.
struct Left<E> {
    a: *const E,
    lda: usize,
    m: usize,
    k: usize,
}

/// # Safety
/// As [`Micro::tile`] for all rows and panels; `out` holds m rows of n at stride `ldc`.
#[inline(always)]
unsafe fn drive<M: Micro, const TRANSPOSED: bool>(
    left: Left<M::Element>,
    b: *const M::Element,
    n: usize,
    out: &mut [f32],
    ldc: usize,
    store: Store<'_>,
) {
    let mut tile = [0f32; ROWS * PANEL];
    let (bias, add, activation) = match store {
        Store::Set(bias) => (bias, false, None),
        Store::Add(bias) => (bias, true, None),
        Store::Activated(activation, bias) => (bias, false, Some(activation)),
    };
    for first in (0..n).step_by(PANEL) {
        let (columns, width) = panel(n, first);
        let bias = bias.map(|bias| &bias[first..first + columns]);
        // A panel without padding goes where it belongs from the registers.
        let direct = columns == width && activation.is_none();
        for row in (0..left.m).step_by(ROWS) {
            let rows = ROWS.min(left.m - row);
            let from = if TRANSPOSED { row } else { row * left.lda };
            let (a, b) = (left.a.wrapping_add(from), b.wrapping_add(first * left.k));
            let end = match direct {
                true => {
                    let out = &mut out[row * ldc + first..];
                    assert!(out.len() >= (rows - 1) * ldc + columns, "the tile is out of bounds");
                    let bias = bias.map_or(std::ptr::null(), <[f32]>::as_ptr);
                    TileOutput { to: out.as_mut_ptr(), stride: ldc, bias, add }
                }
                false => {
                    TileOutput { to: tile.as_mut_ptr(), stride: width, bias: std::ptr::null(), add: false }
                }
            };
            // SAFETY: row < m and first < n, within A and B by the caller's promise. `end` is rows of this panel's width
            // of `out` and its bias, or the tile, which is the largest.
            unsafe { tile_of_any_size::<M, TRANSPOSED>(rows, width / 16, a, left.lda, left.k, b, end) };
            if direct {
                continue;
            }
            for (i, tile) in tile.chunks_exact_mut(width).take(rows).enumerate() {
                let out = &mut out[(row + i) * ldc + first..][..columns];
                let tile = &mut tile[..columns];
                if let Some(bias) = bias {
                    tile.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
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
    b: *const M::Element,
    end: TileOutput,
) {
    macro_rules! pick {
        ($($mr:literal)*) => {
            match (rows, vectors) {
                $(
                    // SAFETY: the caller's promise, for each size.
                    ($mr, 1) => unsafe { M::tile::<$mr, 1, TRANSPOSED>(a, lda, k, b, end) },
                    // SAFETY: as above.
                    ($mr, 2) => unsafe { M::tile::<$mr, 2, TRANSPOSED>(a, lda, k, b, end) },
                    // SAFETY: as above.
                    ($mr, 3) => unsafe { M::tile::<$mr, 3, TRANSPOSED>(a, lda, k, b, end) },
                    // SAFETY: as above.
                    ($mr, 4) => unsafe { M::tile::<$mr, 4, TRANSPOSED>(a, lda, k, b, end) },
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
        unsafe fn $name<const TRANSPOSED: bool>(
            left: Left<$element>,
            b: *const $element,
            n: usize,
            out: &mut [f32],
            ldc: usize,
            store: Store<'_>,
        ) {
            // SAFETY: the caller's promise.
            unsafe { drive::<super::micro::$micro, TRANSPOSED>(left, b, n, out, ldc, store) }
        }
    };
}
#[cfg(target_arch = "x86_64")]
drive_for!(drive_avx2, Avx2, f32, "avx2,fma");
#[cfg(target_arch = "x86_64")]
drive_for!(drive_avx512, Avx512, f32, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");
#[cfg(target_arch = "x86_64")]
drive_for!(drive_avx512bf16, Avx512Bf16, u32, "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma");
