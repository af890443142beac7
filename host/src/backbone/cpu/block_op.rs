//! The blocks under candle's autograd. Each block is a candle operation, as is the final norm, and candle joins their
//! gradients to the head's.

use super::fused::{ActivationPool, Activations, Change, Fused};
use super::infer::{Passed, with_scratch};
use super::kernels::rotate::Turns;
use super::packed::Terms;
use super::packed_lora::PackedLora;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, DType, Device, Layout, Result, Shape, Storage, Tensor, bail,
};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Blocks `range` under candle's autograd; they keep their activations if all of them fit in `kept_bytes`.
pub(crate) fn train(
    fused: &Arc<Fused>,
    lora: &PackedLora,
    (tokens, grid): (&Tensor, (usize, usize)),
    range: Range<usize>,
    want_class: bool,
    kept_bytes: usize,
) -> Result<Passed> {
    let (s, t, _) = tokens.dims3()?;
    let (mut x, mut class) = (tokens.contiguous()?, None);
    let turns = fused.turns(grid)?.map(Arc::new);
    let bytes: usize = fused.blocks[range.clone()].iter().map(|b| b.activation_bytes() * s * t).sum();
    for i in range.clone() {
        let (terms, factors) = &lora.blocks[i];
        fused.blocks[i].prepare_backward();
        let map = Arc::new(Mutex::new(Vec::new()));
        let want = want_class && i + 1 == range.end;
        let op = BlockOp {
            fused: fused.clone(),
            block: i,
            terms: terms.clone(),
            turns: turns.clone(),
            input_tracked: x.track_op(),
            keep: bytes <= kept_bytes,
            kept: ActivationPool::default(),
            map: want.then(|| map.clone()),
        };
        let none = || Tensor::zeros(terms.size().max(1), DType::F32, &Device::Cpu);
        let factors = factors.clone().map_or_else(none, Ok)?;
        x = x.apply_op2(&factors, op)?;
        if want {
            let map = std::mem::take(&mut *map.lock().unwrap_or_else(PoisonError::into_inner));
            class = Some(Tensor::from_vec(map, (s, t), &Device::Cpu)?);
        }
    }
    Ok((x, class))
}

/// One block over all slices; its second argument holds the block's low-rank factors end to end.
struct BlockOp {
    fused: Arc<Fused>,
    block: usize,
    terms: Arc<Terms>,
    turns: Option<Arc<Turns>>,
    input_tracked: bool,
    keep: bool,
    kept: ActivationPool,
    map: Option<Arc<Mutex<Vec<f32>>>>,
}

impl BlockOp {
    fn change(&self) -> Change<'_> {
        Change { terms: &self.terms, turns: self.turns.as_deref() }
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
            .map(|(x, map)| {
                with_scratch(|scratch| {
                    let mut keep = match self.keep {
                        true => self.fused.pool.take(),
                        false => std::mem::take(&mut scratch.activations),
                    };
                    block.forward(self.change(), x, map, &mut keep, self.keep, scratch);
                    if self.keep {
                        return Some(keep);
                    }
                    scratch.activations = keep;
                    None
                })
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
            .map(|(i, ((x, grad), to_x))| {
                with_scratch(|scratch| {
                    let mut to_terms = vec![0f32; size];
                    let mut again = std::mem::take(&mut scratch.activations);
                    let activations = kept.get(i).unwrap_or_else(|| {
                        block.forward(self.change(), &mut x.to_vec(), None, &mut again, true, scratch);
                        &again
                    });
                    block.backward(self.change(), (x, activations), grad, to_x, &mut to_terms, scratch);
                    scratch.activations = again;
                    to_terms
                })
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

/// The final norm of tokens `first..first + n` of each slice, [S, T, d] → [S, n, d].
pub(crate) struct NormOp {
    pub fused: Arc<Fused>,
    pub first: usize,
    pub n: usize,
}

impl NormOp {
    /// Floats before a slice's first token, and of its tokens.
    fn rows(&self, d: usize) -> (usize, usize) {
        (self.first * d, self.n * d)
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
        out.par_chunks_exact_mut(length)
            .zip(slices)
            .for_each(|(out, x)| self.fused.norm.forward(&x[from..from + length], out));
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
        out.par_chunks_exact_mut(t * d).zip(each).for_each(|(out, (x, grad))| {
            let rows = from..from + length;
            self.fused.norm.backward(&x[rows.clone()], grad, &mut out[rows]);
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
