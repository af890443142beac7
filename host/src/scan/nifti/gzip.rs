//! One gzip stream from many threads.
//!
//! Blocks are deflated apart, each ending on a byte (sync flush), and joined into a single member
//! with one checksum, as pigz does: every reader takes it, also those that stop after one member.

use std::io::{self, Write};

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};
use rayon::prelude::*;

/// Blocks that each thread makes before they are written: enough that none waits for long, few that memory stays small.
const OF_A_THREAD: usize = 4;

/// A gzip file on its way. The same input gives the same bytes: no time, no name.
pub(crate) struct GzipWriter<W> {
    out: W,
    sum: Crc,
}

impl<W: Write> GzipWriter<W> {
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255])?;
        Ok(Self { out, sum: Crc::new() })
    }

    /// So many blocks, in their order; `fill` appends a block's bytes, on any thread, and they are deflated there.
    pub fn blocks(&mut self, count: usize, fill: impl Fn(usize, &mut Vec<u8>) + Sync) -> io::Result<()> {
        let at_a_time = OF_A_THREAD * rayon::current_num_threads();
        for first in (0..count).step_by(at_a_time) {
            let range = first..(first + at_a_time).min(count);
            let done: Vec<(Vec<u8>, Crc)> = range
                .into_par_iter()
                .with_max_len(1)
                .map(|i| {
                    let mut bytes = Vec::new();
                    fill(i, &mut bytes);
                    block(&bytes)
                })
                .collect::<io::Result<_>>()?;
            for (bytes, crc) in &done {
                self.out.write_all(bytes)?;
                self.sum.combine(crc);
            }
        }
        Ok(())
    }

    /// Ends the file.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&[0x03, 0x00])?; // a last, empty block
        self.out.write_all(&self.sum.sum().to_le_bytes())?;
        self.out.write_all(&self.sum.amount().to_le_bytes())?;
        self.out.flush()
    }
}

/// Level 2 of zlib-rs: a quarter smaller than its level 1, at nearly its speed.
const LEVEL: u32 = 2;

fn block(input: &[u8]) -> io::Result<(Vec<u8>, Crc)> {
    let mut crc = Crc::new();
    crc.update(input);
    let mut deflate =
        DeflateEncoder::new(Vec::with_capacity(input.len() / 2 + 1024), Compression::new(LEVEL));
    deflate.write_all(input)?;
    // The encoder's own flush asks again until nothing more comes.
    deflate.flush()?;
    Ok((std::mem::take(deflate.get_mut()), crc))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const BLOCK: usize = 1 << 20;

    fn gzip(parts: &[&[u8]]) -> io::Result<Vec<u8>> {
        let blocks: Vec<&[u8]> = parts.iter().flat_map(|p| p.chunks(BLOCK)).collect();
        let mut file = Vec::new();
        let mut gzip = GzipWriter::new(&mut file)?;
        gzip.blocks(blocks.len(), |i, bytes| bytes.extend_from_slice(blocks[i]))?;
        gzip.finish()?;
        Ok(file)
    }

    #[test]
    fn many_blocks_are_one_member_with_the_right_checksum() {
        // One part that shrinks, one that does not, and an empty one.
        let zeros = vec![0u8; 3 * BLOCK + 5];
        let mut state = 1u32;
        let noise: Vec<u8> = (0..2 * BLOCK + 77)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        let file = gzip(&[&zeros, &[], &noise]).unwrap();
        let mut back = Vec::new();
        // Reads one member only, and checks its checksum.
        let mut decoder = flate2::bufread::GzDecoder::new(file.as_slice());
        decoder.read_to_end(&mut back).unwrap();
        assert!(decoder.into_inner().is_empty());
        assert!(back == [zeros, noise].concat());
    }

    /// Like a scan: a few grey values with noise of many strengths. One compressor was seen to damage one such
    /// stream in three hundred, so what is written is read back here for many.
    #[test]
    fn noise_of_every_strength_comes_back_whole() {
        for strength in 1..48u32 {
            let mut state = strength.wrapping_mul(2_654_435_761);
            let mut next = || {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                state
            };
            let voxels: Vec<u8> = (0..300_000)
                .flat_map(|i: u32| {
                    let level = [-1000i32, -850, 40, 60][(i / 257 % 4) as usize];
                    // Four uniform numbers: near enough to normal.
                    let noise: i32 =
                        (0..4).map(|_| (next() % (2 * strength + 1)) as i32 - strength as i32).sum();
                    ((level + noise) as i16).to_le_bytes()
                })
                .collect();
            let file = gzip(&[&voxels]).unwrap();
            let mut back = Vec::new();
            flate2::read::GzDecoder::new(file.as_slice()).read_to_end(&mut back).unwrap();
            assert!(back == voxels, "strength {strength}");
        }
    }
}
