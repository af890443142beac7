//! Whole slices through the embedding and the blocks, without gradients.

use super::fused::{Change, Fused, Scratch};
use super::packed::{Term, numbers};
use super::packed_lora::PackedLora;
use crate::backbone::embedding::PatchEmbedding;
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

/// Blocks `range` of slices of `grid` patches, without gradients; the class attention is that of the last of them.
pub(crate) fn infer(
    fused: &Fused,
    lora: &PackedLora,
    source: &Source<'_>,
    grid: (usize, usize),
    range: Range<usize>,
    want_class: bool,
) -> Result<Passed> {
    let d = fused.patch.d_out();
    let (want_class, turns) = (want_class && !range.is_empty(), fused.turns(grid)?);
    let (slices, tokens, input, frame) = match source {
        Source::Tokens(x) => (x.dim(0)?, x.dim(1)?, numbers(x)?, None),
        Source::Pixels(pixels) => {
            let (s, _, height, width) = pixels.dims4()?;
            let frame = FlatFrame::new(&fused.embedding, (height, width))?;
            (s, frame.tokens(d), numbers(pixels)?, Some(frame))
        }
    };
    let mut out = vec![0f32; slices * tokens * d];
    let mut class = vec![0f32; if want_class { slices * tokens } else { 0 }];
    let mut maps: Vec<Option<&mut [f32]>> = match want_class {
        true => class.chunks_exact_mut(tokens).map(Some).collect(),
        false => (0..slices).map(|_| None).collect(),
    };
    let each = input.len() / slices;
    let work =
        out.par_chunks_exact_mut(tokens * d).zip(input.par_chunks_exact(each)).zip(maps.par_iter_mut());
    work.for_each(|((x, from), map)| {
        with_scratch(|s| {
            match &frame {
                None => x.copy_from_slice(from),
                Some(frame) => frame.embed(fused, lora.patch.as_ref(), from, x),
            }
            let mut keep = std::mem::take(&mut s.activations);
            for i in range.clone() {
                let class = if i + 1 == range.end { map.as_deref_mut() } else { None };
                let change = Change { terms: &lora.blocks[i].0, turns: turns.as_ref() };
                fused.blocks[i].forward(change, x, class, &mut keep, false, s);
            }
            s.activations = keep;
        });
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

    /// Pixels [3, H, W] → x [T, d]
    fn embed(&self, fused: &Fused, term: Option<&Term>, pixels: &[f32], x: &mut [f32]) {
        let (p, (height, width)) = (self.patch, self.size);
        let (h, w, row) = (height / p, width / p, 3 * p * p);
        let mut patches = vec![0f32; h * w * row];
        for (i, patch) in patches.chunks_exact_mut(row).enumerate() {
            let (top, left) = (i / w * p, i % w * p);
            for (line, to) in patch.chunks_exact_mut(p).enumerate() {
                let (channel, y) = (line / p, line % p);
                let from = (channel * height + top + y) * width + left;
                to.copy_from_slice(&pixels[from..from + p]);
            }
        }
        let (head, rest) = x.split_at_mut(self.head.len());
        head.copy_from_slice(&self.head);
        rest.copy_from_slice(&self.positions);
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
