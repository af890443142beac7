//! Both sides of a product as integers: rows of A with a unit each, columns of B with a unit each, and sums in i32 that cannot
//! overflow.
//!
//! With 16 bits a row has 8191 steps and a column as many as its sums allow, which is more than bf16 tells apart; a processor
//! without bf16 multiplies twice as many of them as f32. With 8 bits a row and a column have 255 steps, and a processor with VNNI
//! multiplies twice as many of them as bf16. Units are chosen anew for every row of A: what one token holds does not coarsen another.
//! Rows of 8 bits reach from their lowest number to their highest, which are seldom alike: after GELU nothing is far below 0.

use super::micro::{Columns, RowUnit};
use super::numbers::Numbers;
use super::panels::{LINE, Panels};
use super::{Isa, per_isa};
use crate::backbone::precision::Precision;

/// Most steps from 0 of a row of A in 16 bits. With the columns of B as [`steps_of_column`] has them a sum stays below 2³¹.
const ROW_STEPS: f32 = 4095.0;
/// Most steps from 0 of a column of B in 8 bits.
const BYTE_STEPS: f32 = 127.0;
/// Steps from the lowest to the highest number of a row of A in 8 bits, which are unsigned, as VNNI's product wants one side.
const ROW_BYTE_STEPS: f32 = 255.0;

/// Bits of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Sixteen,
    Eight,
}

impl Width {
    /// Of a packing in this precision; `None` where it has no integers.
    pub fn of(isa: Isa, precision: Precision) -> Option<Self> {
        match precision {
            Precision::Int8 if isa.has_vnni() => Some(Self::Eight),
            Precision::Int8 | Precision::Int16 => Some(Self::Sixteen),
            Precision::F32 | Precision::Bf16 => None,
        }
    }

    /// Numbers in a u32.
    pub fn each(self) -> usize {
        match self {
            Self::Sixteen => 2,
            Self::Eight => 4,
        }
    }
}

/// B [k, n] in panels as `packing` describes them, two or four rows to a u32.
pub(super) struct Integers {
    pub width: Width,
    panels: Panels,
    pub packed: Numbers<u32>,
    /// What a step of each column is worth; 0 beyond n.
    units: Vec<f32>,
    /// 8 bits: sum of each column's steps, which a row's zero adds to its sums.
    sums: Vec<i32>,
}

impl Integers {
    /// B whose element (i, j) is `source[i · strides.0 + j · strides.1]`.
    pub fn pack(isa: Isa, width: Width, source: &[f32], k: usize, n: usize, strides: (usize, usize)) -> Self {
        let (words, padded) = (k.div_ceil(width.each()), n.div_ceil(LINE) * LINE);
        let mut data = Numbers::zeros(words * padded);
        let (mut units, mut sums) = (vec![0f32; padded], vec![0i32; padded]);
        let (mut column, mut packed) = (vec![0f32; k], vec![0u32; words]);
        let panels = Panels::of(isa);
        for first in (0..n).step_by(panels.step()) {
            let (columns, wide) = panels.at(n, first);
            let panel = &mut data[first * words..(first + wide) * words];
            for j in 0..columns {
                for (i, x) in column.iter_mut().enumerate() {
                    *x = source[i * strides.0 + (first + j) * strides.1];
                }
                let steps = steps_of_column(width, &column);
                units[first + j] = match width {
                    Width::Sixteen => sixteen(isa, &column, steps, &mut packed),
                    Width::Eight => eight(isa, &column, steps, &mut packed),
                };
                for (p, word) in packed.iter().enumerate() {
                    panel[p * wide + j] = *word;
                }
                if width == Width::Eight {
                    let bytes = packed.iter().flat_map(|w| w.to_le_bytes());
                    sums[first + j] = bytes.map(|b| i32::from(b as i8)).sum();
                }
            }
        }
        Self { width, panels, packed: data, units, sums }
    }

