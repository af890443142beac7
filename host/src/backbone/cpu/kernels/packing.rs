//! The right-hand side of a product, packed for the tiles.
//!
//! B [k, n] is stored in panels of columns (see `panels`), each panel row after row, zero where it reaches beyond n; with bf16 two
//! consecutive rows share a row of pairs. So a tile streams its panel front to back and never reads past an end.

use super::halves::{Half, Halves};
use super::integers::{Integers, Width};
use super::math::round_bits;
use super::numbers::Numbers;
use super::pairs::{round_pairs, round_rows};
use super::panels::{LINE, Panels};
use super::{Isa, Set};
use crate::backbone::precision::Precision;

/// A right-hand side ready for the tiles of one instruction set.
#[derive(Default)]
pub(crate) struct Packed {
    pub(super) k: usize,
    pub(super) n: usize,
    pub(super) panels: Panels,
    pub(super) data: Data,
    /// The inputs of the product are rounded to bf16 although the tiles compute in f32.
    pub(super) rounded: bool,
}

pub(super) enum Data {
    F32(Numbers<f32>),
    /// Rows 2p (low half) and 2p + 1 of B.
    Pairs(Numbers<u32>),
    Integers(Integers),
    /// At the width of the file, for products in f32.
    Halves(Halves),
}

impl Default for Data {
    fn default() -> Self {
        Self::F32(Numbers::default())
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

    /// B [k, n] from its transpose [n, k], whose rows are then scaled, in the 16 bits of the file for products in f32.
    pub fn narrow<H: Half>(isa: Isa, turned: &[H], k: usize, n: usize, scale: Option<&[f32]>) -> Self {
        let panels = Panels::of(isa);
        Self { k, n, panels, data: Data::Halves(Halves::new(panels, turned, k, n, scale)), rounded: false }
    }

    /// B [k, n] of 8-bit steps that were chosen before, from its transpose [n, k]; a step of column j is worth `units[j]`.
    ///
    /// # Panics
    /// Where the steps are not k of each unit.
    pub fn of_steps(isa: Isa, turned: &[i8], units: &[f32], k: usize) -> Self {
        assert!(k > 0 && turned.len() == k * units.len(), "steps of another shape");
        let data = Data::Integers(Integers::of_steps(isa, turned, units, k));
        Self { k, n: units.len(), panels: Panels::of(isa), data, rounded: false }
    }

    /// B with each column multiplied by its number of `scale` [n], of a packing in f32 that is not rounded.
    ///
    /// # Panics
    /// Where it is another.
    #[must_use]
    pub fn scaled(mut self, scale: &[f32]) -> Self {
        let (k, n, panels) = (self.k, self.n, self.panels);
        let Data::F32(numbers) = &mut self.data else {
            panic!("only numbers of 32 bits are scaled in place")
        };
        assert!(!self.rounded && scale.len() == n, "rounded numbers, or another scale");
        for first in (0..n).step_by(panels.step()) {
            let (columns, width) = panels.at(n, first);
            for row in numbers[first * k..(first + width) * k].chunks_exact_mut(width) {
                row.iter_mut().zip(&scale[first..first + columns]).for_each(|(x, s)| *x *= s);
            }
        }
        self
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
        (self.k, self.n, self.panels) = (k, n, Panels::of(isa));
        if let Some(bits) = Width::of(isa, precision) {
            self.rounded = false;
            self.data = Data::Integers(Integers::pack(isa, bits, source, k, n, strides));
            return;
        }
        let width = n.div_ceil(LINE) * LINE;
        let bf16 = precision == Precision::Bf16;
        self.rounded = bf16 && isa.0 != Set::Avx512Bf16;
        if bf16 && !self.rounded {
            let mut data = match std::mem::take(&mut self.data) {
                Data::Pairs(data) => data,
                _ => Numbers::default(),
            }
            .reused(k.div_ceil(2) * width);
            pack_pairs(isa, self.panels, source, k, n, strides, &mut data);
            self.data = Data::Pairs(data);
        } else {
            let mut data = match std::mem::take(&mut self.data) {
                Data::F32(data) => data,
                _ => Numbers::default(),
            }
            .reused(k * width);
            pack_f32(isa, self.panels, source, (k, n), strides, self.rounded, &mut data);
            self.data = Data::F32(data);
        }
    }

    /// Of memory.
    pub fn bytes(&self) -> usize {
        match &self.data {
            Data::F32(numbers) => numbers.bytes(),
            Data::Pairs(numbers) => numbers.bytes(),
            Data::Integers(integers) => integers.bytes(),
            Data::Halves(halves) => halves.bytes(),
        }
    }

    pub fn rows(&self) -> usize {
        self.k
    }

    pub fn columns(&self) -> usize {
        self.n
    }

    /// B [k, n] by rows, as it is multiplied with: rounded where the product's inputs are.
    pub fn unpacked(&self) -> Vec<f32> {
        let (k, n, panels) = (self.k, self.n, self.panels);
        let (mut rows, mut wide) = (vec![0f32; k * n], Numbers::default());
        for first in (0..n).step_by(panels.step()) {
            let (columns, width) = panels.at(n, first);
            if let Data::Halves(halves) = &self.data {
                halves.widen(first, &mut wide);
            }
            for (i, row) in rows.chunks_exact_mut(n).enumerate() {
                for (j, to) in row[first..first + columns].iter_mut().enumerate() {
                    *to = match &self.data {
                        Data::F32(numbers) => numbers[first * k + i * width + j],
                        Data::Halves(_) => wide[i * width + j],
                        Data::Pairs(pairs) => {
                            let pair = pairs[first * k.div_ceil(2) + i / 2 * width + j];
                            f32::from_bits(if i % 2 == 0 { pair << 16 } else { pair & 0xffff_0000 })
                        }
                        Data::Integers(integers) => integers.at(k, n, i, first + j),
                    };
                }
            }
        }
        rows
    }
}

#[inline(always)]
fn pack_f32_body(
    panels: Panels,
    source: &[f32],
    (k, n): (usize, usize),
    strides: (usize, usize),
    round: bool,
    data: &mut [f32],
) {
    for first in (0..n).step_by(panels.step()) {
        let (columns, width) = panels.at(n, first);
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

fn pack_pairs(
    isa: Isa,
    panels: Panels,
    source: &[f32],
    k: usize,
    n: usize,
    strides: (usize, usize),
    data: &mut [u32],
) {
    let pairs = k.div_ceil(2);
    for first in (0..n).step_by(panels.step()) {
        let (columns, width) = panels.at(n, first);
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
    fn pack_f32(
        panels: Panels,
        source: &[f32],
        shape: (usize, usize),
        strides: (usize, usize),
        round: bool,
        data: &mut [f32],
    ) = pack_f32_body;
}
