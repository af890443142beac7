//! Safetensors files of a checkpoint, single or sharded: digests, and tensors by name.
//!
//! Tensors are read one at a time by seeking, so that opening a large model never holds a file
//! and its decoded weights at once. The files stay open: a block that is read again comes from the file that was hashed, also where
//! another was renamed over it. Missing names are collected, to be reported together.

use super::config::read_json;
use super::error::BackboneError;
use candle_core::{Device, Tensor};
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::vec::HalfBitsVecExt;
use half::{bf16, f16};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// An open file of the checkpoint.
struct Shard {
    path: PathBuf,
    file: Mutex<File>,
}

struct Entry {
    shard: usize,
    dtype: String,
    shape: Vec<usize>,
    start: u64,
    bytes: usize,
}

/// The tensors of one checkpoint.
pub(crate) struct Weights {
    shards: Arc<Vec<Shard>>,
    entries: Arc<HashMap<String, Entry>>,
    missing: Vec<String>,
    taken: HashSet<String>,
    /// Whether tensors are only checked: they stand as zeros.
    checking: bool,
    /// Whether matrices stay in the numbers of the file.
    as_stored: bool,
}

impl Weights {
    /// Opens `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    pub fn open(dir: &Path) -> Result<Self, BackboneError> {
        let single = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        if !single.exists() && !index.exists() {
            refuse_pickles(dir)?;
        }
        let shards = if single.exists() || !index.exists() { vec![single] } else { shards_of(dir, &index)? };
        Self::from_files(shards)
    }

    pub fn from_files(paths: Vec<PathBuf>) -> Result<Self, BackboneError> {
        let (mut entries, mut shards) = (HashMap::new(), Vec::new());
        for (i, path) in paths.into_iter().enumerate() {
            let mut file = File::open(&path).map_err(BackboneError::io(&path))?;
            read_header(&path, &mut file, i, &mut entries)?;
            shards.push(Shard { path, file: Mutex::new(file) });
        }
        Ok(Self::of(Arc::new(shards), Arc::new(entries)))
    }

    fn of(shards: Arc<Vec<Shard>>, entries: Arc<HashMap<String, Entry>>) -> Self {
        Self {
            shards,
            entries,
            missing: Vec::new(),
            taken: HashSet::new(),
            checking: false,
            as_stored: false,
        }
    }

    /// The same files, to be read again later.
    pub fn again(&self) -> Self {
        Self::of(self.shards.clone(), self.entries.clone())
    }

    /// Checks the tensors that `take` takes without reading them: they stand as zeros in what it returns.
    pub fn checked<T>(&mut self, take: impl FnOnce(&mut Self) -> T) -> T {
        self.checking = true;
        let taken = take(self);
        self.checking = false;
        taken
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// What stands before `name` in the checkpoint: that of a model with a task head puts a prefix before the backbone's names.
    pub fn root_of(&self, name: &str) -> String {
        let found = self.names().filter_map(|n| n.strip_suffix(name)).min_by_key(|root| root.len());
        found.unwrap_or_default().to_owned()
    }

    /// `prefix.name` of the first name whose weight the checkpoint has, else of the first.
    pub fn layer_of(&self, prefix: &str, names: &[&str]) -> String {
        let all = || names.iter().map(|name| format!("{prefix}.{name}"));
        let found = all().find(|name| self.contains(&format!("{name}.weight")));
        found.or_else(|| all().next()).unwrap_or_default()
    }

    fn path(&self) -> &Path {
        self.shards.first().map_or(Path::new(""), |shard| &shard.path)
    }

    /// An error of the first file.
    pub fn error(&self, message: impl Into<String>) -> BackboneError {
        BackboneError::weights(self.path(), message)
    }

    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|e| e.shape.as_slice())
    }

    /// The digest over all shards, one after the other in the order of their names.
    pub fn sha256(&self) -> Result<String, BackboneError> {
        let mut hash = Sha256::new();
        let mut buffer = vec![0u8; 1 << 20];
        for shard in self.shards.iter() {
            let mut file = shard.file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(0)).map_err(BackboneError::io(&shard.path))?;
            loop {
                let n = file.read(&mut buffer).map_err(BackboneError::io(&shard.path))?;
                if n == 0 {
                    break;
                }
                hash.update(&buffer[..n]);
            }
        }
        Ok(hex(&hash.finalize()))
    }

    /// The tensor as f32. A missing one is noted for [`Self::finish`] and stands as zeros until then.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, BackboneError> {
        self.take_as(name, shape, false)
    }

    fn take_as(&mut self, name: &str, shape: &[usize], as_stored: bool) -> Result<Tensor, BackboneError> {
        match self.read_as(name, Some(shape), as_stored)? {
            Some(tensor) => {
                self.taken.insert(name.to_owned());
                Ok(tensor)
            }
            None => {
                self.missing.push(name.to_string());
                Ok(Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu)?)
            }
        }
    }

    /// A linear layer's weight: as [`Self::take`], and in the numbers of the file where [`Self::stored`] says so.
    pub fn take_matrix(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, BackboneError> {
        let as_stored = self.as_stored;
        self.take_as(name, shape, as_stored)
    }

    /// Linear layers' weights of one shape, one below the other: as [`Self::take_matrix`] of each, read into one buffer.
    pub fn take_rows(&mut self, names: &[String], shape: &[usize]) -> Result<Tensor, BackboneError> {
        let entries: Vec<&Entry> = names.iter().filter_map(|name| self.entries.get(name)).collect();
        let alike = entries.windows(2).all(|two| two[0].dtype == two[1].dtype);
        if self.checking || !alike || entries.len() < names.len() || entries.iter().any(|e| e.shape != shape)
        {
            let parts =
                names.iter().map(|name| self.take_matrix(name, shape)).collect::<Result<Vec<_>, _>>()?;
            return Ok(Tensor::cat(&parts, 0)?);
        }
        let mut stacked = shape.to_vec();
        stacked[0] *= names.len();
        let tensor = self.read_entries((&names[0], &stacked), &entries, self.as_stored)?;
        self.taken.extend(names.iter().cloned());
        Ok(tensor)
    }

    /// From here on [`Self::take_matrix`] leaves 16-bit numbers as they are.
    #[must_use]
    pub fn stored(mut self) -> Self {
        self.as_stored = true;
        self
    }

    /// The tensor as f32, of any shape unless one is expected; `None` where the checkpoint lacks it.
    pub fn read(&self, name: &str, expected: Option<&[usize]>) -> Result<Option<Tensor>, BackboneError> {
        self.read_as(name, expected, false)
    }

    fn read_as(
        &self,
        name: &str,
        expected: Option<&[usize]>,
        as_stored: bool,
    ) -> Result<Option<Tensor>, BackboneError> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        let path = &self.shards[entry.shard].path;
        if let Some(expected) = expected.filter(|e| *e != entry.shape) {
            let found = &entry.shape;
            let message = format!("{name} has shape {found:?}, expected {expected:?} by config.json");
            return Err(BackboneError::weights(path, message));
        }
        let shape = entry.shape.as_slice();
        if self.checking && matches!(entry.dtype.as_str(), "F32" | "F16" | "BF16") {
            // One zero that stands for all: a block's worth of them would be memory that nothing needs.
            let zero = Tensor::zeros(vec![1; shape.len()], candle_core::DType::F32, &Device::Cpu)?;
            return Ok(Some(zero.broadcast_as(shape)?));
        }
        self.read_entries((name, shape), &[entry], as_stored).map(Some)
    }

    /// Tensors of one type, one after the other, as a tensor of `shape`.
    fn read_entries(
        &self,
        (name, shape): (&str, &[usize]),
        entries: &[&Entry],
        as_stored: bool,
    ) -> Result<Tensor, BackboneError> {
        let bytes: usize = entries.iter().map(|entry| entry.bytes).sum();
        let read = |mut into: &mut [u8]| -> Result<(), BackboneError> {
            for entry in entries {
                let Shard { path, file } = &self.shards[entry.shard];
                let (part, rest) = into.split_at_mut(entry.bytes);
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(entry.start)).map_err(BackboneError::io(path))?;
                file.read_exact(part).map_err(BackboneError::io(path))?;
                into = rest;
            }
            Ok(())
        };
        let cpu = &Device::Cpu;
        let dtype = entries.first().map_or("nothing", |entry| entry.dtype.as_str());
        Ok(match dtype {
            "F32" => {
                let mut numbers = vec![0f32; bytes / 4];
                read(bytemuck::cast_slice_mut(&mut numbers))?;
                numbers.iter_mut().for_each(|x| *x = f32::from_bits(u32::from_le(x.to_bits())));
                Tensor::from_vec(numbers, shape, cpu)?
            }
            "F16" | "BF16" => {
                let mut bits = vec![0u16; bytes / 2];
                read(bytemuck::cast_slice_mut(&mut bits))?;
                bits.iter_mut().for_each(|x| *x = u16::from_le(*x));
                let mut wide = vec![0f32; if as_stored { 0 } else { bits.len() }];
                match (dtype, as_stored) {
                    ("F16", true) => Tensor::from_vec(bits.reinterpret_into::<f16>(), shape, cpu)?,
                    (_, true) => Tensor::from_vec(bits.reinterpret_into::<bf16>(), shape, cpu)?,
                    ("F16", false) => {
                        bits.reinterpret_cast::<f16>().convert_to_f32_slice(&mut wide);
                        Tensor::from_vec(wide, shape, cpu)?
                    }
                    (_, false) => {
                        bits.reinterpret_cast::<bf16>().convert_to_f32_slice(&mut wide);
                        Tensor::from_vec(wide, shape, cpu)?
                    }
                }
            }
            other => {
                let message = format!("{name} is stored as {other}, expected F32, F16 or BF16");
                let path = entries.first().map_or(self.path(), |entry| &self.shards[entry.shard].path);
                return Err(BackboneError::weights(path, message));
            }
        })
    }

    /// Fails with every name that [`Self::take`] did not find, and with every tensor that nobody took, unless its name behind
    /// `root`, or the whole of it, begins with one that the family knows and leaves alone.
    pub fn finish(self, root: &str, known: &[&str]) -> Result<(), BackboneError> {
        if !self.missing.is_empty() {
            return Err(BackboneError::MissingTensors { path: self.path().to_owned(), names: self.missing });
        }
        let is_known = |name: &str| {
            let behind = name.strip_prefix(root).unwrap_or(name);
            known.iter().any(|k| behind.starts_with(k) || name.starts_with(k))
        };
        // Of no registers, for example, a file may have an empty tensor.
        let full = self.entries.iter().filter(|(_, entry)| !entry.shape.contains(&0)).map(|(name, _)| name);
        let mut left: Vec<String> =
            full.filter(|name| !self.taken.contains(*name) && !is_known(name)).cloned().collect();
        if left.is_empty() {
            return Ok(());
        }
        left.sort();
        Err(BackboneError::UnknownTensors { path: self.path().to_owned(), names: left })
    }
}

