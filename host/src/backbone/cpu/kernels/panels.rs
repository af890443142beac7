//! Columns of a packed right-hand side: panels of 64, the last as wide as needed, in lines of 16 numbers.

pub(super) const PANEL: usize = 64;

/// Numbers that a panel's rows are padded to a multiple of.
pub(super) const LINE: usize = 16;

/// The columns of the panel that begins at `first`, and their number with padding.
///
/// Panels are walked by plain loops: a closure would be compiled without the instruction set around it.
#[inline(always)]
pub(super) fn panel(n: usize, first: usize) -> (usize, usize) {
    let columns = PANEL.min(n - first);
    (columns, columns.div_ceil(LINE) * LINE)
}
