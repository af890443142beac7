//! The backbone against golden numbers from PyTorch (transformers, peft); see the fixtures' README.
//!
//! Reads `$ANYMC3D_FIXTURES`, by default `tests/fixtures`. Where the variable is set a missing file is
//! a failure; otherwise the test says that it is skipped. Nothing here knows the fixtures' seed.

use anymc3d_host::backbone::{Backbone, Features, LoraWeights, NoAdapter, Precision, SiteAdapter, load_peft};
use anymc3d_tests::devices;
use candle_core::backprop::GradStore;
use candle_core::{D, DType, Device, Result, Tensor, Var};
use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};

type Tensors = HashMap<String, Tensor>;
type Outcome = std::result::Result<(), Box<dyn Error>>;

const TOKENS: f64 = 2e-4;
const ATTENTION: f64 = 1e-5;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The fixture's path, or `None` after saying that the test is skipped.
fn fixture(name: &str) -> Option<PathBuf> {
    let given = std::env::var_os("ANYMC3D_FIXTURES").map(|given| workspace().join(given));
    let path = given.clone().unwrap_or_else(|| workspace().join("tests/fixtures")).join(name);
    if path.exists() {
        return Some(path);
    }
    assert!(given.is_none(), "ANYMC3D_FIXTURES is set, but {} is missing", path.display());
    println!("skipped: no {}; set ANYMC3D_FIXTURES", path.display());
    None
}

fn load(path: &Path, device: &Device) -> Result<Tensors> {
    candle_core::safetensors::load(path, device)
}

fn dinov2_small(device: &Device) -> std::result::Result<Backbone, Box<dyn Error>> {
    Ok(Backbone::open_on(&workspace().join("backbones/dinov2-small"), Precision::F32, device)?)
}

/// A test's tensors and backbone on every device there is.
fn on_each_device(path: &Path, test: impl Fn(&Tensors, &Backbone) -> Outcome) -> Outcome {
    devices().iter().try_for_each(|device| test(&load(path, device)?, &dinov2_small(device)?))
}

fn largest(x: &Tensor) -> Result<f64> {
    Ok(f64::from(x.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?))
}

fn assert_close(what: &str, found: &Tensor, expected: &Tensor, tolerance: f64) -> Result<()> {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let difference = largest(&(found - expected)?)?;
    println!("{what}: largest difference {difference:.2e}, allowed {tolerance:.0e}");
    assert!(difference <= tolerance, "{what}: {difference} > {tolerance}");
    Ok(())
}

/// Class token then patches, as transformers numbers them for a model without registers.
fn tokens_at(features: &Features, positions: &[u32]) -> Result<Tensor> {
    let class = features.class_tokens.unsqueeze(1)?;
    let all = Tensor::cat(&[&class, &features.patch_tokens], 1)?;
    all.index_select(&Tensor::new(positions, all.device())?, 1)
}

const SQUARE: [u32; 5] = [0, 1, 17, 128, 256];
const RECTANGLE: [u32; 4] = [0, 1, 16, 165];

#[test]
fn parity_of_the_forward_pass_on_squares_and_rectangles() -> Outcome {
    let Some(path) = fixture("forward.safetensors") else { return Ok(()) };
    on_each_device(&path, |t, backbone| {
        let f = backbone.forward(&t["pixels"], &NoAdapter, true)?;
        assert_close("tokens", &tokens_at(&f, &SQUARE)?, &t["tokens"], TOKENS)?;
        let attention = f.class_attention.ok_or("no attention")?;
        assert_close("attention", &attention, &t["cls_attention"], ATTENTION)?;
        let f = backbone.forward(&t["rect_pixels"], &NoAdapter, true)?;
        assert_close("rectangle tokens", &tokens_at(&f, &RECTANGLE)?, &t["rect_tokens"], TOKENS)?;
        let attention = f.class_attention.ok_or("no attention")?;
        assert_close("rectangle attention", &attention, &t["rect_cls_attention"], ATTENTION)?;
        Ok(())
    })
}

#[test]
fn parity_of_every_prefix_with_the_whole_pass() -> Outcome {
    let Some(path) = fixture("forward.safetensors") else { return Ok(()) };
    on_each_device(&path, |t, backbone| {
        for block in [0, 6, backbone.info().blocks] {
            let hidden = backbone.hidden_states(&t["pixels"], block)?;
            let f = backbone.forward_from(&hidden, &NoAdapter, false)?;
            assert_close("tokens", &tokens_at(&f, &SQUARE)?, &t["tokens"], TOKENS)?;
        }
        Ok(())
    })
}

