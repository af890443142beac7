//! `host doctor`: reports what this machine can do, and what is wrong with a data table.

mod dicom;

use super::console::Console;
use super::labels::{LabelOption, with_hint};
use super::options::GeometryOption;
use super::outcome::{CommandError, Outcome};
use anymc3d_host::backbone::kernels::{Isa, Kernels};
use anymc3d_host::data::doctor::{Examination, examine_and_keep};
use anymc3d_host::data::sheet::Sheet;
use anymc3d_host::data::table::{LabelColumns, Problem, Table, TableError};
use anymc3d_host::device::{DeviceChoice, gpus};
use anymc3d_host::engine::{all_backbones, precision_name};
use anymc3d_host::memory::{Limit, Source, system_limits};
use anymc3d_host::plugin::{find, inspect};
use anymc3d_host::scan::DecodedScans;
use anymc3d_host::scan::npz::ArchiveSplit;
use anymc3d_host::task::open_library;
use anymc3d_manifest::Manifest;
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  host doctor                                        what this machine has
  host doctor --data train.csv                       what is wrong with a data table
  host doctor --data train.csv --plugin lung_nodule  the same, for the plugin's labels and views
  host doctor exam/                                  the series of a DICOM folder or zip, and which fit which plugin";

/// Tell what this machine can do, what is wrong with a data table, before training on it, and what is in DICOM
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Doctor {
    /// DICOM: a folder, zip, DICOMDIR or file; its series are listed, with why each fits the plugins or not
    #[arg(conflicts_with = "data")]
    input: Option<PathBuf>,
    /// Data table: every scan and mask in it is opened
    #[arg(long, value_name = "T.csv")]
    data: Option<PathBuf>,
    /// Plugin whose labels and views the table is for [default: read off the table's header]; with DICOM the plugins that
    /// its series are to fit [default: all that are found]
    #[arg(long, short, value_name = "P")]
    plugin: Vec<String>,
    #[command(flatten)]
    labels: LabelOption,
    /// Show descriptions, UIDs, PatientIDs and file names of DICOM too
    #[arg(long, requires = "input")]
    keep_identity: bool,
    #[command(flatten)]
    geometry: GeometryOption,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        self.geometry.apply();
        if let Some(input) = &self.input {
            return dicom::show(input, &self.plugin, self.keep_identity, self.json, console);
        }
        if self.plugin.len() > usize::from(self.data.is_some()) {
            let message = "--plugin belongs to --data (give one) or to a DICOM input";
            return Err(CommandError::usage(message));
        }
        if !self.labels.is_empty() && self.plugin.is_empty() {
            return Err(CommandError::usage("--label names labels of a plugin; give --plugin P with it"));
        }
        match &self.data {
            Some(data) => self.table(data, console),
            None => {
                machine(self.json, console);
                Ok(Outcome::Done)
            }
        }
    }

    fn table(&self, data: &Path, console: &Console) -> Result<Outcome, CommandError> {
        let manifest = match self.plugin.first() {
            Some(plugin) => open_library(plugin).map_err(CommandError::refused)?.embedded.manifest.clone(),
            None => guess(data).map_err(CommandError::failed)?,
        };
        let labels = self.labels.columns(&manifest)?;
        let ExaminedTable { examination, table } =
            examined(data, &manifest, &labels, &DecodedScans::default(), console);
        let (findings, cases) = (examination.findings, table.rows.len());
        let sound = findings.errors.is_empty();
        if self.json {
            let list = |problems: &[Problem]| -> Vec<serde_json::Value> {
                problems.iter().map(|p| json!({"line": p.line, "what": p.what})).collect()
            };
            console.result(json!({
                "schema": "anymc3d/doctor/1", "table": data, "cases": cases,
                "errors": list(&findings.errors), "warnings": list(&findings.warnings),
            }));
        } else {
            for (kind, problems) in [("error", &findings.errors), ("warning", &findings.warnings)] {
                for p in problems {
                    let line = p.line.map_or(String::new(), |line| format!("line {line}: "));
                    console.result(format!("{kind}: {line}{}", with_hint(&p.what, data, &manifest)));
                }
            }
            console.result(format!(
                "{}: {cases} cases, {} errors, {} warnings",
                data.display(),
                findings.errors.len(),
                findings.warnings.len()
            ));
        }
        Ok(if sound { Outcome::Done } else { Outcome::Failed })
    }
}

/// A table after all of its scans and masks were opened.
pub(super) struct ExaminedTable {
    /// What could be read of it.
    pub table: Table,
    /// Everything that is wrong with it, in the table and in its files.
    pub examination: Examination,
}

