//! The plain path: passes with candle's operations. It is the reference on the processor, and what runs on a GPU.

use super::adapter::{NoAdapter, SiteAdapter};
use super::cpu::infer::Place;
use super::device_memory::of_device;
use super::driver::Backbone;
use super::error::BackboneError;
use super::features::{Features, HiddenStates, Wanted, unwanted};
use super::kept::{KeptPatches, OnGrid};
use candle_core::Tensor;
use std::ops::Range;
use std::sync::Arc;

/// With candle's operations.
impl Backbone {
    /// Runs `begin` and frozen blocks on a few slices at a time.
    pub(super) fn frozen_blocks(
        &self,
        input: &Tensor,
        at: OnGrid<'_>,
        begin: impl Fn(&Tensor) -> candle_core::Result<HiddenStates>,
        blocks: Range<usize>,
    ) -> Result<Tensor, BackboneError> {
        let compute = || {
            let mut tokens = Vec::new();
            for (chunk, kept) in chunks_of(input, at, self.chunk(input, at.0)?)? {
                let mut x = dropped(begin(&self.uploaded(&chunk)?)?, kept)?;
                for _ in blocks.clone() {
                    x = self.arch.block(&x, &NoAdapter, false)?.0;
                }
                tokens.push(x.tokens);
            }
            Ok(Tensor::cat(&tokens, 0)?)
        };
        compute().map_err(of_device)
    }

    /// Runs `begin` and the blocks that remain on a few slices at a time.
    pub(super) fn in_chunks(
        &self,
        input: &Tensor,
        at: OnGrid<'_>,
        adapter: &dyn SiteAdapter,
        wanted: Wanted,
        begin: impl Fn(&Tensor) -> candle_core::Result<HiddenStates>,
    ) -> Result<Features, BackboneError> {
        let compute = || {
            let blocks = adapter.depth(self.info().blocks);
            // A task's code may look across slices: it is given all of them.
            let size = if adapter.only_low_rank() { self.chunk(input, at.0)? } else { usize::MAX };
            let (mut tokens, mut maps) = (Vec::new(), Vec::new());
            for (chunk, kept) in chunks_of(input, at, size)? {
                let mut x = dropped(begin(&self.uploaded(&chunk)?)?, kept)?;
                while x.block < blocks {
                    let want = wanted.attention && x.block + 1 == blocks;
                    let (y, class) = self.arch.block(&x, adapter, want)?;
                    x = y;
                    maps.extend(class);
                }
                let normed = self.arch.final_norm(&x.tokens)?;
                tokens.push(dropped(HiddenStates { tokens: normed, ..x }, None)?.tokens);
            }
            let tokens = Tensor::cat(&tokens, 0)?;
            let maps = if maps.is_empty() { None } else { Some(Tensor::cat(&maps, 0)?) };
            let normed = |first, n| match first > 0 && !wanted.patches {
                true => unwanted(&tokens, n),
                false => tokens.narrow(1, first, n),
            };
            Ok(self.arch.finish((at.0, at.1.map(|kept| &**kept)), &normed, maps, wanted.attention)?)
        };
        compute().map_err(of_device)
    }

    /// How many slices go through the blocks together.
    fn chunk(&self, input: &Tensor, grid: (usize, usize)) -> Result<usize, BackboneError> {
        self.memory.slices(self.arch.block_size(), input.dim(0)?, self.info().tokens(grid))
    }

    /// Pixels or tokens on the device, unchanged.
    fn uploaded(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        x.to_device(&self.memory.device)
    }
}

/// Slices of `x` a few at a time, with those of their patches that are kept.
fn chunks_of(
    x: &Tensor,
    (grid, kept): OnGrid<'_>,
    size: usize,
) -> candle_core::Result<Vec<(Tensor, Option<Arc<KeptPatches>>)>> {
    let n = x.dim(0)?;
    Place { grid, kept: kept.map(|kept| &**kept), merging: None }.check(n)?;
    if n <= size {
        return Ok(vec![(x.clone(), kept.cloned())]);
    }
    let chunk = |from: usize| {
        let count = size.min(n - from);
        Ok((x.narrow(0, from, count)?, kept.map(|kept| Arc::new(kept.narrow(from, count)))))
    };
    (0..n).step_by(size).map(chunk).collect()
}

/// `x` with 0 in the place of dropped tokens: those that `x` drops already, and those that `kept` leaves out.
fn dropped(x: HiddenStates, kept: Option<Arc<KeptPatches>>) -> candle_core::Result<HiddenStates> {
    let Some(kept) = kept.or_else(|| x.kept.clone()) else { return Ok(x) };
    let table = kept.token_table(x.layout.leading(), x.tokens.device())?.unsqueeze(2)?; // [S, T, 1]
    Ok(HiddenStates { tokens: x.tokens.broadcast_mul(&table)?, kept: Some(kept), ..x })
}
