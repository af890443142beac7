//! The transformer over one slice at a time, on the processor's kernels: forward, and backward for what an adapter trains.
//!
//! A slice's activations stay in the caches, and slices share the threads. The layers are packed once: see `packed`.

use super::kernels::rotate::Turns;
use super::kernels::{activate, attention};
pub(crate) use super::packed::Arithmetic;
pub(crate) use super::packed::{Layer, Norm};
use super::packed::{Term, TermScratch, Terms};
use crate::backbone::activation::Activation;
use crate::backbone::embedding::PatchEmbedding;
use crate::backbone::layers::LayerNorm;
use crate::backbone::rotation::AxialRotation;
use candle_core::{Device, Result};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the backward pass of a block needs of the forward pass of one slice.
#[derive(Default)]
pub(crate) struct Activations {
    qkv: Vec<f32>,    // [T, 3d]
    mixed: Vec<f32>,  // [T, d], the attention's output before its projection
    middle: Vec<f32>, // [T, d], after the attention's residual
    up: Vec<f32>,     // [T, hidden], before the activation
}

impl Activations {
    /// The attention's output before its projection, [T, d], of the last block.
    pub fn mixed(&self) -> &[f32] {
        &self.mixed
    }
}

/// Memory of one thread, reused from block to block and slice to slice.
#[derive(Default)]
pub(crate) struct Scratch {
    normed: Vec<f32>,
    hidden: Vec<f32>,
    wide: Vec<f32>,
    back: Vec<f32>,
    low: Vec<f32>,
    pub keys: Vec<f32>,
    term: TermScratch,
    attention: attention::Scratch,
    pub activations: Activations,
}

impl Scratch {
    /// What the last norm left, [T, d]: after [`FusedBlock::attend`] the input of `qkv`, after [`FusedBlock::mlp`] that of `up`.
    pub fn normed(&self) -> &[f32] {
        &self.normed
    }

    /// After [`FusedBlock::mlp`] the input of `down`, [T, hidden].
    pub fn hidden(&self) -> &[f32] {
        &self.hidden
    }
}

/// What changes a block of one pass besides its frozen layers.
#[derive(Clone, Copy)]
pub(crate) struct Change<'a> {
    pub terms: &'a Terms,
    /// Rotary positions of the pass's grid.
    pub turns: Option<&'a Turns>,
    /// The first so many tokens are wanted of the block; `None`: all. The others are read, and what is left in their place is of
    /// no use.
    pub wanted: Option<usize>,
    /// How many patches each token stands for, where some were merged.
    pub sizes: Option<&'a [f32]>,
}

/// One block on the kernels, its layers as its family read them.
pub(crate) struct FusedBlock {
    pub norm1: Norm,
    /// d → 3d.
    pub qkv: Layer,
    /// A layer scale behind it is folded in.
    pub output: Layer,
    pub norm2: Norm,
    /// d → hidden; d → 2·hidden where gated, gate first.
    pub up: Layer,
    /// As `output`.
    pub down: Layer,
    /// `down(activation(gate) · up)` instead of `down(activation(up))`.
    pub gated: bool,
    pub activation: Activation,
    pub heads: usize,
    pub arithmetic: Arithmetic,
}

