//! Size and depth that a compressed frame states of itself, read before a decoder allocates anything by them.

/// What a codestream's own header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Codestream {
    pub rows: u64,
    pub columns: u64,
    pub components: u32,
    /// Bits per sample; 0 where the header does not say it early.
    pub precision: u32,
    /// JPEG only: the SOF marker's number (0 baseline, 1 extended, 3 lossless, 55 JPEG-LS).
    pub process: u8,
    /// JPEG 2000 only.
    pub tiles: u64,
}

fn u16_at(b: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(u16::from_be_bytes(b.get(at..at + 2)?.try_into().ok()?)))
}

fn u32_at(b: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(u32::from_be_bytes(b.get(at..at + 4)?.try_into().ok()?)))
}

/// JPEG and JPEG-LS: the first start-of-frame marker.
pub(crate) fn jpeg(b: &[u8]) -> Option<Codestream> {
    if !b.starts_with(&[0xFF, 0xD8]) {
        return None;
    }
    let mut at = 2;
    loop {
        if *b.get(at)? != 0xFF {
            return None;
        }
        let marker = *b.get(at + 1)?;
        match marker {
            // Fill bytes, and markers without a segment.
            0xFF => at += 1,
            0x01 | 0xD0..=0xD8 => at += 2,
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF | 0xF7 => {
                return Some(Codestream {
                    precision: u32::from(*b.get(at + 4)?),
                    rows: u16_at(b, at + 5)?,
                    columns: u16_at(b, at + 7)?,
                    components: u32::from(*b.get(at + 9)?),
                    process: marker - 0xC0,
                    tiles: 1,
                });
            }
            _ => at += 2 + u16_at(b, at + 2)? as usize,
        }
    }
}

/// JPEG 2000, as a codestream or inside a JP2 file: the SIZ segment.
pub(crate) fn jpeg_2000(b: &[u8]) -> Option<Codestream> {
    let siz = b.windows(4).position(|w| w == [0xFF, 0x4F, 0xFF, 0x51])? + 4;
    let field = |n: usize| u32_at(b, siz + 4 + 4 * n);
    let (x, y, x0, y0, tile_x, tile_y) = (field(0)?, field(1)?, field(2)?, field(3)?, field(4)?, field(5)?);
    let span = |end: u64, tile: u64, first: u64| Some(end.checked_sub(first)?.div_ceil(tile.max(1)));
    Some(Codestream {
        rows: y.checked_sub(y0)?,
        columns: x.checked_sub(x0)?,
        components: u16_at(b, siz + 36)? as u32,
        precision: u32::from(*b.get(siz + 38)? & 0x7F) + 1,
        process: 0,
        tiles: span(x, tile_x, field(6)?)?.saturating_mul(span(y, tile_y, field(7)?)?),
    })
}

/// JPEG XL, as a codestream or in its container: the size header (ISO 18181-1, D.2).
pub(crate) fn jpeg_xl(b: &[u8]) -> Option<Codestream> {
    let start = if b.starts_with(&[0xFF, 0x0A]) {
        0
    } else {
        let boxed = b.windows(4).position(|w| w == b"jxlc" || w == b"jxlp")?;
        let skip = if &b[boxed..boxed + 4] == b"jxlp" { 8 } else { 4 };
        b.get(boxed + skip..)?.starts_with(&[0xFF, 0x0A]).then_some(boxed + skip)?
    };
    let mut bits = Bits { bytes: b.get(start + 2..)?, at: 0 };
    let small = bits.take(1)? == 1;
    let side = |bits: &mut Bits| -> Option<u64> {
        if small {
            return Some(8 * (1 + bits.take(5)?));
        }
        let width = [9, 13, 18, 30][bits.take(2)? as usize];
        Some(1 + bits.take(width)?)
    };
    let rows = side(&mut bits)?;
    let columns = match bits.take(3)? {
        0 => side(&mut bits)?,
        1 => rows,
        2 => rows * 12 / 10,
        3 => rows * 4 / 3,
        4 => rows * 3 / 2,
        5 => rows * 16 / 9,
        6 => rows * 5 / 4,
        _ => rows * 2,
    };
    Some(Codestream { rows, columns, components: 1, precision: 0, process: 0, tiles: 1 })
}

/// Bits from the lowest of each byte up.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, n: usize) -> Option<u64> {
        let mut value = 0;
        for i in 0..n {
            let byte = *self.bytes.get(self.at / 8)?;
            value |= u64::from(byte >> (self.at % 8) & 1) << i;
            self.at += 1;
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jpeg_says_its_size_before_it_is_decoded() {
        let b = [0xFF, 0xD8, 0xFF, 0xE0, 0, 4, 1, 2, 0xFF, 0xC3, 0, 11, 12, 1, 0, 2, 0, 1, 0, 0, 0];
        let found = jpeg(&b).unwrap();
        assert_eq!((found.rows, found.columns, found.precision, found.process), (256, 512, 12, 3));
        assert_eq!(jpeg(&b[..12]), None);
    }

    #[test]
    fn a_jpeg_xl_says_its_size_before_it_is_decoded() {
        // div8 = 1, height/8 − 1 = 63 is too large for 5 bits: 31 → 256 rows; ratio 1: square.
        let bits: u16 = 1 | 31 << 1 | 1 << 6;
        let found = jpeg_xl(&[0xFF, 0x0A, bits as u8, (bits >> 8) as u8]).unwrap();
        assert_eq!((found.rows, found.columns), (256, 256));
    }
}
