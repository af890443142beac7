//! Every family of backbones against transformers and timm on tiny random models; see `tests/fixtures/make_families.py`.
//!
//! Reads `$ANYMC3D_FAMILIES`, by default `tests/fixtures/families`: a folder that the script made from another seed.

use anymc3d_host::backbone::{Backbone, Features, Kernels, LoraWeights, NoAdapter, Precision};
use anymc3d_tests::devices;
use candle_core::{Device, Result, Tensor, Var};
use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};

type Outcome = std::result::Result<(), Box<dyn Error>>;
type Tensors = HashMap<String, Tensor>;

const TOKENS: f64 = 2e-4;
const ATTENTION: f64 = 1e-5;
/// Of the largest gradient of a factor.
const GRADIENTS: f64 = 1e-3;

fn families() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    match std::env::var_os("ANYMC3D_FAMILIES") {
        Some(given) => workspace.join(given),
        None => workspace.join("tests/fixtures/families"),
    }
}

/// A variant's folder with what its numbers were made from.
struct Variant {
    folder: PathBuf,
    expected: Tensors,
    seed: u64,
    /// Slices, height, width.
    cases: Vec<[usize; 3]>,
    channels: usize,
    scale: f64,
}

impl Variant {
    fn open(folder: &Path) -> std::result::Result<Self, Box<dyn Error>> {
        let path = folder.join("expected.safetensors");
        let bytes = std::fs::read(&path)?;
        let length = u64::from_le_bytes(bytes[..8].try_into()?) as usize;
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length])?;
        let told = |key: &str| header["__metadata__"][key].as_str().unwrap_or_default().to_owned();
        Ok(Self {
            folder: folder.to_owned(),
            expected: candle_core::safetensors::load(&path, &Device::Cpu)?,
            seed: told("seed").parse()?,
            cases: serde_json::from_str(&told("cases"))?,
            channels: told("channels").parse()?,
            scale: told("scale").parse()?,
        })
    }

    /// Pixels of a case; a grey model's single channel is the host's three.
    fn pixels(&self, case: usize) -> Result<Tensor> {
        let [s, h, w] = self.cases[case];
        let x = numbers(self.seed, case as u64, &[s, self.channels, h, w])?;
        x.broadcast_as((s, 3, h, w))?.contiguous()
    }

    fn backbones(&self) -> std::result::Result<Vec<(String, Backbone)>, Box<dyn Error>> {
        let mut all =
            vec![("plain".to_owned(), Backbone::open_with(&self.folder, Precision::F32, Kernels::Plain)?)];
        for isa in anymc3d_host::backbone::Isa::available() {
            let fast = Backbone::open_with(&self.folder, Precision::F32, Kernels::Fast(isa))?;
            all.push((isa.name().to_owned(), fast));
        }
        for device in devices().into_iter().filter(|d| !d.is_cpu()) {
            all.push(("gpu".to_owned(), Backbone::open_on(&self.folder, Precision::F32, &device)?));
        }
        Ok(all)
    }

    fn close(&self, what: &str, found: &Tensor, name: &str, tolerance: f64) -> Result<()> {
        let (found, expected) = (found.to_device(&Device::Cpu)?, &self.expected[name]);
        assert_eq!(found.dims(), expected.dims(), "{} {what} {name}", self.folder.display());
        let largest = |x: &Tensor| -> Result<f64> {
            Ok(f64::from(x.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?))
        };
        let allowed = if name.starts_with("grad.") { tolerance * largest(expected)? } else { tolerance };
        let difference = largest(&(&found - expected)?)?;
        assert!(
            difference <= allowed,
            "{} {what} {name}: {difference:.2e}, allowed {allowed:.1e}",
            self.folder.display()
        );
        Ok(())
    }

    fn forward_passes_agree(&self) -> Outcome {
        for (what, backbone) in self.backbones()? {
            for case in 0..self.cases.len() {
                let f = backbone.forward(&self.pixels(case)?, &NoAdapter, true)?;
                self.close(&what, &f.class_tokens, &format!("{case}.class"), TOKENS)?;
                self.close(&what, &f.patch_tokens, &format!("{case}.patches"), TOKENS)?;
                let attention = f.class_attention.ok_or("no attention")?;
                self.close(&what, &attention, &format!("{case}.attention"), ATTENTION)?;
            }
        }
        Ok(())
    }

    /// The last case with low-rank terms at every site, and the gradients of their factors.
    fn low_rank_terms_agree(&self) -> Outcome {
        let terms = self.expected.iter().filter_map(|(n, t)| Some((n.strip_prefix("term.")?.to_owned(), t)));
        let variables: HashMap<String, Var> =
            terms.map(|(n, t)| Ok((n, Var::from_tensor(t)?))).collect::<Result<_>>()?;
        assert!(!variables.is_empty());
        let tensors = variables.iter().map(|(n, v)| (n.clone(), v.as_tensor().clone())).collect();
        for (what, backbone) in self.backbones()? {
            let lora = LoraWeights::from_tensors(&tensors, self.scale, backbone.info())?;
            let f = backbone.forward(&self.pixels(self.cases.len() - 1)?, &lora, false)?;
            self.close(&what, &f.class_tokens, "lora.class", TOKENS)?;
            self.close(&what, &f.patch_tokens, "lora.patches", TOKENS)?;
            let grads = self.loss(&f)?.backward()?;
            for (name, variable) in &variables {
                let g = grads.get(variable).ok_or_else(|| format!("no gradient reached {name}"))?;
                self.close(&what, g, &format!("grad.{name}"), GRADIENTS)?;
            }
        }
        Ok(())
    }

    /// A sum of the features, each weighted differently.
    fn loss(&self, f: &Features) -> Result<Tensor> {
        let weighted = |x: &Tensor, salt: u64| -> Result<Tensor> {
            (x * numbers(self.seed, salt, x.dims())?.to_device(x.device())?)?.sum_all()
        };
        weighted(&f.class_tokens, 100)? + weighted(&f.patch_tokens, 101)?
    }
}

