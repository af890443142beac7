//! The blocks under candle's autograd. Each block is a candle operation, as is the final norm, and candle joins their
//! gradients to the head's.

use super::fused::{ActivationPool, Activations, Change, Fused};
use super::infer::{Last, Passed, Place, kept_turns, with_scratch};
use super::kernels::rotate::Turns;
use super::packed::Terms;
use super::packed_lora::PackedLora;
use crate::backbone::kept::{KeptPatches, KeptRows};
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, DType, Device, Layout, Result, Shape, Storage, Tensor, bail,
};
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Blocks `range` under candle's autograd, `last` being of the last of them; they keep their activations if all of them fit in `kept_bytes`.
pub(crate) fn train(
    fused: &Arc<Fused>,
    lora: &PackedLora,
    (tokens, grid, kept): (&Tensor, (usize, usize), Option<&Arc<KeptPatches>>),
    range: Range<usize>,
    last: Last,
    kept_bytes: usize,
) -> Result<Passed> {
    let (s, t, _) = tokens.dims3()?;
    let (mut x, mut class) = (tokens.contiguous()?, None);
    let turns = fused.turns(grid)?.map(Arc::new);
    Place { grid, kept: kept.map(|kept| &**kept), merging: None }.check(s)?;
    let bytes: usize = fused.blocks[range.clone()].iter().map(|b| b.activation_bytes() * s * t).sum();
    for i in range.clone() {
        let (terms, factors) = &lora.blocks[i];
        fused.blocks[i].prepare_backward();
        let map = Arc::new(Mutex::new(Vec::new()));
        let is_last = i + 1 == range.end;
        let want = last.class && is_last;
        let op = BlockOp {
            fused: fused.clone(),
            block: i,
            terms: terms.clone(),
            turns: turns.clone(),
            grid,
            patches: kept.cloned(),
            is_first: i == range.start,
            is_last,
            input_tracked: x.track_op(),
            keep: bytes <= kept_bytes,
            kept: ActivationPool::default(),
            map: want.then(|| map.clone()),
            wanted: last.wanted.filter(|_| is_last),
        };
        let none = || Tensor::zeros(terms.size().max(1), DType::F32, &Device::Cpu);
        let factors = factors.clone().map_or_else(none, Ok)?;
        x = x.apply_op2(&factors, op)?;
        if want {
            let map = std::mem::take(&mut *map.lock().unwrap_or_else(PoisonError::into_inner));
            class = Some(Tensor::from_vec(map, (s, t), &Device::Cpu)?);
        }
    }
    Ok(Passed { tokens: x, class, merged: Vec::new() })
}

/// One block over all slices; its second argument holds the block's low-rank factors end to end.
struct BlockOp {
    fused: Arc<Fused>,
    block: usize,
    terms: Arc<Terms>,
    turns: Option<Arc<Turns>>,
    /// (h, w) in patches.
    grid: (usize, usize),
    /// The patches that are computed; `None`: all.
    patches: Option<Arc<KeptPatches>>,
    /// Tokens that are computed lie in their places in the first block's input and in the last one's output. Between blocks they lie
    /// at the front of a slice, and what is behind them says nothing: moving them in every block took as long as dropping a
    /// twentieth of them saves.
    is_first: bool,
    is_last: bool,
    input_tracked: bool,
    keep: bool,
    kept: ActivationPool,
    map: Option<Arc<Mutex<Vec<f32>>>>,
    /// The first so many tokens are computed, the others are 0; `None`: all.
    wanted: Option<usize>,
}

impl BlockOp {
    /// What changes the block at a slice, whose own rotations are in `of_kept` where some of its patches are dropped.
    fn change<'a>(&'a self, of_kept: Option<&'a Turns>) -> Change<'a> {
        Change {
            terms: &self.terms,
            turns: of_kept.or(self.turns.as_deref()),
            wanted: self.wanted,
            sizes: None,
        }
    }

