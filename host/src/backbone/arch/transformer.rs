//! What the families share once their weights are read: embedding → blocks → final norm, and a pooling head where the family
//! has no class token.
//!
//! Shapes: S slices, h × w patches, T tokens (class token and registers where there are any, then h·w patches), d the width
//! of a token.

use super::block::{Block, BlockNames, BlockShape, load_fused};
use super::pooling::PoolingHead;
use super::{Architecture, NormedTokens};
use crate::backbone::adapter::SiteAdapter;
use crate::backbone::cpu::fused::{Arithmetic, Fused, FusedBlock};
use crate::backbone::device_memory::BlockSize;
use crate::backbone::embedding::PatchEmbedding;
use crate::backbone::error::BackboneError;
use crate::backbone::features::{Features, HiddenStates};
use crate::backbone::info::BackboneInfo;
use crate::backbone::kept::KeptPatches;
use crate::backbone::layers::LayerNorm;
use crate::backbone::quantised::QuantisedWeights;
use crate::backbone::rotation::AxialRotation;
use crate::backbone::weights::Weights;
use candle_core::{DType, Device, Result, Tensor};
use rayon::prelude::*;
use std::sync::OnceLock;

/// A vision transformer with its frozen weights.
pub(super) struct Transformer {
    pub info: BackboneInfo,
    pub embedding: PatchEmbedding,
    /// Where positions rotate q and k of the patches in every block.
    pub rotation: Option<AxialRotation>,
    pub blocks: Blocks,
    pub norm: LayerNorm,
    /// Whether patches pass the final norm too, not the class token alone.
    pub patches_normed: bool,
    /// In the place of a class token.
    pub head: Option<PoolingHead>,
}

/// The blocks of a model, on the processor read from its files when they are asked for: the kernels hold their weights packed, and
/// only code of a task in a block needs them as candle's tensors too.
pub(super) struct Blocks {
    count: usize,
    /// Of each, as it is held.
    bytes: usize,
    mlp_rows: usize,
    files: Option<BlockFiles>,
    loaded: OnceLock<Vec<Block>>,
}

/// Where blocks are read from: names `prefix.0`, `prefix.1`, ….
struct BlockFiles {
    weights: Weights,
    prefix: String,
    names: &'static BlockNames,
    shape: BlockShape,
}

impl BlockFiles {
    fn read(&self, i: usize) -> Result<Block> {
        let layer = format!("{}.{i}", self.prefix);
        Ok(Block::load(&mut self.weights.again(), &layer, self.names, &self.shape)?)
    }
}

/// Takes `n` blocks `prefix.0`, `prefix.1`, …: their tensors are checked here and read later.
pub(super) fn load_blocks(
    weights: &mut Weights,
    prefix: &str,
    n: usize,
    names: &'static BlockNames,
    shape: &BlockShape,
) -> std::result::Result<Blocks, BackboneError> {
    let (mut bytes, mut mlp_rows) = (0, 0);
    for i in 0..n {
        let block = weights.checked(|w| Block::load(w, &format!("{prefix}.{i}"), names, shape))?;
        (bytes, mlp_rows) = (block.bytes(), block.mlp_rows());
    }
    let files = BlockFiles { weights: weights.again(), prefix: prefix.to_owned(), names, shape: *shape };
    Ok(Blocks { count: n, bytes, mlp_rows, files: Some(files), loaded: OnceLock::new() })
}

impl Blocks {
    /// Blocks that are on a device already.
    fn of(blocks: Vec<Block>) -> Self {
        let (bytes, mlp_rows) = blocks.first().map_or((0, 0), |b| (b.bytes(), b.mlp_rows()));
        let loaded = OnceLock::from(blocks);
        Self { count: loaded.get().map_or(0, Vec::len), bytes, mlp_rows, files: None, loaded }
    }

    /// All of them as candle's tensors; they stay once they were asked for.
    fn all(&self) -> Result<&[Block]> {
        if let Some(loaded) = self.loaded.get() {
            return Ok(loaded);
        }
        let blocks = self.each(Ok)?;
        // Another thread may have been first; both read the same.
        Ok(self.loaded.get_or_init(|| blocks))
    }

    /// All of them packed for the processor's kernels. So many are read at a time that what they take beside it stays small.
    fn fused(
        &self,
        heads: usize,
        arithmetic: Arithmetic,
        quantised: Option<&QuantisedWeights>,
    ) -> Result<Vec<FusedBlock>> {
        const BESIDE: usize = 64 << 20;
        let Some(files) = &self.files else { candle_core::bail!("the blocks are on a device") };
        let of_block = |i: usize| {
            let layer = format!("{}.{i}", files.prefix);
            let described = (files.names, &files.shape);
            let weights = files.weights.again();
            let quantised = quantised.map(|q| &q.blocks[i]);
            let mut weights = if arithmetic.keeps_halves() { weights.stored() } else { weights };
            Ok(load_fused(&mut weights, &layer, described, heads, arithmetic, quantised)?)
        };
        // A layer as it is read, and as f32; the largest is about a third of the block.
        let at_once = (2 * BESIDE / self.bytes.max(1)).clamp(1, self.count.max(1));
        let all: Vec<usize> = (0..self.count).collect();
        let mut blocks = Vec::with_capacity(self.count);
        for some in all.chunks(at_once) {
            blocks.extend(some.par_iter().map(|i| of_block(*i)).collect::<Result<Vec<_>>>()?);
        }
        Ok(blocks)
    }

