//! The MQ decoder: decisions from compressed bytes, each by the statistics of its context.
//!
//! The standard decides with four branches, which noise makes unpredictable. Here both outcomes are computed and one is
//! chosen, and the code register holds 48 bits ahead, so that only one decision in about thirty waits for bytes.

/// Decisions are told apart by 19 contexts; the rest of the table keeps indexing free of checks.
const CONTEXTS: usize = 32;
/// A run of four coefficients that stay insignificant.
pub(super) const RUN: u8 = 17;
/// Decisions of even odds.
pub(super) const EVEN: u8 = 18;

/// Probability of the less probable symbol, the next state after the more and after the less probable one, and whether that
/// exchanges the two (Table C.2).
const STATES: [(u16, u8, u8, bool); 47] = [
    (0x5601, 1, 1, true),
    (0x3401, 2, 6, false),
    (0x1801, 3, 9, false),
    (0x0AC1, 4, 12, false),
    (0x0521, 5, 29, false),
    (0x0221, 38, 33, false),
    (0x5601, 7, 6, true),
    (0x5401, 8, 14, false),
    (0x4801, 9, 14, false),
    (0x3801, 10, 14, false),
    (0x3001, 11, 17, false),
    (0x2401, 12, 18, false),
    (0x1C01, 13, 20, false),
    (0x1601, 29, 21, false),
    (0x5601, 15, 14, true),
    (0x5401, 16, 14, false),
    (0x5101, 17, 15, false),
    (0x4801, 18, 16, false),
    (0x3801, 19, 17, false),
    (0x3401, 20, 18, false),
    (0x3001, 21, 19, false),
    (0x2801, 22, 19, false),
    (0x2401, 23, 20, false),
    (0x2201, 24, 21, false),
    (0x1C01, 25, 22, false),
    (0x1801, 26, 23, false),
    (0x1601, 27, 24, false),
    (0x1401, 28, 25, false),
    (0x1201, 29, 26, false),
    (0x1101, 30, 27, false),
    (0x0AC1, 31, 28, false),
    (0x09C1, 32, 29, false),
    (0x08A1, 33, 30, false),
    (0x0521, 34, 31, false),
    (0x0441, 35, 32, false),
    (0x02A1, 36, 33, false),
    (0x0221, 37, 34, false),
    (0x0141, 38, 35, false),
    (0x0111, 39, 36, false),
    (0x0085, 40, 37, false),
    (0x0049, 41, 38, false),
    (0x0025, 42, 39, false),
    (0x0015, 43, 40, false),
    (0x0009, 44, 41, false),
    (0x0005, 45, 42, false),
    (0x0001, 45, 43, false),
    (0x5601, 46, 46, false),
];

/// The probability is in a state's highest 16 bits, where the registers have theirs; its lowest eight are its place in
/// [`NEXT`], twice the row of the table and the more probable symbol.
const fn state(row: usize, symbol: u64) -> u64 {
    (STATES[row].0 as u64) << 48 | (2 * row as u64 + symbol)
}

/// For each state: itself, the one after the more probable symbol, the one after the less probable symbol.
static NEXT: [[u64; 4]; 256] = {
    let mut next = [[0; 4]; 256];
    let mut row = 0;
    while row < 47 {
        let (_, more, less, exchanges) = STATES[row];
        let mut symbol = 0;
        while symbol < 2 {
            let other = if exchanges { 1 - symbol } else { symbol };
            next[2 * row + symbol as usize] =
                [state(row, symbol), state(more as usize, symbol), state(less as usize, other), 0];
            symbol += 1;
        }
        row += 1;
    }
    next
};

const PROBABILITY: u64 = 0xFFFF << 48;

/// Decodes the bytes of one code-block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decoder<'a> {
    data: &'a [u8],
    at: usize,
    /// Interval and code register, with their 16 bits of the standard highest.
    interval: u64,
    code: u64,
    /// Lowest bits of the code register that no byte has filled yet.
    free: u32,
}

/// The state of each context, which outlives passes.
pub(super) type Contexts = [u64; CONTEXTS];

/// As every code-block begins (Table D.7).
pub(super) fn initial() -> Contexts {
    let mut contexts = [state(0, 0); CONTEXTS];
    contexts[0] = state(4, 0);
    contexts[RUN as usize] = state(3, 0);
    contexts[EVEN as usize] = state(46, 0);
    contexts
}

