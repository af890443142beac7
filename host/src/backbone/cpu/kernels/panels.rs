//! Columns of a packed right-hand side: panels as wide as an instruction set's tiles like them, the last as wide as needed, in lines
//! of 16 numbers.

use super::{Isa, Set};

/// Numbers that a panel's rows are padded to a multiple of.
pub(super) const LINE: usize = 16;

/// Columns of the widest panel.
pub(super) const WIDEST: usize = 64;

/// How a right-hand side is cut.
///
/// A tile of AVX-512 holds a row of 64 columns in its registers. One of AVX2 holds 16: a panel of 16 columns is read from the
/// first-level cache by all tiles of rows in turn, which one of 64 would not fit.
///
/// Panels are walked by plain loops: a closure would be compiled without the instruction set around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Panels(usize);

impl Panels {
    pub const NARROW: Self = Self(LINE);
    pub const WIDE: Self = Self(WIDEST);

    /// As the tiles of this set read them.
    pub fn of(isa: Isa) -> Self {
        match isa.0 {
            Set::Avx512 | Set::Avx512Bf16 => Self::WIDE,
            Set::Avx2 | Set::Portable => Self::NARROW,
        }
    }

    /// Columns of each panel but the last.
    #[inline(always)]
    pub const fn step(self) -> usize {
        self.0
    }

    /// The first column of the panel that column `j` is in.
    #[inline(always)]
    pub fn begin(self, j: usize) -> usize {
        j / self.0 * self.0
    }

    /// The columns of the panel that begins at `first`, and their number with padding.
    #[inline(always)]
    pub fn at(self, n: usize, first: usize) -> (usize, usize) {
        let columns = self.0.min(n - first);
        (columns, columns.div_ceil(LINE) * LINE)
    }
}

impl Default for Panels {
    fn default() -> Self {
        Self::WIDE
    }
}
