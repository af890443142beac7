//! What the families share once their weights are read: embedding → blocks → final norm, and a pooling head where the family
//! has no class token.
//!
//! Shapes: S slices, h × w patches, T tokens (class token and registers where there are any, then h·w patches), d the width
//! of a token.

use super::block::{Block, BlockNames, BlockShape};
use super::pooling::PoolingHead;
use super::{Architecture, NormedTokens};
use crate::backbone::adapter::SiteAdapter;
use crate::backbone::cpu::fused::{Arithmetic, Fused, FusedBlock};
use crate::backbone::device_memory::BlockSize;
use crate::backbone::embedding::PatchEmbedding;
use crate::backbone::error::BackboneError;
use crate::backbone::features::{Features, HiddenStates};
use crate::backbone::info::BackboneInfo;
use crate::backbone::layers::LayerNorm;
use crate::backbone::rotation::AxialRotation;
use crate::backbone::weights::Weights;
use candle_core::{DType, Device, Result, Tensor};

/// A vision transformer with its frozen weights.
pub(super) struct Transformer {
    pub info: BackboneInfo,
    pub embedding: PatchEmbedding,
    /// Where positions rotate q and k of the patches in every block.
    pub rotation: Option<AxialRotation>,
    pub blocks: Vec<Block>,
    pub norm: LayerNorm,
    /// Whether patches pass the final norm too, not the class token alone.
    pub patches_normed: bool,
    /// In the place of a class token.
    pub head: Option<PoolingHead>,
}

/// Takes `n` blocks `prefix.0`, `prefix.1`, ….
pub(super) fn load_blocks(
    weights: &mut Weights,
    prefix: &str,
    n: usize,
    names: &BlockNames,
    shape: &BlockShape,
) -> std::result::Result<Vec<Block>, BackboneError> {
    (0..n).map(|i| Block::load(weights, &format!("{prefix}.{i}"), names, shape)).collect()
}

impl Architecture for Transformer {
    fn info(&self) -> &BackboneInfo {
        &self.info
    }

    fn bytes(&self) -> usize {
        let of_blocks: usize = self.blocks.iter().map(Block::bytes).sum();
        let of_head = self.head.as_ref().map_or(0, PoolingHead::bytes);
        self.embedding.bytes() + self.norm.bytes() + of_blocks + of_head
    }

    fn block_size(&self) -> BlockSize {
        BlockSize {
            embed_dim: self.info.embed_dim,
            heads: self.info.heads,
            hidden: self.blocks.first().map_or(0, Block::mlp_rows),
            number: self.embedding.projection.weight.dtype().size_in_bytes(),
        }
    }

    fn to_device(&self, device: &Device, dtype: DType) -> Result<Box<dyn Architecture>> {
        Ok(Box::new(Self {
            info: self.info.clone(),
            embedding: self.embedding.to_device(device, dtype)?,
            rotation: self.rotation.as_ref().map(|r| r.to_device(device)),
            blocks: self.blocks.iter().map(|b| b.to_device(device, dtype)).collect::<Result<_>>()?,
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
        let block = &self.blocks[x.block];
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
        grid: (usize, usize),
        normed: &NormedTokens<'_>,
        attention: Option<Tensor>,
        want_attention: bool,
    ) -> Result<Features> {
        let layout = self.info.layout();
        let patch_tokens = normed(layout.leading(), grid.0 * grid.1)?; // [S, h·w, d]
        let (class_tokens, attention) = match &self.head {
            Some(head) => head.forward(&patch_tokens, want_attention)?,
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

    fn fused(&self, arithmetic: Arithmetic) -> Result<Option<Fused>> {
        let block = |b: &Block| FusedBlock::new(arithmetic, &b.layers(self.info.heads));
        let blocks = self.blocks.iter().map(block).collect::<Result<_>>()?;
        let (rotation, norm) = (self.rotation.as_ref(), (&self.norm, self.patches_normed));
        Ok(Some(Fused::new(arithmetic, &self.embedding, rotation, blocks, norm)?))
    }
}
