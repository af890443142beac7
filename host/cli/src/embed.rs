//! `host embed`: writes the backbone's features of a scan to a file, or a vector for each case of a table.

mod table;

use super::console::Console;
use super::options::{BackboneOptions, GeometryOption, PrecisionOption};
use super::outcome::{CommandError, Outcome};
use super::region::RegionOptions;

use anymc3d_host::backbone::{
    Backbone, BackboneInfo, Features, KeptPatches, NoAdapter, Precision, SiteAdapter, Slices, load_peft,
};
use anymc3d_host::engine::{CaseData, precision_name, warnings};
use anymc3d_host::fs::hex;
use anymc3d_host::fs::write_atomically;
use anymc3d_host::plugin::{Inspected, PluginError, find, inspect};
use anymc3d_host::task::{LoadedTask, TaskSiteAdapter};
use anymc3d_manifest::{Axis, Fit, Intensity, Manifest, Modality, Region, View};
use candle_core::{DType, Device, Tensor};
use clap::Args;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const EXAMPLES: &str = "\
Examples:
  host embed scan.nii.gz --out features.safetensors
  host embed scan.nii.gz --plugin lung_nodule --out features.safetensors
  host embed pixels.safetensors --peft adapter/ --out features.safetensors
  host embed --table cohort.csv --plugin lung_nodule --out cohort.safetensors     a vector for each case
  host embed --table cohort.csv --masks-dir masks --out features/                 a file CASE.h5 for each";

/// Export the backbone's features of a scan: `class` [S,d], `patches` [S,h,w,d], `class_attention` [S,h,w]
///
/// Without --plugin the host cuts the full extent of a scan into 32 axial slices, pads them to squares and scales them to
/// 224 x 224 pixels. It windows a CT (recognised by its intensities) from -1000 to 1000 HU, and any other scan from its
/// percentile 0.5 to 99.5.
///
/// With --table each case becomes one vector: what the last layer of the plugin's head reads, or without a plugin the mean class
/// token of its slices, cut around the mask where --masks-dir gives one. Without weights the head is as it is drawn. FILE.safetensors
/// holds `embeddings` [N,E] and the cases' names, FILE.h5 a dataset per case, and a folder FOLDER/ a file CASE.h5 with a
/// dataset `y_hat` for each. docs/benchmark.md describes them.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Embed {
    /// A scan, or a .safetensors file with `pixels` [S,3,H,W], already normalised
    #[arg(required_unless_present = "table")]
    input: Option<PathBuf>,
    /// A table of cases instead of a scan: a vector for each
    #[arg(long, value_name = "T.csv", conflicts_with_all = ["input", "peft", "view", "mask", "point"])]
    table: Option<PathBuf>,
    /// Folder with a mask for each case of the table, called as its image file is; instead of the table's column `mask`
    #[arg(long, value_name = "DIR", requires = "table")]
    masks_dir: Option<PathBuf>,
    /// Output file (.safetensors, f32; with --table also .h5, or a folder that ends with /)
    #[arg(long, short, value_name = "F")]
    out: PathBuf,
    /// Plugin whose preprocessing is used, and whose adapter if it has weights
    #[arg(long, short, value_name = "P")]
    plugin: Option<String>,
    /// View of the plugin [default: the first]
    #[arg(long, value_name = "NAME", requires = "plugin")]
    view: Option<String>,
    /// Weights of the plugin [default: those that `host run` finds]
    #[arg(long, value_name = "FILE", requires = "plugin", conflicts_with = "peft")]
    weights: Option<PathBuf>,
    /// Folder of a LoRA adapter of Hugging Face's peft, instead of the plugin's adapter
    #[arg(long, value_name = "DIR")]
    peft: Option<PathBuf>,
    /// Number format of the matrix products; auto is f32 here, because features are compared across machines
    #[arg(long, value_enum, default_value_t = PrecisionOption::Auto)]
    precision: PrecisionOption,
    #[command(flatten)]
    region: RegionOptions,
    #[command(flatten)]
    geometry: GeometryOption,
    #[command(flatten)]
    backbone: BackboneOptions,
}

/// The plugin of a command: with weights or as preprocessing alone.
struct Chosen {
    manifest: Manifest,
    task: Option<LoadedTask>,
    view: usize,
}

/// What goes into the backbone.
struct Input {
    pixels: Tensor,
    kept: Option<Arc<KeptPatches>>,
    sha256: String,
    view: Option<View>,
}

impl Input {
    fn slices(&self) -> Slices<'_> {
        Slices {
            pixels: &self.pixels,
            kept: self.kept.as_ref(),
            merge: self.view.as_ref().map_or(0, |v| v.merge),
        }
    }
}

