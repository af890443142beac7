//! Backbones with plugins on them, and their answers.

use crate::backbone::{Backbone, device, precision};
use crate::errors;
use crate::scan::{GivenCase, Source};
use anymc3d_host::device::one_line;
use anymc3d_host::engine::{Engine, Prediction};
use anymc3d_host::output::KeptResult;
use anymc3d_host::run::{Engines, Selection, SessionError, SessionOptions};
use anymc3d_manifest::Manifest;
use numpy::ndarray::{Array3, Array4, ShapeBuilder};
use numpy::{IntoPyArray, PyArray1, PyArray3, PyArray4};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Plugins that are open on their backbones. Nothing in it changes, so that any number of threads may ask it.
#[pyclass(frozen, module = "anymc3d._native")]
pub struct Host {
    pub engines: Engines,
    pub manifests: Vec<Manifest>,
}

/// A result, and what its files are made of.
#[pyclass(frozen, module = "anymc3d._native")]
pub struct Answer {
    kept: Mutex<KeptResult>,
}

impl Host {
    /// The engine and the task of a plugin by its index.
    pub fn place(&self, index: usize) -> PyResult<(&Engine, usize)> {
        match index < self.manifests.len() {
            true => Ok(self.engines.of_plugin(index)),
            false => Err(errors::raised("UsageError", format!("no plugin of index {index}"))),
        }
    }
}

/// What the arguments of a case say; the interpreter's lock is held.
fn case_of<'py>(
    name: &str,
    image: Option<Source<'py>>,
    views: BTreeMap<String, Source<'py>>,
    mask: Option<Source<'py>>,
    point_mm: Option<[f64; 3]>,
) -> PyResult<GivenCase> {
    let image = image.map(Source::take).transpose()?;
    let views: PyResult<BTreeMap<_, _>> = views.into_iter().map(|(v, s)| Ok((v, s.take()?))).collect();
    let mask = mask.map(Source::take).transpose()?;
    GivenCase::new(name, image, views?, mask, point_mm)
}

#[pymethods]
impl Host {
    #[staticmethod]
    #[pyo3(signature = (plugins, backbone, weights, device_name, precision_name, segmentation))]
    fn open(
        py: Python<'_>,
        plugins: Vec<String>,
        backbone: Option<&Backbone>,
        weights: Vec<PathBuf>,
        device_name: &str,
        precision_name: &str,
        segmentation: bool,
    ) -> PyResult<Self> {
        let mut options = SessionOptions::default();
        options.device = device(device_name)?;
        options.precision = precision(precision_name)?;
        options.opened = backbone.map(|b| (b.shared.clone(), b.precision));
        options.weights = weights;
        options.segmentation = segmentation;
        py.detach(|| {
            let mut selection = Selection::new(&plugins, &options.choice).map_err(of_session)?;
            // Before an hour of work and not after it: none is left out in silence.
            refused(&selection)?;
            let engines = selection.open_engines(&options).map_err(of_session)?;
            refused(&selection)?;
            let manifests = selection.plugins.iter().map(|p| p.manifest.clone()).collect();
            Ok(Self { engines, manifests })
        })
    }

    /// Manifests, as JSON, in the order of the plugins.
    fn manifests(&self) -> PyResult<Vec<String>> {
        let json = |m: &Manifest| serde_json::to_string(m).map_err(errors::of("AnymcError"));
        self.manifests.iter().map(json).collect()
    }

    /// The backbone of a plugin.
    fn backbone(&self, index: usize) -> PyResult<Backbone> {
        let (engine, _) = self.place(index)?;
        Ok(Backbone { shared: engine.shared_backbone(), precision: engine.precision() })
    }

