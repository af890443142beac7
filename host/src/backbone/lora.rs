//! Low-rank adapters by name: what tensors a task trains, and how they reach the sites.

use super::adapter::{LowRank, Site, SiteAdapter, SiteSpec};
use super::error::BackboneError;
use super::info::BackboneInfo;
use candle_core::{DType, Tensor};
use std::collections::HashMap;

/// The names and shapes of a task's trainable LoRA tensors: fused qkv and output projections of the blocks from
/// `first_block` on, and the patch embedding where it is adapted.
pub fn lora_shapes(
    info: &BackboneInfo,
    rank: usize,
    first_block: usize,
    patch_embed: bool,
) -> Vec<(String, (usize, usize))> {
    let adapted = |s: &SiteSpec| s.site.block().map_or(patch_embed, |block| block >= first_block);
    let factors = |s: SiteSpec| {
        let name = s.site.name();
        [(format!("{name}.lora_A"), (rank, s.d_in)), (format!("{name}.lora_B"), (s.d_out, rank))]
    };
    info.sites().into_iter().filter(adapted).flat_map(factors).collect()
}

/// How many numbers LoRA of this rank trains on the whole backbone, patch embedding included (qkv fused).
pub fn lora_parameter_count(info: &BackboneInfo, rank: usize) -> usize {
    lora_shapes(info, rank, 0, true).iter().map(|(_, (rows, columns))| rows * columns).sum()
}

/// A set of low-rank terms, one per adapted site. The tensors may be candle variables: gradients reach them.
#[derive(Clone, Debug, Default)]
pub struct LoraWeights(HashMap<Site, LowRank>);

impl LoraWeights {
    /// Builds the set from `NAME.lora_A` and `NAME.lora_B` of each [`Site::name`]. The fused qkv may come as separate
    /// `q_proj`, `k_proj` and `v_proj`, which are packed as A [R, d] and block-diagonal B [3d, R].
    ///
    /// Patch factors may be conv shaped ([r, 3, p, p] and [d, r, 1, 1]).
    ///
    /// # Errors
    /// When a name is unknown, a factor lacks its partner or a shape does not fit; the error lists all of them.
    pub fn from_tensors(
        tensors: &HashMap<String, Tensor>,
        scale: f64,
        info: &BackboneInfo,
    ) -> Result<Self, BackboneError> {
        let mut pairs = Pairs { left: tensors.keys().cloned().collect(), tensors, problems: Vec::new() };
        let mut terms = HashMap::new();
        for spec in info.sites() {
            let mut found = pairs.take(&spec.site.name(), spec.d_in, spec.d_out)?;
            match spec.site {
                Site::PatchEmbed if found.is_none() => {
                    found = pairs.take("embeddings.patch_embeddings.projection", spec.d_in, spec.d_out)?;
                }
                Site::Qkv(block) => found = pairs.packed_qkv(block, spec, found)?,
                _ => {}
            }
            terms.extend(found.map(|(a, b)| (spec.site, LowRank { a, b, scale })));
        }
        pairs.left.sort();
        let unknown = pairs.left.iter().map(|n| format!("{n} belongs to no site of {}", info.name));
        let problems: Vec<String> = pairs.problems.into_iter().chain(unknown).collect();
        match problems.is_empty() {
            true => Ok(Self(terms)),
            false => Err(BackboneError::Input(format!("LoRA weights do not fit: {}", problems.join("; ")))),
        }
    }
}

impl LoraWeights {
    /// The terms by site.
    pub fn terms(&self) -> impl Iterator<Item = (Site, &LowRank)> {
        self.0.iter().map(|(site, term)| (*site, term))
    }
}

/// Takes pairs of factors by site, noting what does not fit.
struct Pairs<'a> {
    tensors: &'a HashMap<String, Tensor>,
    left: Vec<String>,
    problems: Vec<String>,
}

