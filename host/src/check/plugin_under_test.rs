//! The plugin that is tried, what it is tried on, and the first checks: can it be read, loaded, built?

use super::{Findings, shorten};
use crate::backbone::{Backbone, Precision};
use crate::engine::open_backbone;
use crate::plugin::{Inspected, Library, Parameter, ParameterSource, PluginError, inspect, load};
use crate::task::as_plugins_see;
use crate::task::{HeadAnswer, MaskTensors, Task, TaskError, TaskOptions, ViewTokens, Weights};
use anymc3d_manifest::{Manifest, MaskFeature, View};
use anymc3d_plugin_api::{BackboneInfo, SliceGeometry};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A plugin that is tried.
pub struct PluginUnderTest {
    pub(super) path: PathBuf,
    pub(super) weights: Option<PathBuf>,
    wanted: Option<String>,
    pub(super) backbone: Backbone,
    /// Between the look at its manifest and its opening.
    read: Option<Inspected>,
    library: Option<Library>,
}

/// What a view is made of for a call.
pub(super) struct Tokens {
    pub name: String,
    pub class: Tensor,
    pub patch: Tensor,
    pub grid: (usize, usize),
    pub mask: MaskTensors,
}

/// Numbers of a head's answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Numbers {
    pub logits: Vec<f32>,
    pub slice_weights: Vec<Vec<f32>>,
    pub view_weights: Option<Vec<f32>>,
}

impl PluginUnderTest {
    /// Opens the backbone; the checks open the plugin.
    ///
    /// # Errors
    /// One line, when there is no backbone.
    pub fn new(library: &Path, weights: Option<&Path>, backbone_name: Option<&str>) -> Result<Self, String> {
        let backbone = open_backbone(backbone_name, Precision::F32).map_err(|e| e.to_string())?;
        let (weights, wanted) = (weights.map(Path::to_owned), backbone_name.map(str::to_owned));
        Ok(Self { path: library.to_owned(), weights, wanted, backbone, read: None, library: None })
    }

    pub(super) fn another_backbone(&self) -> Result<Backbone, String> {
        open_backbone(self.wanted.as_deref(), Precision::F32).map_err(|e| e.to_string())
    }

    pub(super) fn manifest(&mut self, findings: &mut Findings) -> Result<(), String> {
        let read = inspect(&self.path);
        let told = |library: &Inspected| {
            let m = library.manifest();
            format!(
                "{} {}, {} outputs, {} views",
                m.plugin.name,
                m.plugin.version,
                m.task.outputs(),
                m.views.len()
            )
        };
        let outcome = read.as_ref().map(told).map_err(ToString::to_string);
        findings.compare_runs(
            "its section, without running its code",
            "a manifest of schema 1 for this machine",
            outcome,
        );
        if let Ok(library) = read {
            let unknown = &library.embedded.unknown_keys;
            if !unknown.is_empty() {
                findings.note("keys that this host does not know", unknown.join(", "));
            }
            self.read = Some(library);
        }
        Ok(())
    }

    /// The library whose manifest was looked at; without that look, as it lies there.
    fn load(&mut self) -> Result<Library, PluginError> {
        match self.read.take() {
            Some(read) => read.load(),
            None => load(&self.path),
        }
    }

    pub(super) fn layout(&mut self, findings: &mut Findings) -> Result<(), String> {
        let (tried, expected) =
            ("opened, and its layout compared", "what crosses the boundary is as in this host");
        match self.load() {
            Ok(library) => {
                findings.compare_runs(tried, expected, Ok(format!("ABI {}", library.embedded.build.abi)));
                self.library = Some(library);
            }
            Err(e) => findings.compare_runs(tried, expected, Err(e.to_string())),
        }
        Ok(())
    }

    /// Opened where it is not yet: after an end of the process the first checks are not tried again.
    pub(super) fn library(&mut self) -> Result<&Library, String> {
        if self.library.is_none() {
            self.library = Some(self.load().map_err(|e| e.to_string())?);
        }
        self.library.as_ref().ok_or_else(|| "it was not loaded".to_owned())
    }

