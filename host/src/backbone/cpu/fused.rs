//! The transformer over one slice at a time, on the CPU kernels: forward, and backward for what an adapter trains.
//!
//! A slice's activations stay in the caches and slices share the threads. Weights are packed once; layer
//! scales are folded into the layers before them. Low-rank terms stay f32 and unmerged.

use super::block_op::Kept;
use super::kernels::gemm::{Packed, Store, gemm, gemm_turned};
use super::kernels::{Isa, attention, math};
use crate::backbone::adapter::LowRank;
use crate::backbone::arch::dinov2::{Block, Vit};
use crate::backbone::driver::Precision;
use crate::backbone::layers::{LayerNorm, Linear};
use candle_core::{Result, Tensor};
use std::sync::OnceLock;

/// The arithmetic that a model's layers share.
#[derive(Clone, Copy)]
pub(crate) struct Arithmetic {
    pub isa: Isa,
    pub precision: Precision,
}

impl Arithmetic {
    fn pack(self, source: &[f32], k: usize, n: usize, strides: (usize, usize)) -> Packed {
        Packed::new(self.isa, self.precision, source, k, n, strides)
    }
    fn product(self, a: &[f32], lda: usize, b: &Packed, out: &mut [f32], store: Store<'_>) {
        gemm(self.isa, a, lda, a.len() / lda, b, out, b.columns(), store);
    }
}

pub(crate) fn numbers(x: &Tensor) -> Result<Vec<f32>> {
    x.flatten_all()?.to_vec1()
}

/// A frozen layer, packed for both directions; the second only once a gradient is asked for.
pub(crate) struct Layer {
    linear: Linear,
    /// A layer scale after this layer, folded into it.
    scale: Option<Vec<f32>>,
    bias: Vec<f32>,
    forward: Packed,
    backward: OnceLock<Packed>,
    arithmetic: Arithmetic,
}

impl Layer {
    pub fn new(arithmetic: Arithmetic, linear: &Linear, scale: Option<&Tensor>) -> Result<Self> {
        let (d_out, d_in) = linear.weight.dims2()?;
        let scale = scale.map(numbers).transpose()?;
        let mut bias = numbers(&linear.bias)?;
        if let Some(scale) = &scale {
            bias.iter_mut().zip(scale).for_each(|(b, s)| *b *= s);
        }
        let weight = scaled_rows(numbers(&linear.weight)?, scale.as_deref());
        let forward = arithmetic.pack(&weight, d_in, d_out, (1, d_in));
        Ok(Self { linear: linear.clone(), scale, bias, forward, backward: OnceLock::new(), arithmetic })
    }

    pub fn d_out(&self) -> usize {
        self.bias.len()
    }

    /// x [T, d_in] → out [T, d_out]
    pub fn forward(&self, x: &[f32], d_in: usize, out: &mut [f32]) {
        self.arithmetic.product(x, d_in, &self.forward, out, Store::Set(Some(&self.bias)));
    }

    /// out = GELU of the layer of x
    pub fn gelu(&self, x: &[f32], d_in: usize, out: &mut [f32]) {
        self.arithmetic.product(x, d_in, &self.forward, out, Store::Gelu(Some(&self.bias)));
    }

    /// out += the layer of x
    pub fn add(&self, x: &[f32], d_in: usize, out: &mut [f32]) {
        self.arithmetic.product(x, d_in, &self.forward, out, Store::Add(Some(&self.bias)));
    }

    /// Forms the packing that [`Self::backward`] needs, outside any parallel loop.
    pub fn prepare_backward(&self) -> Result<()> {
        if self.backward.get().is_none() {
            let (d_out, d_in) = self.linear.weight.dims2()?;
            let weight = scaled_rows(numbers(&self.linear.weight)?, self.scale.as_deref());
            // Another thread may have been first; both made the same.
            let _ = self.backward.set(self.arithmetic.pack(&weight, d_out, d_in, (d_in, 1)));
        }
        Ok(())
    }

    /// grad [T, d_out] → out [T, d_in]
    pub fn backward(&self, grad: &[f32], out: &mut [f32]) {
        if let Some(packed) = self.backward.get() {
            self.arithmetic.product(grad, self.d_out(), packed, out, Store::Set(None));
        }
    }
}

