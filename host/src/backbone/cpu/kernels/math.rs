//! Elementwise functions and reductions, written as plain branch-free loops that the compiler
//! vectorises for each instruction set.

use super::{per_isa, per_isa_fma};

const LANES: usize = 16;

/// a · b + c, in one instruction where `FMA` says that there is one: without, it would be a call of the library.
#[inline(always)]
pub(super) fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// 1.5 · 2^23: adding it rounds to a whole number, which then stands in the low bits.
const ROUND: f32 = 12_582_912.0;

/// 2^(n + r) for -0.5 ≤ r ≤ 0.5, where `shifted` is n + [`ROUND`]: within 2e-7 relative. The polynomial is the best of its
/// degree for the relative error, with 1 and ln 2 at 0.
#[inline(always)]
fn exp2<const FMA: bool>(shifted: f32, r: f32) -> f32 {
    let p = fma::<FMA>(1.330_060_5e-3, r, 9.669_691e-3);
    let p = fma::<FMA>(p, r, 5.550_558_5e-2);
    let p = fma::<FMA>(p, r, 2.402_228_3e-1);
    let p = fma::<FMA>(p, r, std::f32::consts::LN_2);
    let p = fma::<FMA>(p, r, 1.0);
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// 2^y for y up to 127; saturates below -126. A NaN stays one.
#[inline(always)]
fn exp2_below<const FMA: bool>(y: f32) -> f32 {
    let y = if y < -126.0 { -126.0 } else { y };
    let shifted = y + ROUND;
    exp2::<FMA>(shifted, y - (shifted - ROUND))
}

/// e^x to about 2e-7 relative, without branches; saturates below -87 and above 88.
#[inline(always)]
fn exp<const FMA: bool>(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let shifted = fma::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    exp2::<FMA>(shifted, fma::<FMA>(x, std::f32::consts::LOG2_E, ROUND - shifted))
}

/// The normal distribution's cumulative function, and e^(-x²/2). Abramowitz and Stegun 7.1.26: within 1.5e-7.
#[inline(always)]
pub(super) fn normal<const FMA: bool>(x: f32) -> (f32, f32) {
    let e = exp2_below::<FMA>(-0.5 * std::f32::consts::LOG2_E * x * x);
    let t = 1.0 / fma::<FMA>(0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2, x.abs(), 1.0);
    let p = fma::<FMA>(1.061_405_4, t, -1.453_152_1);
    let p = fma::<FMA>(p, t, 1.421_413_8);
    let p = fma::<FMA>(p, t, -0.284_496_72);
    let p = fma::<FMA>(p, t, 0.254_829_6) * t;
    let tail = 0.5 * p * e;
    (if x < 0.0 { tail } else { 1.0 - tail }, e)
}

#[inline(always)]
pub(super) fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

#[inline(always)]
fn fold(xs: &[f32], start: f32, f: impl Fn(f32, f32) -> f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let chunks = xs.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = f(lanes[i], chunk[i]);
        }
    }
    let tail = rest.iter().fold(start, |a, x| f(a, *x));
    lanes.into_iter().fold(tail, join)
}

#[inline(always)]
fn sum(xs: &[f32]) -> f32 {
    fold(xs, 0.0, |a, x| a + x, |a, b| a + b)
}

#[inline(always)]
fn dot(xs: &[f32], ys: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (xc, yc) = (xs.chunks_exact(LANES), ys.chunks_exact(LANES));
    let tail: f32 = xc.remainder().iter().zip(yc.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in xc.zip(yc) {
        for i in 0..LANES {
            lanes[i] += x[i] * y[i];
        }
    }
    lanes.into_iter().sum::<f32>() + tail
}

#[inline(always)]
fn moments(x: &[f32], eps: f32) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = sum(x) / n;
    let var = fold(x, 0.0, |a, x| a + (x - mean) * (x - mean), |a, b| a + b) / n;
    (mean, 1.0 / (var + eps).sqrt())
}

#[inline(always)]
fn layer_norm_body(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    let d = weight.len();
    for (x, out) in x.chunks_exact(d).zip(out.chunks_exact_mut(d)) {
        let (mean, inverse) = moments(x, eps);
        for i in 0..d {
            out[i] = (x[i] - mean) * inverse * weight[i] + bias[i];
        }
    }
}

#[inline(always)]
fn layer_norm_backward_body(x: &[f32], weight: &[f32], eps: f32, grad: &[f32], into: &mut [f32]) {
    let d = weight.len();
    let mut scaled = vec![0f32; 2 * d];
    let (g, hat) = scaled.split_at_mut(d);
    for ((x, grad), into) in x.chunks_exact(d).zip(grad.chunks_exact(d)).zip(into.chunks_exact_mut(d)) {
        let (mean, inverse) = moments(x, eps);
        for i in 0..d {
            g[i] = grad[i] * weight[i];
            hat[i] = (x[i] - mean) * inverse;
        }
        let (a, b) = (sum(g) / d as f32, dot(g, hat) / d as f32);
        for i in 0..d {
            into[i] += inverse * (g[i] - a - hat[i] * b);
        }
    }
}

