//! How a tile is divided: resolutions, subbands, precincts, code-blocks.

use std::ops::Range;

use super::markers::Coding;
use super::tag_tree::TagTree;

/// A rectangle on one of the grids; its end is outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rect {
    pub x0: u32,
    pub y0: u32,
    pub x1: u32,
    pub y1: u32,
}

impl Rect {
    pub fn size(self) -> [usize; 2] {
        [self.x1.saturating_sub(self.x0) as usize, self.y1.saturating_sub(self.y0) as usize]
    }

    fn is_empty(self) -> bool {
        self.x0 >= self.x1 || self.y0 >= self.y1
    }

    /// Each coordinate through `f`.
    fn map(self, x: impl Fn(u32) -> u32, y: impl Fn(u32) -> u32) -> Self {
        Self { x0: x(self.x0), y0: y(self.y0), x1: x(self.x1), y1: y(self.y1) }
    }

    fn intersection(self, other: Self) -> Self {
        Self {
            x0: self.x0.max(other.x0),
            y0: self.y0.max(other.y0),
            x1: self.x1.min(other.x1),
            y1: self.y1.min(other.y1),
        }
    }
}

/// What a subband was filtered to: low or high along rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    LL,
    HL,
    LH,
    HH,
}

#[derive(Debug)]
pub(super) struct Band {
    pub kind: Kind,
    area: Rect,
    bit_planes: u32,
    /// Column and row of its first coefficient in the tile's buffer.
    offset: [usize; 2],
}

impl Band {
    /// Column and row of a code-block in the tile's buffer.
    pub fn place_of(&self, block: Rect) -> [usize; 2] {
        [
            (block.x0 - self.area.x0) as usize + self.offset[0],
            (block.y0 - self.area.y0) as usize + self.offset[1],
        ]
    }
}

/// A code-block, and what the packets have said of it so far.
#[derive(Debug)]
pub(super) struct Block {
    pub area: Rect,
    pub included: bool,
    /// Bit planes that are not all zero.
    pub bit_planes: u32,
    pub length_bits: u32,
    pub passes: u32,
    /// Bytes in the tile's data, in order.
    pub segments: Vec<Range<usize>>,
}

impl Block {
    /// Its bytes in one piece.
    pub fn encoded<'a>(&self, data: &'a [u8], joined: &'a mut Vec<u8>) -> &'a [u8] {
        if let [one] = self.segments.as_slice() {
            return &data[one.clone()];
        }
        joined.clear();
        self.segments.iter().for_each(|at| joined.extend_from_slice(&data[at.clone()]));
        joined
    }
}

/// The code-blocks that one precinct has of one subband.
#[derive(Debug)]
pub(super) struct PrecinctBand {
    /// Index of the subband in its resolution.
    pub band: usize,
    /// All bit planes of the subband.
    pub bit_planes: u32,
    /// Code-blocks in a row.
    pub wide: usize,
    pub blocks: Vec<Block>,
    pub inclusion: TagTree,
    pub zero_planes: TagTree,
}

#[derive(Debug)]
pub(super) struct Resolution {
    pub area: Rect,
    pub bands: Vec<Band>,
    /// In raster order; none where the resolution is empty.
    pub precincts: Vec<Vec<PrecinctBand>>,
}

#[derive(Debug)]
pub(super) struct Tile {
    /// The smallest first.
    pub resolutions: Vec<Resolution>,
}

fn shifted(v: u32, by: u32) -> u32 {
    v.div_ceil(1 << by)
}

impl Tile {
    pub fn new(area: Rect, coding: &Coding) -> Self {
        let mut resolutions: Vec<Resolution> = Vec::with_capacity(coding.levels + 1);
        for r in 0..=coding.levels {
            let down = (coding.levels - r) as u32;
            let own = area.map(|x| shifted(x, down), |y| shifted(y, down));
            let smaller = resolutions.last().map_or([0, 0], |r| r.area.size());
            let bands = bands(area, r, coding, smaller);
            let precincts = precincts(own, &bands, r, coding);
            resolutions.push(Resolution { area: own, bands, precincts });
        }
        Self { resolutions }
    }
}

/// Subbands of resolution `r`; those of higher frequency lie beside the `smaller` resolution.
fn bands(area: Rect, r: usize, coding: &Coding, smaller: [usize; 2]) -> Vec<Band> {
    let kinds: &[Kind] = if r == 0 { &[Kind::LL] } else { &[Kind::HL, Kind::LH, Kind::HH] };
    let band = |(i, kind): (usize, &Kind)| {
        let [across, down] = match kind {
            Kind::LL => [0, 0],
            Kind::HL => [1, 0],
            Kind::LH => [0, 1],
            Kind::HH => [1, 1],
        };
        let level = (coding.levels + 1 - r.max(1)) as u32;
        // Of a high band the odd places count, of a low one the even.
        let place = |v: u32, odd: u32| match level {
            0 => v,
            level => v.saturating_sub(odd << (level - 1)).div_ceil(1 << level),
        };
        Band {
            kind: *kind,
            area: area.map(|x| place(x, across), |y| place(y, down)),
            bit_planes: coding.bit_planes[if r == 0 { 0 } else { 3 * (r - 1) + 1 + i }],
            offset: [across as usize * smaller[0], down as usize * smaller[1]],
        }
    };
    kinds.iter().enumerate().map(band).collect()
}

fn precincts(area: Rect, bands: &[Band], r: usize, coding: &Coding) -> Vec<Vec<PrecinctBand>> {
    if area.is_empty() {
        return Vec::new();
    }
    let [px, py] = coding.precincts[r];
    let ([i0, i1], [j0, j1]) = ([area.x0 >> px, shifted(area.x1, px)], [area.y0 >> py, shifted(area.y1, py)]);
    // A precinct's size in its subbands, which have half the resolution's samples.
    let halves = u32::from(r > 0);
    let size = [px - halves, py - halves];
    let block = [coding.block[0].min(size[0]), coding.block[1].min(size[1])];
    let mut all = Vec::new();
    for j in j0..j1 {
        for i in i0..i1 {
            let cell =
                Rect { x0: i << size[0], y0: j << size[1], x1: (i + 1) << size[0], y1: (j + 1) << size[1] };
            let part = |(n, band): (usize, &Band)| blocks(n, band, band.area.intersection(cell), block);
            all.push(bands.iter().enumerate().map(part).collect());
        }
    }
    all
}

/// The code-blocks of `area` of a subband.
fn blocks(n: usize, band: &Band, area: Rect, [bx, by]: [u32; 2]) -> PrecinctBand {
    let (mut blocks, mut wide, mut high) = (Vec::new(), 0, 0);
    if !area.is_empty() {
        let (columns, rows) = (area.x0 >> bx..shifted(area.x1, bx), area.y0 >> by..shifted(area.y1, by));
        (wide, high) = (columns.len(), rows.len());
        for j in rows {
            for i in columns.clone() {
                let cell = Rect { x0: i << bx, y0: j << by, x1: (i + 1) << bx, y1: (j + 1) << by };
                blocks.push(Block {
                    area: area.intersection(cell),
                    included: false,
                    bit_planes: 0,
                    length_bits: 3,
                    passes: 0,
                    segments: Vec::new(),
                });
            }
        }
    }
    let tree = || TagTree::new(wide, high);
    PrecinctBand {
        band: n,
        bit_planes: band.bit_planes,
        wide,
        blocks,
        inclusion: tree(),
        zero_planes: tree(),
    }
}