    /// An [`Answer`] or an exception of each plugin that is asked, in their order.
    #[allow(clippy::too_many_arguments)]
    fn run<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        image: Option<Source<'py>>,
        views: BTreeMap<String, Source<'py>>,
        mask: Option<Source<'py>>,
        point_mm: Option<[f64; 3]>,
        plugins: Vec<usize>,
        evidence: bool,
    ) -> PyResult<Bound<'py, PyList>> {
        let given = case_of(name, image, views, mask, point_mm)?;
        for &index in &plugins {
            self.place(index)?;
        }
        let answers = py.detach(|| self.answers(given, &plugins, evidence))?;
        let all = PyList::empty(py);
        for answer in answers {
            match answer {
                Ok(kept) => all.append(Bound::new(py, Answer { kept: Mutex::new(kept) })?)?,
                Err(error) => all.append(error.into_value(py))?,
            }
        }
        Ok(all)
    }

    /// The views of a case as vectors: name, mean `[d]`, attention-pooled `[d]`.
    #[allow(clippy::too_many_arguments, clippy::type_complexity)]
    fn embed_case<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        image: Option<Source<'py>>,
        views: BTreeMap<String, Source<'py>>,
        mask: Option<Source<'py>>,
        point_mm: Option<[f64; 3]>,
        plugin: usize,
        adapted: bool,
    ) -> PyResult<Vec<(String, Bound<'py, PyArray1<f32>>, Bound<'py, PyArray1<f32>>)>> {
        let mut given = case_of(name, image, views, mask, point_mm)?;
        let (engine, task) = self.place(plugin)?;
        let embedded = py.detach(|| {
            let mut data = engine.case_data();
            given.fill(&mut data, true)?;
            engine.embed_case(data, &given.case, task, adapted).map_err(errors::of_case)
        })?;
        Ok(embedded
            .into_iter()
            .map(|e| (e.view, e.mean.into_pyarray(py), e.attention.into_pyarray(py)))
            .collect())
    }

    /// The pixels of a case's views as the backbone takes them: name, `[S, 3, H, W]`.
    #[allow(clippy::too_many_arguments, clippy::type_complexity)]
    fn pixels<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        image: Option<Source<'py>>,
        views: BTreeMap<String, Source<'py>>,
        mask: Option<Source<'py>>,
        point_mm: Option<[f64; 3]>,
        plugin: usize,
    ) -> PyResult<Vec<(String, Bound<'py, PyArray4<f32>>)>> {
        let mut given = case_of(name, image, views, mask, point_mm)?;
        let (engine, task) = self.place(plugin)?;
        let loaded = &engine.tasks()[task];
        let cut = py.detach(|| {
            let mut data = engine.case_data();
            given.fill(&mut data, true)?;
            let mut all = Vec::new();
            for view in &loaded.task.manifest().views {
                let Some(path) = given.case.file(loaded.name(), &view.name) else { continue };
                let prepared = data.slices(path, view, &given.case.region, engine.backbone().info(), 0);
                let prepared = prepared.map_err(errors::of("ScanError"))?;
                let broken = |e: candle_core::Error| errors::raised("ScanError", one_line(&e));
                let shape = prepared.pixels.dims4().map_err(broken)?;
                let values = prepared.pixels.flatten_all().and_then(|p| p.to_vec1()).map_err(broken)?;
                let array = Array4::from_shape_vec(shape, values).map_err(errors::of("ScanError"))?;
                all.push((view.name.clone(), array));
            }
            Ok::<_, PyErr>(all)
        })?;
        Ok(cut.into_iter().map(|(view, array)| (view, array.into_pyarray(py))).collect())
    }

    /// Digests by which a cache knows what computes: plugin, weights, backbone, precision.
    fn identity(&self, index: usize) -> PyResult<Vec<String>> {
        let (engine, task) = self.place(index)?;
        let (task, info) = (&engine.tasks()[task], engine.backbone().info());
        let precision = anymc3d_host::engine::precision_name(engine.precision()).to_owned();
        let (library, weights) = (task.library_sha256.clone(), task.weights_sha256.clone());
        Ok(vec![task.name().to_owned(), library, weights, info.fingerprint.clone(), precision])
    }
}