    /// B of 8-bit steps that were chosen before: column j is `turned[j · k..]`, and a step of it is worth `units[j]`.
    pub fn of_steps(isa: Isa, turned: &[i8], units: &[f32], k: usize) -> Self {
        let (n, width) = (units.len(), Width::Eight);
        let (words, padded) = (k.div_ceil(width.each()), n.div_ceil(LINE) * LINE);
        let mut data = Numbers::zeros(words * padded);
        let panels = Panels::of(isa);
        for first in (0..n).step_by(panels.step()) {
            let (columns, wide) = panels.at(n, first);
            let panel = &mut data[first * words..(first + wide) * words];
            for (j, column) in turned[first * k..].chunks_exact(k).take(columns).enumerate() {
                for (p, steps) in column.chunks(width.each()).enumerate() {
                    panel[p * wide + j] =
                        steps.iter().rev().fold(0, |word, s| word << 8 | u32::from(*s as u8));
                }
            }
        }
        let sum = |column: &[i8]| column.iter().map(|s| i32::from(*s)).sum();
        let beyond = padded - n;
        let sums = turned.chunks_exact(k).map(sum).chain(std::iter::repeat_n(0, beyond)).collect();
        let units = units.iter().copied().chain(std::iter::repeat_n(0.0, beyond)).collect();
        Self { width, panels, packed: data, units, sums }
    }

    pub fn bytes(&self) -> usize {
        self.packed.bytes() + size_of_val(&*self.units) + size_of_val(&*self.sums)
    }

    /// Element (i, j), rounded as it is multiplied with.
    pub fn at(&self, k: usize, n: usize, i: usize, j: usize) -> f32 {
        let (first, each) = (self.panels.begin(j), self.width.each());
        let (_, wide) = self.panels.at(n, first);
        let word = self.packed[first * k.div_ceil(each) + i / each * wide + j - first];
        let number = match self.width {
            Width::Sixteen => i32::from((word >> (16 * (i % 2))) as u16 as i16),
            Width::Eight => i32::from((word >> (8 * (i % 4))) as u8 as i8),
        };
        number as f32 * self.units[j]
    }

    /// As a tile reads them, from its first column on.
    pub fn columns(&self) -> Columns {
        Columns { units: self.units.as_ptr(), sums: self.sums.as_ptr() }
    }
}

/// Most steps from 0 of a column of B: so many that no sum of products with [`ROW_STEPS`] reaches 2³¹. The sum of the column's
/// steps decides it, not the largest one: a column of weights has few large ones.
fn steps_of_column(width: Width, column: &[f32]) -> f32 {
    if width == Width::Eight {
        return BYTE_STEPS;
    }
    let most = column.iter().fold(0f64, |most, x| most.max(f64::from(x.abs())));
    let sum: f64 = column.iter().map(|x| f64::from(x.abs())).sum();
    // Half a step of rounding for each number.
    let all = (f64::from(i32::MAX) / f64::from(ROW_STEPS) - 0.5 * column.len() as f64 - 1.0).max(1.0);
    let steps = if sum > 0.0 { all * most / sum } else { 1.0 };
    steps.floor().clamp(1.0, f64::from(i16::MAX)) as f32
}

/// Rows of A, `m` of `k` numbers at stride `lda`: packed words, row after row, and what each row's integers are worth.
pub(super) fn quantise(
    isa: Isa,
    width: Width,
    (a, lda): (&[f32], usize),
    (m, k): (usize, usize),
    words: &mut Vec<u32>,
    units: &mut Vec<RowUnit>,
) {
    let each = k.div_ceil(width.each());
    words.resize(m * each, 0);
    units.resize(m, RowUnit::default());
    for ((row, to), unit) in a.chunks(lda).zip(words.chunks_exact_mut(each)).zip(units) {
        *unit = match width {
            Width::Sixteen => RowUnit { unit: sixteen(isa, &row[..k], ROW_STEPS, to), zero: 0 },
            Width::Eight => unsigned(isa, &row[..k], to),
        };
    }
}

/// Adding it rounds a number of less than 2²² to an integer, to nearest and ties to even, in the low bits.
const ROUND: f32 = 12_582_912.0;

#[inline(always)]
fn rounded(x: f32) -> i32 {
    (x + ROUND).to_bits() as i32 - ROUND.to_bits() as i32
}

/// Steps per unit and what a step is worth, of numbers that go to `steps` from 0. A number that is none makes every sum none.
#[inline(always)]
fn unit_of(x: &[f32], steps: f32) -> (f32, f32) {
    let (mut most, mut finite) = ([0f32; LINE], [0f32; LINE]);
    let (lines, rest) = x.as_chunks::<LINE>();
    for line in lines {
        for i in 0..LINE {
            let size = line[i].abs();
            most[i] = if size > most[i] { size } else { most[i] };
            finite[i] += line[i] * 0.0;
        }
    }
    for x in rest {
        most[0] = if x.abs() > most[0] { x.abs() } else { most[0] };
        finite[0] += x * 0.0;
    }
    let most = most.into_iter().fold(0f32, f32::max);
    let none: f32 = finite.iter().sum();
    if most > 0.0 { (steps / most, most / steps + none) } else { (0.0, none) }
}

