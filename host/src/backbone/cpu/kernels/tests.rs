//! Every kernel on every instruction set of this CPU, on shapes that fill no tile, against plain arithmetic.

use super::attention::{self, Scratch, Shape};
use super::gemm::{Packed, Store, gemm, gemm_transposed};
use super::{Isa, activate, math};
use crate::backbone::Precision;
use crate::backbone::activation::Activation;
use crate::backbone::layers;
use crate::backbone::rotation::AxialRotation;
use candle_core::{Device, Result, Tensor, Var};
use half::bf16;

/// Numbers between -1 and 1 that are the same in every run.
fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= tolerance * largest, "{what}: at {i} {f}, expected {e}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn bf16_is_taken_by_itself_from_every_maker_but_intel() {
    let said = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let has = Isa::available().into_iter().any(Isa::has_bf16);
    assert_eq!(Isa::fastest().has_bf16(), has && !said.contains("GenuineIntel"));
    assert!(Isa::available().contains(&Isa::fastest()));
}

fn tensor(data: &[f32], shape: &[usize]) -> Result<Tensor> {
    Tensor::from_slice(data, shape, &Device::Cpu)
}

fn vector(x: &Tensor) -> Result<Vec<f32>> {
    x.flatten_all()?.to_vec1()
}

const ACTIVATIONS: [Activation; 4] =
    [Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu, Activation::Silu];

const BOTH: [Precision; 2] = [Precision::F32, Precision::Bf16];

/// `before` with the product of m rows and n columns in it, at stride `ldc`: added to what is there with a bias, or in its place.
fn stored(
    before: &[f32],
    (m, n, ldc): (usize, usize, usize),
    bias: Option<&Vec<f32>>,
    sum: impl Fn(usize, usize) -> f64,
) -> Vec<f32> {
    let mut all = before.to_vec();
    for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
        let at = &mut all[i * ldc + j];
        *at = sum(i, j) as f32 + bias.map_or(0.0, |bias| *at + bias[j]);
    }
    all
}

#[test]
fn products_of_any_shape_are_right_and_write_nothing_beside_themselves() {
    let shapes = [
        (1, 1, 1),
        (5, 3, 15),
        (6, 64, 64),
        (7, 65, 66),
        (13, 33, 113),
        (4, 129, 48),
        (49, 20, 16),
        (2, 7, 200),
        (8, 900, 21),
    ];
    for (case, (m, k, n)) in shapes.into_iter().enumerate() {
        let (lda, ldc) = (k + case % 3, n + case % 2 * 5);
        let (a, b) = (noise(1, (m - 1) * lda + k), noise(2, k * n));
        let (bias, before) = (noise(3, n), noise(4, (m - 1) * ldc + n + 3));
        for precision in BOTH {
            let input =
                |x: f32| f64::from(if precision == Precision::Bf16 { bf16::from_f32(x).to_f32() } else { x });
            for isa in Isa::available() {
                for (turned, add) in [(false, false), (true, false), (false, true), (true, true)] {
                    let strides = if turned { (1, k) } else { (n, 1) };
                    let packed = Packed::new(isa, precision, &b, k, n, strides);
                    let mut out = before.clone();
                    let store = if add { Store::Add(Some(&bias)) } else { Store::Set(None) };
                    gemm(isa, &a, lda, m, &packed, &mut out, ldc, store);
                    let terms = |i: usize, j: usize| {
                        (0..k).map(|p| input(a[i * lda + p]) * input(b[p * strides.0 + j * strides.1])).sum()
                    };
                    let expected = stored(&before, (m, n, ldc), add.then_some(&bias), terms);
                    let what = format!("{} {precision:?} {m}x{k}x{n} turned {turned} add {add}", isa.name());
                    assert_close(&what, &out, &expected, 2e-5);
                }
            }
        }
    }
}