    /// What `f` makes of each block, read one at a time by each thread and not kept.
    fn each<T: Send>(&self, f: impl Fn(Block) -> Result<T> + Sync) -> Result<Vec<T>> {
        let Some(files) = &self.files else { candle_core::bail!("the blocks are on a device") };
        (0..self.count).into_par_iter().map(|i| f(files.read(i)?)).collect()
    }
}

impl Architecture for Transformer {
    fn info(&self) -> &BackboneInfo {
        &self.info
    }

    fn bytes(&self) -> usize {
        let of_blocks = self.blocks.count * self.blocks.bytes;
        let of_head = self.head.as_ref().map_or(0, PoolingHead::bytes);
        self.embedding.bytes() + self.norm.bytes() + of_blocks + of_head
    }

    fn block_size(&self) -> BlockSize {
        BlockSize {
            embed_dim: self.info.embed_dim,
            heads: self.info.heads,
            hidden: self.blocks.mlp_rows,
            number: self.embedding.projection.weight.dtype().size_in_bytes(),
        }
    }

    fn to_device(&self, device: &Device, dtype: DType) -> Result<Box<dyn Architecture>> {
        Ok(Box::new(Self {
            info: self.info.clone(),
            embedding: self.embedding.to_device(device, dtype)?,
            rotation: self.rotation.as_ref().map(|r| r.to_device(device)),
            blocks: Blocks::of(self.blocks.each(|b| b.to_device(device, dtype))?),
            norm: self.norm.to_device(device)?,
            patches_normed: self.patches_normed,
            head: self.head.as_ref().map(|h| h.to_device(device)).transpose()?,
        }))
    }

    fn embed(&self, pixels: &Tensor, adapter: &dyn SiteAdapter) -> Result<HiddenStates> {
        self.embedding.forward(pixels, adapter)
    }

    fn block(
        &self,
        x: &HiddenStates,
        adapter: &dyn SiteAdapter,
        want_attention: bool,
    ) -> Result<(HiddenStates, Option<Tensor>)> {
        let rotation = self.rotation.as_ref().map(|r| r.at(x.grid)).transpose()?;
        let want = want_attention && self.info.class_token;
        let block = &self.blocks.all()?[x.block];
        let (tokens, class) = block.forward(x, self.info.heads, rotation.as_ref(), adapter, want)?;
        Ok((x.next(tokens), class))
    }

    fn final_norm(&self, tokens: &Tensor) -> Result<Tensor> {
        if self.patches_normed {
            return self.norm.forward(tokens);
        }
        let (leading, t) = (self.info.layout().leading(), tokens.dim(1)?);
        let class = self.norm.forward(&tokens.narrow(1, 0, leading)?)?;
        Tensor::cat(&[&class, &tokens.narrow(1, leading, t - leading)?], 1)
    }

    fn finish(
        &self,
        (grid, kept): ((usize, usize), Option<&KeptPatches>),
        normed: &NormedTokens<'_>,
        attention: Option<Tensor>,
        want_attention: bool,
    ) -> Result<Features> {
        let layout = self.info.layout();
        let patch_tokens = normed(layout.leading(), grid.0 * grid.1)?; // [S, h·w, d]
        let (class_tokens, attention) = match &self.head {
            Some(head) => head.forward(&patch_tokens, kept, want_attention)?,
            None => {
                let class = normed(0, 1)?; // [S, 1, d]
                let attention = attention.map(|a| layout.over_patches(&a, grid)).transpose()?;
                (class.reshape((class.dim(0)?, class.dim(2)?))?, attention)
            }
        };
        let by_grid = |a: Tensor| a.reshape((patch_tokens.dim(0)?, grid.0, grid.1));
        Ok(Features {
            class_tokens,
            class_attention: attention.map(by_grid).transpose()?,
            patch_tokens,
            grid,
        })
    }

    fn fused(&self, arithmetic: Arithmetic, quantised: Option<&QuantisedWeights>) -> Result<Option<Fused>> {
        let blocks = self.blocks.fused(self.info.heads, arithmetic, quantised)?;
        let (rotation, norm) = (self.rotation.as_ref(), (&self.norm, self.patches_normed));
        Ok(Some(Fused::new(arithmetic, &self.embedding, rotation, blocks, norm)?))
    }
}