#[test]
fn parity_with_a_peft_adapter_of_separate_projections() -> Outcome {
    let Some(path) = fixture("lora_forward.safetensors") else { return Ok(()) };
    let Some(adapter) = fixture("peft_adapter") else { return Ok(()) };
    on_each_device(&path, |t, backbone| {
        let lora = load_peft(&adapter, backbone.info())?;
        let f = backbone.forward(&t["pixels"], &lora, false)?;
        assert_close("tokens", &tokens_at(&f, &SQUARE)?, &t["tokens"], TOKENS)?;
        Ok(())
    })
}

#[test]
fn parity_with_fused_low_rank_weights() -> Outcome {
    let Some(path) = fixture("lora_fused_forward.safetensors") else { return Ok(()) };
    on_each_device(&path, |t, backbone| {
        let mut terms = t.clone();
        terms.retain(|name, _| name.contains("lora_"));
        let lora = LoraWeights::from_tensors(&terms, 2.0, backbone.info())?;
        let f = backbone.forward(&t["pixels"], &lora, false)?;
        assert_close("tokens", &tokens_at(&f, &SQUARE)?, &t["tokens"], TOKENS)?;
        Ok(())
    })
}

/// The fixture's model beside the mean and deviation that its folder lacks: the golden numbers are made from pixels.
fn with_statistics(dir: &Path) -> std::io::Result<tempfile::TempDir> {
    let whole = tempfile::tempdir()?;
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(dir.join(name), whole.path().join(name))?;
    }
    let statistics = r#"{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}"#;
    std::fs::write(whole.path().join("preprocessor_config.json"), statistics)?;
    Ok(whole)
}

fn tiny_model_agrees(name: &str) -> Outcome {
    let Some(dir) = fixture(name) else { return Ok(()) };
    let Some(path) = fixture(&format!("{name}/expected.safetensors")) else { return Ok(()) };
    let dir = with_statistics(&dir)?;
    for device in devices() {
        let t = load(&path, &device)?;
        let backbone = Backbone::open_on(dir.path(), Precision::F32, &device)?;
        let f = backbone.forward(&t["pixels"], &NoAdapter, false)?;
        let (expected, leading) = (&t["last_hidden_state"], backbone.info().layout().leading());
        let patches = f.patch_tokens.dim(1)?;
        let class = match backbone.info().class_token {
            true => expected.narrow(1, 0, 1)?.squeeze(1)?,
            false => t["pooler_output"].clone(),
        };
        assert_close("class tokens", &f.class_tokens, &class, TOKENS)?;
        assert_close("patch tokens", &f.patch_tokens, &expected.narrow(1, leading, patches)?, TOKENS)?;
    }
    Ok(())
}

#[test]
fn parity_of_a_model_with_swiglu() -> Outcome {
    tiny_model_agrees("dinov2_swiglu")
}

#[test]
fn parity_of_a_model_with_registers() -> Outcome {
    tiny_model_agrees("dinov2_registers")
}

#[test]
fn parity_of_dinov3_with_rotary_positions() -> Outcome {
    tiny_model_agrees("dinov3")
}

#[test]
fn parity_of_siglip_with_its_pooling_head() -> Outcome {
    tiny_model_agrees("siglip")
}

/// a = softmax(H q / sqrt(d)); v = aᵀ H.
fn pool(h: &Tensor, q: &Tensor) -> Result<(Tensor, Tensor)> {
    let d = h.dim(1)?;
    let scores = (h.matmul(&q.reshape((d, 1))?)?.squeeze(1)? / (d as f64).sqrt())?;
    let e = scores.broadcast_sub(&scores.detach().max(0)?)?.exp()?;
    let a = e.broadcast_div(&e.sum(0)?)?;
    let v = a.unsqueeze(0)?.matmul(h)?.squeeze(0)?;
    Ok((a, v))
}

