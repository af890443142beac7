//! Frozen layers in 8-bit integers whose rounding was chosen for what goes into them: a file beside the backbone's weights.
//!
//! The file holds of each layer `blocks.I.LAYER.steps` i8 [d_out, d_in] and `blocks.I.LAYER.units` f32 [d_out]; a weight is its step
//! times its output's unit, a layer scale behind the layer included. Of `up` it holds `inputs` f32 [d_in] too: what each of its inputs is
//! divided by, in the norm before it, so that few large ones do not coarsen all others. It belongs to one set of weights, by their
//! fingerprint.

use super::error::BackboneError;
use super::info::BackboneInfo;
use super::weights::hex;
use crate::fs::write_atomically;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

/// Its name in the backbone's folder.
pub const QUANTISED_FILE: &str = "int8.safetensors";

/// Bytes of a header that are read at most.
const MOST_HEADER: u64 = 8 << 20;

/// The key of [`QuantisedRecord`] in the file's metadata.
const RECORD: &str = "anymc3d.int8/1";

/// The layers of a block that are products, in the order of computation.
pub(crate) const LAYERS: [&str; 4] = ["qkv", "output", "up", "down"];

/// A layer d_in → d_out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct QuantisedLayer {
    /// [d_out, d_in]
    pub steps: Vec<i8>,
    /// What a step is worth, [d_out].
    pub units: Vec<f32>,
    /// What each input was divided by, [d_in]; empty: nothing.
    pub inputs: Vec<f32>,
}

/// Of [`LAYERS`] the one whose inputs are divided: the norm before it does it without a further step, and no adapter reads them.
pub(crate) const DIVIDED: usize = 2;

/// What is known of a file of quantised layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuantisedRecord {
    /// The backbone's, whose layers they are.
    pub fingerprint: String,
    /// Slices that the rounding was chosen for.
    pub slices: usize,
    /// Sha256 of their pixels.
    pub pixels: String,
    /// Slices of other cases that it was measured on.
    pub measured: usize,
    /// The lowest cosine of a class token of theirs to that of f32.
    pub lowest_cosine: f64,
    /// The mean of them.
    pub mean_cosine: f64,
    /// The instruction set that computed it.
    pub kernels: String,
}

impl QuantisedRecord {
    /// What the file in a backbone's folder says of itself, without its layers; `None` where there is none, or it cannot be read: opening
    /// it says why.
    pub fn of_folder(folder: &Path) -> Option<Self> {
        let mut file = std::fs::File::open(folder.join(QUANTISED_FILE)).ok()?;
        let mut length = [0u8; 8];
        file.read_exact(&mut length).ok()?;
        let mut header = Vec::new();
        file.take(u64::from_le_bytes(length).min(MOST_HEADER)).read_to_end(&mut header).ok()?;
        let header: serde_json::Value = serde_json::from_slice(&header).ok()?;
        serde_json::from_str(header["__metadata__"][RECORD].as_str()?).ok()
    }
}

/// All layers of a backbone's blocks.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantisedWeights {
    pub(crate) blocks: Vec<[QuantisedLayer; LAYERS.len()]>,
    /// Of the file; `None`: not written yet.
    pub(crate) sha256: Option<String>,
}

impl QuantisedWeights {
    /// Sha256 of its file; `None` where it was not written yet.
    pub fn sha256(&self) -> Option<&str> {
        self.sha256.as_deref()
    }