/// Reads a table and opens everything that it names. What is in order is offered to `decoded`.
pub(super) fn examined(
    data: &Path,
    manifest: &Manifest,
    labels: &LabelColumns,
    decoded: &DecodedScans,
    console: &Console,
) -> ExaminedTable {
    let (table, problems) = labels.read_all(data, manifest);
    let bar = console.progress(table.rows.len(), "scans opened");
    let mut examination = examine_and_keep(&table, manifest, decoded, &|| bar.inc(1));
    bar.finish_and_clear();
    let errors = &mut examination.findings.errors;
    errors.extend(problems);
    errors.sort_by_key(|p| p.line);
    ExaminedTable { table, examination }
}

/// Guesses a task from a table's header: a column of zeros and ones is a label, `image.NAME` is a view.
pub(super) fn guess(data: &Path) -> Result<Manifest, String> {
    let fail = |e: &dyn std::fmt::Display| format!("{}: {e}", data.display());
    if ArchiveSplit::parse(data).is_some() {
        return Err(fail(&"a split of an archive does not name its labels; give --plugin P"));
    }
    let mut problems = Vec::new();
    let Some(sheet) = Sheet::open(data, &mut problems) else {
        return Err(TableError { path: data.to_owned(), problems }.to_string());
    };
    let column = |c: usize| sheet.rows.iter().map(move |r| &r.cells[c]).filter(|v| !v.is_empty());
    let (mut labels, mut views, mut classes) = (Vec::new(), Vec::new(), Vec::new());
    for (c, name) in sheet.header.iter().enumerate() {
        match name {
            "case" | "image" | "patient" | "group" | "mask" | "point" | "split" => {}
            _ if name.starts_with("weight.") => {}
            "class" => {
                classes = column(c).map(str::to_owned).collect();
                classes.sort();
                classes.dedup();
            }
            _ => match name.strip_prefix("image.") {
                Some(view) => views.push(view.to_owned()),
                None => {
                    let (all, good) = column(c).fold((0, 0), |(all, good), v| {
                        (all + 1, good + usize::from(sheet.number(v).is_some_and(|v| v == 0.0 || v == 1.0)))
                    });
                    if 2 * good > all {
                        labels.push(name.to_owned());
                    }
                }
            },
        }
    }
    let (kind, labels) = match (labels.len(), classes.len()) {
        (_, 2..) => ("multiclass", classes),
        (0, _) => {
            let found = sheet.found();
            return Err(fail(&format!(
                "no column of labels (0, 1 or nothing) and none called `class`; found {found}"
            )));
        }
        (1, _) => ("binary", labels),
        _ => ("multilabel", labels),
    };
    if views.is_empty() {
        views.push("image".to_owned());
    }
    let text = |s: &str| serde_json::to_string(s).unwrap_or_default();
    let list = labels.iter().map(|l| text(l)).collect::<Vec<_>>().join(", ");
    let loss = if kind == "multiclass" { "cross_entropy" } else { "bce" };
    let mut manifest = format!(
        "schema = 1\n[plugin]\nname = \"table\"\nversion = \"0.0.0\"\nsummary = \"A table.\"\nlicense = \"-\"\nintended_use = \"-\"\n\
         [task]\nkind = \"{kind}\"\nlabels = [{list}]\nloss = {{ kind = \"{loss}\" }}\n[backbone]\nfamilies = [\"dinov2\"]\n"
    );
    for view in views {
        manifest += &format!(
            "[[view]]\nname = {}\nmodality = \"any\"\naxis = \"axial\"\nslices = 8\nsize = [224, 224]\nrequired = false\n\
             intensity = {{ kind = \"percentile\", low = 0.5, high = 99.5 }}\n",
            text(&view)
        );
    }
    Manifest::parse(&manifest).map(|p| p.manifest).map_err(|e| fail(&e))
}

/// A plugin's library that is found by name.
struct FoundPlugin {
    /// Name and version.
    label: String,
    path: PathBuf,
}

/// The plugins that are found by name. Other libraries, which may lie beside the executable too, are none.
struct Plugins {
    ready: Vec<FoundPlugin>,
    /// Not trained: as tests' plugins are, and an author's new one.
    without_weights: Vec<FoundPlugin>,
}

impl Plugins {
    fn find() -> Self {
        let mut all = Self { ready: Vec::new(), without_weights: Vec::new() };
        for path in find::all_libraries() {
            let Ok(library) = inspect(&path) else { continue };
            let plugin = &library.manifest().plugin;
            let trained = find::weights_places(&path, &plugin.name).iter().any(|place| place.is_file());
            let found = FoundPlugin { label: format!("{} {}", plugin.name, plugin.version), path };
            if trained { &mut all.ready } else { &mut all.without_weights }.push(found);
        }
        all
    }
}