    pub(super) fn manifest_of(&mut self) -> Result<Manifest, String> {
        Ok(self.library()?.embedded.manifest.clone())
    }

    pub(super) fn parts(&mut self, findings: &mut Findings) -> Result<(), String> {
        let (seen, parameters) = (as_plugins_see(self.backbone.info()), random_init(BTreeMap::new()));
        let outcome = self.build_on(&seen, parameters, true).map(|task| {
            let branch = if task.has_segmentation() { ", a segmentation branch" } else { "" };
            let adapters = task.adapters().iter().map(adapter_name).collect::<Vec<_>>().join(", ");
            format!("adapter {adapters}, a head{branch}")
        });
        let on = format!("constructor, adapter, head and segmentation on {}", self.backbone.info().name);
        findings.compare_runs(on, "all parts are made", outcome);
        Ok(())
    }

    pub(super) fn parameters(&mut self, findings: &mut Findings) -> Result<(), String> {
        let seen = as_plugins_see(self.backbone.info());
        let first = self.build_on(&seen, random_init(BTreeMap::new()), true)?;
        let shapes = |task: &Task| -> Vec<String> {
            task.parameters().iter().map(|(name, p)| format!("{name} {:?}", p.tensor().dims())).collect()
        };
        let (before, (adapter, head, branch)) = (shapes(&first), first.parameter_counts());
        findings.note("counted", format!("adapter {adapter}, head {head}, segmentation {branch}"));
        let again = shapes(&self.build_on(&seen, random_init(BTreeMap::new()), true)?);
        let same = if before == again {
            Ok(format!("{} both times", before.len()))
        } else {
            let different: Vec<String> = before.iter().filter(|p| !again.contains(p)).cloned().collect();
            Err(format!("the second time without {}", shorten(&different)))
        };
        findings.compare_runs("built twice", "the same names and shapes", same);
        let manifest = self.manifest_of()?;
        let views = self.tokens(&manifest, 3, 1, |_| true);
        let called = call(&first, &views).map(drop).and_then(|()| {
            if first.has_segmentation() {
                first.segmentation_logits(&views[0].view()).map(drop)
            } else {
                Ok(())
            }
        });
        findings.compare_runs(
            "a call after it was built",
            "an answer, and no parameter that was not asked for before: it would have no weights",
            called.map(|()| "an answer".to_owned()).map_err(|e| e.to_string()),
        );
        match &self.weights {
            None => findings.skip("weights", "none given; --weights FILE compares them"),
            Some(path) => {
                let outcome = self.compared(path.clone(), &seen);
                findings.compare_runs(
                    "weights",
                    "every tensor is asked for, every parameter is there",
                    outcome,
                );
            }
        }
        Ok(())
    }

    fn compared(&mut self, path: PathBuf, seen: &BackboneInfo) -> Result<String, String> {
        let weights = Weights::open(&path).map_err(|e| e.to_string())?;
        let (name, fingerprint) =
            (self.backbone.info().name.clone(), self.backbone.info().fingerprint.clone());
        let plugin = self.manifest_of()?.plugin.name;
        let mut mismatches = Vec::new();
        for member in weights.all() {
            member.check(&plugin, &name, &fingerprint).map_err(|e| e.to_string())?;
            let source = ParameterSource::Weights(member.tensors.clone());
            mismatches.extend(self.build_with(seen, source, true, &member.info.variant)?.mismatches());
        }
        if mismatches.is_empty() {
            Ok(format!("{} tensors", weights.all().map(|w| w.tensors.len()).sum::<usize>()))
        } else {
            Err(shorten(&mismatches))
        }
    }

    pub(super) fn drops(&mut self, findings: &mut Findings) -> Result<(), String> {
        let (task, views) = self.ready()?;
        call(&task, &views).map_err(|e| e.to_string())?;
        let closed = task.close().map(|()| "let go".to_owned()).map_err(|e| e.to_string());
        findings.compare_runs("all parts dropped after a call", "no panic", closed);
        Ok(())
    }

