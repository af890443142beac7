//! Tiny random models made on the fly: reading, gradients, and the fused blocks against the plain path.

use super::*;
use crate::device::{DeviceChoice, gpus};
use candle_core::{DType, Device, Shape, Tensor, Var};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

mod checkpoint;
mod class_alone;
mod depth;
mod kept;
mod merged;
mod on_device;
mod quantised;
mod refusals;

use checkpoint::{ALL, Tiny, write};

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

const D: usize = 24;
const BLOCKS: usize = 3;
const PATCH: usize = 4;

/// Normal numbers that depend on `name` alone: the same in every run.
fn normal(name: &str, mean: f32, deviation: f32, shape: impl Into<Shape>) -> candle_core::Result<Tensor> {
    let shape = shape.into();
    let mut rng = ChaCha20Rng::from_seed(Sha256::digest(name).into());
    let mut next = || {
        let (u, angle) = (1.0 - rng.random::<f32>(), rng.random::<f32>() * std::f32::consts::TAU);
        (-2.0 * u.ln()).sqrt() * angle.cos()
    };
    let numbers = (0..shape.elem_count()).map(|_| mean + deviation * next()).collect::<Vec<_>>();
    Tensor::from_vec(numbers, shape, &Device::Cpu)
}

fn pixels(slices: usize) -> candle_core::Result<Tensor> {
    normal("pixels", 0.0, 1.0, (slices, 3, 3 * PATCH, 5 * PATCH))
}

/// Random factors of every site from `first` on, none of them zero.
fn variables(info: &BackboneInfo, first: usize, patch: bool) -> candle_core::Result<HashMap<String, Var>> {
    let shapes = lora_shapes(info, 2, first, patch).into_iter();
    let factor = |(name, shape): (String, _)| {
        let value = normal(&name, 0.0, 0.2, shape)?;
        Ok((name, Var::from_tensor(&value)?))
    };
    shapes.map(factor).collect()
}

fn lora(variables: &HashMap<String, Var>, info: &BackboneInfo) -> Result<LoraWeights, BackboneError> {
    let tensors = variables.iter().map(|(n, v)| (n.clone(), v.as_tensor().clone())).collect();
    LoraWeights::from_tensors(&tensors, 1.5, info)
}

/// A number that depends on all features, each weighted differently.
fn loss(f: &Features, seed: &[Tensor; 2]) -> candle_core::Result<Tensor> {
    (&f.class_tokens * &seed[0])?.sum_all()? + (&f.patch_tokens * &seed[1])?.sum_all()?
}

fn weights_of(f: &Features) -> candle_core::Result<[Tensor; 2]> {
    Ok([
        normal("of the class tokens", 0.0, 1.0, f.class_tokens.shape())?,
        normal("of the patch tokens", 0.0, 0.3, f.patch_tokens.shape())?,
    ])
}

/// Length of the difference, relative to that of `b`.
fn difference(a: &Tensor, b: &Tensor) -> candle_core::Result<f32> {
    let length = |t: &Tensor| t.sqr()?.sum_all()?.sqrt()?.to_scalar::<f32>();
    Ok(length(&(a - b)?)? / length(b)?.max(1e-3))
}

/// The bound of 16-bit integers; where the processor multiplies bf16, attention is bf16 beside them, and another holds.
fn int16(kernels: Kernels, own: f32, beside_bf16: f32) -> f32 {
    match kernels {
        Kernels::Fast(isa) if isa.has_bf16() => beside_bf16,
        _ => own,
    }
}

/// The bound of 8-bit integers; without products of their own they are 16-bit ones.
fn int8(kernels: Kernels, as_int16: f32, own: f32) -> f32 {
    match kernels {
        Kernels::Fast(isa) if isa.has_vnni() => own,
        _ => as_int16,
    }
}

fn engines() -> Vec<Kernels> {
    Isa::available().into_iter().map(Kernels::Fast).collect()
}

#[test]
fn the_fused_blocks_agree_with_the_plain_path_for_every_family_and_instruction_set() -> Outcome {
    for tiny in ALL {
        let dir = tempfile::tempdir()?;
        write(dir.path(), tiny)?;
        let plain = Backbone::open_with(dir.path(), Precision::F32, Kernels::Plain)?;
        let (x, adapter) = (pixels(11)?, lora(&variables(plain.info(), 0, true)?, plain.info())?);
        let expected = plain.forward(&x, &adapter, true)?;
        for kernels in engines() {
            for (precision, tolerance) in [
                (Precision::F32, 2e-4),
                (Precision::Int16, int16(kernels, 2e-3, 1.5e-2)),
                (Precision::Bf16, 6e-2),
            ] {
                let fast = Backbone::open_with(dir.path(), precision, kernels)?;
                assert_eq!(fast.info(), plain.info());
                let found = fast.forward(&x, &adapter, true)?;
                assert_eq!(found.grid, expected.grid);
                let error = difference(&found.class_tokens, &expected.class_tokens)?;
                assert!(error < tolerance, "{kernels:?} {precision:?}: {error}");
                assert!(difference(&found.patch_tokens, &expected.patch_tokens)? < tolerance);
                let (a, b) = (found.class_attention, expected.class_attention.clone());
                assert!(difference(&a.ok_or("no map")?, &b.ok_or("no map")?)? < tolerance);
            }
        }
    }
    Ok(())
}

