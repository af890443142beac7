//! Slices through the fused blocks: without gradients whole slices at a time, with them one candle
//! operation per block, so that candle's autograd joins the blocks to the head.

use super::fused::{Fused, Saved, Scratch, Term, Terms, numbers};
use crate::backbone::adapter::{LowRank, Site, SiteAdapter};
use crate::backbone::arch::dinov2::Vit;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Device, Layout, Result, Shape, Storage, Tensor, bail};
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

fn with_scratch<T>(f: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with_borrow_mut(f)
}

/// An adapter's terms, packed once for a pass.
pub(crate) struct Adapted {
    patch: Option<Term>,
    blocks: Vec<(Arc<Terms>, Option<Tensor>)>, // with a tracked block's factors in one tensor
    /// The first block whose terms want a gradient.
    pub first_tracked: usize,
}

impl Adapted {
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

/// Where the slices come from.
pub(crate) enum Source<'a> {
    /// [S, 3, H, W]
    Pixels(&'a Vit, &'a Tensor),
    /// [S, T, d]
    Tokens(&'a Tensor),
}

/// Tokens [S, T, d], and the class token's attention [S, T] where it was asked for.
type Passed = (Tensor, Option<Tensor>);

/// Blocks `range` without gradients; the class attention is that of the last of them.
pub(crate) fn infer(
    fused: &Fused,
    adapted: &Adapted,
    source: &Source<'_>,
    range: Range<usize>,
    want_class: bool,
) -> Result<Passed> {
    let d = fused.patch.d_out();
    let want_class = want_class && !range.is_empty();
    let (slices, tokens, input, frame) = match source {
        Source::Tokens(x) => (x.dim(0)?, x.dim(1)?, numbers(x)?, None),
        Source::Pixels(vit, pixels) => {
            let (s, _, height, width) = pixels.dims4()?;
            let frame = Frame::new(vit, (height, width))?;
            (s, frame.tokens(d), numbers(pixels)?, Some(frame))
        }
    };
    let mut out = vec![0f32; slices * tokens * d];
    let mut class = vec![0f32; if want_class { slices * tokens } else { 0 }];
    let mut maps: Vec<Option<&mut [f32]>> = match want_class {
        true => class.chunks_exact_mut(tokens).map(Some).collect(),
        false => (0..slices).map(|_| None).collect(),
    };
    let each = input.len() / slices;
    let work =
        out.par_chunks_exact_mut(tokens * d).zip(input.par_chunks_exact(each)).zip(maps.par_iter_mut());
    work.for_each(|((x, from), map)| {
        with_scratch(|s| {
            match &frame {
                None => x.copy_from_slice(from),
                Some(frame) => frame.embed(fused, adapted.patch.as_ref(), from, x),
            }
            let mut keep = std::mem::take(&mut s.saved);
            for i in range.clone() {
                let class = if i + 1 == range.end { map.as_deref_mut() } else { None };
                fused.blocks[i].forward(&adapted.blocks[i].0, x, class, &mut keep, false, s);
            }
            s.saved = keep;
        });
    });
    let tensor = Tensor::from_vec(out, (slices, tokens, d), &Device::Cpu)?;
    let class = want_class.then(|| Tensor::from_vec(class, (slices, tokens), &Device::Cpu)).transpose()?;
    Ok((tensor, class))
}

/// What turns a slice of pixels into tokens: the frozen rows around and under the patches.
struct Frame {
    patch: usize,
    size: (usize, usize),
    /// Class token with its position, then registers: [1 + registers, d].
    head: Vec<f32>,
    /// [h·w, d]
    positions: Vec<f32>,
}

impl Frame {
    fn new(vit: &Vit, size: (usize, usize)) -> Result<Self> {
        let patch = vit.config.patch_size;
        let positions = vit.positions.at((size.0 / patch, size.1 / patch))?;
        let mut head = numbers(&(&vit.class_token + positions.narrow(1, 0, 1)?)?)?;
        if let Some(registers) = &vit.register_tokens {
            head.extend(numbers(registers)?);
        }
        let n = positions.dim(1)? - 1;
        Ok(Self { patch, size, head, positions: numbers(&positions.narrow(1, 1, n)?)? })
    }

    fn tokens(&self, d: usize) -> usize {
        (self.head.len() + self.positions.len()) / d
    }

