//! A backbone, shared by all that computes on it.

use crate::errors;
use anymc3d_host::backbone::{self, NoAdapter, Precision, SiteAdapter, load_peft};
use anymc3d_host::device::{DeviceChoice, one_line};
use anymc3d_host::engine::{PrecisionChoice, open_backbone_on, precision_name};
use candle_core::{DType, Device, Tensor};
use numpy::ndarray::{Array, IxDyn};
use numpy::{IntoPyArray, PyArrayDyn, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::path::PathBuf;
use std::sync::Arc;

/// A frozen vision transformer.
#[pyclass(frozen, module = "anymc3d._native")]
pub struct Backbone {
    pub shared: Arc<backbone::Backbone>,
    pub precision: Precision,
}

/// `cpu`, `cuda:0` or `auto`.
pub fn device(text: &str) -> PyResult<DeviceChoice> {
    text.parse().map_err(errors::of::<String>("UsageError"))
}

/// `f32`, `bf16`, `int16`, `int8` or `auto`.
pub fn precision(text: &str) -> PyResult<PrecisionChoice> {
    let message = || format!("precision `{text}`: expected `auto`, `f32`, `bf16`, `int16` or `int8`");
    PrecisionChoice::named(text).ok_or_else(|| errors::raised("UsageError", message()))
}

#[pymethods]
impl Backbone {
    #[staticmethod]
    fn open(py: Python<'_>, name: &str, device_name: &str, precision_name: &str) -> PyResult<Self> {
        let device = device(device_name)?;
        let precision = precision(precision_name)?.resolve(device);
        let opened = py.detach(|| open_backbone_on(Some(name), precision, (device, None)));
        let shared = opened.map_err(errors::of("BackboneError"))?;
        Ok(Self { shared: Arc::new(shared), precision })
    }

    /// What identifies it.
    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (info, about) = (self.shared.info(), PyDict::new(py));
        about.set_item("name", &info.name)?;
        about.set_item("family", &info.family)?;
        about.set_item("embed_dim", info.embed_dim)?;
        about.set_item("blocks", info.blocks)?;
        about.set_item("heads", info.heads)?;
        about.set_item("patch_size", info.patch_size)?;
        about.set_item("registers", info.registers)?;
        about.set_item("mean", info.mean)?;
        about.set_item("std", info.std)?;
        about.set_item("sha256", &info.sha256)?;
        about.set_item("fingerprint", &info.fingerprint)?;
        about.set_item("precision", precision_name(self.precision))?;
        Ok(about)
    }

    /// Pixels `[S, 3, H, W]` → class tokens `[S, d]`, patch tokens `[S, h, w, d]`, class attention `[S, h, w]`.
    fn embed<'py>(
        &self,
        py: Python<'py>,
        pixels: PyReadonlyArrayDyn<'py, f32>,
        peft: Option<PathBuf>,
    ) -> PyResult<[Bound<'py, PyArrayDyn<f32>>; 3]> {
        let refuse = errors::of::<String>("UsageError");
        let values = pixels.as_slice().map_err(|e| refuse(format!("pixels: {e}")))?;
        let shape = pixels.shape().to_vec();
        let tensor = Tensor::from_slice(values, shape, &Device::Cpu).map_err(|e| refuse(one_line(&e)))?;
        let shared = self.shared.clone();
        let computed = py.detach(move || -> Result<_, String> {
            let lora =
                peft.map(|dir| load_peft(&dir, shared.info())).transpose().map_err(|e| e.to_string())?;
            let adapter: &dyn SiteAdapter = lora.as_ref().map_or(&NoAdapter, |lora| lora);
            let tensor = tensor.to_device(shared.device()).map_err(|e| one_line(&e))?;
            let features = shared.forward(&tensor, adapter, true).map_err(|e| e.to_string())?;
            let ((h, w), numbers) = (features.grid, |t: &Tensor| {
                t.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()
            });
            let (s, d) = features.class_tokens.dims2().map_err(|e| one_line(&e))?;
            let attention = features.class_attention.as_ref().ok_or("the backbone gave no attention")?;
            let all = [
                (numbers(&features.class_tokens), vec![s, d]),
                (numbers(&features.patch_tokens), vec![s, h, w, d]),
                (numbers(attention), vec![s, h, w]),
            ];
            let of = |(values, shape): (candle_core::Result<Vec<f32>>, Vec<usize>)| {
                let values = values.map_err(|e| one_line(&e))?;
                Array::from_shape_vec(IxDyn(&shape), values).map_err(|e| e.to_string())
            };
            let [class, patches, attention] = all.map(of);
            Ok([class?, patches?, attention?])
        });
        Ok(computed.map_err(errors::of("BackboneError"))?.map(|array| {
            // The vector becomes NumPy's memory.
            array.into_pyarray(py)
        }))
    }
}
