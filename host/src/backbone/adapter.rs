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
    /// The declared fast path: the host shares, fuses and batches it.
    fn low_rank(&self, _site: Site) -> Option<LowRank> {
        None
    }
    /// Custom code at a site, called after the low-rank term is added. By default the output is unchanged.
    fn apply(&self, _site: Site, _input: &Tensor, output: Tensor) -> Result<Tensor> {
        Ok(output)
    }
    /// True promises that [`SiteAdapter::apply`] is the default one, so that whole blocks may run fused.
    /// An adapter that only declares low-rank terms should say so: it is several times faster.
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