    /// The rows of slice `i`, of `t`, that are computed; `None`: every row.
    fn rows(&self, i: usize, t: usize) -> Option<KeptRows<'_>> {
        Place { grid: self.grid, kept: self.patches.as_deref(), merging: None }.rows(i, t)
    }

    /// The computed rows of [T, d], which lie in their places or at the front.
    fn computed<'a>(rows: Option<KeptRows<'_>>, in_place: bool, d: usize, x: &'a [f32]) -> Cow<'a, [f32]> {
        let Some(rows) = rows else { return Cow::Borrowed(x) };
        if !in_place {
            return Cow::Borrowed(&x[..rows.count() * d]);
        }
        let mut few = vec![0f32; rows.count() * d];
        rows.gather(d, x, &mut few);
        Cow::Owned(few)
    }
}

impl CustomOp2 for BlockOp {
    fn name(&self) -> &'static str {
        "vit-block"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        _factors: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (s, t, d) = layout.shape().dims3()?;
        let block = &self.fused.blocks[self.block];
        let mut out = floats(x, layout)?.to_vec();
        let mut class = vec![0f32; if self.map.is_some() { s * t } else { 0 }];
        let mut maps: Vec<Option<&mut [f32]>> = class.chunks_exact_mut(t).map(Some).collect();
        maps.resize_with(s, || None);
        let kept: Vec<Option<Activations>> = out
            .par_chunks_exact_mut(t * d)
            .zip(maps)
            .enumerate()
            .map(|(i, (whole, mut map))| {
                let rows = self.rows(i, t);
                let turns = kept_turns(self.turns.as_deref(), rows);
                if let Some(rows) = rows.filter(|_| self.is_first) {
                    rows.compact(d, whole);
                }
                let n = rows.map_or(t, |rows| rows.count());
                let kept = with_scratch(|scratch| {
                    let mut keep = match self.keep {
                        true => self.fused.pool.take(),
                        false => std::mem::take(&mut scratch.activations),
                    };
                    let (x, class) = (&mut whole[..n * d], map.as_deref_mut().map(|map| &mut map[..n]));
                    block.forward(self.change(turns.as_ref()), x, class, &mut keep, self.keep, scratch);
                    if self.keep {
                        return Some(keep);
                    }
                    scratch.activations = keep;
                    None
                });
                if let Some(wanted) = self.wanted {
                    whole[wanted.min(n) * d..n * d].fill(0.0);
                }
                if let Some(rows) = rows.filter(|_| self.is_last) {
                    rows.spread(d, whole);
                    if let Some(map) = map {
                        rows.spread(1, map);
                    }
                }
                kept
            })
            .collect();
        *self.kept.lock() = kept.into_iter().flatten().collect();
        if let Some(map) = &self.map {
            *map.lock().unwrap_or_else(PoisonError::into_inner) = class;
        }
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        factors: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (_, t, d) = x.dims3()?;
        let block = &self.fused.blocks[self.block];
        let (x, grad) = (x.contiguous()?, grad.contiguous()?);
        let ((inputs, inputs_at), (grads, grads_at)) = (x.storage_and_layout(), grad.storage_and_layout());
        let (inputs, grads) = (on_cpu(&inputs, inputs_at)?, on_cpu(&grads, grads_at)?);
        let kept = self.kept.lock();
        let size = self.terms.size();
        let mut to_x = vec![0f32; if self.input_tracked { inputs.len() } else { 0 }];
        let mut wanted: Vec<Option<&mut [f32]>> = to_x.chunks_exact_mut(t * d).map(Some).collect();
        wanted.resize_with(inputs.len() / (t * d), || None);
        // Gradients of each slice alone. They are added up in order afterwards: the same sum whatever the threads.
        let of_terms: Vec<Vec<f32>> = inputs
            .par_chunks_exact(t * d)
            .zip(grads.par_chunks_exact(t * d))
            .zip(wanted)
            .enumerate()
            .map(|(i, ((x, grad), mut to_x))| {
                let rows = self.rows(i, t);
                let turns = kept_turns(self.turns.as_deref(), rows);
                let change = || self.change(turns.as_ref());
                let x = Self::computed(rows, self.is_first, d, x);
                let grad = Self::computed(rows, self.is_last, d, grad);
                let to_terms = with_scratch(|scratch| {
                    let mut to_terms = vec![0f32; size];
                    let mut again = std::mem::take(&mut scratch.activations);
                    let activations = kept.get(i).unwrap_or_else(|| {
                        block.forward(change(), &mut x.to_vec(), None, &mut again, true, scratch);
                        &again
                    });
                    let to_x = to_x.as_deref_mut().map(|to_x| &mut to_x[..x.len()]);
                    block.backward(change(), (&x, activations), &grad, to_x, &mut to_terms, scratch);
                    scratch.activations = again;
                    to_terms
                });
                if let (Some(rows), Some(to_x)) = (rows.filter(|_| self.is_first), to_x) {
                    rows.spread(d, to_x);
                }
                to_terms
            })
            .collect();
        let mut sum = vec![0f32; factors.elem_count()];
        for of_slice in &of_terms {
            sum.iter_mut().zip(of_slice).for_each(|(s, g)| *s += g);
        }
        let to_x = self.input_tracked.then(|| Tensor::from_vec(to_x, x.shape(), &Device::Cpu)).transpose()?;
        let to_factors = Tensor::from_vec(sum, factors.shape(), &Device::Cpu)?;
        Ok((to_x, factors.track_op().then_some(to_factors)))
    }
}