/// PyTorch's pickles are not read: opening one runs the code in it.
fn refuse_pickles(dir: &Path) -> Result<(), BackboneError> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    let is_pickle =
        |p: &PathBuf| p.extension().is_some_and(|x| ["bin", "pth", "pt", "ckpt"].iter().any(|y| x == *y));
    let mut found: Vec<PathBuf> = entries.filter(is_pickle).collect();
    found.sort();
    let Some(path) = found.first() else { return Ok(()) };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let message = format!(
        "is a pickle, expected model.safetensors; convert it where PyTorch is: python -c \"import torch, safetensors.torch as s; s.save_file({{k: v.contiguous().clone() for k, v in torch.load('{name}', map_location='cpu', weights_only=True).items()}}, 'model.safetensors')\""
    );
    Err(BackboneError::weights(path, message))
}

fn shards_of(dir: &Path, index: &Path) -> Result<Vec<PathBuf>, BackboneError> {
    let json = read_json(index)?;
    let map = json.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| BackboneError::weights(index, "has no \"weight_map\" object"))?;
    let mut names: Vec<&str> = map.values().filter_map(Value::as_str).collect();
    names.sort_unstable();
    names.dedup();
    // A shard is a file of this folder: a name that climbs out of it is not followed.
    if let Some(bad) = names.iter().find(|n| n.contains(['/', '\\']) || n.starts_with("..")) {
        return Err(BackboneError::weights(
            index,
            format!("names the shard {bad}, expected a plain file name"),
        ));
    }
    Ok(names.into_iter().map(|n| dir.join(n)).collect())
}