/// Numbers from -2 to 2 by a hash of their index, as the script forms them.
fn numbers(seed: u64, salt: u64, shape: &[usize]) -> Result<Tensor> {
    let mask = u64::from(u32::MAX);
    let number = |n: u64| {
        let h = (n * 2_654_435_761 + (seed * 1000 + salt) * 40_503) & mask;
        let h = ((h ^ (h >> 15)) * 2_246_822_519) & mask;
        let h = h ^ (h >> 13);
        (h as f64 / 4_294_967_296.0 * 4.0 - 2.0) as f32
    };
    let count: usize = shape.iter().product();
    Tensor::from_vec((0..count as u64).map(number).collect::<Vec<_>>(), shape, &Device::Cpu)
}

fn every_variant(test: impl Fn(&Variant) -> Outcome) -> Outcome {
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(families())?.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
    folders.sort();
    assert!(folders.len() >= 20, "{} holds {} variants", families().display(), folders.len());
    folders.iter().try_for_each(|folder| test(&Variant::open(folder)?))
}

#[test]
fn parity_of_every_familys_tokens_and_attention_on_squares_and_rectangles() -> Outcome {
    every_variant(Variant::forward_passes_agree)
}

#[test]
fn parity_of_every_familys_low_rank_terms_and_their_gradients() -> Outcome {
    every_variant(Variant::low_rank_terms_agree)
}

#[test]
fn parity_of_dinov2_below_its_size_with_timm_and_with_transformers_each_by_its_own_config() -> Outcome {
    let [timm, transformers] = ["timm", "transformers"].map(|of| format!("at_224_of_518_{of}"));
    let (timm, transformers) =
        (Variant::open(&families().join(timm))?, Variant::open(&families().join(transformers))?);
    timm.forward_passes_agree()?;
    transformers.forward_passes_agree()?;
    let apart = (&timm.expected["0.patches"] - &transformers.expected["0.patches"])?;
    let apart = apart.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
    assert!(apart > 10.0 * TOKENS as f32, "the two libraries agree to {apart}: the test shows nothing");
    let fingerprint = |v: &Variant| -> std::result::Result<String, Box<dyn Error>> {
        Ok(Backbone::open_with(&v.folder, Precision::F32, Kernels::Plain)?.info().fingerprint.clone())
    };
    assert_ne!(fingerprint(&timm)?, fingerprint(&transformers)?);
    Ok(())
}
