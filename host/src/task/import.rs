//! Weights of a task from what was trained elsewhere: an adapter of low-rank terms, and a head by the plugin's names.

use super::adapter::{LoraPair, TaskAdapter};
use super::loaded::{LoadedTask, as_plugins_see};
use super::task::{Task, TaskOptions};
use super::variant::{AdapterChoice, Variant};
use super::weights::{TrainedFor, Weights, WeightsInfo};
use crate::backbone::{Backbone, BackboneInfo, LoraWeights, LowRank, PeftNames, Site, SiteSpec, write_peft};
use crate::fs::write_atomically;
use crate::plugin::{Library, ParameterSource, PluginError};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Adapter and head as a plugin's weights: tensors by the plugin's names, and what they say of themselves.
///
/// Every site from the first adapted block on gets terms of one rank; a site that the adapter leaves alone gets zeros, which
/// compute the same. Rank, alpha and first block are recorded as the weights' variant, so that the plugin is built with them.
/// `head` has the plugin's own names (`head.weight`), or these without `head.`; without any tensor of a head the weights are a
/// start for training and no task.
///
/// # Errors
/// What is missing, too much or of another shape, each by its name; an adapter at a site that the plugin's adapter does not
/// have; terms with different scales.
pub fn import_lora(
    library: &Library,
    backbone: &Backbone,
    lora: &LoraWeights,
    head: &BTreeMap<String, Tensor>,
) -> Result<(BTreeMap<String, Tensor>, WeightsInfo), PluginError> {
    let manifest = &library.embedded.manifest;
    let (name, info) = (&manifest.plugin.name, backbone.info());
    let refuse = |reason: String| PluginError::Backbone { name: name.clone(), reason };
    let broken = |e: candle_core::Error| refuse(crate::device::one_line(&e));
    let (sites, variant) = sites(lora, backbone).map_err(refuse)?;
    let prefixes: Vec<String> = match manifest.views.as_slice() {
        [_] => vec!["adapter".to_owned()],
        several => several.iter().map(|view| format!("adapter.{}", view.name)).collect(),
    };
    // What the plugin asks for, with this variant: with its decoder, and what a prediction needs without.
    let seen = as_plugins_see(info);
    let build = |segmentation: bool| {
        let source = ParameterSource::Training { seed: 0, start: BTreeMap::new() };
        let options = TaskOptions { segmentation, variant: variant.clone() };
        Task::build(library, &seen, source, DType::F32, &Device::Cpu, &options)
    };
    let task = build(true)?;
    let (asked, needed) = (task.parameters(), build(false)?.parameters());
    let wrong_kind = task.adapters().iter().any(|a| !matches!(a, TaskAdapter::Lora { .. }));
    if wrong_kind && !sites.is_empty() {
        return Err(refuse("its adapter has no low-rank terms".to_owned()));
    }
    let (mut tensors, mut problems) = (BTreeMap::new(), Vec::new());
    for prefix in &prefixes {
        for (site, factors) in &sites {
            for (factor, tensor) in [("lora_A", &factors.0), ("lora_B", &factors.1)] {
                let full = format!("{prefix}.{}.{factor}", site.name());
                match asked.get(&full) {
                    Some(_) => drop(tensors.insert(full, tensor.clone())),
                    None if is_zero(tensor).map_err(broken)? => {}
                    None if factor == "lora_A" => {}
                    None => problems.push(format!("its adapter does not reach {}", site.name())),
                }
            }
        }
    }
    for (given, tensor) in head {
        let full = if asked.contains_key(given) { given.clone() } else { format!("head.{given}") };
        match asked.get(&full).map(|p| p.tensor().dims().to_vec()) {
            _ if full.starts_with("adapter.") => problems.push(format!("`{given}` belongs to the adapter")),
            Some(dims) if dims == tensor.dims() => {
                let plain = tensor.to_device(&Device::Cpu).and_then(|t| t.to_dtype(DType::F32)?.contiguous());
                tensors.insert(full, plain.map_err(broken)?);
            }
            Some(dims) => problems.push(format!("`{given}` is {:?}, expected {dims:?}", tensor.dims())),
            None => problems.push(format!("`{given}` is no parameter of it")),
        }
    }
    let wanted: Vec<&String> = needed.keys().filter(|n| !n.starts_with("adapter.")).collect();
    if !head.is_empty() {
        let missing = wanted.iter().filter(|n| !tensors.contains_key(**n));
        problems.extend(missing.map(|n| format!("`{n}` {:?} is missing", asked[*n].tensor().dims())));
    }
    if !problems.is_empty() {
        let names: Vec<String> =
            wanted.iter().map(|n| format!("{n} {:?}", asked[*n].tensor().dims())).collect();
        let (problems, names) = (problems.join("; "), names.join(", "));
        return Err(refuse(format!(
            "what was trained elsewhere does not fit: {problems}; its head has {names}"
        )));
    }
    let info = WeightsInfo {
        plugin: name.clone(),
        plugin_version: manifest.plugin.version.to_string(),
        backbone: info.name.clone(),
        backbone_fingerprint: info.fingerprint.clone(),
        variant,
        trained_for: Some(TrainedFor::of(manifest)),
        training: serde_json::json!({ "imported": "adapter of peft" }),
        ..WeightsInfo::default()
    };
    Ok((tensors, info))
}