#[inline(always)]
fn softmax_rows_body<const FMA: bool>(scores: &mut [f32], columns: usize, scale: f32) {
    for row in scores.chunks_exact_mut(columns) {
        let inverse = 1.0 / exp_row::<FMA>(row, scale);
        for x in row.iter_mut() {
            *x *= inverse;
        }
    }
}

#[inline(always)]
fn exp_rows_body<const FMA: bool>(scores: &mut [f32], columns: usize, scale: f32, sums: &mut [f32]) {
    for (row, sum) in scores.chunks_exact_mut(columns).zip(sums) {
        *sum = exp_row::<FMA>(row, scale);
    }
}

#[inline(always)]
fn weigh_rows_body(rows: &mut [f32], weights: &[f32], sums: &mut [f32]) {
    for (row, total) in rows.chunks_exact_mut(weights.len()).zip(sums) {
        row.iter_mut().zip(weights).for_each(|(x, weight)| *x *= weight);
        *total = sum(row);
    }
}

/// The row becomes e^(scale · (x - its largest)); their sum.
#[inline(always)]
fn exp_row<const FMA: bool>(row: &mut [f32], scale: f32) -> f32 {
    let scale = scale * std::f32::consts::LOG2_E;
    // What rounding does to this shift it does to the whole row: it cancels where the row is divided by its sum.
    let shift = -scale * fold(row, f32::NEG_INFINITY, f32_max, f32_max);
    // The sum is formed in lanes meanwhile.
    let (chunks, rest) = row.as_chunks_mut::<LANES>();
    let mut lanes = [0f32; LANES];
    for chunk in chunks {
        for (x, lane) in chunk.iter_mut().zip(&mut lanes) {
            *x = exp2_below::<FMA>(fma::<FMA>(*x, scale, shift));
            *lane += *x;
        }
    }
    let mut total = 0.0;
    for x in rest {
        *x = exp2_below::<FMA>(fma::<FMA>(*x, scale, shift));
        total += *x;
    }
    lanes.into_iter().fold(total, |a, b| a + b)
}

/// Not `f32::max`: its handling of NaN costs instructions, and a NaN is carried on by the sum anyway.
#[inline(always)]
fn f32_max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[inline(always)]
fn softmax_backward_rows_body(p: &[f32], columns: usize, scale: f32, grad: &mut [f32]) {
    for (p, grad) in p.chunks_exact(columns).zip(grad.chunks_exact_mut(columns)) {
        let inner = dot(p, grad);
        for i in 0..columns {
            grad[i] = p[i] * (grad[i] - inner) * scale;
        }
    }
}

/// To the nearest bf16, ties to even, kept as f32 bits. A NaN stays one: its quiet bit is above bit 16.
#[inline(always)]
pub(super) fn round_bits(x: f32) -> u32 {
    let bits = x.to_bits();
    bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000
}

#[inline(always)]
fn round_f32_body(from: &[f32], to: &mut [f32]) {
    for (f, t) in from.iter().zip(to) {
        *t = f32::from_bits(round_bits(*f));
    }
}

per_isa! {
    /// Rows of `weight.len()`.
    fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) = layer_norm_body;
}
per_isa! {
    /// Adds the gradient of the norm's input.
    fn layer_norm_backward(x: &[f32], weight: &[f32], eps: f32, grad: &[f32], into: &mut [f32]) = layer_norm_backward_body;
}
per_isa_fma! {
    /// softmax(scale · row), in place.
    fn softmax_rows(scores: &mut [f32], columns: usize, scale: f32) = softmax_rows_body;
}
per_isa_fma! {
    /// Rows of softmax(scale · row) times their sum, which is not divided by yet.
    fn exp_rows(scores: &mut [f32], columns: usize, scale: f32, sums: &mut [f32]) = exp_rows_body;
}
per_isa! {
    /// Each number of a row times its column's weight, and the sum of each row.
    fn weigh_rows(rows: &mut [f32], weights: &[f32], sums: &mut [f32]) = weigh_rows_body;
}
per_isa! {
    /// The gradient of the probabilities becomes the gradient of the unscaled scores.
    fn softmax_backward_rows(p: &[f32], columns: usize, scale: f32, grad: &mut [f32]) = softmax_backward_rows_body;
}
per_isa! {
    /// bf16's rounding kept in f32, for instruction sets without bf16.
    fn round_f32(from: &[f32], to: &mut [f32]) = round_f32_body;
}