#[test]
fn products_with_a_transposed_left_side_are_those_of_the_transpose() {
    for (m, k, n) in
        [(1, 1, 1), (5, 3, 15), (13, 33, 70), (145, 29, 8), (8, 145, 64), (257, 24, 48), (7, 801, 20)]
    {
        let lda = m + 3;
        let (a, b) = (noise(1, (k - 1) * lda + m), noise(2, k * n));
        let before = noise(4, m * n);
        for precision in BOTH {
            for isa in Isa::available() {
                let packed = Packed::new(isa, precision, &b, k, n, (n, 1));
                let transposed: Vec<f32> = (0..m * k).map(|i| a[i % k * lda + i / k]).collect();
                for store in [Store::Set(None), Store::Add(None)] {
                    let (mut turned, mut plain) = (before.clone(), before.clone());
                    gemm_transposed(isa, &a, lda, m, &packed, &mut turned, n, store);
                    gemm(isa, &transposed, k, m, &packed, &mut plain, n, store);
                    // The same products, which are added up in another order where there are many.
                    let what = format!("{} {precision:?} {m}x{k}x{n}", isa.name());
                    assert_close(&what, &turned, &plain, if k > 128 { 1e-5 } else { 0.0 });
                }
            }
        }
    }
}

#[test]
fn what_was_packed_is_unpacked_as_it_is_multiplied_with() {
    for (k, n) in [(1, 1), (5, 3), (20, 66), (33, 113), (64, 64)] {
        let b = noise(4, k * n);
        for isa in Isa::available() {
            assert_eq!(Packed::new(isa, Precision::F32, &b, k, n, (n, 1)).unpacked(), b);
            let rounded: Vec<f32> = b.iter().map(|x| bf16::from_f32(*x).to_f32()).collect();
            let packed = Packed::new(isa, Precision::Bf16, &b, k, n, (n, 1)).unpacked();
            assert_eq!(packed, rounded, "{} {k} x {n}", isa.name());
        }
    }
}

#[test]
fn sixteen_bit_weights_give_the_bits_of_thirty_two_bit_ones_and_take_half_the_memory() {
    for (m, k, n) in [(1, 1, 1), (7, 65, 66), (13, 33, 113), (6, 64, 64), (7, 500, 20)] {
        let (a, scale, bias) = (noise(1, m * k), noise(2, n), noise(3, n));
        let f16s: Vec<half::f16> = noise(4, n * k).iter().map(|x| half::f16::from_f32(*x)).collect();
        let bf16s: Vec<bf16> = noise(5, n * k).iter().map(|x| bf16::from_f32(*x * 1e6)).collect();
        let wide_f16: Vec<f32> = f16s.iter().map(|x| x.to_f32()).collect();
        let wide_bf16: Vec<f32> = bf16s.iter().map(|x| x.to_f32()).collect();
        for scale in [None, Some(scale.as_slice())] {
            for isa in Isa::available() {
                for (narrow, turned) in [
                    (Packed::narrow(isa, &f16s, k, n, scale), &wide_f16),
                    (Packed::narrow(isa, &bf16s, k, n, scale), &wide_bf16),
                ] {
                    let ones = vec![1.0; n];
                    let rows = turned.chunks(k).zip(scale.unwrap_or(&ones));
                    let scaled: Vec<f32> = rows.flat_map(|(row, s)| row.iter().map(move |x| x * s)).collect();
                    let wide = Packed::new(isa, Precision::F32, &scaled, k, n, (1, k));
                    assert_eq!(narrow.unpacked(), wide.unpacked());
                    assert!(narrow.bytes() <= wide.bytes() / 2 + 4 * n);
                    for store in [
                        Store::Set(None),
                        Store::Add(Some(&bias)),
                        Store::Activated(Activation::Gelu, Some(&bias)),
                    ] {
                        let (mut found, mut expected) = (noise(6, m * n), noise(6, m * n));
                        gemm(isa, &a, k, m, &narrow, &mut found, n, store);
                        gemm(isa, &a, k, m, &wide, &mut expected, n, store);
                        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                        assert_eq!(bits(&found), bits(&expected), "{} {m}x{k}x{n}", isa.name());
                    }
                }
            }
        }
    }
}

