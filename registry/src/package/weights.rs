//! What weights say of themselves, from the header of their safetensors file; no tensor is read.

use crate::error::{RegistryError, Result};
use serde::Deserialize;
use std::io::Read;
use std::path::Path;

/// Key of the header's metadata, as `host train` writes it.
const KEY: &str = "anymc3d.weights/1";
/// Headers are read into memory; the format itself allows 100 MB.
const HEADER_LIMIT: u64 = 16 << 20;

/// What a package must agree with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct WeightsFacts {
    /// Plugin they were trained with.
    pub plugin: String,
    /// Its version.
    pub plugin_version: String,
    /// Name of the backbone.
    pub backbone: String,
    /// Its fingerprint.
    pub backbone_fingerprint: String,
}

/// Reads a file's header.
///
/// # Errors
/// When the file cannot be read, is no safetensors file, or does not name its plugin and backbone.
pub fn read_weights(path: &Path) -> Result<WeightsFacts> {
    let mut file = std::fs::File::open(path).map_err(RegistryError::io(path, "cannot be read"))?;
    let total = file.metadata().map_err(RegistryError::io(path, "cannot be read"))?.len();
    let mut head = Vec::new();
    file.by_ref().take(8).read_to_end(&mut head).map_err(RegistryError::io(path, "cannot be read"))?;
    let length = header_length(&head, total).map_err(|e| RegistryError::form(path.display(), e))?;
    file.take(length).read_to_end(&mut head).map_err(RegistryError::io(path, "cannot be read"))?;
    facts(&head, total).map_err(|e| RegistryError::form(path.display(), e))
}

fn header_length(first: &[u8], total: u64) -> Result<u64, String> {
    let eight: [u8; 8] =
        first.try_into().map_err(|_| format!("{total} bytes; expected a safetensors file"))?;
    let length = u64::from_le_bytes(eight);
    if length > total.saturating_sub(8) || length > HEADER_LIMIT {
        return Err(format!("not a safetensors file (a header of {length} bytes in {total})"));
    }
    Ok(length)
}

/// From the first 8 + n bytes of a file of `total` bytes.
pub(crate) fn facts(head: &[u8], total: u64) -> Result<WeightsFacts, String> {
    let length = header_length(head.get(..8).unwrap_or(head), total)?;
    let json = usize::try_from(length).ok().and_then(|n| head.get(8..)?.get(..n));
    let json = json.ok_or("not a safetensors file (its header is cut off)")?;
    let header: safetensors::tensor::Metadata =
        serde_json::from_slice(json).map_err(|e| format!("not a safetensors file ({e})"))?;
    let needed = header.data_len() as u64;
    if needed != total - 8 - length {
        return Err(format!("{} bytes of tensors, its header speaks of {needed}", total - 8 - length));
    }
    let text = header.metadata().as_ref().and_then(|m| m.get(KEY));
    let text =
        text.ok_or_else(|| format!("no `{KEY}` in its metadata; expected weights written by `host train`"))?;
    serde_json::from_str(text).map_err(|e| format!("metadata `{KEY}`: {e}"))
}