#[test]
fn every_adapter_gradient_matches_finite_differences() -> Outcome {
    for tiny in ALL {
        let dir = tempfile::tempdir()?;
        write(dir.path(), tiny)?;
        for kernels in [vec![Kernels::Plain], engines()].concat() {
            let backbone = Backbone::open_with(dir.path(), Precision::F32, kernels)?;
            let (x, variables) = (pixels(3)?, variables(backbone.info(), 0, true)?);
            let seed = weights_of(&backbone.forward(&x, &lora(&variables, backbone.info())?, false)?)?;
            let value = || -> Result<Tensor, BackboneError> {
                let f = backbone.forward(&x, &lora(&variables, backbone.info())?, false)?;
                Ok(loss(&f, &seed)?)
            };
            let grads = value()?.backward()?;
            for (name, variable) in &variables {
                let g = grads.get(variable).ok_or_else(|| format!("no gradient reached {name}"))?;
                // Along the gradient itself the slope is its length: the clearest signal over rounding.
                let length = g.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt();
                let start = variable.as_tensor().copy()?;
                let step = 2e-3;
                let at = |s: f64| -> Result<f32, BackboneError> {
                    variable.set(&(&start + (g * (s / f64::from(length)))?)?)?;
                    Ok(value()?.to_scalar::<f32>()?)
                };
                let slope = (at(step)? - at(-step)?) / (2.0 * step as f32);
                variable.set(&start)?;
                let error = (slope - length).abs() / length;
                assert!(error < 0.03, "{kernels:?} {name}: slope {slope}, gradient {length}");
            }
        }
    }
    Ok(())
}