#[test]
fn a_product_that_ends_in_an_activation_is_the_activation_of_the_product() {
    for (m, k, n) in [(1, 1, 1), (7, 20, 66), (13, 33, 113), (7, 801, 36)] {
        let (a, b, bias) = (noise(1, m * k), noise(2, k * n), noise(3, n));
        for precision in BOTH {
            for isa in Isa::available() {
                let packed = Packed::new(isa, precision, &b, k, n, (n, 1));
                let (mut product, mut two, mut one) = (vec![0.0; m * n], vec![0.0; m * n], vec![0.0; m * n]);
                gemm(isa, &a, k, m, &packed, &mut product, n, Store::Set(Some(&bias)));
                for kind in ACTIVATIONS {
                    activate::activate(isa, kind, &product, &mut two);
                    gemm(isa, &a, k, m, &packed, &mut one, n, Store::Activated(kind, Some(&bias)));
                    assert_close(isa.name(), &one, &two, 1e-6);
                }
            }
        }
    }
}

/// Memory whose last byte is followed by a page that must not be touched.
#[cfg(unix)]
struct Guarded {
    start: *mut libc::c_void,
    bytes: usize,
    floats: usize,
}

#[cfg(unix)]
impl Guarded {
    fn new(values: &[f32]) -> Self {
        let (page, length) = (4096, size_of_val(values));
        let bytes = length.next_multiple_of(page) + page;
        let (rights, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a mapping of our own; its last page is closed before anyone is given it.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, rights, kind, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        // SAFETY: the last page lies within the mapping.
        assert_eq!(unsafe { libc::mprotect(start.byte_add(bytes - page), page, libc::PROT_NONE) }, 0);
        let mut guarded = Self { start, bytes, floats: values.len() };
        guarded.values().copy_from_slice(values);
        guarded
    }

    fn values(&mut self) -> &mut [f32] {
        // SAFETY: the floats end where the closed page begins, inside the mapping, and are ours alone.
        unsafe {
            let end = self.start.byte_add(self.bytes - 4096).cast::<f32>();
            std::slice::from_raw_parts_mut(end.sub(self.floats), self.floats)
        }
    }
}

#[cfg(unix)]
impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and no slice of it outlives it.
        unsafe { libc::munmap(self.start, self.bytes) };
    }
}

/// A read or write beyond a buffer's end would end the process here.
#[cfg(unix)]
#[test]
fn no_kernel_touches_what_lies_behind_a_buffer() {
    for isa in Isa::available() {
        for precision in BOTH {
            for (m, k, n) in [(1, 1, 1), (5, 3, 15), (7, 65, 66), (13, 33, 17), (6, 64, 64), (7, 800, 18)] {
                let [mut a, mut b, mut bias, mut out] =
                    [m * k, k * n, n, m * n].map(|length| Guarded::new(&noise(1, length)));
                for strides in [(n, 1), (1, k)] {
                    let packed = Packed::new(isa, precision, b.values(), k, n, strides);
                    for store in [
                        Store::Set(None),
                        Store::Add(Some(bias.values())),
                        Store::Activated(Activation::Gelu, None),
                    ] {
                        gemm(isa, a.values(), k, m, &packed, out.values(), n, store);
                        // The same buffer as k rows of m.
                        gemm_transposed(isa, a.values(), m, m, &packed, out.values(), n, store);
                    }
                }
            }
            for (tokens, heads, head) in [(1, 1, 4), (5, 3, 12), (29, 2, 7), (49, 1, 16)] {
                let (d, shape) = (heads * head, Shape { tokens, heads, head, queries: tokens, sizes: None });
                let [mut qkv, mut out, mut map, mut into] =
                    [tokens * 3 * d, tokens * d, tokens, tokens * 3 * d].map(|n| Guarded::new(&noise(2, n)));
                let mut s = Scratch::default();
                attention::forward(
                    isa,
                    precision,
                    shape,
                    qkv.values(),
                    out.values(),
                    Some(map.values()),
                    &mut s,
                );
                attention::backward(isa, precision, shape, qkv.values(), out.values(), into.values(), &mut s);
            }
        }
        for d in [1, 5, 16, 47] {
            let [mut x, mut weight, mut grad, mut out] =
                [3 * d, d, 3 * d, 3 * d].map(|length| Guarded::new(&noise(3, length)));
            let mut bias = Guarded::new(&noise(5, d));
            math::layer_norm(isa, x.values(), weight.values(), bias.values(), 1e-6, out.values());
            math::layer_norm_backward(isa, x.values(), weight.values(), 1e-6, grad.values(), out.values());
            for kind in ACTIVATIONS {
                activate::activate(isa, kind, x.values(), out.values());
                activate::activate_backward(isa, kind, x.values(), grad.values());
            }
            math::softmax_rows(isa, x.values(), d, 0.3);
            math::softmax_backward_rows(isa, x.values(), d, 0.3, grad.values());
        }
    }
}

