//! An adapter's low-rank terms at the sites of every block, packed for a pass.

use super::fused::Fused;
use super::packed::{Term, Terms};
use crate::backbone::adapter::{LowRank, Site, SiteAdapter};
use candle_core::{Result, Tensor};
use std::sync::Arc;

/// An adapter's low-rank terms, packed once for a pass.
pub(crate) struct PackedLora {
    pub patch: Option<Term>,
    /// Per block its terms and, where one of them wants a gradient, all their factors in one tensor.
    pub blocks: Vec<(Arc<Terms>, Option<Tensor>)>,
    /// The first block whose terms want a gradient.
    pub first_tracked: usize,
}

impl PackedLora {
    pub fn new(fused: &Fused, adapter: &dyn SiteAdapter) -> Result<Self> {
        let isa = fused.arithmetic.isa;
        let patch = adapter.low_rank(Site::PatchEmbed);
        let patch = patch.map(|term| Term::new(isa, &term, None)).transpose()?;
        let mut blocks = Vec::new();
        for (i, block) in fused.blocks.iter().enumerate() {
            let (qkv, output) = (adapter.low_rank(Site::Qkv(i)), adapter.low_rank(Site::AttentionOutput(i)));
            let tracked = [&qkv, &output].into_iter().flatten().any(LowRank::tracked);
            let factors = match tracked {
                true => Some(joined(&[&qkv, &output])?),
                false => None,
            };
            let terms = Terms {
                qkv: qkv.map(|term| Term::new(isa, &term, None)).transpose()?,
                output: output.map(|term| Term::new(isa, &term, block.output_scale())).transpose()?,
            };
            blocks.push((Arc::new(terms), factors));
        }
        let first_tracked = blocks.iter().position(|(_, f)| f.is_some()).unwrap_or(blocks.len());
        Ok(Self { patch, blocks, first_tracked })
    }
}

/// All factors end to end: A and B of each term.
fn joined(terms: &[&Option<LowRank>]) -> Result<Tensor> {
    let mut parts = Vec::new();
    for term in terms.iter().copied().flatten() {
        parts.extend([term.a.flatten_all()?, term.b.flatten_all()?]);
    }
    Tensor::cat(&parts, 0)
}
