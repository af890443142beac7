//! The JSON files of a Hugging Face folder: typed access to `config.json`, and the pixels' mean and deviation.

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
            None => default.ok_or_else(|| self.error(format!("\"{key}\" is missing"))),
            Some(value) => value
                .as_u64()
                .map(|n| n as usize)
                .ok_or_else(|| self.error(format!("\"{key}\" is {value}, expected a whole number"))),
        }
    }

    /// Refuses dimensions that no vision transformer has.
    pub fn check_dimensions(
        &self,
        embed_dim: usize,
        blocks: usize,
        heads: usize,
        patch_size: usize,
    ) -> Result<(), BackboneError> {
        if embed_dim == 0 || blocks == 0 || heads == 0 || patch_size == 0 {
            return Err(self.error("a dimension is 0, expected at least 1"));
        }
        if !embed_dim.is_multiple_of(heads) {
            return Err(self.error(format!("hidden_size {embed_dim} does not divide into {heads} heads")));
        }
        if self.count("num_channels", Some(3))? != 3 {
            return Err(self.error("num_channels is not 3; slices are three-channel images"));
        }
        Ok(())
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
#[derive(Clone, Copy)]
pub(crate) struct PixelStatistics {
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

/// Those of ImageNet, which DINOv2 and DINOv3 were trained with.
pub(crate) const IMAGENET: PixelStatistics =
    PixelStatistics { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

impl PixelStatistics {
    /// Those of `preprocessor_config.json` in `dir`. `default` stands for what the file, where there is one, does not say.
    pub fn read(dir: &Path, default: Self) -> Result<Self, BackboneError> {
        let path = &dir.join("preprocessor_config.json");
        if !path.exists() {
            return Ok(default);
        }
        let json = read_json(path)?;
        let triple = |key: &str, default: [f32; 3]| -> Result<[f32; 3], BackboneError> {
            let Some(value) = json.get(key) else { return Ok(default) };
            let numbers: Vec<f32> = value
                .as_array()
                .map(|a| a.iter().filter_map(Value::as_f64).map(|x| x as f32).collect())
                .unwrap_or_default();
            numbers.try_into().map_err(|_| {
                BackboneError::config(path, format!("\"{key}\" is {value}, expected three numbers"))
            })
        };
        Ok(Self { mean: triple("image_mean", default.mean)?, std: triple("image_std", default.std)? })
    }
}
