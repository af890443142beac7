//! Matrix products with a packed right-hand side: `out (+)= A · B + bias`.

use super::Isa;
pub(crate) use super::drive::Store;
#[cfg(target_arch = "x86_64")]
use super::drive::drive_avx512bf16;
use super::drive::{Left, drive_f32, product_of_integers};
use super::integers::quantise;
use super::math::round_f32;
use super::micro::{Columns, RowUnit};
use super::numbers::Numbers;
use super::packing::Data;
pub(crate) use super::packing::Packed;
use super::pairs::{round_pairs, round_rows};
use super::panels::Panels;
use std::cell::RefCell;

thread_local! {
    /// A as the tiles read it, reused from product to product.
    static LEFT: RefCell<(Vec<f32>, Vec<u32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
    /// A panel of B, where it is kept in 16 bits: in lines, because a tile loads whole ones.
    static WIDENED: RefCell<Numbers<f32>> = RefCell::default();
    /// Units of A's rows, where they are integers.
    static UNITS: RefCell<Vec<RowUnit>> = const { RefCell::new(Vec::new()) };
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
    assert!(b.panels == Panels::of(isa), "B is packed for another instruction set");
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
            let units = std::ptr::null();
            let left =
                Left { a: halves.as_ptr(), lda: if TRANSPOSED { m } else { pairs }, m, k: pairs, units };
            // SAFETY: pairs are packed only for an `Isa` with bf16. `halves` holds m rows of `pairs` pairs, or
            // transposed `pairs` rows of m, and `data` n columns padded to 16; `out` was checked above.
            unsafe {
                drive_avx512bf16::<TRANSPOSED>(left, data.as_ptr().cast(), Columns::NONE, n, out, ldc, store)
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        Data::Pairs(_) => unreachable!("pairs are packed only where AVX512-BF16 was detected"),
        Data::Integers(integers) => UNITS.with_borrow_mut(|units| {
            assert!(!TRANSPOSED, "integers are not multiplied transposed");
            quantise(isa, integers.width, (a, lda), (m, k), halves, units);
            let words = k.div_ceil(integers.width.each());
            let left = Left { a: halves.as_ptr(), lda: words, m, k: words, units: units.as_ptr() };
            // SAFETY: `halves` holds m rows of `words` words and `units` a unit of each row; the integers have n columns
            // padded to 16, and as many units and sums. `out` was checked above.
            unsafe { product_of_integers(isa, left, integers, n, out, ldc, store) }
        }),
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
            let left = Left { a: a.as_ptr(), lda, m, k, units: std::ptr::null() };
            // SAFETY: A was checked by the callers and `out` above, and `data` holds k rows of n columns padded to 16.
            unsafe { drive_f32::<TRANSPOSED>(isa, left, data.as_ptr().cast(), n, out, ldc, store) }
        }
        Data::Halves(halves) => WIDENED.with_borrow_mut(|wide| {
            for first in (0..n).step_by(b.panels.step()) {
                let (columns, _) = b.panels.at(n, first);
                halves.widen(first, wide);
                let left = Left { a: a.as_ptr(), lda, m, k, units: std::ptr::null() };
                let (out, store) = (&mut out[first..], store.of(first..first + columns));
                // SAFETY: as above, of the panel alone: `wide` holds k rows of its columns padded to 16, from a multiple of 64
                // bytes on.
                unsafe { drive_f32::<TRANSPOSED>(isa, left, wide.as_ptr(), columns, out, ldc, store) }
            }
        }),
    });
}