impl Pairs<'_> {
    /// The pair of a block's qkv: `fused`, or its separate projections packed.
    fn packed_qkv(
        &mut self,
        block: usize,
        spec: SiteSpec,
        fused: Option<(Tensor, Tensor)>,
    ) -> Result<Option<(Tensor, Tensor)>, BackboneError> {
        let (site, d) = (format!("block.{block}.attention"), spec.d_out / 3);
        let mut parts = Vec::new();
        for part in ["q_proj", "k_proj", "v_proj"] {
            parts.push(self.take(&format!("{site}.{part}"), spec.d_in, d)?);
        }
        if parts.iter().all(Option::is_none) {
            return Ok(fused);
        }
        if fused.is_some() {
            self.problems.push(format!("{site} has both a fused qkv and separate projections"));
        }
        Ok(Some(pack(&parts, d)?))
    }

    fn take(
        &mut self,
        site: &str,
        d_in: usize,
        d_out: usize,
    ) -> Result<Option<(Tensor, Tensor)>, BackboneError> {
        let names = [format!("{site}.lora_A"), format!("{site}.lora_B")];
        self.left.retain(|n| !names.contains(n));
        let [a, b] = names.each_ref().map(|n| self.tensors.get(n));
        let (a, b) = match (a, b) {
            (None, None) => return Ok(None),
            (Some(a), Some(b)) => (a, b),
            _ => {
                self.problems.push(format!("{site} has only one of lora_A and lora_B"));
                return Ok(None);
            }
        };
        let rank = a.dims()[0];
        if rank == 0
            || a.elem_count() != rank * d_in
            || b.dims()[0] != d_out
            || b.elem_count() != rank * d_out
        {
            let (a, b) = (a.dims(), b.dims());
            let message = format!("{site} has A {a:?} and B {b:?}, expected [r, {d_in}] and [{d_out}, r]");
            self.problems.push(message);
            return Ok(None);
        }
        let as_f32 =
            |t: &Tensor| if t.dtype() == DType::F32 { Ok(t.clone()) } else { t.to_dtype(DType::F32) };
        Ok(Some((as_f32(a)?.reshape((rank, d_in))?, as_f32(b)?.reshape((d_out, rank))?)))
    }
}

/// Separate pairs of q, k and v, packed: A stacked [R, d], B block-diagonal [3d, R]. The scale stays alpha / r. Where all have
/// the same A, as a fused term that was written apart has it, that A and their B [3d, r] one below the other.
fn pack(parts: &[Option<(Tensor, Tensor)>], d: usize) -> candle_core::Result<(Tensor, Tensor)> {
    if let Some(shared) = shared_a(parts)? {
        let zeros = || Tensor::zeros((d, shared.dim(0)?), DType::F32, shared.device());
        let below =
            |part: &Option<(Tensor, Tensor)>| part.as_ref().map_or_else(zeros, |(_, b)| Ok(b.clone()));
        let rows = parts.iter().map(below).collect::<candle_core::Result<Vec<_>>>()?;
        return Ok((shared, Tensor::cat(&rows, 0)?));
    }
    let ranks: Vec<usize> = parts.iter().map(|p| p.as_ref().map_or(0, |(a, _)| a.dims()[0])).collect();
    let total: usize = ranks.iter().sum();
    let a: Vec<&Tensor> = parts.iter().flatten().map(|(a, _)| a).collect();
    let mut rows = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        let before: usize = ranks[..i].iter().sum();
        let after = total - before - ranks[i];
        let zeros = |n: usize| Tensor::zeros((d, n), DType::F32, a[0].device());
        let b = part.as_ref().map(|(_, b)| b.clone());
        let pieces: Vec<Tensor> = [
            (before > 0).then(|| zeros(before)).transpose()?,
            b,
            (after > 0).then(|| zeros(after)).transpose()?,
        ]
        .into_iter()
        .flatten()
        .collect();
        rows.push(Tensor::cat(&pieces, 1)?);
    }
    Ok((Tensor::cat(&a, 0)?, Tensor::cat(&rows, 0)?))
}

