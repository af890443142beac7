//! What `host bench` repeats: passes through the backbone with adapters of noise, and the kernels one by one.

use super::{Row, median, sorted};
use anymc3d_host::backbone::kernels::bench;
use anymc3d_host::backbone::kernels::clock::{Moment, Spent};
use anymc3d_host::backbone::{
    Backbone, HiddenStates, Kernels, LoraWeights, NoAdapter, Precision, SiteAdapter, lora_shapes,
};
use anymc3d_host::train::AdamW;
use candle_core::{Device, Result, Tensor, Var};
use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;

/// One kind of pass.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Measure {
    /// Frozen, without a task.
    Frozen,
    /// One task that adapts every block, unmerged.
    One,
    /// The same with the class attention that heatmaps are made of.
    Attention,
    /// Several tasks that adapt the blocks from the second number on.
    Many(usize, usize),
    /// A training step with LoRA in every block.
    Step,
    /// The same with LoRA from a block on, with the frozen blocks' features computed or cached.
    StepFrom { block: usize, cached: bool },
}

impl Measure {
    pub fn one() -> Vec<Self> {
        vec![Self::One, Self::Frozen, Self::Attention]
    }

    /// After [`Self::One`], which they are compared with.
    pub fn many(tasks: usize, blocks: usize) -> Vec<Self> {
        vec![Self::One, Self::Many(tasks, blocks * 2 / 3), Self::Many(tasks, 0)]
    }

    pub fn steps(blocks: usize) -> Vec<Self> {
        let from = |block, cached| Self::StepFrom { block, cached };
        let (later, last) = (blocks * 2 / 3, blocks * 5 / 6);
        vec![Self::Step, from(later, false), from(later, true), from(last, false), from(last, true)]
    }

    pub fn name(&self) -> String {
        match self {
            Self::Frozen => "frozen".to_owned(),
            Self::One => "one".to_owned(),
            Self::Attention => "one, with attention".to_owned(),
            Self::Many(tasks, 0) => format!("{tasks} tasks in every block"),
            Self::Many(tasks, first) => format!("{tasks} tasks from block {first} on"),
            Self::Step => "step".to_owned(),
            Self::StepFrom { block, cached: true } => format!("step from a cached prefix of {block} blocks"),
            Self::StepFrom { block, cached: false } => format!("step from block {block} on"),
        }
    }

    /// What a line of `--stepwise` may say.
    pub fn parse(text: &str, blocks: usize) -> std::result::Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let number = |word: &str, most: usize| word.parse().ok().filter(|n| *n <= most);
        let found = match words[..] {
            ["frozen"] => Some(Self::Frozen),
            ["one"] => Some(Self::One),
            ["attention"] => Some(Self::Attention),
            ["many", tasks, first] => {
                number(tasks, 256).zip(number(first, blocks)).map(|(n, b)| Self::Many(n, b))
            }
            ["step"] => Some(Self::Step),
            ["step", from] => number(from, blocks).map(|block| Self::StepFrom { block, cached: false }),
            ["step", from, "cached"] => {
                number(from, blocks).map(|block| Self::StepFrom { block, cached: true })
            }
            _ => None,
        };
        found.ok_or_else(|| {
            format!(
                "`{text}`: expected a line `frozen`, `one`, `attention`, `many TASKS BLOCK`, `step`, `step BLOCK` or \
                 `step BLOCK cached`, with BLOCK up to {blocks}"
            )
        })
    }
}

/// A backbone with slices to send through it.
pub(super) struct Bench {
    backbone: Backbone,
    pixels: Tensor,
    /// Adapters by task, and trained ones with their optimiser by first block; made when first wanted.
    adapters: RefCell<HashMap<(usize, usize), Factors>>,
    trained: RefCell<HashMap<usize, Trained>>,
    prefixes: RefCell<HashMap<usize, HiddenStates>>,
}

const RANK: usize = 8;

/// An adapter's factors by name.
type Factors = HashMap<String, Tensor>;

/// Factors that are variables, and what steps them.
struct Trained {
    factors: Factors,
    optimiser: AdamW,
}