fn is_zero(tensor: &Tensor) -> candle_core::Result<bool> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?.iter().all(|v| *v == 0.0))
}

/// The factors of one site: A `[r, d_in]`, B `[d_out, r]`.
type Factors = (Tensor, Tensor);

/// Terms of one rank at every site from the first adapted block on, and the variant that builds them.
fn sites(lora: &LoraWeights, backbone: &Backbone) -> Result<(Vec<(Site, Factors)>, Variant), String> {
    let terms: BTreeMap<String, _> = lora.terms().map(|(site, term)| (site.name(), (site, term))).collect();
    let Some((_, first)) = terms.values().next() else {
        return Ok((Vec::new(), Variant { adapter: Some(AdapterChoice::None), ..Variant::default() }));
    };
    let scale = first.scale;
    if let Some((name, _)) = terms.iter().find(|(_, (_, term))| term.scale != scale) {
        return Err(format!("{name} has another scale than the other sites"));
    }
    let one_line = |e: candle_core::Error| crate::device::one_line(&e);
    let ranks = terms.values().map(|(_, term)| term.a.dim(0)).collect::<candle_core::Result<Vec<_>>>();
    let rank = ranks.map_err(one_line)?.into_iter().max().unwrap_or(0);
    // The patch embedding comes before block 0.
    let first_block = terms.values().map(|(site, _)| site.block().unwrap_or(0)).min().unwrap_or(0);
    let padded = |t: &Tensor, axis: usize| -> candle_core::Result<Tensor> {
        let t = t.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        t.pad_with_zeros(axis, 0, rank - t.dim(axis)?)?.contiguous()
    };
    let mut all = Vec::new();
    for spec in backbone.info().sites() {
        let reached = match spec.site.block() {
            None => first_block == 0,
            Some(block) => block >= first_block,
        };
        if !reached {
            continue;
        }
        let factors = match terms.get(&spec.site.name()) {
            Some((_, term)) => padded(&term.a, 0).and_then(|a| Ok((a, padded(&term.b, 1)?))),
            None => {
                let zeros = |r, c| Tensor::zeros((r, c), DType::F32, &Device::Cpu);
                zeros(rank, spec.d_in).and_then(|a| Ok((a, zeros(spec.d_out, rank)?)))
            }
        };
        all.push((spec.site, factors.map_err(one_line)?));
    }
    let variant = Variant {
        adapter: Some(AdapterChoice::Lora),
        rank: Some(rank),
        alpha: Some(scale * rank as f64),
        first_block: Some(first_block),
        ..Variant::default()
    };
    Ok((all, variant))
}

/// Writes a task's adapter as folders of peft, one per view where there are several (`DIR/VIEW`), and what its weights hold
/// besides as `DIR/head.safetensors`, by the plugin's names; the paths of all of them. The reverse of [`import_lora`].
///
/// # Errors
/// When the adapter has no low-rank terms, the backbone's modules have no names in PyTorch, or a file cannot be written.
pub fn export_lora(
    loaded: &LoadedTask,
    backbone: &BackboneInfo,
    dir: &Path,
    names: PeftNames,
) -> Result<Vec<PathBuf>, PluginError> {
    let refuse = |reason: String| PluginError::Backbone { name: loaded.name().to_owned(), reason };
    let views = &loaded.task.manifest().views;
    let mut written = Vec::new();
    for (view, adapter) in views.iter().zip(loaded.task.adapters()) {
        let TaskAdapter::Lora { lora, pairs } = adapter else {
            return Err(refuse("its adapter has no low-rank terms".to_owned()));
        };
        let term = |spec: SiteSpec| {
            let LoraPair { a, b } = pairs.get(&spec.site.name())?;
            let (a, b, scale) = (a.clone(), b.clone(), lora.alpha / lora.rank as f64);
            Some((spec.site, LowRank { a, b, scale }))
        };
        let terms: Vec<(Site, LowRank)> = backbone.sites().into_iter().filter_map(term).collect();
        let folder = if views.len() > 1 { dir.join(&view.name) } else { dir.to_owned() };
        let all = terms.iter().map(|(site, term)| (*site, term));
        write_peft(&folder, backbone, all, names).map_err(|e| refuse(e.to_string()))?;
        written.push(folder);
    }
    let path = dir.join("head.safetensors");
    let tensors = Weights::open(&loaded.weights)?.tensors;
    let head = tensors.iter().filter(|(name, _)| !name.starts_with("adapter."));
    let bytes = safetensors::serialize(head.map(|(name, t)| (name.as_str(), t)), None)
        .map_err(|e| refuse(e.to_string()))?;
    let io = |source| PluginError::Io { path: path.clone(), what: "cannot be written", source };
    write_atomically(&path, &bytes).map_err(io)?;
    written.push(path);
    Ok(written)
}