#[test]
fn parity_of_attention_pooling_and_late_fusion() -> Outcome {
    let Some(path) = fixture("attention_pooling.safetensors") else { return Ok(()) };
    let t = load(&path, &Device::Cpu)?;
    let logits = |v: &Tensor| t["W"].matmul(&v.unsqueeze(1)?)?.squeeze(1)? + &t["b"];
    let (a1, v1) = pool(&t["H1"], &t["q1"])?;
    let (a2, v2) = pool(&t["H2"], &t["q2"])?;
    let (af, v) = pool(&Tensor::stack(&[&v1, &v2], 0)?, &t["q_fusion"])?;
    let single = logits(&v1)?;
    let fused = logits(&v)?;
    let pairs = [("a1", a1), ("v1", v1), ("a2", a2), ("v2", v2), ("a_fusion", af), ("v", v)];
    for (name, found) in pairs.into_iter().chain([("logits_single", single), ("logits_fused", fused)]) {
        assert_close(name, &found, &t[name], 1e-5)?;
    }
    Ok(())
}

/// AdamW as torch.optim.AdamW, betas (0.9, 0.999), eps 1e-8: decoupled decay, bias correction.
struct AdamW {
    moments: HashMap<String, (Tensor, Tensor)>,
    step: i32,
}

impl AdamW {
    fn step(&mut self, variables: &HashMap<String, Var>, grads: &GradStore) -> Result<()> {
        self.step += 1;
        let (c1, c2) = (1.0 - 0.9f64.powi(self.step), 1.0 - 0.999f64.powi(self.step));
        for (name, variable) in variables {
            let (rate, decay) = if name.contains("lora_") { (1e-4, 1e-5) } else { (1e-3, 1e-4) };
            let Some(g) = grads.get(variable) else { panic!("no gradient reached {name}") };
            let (m, v) = match self.moments.remove(name) {
                Some(moments) => moments,
                None => (g.zeros_like()?, g.zeros_like()?),
            };
            let m = ((m * 0.9)? + (g * 0.1)?)?;
            let v = ((v * 0.999)? + (g.sqr()? * 0.001)?)?;
            let change = ((&m / c1)? / ((&v / c2)?.sqrt()? + 1e-8)?)?;
            variable.set(&((variable.as_tensor() * (1.0 - rate * decay))? - (change * rate)?)?)?;
            self.moments.insert(name.clone(), (m, v));
        }
        Ok(())
    }
}

/// The six steps of the fixture. `names` maps a stored name to ours; every B starts at zero.
fn six_steps_agree(file: &str, names: impl Fn(&str) -> String) -> Outcome {
    let Some(path) = fixture(file) else { return Ok(()) };
    on_each_device(&path, |t, backbone| six_steps(t, backbone, &names))
}

fn six_steps(t: &Tensors, backbone: &Backbone, names: &impl Fn(&str) -> String) -> Outcome {
    let (d, device) = (backbone.info().embed_dim, backbone.device());
    let mut variables = HashMap::new();
    for (name, tensor) in t {
        let Some(name) = name.strip_prefix("init.") else { continue };
        let name = names(name);
        if let Some(site) = name.strip_suffix("lora_A") {
            let rows = if site.contains("qkv") { 3 * d } else { d };
            let b = Tensor::zeros((rows, tensor.dim(0)?), DType::F32, device)?;
            variables.insert(format!("{site}lora_B"), Var::from_tensor(&b)?);
        }
        variables.insert(name, Var::from_tensor(tensor)?);
    }
    variables.insert("head.bias".into(), Var::zeros(1, DType::F32, device)?);
    let (volumes, labels) = (&t["volumes"], t["labels"].to_vec1::<f32>()?);
    let mut optimiser = AdamW { moments: HashMap::new(), step: 0 };
    // Adam's first step is as long as the learning rate however small a gradient is, so rounding moves the later losses:
    // PyTorch's float32 with and without oneDNN differ by up to 1.3e-4. Where a fixture has them, its float64 losses count.
    let (losses, later) = match t.get("losses_f64") {
        Some(exact) => (exact.to_dtype(DType::F32)?, 1e-4),
        None => (t["losses"].clone(), 3e-4),
    };
    for (step, expected) in losses.to_vec1::<f32>()?.into_iter().enumerate() {
        let terms = variables.iter().filter(|(n, _)| n.contains("lora_"));
        let terms: Tensors = terms.map(|(n, v)| (n.clone(), v.as_tensor().clone())).collect();
        let lora = LoraWeights::from_tensors(&terms, 2.0, backbone.info())?;
        let mut loss = Tensor::zeros((), DType::F32, device)?;
        for (i, label) in labels.iter().enumerate() {
            let h = backbone.forward(&volumes.get(i)?, &lora, false)?.class_tokens;
            let (_, v) = pool(&h, &variables["query"])?;
            let z = variables["head.weight"].matmul(&v.unsqueeze(1)?)?.flatten_all()?;
            let z = (z + variables["head.bias"].as_tensor())?.sum(D::Minus1)?;
            // BCE with logits: log(1 + e^z) - y z
            let term = ((z.exp()? + 1.0)?.log()? - (&z * f64::from(*label))?)?;
            loss = (loss + (term / labels.len() as f64)?)?;
        }
        let found = loss.to_scalar::<f32>()?;
        println!("step {step}: loss {found} (torch {expected})");
        let tolerance = if step == 0 { 1e-4 } else { later };
        assert!((found - expected).abs() <= tolerance, "step {step}: loss {found}, expected {expected}");
        let grads = loss.backward()?;
        if step == 0 {
            for (name, golden) in t.iter().filter_map(|(n, x)| Some((n.strip_prefix("grad.")?, x))) {
                let variable = &variables[&names(name)];
                let Some(g) = grads.get(variable) else { panic!("no gradient reached {name}") };
                let golden = golden.reshape(g.shape())?;
                assert_close(name, g, &golden, 1e-3 * largest(&golden)?)?;
            }
        }
        optimiser.step(&variables, &grads)?;
    }
    Ok(())
}