impl Host {
    fn answers(
        &self,
        mut given: GivenCase,
        plugins: &[usize],
        evidence: bool,
    ) -> PyResult<Vec<PyResult<KeptResult>>> {
        let mut answers: Vec<Option<PyResult<KeptResult>>> = plugins.iter().map(|_| None).collect();
        let places: Vec<(usize, usize)> = plugins
            .iter()
            .map(|&index| {
                let (engine, task) = self.engines.of_plugin(index);
                let number = self.engines.all.iter().position(|e| std::ptr::eq(e, engine));
                (number.unwrap_or_default(), task)
            })
            .collect();
        let asked: Vec<usize> =
            (0..self.engines.all.len()).filter(|n| places.iter().any(|place| place.0 == *n)).collect();
        for (turn, &number) in asked.iter().enumerate() {
            let engine = &self.engines.all[number];
            let tasks: Vec<usize> = places.iter().filter(|p| p.0 == number).map(|p| p.1).collect();
            let mut data = engine.case_data();
            given.fill(&mut data, turn + 1 == asked.len())?;
            let each = |task: usize, answer: Result<Prediction, _>| {
                let kept = answer
                    .map_err(errors::of_case)
                    .and_then(|prediction| KeptResult::of(prediction).map_err(errors::of("OutputError")));
                if let Some(at) = places.iter().position(|place| *place == (number, task)) {
                    answers[at] = Some(kept);
                }
            };
            engine.predict_from(data, (&given.case, evidence), &tasks, |_, _| (), each);
        }
        let lost = || Err(errors::raised("TaskError", "no answer came"));
        Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(lost)).collect())
    }
}

fn of_session(error: SessionError) -> PyErr {
    let class = match &error {
        SessionError::GivenTwice { .. } => "UsageError",
        SessionError::Backbone(_) => "BackboneError",
        _ => "AnymcError",
    };
    errors::raised(class, error)
}

fn refused(selection: &Selection) -> PyResult<()> {
    match selection.refused.first() {
        Some(refused) => Err(errors::raised("PluginError", &refused.reason)),
        None => Ok(()),
    }
}

#[pymethods]
impl Answer {
    /// The record (`anymc3d/result/1`).
    fn json(&self) -> PyResult<String> {
        serde_json::to_string(&self.kept().result).map_err(errors::of("OutputError"))
    }

    /// Voxel index → RAS mm of heatmap and mask.
    fn affine(&self) -> Option<[[f64; 4]; 4]> {
        self.kept().affine().map(|affine| affine.0)
    }

    /// On the scan's grid, `[x, y, z]`.
    fn heatmap<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyArray3<f32>>>> {
        let heatmap = py.detach(|| self.kept().heatmap());
        heatmap.map(|(values, shape)| on_grid(py, values, shape)).transpose()
    }

    /// On the scan's grid, `[x, y, z]`: 0 or 1.
    fn mask<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyArray3<u8>>>> {
        let mask = self.kept().mask().map(|(voxels, shape)| (voxels.to_vec(), shape));
        mask.map(|(values, shape)| on_grid(py, values, shape)).transpose()
    }

    /// PNG.
    fn preview<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.kept().preview().map(|png| PyBytes::new(py, png))
    }

    /// Writes the files into a folder: each is written aside and moved into place, the record last.
    fn save(&self, py: Python<'_>, folder: PathBuf) -> PyResult<String> {
        py.detach(|| self.write(&folder))
            .map_err(|e| errors::raised("OutputError", format!("{}: {e}", folder.display())))?;
        self.json()
    }

    fn __reduce__(&self, py: Python<'_>) -> PyResult<Py<PyDict>> {
        let _ = py;
        Err(errors::raised(
            "UsageError",
            "a result cannot be pickled; save() writes it, to_dict() gives its record",
        ))
    }
}

impl Answer {
    fn kept(&self) -> std::sync::MutexGuard<'_, KeptResult> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, folder: &Path) -> Result<(), String> {
        let io = |e: std::io::Error| format!("cannot be written ({e})");
        std::fs::create_dir_all(folder).map_err(io)?;
        let aside = tempfile::Builder::new().prefix(".anymc3d-").tempdir_in(folder).map_err(io)?;
        self.kept().write(aside.path())?;
        let entries = std::fs::read_dir(aside.path()).map_err(io)?;
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.sort_by_key(|name| name == "result.json");
        names
            .iter()
            .try_for_each(|name| std::fs::rename(aside.path().join(name), folder.join(name)))
            .map_err(io)
    }
}

/// Values with the first axis fastest as an array `[x, y, z]`; the vector becomes NumPy's memory.
fn on_grid<T: numpy::Element>(
    py: Python<'_>,
    values: Vec<T>,
    shape: [usize; 3],
) -> PyResult<Bound<'_, PyArray3<T>>> {
    let array = Array3::from_shape_vec(shape.f(), values).map_err(errors::of("OutputError"))?;
    Ok(array.into_pyarray(py))
}
