//! The main header of a codestream and its tile-parts.

use std::borrow::Cow;

use super::tile::Rect;

/// Order in which packets follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progression {
    LayerResolution,
    ResolutionLayer,
    ResolutionPosition,
    /// By position before resolution: read where every resolution has one precinct, so that position tells nothing.
    Position,
}

/// How all tiles are coded.
#[derive(Debug)]
pub(super) struct Coding {
    pub progression: Progression,
    pub layers: u32,
    /// Decompositions; there is one resolution more.
    pub levels: usize,
    /// Base 2 logarithm of a code-block's width and height.
    pub block: [u32; 2],
    /// Base 2 logarithm of a precinct's width and height, for each resolution.
    pub precincts: Vec<[u32; 2]>,
    /// Whether packets may begin with a marker, and whether their headers end with one.
    pub sop: bool,
    pub eph: bool,
    /// Bit planes of each subband, in the order of the header: LL, then HL, LH, HH of each resolution.
    pub bit_planes: Vec<u32>,
}

/// A codestream whose header was read.
#[derive(Debug)]
pub(super) struct Codestream<'a> {
    bytes: &'a [u8],
    pub image: Rect,
    /// Corner of the first tile, and a tile's size.
    tile_origin: [u32; 2],
    tile_size: [u32; 2],
    pub precision: u32,
    pub signed: bool,
    pub coding: Coding,
    /// Number of the tile and bytes of each tile-part.
    parts: Vec<(usize, std::ops::Range<usize>)>,
}

const SIZ: u16 = 0xFF51;
const COD: u16 = 0xFF52;
const QCD: u16 = 0xFF5C;
const SOT: u16 = 0xFF90;
const SOD: u16 = 0xFF93;
const EOC: u16 = 0xFFD9;
/// Lengths of tile-parts and packets, registration of components, comments: nothing that decoding needs.
const PASSED_OVER: [u16; 5] = [0xFF55, 0xFF57, 0xFF58, 0xFF63, 0xFF64];

fn u16_at(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(b.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(b.get(at..at + 4)?.try_into().ok()?))
}

/// A marker segment at `at`: marker, what follows its length, and where the next begins.
fn segment(b: &[u8], at: usize) -> Option<(u16, &[u8], usize)> {
    let end = at + 2 + usize::from(u16_at(b, at + 2)?);
    Some((u16_at(b, at)?, b.get(at + 4..end)?, end))
}

impl<'a> Codestream<'a> {
    /// Reads all headers. `None` for what is not of the kind that this decoder reads.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        if !bytes.starts_with(&[0xFF, 0x4F]) {
            return None;
        }
        let (SIZ, size, mut at) = segment(bytes, 2)? else { return None };
        // Capabilities of part 2 and of part 15, one component.
        if u16_at(size, 0)? & 0xC000 != 0 || u16_at(size, 34)? != 1 {
            return None;
        }
        let field = |n: usize| u32_at(size, 2 + 4 * n);
        let image = Rect { x0: field(2)?, y0: field(3)?, x1: field(0)?, y1: field(1)? };
        let (depth, steps) = (*size.get(36)?, size.get(37..39)?);
        let (mut coding, mut planes) = (None, None);
        loop {
            if u16_at(bytes, at)? == SOT {
                break;
            }
            let (marker, body, next) = segment(bytes, at)?;
            match marker {
                COD if coding.is_none() => coding = Some(Coding::read(body)?),
                QCD if planes.is_none() => planes = Some(bit_planes(body)?),
                marker if PASSED_OVER.contains(&marker) => {}
                _ => return None,
            }
            at = next;
        }
        let mut coding = coding?;
        coding.bit_planes = planes.filter(|p| p.len() > 3 * coding.levels)?;
        let stream = Self {
            bytes,
            image,
            tile_origin: [field(6)?, field(7)?],
            tile_size: [field(4)?, field(5)?],
            precision: u32::from(depth & 0x7F) + 1,
            signed: depth & 0x80 != 0,
            coding,
            parts: tile_parts(bytes, at)?,
        };
        (steps == [1, 1] && stream.precision <= 16 && stream.is_tiled()).then_some(stream)
    }

    /// Whether the tiles cover the image, and are not too many.
    fn is_tiled(&self) -> bool {
        let (image, [x, y], [w, h]) = (self.image, self.tile_origin, self.tile_size);
        let inside = x <= image.x0 && y <= image.y0 && u64::from(image.x0) < u64::from(x) + u64::from(w);
        let inside = inside && u64::from(image.y0) < u64::from(y) + u64::from(h);
        // Coordinates stay far from where sums of u32 wrap.
        let small = image.x1 < 1 << 20 && image.y1 < 1 << 20;
        inside
            && small
            && image.x0 < image.x1
            && image.y0 < image.y1
            && self.tile_counts()[0] * self.tile_counts()[1] <= 4096
    }

    fn tile_counts(&self) -> [u64; 2] {
        let count = |end: u32, origin: u32, size: u32| u64::from((end - origin).div_ceil(size.max(1)));
        [
            count(self.image.x1, self.tile_origin[0], self.tile_size[0]),
            count(self.image.y1, self.tile_origin[1], self.tile_size[1]),
        ]
    }

    /// Areas of the tiles in order.
    pub fn tiles(&self) -> impl Iterator<Item = Rect> {
        let ([wide, high], [x, y], [w, h]) = (self.tile_counts(), self.tile_origin, self.tile_size);
        let image = self.image;
        let edge = move |origin: u32, size: u32, n: u64| {
            (u64::from(origin) + u64::from(size) * n).min(1 << 20) as u32
        };
        (0..wide * high).map(move |n| {
            let (i, j) = (n % wide, n / wide);
            Rect {
                x0: edge(x, w, i).max(image.x0),
                y0: edge(y, h, j).max(image.y0),
                x1: edge(x, w, i + 1).min(image.x1),
                y1: edge(y, h, j + 1).min(image.y1),
            }
        })
    }

    /// The packets of a tile, of all its parts.
    pub fn data_of_tile(&self, tile: usize) -> Option<Cow<'a, [u8]>> {
        let mut parts = self.parts.iter().filter(|(n, _)| *n == tile).map(|(_, at)| &self.bytes[at.clone()]);
        let first = parts.next()?;
        let mut all = Cow::Borrowed(first);
        parts.for_each(|part| all.to_mut().extend_from_slice(part));
        Some(all)
    }
}