impl Embed {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        self.geometry.apply();
        self.backbone.apply()?;
        let precision = match self.precision {
            PrecisionOption::Auto => Precision::F32,
            other => other.resolve(self.backbone.device),
        };
        let library = self.library()?;
        if let Some(table) = &self.table {
            return self.embed_table(table, library, precision, console);
        }
        crate::options::out_file("--out", &self.out).map_err(CommandError::failed)?;
        let backbone = self.backbone.open(precision)?;
        let chosen = library.map(|l| self.choose(l, &backbone, console)).transpose()?;
        let peft = self.peft.as_deref().map(|dir| load_peft(dir, backbone.info()));
        let peft = peft.transpose().map_err(CommandError::refused)?;
        let adapter = chosen
            .as_ref()
            .and_then(|c| Some(TaskSiteAdapter::new(&c.task.as_ref()?.task.adapters()[c.view])));
        let adapter: &dyn SiteAdapter = match (&peft, &adapter) {
            (Some(lora), _) => lora,
            (None, Some(adapter)) => adapter,
            (None, None) => &NoAdapter,
        };

        let input = self.read(chosen.as_ref(), backbone.info(), console).map_err(CommandError::failed)?;
        let features = backbone.forward(input.slices(), adapter, true).map_err(CommandError::failed)?;
        let about = self.about(&input, chosen.as_ref(), backbone.info(), precision);
        let bytes = serialised(&features, about).map_err(CommandError::failed)?;
        let unwritable = |e| CommandError::failed(format!("{}: cannot be written ({e})", self.out.display()));
        write_atomically(&self.out, &bytes).map_err(unwritable)?;
        let (slices, width) = features.class_tokens.dims2().map_err(CommandError::failed)?;
        let (h, w) = features.grid;
        console.result(format!("{slices} slices, {h} × {w} patches, width {width}: {}", self.out.display()));
        Ok(Outcome::Done)
    }

    /// The scan; of a call with a table nothing.
    fn input(&self) -> &Path {
        self.input.as_deref().unwrap_or(Path::new(""))
    }

    fn library(&self) -> Result<Option<Inspected>, CommandError> {
        let read = |wanted: &String| inspect(&find::library(wanted)?);
        self.plugin.as_ref().map(read).transpose().map_err(CommandError::refused)
    }

    /// The plugin's view and, with weights, its task. Weights that are there and do not fit are refused.
    fn choose(
        &self,
        library: Inspected,
        backbone: &Backbone,
        console: &Console,
    ) -> Result<Chosen, CommandError> {
        let manifest = library.manifest().clone();
        let named = |v: &View| self.view.as_ref().is_none_or(|wanted| *wanted == v.name);
        let Some(view) = manifest.views.iter().position(named) else {
            let views: Vec<&str> = manifest.views.iter().map(|v| v.name.as_str()).collect();
            let wanted = self.view.as_deref().unwrap_or_default();
            let message =
                format!("--view {wanted}: no such view; {} has: {}", manifest.plugin.name, views.join(", "));
            return Err(CommandError::usage(message));
        };
        let apart = manifest.views_of_other_scans(|_| true);
        if self.view.is_none() && apart.len() > 1 {
            let views: Vec<&str> = apart.iter().map(|v| v.name.as_str()).collect();
            return Err(CommandError::usage(format!(
                "{}: plugin {} has views of different sequences: {}; say which of them this scan is: --view NAME",
                self.input().display(),
                manifest.plugin.name,
                views.join(", ")
            )));
        }
        if self.peft.is_some() {
            return Ok(Chosen { manifest, task: None, view });
        }
        let task = match LoadedTask::open_inspected(library, self.weights.as_deref(), backbone, false) {
            Ok(task) => Some(task),
            Err(PluginError::NoWeights { name, .. }) => {
                console.warning(format!(
                    "plugin {name}: no weights; its preprocessing with the frozen backbone"
                ));
                None
            }
            Err(e) => return Err(CommandError::refused(e)),
        };
        task.iter().flat_map(|t| &t.notices).for_each(|notice| console.warning(notice));
        Ok(Chosen { manifest, task, view })
    }

    fn read(
        &self,
        chosen: Option<&Chosen>,
        backbone: &BackboneInfo,
        console: &Console,
    ) -> Result<Input, String> {
        let scan = self.input();
        if scan.extension().is_some_and(|e| e == "safetensors") {
            return pixels(scan);
        }
        if let Some(chosen) = chosen {
            let view = chosen.manifest.views[chosen.view].clone();
            self.region.check(&[Manifest { views: vec![view], ..chosen.manifest.clone() }])?;
        }
        let mut data = CaseData::default();
        let read = data.scan(scan).map_err(|e| e.to_string())?;
        let view = match chosen {
            Some(chosen) => chosen.manifest.views[chosen.view].clone(),
            None => default_view(read.scan.modality.or(read.scan.modality_guess)),
        };
        let region = self.region.of_case();
        let prepared = data.slices(scan, &view, &region, backbone, 0).map_err(|e| e.to_string())?;
        let smallest_mm = chosen.and_then(|chosen| chosen.manifest.task.smallest_mm);
        warnings(prepared, &view, smallest_mm)
            .iter()
            .for_each(|w| console.warning(format!("{}: {w}", scan.display())));
        let (pixels, kept) = (prepared.pixels.clone(), prepared.kept.clone());
        Ok(Input { pixels, kept, sha256: read.scan.sha256.clone(), view: Some(view) })
    }

    /// The file's metadata.
    fn about(
        &self,
        input: &Input,
        chosen: Option<&Chosen>,
        backbone: &BackboneInfo,
        precision: Precision,
    ) -> HashMap<String, String> {
        let adapter = match (&self.peft, chosen.and_then(|c| c.task.as_ref())) {
            (Some(dir), _) => format!("peft {}", dir.display()),
            (None, Some(task)) => format!("{} {}", task.name(), task.weights_sha256),
            (None, None) => "none".to_owned(),
        };
        let view = input.view.as_ref().and_then(|v| serde_json::to_string(v).ok());
        let facts = [
            ("schema", "anymc3d/embedding/1".to_owned()),
            ("backbone", backbone.name.clone()),
            ("sha256", backbone.sha256.clone()),
            ("precision", precision_name(precision).to_owned()),
            ("input", self.input().display().to_string()),
            ("input_sha256", input.sha256.clone()),
            ("adapter", adapter),
            ("host", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        let facts = facts.into_iter().chain(view.map(|v| ("view", v)));
        facts.map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// How a scan is seen when no plugin says.
fn default_view(modality: Option<Modality>) -> View {
    let intensity = match modality {
        Some(Modality::CT) => Intensity::Window { windows: vec![[-1000.0, 1000.0]] },
        _ => Intensity::Percentile { low: 0.5, high: 99.5, nonzero: false },
    };
    View {
        name: "axial".to_owned(),
        modality: Modality::Any,
        axis: Axis::Axial,
        slices: Some(32),
        slice_spacing_mm: None,
        size: [224, 224],
        fit: Fit::Square,
        spacing_mm: None,
        region: Region::Full,
        intensity,
        ..View::new("v", Axis::Axial, 1, [1, 1])
    }
}

/// `pixels` of a safetensors file.
fn pixels(path: &Path) -> Result<Input, String> {
    let say = |what: &str| {
        format!("{}: {what}; expected a .safetensors file with `pixels` [S,3,H,W]", path.display())
    };
    let bytes = std::fs::read(path).map_err(|e| say(&format!("cannot be read ({e})")))?;
    let damaged = |e: candle_core::Error| say(&anymc3d_host::device::one_line(&e));
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(damaged)?;
    let pixels = tensors.get("pixels").ok_or_else(|| say("no tensor `pixels`"))?;
    if !matches!(pixels.dtype(), DType::F16 | DType::BF16 | DType::F32 | DType::F64) {
        return Err(say(&format!("`pixels` of type {:?}", pixels.dtype())));
    }
    let pixels = pixels.to_dtype(DType::F32).map_err(damaged)?;
    let values: Vec<f32> = pixels.flatten_all().and_then(|p| p.to_vec1()).map_err(damaged)?;
    if values.iter().any(|v| !v.is_finite()) {
        return Err(say("`pixels` with NaN or infinity"));
    }
    Ok(Input { pixels, kept: None, sha256: hex(&Sha256::digest(&bytes)), view: None })
}

fn serialised(features: &Features, about: HashMap<String, String>) -> Result<Vec<u8>, String> {
    let (h, w) = features.grid;
    let attention = features.class_attention.as_ref().ok_or("the backbone gave no attention")?;
    let tensors = || -> candle_core::Result<[(&str, Tensor); 3]> {
        let (s, d) = features.class_tokens.dims2()?;
        let plain = |t: &Tensor| t.to_dtype(DType::F32)?.contiguous();
        Ok([
            ("class", plain(&features.class_tokens)?),
            ("patches", plain(&features.patch_tokens.reshape((s, h, w, d))?)?),
            ("class_attention", plain(attention)?),
        ])
    };
    let tensors = tensors().map_err(|e| anymc3d_host::device::one_line(&e))?;
    let views = tensors.iter().map(|(name, t)| (*name, t));
    safetensors::serialize(views, Some(about)).map_err(|e| e.to_string())
}