impl FusedBlock {
    fn shape<'a>(&self, tokens: usize, queries: usize, sizes: Option<&'a [f32]>) -> attention::Shape<'a> {
        let head = self.output.d_out() / self.heads;
        attention::Shape { tokens, heads: self.heads, head, queries, sizes }
    }

    fn hidden(&self) -> usize {
        if self.gated { self.up.d_out() / 2 } else { self.up.d_out() }
    }

    /// The layer scale behind the attention's output projection, which its low-rank term shares.
    pub fn output_scale(&self) -> Option<&[f32]> {
        self.output.scale.as_deref()
    }

    /// Bytes that [`Activations`] takes for one token.
    pub fn activation_bytes(&self) -> usize {
        4 * (5 * self.output.d_out() + self.up.d_out())
    }

    pub fn prepare_backward(&self) {
        [&self.qkv, &self.output, &self.up, &self.down].into_iter().for_each(Layer::prepare_backward);
    }

    /// x [T, d] becomes the block's output, of the tokens that are wanted; `class` the class token's attention [T]. What
    /// [`Self::backward`] needs is in `keep` afterwards only where `backward` says so.
    #[allow(clippy::too_many_arguments)]
    pub fn forward(
        &self,
        change: Change<'_>,
        x: &mut [f32],
        class: Option<&mut [f32]>,
        keep: &mut Activations,
        backward: bool,
        s: &mut Scratch,
    ) {
        let rows = change.wanted.map_or(x.len(), |wanted| (wanted * self.output.d_out()).min(x.len()));
        self.attend(change, x, class, keep, s);
        self.mlp(&mut x[..rows], keep, backward, s);
    }

    /// x += output(attention(qkv(norm1(x)))), of the tokens that are wanted. `keep.qkv` holds queries, keys and values.
    pub fn attend(
        &self,
        Change { terms, turns, wanted, sizes }: Change<'_>,
        x: &mut [f32],
        class: Option<&mut [f32]>,
        keep: &mut Activations,
        s: &mut Scratch,
    ) {
        let d = self.output.d_out();
        let (t, isa, precision) = (x.len() / d, self.arithmetic.isa, self.arithmetic.of_attention());
        let rows = wanted.map_or(t, |wanted| wanted.min(t));
        s.normed.resize(t * d, 0.0);
        keep.qkv.resize(t * 3 * d, 0.0);
        keep.mixed.resize(rows * d, 0.0);
        self.norm1.forward(x, &mut s.normed);
        self.qkv.forward(&s.normed, d, &mut keep.qkv);
        if let Some(term) = &terms.qkv {
            term.add(&s.normed, &mut keep.qkv, &mut s.low);
        }
        // The projections are complete, low-rank terms included, and no score is formed yet.
        if let Some(turns) = turns {
            turns.forward(isa, &mut keep.qkv, d);
        }
        let shape = self.shape(t, rows, sizes);
        attention::forward(isa, precision, shape, &keep.qkv, &mut keep.mixed, class, &mut s.attention);
        let x = &mut x[..rows * d];
        self.output.add(&keep.mixed, d, x);
        if let Some(term) = &terms.output {
            term.add(&keep.mixed, x, &mut s.low);
        }
    }

    /// x += down(activation(up(norm2(x))))
    pub fn mlp(&self, x: &mut [f32], keep: &mut Activations, backward: bool, s: &mut Scratch) {
        let (d, isa, hidden) = (self.output.d_out(), self.arithmetic.isa, self.hidden());
        let t = x.len() / d;
        if backward {
            keep.middle.clear();
            keep.middle.extend_from_slice(x);
        }
        s.normed.resize(t * d, 0.0);
        self.norm2.forward(x, &mut s.normed);
        s.hidden.resize(t * hidden, 0.0);
        if !(backward || self.gated) {
            self.up.activated(self.activation, &s.normed, d, &mut s.hidden);
        } else {
            keep.up.resize(t * self.up.d_out(), 0.0);
            self.up.forward(&s.normed, d, &mut keep.up);
            match self.gated {
                true => activate::gated(isa, self.activation, &keep.up, hidden, &mut s.hidden),
                false => activate::activate(isa, self.activation, &keep.up, &mut s.hidden),
            }
        }
        self.down.add(&s.hidden, hidden, x);
    }

    /// The keys of T tokens that [`Self::attend`] left, mean over the heads, each of length 1: [T, d / heads].
    pub fn keys(&self, Activations { qkv, .. }: &Activations, keys: &mut Vec<f32>) {
        let d = self.output.d_out();
        let head = d / self.heads;
        keys.clear();
        keys.resize(qkv.len() / (3 * d) * head, 0.0);
        for (token, mean) in qkv.chunks_exact(3 * d).zip(keys.chunks_exact_mut(head)) {
            for of_head in token[d..2 * d].chunks_exact(head) {
                mean.iter_mut().zip(of_head).for_each(|(mean, x)| *mean += x);
            }
            let length = mean.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
            mean.iter_mut().for_each(|x| *x /= length);
        }
    }

    /// From the gradient of the block's output, of the tokens that were wanted: that of x into `to_x` (`None` at the first
    /// adapted block), and those of the terms into `to_terms`: A and B of qkv, then of the output projection.
    pub fn backward(
        &self,
        Change { terms, turns, wanted, sizes }: Change<'_>,
        (x, kept): (&[f32], &Activations),
        grad: &[f32],
        to_x: Option<&mut [f32]>,
        to_terms: &mut [f32],
        s: &mut Scratch,
    ) {
        let d = self.output.d_out();
        let (t, hidden) = (x.len() / d, self.hidden());
        let rows = wanted.map_or(t, |wanted| wanted.min(t));
        let grad = &grad[..rows * d];
        let (isa, precision) = (self.arithmetic.isa, self.arithmetic.of_attention());
        s.normed.resize(rows * d, 0.0);
        // The MLP may be narrower than a token, whose gradients it holds later.
        s.hidden.resize(t * hidden.max(d), 0.0);
        s.wide.resize(t * (3 * d).max(self.up.d_out()), 0.0);
        // Through the MLP: `back` is the gradient of the middle.
        s.back.clear();
        s.back.extend_from_slice(grad);
        let to_hidden = &mut s.hidden[..rows * hidden];
        self.down.backward(grad, to_hidden);
        let before = match self.gated {
            true => {
                let wide = &mut s.wide[..rows * 2 * hidden];
                activate::gated_backward(isa, self.activation, &kept.up, hidden, to_hidden, wide);
                &*wide
            }
            false => {
                activate::activate_backward(isa, self.activation, &kept.up, to_hidden);
                &*to_hidden
            }
        };
        self.up.backward(before, &mut s.normed);
        self.norm2.backward(&kept.middle, &s.normed, &mut s.back);
        // Through the attention.
        let (to_qkv, to_output) = to_terms.split_at_mut(terms.qkv.as_ref().map_or(0, Term::size));
        let to_mixed = &mut s.hidden[..rows * d];
        self.output.backward(&s.back, to_mixed);
        if let Some(term) = &terms.output {
            term.backward(&kept.mixed, &s.back, Some(to_mixed), to_output, &mut s.term);
        }
        if to_x.is_none() && terms.qkv.is_none() {
            return;
        }
        let to_projections = &mut s.wide[..t * 3 * d];
        attention::backward(
            isa,
            precision,
            self.shape(t, rows, sizes),
            &kept.qkv,
            to_mixed,
            to_projections,
            &mut s.attention,
        );
        if let Some(turns) = turns {
            turns.backward(isa, to_projections, d);
        }
        let to_normed = &mut s.hidden[..t * d];
        let passed_on = to_x.is_some();
        if passed_on {
            self.qkv.backward(to_projections, to_normed);
        }
        if let Some(term) = &terms.qkv {
            s.normed.resize(t * d, 0.0);
            self.norm1.forward(x, &mut s.normed);
            let to_normed = passed_on.then_some(&mut *to_normed);
            term.backward(&s.normed, to_projections, to_normed, to_qkv, &mut s.term);
        }
        if let Some(to_x) = to_x {
            // The others' way past the attention ends here.
            let (of_wanted, others) = to_x.split_at_mut(rows * d);
            of_wanted.copy_from_slice(&s.back);
            others.fill(0.0);
            self.norm1.backward(x, to_normed, to_x);
        }
    }
}

