//! What a task changes inside the frozen backbone: nothing, declared low-rank terms, or code of its own.

use crate::build::BackboneInfo;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// A task's adapter.
#[non_exhaustive]
pub enum Adapter {
    /// The backbone as it is (a linear probe, Raptor).
    None,
    /// Low-rank terms, declared: the host creates, batches, shares and may merge them.
    Lora(Lora),
    /// Code called at each site.
    Custom(Box<dyn SiteAdapter>),
}

impl From<Lora> for Adapter {
    fn from(lora: Lora) -> Self {
        Self::Lora(lora)
    }
}

/// Low-rank adaptation: `y += (alpha / rank) · B A x` at the declared sites, B zero at the start.
///
/// q, k and v are a single (fused) projection: they share an A `[rank, d]` and have a common B `[3 d, rank]`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Lora {
    /// Rank r.
    pub rank: usize,
    /// alpha; the scale is `alpha / rank`.
    pub alpha: f64,
    /// First block that is adapted; blocks before it stay frozen and can be shared and cached.
    pub first_block: usize,
    /// The patch embedding too. Only with `first_block == 0`.
    pub patch_embed: bool,
    /// The fused query, key and value projection of each adapted block.
    pub qkv: bool,
    /// The output projection of each adapted block's attention.
    pub output: bool,
}

impl Lora {
    /// A rank and an alpha, at the patch embedding and at every attention projection; the scale is `alpha / rank`.
    pub fn new(rank: usize, alpha: f64) -> Self {
        Self { rank, alpha, first_block: 0, patch_embed: true, qkv: true, output: true }
    }

    /// The paper's adapter: rank 8, alpha 16, patch embedding and every attention projection.
    pub fn paper(_backbone: &BackboneInfo) -> Self {
        Self::new(8, 16.0)
    }

    /// Which layers are adapted: the patch embedding (only with blocks from 0 on), the fused query, key and value
    /// projection, the output projection of attention.
    #[must_use]
    pub fn at(mut self, patch_embed: bool, qkv: bool, output: bool) -> Self {
        (self.patch_embed, self.qkv, self.output) = (patch_embed, qkv, output);
        self
    }

    /// The same in blocks from `block` on only; the patch embedding stays frozen.
    #[must_use]
    pub fn from_block(mut self, block: usize) -> Self {
        self.first_block = block;
        self.patch_embed = self.patch_embed && block == 0;
        self
    }

    /// Another rank, the same scale.
    #[must_use]
    pub fn rank(mut self, rank: usize) -> Self {
        self.alpha *= rank as f64 / self.rank as f64;
        self.rank = rank;
        self
    }

    /// Number of parameters on a backbone: `(d_in + d_out) · rank` per site.
    ///
    /// ```
    /// # use anymc3d_plugin_api::{BackboneInfo, Lora};
    /// let vit_s = BackboneInfo::new("dinov2", 384, 12, 6, 14);
    /// assert_eq!(Lora::paper(&vit_s).parameters(&vit_s), 228_960);
    /// ```
    pub fn parameters(&self, backbone: &BackboneInfo) -> usize {
        let (d, r) = (backbone.embed_dim, self.rank);
        let blocks = backbone.blocks.saturating_sub(self.first_block);
        let patch = if self.patch_embed { (3 * backbone.patch_size.pow(2) + d) * r } else { 0 };
        let qkv = if self.qkv { (d + 3 * d) * r } else { 0 };
        let output = if self.output { 2 * d * r } else { 0 };
        patch + blocks * (qkv + output)
    }

    /// Refuses a declaration that does not fit this backbone.
    ///
    /// # Errors
    /// The error says what would fit.
    pub fn check(&self, backbone: &BackboneInfo) -> Result<()> {
        if self.rank == 0 || self.rank > backbone.embed_dim {
            return Err(Error::msg(format!("LoRA rank {}: expected 1 to {}", self.rank, backbone.embed_dim)));
        }
        if self.first_block >= backbone.blocks {
            let (first, blocks) = (self.first_block, backbone.blocks);
            return Err(Error::msg(format!(
                "LoRA first_block {first}: the backbone has blocks 0 to {}",
                blocks - 1
            )));
        }
        if self.patch_embed && self.first_block > 0 {
            return Err(Error::msg("LoRA on the patch embedding needs first_block = 0"));
        }
        Ok(())
    }
}

/// A place in the backbone where an adapter may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Site {
    /// Flattened patches `[S, h·w, 3·p·p]` to tokens `[S, h·w, d]`.
    PatchEmbed,
    /// Query, key and value of a block: `[S, T, d]` to `[S, T, 3 d]`.
    Qkv(usize),
    /// Output projection of a block's attention: `[S, T, d]` to `[S, T, d]`.
    AttentionOutput(usize),
}

/// An adapter in code: called at each site with the site's input and output.
pub trait SiteAdapter: Send + Sync {
    /// First block this adapter changes; the host may share and cache what comes before, and never calls [`Self::apply`]
    /// for it. With 0 the patch embedding is changed too.
    fn first_block(&self) -> usize;

    /// Returns the new output of the site, of the same shape (see [`Site`]). Return `output` unchanged to leave the site
    /// alone. `input` is the input of the site's layer.
    ///
    /// # Errors
    /// Any error; it becomes that task's error.
    fn apply(&self, site: Site, input: &Tensor, output: Tensor) -> Result<Tensor>;
}
