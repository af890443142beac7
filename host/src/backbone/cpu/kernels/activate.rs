//! The functions of an MLP, plain and gated, and their slopes.

use super::math::{fma, normal, sigmoid};
use super::per_isa_fma;
use crate::backbone::activation::Activation;

/// A function of one number. Types instead of closures: a closure would be compiled without the instruction set around it.
trait Curve {
    fn value<const FMA: bool>(x: f32) -> f32;
    fn slope<const FMA: bool>(x: f32) -> f32;
}

struct Gelu;
struct GeluTanh;
struct QuickGelu;
struct Silu;

impl Curve for Gelu {
    #[inline(always)]
    fn value<const FMA: bool>(x: f32) -> f32 {
        x * normal::<FMA>(x).0
    }
    #[inline(always)]
    fn slope<const FMA: bool>(x: f32) -> f32 {
        let (cdf, e) = normal::<FMA>(x);
        fma::<FMA>(x * e, 0.398_942_3, cdf)
    }
}

/// 2 √(2/π)
const TWICE: f32 = 1.595_769_2;
const CUBIC: f32 = 0.044_715;

impl Curve for GeluTanh {
    // 0.5 (1 + tanh u) is σ(2u).
    #[inline(always)]
    fn value<const FMA: bool>(x: f32) -> f32 {
        x * sigmoid::<FMA>(TWICE * x * fma::<FMA>(CUBIC, x * x, 1.0))
    }
    #[inline(always)]
    fn slope<const FMA: bool>(x: f32) -> f32 {
        let s = sigmoid::<FMA>(TWICE * x * fma::<FMA>(CUBIC, x * x, 1.0));
        let inner = TWICE * fma::<FMA>(3.0 * CUBIC, x * x, 1.0);
        fma::<FMA>(x * inner * s, 1.0 - s, s)
    }
}

impl Curve for QuickGelu {
    #[inline(always)]
    fn value<const FMA: bool>(x: f32) -> f32 {
        x * sigmoid::<FMA>(1.702 * x)
    }
    #[inline(always)]
    fn slope<const FMA: bool>(x: f32) -> f32 {
        let s = sigmoid::<FMA>(1.702 * x);
        fma::<FMA>(1.702 * x * s, 1.0 - s, s)
    }
}

impl Curve for Silu {
    #[inline(always)]
    fn value<const FMA: bool>(x: f32) -> f32 {
        x * sigmoid::<FMA>(x)
    }
    #[inline(always)]
    fn slope<const FMA: bool>(x: f32) -> f32 {
        let s = sigmoid::<FMA>(x);
        s * (1.0 + x * (1.0 - s))
    }
}

#[inline(always)]
fn values<const FMA: bool, C: Curve>(x: &[f32], out: &mut [f32]) {
    for (x, out) in x.iter().zip(out) {
        *out = C::value::<FMA>(*x);
    }
}

#[inline(always)]
fn slopes<const FMA: bool, C: Curve>(x: &[f32], grad: &mut [f32]) {
    for (x, grad) in x.iter().zip(grad) {
        *grad *= C::slope::<FMA>(*x);
    }
}

/// Calls `$f` for the curve of an [`Activation`].
macro_rules! by_curve {
    ($kind:expr, $f:ident($($arg:expr),*)) => {
        match $kind {
            Activation::Gelu => $f::<FMA, Gelu>($($arg),*),
            Activation::GeluTanh => $f::<FMA, GeluTanh>($($arg),*),
            Activation::QuickGelu => $f::<FMA, QuickGelu>($($arg),*),
            Activation::Silu => $f::<FMA, Silu>($($arg),*),
        }
    };
}

#[inline(always)]
pub(super) fn activate_body<const FMA: bool>(kind: Activation, x: &[f32], out: &mut [f32]) {
    by_curve!(kind, values(x, out));
}

#[inline(always)]
fn activate_backward_body<const FMA: bool>(kind: Activation, x: &[f32], grad: &mut [f32]) {
    by_curve!(kind, slopes(x, grad));
}

#[inline(always)]
fn gated_values<const FMA: bool, C: Curve>(x: &[f32], hidden: usize, out: &mut [f32]) {
    for (row, out) in x.chunks_exact(2 * hidden).zip(out.chunks_exact_mut(hidden)) {
        let (gate, value) = row.split_at(hidden);
        for i in 0..hidden {
            out[i] = C::value::<FMA>(gate[i]) * value[i];
        }
    }
}

#[inline(always)]
fn gated_slopes<const FMA: bool, C: Curve>(x: &[f32], hidden: usize, grad: &[f32], out: &mut [f32]) {
    let rows = x.chunks_exact(2 * hidden).zip(grad.chunks_exact(hidden));
    for ((row, grad), out) in rows.zip(out.chunks_exact_mut(2 * hidden)) {
        let ((gate, value), (to_gate, to_value)) = (row.split_at(hidden), out.split_at_mut(hidden));
        for i in 0..hidden {
            to_value[i] = grad[i] * C::value::<FMA>(gate[i]);
            to_gate[i] = grad[i] * value[i] * C::slope::<FMA>(gate[i]);
        }
    }
}

/// SwiGLU's, in the order of operations that trained weights were made with: results stay the same to the bit.
#[inline(always)]
fn swiglu_slopes<const FMA: bool>(x: &[f32], hidden: usize, grad: &[f32], out: &mut [f32]) {
    let rows = x.chunks_exact(2 * hidden).zip(grad.chunks_exact(hidden));
    for ((row, grad), out) in rows.zip(out.chunks_exact_mut(2 * hidden)) {
        let ((gate, value), (to_gate, to_value)) = (row.split_at(hidden), out.split_at_mut(hidden));
        for i in 0..hidden {
            let s = sigmoid::<FMA>(gate[i]);
            to_value[i] = grad[i] * gate[i] * s;
            to_gate[i] = grad[i] * value[i] * s * (1.0 + gate[i] * (1.0 - s));
        }
    }
}

#[inline(always)]
fn gated_body<const FMA: bool>(kind: Activation, x: &[f32], hidden: usize, out: &mut [f32]) {
    by_curve!(kind, gated_values(x, hidden, out));
}

#[inline(always)]
fn gated_backward_body<const FMA: bool>(
    kind: Activation,
    x: &[f32],
    hidden: usize,
    grad: &[f32],
    out: &mut [f32],
) {
    match kind {
        Activation::Silu => swiglu_slopes::<FMA>(x, hidden, grad, out),
        kind => by_curve!(kind, gated_slopes(x, hidden, grad, out)),
    }
}

per_isa_fma! { fn activate(kind: Activation, x: &[f32], out: &mut [f32]) = activate_body; }
per_isa_fma! {
    /// The gradient of the output becomes the gradient of the input.
    fn activate_backward(kind: Activation, x: &[f32], grad: &mut [f32]) = activate_backward_body;
}
per_isa_fma! {
    /// Rows of `[gate, value]`, each half as long as the row, become act(gate) · value.
    fn gated(kind: Activation, x: &[f32], hidden: usize, out: &mut [f32]) = gated_body;
}
per_isa_fma! {
    fn gated_backward(kind: Activation, x: &[f32], hidden: usize, grad: &[f32], out: &mut [f32]) = gated_backward_body;
}