impl<'a> Decoder<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        let (at, code, free) = filled(data, 0, 0, 63);
        Self { data, at, interval: 1 << 63, code, free }
    }

    /// [`Self::decide`] in a context whose more probable symbol is nearly always right: with a branch for it.
    #[inline(always)]
    pub fn decide_likely(&mut self, contexts: &mut Contexts, context: u8) -> u32 {
        let now = contexts[context as usize % CONTEXTS];
        let probability = now & PROBABILITY;
        let rest = self.interval.wrapping_sub(probability);
        if self.code < probability || rest >> 63 == 0 {
            return self.decide(contexts, context);
        }
        self.interval = rest;
        self.code -= probability;
        now as u32 & 1
    }

    /// The next decision, in `context`.
    #[inline(always)]
    pub fn decide(&mut self, contexts: &mut Contexts, context: u8) -> u32 {
        let slot = &mut contexts[context as usize % CONTEXTS];
        let now = *slot;
        let probability = now & PROBABILITY;
        let rest = self.interval.wrapping_sub(probability);
        // Two thirds of the standard's branches: below the probability or above, and whether the two parts are exchanged.
        let (above, below) = self.code.overflowing_sub(probability);
        let less = below ^ (rest < probability);
        let interval = if below { probability } else { rest };
        let code = if below { self.code } else { above };
        // The state changes where the interval is doubled; after the less probable symbol it always is.
        *slot = NEXT[now as usize & 255][(interval >> 63 ^ 1) as usize + usize::from(less)];
        let shift = interval.leading_zeros();
        self.interval = interval << shift;
        self.code = code << shift;
        self.free += shift;
        if self.free > 48 {
            (self.at, self.code, self.free) = filled(self.data, self.at, self.code, self.free);
        }
        (now as u32 & 1) ^ u32::from(less)
    }
}

/// Adds bytes to the free bits of the code register. After 0xFF a byte has seven bits and a carry; behind the last byte, and
/// behind a marker, there are ones.
#[cold]
#[inline(never)]
fn filled(data: &[u8], mut at: usize, mut code: u64, mut free: u32) -> (usize, u64, u32) {
    let byte = |at: usize| data.get(at).copied().unwrap_or(0xFF);
    let mut last = if at == 0 { 0 } else { byte(at - 1) };
    while free >= 8 {
        let next = byte(at);
        if last == 0xFF && next > 0x8F {
            free -= 8;
            code = code.wrapping_add(0xFF << free);
            continue;
        }
        free -= if last == 0xFF { 7 } else { 8 };
        code = code.wrapping_add(u64::from(next) << free);
        at += 1;
        last = next;
    }
    (at, code, free)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The decoder of Annex C, flow chart by flow chart.
    struct Standard<'a> {
        data: &'a [u8],
        at: usize,
        a: u32,
        c: u32,
        ct: u32,
        contexts: [(usize, u32); 19],
    }

    impl<'a> Standard<'a> {
        fn new(data: &'a [u8]) -> Self {
            let mut contexts = [(0, 0); 19];
            (contexts[0].0, contexts[17].0, contexts[18].0) = (4, 3, 46);
            let mut new = Self { data, at: 0, a: 0x8000, c: 0, ct: 0, contexts };
            new.c = u32::from(new.byte(0)) << 16;
            new.byte_in();
            new.c <<= 7;
            new.ct -= 7;
            new
        }

        fn byte(&self, at: usize) -> u8 {
            self.data.get(at).copied().unwrap_or(0xFF)
        }

        fn byte_in(&mut self) {
            let next = u32::from(self.byte(self.at + 1));
            if self.byte(self.at) == 0xFF {
                if next > 0x8F {
                    self.c = self.c.wrapping_add(0xFF00);
                    self.ct = 8;
                } else {
                    self.at += 1;
                    self.c = self.c.wrapping_add(next << 9);
                    self.ct = 7;
                }
            } else {
                self.at += 1;
                self.c = self.c.wrapping_add(next << 8);
                self.ct = 8;
            }
        }

        fn decide(&mut self, context: u8) -> u32 {
            let (row, symbol) = self.contexts[context as usize];
            let (q, more, less, exchanges) = STATES[row];
            let q = u32::from(q);
            self.a -= q;
            let is_less = if self.c >> 16 < q {
                let is_less = self.a >= q;
                self.a = q;
                is_less
            } else {
                self.c -= q << 16;
                if self.a & 0x8000 != 0 {
                    return symbol;
                }
                self.a < q
            };
            self.contexts[context as usize] = match is_less {
                true => (less as usize, if exchanges { 1 - symbol } else { symbol }),
                false => (more as usize, symbol),
            };
            while self.a & 0x8000 == 0 {
                if self.ct == 0 {
                    self.byte_in();
                }
                self.a <<= 1;
                self.c <<= 1;
                self.ct -= 1;
            }
            if is_less { 1 - symbol } else { symbol }
        }
    }

    #[test]
    fn decisions_are_those_of_the_standards_flow_charts() {
        let mut seed = 1_u64;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for length in 0..200 {
            // No marker and no carry: an encoder's bytes have the first never, and the second where it fits the interval.
            let mut data: Vec<u8> = (0..length).map(|_| random() as u8).collect();
            for i in 1..data.len() {
                if data[i - 1] == 0xFF {
                    data[i] &= 0x7F;
                }
            }
            let (mut decoder, mut contexts) = (Decoder::new(&data), initial());
            let mut standard = Standard::new(&data);
            for n in 0..20 * length + 100 {
                let context = (random() % 19) as u8;
                assert_eq!(
                    decoder.decide(&mut contexts, context),
                    standard.decide(context),
                    "{length} bytes, decision {n}"
                );
            }
        }
    }
}
