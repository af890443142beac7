//! `host embed --table`: a vector for each case, in a file of all or a file for each.

use super::{Embed, default_view};
use crate::console::Console;
use crate::outcome::{CommandError, Outcome};
use anymc3d_host::backbone::{Backbone, NoAdapter, Precision};
use anymc3d_host::data::table::{Row, Table};
use anymc3d_host::engine::{Case, CaseData, case_embedding, precision_name};
use anymc3d_host::fs::write_atomically;
use anymc3d_host::output::hdf5;
use anymc3d_host::plugin::{Inspected, ParameterSource, PluginError, load};
use anymc3d_host::task::{LoadedTask, Task, TaskOptions, as_plugins_see};
use anymc3d_manifest::{Manifest, Region};
use candle_core::DType;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// What is kept around a mask, where no plugin says.
const MARGIN_MM: f64 = 10.0;

/// How a table is read where no plugin says: one scan per case.
const FROZEN: &str = "schema = 1\n[plugin]\nname = \"frozen\"\nversion = \"0.1.0\"\nsummary = \"The frozen backbone.\"\n\
    license = \"Apache-2.0\"\nintended_use = \"Research only.\"\n[task]\nkind = \"binary\"\nlabels = [\"none\"]\n\
    loss = { kind = \"bce\" }\n[backbone]\nfamilies = [\"any\"]\n[[view]]\nname = \"axial\"\nmodality = \"any\"\n\
    axis = \"axial\"\nslices = 32\nsize = [224, 224]\nintensity = { kind = \"percentile\", low = 0.5, high = 99.5 }\n";

/// What makes a vector of a case.
enum Embedder {
    /// A plugin's task.
    Task(Box<Task>, Manifest),
    /// The backbone alone.
    Frozen(Manifest),
}

impl Embedder {
    fn manifest(&self) -> &Manifest {
        match self {
            Self::Task(_, manifest) | Self::Frozen(manifest) => manifest,
        }
    }

    fn embed(&self, backbone: &Backbone, case: &Case) -> Result<Vec<f32>, String> {
        let mut data = CaseData::on(backbone.device().clone());
        if let Self::Task(task, _) = self {
            return case_embedding(backbone, task, data, case).map_err(|e| e.to_string());
        }
        let path = case.any_file().to_owned();
        let read = data.scan(&path).map_err(|e| e.to_string())?;
        let mut view = default_view(read.scan.modality.or(read.scan.modality_guess));
        if case.region.mask.is_some() {
            (view.region, view.margin_mm) = (Region::Mask, Some(MARGIN_MM));
        }
        let prepared =
            data.slices(&path, &view, &case.region, backbone.info(), 0).map_err(|e| e.to_string())?;
        let features = backbone.forward(prepared.slices(), &NoAdapter, false).map_err(|e| e.to_string())?;
        let mean = features.class_tokens.to_dtype(DType::F32).and_then(|t| t.mean(0)?.to_vec1());
        mean.map_err(|e| anymc3d_host::device::one_line(&e))
    }
}

/// Where vectors go.
enum Place {
    /// One file of all.
    Safetensors(PathBuf),
    Hdf5(PathBuf),
    /// A file for each.
    Folder(PathBuf),
}

impl Place {
    fn of(out: &Path) -> Result<Self, String> {
        let text = out.to_string_lossy();
        match out.extension().and_then(|e| e.to_str()) {
            _ if text.ends_with('/') || out.is_dir() => Ok(Self::Folder(out.to_owned())),
            Some("safetensors") => Ok(Self::Safetensors(out.to_owned())),
            Some("h5") => Ok(Self::Hdf5(out.to_owned())),
            _ => {
                Err(format!("--out {text}: expected FILE.safetensors, FILE.h5, or a folder that ends with /"))
            }
        }
    }
}

impl Embed {
    pub(super) fn embed_table(
        &self,
        table: &Path,
        library: Option<Inspected>,
        precision: Precision,
        console: &Console,
    ) -> Result<Outcome, CommandError> {
        let place = Place::of(&self.out).map_err(CommandError::usage)?;
        match &place {
            Place::Folder(folder) => std::fs::create_dir_all(folder).map_err(|e| {
                CommandError::failed(format!("--out {}: cannot be made ({e})", folder.display()))
            })?,
            Place::Safetensors(file) | Place::Hdf5(file) => {
                crate::options::out_file("--out", file).map_err(CommandError::failed)?;
            }
        }
        let backbone = self.backbone.open(precision)?;
        let embedder = self.embedder(library, &backbone, console)?;
        let tables = Table::open_unlabelled(table, std::slice::from_ref(embedder.manifest()));
        let rows = tables.map_err(CommandError::failed)?.into_iter().next().map_or(Vec::new(), |t| t.rows);
        if matches!(place, Place::Hdf5(_)) && rows.len() > hdf5::MOST_VECTORS {
            return Err(CommandError::usage(format!(
                "--out {}: {} cases, expected at most {} in one .h5 file; name a .safetensors file or a folder",
                self.out.display(),
                rows.len(),
                hdf5::MOST_VECTORS
            )));
        }
        let (mut named, mut failed) = (Vec::new(), false);
        for row in &rows {
            let found = self.case(row).and_then(|case| embedder.embed(&backbone, &case));
            match found {
                Ok(vector) => {
                    if let Place::Folder(folder) = &place {
                        let one = hdf5::vectors(vec![("y_hat", &vector)]).map_err(CommandError::failed)?;
                        put(&folder.join(format!("{}.h5", row.case)), &one)?;
                    }
                    named.push((row.case.clone(), vector));
                }
                Err(reason) => {
                    console.error(format!("case {}: {reason}", row.case));
                    failed = true;
                }
            }
        }
        if named.is_empty() {
            return Err(CommandError::failed(format!("{}: no case has a vector", table.display())));
        }
        match &place {
            Place::Folder(_) => {}
            Place::Hdf5(file) => {
                let all = named.iter().map(|(name, vector)| (name.as_str(), vector.as_slice())).collect();
                put(file, &hdf5::vectors(all).map_err(CommandError::failed)?)?;
            }
            Place::Safetensors(file) => {
                let bytes = safetensors_of(&named, facts(&embedder, &backbone, precision));
                put(file, &bytes.map_err(CommandError::failed)?)?;
            }
        }
        let width = named[0].1.len();
        console.result(format!("{} cases, {width} numbers each: {}", named.len(), self.out.display()));
        Ok(if failed { Outcome::Failed } else { Outcome::Done })
    }

