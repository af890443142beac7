//! Code-blocks: three passes over each bit plane, from decisions to coefficients.
//!
//! What a pass has to do is told by sets: a [`Set`] has a bit for each of 64 coefficients, 16 columns of a stripe of four rows,
//! in the order in which passes go through them. So a pass takes one bit after the other out of a set, and has no branch for
//! coefficients that are not its own.
//!
//! Contexts are told by words, one for the four coefficients of a column. Bits of row r begin at 3r: 0 to 8 are whether the
//! 3 × 3 coefficients around it are significant (4 is its own), 19 its sign. 18 and 31 are the signs above and below the column.

use super::arithmetic::{Contexts, Decoder, EVEN, RUN, initial};
use super::tile::{Block, Kind};

const EDGE: usize = 64;
const STRIPES: usize = EDGE / 4;
/// Words in a row: one more on either side.
const STRIDE: usize = EDGE + 2;
/// Sets in a row: one more on either side.
const SETS: usize = EDGE / 16 + 2;
/// All but a coefficient's own bit.
const AROUND: u32 = 0b1_1110_1111;

/// 64 coefficients: bit 4x + y is row y of column x.
type Set = u64;

/// Row 0 of each column, and so on.
const ROW: [Set; 4] =
    [0x1111_1111_1111_1111, 0x2222_2222_2222_2222, 0x4444_4444_4444_4444, 0x8888_8888_8888_8888];

/// A table per kind of subband: the context of a coefficient by the significance around it (Table D.1).
static SIGNIFICANCE: [[u8; 512]; 4] = [significance(0), significance(1), significance(2), significance(3)];

const fn significance(kind: usize) -> [u8; 512] {
    let mut table = [0; 512];
    let mut f = 0;
    while f < 512 {
        let mut h = (f >> 3 & 1) + (f >> 5 & 1);
        let mut v = (f >> 1 & 1) + (f >> 7 & 1);
        let d = (f & 1) + (f >> 2 & 1) + (f >> 6 & 1) + (f >> 8 & 1);
        if kind == 1 {
            (h, v) = (v, h);
        }
        table[f] = if kind == 3 {
            match (d, h + v) {
                (3.., _) => 8,
                (2, 1..) => 7,
                (2, _) => 6,
                (1, 2..) => 5,
                (1, 1) => 4,
                (1, _) => 3,
                (_, 2..) => 2,
                (_, n) => n as u8,
            }
        } else {
            match (h, v, d) {
                (2, _, _) => 8,
                (1, 1.., _) => 7,
                (1, 0, 1..) => 6,
                (1, 0, _) => 5,
                (_, 2, _) => 4,
                (_, 1, _) => 3,
                (_, _, 2..) => 2,
                (_, _, d) => d as u8,
            }
        };
        f += 1;
    }
    table
}

/// Context of a sign, and in bit 7 whether the decision is the opposite of the sign (Tables D.2 and D.3). Of the index, bits
/// 1, 3, 5, 7 are whether the coefficients above, left, right and below are significant; 4, 0, 2, 6 are their signs.
static SIGN: [u8; 256] = {
    let mut table = [0; 256];
    let mut f = 0;
    while f < 256 {
        let mut sums = [0_i32; 2];
        let parts = [(3, 0, 0), (5, 2, 0), (1, 4, 1), (7, 6, 1)];
        let mut i = 0;
        while i < 4 {
            let (significant, sign, axis) = parts[i];
            sums[axis] += (f >> significant & 1) * (1 - 2 * (f >> sign & 1));
            i += 1;
        }
        let (h, v) = (sums[0].signum(), sums[1].signum());
        let (h, v, opposite) = if h < 0 || (h == 0 && v < 0) { (-h, -v, 0x80) } else { (h, v, 0) };
        table[f as usize] = opposite | if h == 1 { (12 + v) as u8 } else { (9 + v) as u8 };
        f += 1;
    }
    table
};

/// Decodes one code-block after the other, in the same memory.
pub(super) struct BlockDecoder {
    words: Box<[u32; STRIDE * (STRIPES + 2)]>,
    /// Magnitudes times two, in the order of the passes, of which the lowest bit decoded so far is followed by a half; the highest
    /// bit is the sign.
    values: Box<[u32; EDGE * EDGE]>,
    significant: [Set; SETS * (STRIPES + 2)],
    /// Those that this plane's first pass went to, and those that were refined in any plane.
    visited: [Set; SETS * (STRIPES + 2)],
    refined: [Set; SETS * (STRIPES + 2)],
    size: [usize; 2],
}