#[test]
fn gelu_and_its_derivative_are_within_a_millionth() {
    let x: Vec<f32> = (-1200..1200).map(|i| i as f32 * 0.01 + 0.003).collect();
    let cdf = |x: f64| 0.5 * (1.0 + libm::erf(x / std::f64::consts::SQRT_2));
    let pdf = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    for isa in Isa::available() {
        let (mut y, mut g) = (vec![0f32; x.len()], vec![1f32; x.len()]);
        activate::activate(isa, Activation::Gelu, &x, &mut y);
        activate::activate_backward(isa, Activation::Gelu, &x, &mut g);
        for ((x, y), g) in x.iter().map(|x| f64::from(*x)).zip(&y).zip(&g) {
            assert!(
                (f64::from(*y) - x * cdf(x)).abs() < 1e-6 * x.abs().max(1.0),
                "{} gelu({x}) = {y}",
                isa.name()
            );
            let expected = cdf(x) + x * pdf(x);
            assert!((f64::from(*g) - expected).abs() < 2e-6, "{} gelu'({x}) = {g}", isa.name());
        }
    }
}

#[test]
fn the_layer_norm_and_its_gradient_agree_with_the_plain_path() -> Result<()> {
    for (rows, d) in [(1, 5), (7, 16), (3, 47), (4, 384)] {
        let (x, grad) = (noise(1, rows * d), noise(2, rows * d));
        let (weight, bias) = (noise(3, d), noise(4, d));
        let plain =
            layers::LayerNorm { weight: tensor(&weight, &[d])?, bias: tensor(&bias, &[d])?, eps: 1e-6 };
        let variable = Var::from_tensor(&tensor(&x, &[rows, d])?)?;
        let y = plain.forward(&variable)?;
        let grads = (&y * tensor(&grad, &[rows, d])?)?.sum_all()?.backward()?;
        let expected = vector(grads.get(&variable).unwrap_or(&y))?;
        for isa in Isa::available() {
            let mut out = vec![0f32; rows * d];
            math::layer_norm(isa, &x, &weight, &bias, 1e-6, &mut out);
            assert_close(isa.name(), &out, &vector(&y)?, 1e-5);
            let mut into = vec![0f32; rows * d];
            math::layer_norm_backward(isa, &x, &weight, 1e-6, &grad, &mut into);
            assert_close(isa.name(), &into, &expected, 2e-5);
        }
    }
    Ok(())
}