fn scaled_rows(mut weight: Vec<f32>, scale: Option<&[f32]>) -> Vec<f32> {
    if let Some(scale) = scale {
        let d_in = weight.len() / scale.len();
        for (row, scale) in weight.chunks_exact_mut(d_in).zip(scale) {
            row.iter_mut().for_each(|w| *w *= scale);
        }
    }
    weight
}

/// A low-rank term at a site, packed in f32 for both directions.
pub(crate) struct Term {
    rank: usize,
    d_in: usize,
    d_out: usize,
    /// What each row of B was multiplied with: the term's scale, and the layer scale behind it.
    rows: Vec<f32>,
    a: Packed,      // x → low
    b: Packed,      // low → y
    a_back: Packed, // low's gradient → x's
    b_back: Packed, // y's gradient → low's
    isa: Isa,
}

impl Term {
    pub fn new(isa: Isa, term: &LowRank, layer_scale: Option<&[f32]>) -> Result<Self> {
        let ((rank, d_in), (d_out, _)) = (term.a.dims2()?, term.b.dims2()?);
        let rows =
            (0..d_out).map(|i| term.scale as f32 * layer_scale.map_or(1.0, |s| s[i])).collect::<Vec<_>>();
        let a = numbers(&term.a)?;
        let b = scaled_rows(numbers(&term.b)?, Some(&rows));
        let pack = |source: &[f32], k, n, strides| Packed::new(isa, Precision::F32, source, k, n, strides);
        Ok(Self {
            rank,
            d_in,
            d_out,
            rows,
            a: pack(&a, d_in, rank, (1, d_in)),
            b: pack(&b, rank, d_out, (1, rank)),
            a_back: pack(&a, rank, d_in, (d_in, 1)),
            b_back: pack(&b, d_out, rank, (rank, 1)),
            isa,
        })
    }

    /// Numbers in A and B.
    pub fn size(&self) -> usize {
        self.rank * (self.d_in + self.d_out)
    }

    fn tokens(&self, x: &[f32]) -> usize {
        x.len() / self.d_in
    }

    /// y [T, d_out] += x Aᵀ Bᵀ
    pub fn add(&self, x: &[f32], y: &mut [f32], low: &mut Vec<f32>) {
        let t = self.tokens(x);
        low.resize(t * self.rank, 0.0);
        gemm(self.isa, x, self.d_in, t, &self.a, low, self.rank, Store::Set(None));
        gemm(self.isa, low, self.rank, t, &self.b, y, self.d_out, Store::Add(None));
    }

    /// From the output's gradient: A's and B's into `into` (A first), and x's added to `to_x` where wanted.
    pub fn backward(
        &self,
        x: &[f32],
        grad: &[f32],
        to_x: Option<&mut [f32]>,
        into: &mut [f32],
        s: &mut TermScratch,
    ) {
        let (t, r, isa) = (self.tokens(x), self.rank, self.isa);
        s.low.resize(t * r, 0.0);
        let (to_a, to_b) = into.split_at_mut(r * self.d_in);
        // B's gradient: gradᵀ · low
        gemm(isa, x, self.d_in, t, &self.a, &mut s.low, r, Store::Set(None));
        s.packed.repack(isa, Precision::F32, &s.low, t, r, (r, 1));
        gemm_turned(isa, grad, self.d_out, self.d_out, &s.packed, to_b, r, Store::Set(None));
        for (row, scale) in to_b.chunks_exact_mut(r).zip(&self.rows) {
            row.iter_mut().for_each(|g| *g *= scale);
        }
        // A's: xᵀ · (grad · B), turned
        gemm(isa, grad, self.d_out, t, &self.b_back, &mut s.low, r, Store::Set(None));
        s.packed.repack(isa, Precision::F32, &s.low, t, r, (r, 1));
        s.tall.resize(self.d_in * r, 0.0);
        gemm_turned(isa, x, self.d_in, self.d_in, &s.packed, &mut s.tall, r, Store::Set(None));
        attention::turn(&s.tall, self.d_in, r, to_a);
        if let Some(to_x) = to_x {
            gemm(isa, &s.low, r, t, &self.a_back, to_x, self.d_in, Store::Add(None));
        }
    }
}

#[derive(Default)]
pub(crate) struct TermScratch {
    low: Vec<f32>,
    tall: Vec<f32>,
    packed: Packed,
}

/// The low-rank terms of one block.
#[derive(Default)]
pub(crate) struct Terms {
    pub qkv: Option<Term>,
    pub output: Option<Term>,
}

