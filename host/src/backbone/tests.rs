//! Tiny random models made on the fly: reading, gradients, and the fused blocks against the plain path.

use super::*;
use crate::device::{DeviceChoice, gpus};
use candle_core::{DType, Device, Shape, Tensor, Var};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::Path;

mod on_device;

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

#[derive(Clone, Copy, Default)]
struct Tiny {
    gated: bool,
    registers: usize,
    new_names: bool,
    sharded: bool,
    f16: bool,
}

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

/// A checkpoint of random weights in `dir`.
fn write(dir: &Path, tiny: Tiny) -> Outcome {
    let model_type = if tiny.registers > 0 { "dinov2_with_registers" } else { "dinov2" };
    let config = serde_json::json!({
        "model_type": model_type, "hidden_size": D, "num_hidden_layers": BLOCKS, "num_attention_heads": 3,
        "patch_size": PATCH, "num_register_tokens": tiny.registers, "use_swiglu_ffn": tiny.gated,
    });
    std::fs::write(dir.join("config.json"), config.to_string())?;
    let mut tensors = HashMap::new();
    let mut put = |name: String, shape: &[usize], mean: f32| -> candle_core::Result<()> {
        let spread = if shape.len() > 1 { 0.3 } else { 0.2 };
        let tensor = normal(&name, mean, spread, shape)?;
        tensors.insert(name, if tiny.f16 { tensor.to_dtype(DType::F16)? } else { tensor });
        Ok(())
    };
    put("embeddings.cls_token".into(), &[1, 1, D], 0.0)?;
    put("embeddings.position_embeddings".into(), &[1, 17, D], 0.0)?;
    put("embeddings.patch_embeddings.projection.weight".into(), &[D, 3, PATCH, PATCH], 0.0)?;
    put("embeddings.patch_embeddings.projection.bias".into(), &[D], 0.0)?;
    if tiny.registers > 0 {
        put("embeddings.register_tokens".into(), &[1, tiny.registers, D], 0.0)?;
    }
    let attention = match tiny.new_names {
        true => ["q_proj", "k_proj", "v_proj", "o_proj"],
        false => ["attention.query", "attention.key", "attention.value", "output.dense"],
    };
    let (up, down, rows, hidden) =
        if tiny.gated { ("weights_in", "weights_out", 80, 40) } else { ("fc1", "fc2", 56, 56) };
    for i in 0..BLOCKS {
        let layer = format!("encoder.layer.{i}");
        let linears = attention.map(|n| (format!("attention.{n}"), D, D));
        for (name, to, from) in
            linears.into_iter().chain([(format!("mlp.{up}"), rows, D), (format!("mlp.{down}"), D, hidden)])
        {
            put(format!("{layer}.{name}.weight"), &[to, from], 0.0)?;
            put(format!("{layer}.{name}.bias"), &[to], 0.0)?;
        }
        for norm in ["norm1", "norm2"] {
            put(format!("{layer}.{norm}.weight"), &[D], 1.0)?;
            put(format!("{layer}.{norm}.bias"), &[D], 0.0)?;
        }
        put(format!("{layer}.layer_scale1.lambda1"), &[D], 1.0)?;
        put(format!("{layer}.layer_scale2.lambda1"), &[D], 1.0)?;
    }
    put("layernorm.weight".into(), &[D], 1.0)?;
    put("layernorm.bias".into(), &[D], 0.0)?;
    if !tiny.sharded {
        candle_core::safetensors::save(&tensors, dir.join("model.safetensors"))?;
        return Ok(());
    }
    let (mut first, mut second) = (HashMap::new(), HashMap::new());
    let mut map = serde_json::Map::new();
    for (i, (name, tensor)) in tensors.into_iter().enumerate() {
        let shard = if i % 2 == 0 { &mut first } else { &mut second };
        map.insert(name.clone(), format!("model-0000{}-of-00002.safetensors", i % 2 + 1).into());
        shard.insert(name, tensor);
    }
    candle_core::safetensors::save(&first, dir.join("model-00001-of-00002.safetensors"))?;
    candle_core::safetensors::save(&second, dir.join("model-00002-of-00002.safetensors"))?;
    let index = serde_json::json!({ "weight_map": map });
    std::fs::write(dir.join("model.safetensors.index.json"), index.to_string())?;
    Ok(())
}

const ALL: [Tiny; 4] = [
    Tiny { gated: false, registers: 0, new_names: false, sharded: false, f16: false },
    Tiny { gated: true, registers: 0, new_names: true, sharded: true, f16: false },
    Tiny { gated: false, registers: 2, new_names: true, sharded: false, f16: true },
    Tiny { gated: true, registers: 3, new_names: false, sharded: true, f16: true },
];

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
            for (precision, tolerance) in [(Precision::F32, 2e-4), (Precision::Bf16, 6e-2)] {
                let fast = Backbone::open_with(dir.path(), precision, kernels)?;
                assert_eq!(fast.info(), plain.info());
                let found = fast.forward(&x, &adapter, true)?;
                assert_eq!(found.grid, expected.grid);
                assert!(difference(&found.class_tokens, &expected.class_tokens)? < tolerance);
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
            for (precision, tolerance) in [(Precision::F32, 5e-4), (Precision::Bf16, 0.15)] {
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
fn an_incomplete_checkpoint_is_an_error_that_lists_every_missing_tensor() -> Outcome {
    let dir = tempfile::tempdir()?;
    write(dir.path(), Tiny::default())?;
    let path = dir.path().join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu)?;
    let gone = ["encoder.layer.1.mlp.fc2.weight", "layernorm.bias", "embeddings.cls_token"];
    gone.iter().for_each(|name| drop(tensors.remove(*name)));
    candle_core::safetensors::save(&tensors, &path)?;
    let error = Backbone::open(dir.path(), Precision::F32).err().ok_or("was accepted")?.to_string();
    assert!(gone.iter().all(|name| error.contains(name)), "{error}");
    Ok(())
}

#[test]
fn a_family_that_is_not_read_is_refused_by_name() -> Outcome {
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("config.json"), r#"{"model_type": "resnet"}"#)?;
    let error = Backbone::open(dir.path(), Precision::F32).err().ok_or("was accepted")?.to_string();
    assert!(error.contains("\"resnet\"") && error.contains("dinov2_with_registers"), "{error}");
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
