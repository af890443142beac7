//! Milliseconds per slice, plain and fast. One run compares; absolute times drift with the machine, and
//! on a shared one the processor's own time (in brackets, divided by the threads) is what can be compared.

use super::{Isa, Kernels};
use crate::backbone::{Backbone, BackboneError, LoraWeights, NoAdapter, Precision, lora_shapes};
use candle_core::{DType, Device, Tensor, Var};
use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

/// Prints a line per engine: forward passes at 224 px, and a training step at 168 px that continues from
/// a cached prefix of half the blocks, with LoRA (rank 8) in the other half. `plain` adds candle as it comes.
pub fn run(dir: &Path, plain: bool) -> Result<(), BackboneError> {
    let fastest = Isa::available().last().copied().map(Kernels::Fast);
    let engines = [
        ("plain f32", plain.then_some(Kernels::Plain), Precision::F32),
        ("fast f32", fastest, Precision::F32),
        ("fast bf16", fastest, Precision::Bf16),
    ];
    let pixels = |s: usize, side: usize| Tensor::randn(0f32, 1.0, (s, 3, side, side), &Device::Cpu);
    println!(
        "{:10} {:>16} {:>16} {:>20}",
        "ms / slice", "forward 8 x 224", "forward 32 x 224", "training 32 x 168"
    );
    for (name, kernels, precision) in engines {
        let Some(kernels) = kernels else { continue };
        let backbone = Backbone::open_with(dir, precision, kernels)?;
        let forward = |s: usize| -> Result<String, BackboneError> {
            let x = pixels(s, 224)?;
            best(3, s, || backbone.forward(&x, &NoAdapter, false).map(drop))
        };
        let (few, many) = (forward(8)?, forward(32)?);
        let half = backbone.info().blocks / 2;
        let hidden = backbone.prefix(&pixels(32, 168)?, half)?;
        let mut tensors = HashMap::new();
        for (name, shape) in lora_shapes(backbone.info(), 8, half, false) {
            tensors.insert(name, Var::randn(0f32, 0.02, shape, &Device::Cpu)?.as_tensor().clone());
        }
        let step = best(3, 32, || {
            let lora = LoraWeights::from_tensors(&tensors, 2.0, backbone.info())?;
            let features = backbone.forward_from(&hidden, &lora, false)?;
            features.class_tokens.sqr()?.mean_all()?.to_dtype(DType::F32)?.backward()?;
            Ok(())
        })?;
        println!("{name:10} {few:>16} {many:>16} {step:>20}");
    }
    Ok(())
}

/// The best of a few runs after a first one that packs what is packed lazily.
fn best(
    runs: usize,
    slices: usize,
    mut f: impl FnMut() -> Result<(), BackboneError>,
) -> Result<String, BackboneError> {
    f()?;
    let (mut wall, mut busy) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..runs {
        let (start, before) = (Instant::now(), processor_ms());
        f()?;
        wall = wall.min(start.elapsed().as_secs_f64() * 1000.0);
        busy = busy.min(processor_ms() - before);
    }
    let (per_slice, threads) = (slices as f64, rayon::current_num_threads() as f64);
    Ok(format!("{:.1} [{:.1}]", wall / per_slice, busy / per_slice / threads))
}

/// This process's time on the processors, in steps of 10 ms; 0 where the system does not tell.
fn processor_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name in brackets: user and system time are the 12th and 13th fields.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() * 10.0
}