impl Bench {
    pub fn new(
        backbone: Backbone,
        slices: usize,
        size: usize,
        pixels: Option<&Path>,
    ) -> std::result::Result<Self, String> {
        let pixels = match pixels {
            Some(path) => {
                let at = |e: String| format!("{}: {e}", path.display());
                let all =
                    candle_core::safetensors::load(path, &Device::Cpu).map_err(|e| at(e.to_string()))?;
                all.get("pixels").cloned().ok_or_else(|| at("holds no tensor `pixels`".to_owned()))?
            }
            None => {
                Tensor::randn(0f32, 1.0, (slices, 3, size, size), &Device::Cpu).map_err(|e| e.to_string())?
            }
        };
        let pixels = pixels.to_device(backbone.device()).map_err(|e| e.to_string())?;
        let none = RefCell::default;
        Ok(Self {
            backbone,
            pixels,
            adapters: none(),
            trained: RefCell::default(),
            prefixes: RefCell::default(),
        })
    }

    /// `[S, 3, H, W]`, on its device.
    pub fn pixels(&self) -> &Tensor {
        &self.pixels
    }

    /// Bytes that are left on a device with separate memory.
    pub fn device_left(&self) -> Option<usize> {
        self.backbone.device_left()
    }

    pub fn blocks(&self) -> usize {
        self.backbone.info().blocks
    }

    /// Rows of the measures, whose repetitions take turns.
    pub fn in_turn(&self, measures: &[Measure], repetitions: usize) -> std::result::Result<Vec<Row>, String> {
        let mut wanted: Vec<&Measure> = Vec::new();
        measures.iter().for_each(|m| {
            if !wanted.contains(&m) {
                wanted.push(m)
            }
        });
        let mut times = vec![Vec::new(); wanted.len()];
        for repetition in 0..=repetitions {
            for (measure, times) in wanted.iter().zip(&mut times) {
                let spent = self.once(measure)?;
                // The first packs and allocates what the others find there.
                if repetition > 0 {
                    times.push(spent);
                }
            }
        }
        let slices = self.pixels.dims()[0] as f64;
        let of = |measure: &Measure| wanted.iter().position(|m| *m == measure).map(|i| &times[i]);
        Ok(wanted
            .iter()
            .zip(&times)
            .map(|(measure, times)| {
                let mut row = Row::of(&measure.name(), times);
                let against = match measure {
                    Measure::Many(..) => of(&Measure::One).map(|t| (t, "x one")),
                    Measure::StepFrom { block, cached: true } => {
                        of(&Measure::StepFrom { block: *block, cached: false })
                            .map(|t| (t, "of the step without"))
                    }
                    _ => None,
                };
                if let Some((base, text)) = against {
                    // Pairs that stood beside each other in time.
                    let ratios = sorted(times.iter().zip(base).map(|(a, b)| a.wall / b.wall));
                    (row.ratio, row.against) = (Some(median(&ratios)), Some(text.to_owned()));
                }
                (row.rate, row.unit) = (Some(slices / row.ms * 1e3), Some("slices/s"));
                row
            })
            .collect())
    }

    /// One repetition.
    pub fn once(&self, measure: &Measure) -> std::result::Result<Spent, String> {
        self.pass(measure).map_err(|e| e.to_string())
    }

    fn pass(&self, measure: &Measure) -> std::result::Result<Spent, Box<dyn std::error::Error>> {
        let (backbone, x) = (&self.backbone, &self.pixels);
        let timed =
            |work: &mut dyn FnMut() -> std::result::Result<(), anymc3d_host::backbone::BackboneError>| {
                let start = Moment::now();
                work()?;
                // A GPU answers before it is done.
                backbone.device().synchronize()?;
                Ok(start.spent())
            };
        match *measure {
            Measure::Frozen => timed(&mut || backbone.forward(x, &NoAdapter, false).map(drop)),
            Measure::One | Measure::Attention => {
                let task = self.adapter(0, 0)?;
                timed(&mut || backbone.forward(x, &task, *measure == Measure::Attention).map(drop))
            }
            Measure::Many(tasks, first) => {
                let all = (0..tasks).map(|i| self.adapter(i, first)).collect::<Result<Vec<_>>>()?;
                timed(&mut || {
                    if first == 0 {
                        return all.iter().try_for_each(|task| backbone.forward(x, task, false).map(drop));
                    }
                    let shared = backbone.hidden_states(x, first)?;
                    all.iter().try_for_each(|task| backbone.forward_from(&shared, task, false).map(drop))
                })
            }
            Measure::Step => self.step(0, false),
            Measure::StepFrom { block, cached } => self.step(block, cached),
        }
    }