    /// Writes the file into the backbone's folder, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path, record: &QuantisedRecord) -> Result<(), BackboneError> {
        let path = folder.join(QUANTISED_FILE);
        let bytes_of = |numbers: &[f32]| numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let floats: Vec<_> = self.named().map(|(_, l)| (bytes_of(&l.units), bytes_of(&l.inputs))).collect();
        let broken = |e: safetensors::SafeTensorError| BackboneError::weights(&path, e.to_string());
        let mut views = Vec::new();
        for ((name, layer), (units, inputs)) in self.named().zip(&floats) {
            let n = layer.units.len();
            let k = layer.steps.len() / n.max(1);
            let steps: &[u8] = bytemuck::cast_slice(&layer.steps);
            let mut view = |part: &str, dtype: Dtype, shape: Vec<usize>, bytes| {
                views.push((format!("{name}.{part}"), TensorView::new(dtype, shape, bytes).map_err(broken)?));
                Ok::<_, BackboneError>(())
            };
            view("steps", Dtype::I8, vec![n, k], steps)?;
            view("units", Dtype::F32, vec![n], units)?;
            if !layer.inputs.is_empty() {
                view("inputs", Dtype::F32, vec![k], inputs)?;
            }
        }
        let record =
            serde_json::to_string(record).map_err(|e| BackboneError::weights(&path, e.to_string()))?;
        let metadata = HashMap::from([(RECORD.to_owned(), record)]);
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(broken)?;
        write_atomically(&path, &bytes).map_err(BackboneError::io(&path))
    }

    fn named(&self) -> impl Iterator<Item = (String, &QuantisedLayer)> {
        let of_block =
            |(i, block)| LAYERS.iter().zip(block).map(move |(l, layer)| (format!("blocks.{i}.{l}"), layer));
        self.blocks.iter().enumerate().flat_map(of_block)
    }

    /// Reads the file of a backbone's folder; `None` where there is none.
    ///
    /// # Errors
    /// When it cannot be read, belongs to other weights, or lacks a layer.
    pub fn read(folder: &Path, info: &BackboneInfo) -> Result<Option<Self>, BackboneError> {
        let path = folder.join(QUANTISED_FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(BackboneError::Io { path, source }),
        };
        let refuse = |what: String| {
            BackboneError::weights(
                &path,
                format!("{what}; remove the file, or make it again with `host backbone quantise`"),
            )
        };
        let record = record_of(&bytes).map_err(refuse)?;
        if record.fingerprint != info.fingerprint {
            let (found, expected) = (&record.fingerprint, &info.fingerprint);
            return Err(refuse(format!(
                "found layers of the backbone {found}, expected those of {expected}"
            )));
        }
        let file = SafeTensors::deserialize(&bytes).map_err(|e| refuse(e.to_string()))?;
        let tensor = |name: String, dtype: Dtype, axes: usize| {
            let view = file.tensor(&name).map_err(|e| refuse(e.to_string()))?;
            match view.dtype() == dtype && view.shape().len() == axes {
                true => Ok(view),
                false => Err(refuse(format!("found {name} {:?} {:?}", view.dtype(), view.shape()))),
            }
        };
        let numbers = |name: String| -> Result<Vec<f32>, BackboneError> {
            let view = tensor(name.clone(), Dtype::F32, 1)?;
            let numbers: Vec<f32> =
                view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            match numbers.iter().all(|x| x.is_finite()) {
                true => Ok(numbers),
                false => Err(refuse(format!("found {name} with a number that is none"))),
            }
        };
        let layer = |block: usize, at: usize| -> Result<QuantisedLayer, BackboneError> {
            let name = |part: &str| format!("blocks.{block}.{}.{part}", LAYERS[at]);
            let (steps, units) = (tensor(name("steps"), Dtype::I8, 2)?, numbers(name("units"))?);
            let inputs = if at == DIVIDED { numbers(name("inputs"))? } else { Vec::new() };
            let shape = steps.shape();
            if shape[0] != units.len() || !(inputs.is_empty() || inputs.len() == shape[1]) {
                let found = format!("{shape:?}, {} units and {} inputs", units.len(), inputs.len());
                return Err(refuse(format!("found {} {found}", name("steps"))));
            }
            if inputs.iter().any(|x| *x <= 0.0) {
                return Err(refuse(format!("found {} that are not above 0", name("inputs"))));
            }
            Ok(QuantisedLayer { steps: bytemuck::cast_slice(steps.data()).to_vec(), units, inputs })
        };
        let block = |i: usize| -> Result<[QuantisedLayer; LAYERS.len()], BackboneError> {
            Ok([layer(i, 0)?, layer(i, 1)?, layer(i, 2)?, layer(i, 3)?])
        };
        let blocks = (0..info.blocks).map(block).collect::<Result<_, _>>()?;
        Ok(Some(Self { blocks, sha256: Some(hex(&Sha256::digest(&bytes))) }))
    }
}

/// What a file says of itself.
fn record_of(bytes: &[u8]) -> Result<QuantisedRecord, String> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| e.to_string())?;
    let record =
        metadata.metadata().as_ref().and_then(|m| m.get(RECORD)).ok_or("found no record of its making")?;
    serde_json::from_str(record).map_err(|e| e.to_string())
}