#[inline(always)]
fn sixteen_body(x: &[f32], steps: f32, to: &mut [u32]) -> f32 {
    let (scale, unit) = unit_of(x, steps);
    let (pairs, rest) = x.as_chunks::<2>();
    for (pair, to) in pairs.iter().zip(&mut *to) {
        *to = rounded(pair[0] * scale) as u32 & 0xffff | (rounded(pair[1] * scale) as u32) << 16;
    }
    if let ([last], Some(to)) = (rest, to.last_mut()) {
        *to = rounded(last * scale) as u32 & 0xffff;
    }
    unit
}

/// The lowest and the highest of numbers and 0, and 0, or none where one of them is.
#[inline(always)]
fn range_of(x: &[f32]) -> (f32, f32, f32) {
    let (mut low, mut high, mut none) = ([0f32; LINE], [0f32; LINE], [0f32; LINE]);
    let (lines, rest) = x.as_chunks::<LINE>();
    for line in lines {
        for i in 0..LINE {
            low[i] = if line[i] < low[i] { line[i] } else { low[i] };
            high[i] = if line[i] > high[i] { line[i] } else { high[i] };
            none[i] += line[i] * 0.0;
        }
    }
    for x in rest {
        low[0] = if *x < low[0] { *x } else { low[0] };
        high[0] = if *x > high[0] { *x } else { high[0] };
        none[0] += x * 0.0;
    }
    (low.into_iter().fold(0f32, f32::min), high.into_iter().fold(0f32, f32::max), none.iter().sum())
}

/// Four numbers to a word.
#[inline(always)]
fn bytes_of(x: &[f32], to: &mut [u32], byte: impl Fn(f32) -> u32) {
    let (quads, rest) = x.as_chunks::<4>();
    for (quad, to) in quads.iter().zip(&mut *to) {
        *to = byte(quad[0]) | byte(quad[1]) << 8 | byte(quad[2]) << 16 | byte(quad[3]) << 24;
    }
    if let (false, Some(to)) = (rest.is_empty(), to.last_mut()) {
        *to = rest.iter().rev().fold(0, |word, x| word << 8 | byte(*x));
    }
}

#[inline(always)]
fn eight_body(x: &[f32], steps: f32, to: &mut [u32]) -> f32 {
    let (scale, unit) = unit_of(x, steps);
    bytes_of(x, to, |x| rounded(x * scale) as u32 & 0xff);
    unit
}

#[inline(always)]
fn unsigned_body(x: &[f32], to: &mut [u32]) -> RowUnit {
    let (low, high, none) = range_of(x);
    let range = high - low;
    if !(range > 0.0 && range.is_finite()) {
        to.fill(0);
        return RowUnit { unit: none + range * 0.0, zero: 0 };
    }
    let scale = ROW_BYTE_STEPS / range;
    let zero = rounded(-low * scale);
    let shift = zero as f32;
    let byte = |x: f32| {
        let x = x * scale + shift;
        // Both ends may round outwards.
        let x = if x < ROW_BYTE_STEPS { x } else { ROW_BYTE_STEPS };
        rounded(if x > 0.0 { x } else { 0.0 }) as u32
    };
    bytes_of(x, to, byte);
    RowUnit { unit: range / ROW_BYTE_STEPS + none, zero }
}

per_isa! {
    /// Two numbers to a word, the first in the low half; returns what a step is worth. `to` has half as many, rounded up.
    fn sixteen(x: &[f32], steps: f32, to: &mut [u32]) -> f32 = sixteen_body;
}
per_isa! {
    /// Four numbers to a word, the first in the lowest byte; returns what a step is worth.
    fn eight(x: &[f32], steps: f32, to: &mut [u32]) -> f32 = eight_body;
}
per_isa! {
    /// Four numbers to a word, the first in the lowest byte, as steps from the lowest of the row and 0.
    fn unsigned(x: &[f32], to: &mut [u32]) -> RowUnit = unsigned_body;
}
