//! Multi-head attention of one slice over fused projections, one head at a time, so that a head's keys,
//! values and a block of rows of its probabilities stay in the second-level cache.

use super::Isa;
use super::gemm::{Packed, Store, gemm, gemm_transposed};
use super::math::{exp_rows, softmax_backward_rows, softmax_rows, weigh_rows};
use crate::backbone::precision::Precision;

/// Rows of probabilities formed at a time: whole tiles of six, and for a slice of 224 pixels no more than the
/// first-level cache holds.
const BLOCK: usize = 24;

/// Numbers of the probabilities that the backward pass forms at a time: the second-level cache holds them twice.
const BACK: usize = 76_800;

/// The shape of one slice's attention.
#[derive(Clone, Copy)]
pub(crate) struct Shape<'a> {
    pub tokens: usize,
    pub heads: usize,
    pub head: usize,
    /// The first so many tokens attend; all are attended to.
    pub queries: usize,
    /// How often each token is attended to; `None`: once.
    pub sizes: Option<&'a [f32]>,
}

impl Shape<'_> {
    fn width(&self) -> usize {
        self.heads * self.head
    }
    fn scale(&self) -> f32 {
        1.0 / (self.head as f32).sqrt()
    }
    fn row_blocks(&self, block: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let n = self.queries;
        (0..n).step_by(block).map(move |first| (first, block.min(n - first)))
    }
}

/// Memory of one thread, reused from head to head and slice to slice.
#[derive(Default)]
pub(crate) struct Scratch {
    keys: Packed,
    values: Packed,
    keys_by_token: Packed,
    rows: Packed,
    p: Vec<f32>,
    dp: Vec<f32>,
}

/// `qkv` [T, 3d] → `out` [Q, d] of the Q tokens that attend. `class`, where given, becomes the first token's probabilities [T], mean over heads.
pub(crate) fn forward(
    isa: Isa,
    precision: Precision,
    shape: Shape<'_>,
    qkv: &[f32],
    out: &mut [f32],
    mut class: Option<&mut [f32]>,
    scratch: &mut Scratch,
) {
    let (t, d, head) = (shape.tokens, shape.width(), shape.head);
    let rows = shape.queries;
    assert!(
        qkv.len() == t * 3 * d && out.len() == rows * d && rows <= t,
        "attention was given buffers of another shape"
    );
    if let Some(class) = class.as_deref_mut() {
        class.fill(0.0);
    }
    scratch.p.resize(BLOCK * t, 0.0);
    for h in 0..shape.heads {
        let [q, k, v] = [0, 1, 2].map(|part| &qkv[part * d + h * head..]);
        scratch.keys.repack(isa, precision, k, head, t, (1, 3 * d));
        scratch.values.repack(isa, precision, v, t, head, (3 * d, 1));
        for (first, rows) in shape.row_blocks(BLOCK) {
            let p = &mut scratch.p[..rows * t];
            gemm(isa, &q[first * 3 * d..], 3 * d, rows, &scratch.keys, p, t, Store::Set(None));
            let mut sums = [0f32; BLOCK];
            exp_rows(isa, p, t, shape.scale(), &mut sums);
            if let Some(sizes) = shape.sizes {
                weigh_rows(isa, p, sizes, &mut sums);
            }
            if let Some(class) = class.as_deref_mut().filter(|_| first == 0) {
                let share = 1.0 / (sums[0] * shape.heads as f32);
                class.iter_mut().zip(&p[..t]).for_each(|(c, p)| *c += p * share);
            }
            let out = &mut out[first * d + h * head..];
            gemm(isa, p, t, rows, &scratch.values, out, d, Store::Set(None));
            // A row's numbers are fewer here than its probabilities: they are divided by its sum only now.
            for (row, sum) in out.chunks_mut(d).zip(&sums[..rows]) {
                let inverse = 1.0 / sum;
                row[..head].iter_mut().for_each(|x| *x *= inverse);
            }
        }
    }
}

/// The gradient of `qkv` [T, 3d] from that of the output [Q, d]; probabilities are formed again.
pub(crate) fn backward(
    isa: Isa,
    precision: Precision,
    shape: Shape<'_>,
    qkv: &[f32],
    grad: &[f32],
    into: &mut [f32],
    scratch: &mut Scratch,
) {
    let (t, d, head) = (shape.tokens, shape.width(), shape.head);
    let rows = shape.queries;
    assert!(shape.sizes.is_none(), "merged tokens have no gradients");
    let fits = [qkv.len(), into.len()].iter().all(|n| *n == t * 3 * d);
    assert!(fits && grad.len() == rows * d && rows <= t, "attention was given buffers of another shape");
    // Queries of the others have no gradient.
    into.chunks_exact_mut(3 * d).skip(rows).for_each(|token| token[..d].fill(0.0));
    let block = (BACK / t / 6 * 6).clamp(BLOCK, t.max(BLOCK));
    scratch.p.resize(block * t, 0.0);
    scratch.dp.resize(block * t, 0.0);
    for h in 0..shape.heads {
        let [q, k, v] = [0, 1, 2].map(|part| part * d + h * head);
        scratch.keys.repack(isa, precision, &qkv[k..], head, t, (1, 3 * d));
        scratch.keys_by_token.repack(isa, precision, &qkv[k..], t, head, (3 * d, 1));
        scratch.values.repack(isa, precision, &qkv[v..], head, t, (1, 3 * d));
        for (first, rows) in shape.row_blocks(block) {
            let (p, dp) = (&mut scratch.p[..rows * t], &mut scratch.dp[..rows * t]);
            let (queries, grads) = (&qkv[first * 3 * d + q..], &grad[first * d + h * head..]);
            let sum = if first == 0 { Store::Set(None) } else { Store::Add(None) };
            gemm(isa, queries, 3 * d, rows, &scratch.keys, p, t, Store::Set(None));
            softmax_rows(isa, p, t, shape.scale());
            // dV += Pᵀ dO
            scratch.rows.repack(isa, precision, grads, rows, head, (d, 1));
            gemm_transposed(isa, p, t, t, &scratch.rows, &mut into[v..], 3 * d, sum);
            // dP = dO Vᵀ, then the gradient of the scores
            gemm(isa, grads, d, rows, &scratch.values, dp, t, Store::Set(None));
            softmax_backward_rows(isa, p, t, shape.scale(), dp);
            // dQ = dS K, dK += dSᵀ Q
            let to = &mut into[first * 3 * d + q..];
            gemm(isa, dp, t, rows, &scratch.keys_by_token, to, 3 * d, Store::Set(None));
            scratch.rows.repack(isa, precision, queries, rows, head, (3 * d, 1));
            gemm_transposed(isa, dp, t, t, &scratch.rows, &mut into[k..], 3 * d, sum);
        }
    }
}

/// [rows, columns] → [columns, rows], in squares that fit the first-level cache.
pub(crate) fn transpose(from: &[f32], rows: usize, columns: usize, to: &mut [f32]) {
    const SIDE: usize = 16;
    for r0 in (0..rows).step_by(SIDE) {
        for c0 in (0..columns).step_by(SIDE) {
            for c in c0..columns.min(c0 + SIDE) {
                for r in r0..rows.min(r0 + SIDE) {
                    to[c * rows + r] = from[r * columns + c];
                }
            }
        }
    }
}