fn read_header(
    path: &Path,
    file: &mut File,
    shard: usize,
    into: &mut HashMap<String, Entry>,
) -> Result<(), BackboneError> {
    let bad = |message: &str| {
        BackboneError::weights(path, format!("{message}; the file is damaged or not safetensors"))
    };
    let size = file.metadata().map_err(BackboneError::io(path))?.len();
    let mut length = [0u8; 8];
    file.read_exact(&mut length).map_err(|_| bad("is shorter than a header"))?;
    let length = u64::from_le_bytes(length);
    if length > 100_000_000 || length + 8 > size {
        return Err(bad("has a header longer than the file"));
    }
    let mut header = vec![0u8; length as usize];
    file.read_exact(&mut header).map_err(BackboneError::io(path))?;
    let header: Value = serde_json::from_slice(&header).map_err(|_| bad("has a header that is not JSON"))?;
    for (name, info) in header.as_object().ok_or_else(|| bad("has a header that is not an object"))? {
        if name == "__metadata__" {
            continue;
        }
        let whole = |v: &Value| -> Option<Vec<u64>> { v.as_array()?.iter().map(Value::as_u64).collect() };
        let dtype = info.get("dtype").and_then(Value::as_str);
        let shape = info.get("shape").and_then(whole);
        let offsets = info.get("data_offsets").and_then(whole);
        let (Some(dtype), Some(shape), Some([from, to])) = (dtype, shape, offsets.as_deref()) else {
            return Err(bad(&format!("describes {name} without dtype, shape and offsets")));
        };
        let width = match dtype {
            "F32" => 4,
            "F16" | "BF16" => 2,
            _ => 0, // named when it is read: an unread tensor may be of any type
        };
        let count = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
        let inside = from <= to && to.checked_add(length + 8).is_some_and(|end| end <= size);
        let fits = width == 0 || count.and_then(|n| n.checked_mul(width)) == Some(to.wrapping_sub(*from));
        if !inside || !fits {
            return Err(bad(&format!("places {name} outside its data")));
        }
        let entry = Entry {
            shard,
            dtype: dtype.to_string(),
            shape: shape.iter().map(|d| *d as usize).collect(),
            start: 8 + length + from,
            bytes: (to - from) as usize,
        };
        into.insert(name.clone(), entry);
    }
    Ok(())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