    fn adapter(&self, task: usize, first: usize) -> Result<LoraWeights> {
        let mut all = self.adapters.borrow_mut();
        let factors = match all.entry((task, first)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(self.noise(first)?),
        };
        self.lora(factors)
    }

    fn lora(&self, tensors: &Factors) -> Result<LoraWeights> {
        LoraWeights::from_tensors(tensors, 2.0, self.backbone.info())
            .map_err(|e| candle_core::Error::Msg(e.to_string()))
    }

    fn noise(&self, first: usize) -> Result<Factors> {
        let shapes = lora_shapes(self.backbone.info(), RANK, first, false);
        shapes
            .into_iter()
            .map(|(name, shape)| Ok((name, Tensor::randn(0f32, 0.02, shape, self.backbone.device())?)))
            .collect()
    }

    fn trained(&self, first: usize) -> Result<Trained> {
        let mut trained = Trained { factors: HashMap::new(), optimiser: AdamW::default() };
        for (name, start) in self.noise(first)? {
            let variable = Var::from_tensor(&start)?;
            trained.optimiser.add(&name, variable.clone(), 1e-4, 1e-5);
            trained.factors.insert(name, variable.as_tensor().clone());
        }
        Ok(trained)
    }

    /// Forward, backward and AdamW; the loss is the mean square of the class tokens.
    fn step(&self, first: usize, cached: bool) -> std::result::Result<Spent, Box<dyn std::error::Error>> {
        let mut all = self.trained.borrow_mut();
        let Trained { factors, optimiser } = match all.entry(first) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(self.trained(first)?),
        };
        let mut prefixes = self.prefixes.borrow_mut();
        if let (true, Entry::Vacant(place)) = (cached, prefixes.entry(first)) {
            place.insert(self.backbone.hidden_states(&self.pixels, first)?);
        }
        let start = Moment::now();
        let lora = self.lora(factors)?;
        let features = match prefixes.get(&first).filter(|_| cached) {
            Some(hidden) => self.backbone.forward_from(hidden, &lora as &dyn SiteAdapter, false)?,
            None => self.backbone.forward(&self.pixels, &lora, false)?,
        };
        let gradients = features.class_tokens.sqr()?.mean_all()?.backward()?;
        optimiser.step(&gradients, 1.0)?;
        self.backbone.device().synchronize()?;
        Ok(start.spent())
    }
}

/// Every kernel of a block, interleaved with the limit.
pub(super) fn kernels(precision: Precision, size: usize, repetitions: usize) -> Vec<Row> {
    // Candle's own operations have no kernels.
    let Ok(Kernels::Fast(isa)) = Kernels::detect() else { return Vec::new() };
    let tokens = 1 + (size / 14).pow(2);
    let mut all = vec![bench::limit(isa, precision)];
    all.extend(bench::kernels(isa, precision, tokens, 384, 64));
    let mut times = vec![Vec::new(); all.len()];
    for _ in 0..repetitions {
        for (kernel, times) in all.iter_mut().zip(&mut times) {
            times.push(kernel.time(2.0));
        }
    }
    let limit = all[0].operations / median(&sorted(times[0].iter().copied()));
    all.iter()
        .zip(times)
        .map(|(kernel, times)| {
            let spent: Vec<Spent> =
                times.iter().map(|&ms| Spent { wall: ms, process: ms, thread: ms }).collect();
            let mut row = Row::of(&kernel.name, &spent);
            if kernel.operations > 0.0 {
                let rate = kernel.operations / row.ms;
                (row.rate, row.unit) = (Some(rate / 1e6), Some("GFLOP/s"));
                (row.ratio, row.against) = (Some(rate / limit), Some("of the limit".to_owned()));
            } else {
                (row.rate, row.unit) = (Some(kernel.bytes / row.ms / 1e6), Some("GB/s"));
            }
            row
        })
        .collect()
}