#[test]
fn every_activation_and_its_gradient_agree_with_the_plain_path_gated_or_not() -> Result<()> {
    let (rows, hidden) = (3, 37);
    let (x, grad) = (noise(1, rows * 2 * hidden), noise(2, rows * hidden));
    let x: Vec<f32> = x.iter().map(|x| 6.0 * x).collect();
    for kind in ACTIVATIONS {
        let variable = Var::from_tensor(&tensor(&x, &[rows, 2 * hidden])?)?;
        let half = |i: usize| variable.narrow(1, i * hidden, hidden);
        let (plain, y) = (kind.forward(&half(0)?)?, (kind.forward(&half(0)?)? * half(1)?)?);
        let of = |y: &Tensor| -> Result<Vec<f32>> {
            let grads = (y * tensor(&grad, &[rows, hidden])?)?.sum_all()?.backward()?;
            vector(grads.get(&variable).unwrap_or(y))
        };
        let (expected, to_plain) = (of(&y)?, of(&plain)?);
        for isa in Isa::available() {
            let what = format!("{} {kind:?}", isa.name());
            let (mut out, mut into) = (vec![0f32; rows * hidden], vec![0f32; rows * 2 * hidden]);
            activate::gated(isa, kind, &x, hidden, &mut out);
            activate::gated_backward(isa, kind, &x, hidden, &grad, &mut into);
            assert_close(&what, &out, &vector(&y)?, 1e-5);
            assert_close(&what, &into, &expected, 1e-5);
            for row in 0..rows {
                let (gate, mut g) =
                    (&x[row * 2 * hidden..][..hidden], grad[row * hidden..][..hidden].to_vec());
                activate::activate(isa, kind, gate, &mut out[..hidden]);
                activate::activate_backward(isa, kind, gate, &mut g);
                assert_close(&what, &out[..hidden], &vector(&plain.get(row)?)?, 1e-5);
                assert_close(&what, &g, &to_plain[row * 2 * hidden..][..hidden], 1e-5);
            }
        }
    }
    Ok(())
}

#[test]
fn rotated_projections_and_the_way_back_agree_with_the_plain_rotation() -> Result<()> {
    let (grid, heads, leading) = ((3, 5), 2, 2);
    for head in [4, 8, 36, 64] {
        let (d, t) = (heads * head, leading + 15);
        let qkv = noise(1, t * 3 * d);
        let rotation = AxialRotation::new(head, 100.0).at(grid)?;
        let [q, k, v] = layers::split_heads(&tensor(&qkv, &[1, t, 3 * d])?, heads)?;
        let (q, k) = (rotation.apply(&q, leading)?, rotation.apply(&k, leading)?);
        let joined = |x: &Tensor| x.transpose(1, 2)?.reshape((t, d));
        let expected = vector(&Tensor::cat(&[joined(&q)?, joined(&k)?, joined(&v)?], 1)?)?;
        let turns = rotation.turns(leading)?;
        for isa in Isa::available() {
            let mut found = qkv.clone();
            turns.forward(isa, &mut found, d);
            assert_close(isa.name(), &found, &expected, 1e-6);
            // A rotation's transpose, which is what carries gradients back, is its inverse.
            turns.backward(isa, &mut found, d);
            assert_close(isa.name(), &found, &qkv, 1e-6);
        }
    }
    Ok(())
}

#[test]
fn attention_and_its_gradient_agree_with_the_plain_path() -> Result<()> {
    for (tokens, heads, head) in [(1, 1, 4), (5, 3, 12), (49, 2, 16), (101, 2, 7)] {
        let d = heads * head;
        let qkv: Vec<f32> = noise(1, tokens * 3 * d).iter().map(|x| 2.0 * x).collect();
        let grad = noise(2, tokens * d);
        let variable = Var::from_tensor(&tensor(&qkv, &[1, tokens, 3 * d])?)?;
        let (y, class) = layers::attention(&variable, heads, true)?;
        let grads = (&y * tensor(&grad, &[1, tokens, d])?)?.sum_all()?.backward()?;
        let expected = vector(grads.get(&variable).unwrap_or(&y))?;
        let expected_class = vector(class.as_ref().unwrap_or(&y))?;
        let shape = Shape { tokens, heads, head, queries: tokens, sizes: None };
        let mut scratch = Scratch::default();
        for precision in BOTH {
            let tolerance = if precision == Precision::Bf16 { 3e-2 } else { 2e-5 };
            for isa in Isa::available() {
                let what = format!("{} {precision:?} {tokens} tokens", isa.name());
                let (mut out, mut map) = (vec![0f32; tokens * d], vec![0f32; tokens]);
                attention::forward(isa, precision, shape, &qkv, &mut out, Some(&mut map), &mut scratch);
                assert_close(&what, &out, &vector(&y)?, tolerance);
                assert_close(&what, &map, &expected_class, tolerance);
                let mut into = vec![0f32; tokens * 3 * d];
                attention::backward(isa, precision, shape, &qkv, &grad, &mut into, &mut scratch);
                assert_close(&what, &into, &expected, tolerance);
            }
        }
    }
    Ok(())
}