/// The system's memory limits for a process, the lowest first.
fn limit_lines(limits: &[(Limit, Option<PathBuf>)]) -> Vec<String> {
    let line = |(n, (limit, file)): (usize, &(Limit, Option<PathBuf>))| {
        let of = file.as_ref().map_or(String::new(), |file| format!(", {}", file.display()));
        let binds = if n == 0 { "; binds where --max-memory is not given" } else { "" };
        format!("{} MiB: {}{of}{binds}", limit.bytes >> 20, limit.source)
    };
    limits.iter().enumerate().map(line).collect()
}

fn limits_json(limits: &[(Limit, Option<PathBuf>)]) -> serde_json::Value {
    let one = |(n, (limit, file)): (usize, &(Limit, Option<PathBuf>))| {
        let source = match limit.source {
            Source::Machine => "machine",
            Source::Cgroup => "cgroup",
            Source::AddressSpace => "address_space",
            Source::Given | Source::Unknown => "other",
        };
        json!({"source": source, "bytes": limit.bytes, "file": file, "binds": n == 0})
    };
    limits.iter().enumerate().map(one).collect()
}

fn machine(as_json: bool, console: &Console) {
    let kernels = match Kernels::detect() {
        Ok(Kernels::Plain) => "plain".to_owned(),
        Ok(Kernels::Fast(isa)) => isa.name().to_owned(),
        Err(e) => e.to_string(),
    };
    let available: Vec<&str> = Isa::available().into_iter().map(Isa::name).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = anymc3d_host::memory::machine_memory();
    let limits = system_limits();
    let precision = precision_name(anymc3d_host::engine::PrecisionChoice::Auto.resolve(DeviceChoice::Auto));
    let gpus = gpus();
    let home = find::home();
    let backbones = all_backbones();
    let Plugins { ready, without_weights } = Plugins::find();
    if as_json {
        let named = gpus.iter().flatten().map(|gpu| format!("cuda:{} ({})", gpu.number, gpu.name));
        let devices: Vec<String> = std::iter::once("cpu".to_owned()).chain(named).collect();
        let no_gpu = gpus.as_ref().err();
        console.result(json!({
            "schema": "anymc3d/machine/1", "host": env!("CARGO_PKG_VERSION"),
            "os": std::env::consts::OS, "arch": std::env::consts::ARCH, "threads": threads,
            "memory_bytes": memory, "memory_limits": limits_json(&limits), "kernels": kernels, "kernels_available": available,
            "precision": precision, "devices": devices, "no_gpu": no_gpu, "home": home, "backbones": backbones,
            "plugins": ready.iter().map(|p| &p.path).collect::<Vec<_>>(),
            "plugins_without_weights": without_weights.iter().map(|p| &p.path).collect::<Vec<_>>(),
        }));
        return;
    }
    let paths = |paths: &[PathBuf]| match paths.len() {
        0 => "none".to_owned(),
        _ => paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "),
    };
    let memory =
        memory.map_or("unknown".to_owned(), |b| format!("{:.1} GiB", b as f64 / (1u64 << 30) as f64));
    console.result(format!("host        {}", env!("CARGO_PKG_VERSION")));
    console.result(format!("system      {} on {}", std::env::consts::OS, std::env::consts::ARCH));
    console.result(format!("processor   {threads} threads; kernels {kernels} (of {})", available.join(", ")));
    console.result(format!("precision   {precision} where auto is asked for"));
    console.result(format!("memory      {memory}"));
    for line in limit_lines(&limits) {
        console.result(format!("limit       {line}"));
    }
    console.result("device      cpu");
    for gpu in gpus.iter().flatten() {
        let (major, minor) = gpu.compute_capability;
        console.result(format!(
            "device      cuda:{}: {}, {:.1} GiB, compute capability {major}.{minor}; its driver takes CUDA {}.{}",
            gpu.number,
            gpu.name,
            gpu.memory as f64 / (1u64 << 30) as f64,
            gpu.driver / 1000,
            gpu.driver % 1000 / 10,
        ));
    }
    if let Err(reason) = &gpus {
        console.result(format!("no GPU      {reason}"));
    }
    console.result(format!("home        {}", home.map_or("unknown".to_owned(), |h| h.display().to_string())));
    console.result(format!("backbones   {}", paths(&backbones)));
    let named = |plugins: &[FoundPlugin]| match plugins.len() {
        0 => "none".to_owned(),
        _ => plugins
            .iter()
            .map(|p| format!("{} ({})", p.label, p.path.display()))
            .collect::<Vec<_>>()
            .join(", "),
    };
    console.result(format!("plugins     {}", named(&ready)));
    if !without_weights.is_empty() {
        let names: Vec<&str> = without_weights.iter().map(|p| p.label.as_str()).collect();
        console.result(format!("no weights  {}: these cannot predict yet", names.join(", ")));
    }
}