    fn build_with(
        &mut self,
        backbone: &BackboneInfo,
        source: ParameterSource,
        segmentation: bool,
        variant: &crate::task::Variant,
    ) -> Result<Task, String> {
        let options = TaskOptions { segmentation, variant: variant.clone() };
        let library = self.library()?;
        Task::build(library, backbone, source, DType::F32, &Device::Cpu, &options).map_err(|e| e.to_string())
    }

    /// With another manifest than the plugin's own.
    pub(super) fn build_as(
        &mut self,
        backbone: &BackboneInfo,
        source: ParameterSource,
        change: impl FnOnce(&mut Manifest),
    ) -> Result<Task, String> {
        let kept = self.manifest_of()?;
        if let Some(library) = &mut self.library {
            change(&mut library.embedded.manifest);
        }
        let task = self.build_on(backbone, source, true);
        if let Some(library) = &mut self.library {
            library.embedded.manifest = kept;
        }
        task
    }

    pub(super) fn build_on(
        &mut self,
        backbone: &BackboneInfo,
        source: ParameterSource,
        segmentation: bool,
    ) -> Result<Task, String> {
        self.build_with(backbone, source, segmentation, &Default::default())
    }

    /// Values that its parameters could have after training: as initialised, moved a little, so that what starts at zero
    /// has an effect too.
    pub(super) fn values(&mut self) -> Result<BTreeMap<String, Tensor>, String> {
        let seen = as_plugins_see(self.backbone.info());
        let task = self.build_on(&seen, random_init(BTreeMap::new()), true)?;
        values_of(&task.parameters()).map_err(|e| crate::device::one_line(&e))
    }

    /// A task with such values, and tokens of five slices of each of its views.
    pub(super) fn ready(&mut self) -> Result<(Task, Vec<Tokens>), String> {
        let (values, manifest) = (self.values()?, self.manifest_of()?);
        let seen = as_plugins_see(self.backbone.info());
        let task = self.build_on(&seen, ParameterSource::Weights(values), true)?;
        Ok((task, self.tokens(&manifest, 5, 1, |_| true)))
    }

    /// Tokens of `slices` slices of the views that are wanted, at the size of the manifest.
    pub(super) fn tokens(
        &self,
        manifest: &Manifest,
        slices: usize,
        seed: u64,
        wanted: impl Fn(&View) -> bool,
    ) -> Vec<Tokens> {
        let info = self.backbone.info();
        let of = |view: &View| {
            let (h, w) = grid(view, info.patch_size);
            let tokens = Tokens::random_init(&view.name, slices, (h, w), info.embed_dim, seed);
            Tokens { mask: mask_of(view, slices, h * w), ..tokens }
        };
        manifest.views.iter().filter(|v| wanted(v)).map(of).collect()
    }
}

/// What a mask of a few patches in every slice would give, where the view asks for it; its scalars as they are after a head
/// has standardised them, since nothing has measured their means here.
pub(super) fn mask_of(view: &View, slices: usize, patches: usize) -> MaskTensors {
    let asks = |feature: MaskFeature| view.mask_features.contains(&feature);
    let of = |feature: MaskFeature, n: usize| if asks(feature) { n } else { 0 };
    let numbers = of(MaskFeature::Scalars, 6) + of(MaskFeature::Details, 28);
    let scalars: Vec<f64> = [1.5, 0.3, 0.8, -0.9, 1.1, 2.0].into_iter().cycle().take(numbers).collect();
    let scalars = (!scalars.is_empty()).then_some(scalars);
    let cover = || (0..slices * patches).map(|i| f32::from(u8::from(i % 5 == 2))).collect();
    let cover = asks(MaskFeature::Cover).then(|| (cover(), patches));
    // On the processor: numbers that fit into memory many times.
    MaskTensors::new(scalars, cover, &Device::Cpu).unwrap_or_default()
}

/// Patches of a view's image.
pub(super) fn grid(view: &View, patch: usize) -> (usize, usize) {
    (view.size[0].div_ceil(patch).max(1), view.size[1].div_ceil(patch).max(1))
}

pub(super) fn random_init(start: BTreeMap<String, Tensor>) -> ParameterSource {
    ParameterSource::Training { seed: 17, start }
}

