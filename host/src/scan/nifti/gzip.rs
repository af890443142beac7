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
    level: Level,
    sum: Crc,
    /// Kept from round to round: fresh pages for every block would cost a quarter of the time.
    buffers: Vec<Block>,
}

/// A block before and after it is deflated.
#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    deflated: Vec<u8>,
    sum: Crc,
}

impl<W: Write> GzipWriter<W> {
    pub fn new(mut out: W, level: Level) -> io::Result<Self> {
        out.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255])?;
        Ok(Self { out, level, sum: Crc::new(), buffers: Vec::new() })
    }

    /// So many blocks, in their order; `fill` makes a block's bytes in an empty buffer, on any thread, and they are deflated there.
    pub fn blocks(&mut self, count: usize, fill: impl Fn(usize, &mut Vec<u8>) + Sync) -> io::Result<()> {
        let level = self.level;
        let at_a_time = (OF_A_THREAD * rayon::current_num_threads()).min(count);
        if self.buffers.len() < at_a_time {
            self.buffers.resize_with(at_a_time, Block::default);
        }
        for first in (0..count).step_by(at_a_time.max(1)) {
            let blocks = &mut self.buffers[..at_a_time.min(count - first)];
            blocks.par_iter_mut().enumerate().with_max_len(1).try_for_each(|(i, block)| {
                block.bytes.clear();
                fill(first + i, &mut block.bytes);
                block.deflate(level)
            })?;
            for block in blocks {
                self.out.write_all(&block.deflated)?;
                self.sum.combine(&block.sum);
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

/// How much time is given to size: levels of zlib-rs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Level {
    /// Level 1. Of smooth values as a heatmap has, 300 MB take 0.59 s of a processor (level 2: 1.0 s) and become
    /// 65 MB (56 MB).
    Fast = 1,
    /// Level 2. Of grey values with noise, a quarter smaller than level 1 at nearly its speed.
    Small = 2,
}

impl Block {
    fn deflate(&mut self, level: Level) -> io::Result<()> {
        self.sum.reset();
        self.sum.update(&self.bytes);
        let mut out = std::mem::take(&mut self.deflated);
        out.clear();
        let mut deflate = DeflateEncoder::new(out, Compression::new(level as u32));
        deflate.write_all(&self.bytes)?;
        // The encoder's own flush asks again until nothing more comes.
        deflate.flush()?;
        self.deflated = std::mem::take(deflate.get_mut());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const BLOCK: usize = 1 << 20;

    fn gzip(parts: &[&[u8]]) -> io::Result<Vec<u8>> {
        let blocks: Vec<&[u8]> = parts.iter().flat_map(|p| p.chunks(BLOCK)).collect();
        let mut file = Vec::new();
        let mut gzip = GzipWriter::new(&mut file, Level::Small)?;
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