/// 64 coefficients of a block: index of their set, of their first column's word, of their first value, and those that the block
/// has.
#[derive(Clone, Copy)]
struct Group {
    set: usize,
    word: usize,
    value: usize,
    present: Set,
}

impl BlockDecoder {
    pub fn new() -> Self {
        let none = [0; SETS * (STRIPES + 2)];
        Self {
            words: Box::new([0; STRIDE * (STRIPES + 2)]),
            values: Box::new([0; EDGE * EDGE]),
            significant: none,
            visited: none,
            refined: none,
            size: [0; 2],
        }
    }

    /// Decodes all passes of a block; `None` for one larger than 64 × 64.
    pub fn decode(&mut self, encoded: &[u8], block: &Block, kind: Kind) -> Option<()> {
        self.size = block.area.size();
        if self.size.iter().any(|n| *n > EDGE) {
            return None;
        }
        self.words.fill(0);
        self.values.fill(0);
        for sets in [&mut self.significant, &mut self.visited, &mut self.refined] {
            sets.fill(0);
        }
        let contexts = &SIGNIFICANCE[kind as usize];
        let mut coder = Coder { decoder: Decoder::new(encoded), contexts: initial() };
        let mut plane = block.bit_planes;
        // The first plane has a cleanup pass alone.
        for pass in 2..block.passes + 2 {
            match pass % 3 {
                0 => self.propagate(&mut coder, contexts, plane),
                1 => self.refine(&mut coder, plane),
                _ => {
                    self.clean_up(&mut coder, contexts, plane);
                    plane -= 1;
                }
            }
        }
        Some(())
    }

    /// Writes the coefficients to the first rows and columns of `out`.
    pub fn write(&self, [width, height]: [usize; 2], out: &mut [i32], stride: usize) {
        for (y, line) in out.chunks_mut(stride).take(height).enumerate() {
            let values = &self.values[y / 4 * 4 * EDGE + y % 4..];
            for (v, stored) in line[..width].iter_mut().zip(values.iter().step_by(4)) {
                let magnitude = (stored << 1 >> 2) as i32;
                *v = if stored >> 31 == 1 { -magnitude } else { magnitude };
            }
        }
    }

    /// The block's groups, in the order of the passes.
    fn groups(&self) -> impl Iterator<Item = Group> + use<> {
        let [width, height] = self.size;
        let row = move |y: usize| ROW[..(height - 4 * y).min(4)].iter().fold(0, |all, row| all | row);
        let columns =
            move |x: usize| if width - 16 * x < 16 { (1 << (4 * (width - 16 * x))) - 1 } else { Set::MAX };
        (0..height.div_ceil(4)).flat_map(move |y| {
            let rows = row(y);
            (0..width.div_ceil(16)).map(move |x| Group {
                set: (y + 1) * SETS + x + 1,
                word: (y + 1) * STRIDE + 16 * x + 1,
                value: y * 4 * EDGE + 64 * x,
                present: rows & columns(x),
            })
        })
    }

    /// The coefficients of a group that have a significant neighbour.
    fn beside_significant(&self, group: Group) -> Set {
        let at = group.set;
        let vertical = |at: usize| {
            let [above, own, below] = [at - SETS, at, at + SETS].map(|at| self.significant[at]);
            let down = own << 1 & !ROW[0] | above >> 3 & ROW[0];
            let up = own >> 1 & !ROW[3] | below << 3 & ROW[3];
            (up | down, up | down | own)
        };
        let ((_, left), (own, column), (_, right)) = (vertical(at - 1), vertical(at), vertical(at + 1));
        own | column << 4 | left >> 60 | column >> 4 | right << 60
    }

    /// First pass: coefficients beside significant ones (D.3.1).
    #[inline(never)] // Together, the passes would need more registers than there are.
    fn propagate(&mut self, coder: &mut Coder, contexts: &[u8; 512], plane: u32) {
        let value = 3 << (plane - 1);
        let mut local = *coder;
        for group in self.groups() {
            let outside = group.present & !self.significant[group.set];
            let mut open = self.beside_significant(group) & outside;
            let mut visited = 0;
            while open != 0 {
                let at = open.trailing_zeros();
                open &= open - 1;
                visited |= 1 << at;
                if local.decide(contexts[self.context(group, at)]) == 1 {
                    self.become_significant(&mut local, group, at, value);
                    open |= after(at) & outside;
                }
            }
            self.visited[group.set] = visited;
        }
        *coder = local;
    }

