//! Columns of a packed right-hand side: panels of 64, the last as wide as needed, in lines of 16 numbers.

pub(super) const PANEL: usize = 64;

/// The columns of the panel that begins at `first`, and their number with padding.
///
/// Panels are walked by plain loops: a closure would be compiled without the instruction set around it.
#[inline(always)]
pub(super) fn panel(n: usize, first: usize) -> (usize, usize) {
    let columns = PANEL.min(n - first);
    (columns, columns.div_ceil(16) * 16)
}

/// A cache line, so that no load of a tile straddles two.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub(super) struct Line<E>([E; LINE]);

pub(super) const LINE: usize = 16;

/// The lines' elements in a row.
pub(super) fn elements<E>(lines: &mut [Line<E>]) -> &mut [E] {
    // SAFETY: a `Line` is sixteen elements of four bytes and nothing else (repr(C), 64 bytes).
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * LINE) }
}

/// An element of the lines.
pub(super) fn at<E: Copy>(lines: &[Line<E>], i: usize) -> E {
    lines[i / LINE].0[i % LINE]
}
