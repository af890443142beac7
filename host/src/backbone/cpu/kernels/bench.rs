//! The kernels against the machine's own limit: how many operations a second each reaches, beside a loop that does
//! nothing but multiply and add in registers. By this thread's time on the processor, so that others do not count.

use super::attention::{self, Scratch, Shape};
use super::clock::Moment;
use super::gemm::{Packed, Store, gemm};
use super::rotate::Turns;
use super::{Isa, activate, math};
use super::{micro, micro_integers};
use crate::backbone::Precision;
use crate::backbone::activation::Activation;
use crate::backbone::cpu::packed::Arithmetic;

/// A kernel on one shape.
pub struct Kernel {
    /// What it is in the block.
    pub name: String,
    /// Multiplications and additions of a call, together; 0 where bytes say more.
    pub operations: f64,
    /// Bytes read and written by a call.
    pub bytes: f64,
    call: Box<dyn FnMut()>,
}

impl Kernel {
    fn new(name: String, operations: usize, bytes: usize, call: impl FnMut() + 'static) -> Self {
        Self { name, operations: operations as f64, bytes: bytes as f64, call: Box::new(call) }
    }

    /// Milliseconds of one call, the mean over as many as take about `least` milliseconds.
    pub fn time(&mut self, least: f64) -> f64 {
        let mut calls = 1;
        loop {
            let start = Moment::now();
            (0..calls).for_each(|_| (self.call)());
            let spent = start.spent().thread;
            if spent >= least {
                return spent / f64::from(calls);
            }
            calls *= 2;
        }
    }
}

/// The limit itself, as a kernel.
pub fn limit(isa: Isa, precision: Precision) -> Kernel {
    const ROUNDS: usize = 1 << 12;
    let peak = move |rounds| {
        micro_integers::peak(isa, precision, rounds).unwrap_or_else(|| micro::peak(isa, precision, rounds))
    };
    let operations = peak(1) * ROUNDS;
    Kernel::new("limit: multiply-add in registers".to_owned(), operations, 0, move || {
        std::hint::black_box(peak(ROUNDS));
    })
}

fn numbers(n: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1u32 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn product(isa: Isa, precision: Precision, name: &str, (m, k, n): (usize, usize, usize)) -> Kernel {
    let (a, b, bias) = (numbers(m * k), numbers(k * n), numbers(n));
    let packed = Packed::new(isa, precision, &b, k, n, (n, 1));
    let mut out = vec![0f32; m * n];
    let name = format!("{name} {m} x {k} x {n}");
    let element = match precision {
        Precision::F32 => 4,
        Precision::Bf16 | Precision::Int16 => 2,
        Precision::Int8 => 1,
    };
    Kernel::new(name, 2 * m * k * n, 4 * (m * k + m * n) + element * k * n, move || {
        gemm(isa, &a, k, m, &packed, &mut out, n, Store::Set(Some(&bias)));
    })
}

/// What a block of a transformer is made of, for slices of `tokens` tokens and a width of `d` in heads of `head`.
pub fn kernels(isa: Isa, precision: Precision, tokens: usize, d: usize, head: usize) -> Vec<Kernel> {
    let (t, hidden) = (tokens, 4 * d);
    let of = |name, shape| product(isa, precision, name, shape);
    let arithmetic = Arithmetic { isa, precision, narrow: false };
    let precision = arithmetic.of_attention();
    let shape = Shape { tokens, heads: d / head, head, queries: tokens, sizes: None };
    let (qkv, mut mixed, mut scratch) = (numbers(t * 3 * d), vec![0f32; t * d], Scratch::default());
    let (qkv2, grad, mut into, mut scratch2) =
        (qkv.clone(), numbers(t * d), vec![0f32; t * 3 * d], Scratch::default());
    let (x, mut normed, weight) = (numbers(t * d), vec![0f32; t * d], numbers(d));
    let (wide, mut act) = (numbers(t * hidden), vec![0f32; t * hidden]);
    let (wide2, mut act2) = (wide.clone(), vec![0f32; t * hidden]);
    let angles = numbers(t * head / 2);
    let sine = |x: &f32| (1.0 - x * x).max(0.0).sqrt();
    let turns = Turns { leading: 0, head, sin: angles.iter().map(sine).collect(), cos: angles };
    let mut turned = numbers(t * 3 * d);
    vec![
        of("qkv", (t, d, 3 * d)),
        of("output", (t, d, d)),
        of("up", (t, d, hidden)),
        of("down", (t, hidden, d)),
        product(isa, Precision::F32, "low-rank A, f32", (t, d, 8)),
        product(isa, Precision::F32, "low-rank B, f32", (t, 8, 3 * d)),
        Kernel::new("attention".to_owned(), 4 * t * t * d, 4 * 4 * t * d, move || {
            attention::forward(isa, precision, shape, &qkv, &mut mixed, None, &mut scratch);
        }),
        Kernel::new("attention, backward".to_owned(), 10 * t * t * d, 4 * 7 * t * d, move || {
            attention::backward(isa, precision, shape, &qkv2, &grad, &mut into, &mut scratch2);
        }),
        Kernel::new("rotary positions".to_owned(), 0, 4 * 4 * t * d, move || {
            turns.forward(isa, &mut turned, d);
        }),
        Kernel::new("layer norm".to_owned(), 0, 4 * 2 * t * d, move || {
            math::layer_norm(isa, &x, &weight, &weight, 1e-6, &mut normed);
        }),
        Kernel::new("GELU".to_owned(), 0, 4 * 2 * t * hidden, move || {
            activate::activate(isa, Activation::Gelu, &wide, &mut act);
        }),
        Kernel::new("GELU, backward".to_owned(), 0, 4 * 3 * t * hidden, move || {
            activate::activate_backward(isa, Activation::Gelu, &wide2, &mut act2);
        }),
    ]
}