/// With VNNI where there is, and as on a CPU without.
fn with_and_without_vnni() -> Vec<Isa> {
    Isa::available().into_iter().flat_map(|isa| [isa, isa.without_vnni()]).collect()
}

/// A row as it goes to `steps` from 0: to nearest, ties to even.
fn stepped(row: &[f32], steps: f32) -> Vec<f64> {
    let most = row.iter().fold(0f32, |most, x| most.max(x.abs()));
    let (scale, unit) = if most > 0.0 { (steps / most, f64::from(most / steps)) } else { (0.0, 0.0) };
    row.iter().map(|x| f64::from((x * scale).round_ties_even()) * unit).collect()
}

/// A row as 8 bits hold it: 255 steps from its lowest number to its highest, 0 among them.
fn stepped_from_the_lowest(row: &[f32]) -> Vec<f64> {
    let (low, high) = row.iter().fold((0f32, 0f32), |(low, high), x| (low.min(*x), high.max(*x)));
    let scale = 255.0 / (high - low);
    let zero = (-low * scale).round_ties_even();
    let step = |x: &f32| (x * scale + zero).clamp(0.0, 255.0).round_ties_even() - zero;
    row.iter().map(|x| f64::from(step(x)) * f64::from((high - low) / 255.0)).collect()
}

#[test]
fn products_of_integers_are_the_sums_of_their_rounded_numbers_and_write_nothing_beside_themselves() {
    let shapes = [
        (1, 1, 1),
        (5, 3, 15),
        (6, 64, 64),
        (7, 65, 66),
        (13, 33, 113),
        (4, 130, 48),
        (49, 23, 16),
        (2, 7, 200),
        (8, 1700, 20),
    ];
    for (case, (m, k, n)) in shapes.into_iter().enumerate() {
        let (lda, ldc) = (k + case % 3, n + case % 2 * 5);
        let (a, b) = (noise(1, (m - 1) * lda + k), noise(2, k * n));
        let (bias, before) = (noise(3, n), noise(4, (m - 1) * ldc + n + 3));
        for (precision, isa) in [Precision::Int16, Precision::Int8]
            .into_iter()
            .flat_map(|p| with_and_without_vnni().into_iter().map(move |isa| (p, isa)))
        {
            let eight = precision == Precision::Int8 && isa.has_vnni();
            for strides in [(n, 1), (1, k)] {
                let packed = Packed::new(isa, precision, &b, k, n, strides);
                let rounded = packed.unpacked();
                for add in [false, true] {
                    let mut out = before.clone();
                    let store = if add { Store::Add(Some(&bias)) } else { Store::Set(None) };
                    gemm(isa, &a, lda, m, &packed, &mut out, ldc, store);
                    let row = |i: usize| match (eight, &a[i * lda..i * lda + k]) {
                        (true, row) => stepped_from_the_lowest(row),
                        (false, row) => stepped(row, 4095.0),
                    };
                    let rows: Vec<_> = (0..m).map(row).collect();
                    let terms = |i: usize, j: usize| {
                        rows[i].iter().enumerate().map(|(p, a)| a * f64::from(rounded[p * n + j])).sum()
                    };
                    let expected = stored(&before, (m, n, ldc), add.then_some(&bias), terms);
                    let what = format!("{} {precision:?} {m}x{k}x{n} {strides:?} add {add}", isa.name());
                    assert_close(&what, &out, &expected, 2e-5);
                }
            }
        }
    }
}