impl Terms {
    pub fn size(&self) -> usize {
        self.qkv.as_ref().map_or(0, Term::size) + self.output.as_ref().map_or(0, Term::size)
    }
}

pub(crate) struct Norm {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    pub eps: f32,
    isa: Isa,
}

impl Norm {
    pub fn new(isa: Isa, norm: &LayerNorm) -> Result<Self> {
        Ok(Self { weight: numbers(&norm.weight)?, bias: numbers(&norm.bias)?, eps: norm.eps as f32, isa })
    }
    pub fn forward(&self, x: &[f32], out: &mut [f32]) {
        math::layer_norm(self.isa, x, &self.weight, &self.bias, self.eps, out);
    }
    /// Adds the gradient of the norm's input to `into`.
    pub fn backward(&self, x: &[f32], grad: &[f32], into: &mut [f32]) {
        math::layer_norm_backward(self.isa, x, &self.weight, self.eps, grad, into);
    }
}

/// What the backward pass of a block needs of the forward pass of one slice.
#[derive(Default)]
pub(crate) struct Saved {
    qkv: Vec<f32>,    // [T, 3d]
    mixed: Vec<f32>,  // [T, d], the attention's output before its projection
    middle: Vec<f32>, // [T, d], after the attention's residual
    up: Vec<f32>,     // [T, hidden], before the activation
}

/// Memory of one thread, reused from block to block and slice to slice.
#[derive(Default)]
pub(crate) struct Scratch {
    normed: Vec<f32>,
    hidden: Vec<f32>,
    wide: Vec<f32>,
    back: Vec<f32>,
    low: Vec<f32>,
    term: TermScratch,
    attention: attention::Scratch,
    pub saved: Saved,
}

pub(crate) struct FusedBlock {
    norm1: Norm,
    qkv: Layer,
    output: Layer,
    norm2: Norm,
    up: Layer,
    down: Layer,
    gated: bool,
    heads: usize,
    arithmetic: Arithmetic,
}

impl FusedBlock {
    fn new(arithmetic: Arithmetic, block: &Block, heads: usize) -> Result<Self> {
        Ok(Self {
            norm1: Norm::new(arithmetic.isa, &block.norm1)?,
            qkv: Layer::new(arithmetic, &block.qkv, None)?,
            output: Layer::new(arithmetic, &block.output, Some(&block.scale1))?,
            norm2: Norm::new(arithmetic.isa, &block.norm2)?,
            up: Layer::new(arithmetic, &block.mlp.up, None)?,
            down: Layer::new(arithmetic, &block.mlp.down, Some(&block.scale2))?,
            gated: block.mlp.gated,
            heads,
            arithmetic,
        })
    }

    fn shape(&self, tokens: usize) -> attention::Shape {
        attention::Shape { tokens, heads: self.heads, head: self.output.d_out() / self.heads }
    }

    fn hidden(&self) -> usize {
        if self.gated { self.up.d_out() / 2 } else { self.up.d_out() }
    }

    /// The layer scale behind the attention's output projection, which its low-rank term shares.
    pub fn output_scale(&self) -> Option<&[f32]> {
        self.output.scale.as_deref()
    }

    /// Bytes that [`Saved`] takes for one token.
    pub fn saved_bytes(&self) -> usize {
        4 * (5 * self.output.d_out() + self.up.d_out())
    }

    pub fn prepare_backward(&self) -> Result<()> {
        [&self.qkv, &self.output, &self.up, &self.down].into_iter().try_for_each(Layer::prepare_backward)
    }

