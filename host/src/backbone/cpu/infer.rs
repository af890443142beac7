//! Whole slices through the embedding and the blocks, without gradients.

use super::fused::{Change, Fused, Scratch};
use super::kernels::rotate::Turns;
use super::packed::{Term, numbers};
use super::packed_lora::PackedLora;
use crate::backbone::embedding::PatchEmbedding;
use crate::backbone::kept::{KeptPatches, KeptRows};
use crate::backbone::merged::{MergedRows, Merging, nearest_pairs};
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

/// What came of a pass.
pub(crate) struct Passed {
    /// [S, T, d]
    pub tokens: Tensor,
    /// The class token's attention [S, T], where it was asked for.
    pub class: Option<Tensor>,
    /// Of each slice, what was merged; empty: nothing.
    pub merged: Vec<MergedRows>,
}

/// How the tokens of a pass lie on its slices.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// (h, w) in patches.
    pub grid: (usize, usize),
    /// The patches that are computed; `None`: all.
    pub kept: Option<&'a KeptPatches>,
    /// How tokens are merged; `None`: they are not.
    pub merging: Option<&'a Merging>,
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
            _ if self.merging.is_some_and(|m| !m.done.is_empty() && m.done.len() != slices) => {
                candle_core::bail!("merged tokens of other slices than these {slices}")
            }
            _ => Ok(()),
        }
    }
}

/// The rotations of a slice's kept patches; `None` where all are kept or nothing is rotated.
pub(super) fn kept_turns(turns: Option<&Turns>, rows: Option<KeptRows<'_>>) -> Option<Turns> {
    turns.zip(rows).map(|(turns, rows)| turns.of_patches(rows.patches))
}

/// What is asked of the last block of a pass.
#[derive(Clone, Copy)]
pub(crate) struct Last {
    /// The class token's attention.
    pub class: bool,
    /// Its first so many tokens, the others are 0; `None`: all.
    pub wanted: Option<usize>,
}

impl Last {
    /// Its tokens.
    pub const TOKENS: Self = Self { class: false, wanted: None };
}

/// Blocks `range` of slices, without gradients; `last` is of the last of them.
pub(crate) fn infer(
    fused: &Fused,
    lora: &PackedLora,
    source: &Source<'_>,
    place: Place<'_>,
    range: Range<usize>,
    last: Last,
) -> Result<Passed> {
    let d = fused.patch.d_out();
    let want_class = last.class && !range.is_empty();
    let (slices, tokens, input, frame) = match source {
        Source::Tokens(x) => (x.dim(0)?, x.dim(1)?, numbers(x)?, None),
        Source::Pixels(pixels) => {
            let (s, _, height, width) = pixels.dims4()?;
            let frame = FlatFrame::new(&fused.embedding, (height, width))?;
            (s, frame.tokens(d), numbers(pixels)?, Some(frame))
        }
    };
    place.check(slices)?;
    let turns = fused.turns(place.grid)?;
    let pass = SlicePass { fused, lora, frame, place, turns, range, last, tokens };
    let mut out = vec![0f32; slices * tokens * d];
    let mut class = vec![0f32; if want_class { slices * tokens } else { 0 }];
    let mut maps: Vec<Option<&mut [f32]>> = match want_class {
        true => class.chunks_exact_mut(tokens).map(Some).collect(),
        false => (0..slices).map(|_| None).collect(),
    };
    let each = input.len() / slices;
    let work =
        out.par_chunks_exact_mut(tokens * d).zip(input.par_chunks_exact(each)).zip(maps.par_iter_mut());
    let merged: Vec<Option<MergedRows>> = work
        .enumerate()
        .map(|(slice, ((whole, from), map))| {
            with_scratch(|s| pass.run(slice, from, whole, map.as_deref_mut(), s))
        })
        .collect();
    let tokens = Tensor::from_vec(out, (slices, tokens, d), &Device::Cpu)?;
    let class =
        want_class.then(|| Tensor::from_vec(class, (slices, pass.tokens), &Device::Cpu)).transpose()?;
    Ok(Passed { tokens, class, merged: merged.into_iter().flatten().collect() })
}

/// One pass, as each of its slices goes through it.
struct SlicePass<'a> {
    fused: &'a Fused,
    lora: &'a PackedLora,
    /// Where pixels are embedded.
    frame: Option<FlatFrame>,
    place: Place<'a>,
    turns: Option<Turns>,
    range: Range<usize>,
    last: Last,
    /// T
    tokens: usize,
}