    /// The plugin's task, with its weights or without; the backbone alone where there is no plugin.
    fn embedder(
        &self,
        library: Option<Inspected>,
        backbone: &Backbone,
        console: &Console,
    ) -> Result<Embedder, CommandError> {
        let Some(library) = library else {
            let parsed = Manifest::parse(FROZEN).map_err(CommandError::failed)?;
            return Ok(Embedder::Frozen(parsed.manifest));
        };
        let (manifest, path) = (library.manifest().clone(), library.path.clone());
        match LoadedTask::open_inspected(library, self.weights.as_deref(), backbone, false) {
            Ok(loaded) => {
                loaded.notices.iter().for_each(|notice| console.warning(notice));
                Ok(Embedder::Task(Box::new(loaded.task), manifest))
            }
            Err(PluginError::NoWeights { name, .. }) => {
                console.warning(format!("plugin {name}: no weights; its head is as it is drawn"));
                let library = load(&path).map_err(CommandError::refused)?;
                let source = ParameterSource::Training { seed: 0, start: BTreeMap::new() };
                let seen = as_plugins_see(backbone.info());
                let options = TaskOptions::default();
                let task = Task::build(&library, &seen, source, DType::F32, backbone.device(), &options);
                Ok(Embedder::Task(Box::new(task.map_err(CommandError::refused)?), manifest))
            }
            Err(e) => Err(CommandError::refused(e)),
        }
    }

    /// A row as a case, with its mask from the folder of masks where there is one.
    fn case(&self, row: &Row) -> Result<Case, String> {
        let mut case = Case {
            name: row.case.clone(),
            region: row.region(),
            views: row.images.clone().into_iter().collect(),
            ..Case::default()
        };
        if self.plugin.is_none() {
            // The table's own masks are for plugins that ask for them, and may well be empty.
            case.region.mask = None;
        }
        if let Some(folder) = &self.masks_dir {
            let image = row.images.values().next().and_then(|path| path.file_name());
            let mask = folder.join(image.ok_or("no image")?);
            if !mask.exists() {
                return Err(format!("{}: no such mask; expected one called as the image is", mask.display()));
            }
            case.region.mask = Some(mask);
        }
        Ok(case)
    }
}

/// The file's metadata.
fn facts(embedder: &Embedder, backbone: &Backbone, precision: Precision) -> HashMap<String, String> {
    let info = backbone.info();
    let by = match embedder {
        Embedder::Task(_, manifest) => format!("{} {}", manifest.plugin.name, manifest.plugin.version),
        Embedder::Frozen(_) => "mean class token".to_owned(),
    };
    let facts = [
        ("schema", "anymc3d/case_embeddings/1".to_owned()),
        ("backbone", info.name.clone()),
        ("sha256", info.sha256.clone()),
        ("precision", precision_name(precision).to_owned()),
        ("embedding", by),
        ("host", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// `embeddings` `[N, E]`; the metadata's `cases` is a JSON list of their names.
fn safetensors_of(
    named: &[(String, Vec<f32>)],
    mut facts: HashMap<String, String>,
) -> Result<Vec<u8>, String> {
    let width = named[0].1.len();
    if let Some((name, vector)) = named.iter().find(|(_, vector)| vector.len() != width) {
        return Err(format!("case {name}: {} numbers, the others have {width}", vector.len()));
    }
    let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
    facts.insert("cases".to_owned(), serde_json::to_string(&names).map_err(|e| e.to_string())?);
    let bytes: Vec<u8> = named.iter().flat_map(|(_, v)| v).flat_map(|v| v.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, vec![named.len(), width], &bytes).map_err(|e| e.to_string())?;
    safetensors::serialize([("embeddings", view)], Some(facts)).map_err(|e| e.to_string())
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), CommandError> {
    write_atomically(path, bytes)
        .map_err(|e| CommandError::failed(format!("{}: cannot be written ({e})", path.display())))
}