    /// x [T, d] becomes the block's output; `class` the class token's attention [T]. What [`Self::backward`] needs is
    /// in `keep` afterwards only where `backward` says so.
    #[allow(clippy::too_many_arguments)]
    pub fn forward(
        &self,
        terms: &Terms,
        x: &mut [f32],
        class: Option<&mut [f32]>,
        keep: &mut Saved,
        backward: bool,
        s: &mut Scratch,
    ) {
        let d = self.output.d_out();
        let (t, Arithmetic { isa, precision }) = (x.len() / d, self.arithmetic);
        s.normed.resize(t * d, 0.0);
        keep.qkv.resize(t * 3 * d, 0.0);
        keep.mixed.resize(t * d, 0.0);
        // x += output(attention(qkv(norm1(x))))
        self.norm1.forward(x, &mut s.normed);
        self.qkv.forward(&s.normed, d, &mut keep.qkv);
        if let Some(term) = &terms.qkv {
            term.add(&s.normed, &mut keep.qkv, &mut s.low);
        }
        attention::forward(
            isa,
            precision,
            self.shape(t),
            &keep.qkv,
            &mut keep.mixed,
            class,
            &mut s.attention,
        );
        self.output.add(&keep.mixed, d, x);
        if let Some(term) = &terms.output {
            term.add(&keep.mixed, x, &mut s.low);
        }
        if backward {
            keep.middle.clear();
            keep.middle.extend_from_slice(x);
        }
        // x += down(activation(up(norm2(x))))
        self.norm2.forward(x, &mut s.normed);
        let hidden = self.hidden();
        s.hidden.resize(t * hidden, 0.0);
        if !(backward || self.gated) {
            self.up.gelu(&s.normed, d, &mut s.hidden);
        } else {
            keep.up.resize(t * self.up.d_out(), 0.0);
            self.up.forward(&s.normed, d, &mut keep.up);
            match self.gated {
                true => math::swiglu(isa, &keep.up, hidden, &mut s.hidden),
                false => math::gelu(isa, &keep.up, &mut s.hidden),
            }
        }
        self.down.add(&s.hidden, hidden, x);
    }

    /// From the gradient of the block's output: that of x into `to_x` (unwanted at the first adapted
    /// block), and those of the terms into `to_terms`: A and B of qkv, then of the output projection.
    pub fn backward(
        &self,
        terms: &Terms,
        (x, kept): (&[f32], &Saved),
        grad: &[f32],
        to_x: Option<&mut [f32]>,
        to_terms: &mut [f32],
        s: &mut Scratch,
    ) {
        let d = self.output.d_out();
        let (t, hidden, Arithmetic { isa, precision }) = (x.len() / d, self.hidden(), self.arithmetic);
        s.normed.resize(t * d, 0.0);
        s.hidden.resize(t * hidden, 0.0);
        s.wide.resize(t * (3 * d).max(self.up.d_out()), 0.0);
        // Through the MLP: `back` is the gradient of the middle.
        s.back.clear();
        s.back.extend_from_slice(grad);
        self.down.backward(grad, &mut s.hidden);
        let before = match self.gated {
            true => {
                let wide = &mut s.wide[..t * 2 * hidden];
                math::swiglu_backward(isa, &kept.up, hidden, &s.hidden, wide);
                &*wide
            }
            false => {
                math::gelu_backward(isa, &kept.up, &mut s.hidden);
                &s.hidden
            }
        };
        self.up.backward(before, &mut s.normed);
        self.norm2.backward(&kept.middle, &s.normed, &mut s.back);
        // Through the attention.
        let (to_qkv, to_output) = to_terms.split_at_mut(terms.qkv.as_ref().map_or(0, Term::size));
        let to_mixed = &mut s.hidden[..t * d];
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
            self.shape(t),
            &kept.qkv,
            to_mixed,
            to_projections,
            &mut s.attention,
        );
        let to_normed = &mut s.hidden[..t * d];
        let wanted = to_x.is_some();
        if wanted {
            self.qkv.backward(to_projections, to_normed);
        }
        if let Some(term) = &terms.qkv {
            self.norm1.forward(x, &mut s.normed);
            let to_normed = wanted.then_some(&mut *to_normed);
            term.backward(&s.normed, to_projections, to_normed, to_qkv, &mut s.term);
        }
        if let Some(to_x) = to_x {
            to_x.copy_from_slice(&s.back);
            self.norm1.backward(x, to_normed, to_x);
        }
    }
}

/// The whole model on the kernels.
pub(crate) struct Fused {
    pub arithmetic: Arithmetic,
    pub patch: Layer,
    pub blocks: Vec<FusedBlock>,
    pub norm: Norm,
    /// Memory for the next training pass.
    pub spare: Kept,
}

impl Fused {
    pub fn new(vit: &Vit, arithmetic: Arithmetic) -> Result<Self> {
        let blocks: Result<Vec<_>> =
            vit.blocks.iter().map(|b| FusedBlock::new(arithmetic, b, vit.config.heads)).collect();
        Ok(Self {
            arithmetic,
            patch: Layer::new(arithmetic, &vit.patch, None)?,
            blocks: blocks?,
            norm: Norm::new(arithmetic.isa, &vit.norm)?,
            spare: Kept::default(),
        })
    }
}