    /// Second pass: one bit more of what became significant in planes before (D.3.3).
    #[inline(never)]
    fn refine(&mut self, coder: &mut Coder, plane: u32) {
        let half = 1_u32 << (plane - 1);
        let mut local = *coder;
        for group in self.groups() {
            let mut open = self.significant[group.set] & !self.visited[group.set];
            if open == 0 {
                continue;
            }
            // Contexts 14, 15 and 16: refined before, else beside a significant one, else neither.
            let refined = self.refined[group.set];
            let beside = self.beside_significant(group) & !refined;
            self.refined[group.set] |= open;
            let values = &mut self.values[group.value..][..64];
            while open != 0 {
                let at = open.trailing_zeros();
                open &= open - 1;
                let bit = local.decide(14 + (2 * (refined >> at & 1) + (beside >> at & 1)) as u8);
                // Up or down by a half.
                let value = &mut values[at as usize];
                *value = value.wrapping_sub(half).wrapping_add(bit * 2 * half);
            }
        }
        *coder = local;
    }

    /// Third pass: all others, in runs of four where nothing around is significant (D.3.4).
    #[inline(never)]
    fn clean_up(&mut self, coder: &mut Coder, contexts: &[u8; 512], plane: u32) {
        let value = 3 << (plane - 1);
        let mut local = *coder;
        for group in self.groups() {
            let mut open = group.present & !self.significant[group.set] & !self.visited[group.set];
            let mut beside = self.beside_significant(group);
            self.visited[group.set] = 0;
            while open != 0 {
                let mut at = open.trailing_zeros();
                let is_run = open >> at & 15 == 15 && at.is_multiple_of(4) && beside >> at & 15 == 0;
                if is_run {
                    if local.decide_likely(RUN) == 0 {
                        open &= !(15 << at);
                        continue;
                    }
                    let row = local.decide(EVEN) << 1 | local.decide(EVEN);
                    at += row;
                    // Those before it stayed insignificant.
                    open &= Set::MAX << at;
                }
                open &= open - 1;
                if is_run || local.decide(contexts[self.context(group, at)]) == 1 {
                    self.become_significant(&mut local, group, at, value);
                    beside |= after(at);
                }
            }
        }
        *coder = local;
    }

    /// Index into the table of contexts by what is significant around a coefficient.
    fn context(&self, group: Group, at: u32) -> usize {
        (self.words[group.word + (at / 4) as usize] >> (3 * (at % 4)) & AROUND) as usize
    }

    /// Decodes the sign of a coefficient and tells its neighbours.
    #[inline(always)]
    fn become_significant(&mut self, coder: &mut Coder, group: Group, at: u32, value: u32) {
        let (word, row) = (group.word + (at / 4) as usize, 3 * (at % 4));
        let words = &mut self.words[word - STRIDE - 1..=word + STRIDE + 1];
        let (middle, own) = (STRIDE + 1, words[STRIDE + 1]);
        let (left, right) = (words[middle - 1], words[middle + 1]);
        let above = if row == 0 { own >> 18 } else { own >> 16 >> row };
        let around = own >> row & 0b1010_1010
            | left >> 19 >> row & 1
            | (right >> 19 >> row & 1) << 2
            | (above & 1) << 4
            | (own >> 22 >> row & 1) << 6;
        let of_sign = SIGN[around as usize & 255];
        let sign = coder.decide(of_sign & 0x7F) ^ u32::from(of_sign >> 7);
        words[middle - 1] = left | 1 << 5 << row;
        words[middle] = own | (1 << 4 | sign << 19) << row;
        words[middle + 1] = right | 1 << 3 << row;
        if row == 0 {
            words[0] |= 1 << 17;
            words[1] |= 1 << 16 | sign << 31;
            words[2] |= 1 << 15;
        } else if row == 9 {
            words[2 * STRIDE] |= 1 << 2;
            words[2 * STRIDE + 1] |= 1 << 1 | sign << 18;
            words[2 * STRIDE + 2] |= 1;
        }
        self.significant[group.set] |= 1 << at;
        self.values[group.value + at as usize] = value | sign << 31;
    }
}

/// The neighbours of a coefficient in its group that come after it.
fn after(at: u32) -> Set {
    [0b11_0010, 0b11_1010, 0b11_1010, 0b01_1000][at as usize % 4] << at
}

/// Decoder and contexts, which a pass copies so that they stay in registers.
#[derive(Clone, Copy)]
struct Coder<'a> {
    decoder: Decoder<'a>,
    contexts: Contexts,
}

impl Coder<'_> {
    #[inline(always)]
    fn decide(&mut self, context: u8) -> u32 {
        self.decoder.decide(&mut self.contexts, context)
    }

    #[inline(always)]
    fn decide_likely(&mut self, context: u8) -> u32 {
        self.decoder.decide_likely(&mut self.contexts, context)
    }
}
