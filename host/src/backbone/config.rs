//! `config.json` of a Hugging Face folder: which family, which dimensions, which preprocessing.

use super::error::BackboneError;
use serde_json::Value;
use std::path::Path;

/// The values of `model_type` that [`Config::read`] accepts.
pub(crate) const FAMILIES: [&str; 2] = ["dinov2", "dinov2_with_registers"];

const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub embed_dim: usize,
    pub blocks: usize,
    pub heads: usize,
    pub patch_size: usize,
    pub registers: usize,
    pub norm_eps: f64,
    pub qkv_bias: bool,
    pub swiglu: bool,
    /// transformers interpolates the positions of the model with registers with antialiasing.
    pub antialias: bool,
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

impl Config {
    /// Reads `config.json`, and `preprocessor_config.json` where there is one (ImageNet's mean and std otherwise).
    pub fn read(dir: &Path) -> Result<Self, BackboneError> {
        let path = dir.join("config.json");
        let json = read_json(&path)?;
        let model_type = json.get("model_type").and_then(Value::as_str).unwrap_or("(none)");
        if !FAMILIES.contains(&model_type) {
            let (found, known) = (model_type.to_string(), FAMILIES.to_vec());
            return Err(BackboneError::UnknownFamily { path, found, known });
        }
        let with_registers = model_type == "dinov2_with_registers";
        let count = |key: &str, default: Option<usize>| match json.get(key) {
            None => default.ok_or_else(|| BackboneError::config(&path, format!("\"{key}\" is missing"))),
            Some(value) => value.as_u64().map(|n| n as usize).ok_or_else(|| {
                BackboneError::config(&path, format!("\"{key}\" is {value}, expected a whole number"))
            }),
        };
        let act = json.get("hidden_act").and_then(Value::as_str).unwrap_or("gelu");
        if act != "gelu" {
            return Err(BackboneError::config(&path, format!("hidden_act is \"{act}\", expected \"gelu\"")));
        }
        let (mean, std) = read_preprocessing(&dir.join("preprocessor_config.json"))?;
        let config = Self {
            embed_dim: count("hidden_size", None)?,
            blocks: count("num_hidden_layers", None)?,
            heads: count("num_attention_heads", None)?,
            patch_size: count("patch_size", Some(14))?,
            registers: if with_registers { count("num_register_tokens", Some(4))? } else { 0 },
            norm_eps: json.get("layer_norm_eps").and_then(Value::as_f64).unwrap_or(1e-6),
            qkv_bias: json.get("qkv_bias").and_then(Value::as_bool).unwrap_or(true),
            swiglu: json.get("use_swiglu_ffn").and_then(Value::as_bool).unwrap_or(false),
            antialias: with_registers,
            mean,
            std,
        };
        if config.embed_dim == 0 || config.blocks == 0 || config.heads == 0 || config.patch_size == 0 {
            return Err(BackboneError::config(&path, "a dimension is 0, expected at least 1"));
        }
        if !config.embed_dim.is_multiple_of(config.heads) {
            let (d, h) = (config.embed_dim, config.heads);
            return Err(BackboneError::config(
                &path,
                format!("hidden_size {d} does not divide into {h} heads"),
            ));
        }
        if count("num_channels", Some(3))? != 3 {
            return Err(BackboneError::config(
                &path,
                "num_channels is not 3; slices are three-channel images",
            ));
        }
        Ok(config)
    }
}

pub(crate) fn read_json(path: &Path) -> Result<Value, BackboneError> {
    let text = std::fs::read_to_string(path).map_err(BackboneError::io(path))?;
    serde_json::from_str(&text).map_err(|e| BackboneError::config(path, format!("not valid JSON: {e}")))
}

fn read_preprocessing(path: &Path) -> Result<([f32; 3], [f32; 3]), BackboneError> {
    if !path.exists() {
        return Ok((IMAGENET_MEAN, IMAGENET_STD));
    }
    let json = read_json(path)?;
    let triple = |key: &str, default: [f32; 3]| -> Result<[f32; 3], BackboneError> {
        let Some(value) = json.get(key) else { return Ok(default) };
        let numbers: Vec<f32> = value
            .as_array()
            .map(|a| a.iter().filter_map(Value::as_f64).map(|x| x as f32).collect())
            .unwrap_or_default();
        numbers
            .try_into()
            .map_err(|_| BackboneError::config(path, format!("\"{key}\" is {value}, expected three numbers")))
    };
    Ok((triple("image_mean", IMAGENET_MEAN)?, triple("image_std", IMAGENET_STD)?))
}
