//! JPEG 2000 without loss and of one component, as scanners and archives write CT and MR: a decoder for this case alone.
//!
//! Nearly all of the time of JPEG 2000 is the arithmetic decoding of bit planes. [`arithmetic`] and [`bit_planes`] decode
//! them without branches that depend on noise, which is what general decoders wait for. What this decoder does not know
//! (loss, other styles of code-blocks, colour) and what contradicts itself is `None`: the general decoder has the last word.
//!
//! Of ISO/IEC 15444-1: [`markers`] is Annex A, [`tile`] and [`packets`] Annex B, [`arithmetic`] Annex C, [`bit_planes`]
//! Annex D, [`wavelet`] Annex F.

mod arithmetic;
mod bit_planes;
mod markers;
mod packets;
mod tag_tree;
mod tile;
mod wavelet;

use bit_planes::BlockDecoder;
use markers::Codestream;
use tile::{Rect, Tile};

/// Samples of a codestream, row by row, as `bits` (8 or 16) little endian; `None` for what the general decoder has to read.
pub(crate) fn decode(bytes: &[u8], bits: u32) -> Option<Vec<u8>> {
    if bits != 8 && bits != 16 {
        return None;
    }
    let stream = Codestream::read(bytes)?;
    let [width, height] = stream.image.size();
    let mut samples: Vec<i32> = Vec::new();
    for (n, area) in stream.tiles().enumerate() {
        let tile = coefficients(&stream, n, area)?;
        if area == stream.image {
            samples = tile;
            break;
        }
        samples.resize(width * height, 0);
        let [columns, _] = area.size();
        let from = (area.y0 - stream.image.y0) as usize * width + (area.x0 - stream.image.x0) as usize;
        for (row, line) in tile.chunks_exact(columns).enumerate() {
            samples[from + row * width..][..columns].copy_from_slice(line);
        }
    }
    Some(packed(&samples, &stream, bits))
}

/// A tile's samples before the shift of its level.
fn coefficients(stream: &Codestream, n: usize, area: Rect) -> Option<Vec<i32>> {
    let data = stream.data_of_tile(n)?;
    let mut tile = Tile::new(area, &stream.coding);
    packets::read(&mut tile, &data, &stream.coding)?;
    let [width, height] = area.size();
    let mut values = vec![0; width * height];
    let mut decoder = BlockDecoder::new();
    let mut joined = Vec::new();
    for resolution in &tile.resolutions {
        for part in resolution.precincts.iter().flatten() {
            let band = &resolution.bands[part.band];
            for block in part.blocks.iter().filter(|block| block.passes > 0) {
                let [x, y] = band.place_of(block.area);
                let encoded = block.encoded(&data, &mut joined);
                decoder.decode(encoded, block, band.kind)?;
                decoder.write(block.area.size(), &mut values[y * width + x..], width);
            }
        }
    }
    for pair in tile.resolutions.windows(2) {
        wavelet::join(&mut values, width, pair[1].area);
    }
    Some(values)
}

/// Shifts the level of unsigned samples back, and keeps each within its precision.
fn packed(samples: &[i32], stream: &Codestream, bits: u32) -> Vec<u8> {
    let half = 1 << (stream.precision - 1);
    let (shift, low, high) = if stream.signed { (0, -half, half - 1) } else { (half, 0, 2 * half - 1) };
    let value = |v: &i32| v.saturating_add(shift).clamp(low, high);
    match bits {
        8 => samples.iter().map(|v| value(v) as u8).collect(),
        _ => samples.iter().flat_map(|v| (value(v) as u16).to_le_bytes()).collect(),
    }
}

#[cfg(test)]
mod tests;
