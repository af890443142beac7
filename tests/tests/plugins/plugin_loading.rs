//! Loading plugins as built libraries: what is read, what is refused, and what a bad one cannot do to the host.

mod bad_files;
mod counts;
mod misbehaviour;
mod other_layouts;
mod several;
mod weights;

use anymc3d_host::plugin::{Library, ParameterSource, PluginError, load};
use anymc3d_host::task::{HeadAnswer, Task, TaskError, TaskOptions, ViewTokens};
use anymc3d_plugin_api::BackboneInfo;
use anymc3d_tests::support;
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::path::Path;

fn backbone(embed_dim: usize, blocks: usize, patch_size: usize) -> BackboneInfo {
    BackboneInfo::new("dinov2", embed_dim, blocks, embed_dim / 64, patch_size)
}

fn drawn(seed: u64) -> ParameterSource {
    ParameterSource::Training { seed, start: BTreeMap::new() }
}

fn opened(path: &Path) -> Library {
    load(path).unwrap_or_else(|e| panic!("{e}"))
}

fn refused(path: &Path) -> String {
    match load(path) {
        Ok(_) => panic!("{} was loaded", path.display()),
        Err(e) => e.to_string(),
    }
}

fn built(library: &Library, source: ParameterSource) -> Result<Task, PluginError> {
    let (backbone, options) = (backbone(384, 12, 14), TaskOptions::default());
    Task::build(library, &backbone, source, DType::F32, &Device::Cpu, &options)
}

/// The head's answer on one view of five slices with fixed tokens.
fn answer(task: &Task) -> Result<HeadAnswer, TaskError> {
    let values: Vec<f32> = (0..5 * 384).map(|i| ((i * 37 % 101) as f32 - 50.0) / 25.0).collect();
    let class_tokens = Tensor::from_vec(values, (5, 384), &Device::Cpu).unwrap();
    let patch_tokens = Tensor::zeros((5, 4, 384), DType::F32, &Device::Cpu).unwrap();
    let name = task.manifest().views[0].name.as_str();
    task.head(&[ViewTokens {
        name,
        class_tokens: &class_tokens,
        patch_tokens: &patch_tokens,
        grid: (2, 2),
        geometry: None,
        mask: Default::default(),
    }])
}

fn logits(task: &Task) -> Vec<f32> {
    answer(task).unwrap_or_else(|e| panic!("{e}")).logits.to_vec1().unwrap()
}