    /// Pixels [3, H, W] → x [T, d]
    fn embed(&self, fused: &Fused, term: Option<&Term>, pixels: &[f32], x: &mut [f32]) {
        let (p, (height, width)) = (self.patch, self.size);
        let (h, w, row) = (height / p, width / p, 3 * p * p);
        let mut patches = vec![0f32; h * w * row];
        for (i, patch) in patches.chunks_exact_mut(row).enumerate() {
            let (top, left) = (i / w * p, i % w * p);
            for (line, to) in patch.chunks_exact_mut(p).enumerate() {
                let (channel, y) = (line / p, line % p);
                let from = (channel * height + top + y) * width + left;
                to.copy_from_slice(&pixels[from..from + p]);
            }
        }
        let (head, rest) = x.split_at_mut(self.head.len());
        head.copy_from_slice(&self.head);
        rest.copy_from_slice(&self.positions);
        fused.patch.add(&patches, row, rest);
        if let Some(term) = term {
            term.add(&patches, rest, &mut Vec::new());
        }
    }
}

/// Blocks `range` under candle's autograd; they keep their activations if all of them fit in `kept_bytes`.
pub(crate) fn train(
    fused: &Arc<Fused>,
    adapted: &Adapted,
    tokens: &Tensor,
    range: Range<usize>,
    want_class: bool,
    kept_bytes: usize,
) -> Result<Passed> {
    let (s, t, _) = tokens.dims3()?;
    let (mut x, mut class) = (tokens.contiguous()?, None);
    let bytes: usize = fused.blocks[range.clone()].iter().map(|b| b.saved_bytes() * s * t).sum();
    for i in range.clone() {
        let (terms, factors) = &adapted.blocks[i];
        fused.blocks[i].prepare_backward()?;
        let map = Arc::new(Mutex::new(Vec::new()));
        let want = want_class && i + 1 == range.end;
        let op = BlockOp {
            fused: fused.clone(),
            block: i,
            terms: terms.clone(),
            input_tracked: x.track_op(),
            keep: bytes <= kept_bytes,
            kept: Kept::default(),
            map: want.then(|| map.clone()),
        };
        let none = || Tensor::zeros(terms.size().max(1), candle_core::DType::F32, &Device::Cpu);
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
    input_tracked: bool,
    keep: bool,
    kept: Kept,
    map: Option<Arc<Mutex<Vec<f32>>>>,
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
        let kept: Vec<Option<Saved>> = out
            .par_chunks_exact_mut(t * d)
            .zip(maps)
            .map(|(x, map)| {
                with_scratch(|scratch| {
                    let mut keep = match self.keep {
                        true => self.fused.spare.take(),
                        false => std::mem::take(&mut scratch.saved),
                    };
                    block.forward(&self.terms, x, map, &mut keep, self.keep, scratch);
                    if self.keep {
                        return Some(keep);
                    }
                    scratch.saved = keep;
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
        // Each slice's own, added up in order afterwards: the same sum whatever the threads.
        let of_terms: Vec<Vec<f32>> = inputs
            .par_chunks_exact(t * d)
            .zip(grads.par_chunks_exact(t * d))
            .zip(wanted)
            .enumerate()
            .map(|(i, ((x, grad), to_x))| {
                with_scratch(|scratch| {
                    let mut to_terms = vec![0f32; size];
                    let mut again = std::mem::take(&mut scratch.saved);
                    let saved = kept.get(i).unwrap_or_else(|| {
                        block.forward(&self.terms, &mut x.to_vec(), None, &mut again, true, scratch);
                        &again
                    });
                    block.backward(&self.terms, (x, saved), grad, to_x, &mut to_terms, scratch);
                    scratch.saved = again;
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
        self.fused.spare.give(std::mem::take(&mut *self.kept.lock()));
    }
}

/// Activations of slices, one each.
#[derive(Default)]
pub(crate) struct Kept(Mutex<Vec<Saved>>);

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Vec<Saved>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Memory that an earlier pass is done with, so that a step neither asks for it nor clears it again.
    fn take(&self) -> Saved {
        self.lock().pop().unwrap_or_default()
    }
    fn give(&self, done: Vec<Saved>) {
        self.lock().extend(done);
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
