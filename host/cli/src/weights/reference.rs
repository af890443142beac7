//! `host weights reference`: puts into weights where their training cases lie.

use super::EXAMPLES;
use crate::console::Console;
use crate::labels::{LabelOption, with_hint};
use crate::options::{BackboneOptions, GeometryOption, PrecisionOption, open_cache, out_file};
use crate::outcome::{CommandError, Outcome};
use crate::train::Terminal;
use anymc3d_host::data::table::Part;
use anymc3d_host::device::one_line;
use anymc3d_host::fs::write_atomically;
use anymc3d_host::task::{Weights, open_library, weights};
use anymc3d_host::train::{
    LEAST_REFERENCE_CASES, Progress, ReferenceContext, Silent, TrainOptions, ViewVectors, reference_of,
    reference_vectors,
};
use candle_core::{Device, Tensor};
use clap::Args;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Put into weights where their training cases lie, so that results tell how far a case is from them
///
/// `host train` does so itself; this is for weights that were trained before, or elsewhere. Cases of the split `test` are left
/// out. docs/drift.md says what is stored.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct ReferenceCommand {
    /// Plugin, by name or path
    #[arg(long, short, value_name = "P")]
    plugin: String,
    /// Table of the cases that the weights were trained on
    #[arg(long, value_name = "T.csv")]
    data: PathBuf,
    #[command(flatten)]
    labels: LabelOption,
    /// Trained weights [default: those that `host run` finds]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// File for the weights with their reference
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Write the cases' vectors too (.safetensors, [N,d] by the view's name, the cases' names in its metadata): to check the
    /// reference with other software
    #[arg(long, value_name = "FILE")]
    vectors: Option<PathBuf>,
    /// Most disk space for cached features, GiB; 0 caches none
    #[arg(long, value_name = "GIB", default_value_t = 16.0)]
    cache_size: f64,
    /// Folder for cached features [default: cache/prefix in $ANYMC3D_HOME]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Number format of the matrix products; auto is bf16 where the device multiplies it faster than f32, else f32
    #[arg(long, value_enum, default_value_t = PrecisionOption::Auto)]
    precision: PrecisionOption,
    #[command(flatten)]
    geometry: GeometryOption,
    #[command(flatten)]
    backbone: BackboneOptions,
}

impl ReferenceCommand {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        self.geometry.apply();
        self.backbone.apply()?;
        let library = open_library(&self.plugin).map_err(CommandError::refused)?;
        let manifest = &library.embedded.manifest;
        let found = Weights::find(&manifest.plugin.name, self.weights.as_deref(), &library.path);
        let mut old = found.map_err(CommandError::refused)?;
        let columns = self.labels.columns(manifest)?;
        let unreadable = |e| CommandError::failed(with_hint(e, &self.data, manifest));
        let table = columns.open(&self.data, manifest).map_err(unreadable)?;
        out_file("--out", &self.out).map_err(CommandError::failed)?;
        let precision = self.precision.resolve(self.backbone.device);
        let backbone = self.backbone.open(precision)?;
        let cache = open_cache(self.cache.as_deref(), self.cache_size)?;
        // Without supervision no mask is read, unless the slices are cut around it.
        let options = TrainOptions { lambda: 0.0, ..TrainOptions::default() };
        let (library, options) = (&library, &options);
        let context = ReferenceContext {
            library,
            backbone: &backbone,
            precision,
            table: &table,
            cache: &cache,
            options,
        };
        let rows: Vec<usize> =
            (0..table.rows.len()).filter(|&i| table.rows[i].split != Some(Part::Test)).collect();
        let mut progress: Box<dyn Progress> =
            if console.is_quiet() { Box::new(Silent) } else { Box::new(Terminal::default()) };
        let vectors =
            reference_vectors(context, &old, &rows, progress.as_mut()).map_err(CommandError::failed)?;
        if let Some(file) = &self.vectors {
            write_vectors(file, &vectors).map_err(CommandError::failed)?;
        }
        let Some(reference) = reference_of(&vectors).map_err(CommandError::failed)? else {
            return Err(CommandError::failed(format!(
                "{}: {} cases tell too little; expected {LEAST_REFERENCE_CASES} patients or more whose scans differ",
                self.data.display(),
                rows.len()
            )));
        };
        for view in &reference.views {
            console.result(format!(
                "{}: view {}, {} cases, 99.5 % of them within {:.1}",
                self.out.display(),
                view.view,
                view.cases,
                view.limit()
            ));
        }
        old.info.reference = Some(reference);
        weights::write_ensemble(&self.out, &[old]).map_err(CommandError::failed)?;
        Ok(Outcome::Done)
    }
}

/// A tensor for each view, and in the metadata the names of its cases.
fn write_vectors(file: &Path, views: &[ViewVectors]) -> Result<(), String> {
    let (mut tensors, mut names) = (Vec::new(), HashMap::new());
    for ViewVectors { view, cases, .. } in views {
        let width = cases.first().map_or(0, |(_, case)| case.vector.len());
        let flat: Vec<f32> = cases.iter().flat_map(|(_, case)| case.vector.iter().copied()).collect();
        let tensor = Tensor::from_vec(flat, (cases.len(), width), &Device::Cpu).map_err(|e| one_line(&e))?;
        let of: Vec<&str> = cases.iter().map(|(name, _)| name.as_str()).collect();
        names.insert(format!("cases.{view}"), serde_json::to_string(&of).map_err(|e| e.to_string())?);
        tensors.push((view.clone(), tensor));
    }
    let views = tensors.iter().map(|(view, tensor)| (view.as_str(), tensor));
    let bytes = safetensors::serialize(views, Some(names)).map_err(|e| e.to_string())?;
    write_atomically(file, &bytes).map_err(|e| format!("{}: cannot be written ({e})", file.display()))
}