#[test]
fn steps_that_were_chosen_before_are_multiplied_as_they_are() {
    for (m, k, n) in [(1, 1, 1), (5, 3, 15), (7, 65, 66), (13, 33, 113), (4, 130, 48)] {
        let a = noise(1, m * k);
        let steps: Vec<i8> = noise(2, n * k).iter().map(|x| (x * 40.0).clamp(-127.0, 127.0) as i8).collect();
        let units: Vec<f32> = noise(3, n);
        for isa in Isa::available().into_iter().filter(|isa| isa.has_vnni()) {
            let packed = Packed::of_steps(isa, &steps, &units, k);
            let weight = |i: usize, j: usize| f32::from(steps[j * k + i]) * units[j];
            let expected: Vec<f32> = (0..k * n).map(|at| weight(at / n, at % n)).collect();
            assert_eq!(packed.unpacked(), expected);
            let mut out = vec![0f32; m * n];
            gemm(isa, &a, k, m, &packed, &mut out, n, Store::Set(None));
            let rows: Vec<_> = a.chunks_exact(k).map(stepped_from_the_lowest).collect();
            let terms = |i: usize, j: usize| {
                rows[i].iter().enumerate().map(|(p, a)| a * f64::from(expected[p * n + j])).sum()
            };
            let sums = stored(&vec![0f32; m * n], (m, n, n), None, terms);
            assert_close(&format!("{} {m}x{k}x{n}", isa.name()), &out, &sums, 2e-5);
        }
    }
}

#[test]
fn integers_of_16_bits_are_closer_to_the_numbers_than_bf16_and_those_of_8_bits_within_half_a_step() {
    let (k, n) = (384, 70);
    let b = noise(6, k * n);
    let error = |packed: Packed| {
        let pairs = packed.unpacked().into_iter().zip(b.clone());
        pairs.map(|(found, x)| f64::from(found - x).powi(2)).sum::<f64>().sqrt()
    };
    for isa in with_and_without_vnni() {
        let [int16, bf16] =
            [Precision::Int16, Precision::Bf16].map(|p| error(Packed::new(isa, p, &b, k, n, (n, 1))));
        assert!(int16 < 0.5 * bf16, "{}: {int16} {bf16}", isa.name());
        let eight = Packed::new(isa, Precision::Int8, &b, k, n, (n, 1)).unpacked();
        for (found, x) in eight.iter().zip(&b) {
            // The largest of a column is below 4 here.
            assert!((found - x).abs() < 0.51 * 4.0 / 127.0, "{}: {found} {x}", isa.name());
        }
    }
}

#[test]
fn sums_of_integers_do_not_overflow_where_every_number_is_the_largest() {
    for k in [1, 384, 4096, 6144] {
        let (a, b) = (vec![-3.0f32; k], vec![5.0f32; k * 17]);
        for isa in with_and_without_vnni() {
            for precision in [Precision::Int16, Precision::Int8] {
                let packed = Packed::new(isa, precision, &b, k, 17, (17, 1));
                let mut out = vec![0f32; 17];
                gemm(isa, &a, k, 1, &packed, &mut out, 17, Store::Set(None));
                assert_close(isa.name(), &out, &[-15.0 * k as f32; 17], 1e-4);
            }
        }
    }
}

#[test]
fn a_number_that_is_none_makes_its_row_none_and_no_other() {
    let (mut a, b) = (noise(1, 3 * 20), noise(2, 20 * 5));
    (a[25], a[47]) = (f32::NAN, f32::INFINITY);
    for isa in with_and_without_vnni() {
        for precision in [Precision::Int16, Precision::Int8] {
            let packed = Packed::new(isa, precision, &b, 20, 5, (5, 1));
            let mut out = vec![0f32; 15];
            gemm(isa, &a, 20, 3, &packed, &mut out, 5, Store::Set(None));
            assert!(out[..5].iter().all(|x| x.is_finite()) && out[5..].iter().all(|x| x.is_nan()), "{out:?}");
        }
    }
}
