//! The JSON files of a Hugging Face folder: typed access to `config.json`, and the pixels' mean and deviation.

use super::activation::Activation;
use super::error::BackboneError;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// `config.json` of a model. Each family takes its own keys from it.
pub(crate) struct ConfigFile {
    path: PathBuf,
    json: Value,
}

impl ConfigFile {
    /// Reads `config.json` in `dir`.
    pub fn read(dir: &Path) -> Result<Self, BackboneError> {
        let path = dir.join("config.json");
        let json = read_json(&path)?;
        Ok(Self { path, json })
    }

    /// The vision tower's part of a model of images and text; a vision model's own file as it is.
    pub fn vision(self) -> Self {
        match self.json.get("vision_config") {
            Some(part) if part.is_object() => Self { json: part.clone(), path: self.path },
            _ => self,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The family's name; `(none)` where the file has none.
    pub fn model_type(&self) -> &str {
        self.text("model_type").unwrap_or("(none)")
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.json.get(key).and_then(Value::as_str)
    }

    pub fn flag(&self, key: &str, default: bool) -> bool {
        self.json.get(key).and_then(Value::as_bool).unwrap_or(default)
    }

    pub fn number(&self, key: &str, default: f64) -> f64 {
        self.json.get(key).and_then(Value::as_f64).unwrap_or(default)
    }

    /// A whole number. Without a default the key must be there.
    pub fn count(&self, key: &str, default: Option<usize>) -> Result<usize, BackboneError> {
        match self.json.get(key) {
            None | Some(Value::Null) => default.ok_or_else(|| self.error(format!("\"{key}\" is missing"))),
            Some(value) => whole_number(value)
                .ok_or_else(|| self.error(format!("\"{key}\" is {value}, expected a whole number"))),
        }
    }

    /// Refuses dimensions that no vision transformer has. The number of its image channels, 1 or 3.
    pub fn check_dimensions(
        &self,
        embed_dim: usize,
        blocks: usize,
        heads: usize,
        patch_size: usize,
    ) -> Result<usize, BackboneError> {
        if embed_dim == 0 || blocks == 0 || heads == 0 || patch_size == 0 {
            return Err(self.error("a dimension is 0, expected at least 1"));
        }
        if !embed_dim.is_multiple_of(heads) {
            return Err(self.error(format!("hidden_size {embed_dim} does not divide into {heads} heads")));
        }
        match self.count("num_channels", Some(3))? {
            channels @ (1 | 3) => Ok(channels),
            other => Err(self.error(format!("num_channels is {other}, expected 1 or 3"))),
        }
    }

    /// The MLP's activation.
    pub fn activation(&self, default: Activation) -> Result<Activation, BackboneError> {
        let Some(name) = self.text("hidden_act") else { return Ok(default) };
        Activation::named(name).ok_or_else(|| {
            let known = "\"gelu\", \"gelu_pytorch_tanh\", \"quick_gelu\" or \"silu\"";
            self.error(format!("hidden_act is \"{name}\", expected {known}"))
        })
    }

    /// An object inside it.
    pub fn part(&self, key: &str) -> Option<Self> {
        let json = self.json.get(key).filter(|v| v.is_object())?.clone();
        Some(Self { path: self.path.clone(), json })
    }

    pub fn error(&self, message: impl Into<String>) -> BackboneError {
        BackboneError::config(&self.path, message)
    }
}

pub(crate) fn read_json(path: &Path) -> Result<Value, BackboneError> {
    let text = std::fs::read_to_string(path).map_err(BackboneError::io(path))?;
    serde_json::from_str(&text).map_err(|e| BackboneError::config(path, format!("not valid JSON: {e}")))
}

/// Mean and deviation per channel that a model's pixels are normalised with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PixelStatistics {
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

/// What a file says of them: its name, the object inside it, and the keys of mean and deviation.
type StatisticsSource = (&'static str, Option<&'static str>, [&'static str; 2]);

/// Where a folder may say them, the first first: transformers up to 4 and from 5 on, timm, open_clip.
const SOURCES: [StatisticsSource; 4] = [
    ("preprocessor_config.json", None, ["image_mean", "image_std"]),
    ("processor_config.json", Some("image_processor"), ["image_mean", "image_std"]),
    ("config.json", Some("pretrained_cfg"), ["mean", "std"]),
    ("open_clip_config.json", Some("preprocess_cfg"), ["mean", "std"]),
];

impl PixelStatistics {
    /// Those that a file of `dir` gives; a single number stands for every channel.
    ///
    /// # Errors
    /// Where no file gives them: the defaults of transformers' classes are not those of the published models.
    pub fn read(dir: &Path) -> Result<Self, BackboneError> {
        for (name, part, [mean, std]) in SOURCES {
            let path = &dir.join(name);
            if !path.exists() {
                continue;
            }
            let whole = read_json(path)?;
            let Some(json) = part.map_or(Some(&whole), |part| whole.get(part)) else { continue };
            if json.get("do_normalize").and_then(Value::as_bool) == Some(false) {
                return Ok(Self { mean: [0.0; 3], std: [1.0; 3] });
            }
            let factor = json.get("rescale_factor").and_then(Value::as_f64).unwrap_or(1.0 / 255.0);
            if (factor * 255.0 - 1.0).abs() > 1e-6 {
                let message = format!("\"rescale_factor\" is {factor}, expected 1/255");
                return Err(BackboneError::config(path, message));
            }
            if let (Some(mean), Some(std)) = (triple(path, json, mean)?, triple(path, json, std)?) {
                if std.iter().any(|s| *s <= 0.0) {
                    return Err(BackboneError::config(
                        path,
                        format!("a deviation of {std:?} is not positive"),
                    ));
                }
                return Ok(Self { mean, std });
            }
        }
        let message = "image_mean and image_std are given by no file of this folder; put the model's own preprocessor_config.json there: a guess would shift every pixel";
        Err(BackboneError::config(&dir.join("preprocessor_config.json"), message))
    }
}

/// Three numbers, or one for all channels; `None` where the file does not have them.
fn triple(path: &Path, json: &Value, key: &str) -> Result<Option<[f32; 3]>, BackboneError> {
    let Some(value) = json.get(key).filter(|v| !v.is_null()) else { return Ok(None) };
    let single = std::slice::from_ref(value);
    let list = value.as_array().map_or(single, Vec::as_slice);
    let numbers: Vec<f32> = list.iter().filter_map(Value::as_f64).map(|x| x as f32).collect();
    match *numbers.as_slice() {
        [one] if list.len() == 1 => Ok(Some([one; 3])),
        [a, b, c] if list.len() == 3 => Ok(Some([a, b, c])),
        _ => Err(BackboneError::config(path, format!("\"{key}\" is {value}, expected three numbers or one"))),
    }
}

/// A whole number, or a list of equal ones: sides of a square may be written apart.
fn whole_number(value: &Value) -> Option<usize> {
    let of = |v: &Value| v.as_u64().map(|n| n as usize);
    match value.as_array().map(Vec::as_slice) {
        Some([first, rest @ ..]) if rest.iter().all(|v| v == first) => of(first),
        _ => of(value),
    }
}