#[test]
fn parity_of_six_training_steps_with_fused_projections() -> Outcome {
    six_steps_agree("train_steps_fused.safetensors", str::to_string)
}

#[test]
fn parity_of_six_training_steps_with_separate_projections() -> Outcome {
    six_steps_agree("train_steps.safetensors", |name| {
        let name = name.trim_start_matches("base_model.model.").replace("encoder.layer.", "block.");
        name.replace("embeddings.patch_embeddings.projection", "patch_embed").replace(".default.weight", "")
    })
}

/// The least cosine between the rows of two [S, d].
fn least_cosine(a: &Tensor, b: &Tensor) -> Result<f32> {
    let inner = (a * b)?.sum(1)?;
    let lengths = (a.sqr()?.sum(1)?.sqrt()? * b.sqr()?.sum(1)?.sqrt()?)?;
    (inner / lengths)?.min(0)?.to_scalar()
}

#[test]
fn parity_of_class_tokens_in_bf16_with_those_in_f32_on_real_slices() -> Outcome {
    let Some(path) = fixture("pixels.safetensors") else { return Ok(()) };
    on_each_device(&path, |t, exact| {
        let (info, device) = (exact.info(), exact.device());
        let fast = Backbone::open_on(&workspace().join("backbones/dinov2-small"), Precision::Bf16, device)?;
        let channels = |x: [f32; 3]| Tensor::new(&x, device)?.reshape((1, 3, 1, 1));
        for (name, x) in t {
            let (s, _, h, w) = x.dims4()?;
            let x = x.broadcast_as((s, 3, h, w))?.broadcast_sub(&channels(info.mean)?)?;
            let x = x.broadcast_div(&channels(info.std)?)?;
            let expected = exact.forward(&x, &NoAdapter, false)?.class_tokens;
            let cosine = least_cosine(&fast.forward(&x, &NoAdapter, false)?.class_tokens, &expected)?;
            println!("{name}: least cosine {cosine:.6}");
            assert!(cosine >= 0.9995, "{name}: {cosine}");
        }
        Ok(())
    })
}

#[test]
fn an_adapter_that_touches_the_prefix_is_refused() -> Outcome {
    struct Early;
    impl SiteAdapter for Early {
        fn first_block(&self) -> usize {
            2
        }
        fn patch_embed(&self) -> bool {
            false
        }
    }
    let backbone = dinov2_small(&Device::Cpu)?;
    let hidden = backbone.hidden_states(&Tensor::zeros((1, 3, 28, 28), DType::F32, &Device::Cpu)?, 3)?;
    let error = backbone.forward_from(&hidden, &Early, false).err().ok_or("was accepted")?;
    assert!(error.to_string().contains("starts at block 2"), "{error}");
    Ok(())
}
