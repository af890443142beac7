//! Weights from PyTorch and to PyTorch.

use crate::backbone::Backbone;
use crate::errors;
use anymc3d_host::backbone::{LoraWeights, PeftNames, load_peft};
use anymc3d_host::plugin::ParameterSource;
use anymc3d_host::task::{
    LoadedTask, Task, TaskOptions, as_plugins_see, export_lora, import_lora, open_library, weights,
};
use candle_core::{DType, Device};
use pyo3::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Writes a folder of peft and a head as weights of a plugin.
#[pyfunction]
pub fn import_peft(
    py: Python<'_>,
    plugin: &str,
    backbone: &Backbone,
    peft: Option<PathBuf>,
    head: Option<PathBuf>,
    out: PathBuf,
    intended_use: Option<String>,
) -> PyResult<()> {
    let shared = backbone.shared.clone();
    py.detach(|| {
        let library = open_library(plugin).map_err(errors::of("PluginError"))?;
        let lora = match peft {
            Some(dir) => load_peft(&dir, shared.info()).map_err(errors::of("WeightsError"))?,
            None => LoraWeights::default(),
        };
        let head: BTreeMap<_, _> = match &head {
            Some(file) => candle_core::safetensors::load(file, &Device::Cpu)
                .map_err(|e| {
                    let reason = anymc3d_host::device::one_line(&e);
                    errors::raised("WeightsError", format!("{}: {reason}", file.display()))
                })?
                .into_iter()
                .collect(),
            None => BTreeMap::new(),
        };
        let imported = import_lora(&library, &shared, &lora, &head);
        let (tensors, mut info) = imported.map_err(errors::of("WeightsError"))?;
        info.intended_use = intended_use;
        weights::write(&out, &tensors, &info).map_err(errors::of("WeightsError"))
    })
}

/// Writes a task's adapter as folders of peft, and its head; their paths.
#[pyfunction]
pub fn export_peft(
    py: Python<'_>,
    plugin: &str,
    backbone: &Backbone,
    weights: Option<PathBuf>,
    out: PathBuf,
    transformers: u32,
) -> PyResult<Vec<PathBuf>> {
    let names = match transformers {
        0..=4 => PeftNames::Transformers4,
        _ => PeftNames::Transformers5,
    };
    let shared = backbone.shared.clone();
    py.detach(|| {
        let task = LoadedTask::open(plugin, weights.as_deref(), &*shared);
        let task = task.map_err(errors::of("PluginError"))?;
        export_lora(&task, shared.info(), &out, names).map_err(errors::of("WeightsError"))
    })
}

/// Names and shapes of a plugin's parameters on a backbone.
#[pyfunction]
pub fn parameters(
    py: Python<'_>,
    plugin: &str,
    backbone: &Backbone,
) -> PyResult<BTreeMap<String, Vec<usize>>> {
    let shared = backbone.shared.clone();
    py.detach(|| {
        let library = open_library(plugin).map_err(errors::of("PluginError"))?;
        let source = ParameterSource::Training { seed: 0, start: BTreeMap::new() };
        let options = TaskOptions { segmentation: true, ..TaskOptions::default() };
        let seen = as_plugins_see(shared.info());
        let task = Task::build(&library, &seen, source, DType::F32, &Device::Cpu, &options);
        let all = task.map_err(errors::of("PluginError"))?.parameters();
        Ok(all.into_iter().map(|(name, p)| (name, p.tensor().dims().to_vec())).collect())
    })
}