fn adapter_name(adapter: &crate::task::TaskAdapter) -> String {
    use crate::task::TaskAdapter;
    match adapter {
        TaskAdapter::None => "none".to_owned(),
        TaskAdapter::Cut(blocks) => format!("none, {blocks} blocks"),
        TaskAdapter::Lora { lora, .. } => {
            format!("LoRA of rank {} from block {} on", lora.rank, lora.first_block)
        }
        TaskAdapter::Custom(code) => format!("in code from block {} on", code.first_block),
    }
}

fn values_of(parameters: &BTreeMap<String, Parameter>) -> candle_core::Result<BTreeMap<String, Tensor>> {
    let moved = |(name, p): (&String, &Parameter)| {
        let t = p.tensor().detach();
        let n = t.elem_count();
        let seed = name.bytes().map(u64::from).sum();
        let noise = Tensor::from_vec(noise(n, seed), t.dims(), t.device())?;
        Ok((name.clone(), (t + (noise * 0.02)?)?))
    };
    parameters.iter().map(moved).collect()
}

/// `n` numbers of mean 0 and variance 1, the same for the same seed.
pub(super) fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bf0_3635;
    let mut uniform = || {
        // SplitMix64 (Steele, Lea, Flood 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    };
    // The sum of three uniform numbers has a variance of a quarter.
    (0..n).map(|_| 2.0 * (uniform() + uniform() + uniform() - 1.5)).collect()
}

impl Tokens {
    pub fn random_init(name: &str, slices: usize, grid: (usize, usize), d: usize, seed: u64) -> Self {
        let make = |dims: &[usize], seed: u64| {
            let n = dims.iter().product();
            Tensor::from_vec(noise(n, seed), dims, &Device::Cpu)
        };
        let seed = seed.wrapping_mul(31).wrapping_add(name.bytes().map(u64::from).sum::<u64>());
        // Shapes and lengths agree by construction.
        let none = || Tensor::zeros((0, d), DType::F32, &Device::Cpu);
        let class = make(&[slices, d], seed).or_else(|_| none());
        let patch = make(&[slices, grid.0 * grid.1, d], seed ^ 0xff).or_else(|_| none());
        match (class, patch) {
            (Ok(class), Ok(patch)) => {
                Self { name: name.to_owned(), class, patch, grid, mask: MaskTensors::default() }
            }
            _ => unreachable!("tensors of drawn numbers on the CPU"),
        }
    }

    pub fn view(&self) -> ViewTokens<'_> {
        // Slices 5 mm apart, patches of 14 mm: a head that reads positions has some to read.
        let slices = self.class.dims().first().copied().unwrap_or_default();
        let geometry = SliceGeometry::evenly_spaced(slices, [5.0, 14.0, 14.0]);
        ViewTokens {
            name: &self.name,
            class_tokens: &self.class,
            patch_tokens: &self.patch,
            grid: self.grid,
            geometry: Some(Arc::new(geometry)),
            mask: self.mask.clone(),
        }
    }

    /// The same after `f` on both tensors.
    pub fn map(&self, f: impl Fn(&Tensor) -> candle_core::Result<Tensor>) -> Result<Self, String> {
        let made = |t: &Tensor| f(t).map_err(|e| crate::device::one_line(&e));
        Ok(Self {
            name: self.name.clone(),
            class: made(&self.class)?,
            patch: made(&self.patch)?,
            grid: self.grid,
            mask: self.mask.clone(),
        })
    }
}

/// The head on these views.
pub(super) fn call(task: &Task, views: &[Tokens]) -> Result<Numbers, TaskError> {
    let views: Vec<ViewTokens<'_>> = views.iter().map(Tokens::view).collect();
    let answer = task.head(&views)?;
    numbers(&answer).map_err(|e| task.error("forward", crate::device::one_line(&e)))
}

fn numbers(answer: &HeadAnswer) -> candle_core::Result<Numbers> {
    let list = |t: &Tensor| t.detach().to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    Ok(Numbers {
        logits: list(&answer.logits)?,
        slice_weights: answer.slice_weights.iter().map(list).collect::<candle_core::Result<_>>()?,
        view_weights: answer.view_weights.as_ref().map(list).transpose()?,
    })
}