impl Drop for BlockOp {
    fn drop(&mut self) {
        self.fused.pool.give(std::mem::take(&mut *self.kept.lock()));
    }
}

/// The final norm of tokens `first..first + n` of each slice, [S, T, d] → [S, n, d]. Dropped tokens stay 0.
pub(crate) struct NormOp {
    pub fused: Arc<Fused>,
    pub first: usize,
    pub n: usize,
    pub patches: Option<Arc<KeptPatches>>,
}

impl NormOp {
    /// Floats before a slice's first token, and of its tokens.
    fn rows(&self, d: usize) -> (usize, usize) {
        (self.first * d, self.n * d)
    }

    /// Makes 0 of those among tokens `first..first + n` of slice `i` that are dropped; `t` tokens are all.
    fn clear_dropped(&self, i: usize, t: usize, d: usize, of_tokens: &mut [f32]) {
        let Some(kept) = &self.patches else { return };
        let (leading, mut next) = (t - kept.patches(), kept.of_slice(i).iter().peekable());
        for (token, row) in (self.first..).zip(of_tokens.chunks_exact_mut(d)) {
            let Some(patch) = token.checked_sub(leading) else { continue };
            while next.next_if(|&&kept| (kept as usize) < patch).is_some() {}
            if next.peek().is_none_or(|&&kept| kept as usize != patch) {
                row.fill(0.0);
            }
        }
    }
}

impl CustomOp1 for NormOp {
    fn name(&self) -> &'static str {
        "final-norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (s, t, d) = layout.shape().dims3()?;
        let (from, length) = self.rows(d);
        let mut out = vec![0f32; s * length];
        let slices = floats(x, layout)?.par_chunks_exact(t * d);
        out.par_chunks_exact_mut(length).zip(slices).enumerate().for_each(|(i, (out, x))| {
            self.fused.norm.forward(&x[from..from + length], out);
            self.clear_dropped(i, t, d, out);
        });
        Ok((CpuStorage::F32(out), (s, self.n, d).into()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, t, d) = x.dims3()?;
        let (from, length) = self.rows(d);
        let (x, grad) = (x.contiguous()?, grad.contiguous()?);
        let ((inputs, inputs_at), (grads, grads_at)) = (x.storage_and_layout(), grad.storage_and_layout());
        let (inputs, grads) = (on_cpu(&inputs, inputs_at)?, on_cpu(&grads, grads_at)?);
        let mut out = vec![0f32; inputs.len()];
        let each = inputs.par_chunks_exact(t * d).zip(grads.par_chunks_exact(length));
        out.par_chunks_exact_mut(t * d).zip(each).enumerate().for_each(|(i, (out, (x, grad)))| {
            let rows = from..from + length;
            self.fused.norm.backward(&x[rows.clone()], grad, &mut out[rows.clone()]);
            self.clear_dropped(i, t, d, &mut out[rows]);
        });
        Ok(Some(Tensor::from_vec(out, x.shape(), &Device::Cpu)?))
    }
}

fn on_cpu<'a>(storage: &'a Storage, layout: &Layout) -> Result<&'a [f32]> {
    match storage {
        Storage::Cpu(storage) => floats(storage, layout),
        _ => bail!("the fused blocks need tensors on the CPU"),
    }
}

fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(all), Some((from, to))) => Ok(&all[from..to]),
        _ => bail!("the fused blocks need contiguous f32 tensors on the CPU"),
    }
}