#[test]
fn gradients_on_the_kernels_are_the_plain_paths_whether_kept_or_formed_again() -> Outcome {
    for tiny in ALL {
        let dir = tempfile::tempdir()?;
        write(dir.path(), tiny)?;
        let plain = Backbone::open_with(dir.path(), Precision::F32, Kernels::Plain)?;
        let (x, variables) = (pixels(3)?, variables(plain.info(), 1, false)?);
        let adapter = lora(&variables, plain.info())?;
        let features = plain.forward(&x, &adapter, false)?;
        let seed = weights_of(&features)?;
        let expected = loss(&features, &seed)?.backward()?;
        for kernels in engines() {
            for (precision, tolerance) in [
                (Precision::F32, 5e-4),
                (Precision::Int16, int16(kernels, 8e-3, 6e-2)),
                (Precision::Int8, int8(kernels, 8e-3, 0.2)),
                (Precision::Bf16, 0.15),
            ] {
                for kept in [usize::MAX, 0] {
                    let mut fast = Backbone::open_with(dir.path(), precision, kernels)?;
                    fast.keep_at_most(kept);
                    let hidden = fast.hidden_states(&x, 1)?;
                    let f = fast.forward_from(&hidden, &adapter, false)?;
                    let grads = loss(&f, &seed)?.backward()?;
                    for (name, variable) in &variables {
                        let (Some(a), Some(b)) = (grads.get(variable), expected.get(variable)) else {
                            return Err(format!("no gradient reached {name}").into());
                        };
                        let error = difference(a, b)?;
                        assert!(error < tolerance, "{kernels:?} {precision:?} {name}: {error}");
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_gradient_reaches_hidden_tokens_that_are_tracked() -> Outcome {
    let dir = tempfile::tempdir()?;
    write(dir.path(), Tiny::default())?;
    let plain = Backbone::open_with(dir.path(), Precision::F32, Kernels::Plain)?;
    let hidden = plain.hidden_states(&pixels(2)?, 1)?;
    let tokens = Var::from_tensor(&hidden.tokens)?;
    let hidden = HiddenStates { tokens: tokens.as_tensor().clone(), ..hidden };
    let features = plain.forward_from(&hidden, &NoAdapter, false)?;
    let seed = weights_of(&features)?;
    let expected = loss(&features, &seed)?.backward()?;
    for kernels in engines() {
        let fast = Backbone::open_with(dir.path(), Precision::F32, kernels)?;
        let grads = loss(&fast.forward_from(&hidden, &NoAdapter, false)?, &seed)?.backward()?;
        let (a, b) = (grads.get(&tokens).ok_or("no gradient")?, expected.get(&tokens).ok_or("no gradient")?);
        assert!(difference(a, b)? < 5e-4);
    }
    Ok(())
}

/// The same terms as code at each site, which the host cannot fuse.
struct Custom(LoraWeights);

impl SiteAdapter for Custom {
    fn first_block(&self) -> usize {
        self.0.first_block()
    }
    fn patch_embed(&self) -> bool {
        self.0.patch_embed()
    }
    fn apply(&self, site: Site, input: &Tensor, output: Tensor) -> candle_core::Result<Tensor> {
        let Some(term) = self.0.low_rank(site) else { return Ok(output) };
        let low = input.broadcast_matmul(&term.a.t()?)?;
        output + (low.broadcast_matmul(&term.b.t()?)? * term.scale)?
    }
}

#[test]
fn custom_code_at_the_sites_does_what_the_declared_terms_do() -> Outcome {
    let dir = tempfile::tempdir()?;
    write(dir.path(), Tiny { registers: 1, ..Tiny::default() })?;
    for kernels in [vec![Kernels::Plain], engines()].concat() {
        let backbone = Backbone::open_with(dir.path(), Precision::F32, kernels)?;
        let (x, adapter) = (pixels(2)?, lora(&variables(backbone.info(), 0, true)?, backbone.info())?);
        let declared = backbone.forward(&x, &adapter, true)?;
        let custom = backbone.forward(&x, &Custom(adapter), true)?;
        assert!(difference(&custom.class_tokens, &declared.class_tokens)? < 2e-4);
        assert!(difference(&custom.patch_tokens, &declared.patch_tokens)? < 2e-4);
    }
    Ok(())
}

#[test]
fn hidden_states_carried_on_are_those_of_the_later_block() -> Outcome {
    let dir = tempfile::tempdir()?;
    write(dir.path(), Tiny { registers: 2, ..Tiny::default() })?;
    for kernels in engines().into_iter().chain([Kernels::Plain]) {
        let backbone = Backbone::open_with(dir.path(), Precision::F32, kernels)?;
        let x = pixels(3)?;
        let (embedded, short) = (backbone.hidden_states(&x, 0)?, backbone.hidden_states(&x, 1)?);
        for from in [&embedded, &short] {
            let longer = backbone.forward_blocks(from, 2)?;
            assert_eq!((longer.block, longer.grid), (2, short.grid));
            assert_eq!(
                difference(&longer.tokens, &backbone.hidden_states(&x, 2)?.tokens)?,
                0.0,
                "{kernels:?}"
            );
        }
        assert!(backbone.forward_blocks(&short, 0).is_err() && backbone.forward_blocks(&short, 4).is_err());
    }
    Ok(())
}

#[test]
fn pixels_that_do_not_divide_into_patches_are_refused() -> Outcome {
    let dir = tempfile::tempdir()?;
    write(dir.path(), Tiny::default())?;
    let backbone = Backbone::open(dir.path(), Precision::F32)?;
    let x = Tensor::zeros((1, 3, 8, 9), DType::F32, &Device::Cpu)?;
    let error = backbone.forward(&x, &NoAdapter, false).err().ok_or("was accepted")?.to_string();
    assert!(error.contains("multiples of 4"), "{error}");
    Ok(())
}

#[test]
fn a_backbone_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Backbone>();
}

#[test]
fn attention_over_many_tokens_is_the_same_some_rows_at_a_time() -> Outcome {
    let (s, t, heads, d) = (1, layers::ROWS + 77, 2, 4);
    let qkv = normal("of many tokens", 0.0, 1.0, (s, t, 3 * d))?;
    let (found, class) = layers::attention(&qkv, heads, true)?;
    let split = qkv.reshape((s, t, 3, heads, d / heads))?.permute((2, 0, 3, 1, 4))?;
    let part = |i: usize| split.get(i)?.contiguous();
    let scores = (part(0)?.matmul(&part(1)?.t()?)? / ((d / heads) as f64).sqrt())?;
    let p = layers::softmax(&scores)?;
    let whole = p.matmul(&part(2)?)?.transpose(1, 2)?.reshape((s, t, d))?;
    assert!(difference(&found, &whole)? < 1e-5);
    let first = p.narrow(2, 0, 1)?.mean(1)?.reshape((s, t))?;
    assert!(difference(&class.ok_or("no map")?, &first)? < 1e-5);
    Ok(())
}
