//! Whole slices through the embedding and the blocks, without gradients.

use super::fused::{Change, Fused, Scratch};
use super::kernels::rotate::Turns;
use super::packed::{Term, numbers};
use super::packed_lora::PackedLora;
use crate::backbone::embedding::PatchEmbedding;
use crate::backbone::kept::{KeptPatches, KeptRows};
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Lends `f` this thread's memory.
pub(super) fn with_scratch<T>(f: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with_borrow_mut(f)
}

/// Where the slices come from.
pub(crate) enum Source<'a> {
    /// [S, 3, H, W]
    Pixels(&'a Tensor),
    /// [S, T, d]
    Tokens(&'a Tensor),
}

/// Tokens [S, T, d], and the class token's attention [S, T] where it was asked for.
pub(crate) type Passed = (Tensor, Option<Tensor>);

/// How the tokens of a pass lie on its slices.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// (h, w) in patches.
    pub grid: (usize, usize),
    /// The patches that are computed; `None`: all.
    pub kept: Option<&'a KeptPatches>,
}

impl<'a> Place<'a> {
    /// The rows of slice `i` that are computed, of `tokens` in all; `None`: every row.
    pub fn rows(&self, i: usize, tokens: usize) -> Option<KeptRows<'a>> {
        let leading = tokens - self.grid.0 * self.grid.1;
        self.kept.map(|kept| KeptRows { leading, patches: kept.of_slice(i) })
    }

    /// Refuses patches of other slices.
    pub fn check(&self, slices: usize) -> Result<()> {
        match self.kept {
            Some(kept) if (kept.slices(), kept.patches()) != (slices, self.grid.0 * self.grid.1) => {
                candle_core::bail!(
                    "kept patches of {} slices of {}, but {slices} slices of {:?} patches",
                    kept.slices(),
                    kept.patches(),
                    self.grid
                )
            }
            _ => Ok(()),
        }
    }
}

/// The rotations of a slice's kept patches; `None` where all are kept or nothing is rotated.
pub(super) fn kept_turns(turns: Option<&Turns>, rows: Option<KeptRows<'_>>) -> Option<Turns> {
    turns.zip(rows).map(|(turns, rows)| turns.of_patches(rows.patches))
}

/// Blocks `range` of slices, without gradients; the class attention is that of the last of them.
pub(crate) fn infer(
    fused: &Fused,
    lora: &PackedLora,
    source: &Source<'_>,
    place: Place<'_>,
    range: Range<usize>,
    want_class: bool,
) -> Result<Passed> {
    let d = fused.patch.d_out();
    let (want_class, turns) = (want_class && !range.is_empty(), fused.turns(place.grid)?);
    let (slices, tokens, input, frame) = match source {
        Source::Tokens(x) => (x.dim(0)?, x.dim(1)?, numbers(x)?, None),
        Source::Pixels(pixels) => {
            let (s, _, height, width) = pixels.dims4()?;
            let frame = FlatFrame::new(&fused.embedding, (height, width))?;
            (s, frame.tokens(d), numbers(pixels)?, Some(frame))
        }
    };
    place.check(slices)?;
    let mut out = vec![0f32; slices * tokens * d];
    let mut class = vec![0f32; if want_class { slices * tokens } else { 0 }];
    let mut maps: Vec<Option<&mut [f32]>> = match want_class {
        true => class.chunks_exact_mut(tokens).map(Some).collect(),
        false => (0..slices).map(|_| None).collect(),
    };
    let each = input.len() / slices;
    let work =
        out.par_chunks_exact_mut(tokens * d).zip(input.par_chunks_exact(each)).zip(maps.par_iter_mut());
    work.enumerate().for_each(|(slice, ((whole, from), map))| {
        let rows = place.rows(slice, tokens);
        let of_kept = kept_turns(turns.as_ref(), rows);
        let turns = of_kept.as_ref().or(turns.as_ref());
        // Computed rows lie at the front of the slice until the end.
        let n = rows.map_or(tokens, |rows| rows.count());
        let x = &mut whole[..n * d];
        with_scratch(|s| {
            match (&frame, rows) {
                (None, None) => x.copy_from_slice(from),
                (None, Some(rows)) => rows.gather(d, from, x),
                (Some(frame), rows) => {
                    frame.embed(fused, lora.patch.as_ref(), from, rows.map(|rows| rows.patches), x);
                }
            }
            let mut keep = std::mem::take(&mut s.activations);
            for i in range.clone() {
                let class = if i + 1 == range.end { map.as_deref_mut() } else { None };
                let change = Change { terms: &lora.blocks[i].0, turns };
                fused.blocks[i].forward(change, x, class.map(|map| &mut map[..n]), &mut keep, false, s);
            }
            s.activations = keep;
        });
        if let Some(rows) = rows {
            rows.spread(d, whole);
            if let Some(map) = map {
                rows.spread(1, map);
            }
        }
    });
    let tensor = Tensor::from_vec(out, (slices, tokens, d), &Device::Cpu)?;
    let class = want_class.then(|| Tensor::from_vec(class, (slices, tokens), &Device::Cpu)).transpose()?;
    Ok((tensor, class))
}

/// What an embedding adds to the patches of one grid, as the kernels read it.
struct FlatFrame {
    patch: usize,
    size: (usize, usize),
    /// [leading, d]
    head: Vec<f32>,
    /// [h·w, d]
    positions: Vec<f32>,
}

impl FlatFrame {
    /// Of images of `size` pixels.
    fn new(embedding: &PatchEmbedding, size: (usize, usize)) -> Result<Self> {
        let grid = embedding.grid(size);
        let frame = embedding.frame(grid)?;
        let positions = match &frame.positions {
            Some(positions) => numbers(positions)?,
            None => vec![0.0; grid.0 * grid.1 * embedding.width()?],
        };
        let head = frame.leading.as_ref().map(numbers).transpose()?.unwrap_or_default();
        Ok(Self { patch: embedding.patch_size, size, head, positions })
    }

    fn tokens(&self, d: usize) -> usize {
        (self.head.len() + self.positions.len()) / d
    }

    /// Pixels [3, H, W] → x [T, d], of all patches or of `kept`.
    fn embed(&self, fused: &Fused, term: Option<&Term>, pixels: &[f32], kept: Option<&[u32]>, x: &mut [f32]) {
        let (p, (height, width)) = (self.patch, self.size);
        let (h, w, row) = (height / p, width / p, 3 * p * p);
        let (n, d) = (kept.map_or(h * w, <[u32]>::len), fused.patch.d_out());
        let number = |i: usize| kept.map_or(i, |kept| kept[i] as usize);
        let mut patches = vec![0f32; n * row];
        for (i, patch) in patches.chunks_exact_mut(row).enumerate() {
            let (top, left) = (number(i) / w * p, number(i) % w * p);
            for (line, to) in patch.chunks_exact_mut(p).enumerate() {
                let (channel, y) = (line / p, line % p);
                let from = (channel * height + top + y) * width + left;
                to.copy_from_slice(&pixels[from..from + p]);
            }
        }
        let (head, rest) = x.split_at_mut(self.head.len());
        head.copy_from_slice(&self.head);
        for (i, to) in rest.chunks_exact_mut(d).enumerate() {
            to.copy_from_slice(&self.positions[number(i) * d..][..d]);
        }
        fused.patch.add(&patches, row, rest);
        if let Some(term) = term {
            term.add(&patches, rest, &mut Vec::new());
        }
        if let Some(norm) = &fused.pre_norm {
            let embedded = x.to_vec();
            norm.forward(&embedded, x);
        }
    }
}