/// The whole model on the kernels.
pub(crate) struct Fused {
    pub arithmetic: Arithmetic,
    pub embedding: PatchEmbedding,
    /// `embedding.projection`, packed.
    pub patch: Layer,
    /// After the embedding, where the family has one.
    pub pre_norm: Option<Norm>,
    /// Where positions enter the blocks as rotations.
    pub rotation: Option<AxialRotation>,
    pub blocks: Vec<FusedBlock>,
    pub norm: Norm,
    /// Whether patches pass the final norm too, not the class token alone.
    pub patches_normed: bool,
    /// Memory for the next training pass.
    pub pool: ActivationPool,
}

impl Fused {
    pub fn new(
        arithmetic: Arithmetic,
        embedding: &PatchEmbedding,
        rotation: Option<&AxialRotation>,
        blocks: Vec<FusedBlock>,
        (norm, patches_normed): (&LayerNorm, bool),
    ) -> Result<Self> {
        let pre_norm = embedding.norm.as_ref();
        Ok(Self {
            arithmetic,
            patch: Layer::new(arithmetic, &embedding.projection, None, None)?,
            embedding: embedding.clone(),
            pre_norm: pre_norm.map(|norm| Norm::new(arithmetic.isa, norm)).transpose()?,
            rotation: rotation.map(|r| r.to_device(&Device::Cpu)),
            blocks,
            norm: Norm::new(arithmetic.isa, norm)?,
            patches_normed,
            pool: ActivationPool::default(),
        })
    }

    /// Bytes of the weights as they are packed.
    pub fn bytes(&self) -> usize {
        let of_block =
            |b: &FusedBlock| [&b.qkv, &b.output, &b.up, &b.down].map(Layer::bytes).iter().sum::<usize>();
        self.embedding.bytes() + self.patch.bytes() + self.blocks.iter().map(of_block).sum::<usize>()
    }

    /// The rotations of a grid of (h, w) patches.
    pub fn turns(&self, grid: (usize, usize)) -> Result<Option<Turns>> {
        let leading = self.embedding.layout()?.leading();
        self.rotation.as_ref().map(|r| r.at(grid)?.turns(leading)).transpose()
    }
}

/// Activations of slices, one each.
#[derive(Default)]
pub(crate) struct ActivationPool(Mutex<Vec<Activations>>);

impl ActivationPool {
    pub fn lock(&self) -> MutexGuard<'_, Vec<Activations>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Memory that an earlier pass is done with, so that a step neither allocates nor clears it again.
    pub fn take(&self) -> Activations {
        self.lock().pop().unwrap_or_default()
    }
    pub fn give(&self, done: Vec<Activations>) {
        self.lock().extend(done);
    }
}