/// The A of several parts, where it is the same number for number.
fn shared_a(parts: &[Option<(Tensor, Tensor)>]) -> candle_core::Result<Option<Tensor>> {
    let mut all = parts.iter().flatten().map(|(a, _)| a);
    let (Some(first), Some(second)) = (all.next(), all.next()) else { return Ok(None) };
    let numbers = |a: &Tensor| a.flatten_all()?.to_vec1::<f32>();
    let same =
        |a: &Tensor| Ok::<_, candle_core::Error>(a.dims() == first.dims() && numbers(a)? == numbers(first)?);
    for a in std::iter::once(second).chain(all) {
        if !same(a)? {
            return Ok(None);
        }
    }
    Ok(Some(first.clone()))
}

impl SiteAdapter for LoraWeights {
    fn first_block(&self) -> usize {
        let blocks = self.0.keys().map(|site| site.block().unwrap_or(0));
        blocks.min().unwrap_or(usize::MAX)
    }
    fn patch_embed(&self) -> bool {
        self.0.contains_key(&Site::PatchEmbed)
    }
    fn low_rank(&self, site: Site) -> Option<LowRank> {
        self.0.get(&site).cloned()
    }
    fn only_low_rank(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn info(embed_dim: usize, blocks: usize, patch_size: usize) -> BackboneInfo {
        BackboneInfo { embed_dim, blocks, patch_size, ..BackboneInfo::for_tests() }
    }

    #[test]
    fn trainable_parameters_are_the_papers_to_the_unit() {
        // Adapter, one query of d, and a linear head of `classes` logits with bias.
        let task = |d, blocks, patch, classes| {
            lora_parameter_count(&info(d, blocks, patch), 8) + d + (d + 1) * classes
        };
        assert_eq!(task(768, 12, 16, 1), 456_193);
        assert_eq!(task(1024, 24, 16, 1), 1_196_033);
        assert_eq!(task(768, 12, 14, 18), 467_826);
        assert_eq!(lora_parameter_count(&info(384, 12, 14), 8), 228_960);
        assert_eq!(task(384, 12, 14, 1), 229_729);
        // The other forms of docs/backbones.md: r (3p² + d) + 6 r d L.
        let forms = [
            ((384, 12, 16), 230_400),
            ((768, 12, 14), 453_216),
            ((768, 12, 16), 454_656),
            ((1024, 24, 16), 1_193_984),
            ((1152, 27, 14), 1_506_912),
        ];
        for ((d, blocks, patch), expected) in forms {
            assert_eq!(lora_parameter_count(&info(d, blocks, patch), 8), expected);
        }
    }

    #[test]
    fn the_plugins_own_count_of_parameters_is_that_of_the_sites() {
        let ours = info(384, 12, 14);
        let theirs = anymc3d_plugin_api::BackboneInfo::new(
            &ours.family,
            ours.embed_dim,
            ours.blocks,
            ours.heads,
            ours.patch_size,
        );
        let lora = anymc3d_plugin_api::Lora::paper(&theirs);
        assert_eq!(lora.parameters(&theirs), lora_parameter_count(&ours, lora.rank));
    }

    #[test]
    fn every_tensor_that_does_not_fit_is_named() -> Result<(), BackboneError> {
        let zeros = |r, c| Tensor::zeros((r, c), DType::F32, &Device::Cpu);
        let tensors = HashMap::from([
            ("block.0.mlp.fc1.lora_A".to_string(), zeros(2, 8)?),
            ("block.1.attention.qkv.lora_A".to_string(), zeros(2, 8)?),
            ("block.0.attention.o_proj.lora_A".to_string(), zeros(2, 9)?),
            ("block.0.attention.o_proj.lora_B".to_string(), zeros(8, 2)?),
        ]);
        let error = LoraWeights::from_tensors(&tensors, 2.0, &info(8, 2, 2)).err().map(|e| e.to_string());
        let text = error.unwrap_or_default();
        for name in ["block.0.mlp.fc1.lora_A", "block.1.attention.qkv", "block.0.attention.o_proj"] {
            assert!(text.contains(name), "{text}");
        }
        Ok(())
    }
}