impl Coding {
    fn read(body: &[u8]) -> Option<Self> {
        let &[style, progression, l0, l1, _, levels, wide, high, block_style, transform, ref rest @ ..] =
            body
        else {
            return None;
        };
        let progression = match progression {
            0 => Progression::LayerResolution,
            1 => Progression::ResolutionLayer,
            2 => Progression::ResolutionPosition,
            3 | 4 => Progression::Position,
            _ => return None,
        };
        let block = [u32::from(wide) + 2, u32::from(high) + 2];
        // The wavelet without loss, and code-blocks without any of their options, of at most 64 × 64.
        let plain = transform == 1 && block_style == 0 && block.iter().all(|n| (4..=6).contains(n));
        if !plain || levels > 10 || style > 7 {
            return None;
        }
        let levels = usize::from(levels);
        let precincts: Vec<[u32; 2]> = match style & 1 {
            0 => vec![[15, 15]; levels + 1],
            _ => rest.get(..=levels)?.iter().map(|b| [u32::from(b & 15), u32::from(b >> 4)]).collect(),
        };
        // Smaller ones would be more tag trees than samples.
        if precincts.iter().flatten().any(|n| *n < 4) {
            return None;
        }
        let layers = u32::from(u16::from_be_bytes([l0, l1]));
        let (sop, eph) = (style & 2 != 0, style & 4 != 0);
        Some(Self { progression, layers, levels, block, precincts, sop, eph, bit_planes: Vec::new() })
    }
}

/// Bit planes of each subband, of samples that are not quantised.
fn bit_planes(body: &[u8]) -> Option<Vec<u32>> {
    let (style, exponents) = body.split_first()?;
    let guard = u32::from(style >> 5);
    // With more planes than that, a magnitude and its half would not fit beside its sign.
    let planes = |e: &u8| (u32::from(e >> 3) + guard).checked_sub(1).filter(|n| *n <= 30);
    if style & 31 != 0 {
        return None;
    }
    exponents.iter().map(planes).collect()
}

/// The tile-parts from `at` on, each with the number of its tile.
fn tile_parts(b: &[u8], mut at: usize) -> Option<Vec<(usize, std::ops::Range<usize>)>> {
    let mut parts = Vec::new();
    loop {
        match u16_at(b, at)? {
            EOC => return Some(parts),
            SOT => {}
            _ => return None,
        }
        let (_, body, mut next) = segment(b, at)?;
        let (tile, length) = (u16_at(body, 0)?, u32_at(body, 2)? as usize);
        let end = match length {
            // To the end of the codestream.
            0 => b.len() - b.iter().rev().position(|v| *v == 0xD9)? - 2,
            length => at.checked_add(length).filter(|end| *end <= b.len())?,
        };
        while u16_at(b, next)? != SOD {
            let (marker, _, after) = segment(b, next)?;
            if !PASSED_OVER.contains(&marker) {
                return None;
            }
            next = after;
        }
        if next + 2 > end || parts.len() > 1 << 16 {
            return None;
        }
        parts.push((usize::from(tile), next + 2..end));
        at = end;
    }
}