impl SlicePass<'_> {
    /// Pixels or tokens `from` → tokens `whole` [T, d], and the class token's attention `map` [T].
    fn run(
        &self,
        slice: usize,
        from: &[f32],
        whole: &mut [f32],
        mut map: Option<&mut [f32]>,
        s: &mut Scratch,
    ) -> Option<MergedRows> {
        let d = self.fused.patch.d_out();
        let rows = self.place.rows(slice, self.tokens);
        // Computed rows lie at the front of the slice until the end.
        let n = rows.map_or(self.tokens, |rows| rows.count());
        let x = &mut whole[..n * d];
        match (&self.frame, rows) {
            (None, None) => x.copy_from_slice(from),
            (None, Some(rows)) => rows.gather(d, from, x),
            (Some(frame), rows) => {
                let patches = rows.map(|rows| rows.patches);
                frame.embed(self.fused, self.lora.patch.as_ref(), from, patches, x);
            }
        }
        let mut merged = self.place.merging.map(|merging| match merging.done.get(slice) {
            Some(done) => {
                done.compact(d, x);
                done.clone()
            }
            None => MergedRows::alone(n),
        });
        self.blocks(rows, x, map.as_deref_mut(), &mut merged, s);
        if let (Some(wanted), false) = (self.last.wanted, self.range.is_empty()) {
            let t = merged.as_ref().map_or(n, MergedRows::tokens);
            x[wanted.min(t) * d..].fill(0.0);
        }
        if let Some(merged) = &merged {
            merged.spread(d, x);
        }
        if let Some(rows) = rows {
            rows.spread(d, whole);
            if let Some(map) = map {
                rows.spread(1, map);
            }
        }
        merged
    }

    /// The blocks of rows x [n, d], which `merged` says how many are left of. The attention `map` is of all rows.
    fn blocks(
        &self,
        rows: Option<KeptRows<'_>>,
        x: &mut [f32],
        mut map: Option<&mut [f32]>,
        merged: &mut Option<MergedRows>,
        s: &mut Scratch,
    ) {
        let (d, leading) = (self.fused.patch.d_out(), self.tokens - self.place.grid.0 * self.place.grid.1);
        let each = self.place.merging.map_or(0, |merging| merging.each);
        let mut keep = std::mem::take(&mut s.activations);
        let mut own_turns = kept_turns(self.turns.as_ref(), rows);
        let rows_in = x.len() / d;
        let mut t = rows_in;
        if let Some(merged) = merged {
            t = merged.tokens();
            own_turns = self.turns_of(rows, merged, leading).or(own_turns);
        }
        for i in self.range.clone() {
            let (class, wanted) = match i + 1 == self.range.end {
                true => (map.as_deref_mut(), self.last.wanted),
                false => (None, None),
            };
            let turns = own_turns.as_ref().or(self.turns.as_ref());
            let sizes = merged.as_ref().and_then(MergedRows::sizes);
            let change = Change { terms: &self.lora.blocks[i].0, turns, wanted, sizes };
            let (block, x) = (&self.fused.blocks[i], &mut x[..t * d]);
            let class = class.map(|map| &mut map[..t]);
            let of_class = class.is_some();
            block.attend(change, x, class, &mut keep, s);
            if let (true, Some(map), Some(merged)) = (of_class, map.as_deref_mut(), merged.as_ref()) {
                merged.spread_shares(&mut map[..rows_in]);
            }
            // What the last block of all merged away, no later block would be spared.
            if each == 0 || wanted.is_some() || i + 1 == self.fused.blocks.len() {
                block.mlp(&mut x[..wanted.map_or(t, |wanted| wanted.min(t)) * d], &mut keep, false, s);
                continue;
            }
            block.keys(&keep, &mut s.keys);
            if let Some(merged) = merged.as_mut() {
                merged.merge(&nearest_pairs(&s.keys, d / block.heads, leading, each), d, x);
                t = merged.tokens();
                own_turns = self.turns_of(rows, merged, leading).or(own_turns);
            }
            block.mlp(&mut x[..t * d], &mut keep, false, s);
        }
        s.activations = keep;
    }

    /// The rotations of the places that merged tokens have; `None` where nothing is rotated.
    fn turns_of(&self, rows: Option<KeptRows<'_>>, merged: &MergedRows, leading: usize) -> Option<Turns> {
        let turns = self.turns.as_ref()?;
        let of_patch = |&place: &u32| {
            let patch = place as usize - leading;
            rows.map_or(patch as u32, |rows| rows.patches[patch])
        };
        let patches: Vec<u32> = merged.places()[leading..].iter().map(of_patch).collect();
        Some(turns.of_patches(&patches))
    }
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
