//! Packets: which code-blocks have bytes in a layer, and where these lie.

use super::markers::{Coding, Progression};
use super::tile::{PrecinctBand, Tile};

/// Reads all packets of a tile; afterwards its code-blocks know their passes and bytes.
pub(super) fn read(tile: &mut Tile, data: &[u8], coding: &Coding) -> Option<()> {
    let counts: Vec<usize> = tile.resolutions.iter().map(|r| r.precincts.len()).collect();
    // Elsewhere than at the origin, a precinct's position is not where its resolution begins.
    let at_origin = tile.resolutions.last().is_some_and(|r| (r.area.x0, r.area.y0) == (0, 0));
    let mut reader = Packets { data, at: 0, coding };
    let mut packet = |layer: u32, r: usize, p: usize| {
        let precinct = &mut tile.resolutions[r].precincts[p];
        reader.packet(precinct, layer)
    };
    match coding.progression {
        Progression::LayerResolution => {
            for layer in 0..coding.layers {
                for (r, n) in counts.iter().enumerate() {
                    (0..*n).try_for_each(|p| packet(layer, r, p))?;
                }
            }
        }
        Progression::ResolutionLayer => {
            for (r, n) in counts.iter().enumerate() {
                for layer in 0..coding.layers {
                    (0..*n).try_for_each(|p| packet(layer, r, p))?;
                }
            }
        }
        Progression::Position if !at_origin || counts.iter().any(|n| *n > 1) => return None,
        Progression::ResolutionPosition | Progression::Position => {
            for (r, n) in counts.iter().enumerate() {
                for p in 0..*n {
                    (0..coding.layers).try_for_each(|layer| packet(layer, r, p))?;
                }
            }
        }
    }
    Some(())
}

struct Packets<'a> {
    data: &'a [u8],
    at: usize,
    coding: &'a Coding,
}

impl Packets<'_> {
    /// One precinct's packet of one layer.
    fn packet(&mut self, precinct: &mut [PrecinctBand], layer: u32) -> Option<()> {
        if self.coding.sop && self.data.get(self.at..)?.starts_with(&[0xFF, 0x91]) {
            self.at += 6;
        }
        let mut bits = Bits { data: self.data, at: self.at, byte: 0, left: 0 };
        let mut bodies = Vec::new();
        if bits.bit()? == 1 {
            for (n, part) in precinct.iter_mut().enumerate() {
                for block in 0..part.blocks.len() {
                    if let Some(length) = contribution(part, block, layer, &mut bits)? {
                        bodies.push((n, block, length));
                    }
                }
            }
        }
        self.at = bits.end()?;
        if self.coding.eph && self.data.get(self.at..)?.starts_with(&[0xFF, 0x92]) {
            self.at += 2;
        }
        for (n, block, length) in bodies {
            let end = self.at.checked_add(length).filter(|end| *end <= self.data.len())?;
            if length > 0 {
                precinct[n].blocks[block].segments.push(self.at..end);
            }
            self.at = end;
        }
        Some(())
    }
}

/// What a packet's header says of a code-block: the bytes it has in this layer, if any.
fn contribution(part: &mut PrecinctBand, n: usize, layer: u32, bits: &mut Bits) -> Option<Option<usize>> {
    let place = [n % part.wide, n / part.wide];
    let block = &mut part.blocks[n];
    let included = match block.included {
        true => bits.bit()? == 1,
        false => part.inclusion.is_below(place, layer + 1, || bits.bit())?,
    };
    if !included {
        return Some(None);
    }
    if !block.included {
        let mut zero = 0;
        while !part.zero_planes.is_below(place, zero + 1, || bits.bit())? {
            zero += 1;
        }
        block.included = true;
        block.bit_planes = part.bit_planes.checked_sub(zero)?;
    }
    let passes = passes(bits)?;
    block.passes += passes;
    if block.passes > (3 * block.bit_planes).saturating_sub(2) {
        return None;
    }
    while bits.bit()? == 1 {
        block.length_bits += 1;
    }
    let width = block.length_bits + passes.ilog2();
    let length = (width <= 31).then(|| bits.number(width))??;
    Some(Some(length as usize))
}

/// Number of coding passes (Table B.4).
fn passes(bits: &mut Bits) -> Option<u32> {
    for (width, most, first) in [(1, 1, 1), (1, 1, 2), (2, 3, 3), (5, 31, 6)] {
        let found = bits.number(width)?;
        if found < most {
            return Some(first + found);
        }
    }
    Some(37 + bits.number(7)?)
}

/// Bits of a packet's header: a byte after 0xFF has seven.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    byte: u8,
    left: u32,
}

impl Bits<'_> {
    fn bit(&mut self) -> Option<u32> {
        if self.left == 0 {
            self.left = if self.byte == 0xFF { 7 } else { 8 };
            self.byte = *self.data.get(self.at)?;
            self.at += 1;
        }
        self.left -= 1;
        Some(u32::from(self.byte >> self.left & 1))
    }

    fn number(&mut self, width: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..width {
            value = value << 1 | self.bit()?;
        }
        Some(value)
    }

    /// Where the header ends: after a last byte of 0xFF one more is there.
    fn end(self) -> Option<usize> {
        let end = self.at + usize::from(self.byte == 0xFF);
        (end <= self.data.len()).then_some(end)
    }
}
