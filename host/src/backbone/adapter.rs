//! What a task may change inside the frozen transformer: a declared low-rank term, or code at each site.

use candle_core::{Result, Tensor};

/// A linear layer of the transformer that an adapter may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Site {
    /// Unfolded patches [S, h*w, 3*p*p] → [S, h*w, d].
    PatchEmbed,
    /// Fused query, key and value projection of a block: [S, T, d] → [S, T, 3d].
    Qkv(usize),
    /// Output projection of a block's attention: [S, T, d] → [S, T, d].
    AttentionOutput(usize),
}

impl Site {
    /// The name that its tensors carry in files, before `.lora_A` and `.lora_B`.
    pub fn name(self) -> String {
        match self {
            Self::PatchEmbed => "patch_embed".to_owned(),
            Self::Qkv(block) => format!("block.{block}.attention.qkv"),
            Self::AttentionOutput(block) => format!("block.{block}.attention.o_proj"),
        }
    }

    /// The block it belongs to; `None` for the patch embedding, which comes before block 0.
    pub fn block(self) -> Option<usize> {
        match self {
            Self::PatchEmbed => None,
            Self::Qkv(block) | Self::AttentionOutput(block) => Some(block),
        }
    }
}

/// A site of one model, with the shape of its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteSpec {
    /// Which layer. [`Site::name`] and [`Site::block`] say the rest.
    pub site: Site,
    /// Width of the layer's input.
    pub d_in: usize,
    /// Width of the layer's output.
    pub d_out: usize,
}

impl SiteSpec {
    /// Every site of a vision transformer of `blocks` blocks, in the order of computation.
    ///
    /// Names and shapes of adapted layers stand here and nowhere else. ABI 1.0 promises them to plugins for every family, so a
    /// family that stores q, k and v apart still presents them as one layer `[3·embed_dim, embed_dim]`.
    pub fn of_vit(embed_dim: usize, blocks: usize, patch_size: usize) -> Vec<Self> {
        let d = embed_dim;
        let patch = Self { site: Site::PatchEmbed, d_in: 3 * patch_size * patch_size, d_out: d };
        let of_block = |i| {
            [
                Self { site: Site::Qkv(i), d_in: d, d_out: 3 * d },
                Self { site: Site::AttentionOutput(i), d_in: d, d_out: d },
            ]
        };
        std::iter::once(patch).chain((0..blocks).flat_map(of_block)).collect()
    }
}

/// `y += scale · (x Aᵀ) Bᵀ`.
#[derive(Clone, Debug)]
pub struct LowRank {
    /// [r, d_in]
    pub a: Tensor,
    /// [d_out, r]
    pub b: Tensor,
    /// alpha / r of the source, also where several pairs are packed into one of a higher rank.
    pub scale: f64,
}

impl LowRank {
    /// Whether a gradient is wanted for either factor.
    pub(crate) fn tracked(&self) -> bool {
        self.a.track_op() || self.b.track_op()
    }
}

/// A task's change to the backbone. The host asks at every site; see [`Site`] for the shapes.
pub trait SiteAdapter {
    /// The first block whose input or sites differ from the frozen model's. 0 where the patch embedding is touched.
    fn first_block(&self) -> usize;
    /// Whether the patch embedding is touched.
    fn patch_embed(&self) -> bool;
    /// How many of the model's `blocks` are computed before the final norm. By default all.
    fn depth(&self, blocks: usize) -> usize {
        blocks
    }
    /// The declared fast path: the host shares, fuses and batches it.
    fn low_rank(&self, _site: Site) -> Option<LowRank> {
        None
    }
    /// Custom code at a site, called after the low-rank term is added. By default the output is unchanged.
    fn apply(&self, _site: Site, _input: &Tensor, output: Tensor) -> Result<Tensor> {
        Ok(output)
    }
    /// True promises that [`SiteAdapter::apply`] is the default one, and the host then runs whole blocks fused.
    /// An adapter that only declares low-rank terms should return true: it is several times faster.
    fn only_low_rank(&self) -> bool {
        false
    }
}

/// The frozen backbone as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoAdapter;

impl SiteAdapter for NoAdapter {
    fn first_block(&self) -> usize {
        usize::MAX
    }
    fn patch_embed(&self) -> bool {
        false
    }
    fn only_low_rank(&self) -> bool {
        true
    }
}
